"""The object a user holds, over the toy that is found through a real entry point."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import zoo
from zoo import registry
from zoo.backbone import Backbone
from zoo.cards import ModelId
from zoo.engine import draw_head
from zoo.errors import DataError, HeadMissingError, InputError, ModelFileError, UnknownModelError
from zoo.testing.toy import ToyEngine, installed

RECIPE = zoo.Recipe(optimizer="sgd", lr=0.05, epochs=3, batch_size=16)


@pytest.fixture(autouse=True)
def _toys(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with installed(tmp_path_factory.mktemp("toy-package")):
        yield


def pair(n: int = 40, classes: tuple[str, ...] = ("ants", "bees")) -> tuple[list[np.ndarray], list[str]]:
    rng = np.random.default_rng(0)
    targets = rng.permutation(np.arange(n) % len(classes))
    pixels = [rng.integers(50 * t, 50 * t + 120, (8, 8, 3), dtype=np.uint8) for t in targets]
    return pixels, [classes[t] for t in targets]


# --- get
def test_get_takes_names_ids_and_aliases() -> None:
    assert str(zoo.get("tiny", "toy").id) == str(zoo.get("toy:tiny8").id) == "toy:tiny"
    model = zoo.get("toy:tiny@none,depth=1", seed=4)
    assert str(model.id) == "toy:tiny@none,depth=1" and model.blocks == ("stem", "block1")
    assert model.card is not None and model.card.family == "toy"
    assert str(zoo.get("toy:tiny", weights=None, depth=1).id) == "toy:tiny@none,depth=1"


def test_get_with_an_id_and_an_argument_that_differ_is_an_error() -> None:
    assert zoo.get("toy:tiny,depth=1", depth=1).blocks == ("stem", "block1")
    with pytest.raises(InputError, match="says depth=1, the argument depth=2: say it once"):
        zoo.get("toy:tiny,depth=1", depth=2)
    with pytest.raises(InputError, match="says weights=none, the argument weights=x"):
        zoo.get("toy:tiny@none", weights="x")
    with pytest.raises(UnknownModelError, match="Did you mean tiny"):
        zoo.get("toy:tinny")


def test_get_with_classes_puts_the_head_that_every_framework_draws() -> None:
    weight, bias = zoo.get("toy:tiny", num_classes=4, seed=7).engine.head() or (None, None)
    wanted = draw_head(16, 4, 7)
    assert np.array_equal(weight, wanted[0]) and np.array_equal(bias, wanted[1])


# --- freeze
def test_freeze_and_unfreeze_count_blocks_from_their_ends() -> None:
    model = zoo.get("toy:tiny")
    assert model.engine.trainable == model.blocks == ("stem", "block1", "block2")
    model.freeze(2)
    assert model.engine.trainable == ("block2",)
    model.freeze()
    assert model.engine.trainable == ()
    model.unfreeze(1)
    assert model.engine.trainable == ("block2",)
    model.unfreeze(0)
    assert model.engine.trainable == ("block2",)
    model.unfreeze()
    assert model.engine.trainable == model.blocks
    for number in (-1, 4):
        with pytest.raises(InputError, match=r"has 3 \(stem, block1, block2\)"):
            model.freeze(number)


def test_unfreezing_gives_back_exactly_what_was() -> None:
    plain, model = zoo.get("toy:tiny"), zoo.get("toy:tiny")
    model.freeze()
    model.unfreeze()
    for one in (plain, model):
        one.fit(pair(), recipe=RECIPE, progress=False)
    assert all(np.array_equal(plain.state()[k], v) for k, v in model.state().items())


def test_a_partial_freeze_keeps_the_first_blocks_and_moves_the_others() -> None:
    model = zoo.get("toy:tiny")
    before = model.state()
    model.freeze(2)
    model.fit(pair(), recipe=RECIPE, progress=False)
    moved = {k.partition(".")[0] for k, v in model.state().items() if not np.array_equal(v, before.get(k))}
    assert moved == {"block2", "head"}


# --- fit, predict, evaluate
def test_fit_replaces_a_head_of_another_size_and_takes_the_labels() -> None:
    model = zoo.get("toy:tiny")
    assert model.labels == ("red", "green", "blue")
    model.freeze()
    history = model.fit(pair(), pair(20), RECIPE, progress=False)
    assert model.labels == ("ants", "bees") and model.num_classes == 2
    assert len(history.epochs) == 3 and history.best_epoch is not None
    found = model.evaluate(pair())
    assert found["n"] == 40 and found["accuracy_low"] < found["accuracy"] < found["accuracy_high"]


def test_fit_keeps_a_head_that_fits_and_its_order_of_classes() -> None:
    """Labels that are not in alphabetical order belong to the head's rows."""
    model, data = zoo.get("toy:tiny"), pair(60, ("blue", "green", "red"))
    head = model.engine.head()
    model.freeze()
    model.fit(data, recipe=zoo.Recipe(optimizer="sgd", lr=1e-12, epochs=1, seed=5), progress=False)
    assert model.labels == ("red", "green", "blue")
    assert head is not None and np.allclose(model.engine.head()[0], head[0])  # type: ignore[index]


