"""KerasHub's families: one flat graph each, equal to KerasHub's own model, cut, frozen and made again."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import tf_models

from zoo.cards import ImagePreprocess
from zoo.engine import Batch
from zoo.errors import InputError, UnknownModelError, UnsafeWeightsError, WeightsCorruptError
from zoo_tf import hub_models
from zoo_tf.adapter import ADAPTER, catalogue
from zoo_tf.engine import KerasEngine
from zoo_tf.hub_families import families
from zoo_tf.hub_models import OURS
from zoo_tf.start import keras

pytestmark = pytest.mark.tf
BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


def _tiny() -> ModuleType:
    """The sweep's tiny configurations, without its folder on sys.path."""
    spec = importlib.util.spec_from_file_location("parity_kerashub", BENCHMARKS / "parity_kerashub.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


TINY = _tiny()


def batch_for(engine: KerasEngine, *, length: int = 7) -> Batch:
    rng = np.random.default_rng(0)
    if isinstance(engine.preprocess, ImagePreprocess):
        side = engine.preprocess.height
        return {"images": rng.normal(size=(2, 3, side, side)).astype(np.float32)}
    batch = {name: np.ones((2, length), np.int64) for name in engine.inputs}
    return {
        **batch,
        "input_ids": rng.integers(3, 60, (2, length)),
        "token_type_ids": np.zeros((2, length), int),
    }


def native_logits(task: Any, batch: Batch) -> np.ndarray:
    if "images" in batch:
        return np.array(task(batch["images"].transpose(0, 2, 3, 1), training=False))
    names = [name for name in OURS if name in task.input]
    values = {"attention_mask": np.ones_like(batch["input_ids"]), **batch}
    return np.array(task({name: values[OURS[name]] for name in names}, training=False))


def near(found: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())


@pytest.mark.parametrize("family", sorted(TINY.TINY))
def test_a_preset_folder_computes_what_kerashub_does(family: str, tmp_path: Path) -> None:
    """Logits, parameters, each parameter in one block, and the same features at the last depth."""
    engine = tf_models.load(TINY.write(family, tmp_path / "preset"))
    task = families()[family].classifier.from_preset(str(tmp_path / "preset"), preprocessor=None)
    batch = batch_for(engine)
    assert near(engine.logits(batch), native_logits(task, batch)) < 1e-5
    counted = [v for v in task.variables if v.name != "seed_generator_state"]
    assert sum(value.size for value in engine.state().values()) == sum(int(np.prod(v.shape)) for v in counted)
    assert engine.depths and set(engine.block_of().values()) <= {*engine.blocks, "head"}
    assert json.dumps(engine.architecture())
    again = ADAPTER.rebuild(json.loads(json.dumps(engine.architecture())), engine.preprocess)
    again.load_state(engine.state())
    np.testing.assert_array_equal(again.logits(batch), engine.logits(batch))


def test_the_table_knows_every_classifier_of_this_kerashub() -> None:
    assert set(families()) == set(TINY.TINY)


@pytest.mark.parametrize("family", ["Roberta", "ViT", "ResNet"])
def test_a_cut_network_holds_and_computes_only_its_part(family: str, tmp_path: Path) -> None:
    folder = TINY.write(family, tmp_path / "preset")
    whole, cut = tf_models.load(folder), tf_models.load(folder, depth=1)
    batch = batch_for(whole)
    taps = keras.Model(whole.network.backbone.inputs, whole.network.taps[1])
    wanted = np.array(taps(whole._native(batch), training=False))
    np.testing.assert_allclose(cut.features(batch), wanted, rtol=1e-5, atol=1e-6)
    lost = {k.split("/")[0] for k in whole.state() if k not in cut.state()}
    assert lost and cut.num_classes is None and cut.depths[-1] == 1 and len(cut.blocks) < len(whole.blocks)
    with pytest.raises(InputError, match=f"{family} here has depths"):
        tf_models.load(folder, depth=9)


def test_a_transformers_cut_goes_through_the_final_norm(tmp_path: Path) -> None:
    """Depth 1 of two layers is KerasHub's own network of one layer with these weights."""
    folder = TINY.write("ViT", tmp_path / "preset", head=False)
    cut = tf_models.load(folder, depth=1)
    shallow = families()["ViT"].backbone(**{**TINY.TINY["ViT"], "num_layers": 1})
    whole = families()["ViT"].backbone.from_preset(str(folder))
    values = {v.path.split("/", 1)[-1]: v for v in whole.variables}
    for variable in shallow.variables:
        variable.assign(values[variable.path.split("/", 1)[-1]])
    batch = batch_for(cut)
    wanted = np.array(shallow(batch["images"].transpose(0, 2, 3, 1)))[:, 0]
    np.testing.assert_allclose(cut.features(batch), wanted, rtol=1e-5, atol=1e-6)


def test_other_sizes(tmp_path: Path) -> None:
    """Convolutions take any; a vision transformer's positions belong to one size, and it says so."""
    net = tf_models.load(TINY.write("ResNet", tmp_path / "r"), size=48)
    assert isinstance(net.preprocess, ImagePreprocess) and net.preprocess.height == 48
    assert net.features(batch_for(net)).shape == (2, net.feature_dim)
    with pytest.raises(InputError, match="takes 32 x 32 pixels only, not size=48"):
        tf_models.load(TINY.write("ViT", tmp_path / "v"), size=48)
    with pytest.raises(InputError, match="reads text"):
        tf_models.load(TINY.write("Bert", tmp_path / "b"), size=48)


def test_folders_that_are_refused(tmp_path: Path) -> None:
    good = TINY.write("Bert", tmp_path / "good")

    def changed(name: str, file: str, old: str, new: str) -> Path:
        shutil.copytree(good, tmp_path / name)
        path = tmp_path / name / file
        path.write_text(path.read_text().replace(old, new))
        return path.parent

    lacking = changed("lacking", "config.json", "}", "}")
    (lacking / "model.weights.h5").unlink()
    short = changed("short", "config.json", "}", "}")
    (short / "model.weights.h5").write_bytes((good / "model.weights.h5").read_bytes()[:3000])
    wanted = {
        changed("gemma", "config.json", "keras_hub>BertBackbone", "keras_hub>GemmaBackbone"): (
            InputError,
            "no image or text classifier",
        ),
        changed("code", "task.json", '"BertTextClassifier"', '"Lambda"'): (UnsafeWeightsError, "Lambda"),
        changed("wide", "task.json", '"hidden_dim": 16', '"hidden_dim": 32'): (
            WeightsCorruptError,
            "cannot read",
        ),
        lacking: (InputError, "holds no model.weights.h5"),
        short: (WeightsCorruptError, "Get them again|cut off"),
    }
    for path, (error, says) in wanted.items():
        with pytest.raises(error, match=says):
            tf_models.load(path, weights="default")


def test_names() -> None:
    with pytest.raises(UnknownModelError, match="kerashub/resnet_50_imagenet"):
        tf_models.load("kerashub/resnet_5_imagenet")
    with pytest.raises(UnknownModelError, match="there are default"):
        tf_models.load("kerashub/resnet_50_imagenet", weights="a1")
    known = {name for name in catalogue() if name.startswith("kerashub/")}
    assert known == {f"kerashub/{name}" for f in families().values() for name in f.classifier.presets}


def test_a_preset_comes_from_the_mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    TINY.write("ResNet", tmp_path / "resnet_50_imagenet")
    monkeypatch.setenv("ZOO_MIRROR", str(tmp_path))
    engine = tf_models.load("kerashub/resnet_50_imagenet")
    assert engine.num_classes == 3 and engine.depths == (1, 2)


def test_fourier_by_products_is_keras_own() -> None:
    from zoo_tf.hub_graph import _real_fourier

    x = np.random.default_rng(0).normal(size=(2, 37, 16)).astype(np.float32)
    wanted = np.fft.fft2(x, axes=(1, 2)).real
    assert near(np.array(_real_fourier(x)), wanted) < 1e-5


def test_private_names_of_keras_that_the_flat_graph_uses() -> None:
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    assert model._functional._nodes_by_depth and model._functional._run_through_graph
    assert model.outputs[0]._keras_history.operation._inbound_nodes
    assert hub_models.KIND == "keras_hub"
