"""torchvision's classifiers: the numbers of the native module, and every way a weights file can be wrong."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
import torchvision
from PIL import Image

from zoo import data, registry
from zoo.cards import ImagePreprocess
from zoo.cost import graph_facts
from zoo.engine import LoadRequest
from zoo.errors import (
    HeadMissingError,
    InputError,
    UnknownModelError,
    UnsafeWeightsError,
    WeightsCorruptError,
    WeightsUnavailableError,
)
from zoo.graph import export_engine
from zoo_torch import texts, vision
from zoo_torch.adapter import ADAPTER
from zoo_torch.engine import TorchEngine
from zoo_torch.layout import arrange, image_tensor

SMALL = "squeezenet1_1"


def load(name: str, weights: object = "none", **options: Any) -> TorchEngine:
    return ADAPTER.load(LoadRequest(name, weights=str(weights), **options))


def images(n: int = 2, size: int = 64) -> dict[str, Any]:
    return {"images": np.random.default_rng(n).standard_normal((n, 3, size, size), dtype=np.float32)}


@pytest.fixture(scope="module")
def squeezenet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state dict of SqueezeNet's, random."""
    path = tmp_path_factory.mktemp("weights") / "squeezenet.pth"
    torch.save(vision.build(SMALL, 1000, seed=3)[0].state_dict(), path)
    return path


# --- the native module
@pytest.mark.parametrize("name", ["resnet18", "resnet50", SMALL, "squeezenet1_0"])
def test_logits_are_the_native_modules(name: str) -> None:
    engine = load(name, seed=2)
    native = torchvision.models.get_model(name, weights=None)
    native.load_state_dict(engine.module.state_dict())
    batch = images()
    with torch.no_grad():  # in the engine's layout in memory, which decides the last bits
        want = arrange(native, engine.layout).eval()(image_tensor(batch["images"], engine.layout)).numpy()
    assert engine.num_classes == 1000 and np.array_equal(engine.logits(batch), want)
    assert (engine.head() is None) == name.startswith("squeezenet")
    assert engine.labels is None, "random weights know no classes"


def test_blocks_are_the_papers_units() -> None:
    assert load("resnet18").blocks == ("stem", *(f"layer{s}.{i}" for s in range(1, 5) for i in range(2)))
    engine = load("resnet50")
    assert len(engine.blocks) == 17 and engine.feature_dim == 2048
    assert load(SMALL).blocks == ("stem", *(f"fire{i}" for i in range(2, 10)))


def test_a_replaced_head_sits_in_the_native_module() -> None:
    for name in ("resnet18", SMALL):
        engine = load(name, num_classes=3)
        batch = images()
        with torch.no_grad():
            native = engine.module.eval()(torch.from_numpy(batch["images"])).numpy()
        assert np.allclose(native, engine.logits(batch), atol=1e-6) and native.shape == (2, 3)


def test_the_seed_is_all_the_randomness() -> None:
    states = [load(SMALL, seed=seed).state() for seed in (1, 1, 2)]
    key = "features.0.weight"
    assert np.array_equal(states[0][key], states[1][key]) and not np.array_equal(
        states[0][key], states[2][key]
    )


# --- a native head that is not linear on the features
def test_squeezenets_own_head_survives_untouched(squeezenet: Path, tmp_path: Path) -> None:
    """Trains, rebuilds and exports; replace_head drops it."""
    engine = load(SMALL, squeezenet, size=64)
    assert engine.head() is None and engine.num_classes == 1000 and engine.labels is not None
    assert engine.block_of()["classifier.1.weight"] == "head"
    again = ADAPTER.rebuild(engine.architecture() or {}, engine.preprocess)
    again.load_state(engine.state())
    batch = images()
    assert np.array_equal(again.logits(batch), engine.logits(batch))
    assert engine.export_onnx(tmp_path / "model.onnx", opset=18) == "torchscript"
    with torch.no_grad():
        maps = engine.module.features(torch.from_numpy(batch["images"])).numpy()
    features = engine.features(batch)
    assert np.allclose(features, maps.mean(axis=(2, 3)), atol=1e-6)
    engine.reset_head(2, seed=0)
    assert np.allclose(features, engine.features(batch), atol=1e-6)
    assert (engine.architecture() or {})["head"] == "linear"
    assert engine.labels is None and engine.logits(batch).shape == (2, 2)
    assert not [key for key in engine.state() if key.startswith("classifier")]


