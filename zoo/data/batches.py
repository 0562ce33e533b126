"""Batches in order, decoded ahead in threads, so that the network never waits for a photograph.

Pillow and tokenizers release Python's lock while they work, so threads are enough, and nothing is pickled.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from zoo.cards import ImagePreprocess, Preprocess
from zoo.data.dataset import Input
from zoo.data.images import prepare_images
from zoo.data.text import prepare_texts
from zoo.engine import Array, Batch
from zoo.errors import InputError


def prepare(inputs: Sequence[Input], preprocess: Preprocess) -> Batch:
    """One batch, as the network takes it: {"images"} or {"input_ids", "attention_mask"[, "token_type_ids"]}.

    Raises BadFilesError (files that cannot be decoded, all of this batch), DataError (what is no input).
    """
    if isinstance(preprocess, ImagePreprocess):
        return prepare_images(inputs, preprocess)
    return prepare_texts(inputs, preprocess)


def batches(
    inputs: Sequence[Input],
    preprocess: Preprocess,
    *,
    batch_size: int,
    order: Sequence[int] | Array | None = None,
    threads: int = 2,
    ahead: int = 4,
) -> Iterator[tuple[Array, Batch]]:
    """(indices int64 [n], batch) in order; the last may be smaller. At most `ahead` batches wait in memory.

    order: indices of `inputs` in the order wanted; None: as they are.  threads: 0 prepares in this thread.
    What goes wrong in a batch is raised when its turn comes. Leaving the loop early ends the threads.
    """
    for name, value, least in (("batch_size", batch_size, 1), ("threads", threads, 0), ("ahead", ahead, 1)):
        if value < least:
            raise InputError(f"{name} {value}: must be {least} or more")
    indices = np.arange(len(inputs)) if order is None else np.asarray(order, dtype=np.int64)
    chunks = [indices[start : start + batch_size] for start in range(0, len(indices), batch_size)]
    return _in_order(chunks, inputs, preprocess, threads, ahead)


def _in_order(
    chunks: Sequence[Array], inputs: Sequence[Input], preprocess: Preprocess, threads: int, ahead: int
) -> Iterator[tuple[Array, Batch]]:
    def work(chunk: Array) -> Batch:
        return prepare([inputs[i] for i in chunk], preprocess)

    if threads == 0 or len(chunks) < 2:
        for chunk in chunks:
            yield chunk, work(chunk)
        return
    pool = ThreadPoolExecutor(threads, thread_name_prefix="zoo-data")
    waiting: deque[tuple[Array, Future[Batch]]] = deque()
    try:
        for chunk in chunks:
            waiting.append((chunk, pool.submit(work, chunk)))
            if len(waiting) >= ahead:
                done, future = waiting.popleft()
                yield done, future.result()
        while waiting:
            done, future = waiting.popleft()
            yield done, future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
