"""What is kept to save work, below `cache_dir()`: bounded, the least recently used gone first, listed, emptied.

    features/<backbone>-<data>.npy    features/ is by far the largest; see `zoo.train.features`
    graphs/<backbone>-<whole>-<sha256>.onnx    exported once for all commands; see `zoo.graph.kept`
    graphs/<the same>.<request>.json  what was asked for when it was made, and on which files that rested
    heads/<key>.onnx                  graphs with a head, made by `with_head` without a path
    digests.sqlite                    what photographs contain, so that unchanged ones are not read again
    results.sqlite                    what probes of candidates said; see `zoo.choose.results`

An entry's time of change is the time of its last use. Whatever stands here can be made again, so any of it
may be removed at any time: a file that is mapped or open lives on until it is closed (POSIX). Windows refuses
to remove a mapped file: it stays then, and goes another time.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from zoo.errors import InputError
from zoo.files import cache_dir

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LIMIT = "ZOO_CACHE_LIMIT"
DEFAULT_LIMIT = 10 * 10**9
UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
SPARED_S = 600.0
"""Graphs and heads used so recently stay: somebody may be about to open the path."""
YOUNG_S, ABANDONED_S = 60.0, 3600.0
"""A half-written file is left alone while young; one that no writer has locked counts as abandoned later."""

FEATURES, GRAPHS, HEADS, DIGESTS, RESULTS = "features", "graphs", "heads", "digests", "results"
_held: set[Path] = set()


@dataclass(frozen=True)
class Entry:
    """One thing that can be removed. path: a file.  size: bytes.  used: seconds since 1970."""

    kind: str
    path: Path
    size: int
    used: float


def read_size(text: str) -> int:
    """Bytes of "10 GB", "500MB" or "0"; KB, MB, GB, TB are powers of 1000. Raises ValueError."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?B?)\s*", text.upper())
    if (
        found is None
        or (unit := found[2] if found[2].endswith("B") or not found[2] else found[2] + "B") not in UNITS
    ):
        raise ValueError(text)
    return int(float(found[1]) * UNITS[unit])


def show_size(size: float) -> str:
    """Bytes in the unit that `read_size` reads, one decimal."""
    for unit in ("TB", "GB", "MB", "KB"):
        if size >= UNITS[unit]:
            return f"{size / UNITS[unit]:.1f} {unit}"
    return f"{size:.0f} B"


def limit() -> int:
    """Bytes that the cache may take: $ZOO_CACHE_LIMIT, else 10 GB, but never over half of the free disk.

    Raises InputError for what is no size.
    """
    if text := os.environ.get(LIMIT):
        try:
            return read_size(text)
        except ValueError as error:
            raise InputError(
                f"{LIMIT}={text!r}: no size. Write a number with a unit, such as 10GB or 500MB; 0 keeps nothing"
            ) from error
    nearest = next(p for p in (cache_dir(), *cache_dir().parents) if p.exists())
    free = shutil.disk_usage(nearest).free + sum(entry.size for entry in entries())
    return min(DEFAULT_LIMIT, free // 2)


# --- what is there
def entries(features: Path | None = None) -> list[Entry]:
    """Everything, the least recently used first. features: another folder of features, and nothing else."""
    if features is not None:
        found = _files(FEATURES, features.glob("*.npy"))
    else:
        root = cache_dir()
        found = [
            *_files(FEATURES, (root / FEATURES).glob("*.npy")),
            *_files(GRAPHS, (root / GRAPHS).glob("*.onnx")),
            *_files(HEADS, (root / HEADS).glob("*.onnx")),
            *_files(DIGESTS, [root / f"{DIGESTS}.sqlite"]),
            *_files(RESULTS, [root / f"{RESULTS}.sqlite"]),
        ]
    return sorted(found, key=lambda entry: (entry.used, str(entry.path)))


def _files(kind: str, paths: Iterable[Path]) -> list[Entry]:
    found = []
    for path in paths:
        if path.name.startswith("."):
            continue
        with contextlib.suppress(OSError):  # another process removed it meanwhile
            sizes = sum(part.stat().st_size for part in _parts(kind, path))
            found.append(Entry(kind, path, sizes, path.stat().st_mtime))
    return found


def _parts(kind: str, path: Path) -> list[Path]:
    """An entry's files: a graph has the requests beside it that it answers."""
    return [path] if kind != GRAPHS else [path, *path.parent.glob(f"{path.stem}.*.json")]


def touch(path: Path) -> None:
    """Note that an entry is used, now and by this process."""
    _held.add(path)
    with contextlib.suppress(OSError):  # a cache that others own, read only, is of use too
        os.utime(path)


# --- making room
def make_room(size: int, *, features: Path | None = None) -> list[Entry]:
    """Remove what was used least recently until `size` more bytes fit under the limit; what this process uses
    goes last. Gives what was removed. Raises InputError for a limit that is no size.
    """
    sweep(features)
    there = entries(features)
    excess = sum(entry.size for entry in there) + size - limit()
    removed = []
    for entry in sorted(there, key=lambda entry: entry.path in _held):
        if excess <= 0:
            break
        if not _spared(entry) and remove(entry):
            excess -= entry.size
            removed.append(entry)
    return removed


def held(entry: Entry) -> bool:
    """Whether this process uses it."""
    return entry.path in _held


def _spared(entry: Entry) -> bool:
    """Features are used through maps, which outlive the file; of the others the path is used."""
    if entry.kind in (DIGESTS, RESULTS):
        return True  # small, and bounded by itself
    return entry.kind != FEATURES and (entry.path in _held or time.time() - entry.used < SPARED_S)


def remove(entry: Entry) -> bool:
    """Remove one entry; False where the system does not let it go."""
    try:
        for part in _parts(entry.kind, entry.path):
            part.unlink(missing_ok=True)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def clear() -> list[Entry]:
    """Remove everything, half-written files of live writers excepted; gives what was removed."""
    sweep()
    return [entry for entry in entries() if remove(entry)]


def sweep(features: Path | None = None) -> list[Path]:
    """Remove what killed writers left half-written; gives the paths."""
    gone = []
    for path in _half_written(features):
        if _abandoned(path):
            with contextlib.suppress(OSError):
                path.unlink()
                gone.append(path)
                if path.parent.name.startswith("."):  # a folder of that writer's own
                    path.parent.rmdir()
    return gone


def _half_written(features: Path | None) -> Iterator[Path]:
    root = cache_dir()
    yield from (root / FEATURES if features is None else features).glob(".*.npy")
    if features is None:
        yield from (root / GRAPHS).glob(".*.onnx")
        yield from (root / GRAPHS).glob(".*/*")
        yield from (root / HEADS).glob(".*")


def _abandoned(path: Path) -> bool:
    try:
        age = time.time() - path.stat().st_mtime
        if age < YOUNG_S:
            return False
        with path.open("rb") as file:
            if not lock(file):
                return False
    except OSError:
        return False
    return age >= ABANDONED_S or (fcntl is not None and path.suffix == ".npy")


def lock(file: IO[bytes]) -> bool:
    """Take a lock that lasts until the file is closed, however its process ends; False where another has it.

    Without locks (Windows, some network disks) True: age alone tells then.
    """
    if fcntl is None:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True
