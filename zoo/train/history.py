"""What happened in a training run: a loss for each step, a row for each epoch, written while it runs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo import plots
from zoo.errors import ModelFileError
from zoo.files import atomic_file, storage_error
from zoo.recipe import Keep

Row = dict[str, Any]
FILE = "history.jsonl"
SMOOTHING = 0.9
BEST = {"best": "best, kept", "last": "best; the last is kept"}
"""What the best epoch is called, by whose weights were kept."""


@dataclass(frozen=True)
class History:
    """losses: one a step.  epochs: one row each: epoch (from 1), loss (mean of its steps), validation_loss,
    validation_accuracy (None without validation data), lr (of its last step), seconds.  best_epoch: from 1,
    the one with the lowest validation loss; None without validation data.  stopped: why before the last epoch, or
    None.  kept: whose weights were, of the "best" epoch (the last one without validation data) or the "last".
    """

    losses: tuple[float, ...]
    epochs: tuple[Row, ...]
    best_epoch: int | None = None
    stopped: str | None = None
    kept: Keep = "best"

    def plot(self, path: str | Path | None = None) -> Any:
        """A plotly Figure of losses a step, losses, accuracy and rate an epoch; with `path` also as HTML.

        Raises FrameworkMissingError where plotly is not installed, StorageError.
        """
        figure = plots.curves("Training", _panels(self), x="epoch")
        if path is not None:
            plots.save(figure, Path(path))
        return figure


def _panels(history: History) -> list[tuple[str, list[plots.Series]]]:
    """Panels on the epoch as x, in which a step counts as its share of an epoch."""
    rows = history.epochs
    epochs = [float(row["epoch"]) for row in rows]
    per_epoch = len(history.losses) / max(1, len(rows))
    steps = [(i + 1) / max(per_epoch, 1) for i in range(len(history.losses))]
    line, faint = {"mode": "lines"}, {"mode": "lines", "opacity": 0.3, "line": {"width": 1}}
    dots = {"mode": "lines+markers"}
    losses: list[plots.Series] = [
        ("loss of each step", steps, list(history.losses), faint),
        ("smoothed", steps, plots.smoothed(history.losses, SMOOTHING), line),
        ("mean of the epoch", epochs, [row["loss"] for row in rows], dots),
    ]
    validated = any(row["validation_loss"] is not None for row in rows)
    if validated:
        losses.append(("validation loss", epochs, [row["validation_loss"] for row in rows], dots))
    if history.best_epoch is not None:
        best = rows[history.best_epoch - 1]
        star = {"mode": "markers", "marker": {"symbol": "star", "size": 13}}
        losses.append((BEST[history.kept], [best["epoch"]], [best["validation_loss"]], star))
    panels = [("loss", losses)]
    if validated:
        accuracy = [row["validation_accuracy"] for row in rows]
        panels.append(("accuracy", [("validation accuracy", epochs, accuracy, dots)]))
    panels.append(("rate", [("learning rate", epochs, [row["lr"] for row in rows], dots)]))
    return panels


def read_history(run_dir: Path) -> History:
    """Of a saved run, from zoo.json; of one that is not finished the epochs in history.jsonl, without steps.

    Raises ModelFileError where the folder holds neither.
    """
    try:
        found = json.loads((run_dir / "zoo.json").read_text(encoding="utf-8"))["extra"]["history"]
        return History(**found | {"losses": tuple(found["losses"]), "epochs": tuple(found["epochs"])})
    except (OSError, ValueError, KeyError, TypeError):
        pass  # not finished, or saved without its history
    try:
        return History((), tuple(read(run_dir)))
    except (OSError, ValueError) as error:
        raise ModelFileError(
            f"{run_dir} holds no history of a training: give the folder that `zoo train -o` wrote"
        ) from error


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
