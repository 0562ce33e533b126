"""Batches come in order, decoded ahead, within bounds; errors surface in turn; no thread is left behind."""

from __future__ import annotations

import gc
import importlib
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from zoo.cards import ImagePreprocess
from zoo.data import batches, prepare
from zoo.data import data_threads as data_threads_by_default
from zoo.errors import BadFilesError, InputError

module = importlib.import_module("zoo.data.batches")  # the package has a function of that name

SMALL = ImagePreprocess(8, 8, resize_to=(8, 8))


def flats(n: int) -> list[np.ndarray]:
    return [np.full((8, 8, 3), i, np.uint8) for i in range(n)]


def data_threads() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name.startswith("zoo-data")]


@pytest.mark.parametrize("threads", [0, 1, 2])
def test_every_input_once_and_in_order(threads: int) -> None:
    seen = list(batches(flats(23), SMALL, batch_size=5, threads=threads))
    assert [len(i) for i, _ in seen] == [5, 5, 5, 5, 3]
    assert np.concatenate([i for i, _ in seen]).tolist() == list(range(23))
    for indices, batch in seen:
        np.testing.assert_allclose(batch["images"][:, 0, 0, 0], indices / 255, atol=1e-6)


def test_a_given_order_is_followed_and_may_be_a_part() -> None:
    order = [7, 3, 3, 0]
    seen = list(batches(flats(9), SMALL, batch_size=3, order=order))
    assert np.concatenate([i for i, _ in seen]).tolist() == order
    images = np.concatenate([b["images"] for _, b in seen])
    np.testing.assert_allclose(images[:, 0, 0, 0] * 255, order, atol=1e-4)


def test_no_inputs_no_batches() -> None:
    assert list(batches([], SMALL, batch_size=4)) == []


def test_same_as_prepare() -> None:
    (_, batch), *_ = batches(flats(4), SMALL, batch_size=4)
    assert np.array_equal(batch["images"], prepare(flats(4), SMALL)["images"])


class Watched(list[np.ndarray]):
    """Inputs that write down which of them were asked for."""

    def __init__(self, items: list[np.ndarray]) -> None:
        super().__init__(items)
        self.asked: list[int] = []

    def __getitem__(self, index: int) -> np.ndarray:  # type: ignore[override]
        self.asked.append(int(index))
        return super().__getitem__(index)


def test_decoding_runs_ahead_but_not_further() -> None:
    inputs = Watched(flats(30))
    stream = batches(inputs, SMALL, batch_size=2, threads=2, ahead=3)
    assert inputs.asked == [], "nothing is read before the loop begins"
    next(stream)
    deadline = time.monotonic() + 5
    while len(inputs.asked) < 6 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.05)
    assert sorted(inputs.asked) == [0, 1, 2, 3, 4, 5], "three batches: not the whole data set, not one"
    stream.close()


def test_a_bad_file_is_raised_in_its_turn_by_name(tmp_path: Path) -> None:
    paths = [tmp_path / f"{i}.png" for i in range(6)]
    for path in paths:
        Image.new("RGB", (10, 10)).save(path)
    paths[3].write_bytes(b"broken")
    stream = batches(paths, SMALL, batch_size=2)
    assert next(stream)[0].tolist() == [0, 1]
    with pytest.raises(BadFilesError, match=r"3\.png"):
        next(stream)
    assert data_threads() == []


def test_an_abandoned_loop_ends_its_threads() -> None:
    for _indices, _batch in batches(flats(40), SMALL, batch_size=2):
        assert data_threads()
        break
    gc.collect()
    assert data_threads() == []


def test_pieces_of_a_batch_make_the_same_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = prepare(flats(20), SMALL)["images"]
    for piece in (1, 3, 8, 64):
        monkeypatch.setattr(module, "PIECE", piece)
        (_, batch), *_ = batches(flats(20), SMALL, batch_size=20, threads=3)
        assert np.array_equal(batch["images"], expected)


def test_all_bad_files_of_a_batch_are_named(tmp_path: Path) -> None:
    paths = [tmp_path / f"{i}.png" for i in range(20)]
    for path in paths:
        Image.new("RGB", (10, 10)).save(path)
    for number in (2, 17):  # in two pieces
        paths[number].write_bytes(b"broken")
    with pytest.raises(BadFilesError, match=r"(?s)2 of the images.*2\.png.*17\.png"):
        next(iter(batches(paths, SMALL, batch_size=20)))


class Slow(list[np.ndarray]):
    """Inputs that take 20 ms each."""

    taken = 0

    def __getitem__(self, index: int) -> np.ndarray:  # type: ignore[override]
        type(self).taken += 1
        time.sleep(0.02)
        return super().__getitem__(index)


def test_leaving_stops_within_a_photograph_not_within_a_batch() -> None:
    inputs = Slow(flats(200))
    stream = batches(inputs, SMALL, batch_size=8, threads=2, ahead=8)
    next(stream)
    taken = Slow.taken
    stream.close()
    assert Slow.taken <= taken + 4, "each thread ends the one that it has, and begins no other"
    assert data_threads() == []


def test_threads_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ZOO_DATA_THREADS", raising=False)
    monkeypatch.setattr(module.os, "sched_getaffinity", lambda _: set(range(3)), raising=False)
    assert data_threads_by_default() == 3
    monkeypatch.setattr(module.os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    assert data_threads_by_default() == 8
    monkeypatch.setenv("ZOO_DATA_THREADS", "0")
    assert data_threads_by_default() == 0
    for _indices, _batch in batches(flats(9), SMALL, batch_size=2):
        assert data_threads() == [], "0: all of it in this thread"


@pytest.mark.parametrize(
    "options", [{"batch_size": 0}, {"batch_size": 1, "threads": -1}, {"batch_size": 1, "ahead": 0}]
)
def test_impossible_settings_are_refused_at_once(options: dict[str, int]) -> None:
    with pytest.raises(InputError, match="or more"):
        batches(flats(2), SMALL, **options)
