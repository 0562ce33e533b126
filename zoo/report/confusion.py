"""A confusion matrix as a page shows it: figures where they can be read, else a picture and the worst pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from zoo.report.pictures import matrix

MOST_FIGURES, PAIRS = 12, 5
"""Classes up to which every cell is a figure; pairs named beside a matrix."""
COLOUR = (11, 92, 173)


@dataclass(frozen=True)
class Cell:
    """count of examples; share of its row, 0 to 1."""

    count: int
    share: float


@dataclass(frozen=True)
class Confusion:
    """classes: their names.  rows: of MOST_FIGURES classes at most, else empty and `picture` is there.

    pairs: (examples, true, predicted), those most often mixed up.
    """

    classes: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    picture: str
    pairs: tuple[tuple[int, str, str], ...]


def confusion(cells: Sequence[Sequence[int]] | None, classes: Sequence[str]) -> Confusion | None:
    """From (true, predicted, count) of cells above 0; None where there are none. A class without a name: its number."""
    if not cells:
        return None
    size = max(len(classes), 1 + max(max(true, predicted) for true, predicted, _ in cells))
    names = [*classes, *(f"class {i}" for i in range(len(classes), size))]
    counts = np.zeros((size, size), dtype=np.int64)
    for true, predicted, count in cells:
        counts[true, predicted] = count
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    wrong = sorted(((count, t, p) for t, p, count in cells if t != p), key=lambda cell: (-cell[0], *cell[1:]))
    pairs = tuple((count, names[t], names[p]) for count, t, p in wrong[:PAIRS])
    if size > MOST_FIGURES:
        return Confusion(tuple(names), (), matrix(shares.tolist(), COLOUR), pairs)
    rows = tuple(
        tuple(Cell(int(counts[t, p]), round(float(shares[t, p]), 3)) for p in range(size))
        for t in range(size)
    )
    return Confusion(tuple(names), rows, "", pairs)
