"""Which files below a folder a piece of code opens, whoever opens them: Python, C++ or a memory map (Linux's inotify).

And what tests of every framework's exports share: the files an answer rests on, bytes that do not depend on threads.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from zoo import jobs
from zoo.process import Worker

OPENED = 0x20  # IN_OPEN
NONBLOCKING = 0o4000
HEAD = struct.Struct("iIII")


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[set[Path]]:
    """Fills at the end with the files of the folder, and of those in it, that were opened inside."""
    libc = ctypes.CDLL(None, use_errno=True)
    queue = libc.inotify_init1(NONBLOCKING)
    places = [folder, *(path for path in folder.rglob("*") if path.is_dir())]
    watched = {libc.inotify_add_watch(queue, bytes(place), OPENED): place for place in places}
    assert queue >= 0 and -1 not in watched, os.strerror(ctypes.get_errno())
    found: set[Path] = set()
    try:
        yield found
        with contextlib.suppress(BlockingIOError):
            while data := os.read(queue, 1 << 16):
                found |= set(_files(data, watched))
    finally:
        os.close(queue)


def _files(data: bytes, watched: dict[int, Path]) -> Iterator[Path]:
    while data:
        place, _, _, length = HEAD.unpack_from(data)
        name = data[HEAD.size : HEAD.size + length].rstrip(b"\0").decode()
        if (path := watched[place] / name).is_file():
            yield path
        data = data[HEAD.size + length :]


def export_of(model: str, folder: Path, target: Path) -> dict[str, Any]:
    """What the worker's job answers; every file of `folder` that it opened is one that it says it rests on."""
    with opened(folder) as found:
        answer = jobs.export(model, str(target))
    assert found, f"nothing in {folder} was opened"
    rests = set()
    for place, state in answer["reads"].items():
        rests |= {Path(place, name) for name in state} if isinstance(state, dict) else {Path(place)}
    assert found <= rests, f"read, and not noted: {found - rests}"
    return answer


def bytes_of(framework: str, model: str, work: Path, *, threads: int) -> str:
    """SHA-256 of an export in a process of its own with so many threads and an empty cache."""
    env = {"OMP_NUM_THREADS": str(threads), "TF_NUM_INTRAOP_THREADS": str(threads)}
    target = work / f"{threads}.onnx"
    with Worker(framework, env={**env, "ZOO_CACHE": str(work / f"cache{threads}")}) as worker:
        answer = worker.call("zoo.jobs:export", {"model": model, "path": str(target)}, timeout_s=300)
    assert answer["made"]
    return hashlib.sha256(target.read_bytes()).hexdigest()
