"""What files contain, as digests: read once, and known again by the file system's own record of changes.

A file's size and time of change can both be kept while its content changes (`cp -p`, `touch -r`, an unpacked
archive), so they prove nothing. Its inode's change time cannot be set by a program: together with device, inode,
size and time of change it stands for a content that was read once (as in git's index). A file changed within
the last seconds is read again next time, for two changes may share a tick of the clock. Windows has no such
time, and there every file is read each time.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
import struct
import time
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from zoo import cache
from zoo.data.threads import in_threads
from zoo.errors import BadFilesError
from zoo.files import cache_dir

DIGEST_BYTES = 16
SETTLED_NS = 2 * 10**9
MOST_ROWS = 2_000_000
"""About 100 MB: then the record begins anew."""
CHANGES_ARE_RECORDED = os.name == "posix"


def digest(content: bytes) -> bytes:
    """16 bytes (BLAKE2b) that stand for a content."""
    return hashlib.blake2b(content, digest_size=DIGEST_BYTES).digest()


def file_digests(paths: Sequence[Path]) -> list[bytes]:
    """The digest of each file's content, in order. Raises BadFilesError where a file has gone."""
    if not paths:
        return []
    marks = in_threads(_mark, paths)
    with _record() as record:
        known = {} if record is None else record.get(set(marks))
        new = [i for i, mark in enumerate(marks) if mark not in known]
        read = dict(zip(new, in_threads(_read, [paths[i] for i in new]), strict=True))
        if record is not None:
            record.add([(marks[i], read[i]) for i in new if _settled(paths[i], marks[i])])
    return [read[i] if i in read else known[mark] for i, mark in enumerate(marks)]


def _mark(path: Path) -> bytes:
    """Device, inode, size, time of change, and the inode's own change time."""
    try:
        status = path.stat()
    except OSError as error:
        raise _gone(path, error) from error
    facts = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    return struct.pack("<QQQqq", *facts)


def _read(path: Path) -> bytes:
    try:
        with path.open("rb", buffering=0) as file:
            return hashlib.file_digest(file, _hasher).digest()
    except OSError as error:
        raise _gone(path, error) from error


def _hasher() -> hashlib.blake2b:
    return hashlib.blake2b(digest_size=DIGEST_BYTES)


def _settled(path: Path, mark: bytes) -> bool:
    """Whether the file is as it was before it was read, and was last changed a while ago."""
    changed_ns = max(struct.unpack("<QQQqq", mark)[3:])
    return bool(changed_ns < time.time_ns() - SETTLED_NS) and _mark(path) == mark


def _gone(path: Path, error: OSError) -> BadFilesError:
    reason = error.strerror or str(error)
    return BadFilesError(
        f"{path}: {reason}. It was there when the data was opened: open the data again.",
        [(str(path), reason)],
    )


# --- the record
@contextlib.contextmanager
def _record() -> Iterator[Record | None]:
    """The record of contents, or None where there can be none: it saves time, nothing else."""
    record = Record.open(cache_dir() / f"{cache.DIGESTS}.sqlite") if _wanted() else None
    try:
        yield record
    finally:
        if record is not None:
            record.close()


def _wanted() -> bool:
    return CHANGES_ARE_RECORDED and cache.limit() > 0


class Record:
    """Marks and digests in a file that several processes may use at once. Whatever fails in it counts as absent."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    @classmethod
    def open(cls, path: Path, *, again: bool = True) -> Record | None:
        """Open or make it; a damaged one is made anew."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(path, timeout=5)
            connection.execute("PRAGMA synchronous = OFF")
            connection.execute(
                "CREATE TABLE IF NOT EXISTS digests (mark BLOB PRIMARY KEY, digest BLOB NOT NULL) WITHOUT ROWID"
            )
            (rows,) = connection.execute("SELECT COUNT(*) FROM digests").fetchone()
            if rows > MOST_ROWS:
                connection.execute("DELETE FROM digests")
                connection.commit()
        except sqlite3.DatabaseError as error:
            if not again or isinstance(error, sqlite3.OperationalError):  # locked, or no disk: go without
                return None
            path.unlink(missing_ok=True)
            return cls.open(path, again=False)
        except OSError:
            return None
        return cls(connection)

    def get(self, marks: Collection[bytes]) -> dict[bytes, bytes]:
        """The digests of those that it has."""
        found: dict[bytes, bytes] = {}
        with contextlib.suppress(sqlite3.DatabaseError):
            for mark in marks:
                row = self._connection.execute(
                    "SELECT digest FROM digests WHERE mark = ?", (mark,)
                ).fetchone()
                if row and isinstance(row[0], bytes) and len(row[0]) == DIGEST_BYTES:
                    found[mark] = row[0]
        return found

    def add(self, rows: Sequence[tuple[bytes, bytes]]) -> None:
        """Keep them."""
        with contextlib.suppress(sqlite3.DatabaseError), self._connection:
            self._connection.executemany("INSERT OR REPLACE INTO digests VALUES (?, ?)", rows)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()