def test_squeezenets_trunk_is_exported_once(squeezenet: Path, tmp_path: Path) -> None:
    """Its head reads the maps and not the features: traced, the trunk is there for each of them."""
    path = tmp_path / "model.onnx"
    export_engine(load(SMALL, squeezenet, size=64), path, model_id=f"torch:{SMALL}", versions={})
    assert graph_facts(path).operators["Conv"] == 26


# --- weights by path
@pytest.mark.parametrize("kind", ["pth", "fp16", "safetensors", "wrapped"])
def test_weights_by_path(squeezenet: Path, tmp_path: Path, kind: str) -> None:
    state = torch.load(squeezenet, weights_only=True)
    path = tmp_path / f"mine.{'safetensors' if kind == 'safetensors' else 'pth'}"
    if kind == "safetensors":
        safetensors.torch.save_file(state, path)
    elif kind == "fp16":
        torch.save({k: v.half() for k, v in state.items()}, path)
    else:
        torch.save(
            {"state_dict": {f"module.{k}": v for k, v in state.items()}} if kind == "wrapped" else state, path
        )
    engine, key = load(SMALL, path), "features.0.weight"
    want = state[key].half().float() if kind == "fp16" else state[key]
    assert engine.state()[key].dtype == np.float32 and np.array_equal(engine.state()[key], want.numpy())
    assert engine.labels is not None and engine.labels[0] == "tench"


def test_a_checkpoint_with_another_head_or_none(tmp_path: Path) -> None:
    state = vision.build("resnet18", 2, seed=1)[0].state_dict()
    torch.save(state, tmp_path / "two.pth")
    two = load("resnet18", tmp_path / "two.pth")
    assert two.num_classes == 2 and two.labels is None
    assert load("resnet18", tmp_path / "two.pth", num_classes=5).num_classes == 5
    torch.save({k: v for k, v in state.items() if not k.startswith("fc.")}, tmp_path / "none.pth")
    headless = load("resnet18", tmp_path / "none.pth")
    assert headless.num_classes is None and headless.features(images()).shape == (2, 512)
    with pytest.raises(HeadMissingError, match="replace_head"):
        headless.logits(images())
    again = ADAPTER.rebuild(headless.architecture() or {}, headless.preprocess)
    again.load_state(headless.state())
    headless.reset_head(4, seed=0)
    assert headless.logits(images()).shape == (2, 4)


