"""One function over very many small things: in threads, some of them a task, so that tasks cost nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

THREADS = 8
"""Hides the latency of network disks; on a local one most of the time is spent outside Python's lock."""
PIECE = 64


def in_threads(function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """The results in order; the first exception is raised."""
    pieces = [items[start : start + PIECE] for start in range(0, len(items), PIECE)]
    with ThreadPoolExecutor(THREADS, thread_name_prefix="zoo-files") as pool:
        done = pool.map(lambda piece: [function(item) for item in piece], pieces)
        return [result for piece in done for result in piece]
