"""Batches in order, decoded ahead in threads, so that the network never waits for a photograph.

Pillow, numpy and tokenizers release Python's lock while they work, so threads are enough: nothing is pickled,
and each photograph is written straight into its row of the batch.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from PIL import Image

from zoo.cards import ImagePreprocess, Preprocess
from zoo.data.augment import Augmentation
from zoo.data.dataset import Input
from zoo.data.images import fill, prepare_images, refuse, room
from zoo.data.text import prepare_texts
from zoo.engine import Array, Batch
from zoo.errors import InputError

THREADS_SETTING = "ZOO_DATA_THREADS"
MOST_THREADS = 8
"""Of the default: a feeder of one network seldom needs more, and each adds to what waits in memory."""
PIECE = 8
"""Photographs that a thread takes at a time: small, so that the first batch is ready early and none waits alone."""


def prepare(inputs: Sequence[Input], preprocess: Preprocess) -> Batch:
    """One batch, as the network takes it: {"images"} or {"input_ids", "attention_mask"[, "token_type_ids"]}.

    Raises BadFilesError (files that cannot be decoded, all of this batch), DataError (what is no input).
    """
    if isinstance(preprocess, ImagePreprocess):
        return prepare_images(inputs, preprocess)
    return prepare_texts(inputs, preprocess)


def data_threads() -> int:
    """How many threads prepare data by default: ZOO_DATA_THREADS, or the usable cores, at most 8.

    Raises InputError where the setting is no whole number from 0 on.
    """
    given = os.environ.get(THREADS_SETTING)
    if given is None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return min(MOST_THREADS, cores)
    if not given.isascii() or not given.isdigit():
        raise InputError(f"{THREADS_SETTING}={given}: a whole number, 0 (in the main thread) or more")
    return int(given)


def batches(
    inputs: Sequence[Input],
    preprocess: Preprocess,
    *,
    batch_size: int,
    order: Sequence[int] | Array | None = None,
    augmentation: Augmentation | None = None,
    threads: int | None = None,
    ahead: int = 4,
) -> Iterator[tuple[Array, Batch]]:
    """(indices int64 [n], batch) in order; the last may be smaller. At most `ahead` batches wait in memory.

    order: indices of `inputs` in the order wanted; None: as they are.  augmentation: of photographs, by their
    index in `inputs`.  threads: 0 prepares in this thread; None: `data_threads()`.
    What goes wrong in a batch is raised when its turn comes. Leaving the loop early ends the threads.
    """
    threads = data_threads() if threads is None else threads
    for name, value, least in (("batch_size", batch_size, 1), ("threads", threads, 0), ("ahead", ahead, 1)):
        if value < least:
            raise InputError(f"{name} {value}: must be {least} or more")
    if augmentation is not None and not isinstance(preprocess, ImagePreprocess):
        raise InputError("an augmentation changes photographs, and this model reads texts: leave it out")
    indices = np.arange(len(inputs)) if order is None else np.asarray(order, dtype=np.int64)
    chunks = [indices[start : start + batch_size] for start in range(0, len(indices), batch_size)]
    work = _Work(inputs, preprocess, augmentation, threading.Event())
    if threads == 0:
        return ((chunk, work.whole(chunk)) for chunk in chunks)
    return _ahead(chunks, work, threads, ahead)


def _ahead(chunks: Sequence[Array], work: _Work, threads: int, ahead: int) -> Iterator[tuple[Array, Batch]]:
    pool = ThreadPoolExecutor(threads, thread_name_prefix="zoo-data")
    waiting: deque[tuple[Array, Callable[[], Batch]]] = deque()
    try:
        for chunk in chunks:
            waiting.append((chunk, work.start(chunk, pool)))
            if len(waiting) >= ahead:
                done, result = waiting.popleft()
                yield done, result()
        while waiting:
            done, result = waiting.popleft()
            yield done, result()
    finally:
        work.stop.set()
        pool.shutdown(wait=True, cancel_futures=True)


@dataclass(frozen=True)
class _Work:
    """What is to be prepared. stop: looked at before each photograph, so that Ctrl-C is not kept waiting."""

    inputs: Sequence[Input]
    preprocess: Preprocess
    augmentation: Augmentation | None
    stop: threading.Event

    def whole(self, chunk: Array) -> Batch:
        """A batch, in this thread."""
        if not isinstance(self.preprocess, ImagePreprocess):
            return prepare_texts(list(self._taken(chunk)), self.preprocess)
        images = room(len(chunk), self.preprocess)
        refuse(self._fill(images, chunk, self.preprocess))
        return {"images": images}

    def start(self, chunk: Array, pool: Executor) -> Callable[[], Batch]:
        """Begin with a batch in the pool's threads; what is returned waits for it."""
        if not isinstance(self.preprocess, ImagePreprocess):  # padded to its longest text: one piece
            return pool.submit(self.whole, chunk).result
        images = room(len(chunk), self.preprocess)
        slices = [slice(at, at + PIECE) for at in range(0, len(chunk), PIECE)]
        pieces = [pool.submit(self._fill, images[s], chunk[s], self.preprocess) for s in slices]

        def batch() -> Batch:
            refuse([bad for piece in pieces for bad in piece.result()])
            return {"images": images}

        return batch

    def _fill(self, images: Array, chunk: Array, preprocess: ImagePreprocess) -> list[tuple[str, str]]:
        changed = self.augmentation
        if changed is None:
            return fill(images, self._taken(chunk), preprocess)

        def cut(photo: Image.Image, place: int) -> Image.Image:
            return changed.apply(photo, int(chunk[place]), preprocess)

        least = changed.least_side(preprocess)
        return fill(images, self._taken(chunk), preprocess, cut, least=least)

    def _taken(self, chunk: Array) -> Iterator[Input]:
        for index in chunk:
            if self.stop.is_set():
                return
            yield self.inputs[index]