class Bomb:
    """A pickle that writes a file when it is loaded."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.write_text, (self.target, "it ran")


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_could_run_code_does_not_run(tmp_path: Path, zipped: bool) -> None:
    path, trace = tmp_path / "weights.pth", tmp_path / "trace"
    if zipped:
        torch.save({"features.0.weight": Bomb(trace)}, path)
    else:
        path.write_bytes(pickle.dumps({"features.0.weight": Bomb(trace)}))
    with pytest.raises(UnsafeWeightsError, match=r"could run code, so it was not loaded.*\.safetensors"):
        load(SMALL, path)
    assert not trace.exists()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("keep", [0, 100, 100_000])
def test_a_truncated_file_is_corrupt(squeezenet: Path, tmp_path: Path, suffix: str, keep: int) -> None:
    path = tmp_path / f"cut{suffix}"
    if suffix == ".safetensors":
        safetensors.torch.save_file(torch.load(squeezenet, weights_only=True), path)
    else:
        path.write_bytes(squeezenet.read_bytes())
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(WeightsCorruptError, match=r"cut\..*Get the file again"):
        load(SMALL, path)


def test_another_networks_weights_name_the_keys(squeezenet: Path) -> None:
    with pytest.raises(
        WeightsCorruptError, match=r"missing: conv1\.weight.*not of this network: features\.0"
    ):
        load("resnet18", squeezenet)
    with pytest.raises(WeightsCorruptError, match=r"of another shape: features\.0\.weight"):
        load("squeezenet1_0", squeezenet)


# --- official weights
def test_the_mirror_comes_first_and_is_checked(
    squeezenet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZOO_MIRROR", str(tmp_path))
    digest = hashlib.sha256(squeezenet.read_bytes()).hexdigest()[:8]
    own = tmp_path / f"own-{digest}.pth"
    own.write_bytes(squeezenet.read_bytes())
    assert vision.official(f"https://nowhere.invalid/own-{digest}.pth") == own
    (tmp_path / "squeezenet1_1-b8a52dc0.pth").write_bytes(squeezenet.read_bytes())
    with pytest.raises(WeightsCorruptError, match=r"not the official squeezenet1_1-b8a52dc0\.pth"):
        load(SMALL, "default")


def test_torchs_own_loader_downloads_and_checks(
    squeezenet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    digest = hashlib.sha256(squeezenet.read_bytes()).hexdigest()[:8]
    for name in (f"right-{digest}.pth", "wrong-00000000.pth"):
        (tmp_path / name).write_bytes(squeezenet.read_bytes())
    got = vision.official((tmp_path / f"right-{digest}.pth").as_uri())
    assert got.read_bytes() == squeezenet.read_bytes()
    with pytest.raises(WeightsCorruptError, match="Nothing was kept"):
        vision.official((tmp_path / "wrong-00000000.pth").as_uri())
    assert [p.name for p in got.parent.iterdir()] == [got.name], "nothing half-downloaded stays"


def test_unreachable_weights_name_file_url_and_mirror(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nothing listens there
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    said = r"resnet50-11ad3fa6\.pth \(https://download\.pytorch\.org/.*ZOO_MIRROR"
    with pytest.raises(WeightsUnavailableError, match=said):
        load("resnet50", "default")
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_bad_requests() -> None:
    with pytest.raises(UnknownModelError, match="there are IMAGENET1K_V1, IMAGENET1K_V2") as caught:
        load("resnet50", "IMAGENET1K_V3")
    assert "IMAGENET1K_V2" in caught.value.near
    with pytest.raises(InputError, match=r"no weights file .*nothing\.pth"):
        load("resnet50", "nothing.pth")
    with pytest.raises(InputError, match="depths 1 to 4, not 5"):
        load("resnet18", depth=5)
    with pytest.raises(InputError, match="too small"):
        load(SMALL, size=8)
    with pytest.raises(UnknownModelError, match="no model 'resnet5'"):
        load("resnet5")


# --- cards and preprocess
def test_preprocess_is_what_the_weights_state() -> None:
    entry = torchvision.models.ResNet50_Weights.IMAGENET1K_V2
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    want = ImagePreprocess(224, 224, resize_to=(232, 232), mean=mean, std=std)
    assert vision.preprocess_of(entry, None) == want
    assert vision.preprocess_of(entry, 112) == want.at_size(112)


def test_the_torch_berts_card_counts_its_parameters() -> None:
    card = next(c for c in registry.cards("torch") if c.name == "bert")
    with torch.device("meta"):
        config = texts.transformers.BertConfig(**texts.BERT_BASE.config)
        assert sum(p.numel() for p in texts.transformers.BertModel(config).parameters()) == card.params


# --- real weights
@pytest.mark.shared
def test_squeezenet_agrees_with_torchvision_on_photographs(shared: Path) -> None:
    """Our preprocess and engine, and torchvision's own transform and module: one top-1 on every image."""
    path = shared / "weights" / "torch" / "squeezenet1_1-converted-from-caffe-fp16.pth"
    photographs = sorted((shared / "data" / "imagenet_sample").glob("*.JPEG"))
    engine = load(SMALL, path)
    native = torchvision.models.squeezenet1_1(weights=None)
    native.load_state_dict({k: v.float() for k, v in torch.load(path, weights_only=True).items()})
    transform = torchvision.models.SqueezeNet1_1_Weights.DEFAULT.transforms()
    opened = torch.stack([transform(Image.open(p).convert("RGB")) for p in photographs])
    with torch.no_grad():
        want = native.eval()(opened).argmax(1).numpy()
    got = engine.logits(data.prepare(photographs, engine.preprocess)).argmax(1)
    assert len(photographs) == 100 and np.array_equal(got, want)
