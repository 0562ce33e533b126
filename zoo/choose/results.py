"""Small results that cost much to get, by what they follow from: a probe's evidence, a graph's figures.

A key is a digest of all that a result depends on, this package's own code and the libraries' versions included, so
that a result is either that of the same question or is not found. A second run with another budget asks the
same questions. The file is $ZOO_CACHE/results.sqlite; a run with a folder of its own has one there too, so that a
killed run goes on also where nothing is cached. Whatever fails in it counts as absent.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import json
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from zoo import cache
from zoo.cards import fingerprint
from zoo.engine import Array
from zoo.files import cache_dir

MOST_BYTES = 500 * 10**6
"""Of all values in one file; then the least recently used half goes."""
BUSY_S = 5.0
LIBRARIES = ("backbone-zoo", "numpy", "onnxruntime", "scikit-learn", "pillow", "tokenizers")
_TABLE = (
    "CREATE TABLE IF NOT EXISTS results (key TEXT PRIMARY KEY, used REAL NOT NULL, digest BLOB NOT NULL, "
    "value BLOB NOT NULL) WITHOUT ROWID"
)
T = TypeVar("T")


class Results:
    """Named arrays by key, in one or several files: found in any of them, put into all."""

    def __init__(self, files: Sequence[Path]) -> None:
        self.files = tuple(files)

    @classmethod
    def of(cls, folder: Path | None) -> Results:
        """The cache's, unless nothing is to be cached, and one in `folder`."""
        files = [cache_dir() / f"{cache.RESULTS}.sqlite"] if cache.limit() > 0 else []
        return cls([*files, *([] if folder is None else [folder / f"{cache.RESULTS}.sqlite"])])

    def get(self, key: str) -> dict[str, Array] | None:
        """What was put under this key, or None."""
        for file in self.files:
            if (found := _used(file, functools.partial(_get, key=key))) is not None:
                with contextlib.suppress(ValueError, OSError, KeyError), np.load(io.BytesIO(found)) as arrays:
                    return {name: arrays[name] for name in arrays.files}
        return None

    def put(self, key: str, arrays: Mapping[str, Array]) -> None:
        """Keep them; they are on the disk when this returns, or, where that cannot be, nowhere."""
        buffer = io.BytesIO()
        named: dict[str, Any] = dict(arrays)
        np.savez(buffer, **named)
        for file in self.files:
            _used(file, functools.partial(_put, key=key, value=buffer.getvalue()))

    def once(self, key: str, work: Callable[[], Mapping[str, Array]]) -> dict[str, Array]:
        """What is kept, or else what `work` gives, which is kept."""
        if (found := self.get(key)) is not None:
            return found
        made = dict(work())
        self.put(key, made)
        return made

    def once_json(self, key: str, work: Callable[[], Any]) -> Any:
        """The same for what is JSON."""

        def as_array() -> dict[str, Array]:
            return {"json": np.frombuffer(json.dumps(work()).encode(), np.uint8)}

        return json.loads(self.once(key, as_array)["json"].tobytes())


def key_of(*facts: Any) -> str:
    """64 hex digits of JSON, arrays, and what computes here."""
    digest = hashlib.sha256(fingerprint([code(), _versions()]).encode())
    for fact in facts:
        if isinstance(fact, np.ndarray):
            digest.update(repr((fact.shape, fact.dtype.str)).encode() + np.ascontiguousarray(fact).tobytes())
        else:
            digest.update(json.dumps(fact, sort_keys=True).encode())
    return digest.hexdigest()


def _versions() -> dict[str, str]:
    found = {}
    for name in LIBRARIES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


@functools.cache
def code() -> str:
    """SHA-256 of this package's source, which says how a probe is fitted: a change of it makes all anew."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(path.name.encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


# --- the file
def _used(path: Path, work: Callable[[sqlite3.Connection], T], *, again: bool = True) -> T | None:
    """`work` on the file, made where it is not there; None where that fails. A damaged one is made anew."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.closing(sqlite3.connect(path, timeout=BUSY_S)) as connection, connection:
            connection.execute(_TABLE)
            return work(connection)
    except sqlite3.OperationalError:  # locked, or no disk
        return None
    except sqlite3.DatabaseError:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
            Path(f"{path}-journal").unlink(
                missing_ok=True
            )  # of the file that went: not to be played into a new one
        return _used(path, work, again=False) if again else None
    except OSError:
        return None


def _get(connection: sqlite3.Connection, key: str) -> bytes | None:
    row = connection.execute("SELECT digest, value FROM results WHERE key = ?", (key,)).fetchone()
    if row is None or hashlib.sha256(row[1]).digest() != row[0]:
        return None
    connection.execute("UPDATE results SET used = ? WHERE key = ?", (time.time(), key))
    return bytes(row[1])


def _put(connection: sqlite3.Connection, key: str, value: bytes) -> None:
    connection.execute(
        "INSERT OR REPLACE INTO results VALUES (?, ?, ?, ?)",
        (key, time.time(), hashlib.sha256(value).digest(), value),
    )
    (total,) = connection.execute("SELECT SUM(LENGTH(value)) FROM results").fetchone()
    if total > MOST_BYTES:
        middle = "SELECT used FROM results ORDER BY used LIMIT 1 OFFSET (SELECT COUNT(*) / 2 FROM results)"
        connection.execute(f"DELETE FROM results WHERE used < ({middle})")