def test_validation_with_an_unknown_label_is_refused() -> None:
    inputs, labels = pair()
    with pytest.raises(DataError, match="wasps"):
        zoo.get("toy:tiny").fit((inputs, labels), (inputs, ["wasps", *labels[1:]]), RECIPE)


def test_predict_is_in_order_and_sums_to_one() -> None:
    model, (inputs, _) = zoo.get("toy:tiny"), pair()
    whole = model.predict(inputs)
    assert whole.dtype == np.float32 and whole.shape == (40, 3)
    assert np.allclose(whole.sum(1), 1, atol=1e-6)
    assert np.allclose(whole, model.predict(inputs, batch_size=7), atol=1e-6)
    assert np.allclose(whole[5:6], model.predict(inputs[5]), atol=1e-6)
    assert model.features(inputs).shape == (40, 16)
    assert model.predict([]).shape == (0, 3)


def test_predict_without_a_head_names_replace_head() -> None:
    model = zoo.get("toy:words")
    with pytest.raises(HeadMissingError, match="replace_head"):
        model.predict(["hello"])
    model.replace_head(2, labels=["late", "money"])
    assert model.labels == ("late", "money")


def test_replace_head_says_what_cannot_be() -> None:
    model = zoo.get("toy:tiny")
    with pytest.raises(InputError, match="2 classes or more"):
        model.replace_head(1)
    with pytest.raises(InputError, match="1 labels for 2 classes"):
        model.replace_head(2, labels=["a"])


def test_evaluate_on_other_classes_is_refused() -> None:
    model = zoo.get("toy:tiny", num_classes=3)
    with pytest.raises(DataError, match=r"head has 3 classes and the data 2"):
        model.evaluate(pair())


# --- save, load, export
def test_a_run_folder_loads_predicts_the_same_and_resumes(tmp_path: Path) -> None:
    model, (inputs, _) = zoo.get("toy:tiny"), pair()
    model.freeze(1)
    history = model.fit(pair(), recipe=RECIPE, run_dir=tmp_path, progress=False)
    again = zoo.load(tmp_path)
    assert np.array_equal(again.predict(inputs), model.predict(inputs))
    assert (again.labels, again.engine.trainable, again.card) == (
        model.labels,
        model.engine.trainable,
        model.card,
    )
    resumed = zoo.get("toy:tiny").fit(pair(), recipe=RECIPE, run_dir=tmp_path, resume=True, progress=False)
    assert resumed.losses == history.losses


def test_load_of_what_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="no saved model"):
        zoo.load(tmp_path / "nothing")


@pytest.mark.parametrize("cached", [True, False])
def test_the_exported_file_says_what_the_model_says(cached: bool, tmp_path: Path) -> None:
    model, (inputs, _) = zoo.get("toy:tiny"), pair()
    model.freeze()
    model.fit(pair(), recipe=RECIPE, cached=cached, progress=False)
    onnx = model.export(tmp_path)
    assert onnx.path == tmp_path / "model.onnx" and onnx.id == "toy:tiny" and onnx.labels == ("ants", "bees")
    assert np.allclose(onnx.predict(inputs), model.predict(inputs), atol=1e-6)
    assert [p.name for p in tmp_path.iterdir()] == ["model.onnx"]


# --- wrap
def test_wrap_asks_only_adapters_of_the_objects_own_framework(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    adapter = registry.adapter("toy")
    monkeypatch.setattr(registry, "adapter", lambda name: asked.append(name) or adapter)
    with pytest.raises(InputError, match=r"no adapter wraps a builtins.dict"):
        zoo.wrap({}, preprocess=adapter.load(_request()).preprocess, head="head")
    assert asked == ["toy"], "the toy's package is imported, no framework is"
    monkeypatch.setattr(type(adapter), "owns", lambda self, module: isinstance(module, ToyEngine))
    monkeypatch.setattr(type(adapter), "wrap", lambda self, module, **options: module)
    own = ToyEngine()
    model = zoo.wrap(own, preprocess=own.preprocess, head="head")
    assert isinstance(model, Backbone) and model.engine is own
    assert model.id == ModelId("toy", "ToyEngine", "wrapped") and model.card is None


def _request() -> object:
    from zoo.engine import LoadRequest

    return LoadRequest("tiny")


# --- import zoo
def test_importing_zoo_loads_nothing_and_every_public_name_is_there() -> None:
    code = (
        "import sys, zoo; loaded = {m.partition('.')[0] for m in sys.modules};"
        "heavy = loaded & {'numpy', 'onnx', 'onnxruntime', 'PIL', 'rich', 'torch', 'tensorflow', 'keras'};"
        "assert not heavy, heavy; assert set(zoo.__all__) <= set(dir(zoo));"
        "[getattr(zoo, name) for name in zoo.__all__]; assert zoo.__version__;"
        "heavy = {m.partition('.')[0] for m in sys.modules} & {'torch', 'tensorflow', 'keras', 'transformers'};"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = zoo.nothing
