"""Saved runs and cached features: bit-identical in a fresh process, refused when damaged, never run as code."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from zoo.cards import Recipe
from zoo.data import Dataset
from zoo.engine import HEAD_WEIGHT
from zoo.errors import DataError, InputError, ModelFileError, WeightsCorruptError
from zoo.files import cache_dir
from zoo.graph import OnnxModel
from zoo.testing.toy import ToyEngine, installed
from zoo.train import FeatureCache, fit, load, read_meta, save, weights_hash


@pytest.fixture
def toys(tmp_path: Path) -> Iterator[None]:
    with installed(tmp_path / "toy-package"):
        yield


def images(n: int = 12) -> Dataset:
    rng = np.random.default_rng(0)
    pixels = [rng.integers(0, 256, (8, 8, 3), dtype=np.uint8) for _ in range(n)]
    return Dataset("image", pixels, np.arange(n) % 3, ("a", "b", "c"))


def texts() -> Dataset:
    words = ["late parcel", "broken lamp", "naïve café €5"] * 4
    return Dataset("text", words, np.arange(12) % 3, ("a", "b", "c"))


def saved(folder: Path, kind: str = "image") -> ToyEngine:
    engine = ToyEngine("image" if kind == "image" else "text", num_classes=3, seed=3)
    engine.set_trainable(engine.blocks[1:])
    fit(engine, images() if kind == "image" else texts(), None, Recipe(epochs=1), progress=False)
    engine.labels = ("a", "b", "c")
    save(engine, folder, model_id="toy:tiny" if kind == "image" else "toy:words", extra={"note": 1})
    return engine


PRINT = """
import sys
from pathlib import Path
from zoo.train import load, weights_hash
engine, meta = load(Path(sys.argv[1]))
print(weights_hash(engine, backbone_only=False), engine.labels, engine.trainable, meta["extra"])
"""


@pytest.mark.usefixtures("toys")
@pytest.mark.parametrize("kind", ["image", "text"])
def test_a_saved_run_is_the_same_in_a_fresh_process(kind: str, tmp_path: Path) -> None:
    engine = saved(tmp_path / "run", kind)
    done = subprocess.run(
        [sys.executable, "-c", PRINT, str(tmp_path / "run")], capture_output=True, text=True, check=True
    )
    assert done.stdout.split(maxsplit=1) == [
        weights_hash(engine, backbone_only=False),
        "('a', 'b', 'c') ('block1', 'block2') {'note': 1}\n",
    ]
    again, _ = load(tmp_path / "run")
    assert again.preprocess == engine.preprocess


@pytest.mark.usefixtures("toys")
@pytest.mark.parametrize("name", ["zoo.json", "state.safetensors", "tokenizer.json"])
def test_a_changed_file_is_named_and_not_loaded(name: str, tmp_path: Path) -> None:
    saved(tmp_path, "text")
    path = tmp_path / name
    data = path.read_bytes()
    index = data.index(b'"b"') + 1 if name == "zoo.json" else len(data) - 10  # a label, a weight, a token
    path.write_bytes(data[:index] + bytes([data[index] ^ 1]) + data[index + 1 :])
    with pytest.raises(WeightsCorruptError, match=name):
        load(tmp_path)
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(WeightsCorruptError, match=name):
        load(tmp_path)
    path.unlink()
    with pytest.raises(ModelFileError, match=name):
        load(tmp_path)


@pytest.mark.usefixtures("toys")
def test_a_pickle_in_place_of_the_weights_does_not_run(tmp_path: Path) -> None:
    import hashlib
    import pickle

    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (Path(tmp_path / "it-ran"),))  # type: ignore[return-value]

    saved(tmp_path)
    (tmp_path / "state.safetensors").write_bytes(pickle.dumps(Evil()))
    meta = json.loads((tmp_path / "zoo.json").read_text())
    digest = hashlib.sha256((tmp_path / "state.safetensors").read_bytes()).hexdigest()
    meta["files"]["state.safetensors"] = digest  # an attacker would mend the hashes
    body = json.dumps({k: v for k, v in meta.items() if k != "sha256"}, sort_keys=True)
    meta["sha256"] = hashlib.sha256(body.encode()).hexdigest()
    (tmp_path / "zoo.json").write_text(json.dumps(meta))
    with pytest.raises(WeightsCorruptError, match="no safetensors file"):
        load(tmp_path)
    assert not (tmp_path / "it-ran").exists()


@pytest.mark.usefixtures("toys")
def test_saving_again_replaces_the_model_and_nothing_else(tmp_path: Path) -> None:
    saved(tmp_path, "text")
    (tmp_path / "history.jsonl").write_text("kept")
    engine = saved(tmp_path, "image")
    assert weights_hash(load(tmp_path)[0], backbone_only=False) == weights_hash(engine, backbone_only=False)
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_file()) == [
        "history.jsonl",
        "state.safetensors",
        "zoo.json",
    ]


@pytest.mark.usefixtures("toys")
def test_a_head_that_the_architecture_does_not_tell_of_is_put_back(tmp_path: Path) -> None:
    class Forgetful(ToyEngine):
        def architecture(self) -> dict[str, object]:
            return {**super().architecture(), "num_classes": None}

    engine = Forgetful("image", num_classes=5)
    save(engine, tmp_path, model_id="toy:tiny")
    assert np.array_equal(load(tmp_path)[0].state()[HEAD_WEIGHT], engine.state()[HEAD_WEIGHT])


def test_a_folder_that_holds_no_run_is_an_error_that_says_so(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"is no saved model: it holds no zoo.json"):
        read_meta(tmp_path)


@pytest.mark.usefixtures("toys")
def test_somebodys_own_module_cannot_be_saved(tmp_path: Path) -> None:
    class Own(ToyEngine):
        def architecture(self) -> None:  # type: ignore[override]
            return None

    with pytest.raises(InputError, match="export it to ONNX"):
        save(Own(), tmp_path / "run", model_id="toy:Own@wrapped")
    assert not (tmp_path / "run").exists()


# --- cached features
def chunks(rows: int) -> list[np.ndarray]:
    return [np.full((2, 3), i, np.float32) for i in range(rows // 2)]


def test_features_come_back_as_a_memory_map(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path)
    assert cache.get("key") is None
    written = cache.put("key", 4, 3, chunks(4))
    assert isinstance(written, np.memmap) and written.shape == (4, 3)
    again = FeatureCache(tmp_path).get("key")
    assert again is not None and np.array_equal(again, np.concatenate(chunks(4)))


def test_a_truncated_cache_entry_counts_as_absent(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path)
    cache.put("key", 4, 3, chunks(4))
    path = tmp_path / "key.npy"
    for size in (path.stat().st_size - 5, 20, 0):
        path.write_bytes(path.read_bytes()[:size])
        assert cache.get("key") is None


def test_features_that_fail_midway_leave_nothing(tmp_path: Path) -> None:
    def failing() -> Iterator[np.ndarray]:
        yield np.zeros((2, 3), np.float32)
        raise RuntimeError("a photograph vanished")

    with pytest.raises(RuntimeError):
        FeatureCache(tmp_path).put("key", 4, 3, failing())
    with pytest.raises(DataError, match="2 feature rows for 4 examples"):
        FeatureCache(tmp_path).put("key", 4, 3, chunks(2))
    assert not list(tmp_path.iterdir())


def frozen(seed: int = 1) -> ToyEngine:
    engine = ToyEngine("image", num_classes=3, seed=seed)
    engine.set_trainable(())
    return engine


def train(engine: ToyEngine, cache: FeatureCache) -> None:
    fit(engine, images(), None, Recipe(epochs=1), cache=cache, model_id="toy:tiny", progress=False)


def test_features_are_computed_once_for_a_backbone_and_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path))
    passes, compute = [], OnnxModel.feature_chunks
    monkeypatch.setattr(OnnxModel, "feature_chunks", lambda *a, **k: passes.append(1) or compute(*a, **k))
    for engine in (frozen(), frozen()):
        train(engine, FeatureCache())
    assert len(passes) == 1
    train(frozen(seed=2), FeatureCache())
    assert len(passes) == 2, "other weights have other features"
    other = frozen()
    other.preprocess = other.preprocess.__class__(8, 8, "exact", (8, 8))  # type: ignore[arg-type, call-arg]
    train(other, FeatureCache())
    assert len(passes) == 3, "so has another preprocess"


def test_a_changed_graph_in_the_cache_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A graph of other weights under this backbone's name would poison every feature without a word."""
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path))
    right, wrong, again = frozen(), frozen(seed=2), frozen()
    train(right, FeatureCache(tmp_path / "a"))
    (path,) = cache_dir().glob("graphs/*.onnx")
    good = path.read_bytes()
    path.unlink()
    train(wrong, FeatureCache(tmp_path / "b"))
    (other,) = cache_dir().glob("graphs/*.onnx")
    for damaged in (other.read_bytes(), good[: len(good) // 2]):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(damaged)
        train(again := frozen(), FeatureCache(tmp_path / f"c{len(damaged)}"))
        assert np.array_equal(again.state()[HEAD_WEIGHT], right.state()[HEAD_WEIGHT])
