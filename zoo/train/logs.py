"""Losses and rates for other programs to read while training goes on: TensorBoard event files and CSV.

    steps.csv      step (from 1), loss, lr
    epochs.csv     a row an epoch, the columns of history.jsonl
    tensorboard/   event files: step/loss, step/lr by step; epoch/... by step, too, so that the axes agree

A resumed run goes on in the same files: what a killed run wrote after the checkpoint is cut off.
"""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import IO, Any, Literal, get_args

from zoo.errors import InputError
from zoo.files import atomic_file, storage_error
from zoo.train import events

LogFormat = Literal["tensorboard", "csv"]
STEPS, EPOCHS, TENSORBOARD = "steps.csv", "epochs.csv", "tensorboard"
COLUMNS = ("step", "loss", "lr")
FLUSH_S = 2.0
"""Seconds after which what has gathered is written, so that a training is seen while it goes on."""
NOT_PLOTTED = ("epoch", "step")


class RunLog:
    """What the training loop tells: each step, each epoch, the end. Written every two seconds, and by `flush`.

    formats: which files.  step, epoch: how many are done where the run is resumed; 0 starts anew.
    Raises InputError (a format that is not known), StorageError.
    """

    def __init__(
        self, run_dir: Path, formats: Collection[LogFormat], *, step: int = 0, epoch: int = 0
    ) -> None:
        check_log(formats, run_dir)
        self._step, self._flushed = step, time.monotonic()
        self._csv = run_dir if "csv" in formats else None
        self._events = run_dir / TENSORBOARD if "tensorboard" in formats else None
        self._pending: dict[Path, list[bytes]] = {}
        self._files: dict[Path, IO[bytes]] = {}
        if self._csv is not None:
            _cut(run_dir / STEPS, step, COLUMNS)
            _cut(run_dir / EPOCHS, epoch, ())
        if self._events is not None:
            self._events = self._event_file(self._events, step)

    def _event_file(self, folder: Path, step: int) -> Path:
        """A fresh run drops the files of one before it; a resumed one adds a file that purges from here on."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if not step:
                for old in folder.glob(f"{events.PREFIX}.*"):
                    old.unlink()
        except OSError as error:
            raise storage_error(folder, error) from error
        path = events.next_file(folder)
        self._add(path, events.opening(step + 1 if step else 0))
        return path

    def step(self, step: int, loss: float, lr: float) -> None:
        """step: counted from 1.  loss: before the step.  lr: the head's rate in it."""
        self._step = step
        if self._csv is not None:
            self._add(self._csv / STEPS, _line([step, loss, lr]))
        if self._events is not None:
            self._add(self._events, events.scalar(step, "step/loss", loss))
            self._add(self._events, events.scalar(step, "step/lr", lr))
        if time.monotonic() - self._flushed > FLUSH_S:
            self.flush()

    def epoch(self, row: dict[str, Any]) -> None:
        """row: as in `History.epochs`; the values that are None are left out (of a CSV: empty)."""
        if self._csv is not None:
            path = self._csv / EPOCHS
            header = b"" if path.stat().st_size else _line(list(row))
            self._add(path, header + _line(list(row.values())))
        if self._events is not None:
            for name, value in row.items():
                if name not in NOT_PLOTTED and isinstance(value, float | int):
                    self._add(self._events, events.scalar(self._step, f"epoch/{name}", value))
        self.flush()

    def _add(self, path: Path, data: bytes) -> None:
        self._pending.setdefault(path, []).append(data)

    def flush(self) -> None:
        """Write what has gathered; before a checkpoint, which a resumed run starts from.

        Raises StorageError; a half-written line is cut off again.
        """
        self._flushed = time.monotonic()
        for path, parts in self._pending.items():
            file = self._files.get(path) or self._files.setdefault(path, path.open("ab", buffering=0))
            size = file.tell()
            try:
                _write(file, b"".join(parts))
            except OSError as error:
                file.truncate(size)
                raise storage_error(path, error) from error
        self._pending.clear()

    def close(self) -> None:
        """Write the rest and close."""
        try:
            self.flush()
        finally:
            for file in self._files.values():
                file.close()
            self._files.clear()


def check_log(formats: Collection[str], run_dir: Path | None) -> None:
    """Raises InputError for a format that is not known, or without a folder to write into."""
    if unknown := [name for name in formats if name not in get_args(LogFormat)]:
        raise InputError(f"log {unknown[0]!r}: {' or '.join(get_args(LogFormat))}")
    if formats and run_dir is None:
        raise InputError(f"log {', '.join(formats)}: is kept in the folder of the run, so give run_dir")


def _write(file: IO[bytes], data: bytes) -> None:
    """All of it: a raw file on a full disk may take a part without an error, and fail at the next try."""
    while data:
        data = data[file.write(data) :]


def _line(values: Sequence[Any]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(["" if value is None else value for value in values])
    return text.getvalue().encode()


def _cut(path: Path, rows: int, header: Sequence[str]) -> None:
    """The file holds its header and exactly the first rows; fewer where a log was not kept from the start."""
    lines = path.read_bytes().splitlines(keepends=True) if rows and path.is_file() else []
    kept = [line for line in lines[1:] if line.endswith(b"\n") and _number(line) <= rows]
    with atomic_file(path) as temporary:
        temporary.write_bytes(b"".join([*(lines[:1] or [_line(header)] if header or lines else []), *kept]))


def _number(line: bytes) -> float:
    """The step or epoch that a line begins with."""
    first = line.partition(b",")[0]
    return int(first) if first.isdigit() else float("inf")
