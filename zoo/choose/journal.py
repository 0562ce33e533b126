"""What long experiments have found out so far, a line of JSON each, so that a killed one goes on.

The first line is the question. A resumed run asks the same one, or is refused with what differs; then every
finished piece of work is read, not done again. Lines are flushed to the disk one by one, and a line that a
kill cut short is cut off.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from zoo.errors import InputError
from zoo.files import storage_error

FILE = "journal.jsonl"
MISSING = "nothing"


class Journal:
    """Results by key. Without a file it only remembers."""

    def __init__(self, file: IO[bytes] | None = None, found: Mapping[str, Any] | None = None) -> None:
        self._file, self._found = file, dict(found or {})

    def __len__(self) -> int:
        return len(self._found)

    def get(self, key: str) -> Any:
        """The result kept under `key`, or None."""
        return self._found.get(key)

    def once(self, key: str, work: Callable[[], Any]) -> Any:
        """The result kept under `key`, or else that of `work`, which is JSON and is kept. Raises StorageError."""
        if key not in self._found:
            self.put(key, work())
        return self._found[key]

    def put(self, key: str, result: Any) -> None:
        """Keep a result; it is on the disk when this returns."""
        line = json.dumps({"key": key, "result": result})
        self._found[key] = json.loads(line)["result"]  # what a resumed run will read, tuples being lists
        if self._file is not None:
            _append(self._file, line)


@contextlib.contextmanager
def opened(folder: Path | None, question: Mapping[str, Any], *, resume: bool) -> Iterator[Journal]:
    """The journal in `folder` (None: in memory), locked while inside.

    Raises InputError: a folder that is not empty without `resume`, one without a journal or with that of
    another question, or one in which a run is at work; StorageError.
    """
    if folder is None:
        if resume:
            raise InputError("resume needs the folder of the run that it goes on with: give out (-o)")
        yield Journal()
        return
    path = folder / FILE
    _check(folder, resume=resume)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = path.open("a+b")
    except OSError as error:
        raise storage_error(path, error) from error
    with file:
        _lock(file, folder)
        found = _read(file, folder, question)
        yield Journal(file, found)


def _check(folder: Path, *, resume: bool) -> None:
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file: give a folder for the run")
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    if not resume:
        raise InputError(
            f"{folder} is not empty: choose another folder with -o, or go on with the run in it with --resume"
        )
    if not (folder / FILE).is_file():
        raise InputError(f"{folder} holds no {FILE}, so there is no run to go on with: choose another folder")


def _lock(file: IO[bytes], folder: Path) -> None:
    """Held until the file is closed or the process ends, however it ends."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise InputError(f"a run is at work in {folder}: wait for it, or choose another folder") from error


def _read(file: IO[bytes], folder: Path, question: Mapping[str, Any]) -> dict[str, Any]:
    """Results by key; a first line is written where there is none."""
    file.seek(0)
    text = file.read()
    whole = text[: text.rfind(b"\n") + 1]
    if len(whole) < len(text):
        file.truncate(len(whole))
    lines = [_parsed(line, number, folder) for number, line in enumerate(whole.splitlines(), start=1)]
    if not lines:
        _append(file, json.dumps({"question": question}))
        return {}
    _same(lines[0].get("question", {}), json.loads(json.dumps(question)), folder)
    return {line["key"]: line["result"] for line in lines[1:]}


def _parsed(line: bytes, number: int, folder: Path) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except ValueError as error:
        raise InputError(
            f"{folder / FILE} is damaged in line {number}: {error}. Start again in another folder, or delete that "
            "line and what follows it: the results before it are kept then."
        ) from error
    if not isinstance(found, dict):
        raise InputError(f"{folder / FILE} is no journal of ours: line {number} holds no JSON object")
    return found


def _same(then: Mapping[str, Any], now: Mapping[str, Any], folder: Path) -> None:
    """Raise InputError with every field that differs."""
    changed = [
        f"{name}: {_shown(then.get(name, MISSING))} then, {_shown(now.get(name, MISSING))} now"
        for name in [*then, *(name for name in now if name not in then)]
        if then.get(name, MISSING) != now.get(name, MISSING)
    ]
    if changed:
        raise InputError(
            f"{folder} holds the answers to another question, which would be mixed with this one's: "
            f"{'; '.join(changed)}. Ask as before, or choose another folder."
        )


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(map(str, value)) or MISSING
    text = str(value)
    return text[:12] + "..." if len(text) == 64 and set(text) <= set("0123456789abcdef") else text


def _append(file: IO[bytes], line: str) -> None:
    """One line, on the disk. Raises StorageError; a half-written line is cut off again."""
    size = file.seek(0, os.SEEK_END)
    try:
        file.write(line.encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
    except OSError as error:
        with contextlib.suppress(OSError):
            os.ftruncate(file.fileno(), size)
        raise storage_error(Path(file.name), error) from error
