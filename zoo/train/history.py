"""What happened in a training run: a loss for each step, a row for each epoch, written while it runs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo.files import atomic_file, storage_error

Row = dict[str, Any]
FILE = "history.jsonl"


@dataclass(frozen=True)
class History:
    """losses: one a step.  epochs: one row each: epoch (from 1), loss (mean of its steps), validation_loss,
    validation_accuracy (None without validation data), lr (of its last step), seconds.  best_epoch: from 1,
    the one with the lowest validation loss, whose weights were kept; None without validation data.
    stopped: why before the last epoch, or None.
    """

    losses: tuple[float, ...]
    epochs: tuple[Row, ...]
    best_epoch: int | None = None
    stopped: str | None = None


def rewrite(run_dir: Path, rows: Sequence[Row]) -> None:
    """history.jsonl holds exactly these rows: at the start, or as far as the checkpoint that is resumed."""
    with atomic_file(run_dir / FILE) as path:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def append(run_dir: Path, row: Row) -> None:
    """Add a row. Raises StorageError; a half-written row is cut off again."""
    path = run_dir / FILE
    size = path.stat().st_size if path.exists() else 0
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
    except OSError as error:
        with path.open("r+b") as file:
            file.truncate(size)
        raise storage_error(path, error) from error


def read(run_dir: Path) -> list[Row]:
    """The rows of history.jsonl."""
    lines = (run_dir / FILE).read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]
