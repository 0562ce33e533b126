"""Files that go to another machine and come back: by content, under names that mean the same on both.

A parcel is what `pack` finds: (name, sha256, bytes) of each file. Its digest names the folder that it is unpacked into,
so that what is there already is not sent again, and what came is checked.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TypeAlias

from zoo.errors import InputError, WorkerError
from zoo.files import atomic_file, sha256_file
from zoo.process import JSON

BUNDLE_BYTES = 64 * 10**6
"""Files are sent together up to this much: ten thousand photographs are not ten thousand objects, nor are they one."""

Files: TypeAlias = list[tuple[str, bytes]]
"""(name within a home, contents)."""


@dataclass(frozen=True)
class Entry:
    """One file of a parcel.  name: within its home, parts joined by "/"."""

    name: str
    sha256: str
    size: int


def entries(home: Path, names: Sequence[str]) -> list[Entry]:
    """The files of a home under these names, in order of theirs; links are followed, what is not there is left out."""
    found = {
        path.relative_to(home).as_posix(): path for name in names for path in _files(home / checked(name))
    }
    return [Entry(name, sha256_file(path), path.stat().st_size) for name, path in sorted(found.items())]


def _files(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
    elif path.is_dir():
        yield from (below for below in sorted(path.rglob("*")) if below.is_file())


def digest(parcel: Sequence[Entry]) -> str:
    """Of names and contents."""
    listed = json.dumps([[entry.name, entry.sha256] for entry in parcel])
    return hashlib.sha256(listed.encode()).hexdigest()


def bundles(home: Path, parcel: Sequence[Entry]) -> Iterator[Files]:
    """The contents, together up to BUNDLE_BYTES; a larger file alone."""
    gathered: list[Entry] = []
    for entry in parcel:
        if gathered and sum(e.size for e in gathered) + entry.size > BUNDLE_BYTES:
            yield _read(home, gathered)
            gathered = []
        gathered.append(entry)
    if gathered:
        yield _read(home, gathered)


def _read(home: Path, parcel: Iterable[Entry]) -> Files:
    return [(entry.name, (home / entry.name).read_bytes()) for entry in parcel]


def pack(home: Path, names: Sequence[str]) -> Files:
    """All contents at once."""
    return _read(home, entries(home, names))


def unpack(files: Files, home: Path, *, only: Sequence[str] | None = None) -> None:
    """Write them. only: names, of files and folders, that they may have or lie in; None: any.

    Raises StorageError, InputError for a name that leads out of the home or is none of those.
    """
    for name, content in files:
        if only is not None and not any(PurePosixPath(name).is_relative_to(allowed) for allowed in only):
            raise InputError(f"{name!r} is no file that was asked for")
        with atomic_file(home / checked(name)) as path:
            path.write_bytes(content)


def check(home: Path, parcel: Sequence[Entry]) -> None:
    """Raise WorkerError where a file is not what was sent."""
    for entry in parcel:
        path = home / checked(entry.name)
        if not path.is_file() or sha256_file(path) != entry.sha256:
            raise WorkerError(f"{entry.name} did not arrive as it was sent: run the same command again")


def checked(name: str) -> str:
    """A name that stays within its home. Raises InputError for others."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise InputError(f"{name!r} is no name of a file within a folder")
    return name


def moved(value: JSON, old: Path, new: Path) -> JSON:
    """JSON with the paths in one folder as paths in another, also those within a text."""
    if isinstance(value, str):
        return re.sub(rf"(?<![\w./-]){re.escape(str(old))}(?=/|$|[^\w.-])", lambda _: str(new), value)
    if isinstance(value, list):
        return [moved(item, old, new) for item in value]
    if isinstance(value, dict):
        return {key: moved(item, old, new) for key, item in value.items()}
    return value
