"""Features in files that are never believed blindly: memory-mapped, sealed by a digest, written whole or not.

A file is a NumPy array (`np.load` reads it) with a tail: 16 bytes for each row that say what it is the feature
of, a few facts as JSON, their length, and a mark. The digest in the facts covers name, array and row digests.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import struct
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from zoo import cache
from zoo.engine import Array
from zoo.errors import DataError, StorageError
from zoo.files import atomic_file, cache_dir

MARK = b"ZOOFEAT1"
END = struct.Struct("<Q8s")
ROW_DIGEST = 16
PIECE = 1 << 20
WITHOUT = (
    "`zoo cache --clear` empties the cache, ZOO_CACHE names another folder for it, and --no-cache "
    "(cached=False) trains without it, slower."
)
_verified: dict[Path, tuple[int, ...]] = {}


class DamagedError(Exception):
    """What is in a file is not what was written; caught here, for features can be computed again."""


@dataclass(frozen=True)
class Layout:
    """A file of features, its form checked. offset: where the array begins; tail: where its digests do."""

    rows: int
    columns: int
    offset: int
    facts: Mapping[str, Any]

    @property
    def tail(self) -> int:
        return self.offset + 4 * self.rows * self.columns


class FeatureCache:
    """float32 arrays in a folder (default: `cache_dir()`/features), read as memory maps, bounded together
    with all that is cached (`zoo.cache`); a folder of one's own is bounded by itself.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = cache_dir() / cache.FEATURES if folder is None else folder
        self._own = folder

    def get(self, key: str, shape: tuple[int, int] | None = None) -> Array | None:
        """float32 [N, D], or None where there is none, or (with a warning) only a damaged one.

        shape: what it must be. The whole file is read once a process, to see that it is what was written.
        """
        path = self.folder / f"{key}.npy"
        try:
            with path.open("rb") as file:
                layout = read_layout(file)
                if shape not in (None, (layout.rows, layout.columns)):
                    raise DamagedError(f"it holds {layout.rows} x {layout.columns} values, not {shape}")
                _verify(file, path, layout)
                found = _map(file, layout)
        except FileNotFoundError:
            return None
        except (DamagedError, OSError) as error:
            warnings.warn(f"cached features are computed anew: {path} is damaged ({error})", stacklevel=2)
            return None
        _used(path)
        return found

    def rows(self, prefix: str, columns: int, digests: Array) -> dict[int, Array]:
        """Rows of other files, whose names begin with `prefix-`, by their place in `digests` uint8 [N, 16]."""
        places: dict[bytes, list[int]] = {}
        for i, row in enumerate(digests):
            places.setdefault(row.tobytes(), []).append(i)
        found: dict[int, Array] = {}
        for path in sorted(self.folder.glob(f"{prefix}-*.npy")):
            if len(found) == len(digests):
                break
            there = [(n, d) for n, d in enumerate(_row_digests(path, columns)) if d in places]
            if there and (values := self.get(path.stem)) is not None:
                plain = np.asarray(values)  # a view: rows of a memory map are slow to make
                found |= {i: plain[n] for n, d in there for i in places[d]}
        return found

    def put(
        self,
        key: str,
        rows: int,
        columns: int,
        chunks: Iterable[Array],
        *,
        digests: Array | None = None,
        about: Mapping[str, str] | None = None,
    ) -> Array:
        """Write the chunks, [n, D] each, as one array. Raises StorageError; nothing half-written stays.

        digests: uint8 [rows, 16], what each row is the feature of.  about: shown by `zoo cache`.
        More than the cache's limit is used by this process and not kept, with a warning.
        """
        path, size = self.folder / f"{key}.npy", 4 * rows * columns
        self._make_room(size, key)
        try:
            with atomic_file(path) as new:
                with new.open("wb") as file:
                    cache.lock(file)
                    _write(file, key, (rows, columns), chunks, digests, about or {})
                with new.open("rb") as file:  # mapped now: another process may remove it from its place
                    found = _map(file, read_layout(file))
        except StorageError as error:
            raise StorageError(f"{error} {WITHOUT}") from error
        self._keep_or_not(path, size, about or {})
        return found

    def _make_room(self, size: int, key: str) -> None:
        room = min(size, cache.limit())  # more than fits is not kept: the others need not go for it
        if room == size and any(map(cache.held, cache.make_room(size, features=self._own))):
            warnings.warn(
                f"the cache's limit of {cache.show_size(cache.limit())} does not hold the features of this run: "
                f"the next one computes them again. {cache.LIMIT} raises it.",
                stacklevel=3,
            )

    def _keep_or_not(self, path: Path, size: int, about: Mapping[str, str]) -> None:
        if size <= cache.limit():
            _used(path)
            cache.make_room(0, features=self._own)
            return
        with contextlib.suppress(OSError):  # Windows does not let it go: it goes when room is made
            path.unlink()
        if cache.limit() > 0:  # else it was asked for
            warnings.warn(
                f"features of {about.get('data', 'this data')} take {cache.show_size(size)}, more than the cache's "
                f"limit of {cache.show_size(cache.limit())}: used now and not kept. {cache.LIMIT} raises it.",
                stacklevel=3,
            )


