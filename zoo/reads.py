"""What loading a model depended on: files and folders, there or not, so that a later run can tell if they changed.

An adapter calls `note` on every path from which it takes weights or configuration, and on those where it looked
and found nothing. Outside of `noted` this does nothing.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypeAlias

State: TypeAlias = "list[int] | dict[str, list[int]] | None"
"""None: not there. A file: size, time of change of content and of entry in ns, inode. A folder: its files by name.

The time of the entry (ctime) cannot be set back by a program, as that of the content can.
"""

MOST_FILES = 2000
"""A folder with more is not followed: its state equals none."""
COARSE_NS, FINE_NS = 2_000_000_000, 50_000_000
"""A file changed so shortly before it was looked at could change again under the same time stamp."""
HUB_PARTS = ("snapshots", "refs")

_open: list[dict[str, State]] = []


def note(path: Path | str) -> None:
    """Say that what is loaded now depends on this file or folder, or on its absence."""
    if not _open:
        return
    place = Path(os.path.abspath(Path(path).expanduser()))  # noqa: PTH100  (links stay: they may be set anew)
    for found in (place, *_refs(place)):
        _open[-1].setdefault(str(found), state(found))


@contextlib.contextmanager
def noted() -> Iterator[dict[str, State]]:
    """Give a mapping that fills with the paths noted inside, each as it was when it was noted first."""
    found: dict[str, State] = {}
    _open.append(found)
    try:
        yield found
    finally:
        _open.remove(found)


def aside() -> contextlib.AbstractContextManager[dict[str, State]]:
    """Inside, notes are dropped: for files that an adapter writes itself, of what its own code holds."""
    return noted()


def unchanged(found: Mapping[str, State]) -> bool:
    """Whether every noted path is as it was, as far as the file system can tell."""
    return all(_settled(then) and state(Path(path)) == then for path, then in found.items())


def from_hub(found: Mapping[str, State]) -> bool:
    """Whether some of it lies in the Hugging Face cache: the repository may have moved on since."""
    return any(Path(path).name == HUB_PARTS[1] for path in found)


def state(path: Path) -> State:
    """See `State`."""
    try:
        if not path.is_dir():
            return _of_file(path)
        inside = [Path(root, name) for root, _, names in os.walk(path) for name in names][: MOST_FILES + 1]
        if len(inside) > MOST_FILES:
            return {}
        return {str(file.relative_to(path)): _of_file(file) for file in sorted(inside)}
    except OSError:
        return None


def _of_file(path: Path) -> list[int]:
    found = path.stat()
    young = time.time_ns() - found.st_ctime_ns < (FINE_NS if found.st_ctime_ns % 1_000_000_000 else COARSE_NS)
    return [] if young else [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]


def _settled(then: State) -> bool:
    """False for what could not be pinned: a file that was too young, a folder that is empty or too large."""
    return then is None or (bool(then) and (isinstance(then, list) or all(then.values())))


def _refs(path: Path) -> list[Path]:
    """Of a path in the Hugging Face cache, the folder that says which revision a branch means."""
    if HUB_PARTS[0] not in path.parts:
        return []
    root = Path(*path.parts[: path.parts.index(HUB_PARTS[0])]) / HUB_PARTS[1]
    return [root] if root.is_dir() else []
