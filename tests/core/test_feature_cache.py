"""Cached features: never stale, never damaged, copied where another data set has them, whole after a kill."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
import tracemalloc
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from zoo import cache
from zoo.cards import Recipe
from zoo.data import Dataset, open_data, split, train_tokenizer
from zoo.engine import HEAD_WEIGHT, Array
from zoo.errors import DataError
from zoo.graph import OnnxModel
from zoo.testing.toy import ToyEngine
from zoo.train import FeatureCache, feature_files, features, fit, fit_head


@pytest.fixture(autouse=True)
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of this test's own."""
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many inputs went through the graph, a number a pass."""
    counts: list[int] = []
    compute = OnnxModel.feature_chunks

    def counted(self: OnnxModel, inputs: list[object], **options: int) -> Iterator[Array]:
        counts.append(len(inputs))
        return compute(self, inputs, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(OnnxModel, "feature_chunks", counted)
    return counts


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two classes of six 8 x 8 pictures, bitmaps: their size does not depend on what they show."""
    rng = np.random.default_rng(0)
    for name in ("dark", "light"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(6):
            pixels = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{i}.bmp")
    return tmp_path / "photos"


def frozen(kind: str = "image", *, classes: int = 2, seed: int = 1) -> ToyEngine:
    engine = ToyEngine("image" if kind == "image" else "text", num_classes=classes, seed=seed)
    engine.set_trainable(())
    return engine


def train(data: Dataset, engine: ToyEngine | None = None, **options: object) -> Array:
    """The head after an epoch on cached features."""
    engine = engine or frozen(data.kind, classes=len(data.classes))
    settings: dict[str, object] = {
        "cache": FeatureCache(),
        "model_id": "toy:tiny",
        "progress": False,
        **options,
    }
    fit(engine, data, None, Recipe(epochs=1), **settings)  # type: ignore[arg-type]
    return engine.state()[HEAD_WEIGHT]


# --- never stale
def test_a_photograph_changed_under_equal_size_and_time_is_computed_anew(
    photos: Path, computed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zoo.data.digests.SETTLED_NS", 0)  # believe the record of contents at once
    data = open_data(photos)
    before = train(data)
    train(data)
    assert computed == [12]
    file = photos / "dark" / "3.bmp"
    status, content = file.stat(), file.read_bytes()
    time.sleep(0.05)  # a tick of the file system's clock
    file.write_bytes(content[:-100] + bytes(100))
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert (file.stat().st_size, file.stat().st_mtime_ns) == (status.st_size, status.st_mtime_ns)
    after = train(data)
    assert computed == [12, 1], "the changed one alone"
    assert not np.array_equal(before, after)
    assert np.array_equal(after, train(open_data(photos), cache=FeatureCache(photos.parent / "fresh")))


def test_other_weights_preprocess_or_versions_have_features_of_their_own(
    photos: Path, computed: list[int]
) -> None:
    data = open_data(photos)
    train(data)
    train(data, frozen(seed=2))
    assert computed == [12, 12], "weights"
    other = frozen()
    other.preprocess = dataclasses.replace(other.preprocess, mean=(0.1, 0.1, 0.1))
    train(data, other)
    assert computed == [12] * 3, "preprocess"
    train(data, versions={"toy": "2"})
    assert computed == [12] * 4, "the framework's version"
    train(data, versions={"toy": "2"})
    assert computed == [12] * 4


def test_another_runtime_has_features_of_its_own(
    photos: Path, computed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pillow decodes, ONNX Runtime computes: another version of either may do it otherwise."""
    train(open_data(photos))
    version = features.metadata.version
    monkeypatch.setattr(features.metadata, "version", lambda n: "0" if n == "pillow" else version(n))
    train(open_data(photos))
    assert computed == [12, 12]


def test_a_changed_text_is_computed_anew(computed: list[int]) -> None:
    words = ["late parcel", "broken lamp", "a refund", "thank you"]
    targets = np.arange(4) % 2
    engines = [frozen("text") for _ in range(3)]
    for engine in engines:
        engine.preprocess = dataclasses.replace(engine.preprocess, tokenizer=tokenizer(words))  # type: ignore[call-arg]
    for engine, texts in zip(engines, (words, words, [*words[:3], "thank me"]), strict=True):
        train(Dataset("text", texts, targets, ("a", "b")), engine)
    assert computed == [4, 1]


def tokenizer(words: list[str]) -> str:
    return train_tokenizer(words, vocab_size=60)


def test_augmented_training_does_not_use_the_cache(photos: Path, own: Path) -> None:
    """Its images are others in every epoch."""
    settings = {"cache": FeatureCache(), "model_id": "toy:tiny", "progress": False}
    fit(frozen(), open_data(photos), None, Recipe(epochs=1, augment="light"), **settings)  # type: ignore[arg-type]
    assert not list(own.glob("features/*")) and not list(own.glob("graphs/*"))


# --- what another data set has in common is copied
def test_another_labelling_split_or_order_computes_nothing(photos: Path, computed: list[int]) -> None:
    data = open_data(photos)
    train(data)
    relabelled = dataclasses.replace(data, targets=np.arange(12) % 3, classes=("a", "b", "c"))
    train(relabelled)
    assert len(list(cache.entries())) == 3, "features, graph, contents: labels make no new features"
    backwards = data.subset(range(12)[::-1])
    part, held = split(data, 0.5, seed=3)
    for other in (backwards, part, held):
        head = train(other)
        fresh = train(other, cache=FeatureCache(photos.parent / f"fresh{len(computed)}"))
        np.testing.assert_allclose(head, fresh, rtol=1e-5)
    assert computed == [12, 12, 6, 6], "only the fresh caches computed"


def test_more_photographs_cost_the_new_ones_alone(photos: Path, computed: list[int]) -> None:
    data = open_data(photos)
    train(data.subset(range(2, 12)))
    whole = train(data)
    assert computed == [10, 2]
    np.testing.assert_allclose(whole, train(data, cache=FeatureCache(photos.parent / "fresh")), rtol=1e-5)


def test_the_same_photograph_twice_is_two_rows(photos: Path, computed: list[int]) -> None:
    data = open_data(photos)
    train(data)
    twice = data.subset([0, 7, 0, 11])
    np.testing.assert_allclose(
        train(twice), train(twice, cache=FeatureCache(photos.parent / "fresh")), rtol=1e-5
    )
    assert computed == [12, 4]


# --- never damaged
def rows(n: int, columns: int = 3) -> Array:
    return np.arange(n * columns, dtype=np.float32).reshape(n, columns)


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def other_dtype(path: Path) -> None:
    np.save(path, rows(4).astype(np.float64))


def other_name(path: Path) -> None:
    """Good features of something else."""
    FeatureCache(path.parent).put("other", 4, 3, [rows(4) + 1])
    (path.parent / "other.npy").replace(path)


DAMAGE: dict[str, Callable[[Path], None]] = {
    "a value": lambda path: flip(path, 130),
    "a row's digest": lambda path: flip(path, 128 + 48 + 5),
    "the header": lambda path: flip(path, 30),
    "the seal": lambda path: flip(path, -40),
    "truncated": lambda path: os.truncate(path, path.stat().st_size - 5),
    "cut to the array": lambda path: os.truncate(path, 128 + 48),
    "empty": lambda path: os.truncate(path, 0),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"x") and None,
    "another dtype": other_dtype,
    "another's": other_name,
    "no array": lambda path: path.write_text("features") and None,
}


@pytest.mark.parametrize("damage", list(DAMAGE))
def test_damaged_features_are_noticed_and_computed_anew(damage: str, tmp_path: Path) -> None:
    kept = FeatureCache(tmp_path)
    kept.put("key", 4, 3, [rows(4)], digests=np.zeros((4, 16), np.uint8))
    path = tmp_path / "key.npy"
    assert np.array_equal(np.load(path), rows(4)), "NumPy reads it"
    DAMAGE[damage](path)
    feature_files._verified.clear()  # as in another process
    with pytest.warns(UserWarning, match=r"computed anew: .*key\.npy is damaged"):
        assert kept.get("key") is None
    kept.put("key", 4, 3, [rows(4)])
    assert np.array_equal(kept.get("key"), rows(4))  # type: ignore[arg-type]


def test_features_of_another_shape_are_not_taken(tmp_path: Path) -> None:
    kept = FeatureCache(tmp_path)
    kept.put("key", 4, 3, [rows(4)])
    with pytest.warns(UserWarning, match="4 x 3 values"):
        assert kept.get("key", (4, 5)) is None
    assert kept.get("key", (4, 3)) is not None


def test_training_goes_on_where_the_cache_was_damaged(photos: Path, own: Path, computed: list[int]) -> None:
    before = train(open_data(photos))
    (path,) = own.glob("features/*.npy")
    flip(path, 200)
    with pytest.warns(UserWarning, match="is damaged"):
        assert np.array_equal(train(open_data(photos)), before)
    assert computed == [12, 12]
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*damaged")
        train(open_data(photos))
    assert computed == [12, 12], "mended"


def test_chunks_of_another_width_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"\[4, 3\]"):
        FeatureCache(tmp_path).put("key", 4, 5, [rows(4)])
    assert not list(tmp_path.iterdir())


# --- several processes, kills, a full disk
WRITER = """
import sys, time
from pathlib import Path
import numpy as np
from zoo.train import FeatureCache
def chunks():
    for i in range(40):
        print("writing", flush=True)
        time.sleep(float(sys.argv[2]))
        yield np.full((10, 3), i, np.float32)
FeatureCache(Path(sys.argv[1])).put("key", 400, 3, chunks())
print("done", flush=True)
"""


def writer(folder: Path, pause_s: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(folder), str(pause_s)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n"
    return process


def test_a_killed_writers_leftover_is_swept_and_a_living_ones_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = writer(tmp_path, 0.5)
    (half,) = tmp_path.glob(".*")
    assert cache.sweep(tmp_path) == [], "too young to be judged"
    monkeypatch.setattr(cache, "YOUNG_S", 0.0)
    assert cache.sweep(tmp_path) == [], "its writer lives"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert cache.sweep(tmp_path) == [half]
    assert not list(tmp_path.iterdir())


def test_two_processes_that_write_the_same_end_with_one_good_file(tmp_path: Path) -> None:
    processes = [writer(tmp_path, 0.005) for _ in range(2)]
    assert all(process.communicate()[0].endswith("done\n") for process in processes)
    assert [p.name for p in tmp_path.iterdir()] == ["key.npy"]
    found = FeatureCache(tmp_path).get("key")
    assert found is not None and np.array_equal(found[:, 0], np.repeat(np.arange(40), 10))


FULL = """
import resource, signal, sys
from pathlib import Path
import numpy as np
from zoo.train import FeatureCache
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
FeatureCache(Path(sys.argv[1])).put("key", 4000, 3, (np.zeros((100, 3), np.float32) for _ in range(40)))
"""


def test_a_disk_that_fills_up_leaves_nothing_and_says_how_to_go_without(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert "StorageError: cannot write" in done.stderr
    assert "zoo cache --clear" in done.stderr and "--no-cache" in done.stderr
    assert not list(tmp_path.iterdir())


# --- in little memory
def test_features_stay_on_the_disk(tmp_path: Path) -> None:
    """64 MB of them, opened, verified, read in batches and judged as a whole: no copy of them is made."""
    kept, n = FeatureCache(tmp_path), 16_000
    kept.put("key", n, 1000, (np.ones((1000, 1000), np.float32) for _ in range(16)))
    feature_files._verified.clear()
    tracemalloc.start()
    try:
        found = kept.get("key", (n, 1000))
        assert isinstance(found, np.memmap)
        targets = np.arange(n) % 2
        fit_head(found, targets, Recipe(epochs=1, batch_size=500), num_classes=2, validation=(found, targets))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 16e6