# --- the form of a file
def describe(path: Path) -> str:
    """Whose features a file holds, in words."""
    try:
        with path.open("rb") as file:
            layout = read_layout(file)
    except DamagedError:
        return "damaged"
    model, data = (str(layout.facts.get(name) or "?") for name in ("model", "data"))
    return f"{model}, {layout.rows} x {layout.columns}, {data}"


def _write(
    file: IO[bytes],
    key: str,
    shape: tuple[int, int],
    chunks: Iterable[Array],
    digests: Array | None,
    about: Mapping[str, str],
) -> None:
    """Written, not memory-mapped: a full disk is then an OSError, not a fatal signal."""
    seal, written = hashlib.blake2b(key.encode(), digest_size=32), 0
    np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
    for chunk in chunks:
        part = np.ascontiguousarray(chunk, dtype="<f4")
        if part.ndim != 2 or part.shape[1] != shape[1]:
            raise DataError(f"features of the shape {list(part.shape)}, where [n, {shape[1]}] was said")
        file.write(part.data)
        seal.update(part.data)
        written += len(part)
    if written != shape[0]:
        raise DataError(f"{written} feature rows for {shape[0]} examples: was the data changed meanwhile?")
    tail = b"" if digests is None else np.ascontiguousarray(digests, np.uint8).tobytes()
    seal.update(tail)
    facts = {**about, "digests": len(tail), "seal": seal.hexdigest(), "shape": list(shape)}
    text = json.dumps(facts).encode()
    file.write(tail + text + END.pack(len(text), MARK))


def read_layout(file: IO[bytes]) -> Layout:
    """Check a file's form: header, facts and length agree. Raises DamagedError."""
    size = os.fstat(file.fileno()).st_size
    try:
        np.lib.format.read_magic(file)
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
        offset = file.tell()
        file.seek(size - END.size)
        length, mark = END.unpack(file.read(END.size))
        file.seek(size - END.size - length)
        facts = json.loads(file.read(length))
        rows, columns = shape
        found = Layout(rows, columns, offset, facts)
        whole = found.tail + facts["digests"] + length + END.size
    except (ValueError, TypeError, KeyError, struct.error, OSError, EOFError, OverflowError) as error:
        raise DamagedError(f"its form is not ours: {' '.join(str(error).split())[:100]}") from error
    if mark != MARK or whole != size or fortran or dtype != np.dtype("<f4"):
        raise DamagedError("its form is not ours, or it was cut off")
    return found


def _map(file: IO[bytes], layout: Layout) -> Array:
    shape = (layout.rows, layout.columns)
    return np.memmap(file, dtype="<f4", mode="r", offset=layout.offset, shape=shape)


def _verify(file: IO[bytes], path: Path, layout: Layout) -> None:
    """Compare the bytes with their seal, once a process and file. Raises DamagedError."""
    if _verified.get(path) == _identity(path):
        return
    seal = hashlib.blake2b(path.stem.encode(), digest_size=32)
    file.seek(layout.offset)
    left = layout.tail + layout.facts["digests"] - layout.offset
    while left and (piece := file.read(min(PIECE, left))):
        seal.update(piece)
        left -= len(piece)
    if seal.hexdigest() != layout.facts.get("seal"):
        raise DamagedError("its content is not what was written")
    _verified[path] = _identity(path)


def _identity(path: Path) -> tuple[int, ...]:
    status = path.stat()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _used(path: Path) -> None:
    """Note the use of a file that is good, which changes its time."""
    cache.touch(path)
    with contextlib.suppress(OSError):
        _verified[path] = _identity(path)


def _row_digests(path: Path, columns: int) -> Iterator[bytes]:
    """What each row of a file is the feature of; nothing where its form is not ours, or it does not say."""
    try:
        with path.open("rb") as file:
            layout = read_layout(file)
            file.seek(layout.tail)
            digests = file.read(layout.facts["digests"])
    except (DamagedError, OSError):
        return
    if layout.columns == columns and len(digests) == ROW_DIGEST * layout.rows:
        for start in range(0, len(digests), ROW_DIGEST):
            yield digests[start : start + ROW_DIGEST]
