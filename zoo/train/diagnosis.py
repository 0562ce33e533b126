"""Where a classifier goes wrong: the confusion matrix, and its errors with the costliest first."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from zoo.engine import Array
from zoo.errors import DataError
from zoo.files import atomic_file


@dataclass(frozen=True)
class Mistake:
    """An example that was classified wrong. index: its position in the data.  input: file or text.

    probability: of `predicted`.  true_probability: of the right class.  loss: -log of that.
    """

    index: int
    input: str
    true: str
    predicted: str
    probability: float
    true_probability: float
    loss: float


def confusion(predicted: Array, targets: Array, num_classes: int) -> Array:
    """int64 [C, C]: row t, column p counts the examples of class t that were taken for p."""
    flat = np.bincount(targets * num_classes + predicted, minlength=num_classes**2)
    matrix: Array = flat.reshape(num_classes, num_classes)
    return matrix


def most_confused(matrix: Array, classes: Sequence[str], most: int = 10) -> list[tuple[str, str, int]]:
    """(true, predicted, count) off the diagonal, the largest first."""
    wrong = matrix - np.diag(np.diag(matrix))
    order = np.argsort(-wrong, axis=None, kind="stable")[:most]
    pairs = [(int(i) // len(classes), int(i) % len(classes)) for i in order]
    return [(classes[t], classes[p], int(wrong[t, p])) for t, p in pairs if wrong[t, p]]


def mistakes(
    probabilities: Array,
    targets: Array,
    classes: Sequence[str],
    inputs: Sequence[object],
    *,
    most: int | None = None,
) -> list[Mistake]:
    """The examples classified wrong, the highest loss first; at most `most`, None: all.

    probabilities: float32 [N, C].  targets: int64 [N].  inputs: N, of which files and texts are named as they
    are, and arrays by their position.  Raises DataError where the shapes do not fit.
    """
    if probabilities.shape != (len(targets), len(classes)) or len(inputs) != len(targets):
        raise DataError(
            f"cannot look for errors: probabilities of shape {probabilities.shape} for {len(targets)} targets of "
            f"{len(classes)} classes and {len(inputs)} inputs"
        )
    predicted, rows = probabilities.argmax(axis=1), np.arange(len(targets))
    right = probabilities[rows, targets].astype(np.float64)
    losses = -np.log(np.maximum(right, np.finfo(np.float32).tiny))
    wrong = np.flatnonzero(predicted != targets)
    order = wrong[np.argsort(-losses[wrong], kind="stable")][:most]
    return [
        Mistake(
            index=int(i),
            input=_name(inputs[i], int(i)),
            true=classes[targets[i]],
            predicted=classes[predicted[i]],
            probability=float(probabilities[i, predicted[i]]),
            true_probability=float(right[i]),
            loss=float(losses[i]),
        )
        for i in order
    ]


def _name(item: object, index: int) -> str:
    return str(item) if isinstance(item, str | Path) else str(getattr(item, "name", "") or f"example {index}")


def write_mistakes(found: Sequence[Mistake], path: Path) -> None:
    """CSV with a header, UTF-8. Raises StorageError; nothing half-written stays."""
    with atomic_file(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(Mistake.__dataclass_fields__)
        writer.writerows([getattr(row, name) for name in Mistake.__dataclass_fields__] for row in found)
