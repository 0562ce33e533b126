"""The outcome of `zoo.curve`: accuracy by labels for each model, the fit, and which lever pays."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from zoo.choose.paired import Gap, Kind, kind_of
from zoo.choose.power_law import Fits, PowerLaw, fit, interval, resample
from zoo.engine import Array
from zoo.files import atomic_file
from zoo.train import wilson_interval

CURVE_COLUMNS = ("model", "params M", "labels", "accuracy", "95 %", "fitted")
FILE, DRAWS = "curve.json", 1000
WIDEST_END = 0.5
"""A curve whose end lies within so much of the error of today, and no more, is told by the sizes."""


@dataclass(frozen=True)
class Point:
    """Accuracy with so many labels, the mean over seeds, and its 95 % interval over seeds and examples."""

    labels: int
    accuracy: float
    low: float
    high: float


@dataclass(frozen=True)
class Line:
    """fit: err(n).  doubling: accuracy won by twice the labels, extrapolated.  end: interval of the error that
    endless labels would leave.  identified: whether the sizes tell how the curve goes on.
    foretold: error at the largest size by a fit to the others, with its interval.
    """

    model: str
    params: int
    points: tuple[Point, ...]
    fit: PowerLaw
    doubling: Gap
    end: tuple[float, float]
    identified: bool
    foretold: Gap | None

    @property
    def labels(self) -> int:
        """All there are."""
        return self.points[-1].labels

    def sentence(self) -> str:
        """What doubling brings, and how far the fit is to be believed."""
        said = f"{self.model}: from {self.labels} to {2 * self.labels} labels, {_signed(self.doubling)} (extrapolated)"
        low, high = (100 * value for value in self.end)
        if self.identified:
            said += f"; endless labels would leave an error of {low:.1f} to {high:.1f} %"
        else:
            said += f"; these sizes do not tell where the curve ends (an error of {low:.1f} to {high:.1f} %)"
        if self.foretold is not None:
            measured, told = 1 - self.points[-1].accuracy, self.foretold
            hit = "as" if told.low <= measured <= told.high else "NOT as"
            said += (
                f". Tried: the smaller sizes foretell an error of {100 * told.value:.1f} % "
                f"({100 * told.low:.1f} to {100 * told.high:.1f}) with {self.labels}, {hit} measured "
                f"({100 * measured:.1f} %)"
            )
        return said + "."


@dataclass(frozen=True)
class Lever:
    """What the first model wins by twice the labels (extrapolated), and by being replaced (measured).

    more: the first less the second, and its kind.
    """

    model: str
    other: str
    bigger: bool
    doubling: Gap
    replacing: Gap
    more: Gap
    kind: Kind

    def sentence(self) -> str:
        """Which lever pays."""
        size = "bigger" if self.bigger else "smaller"
        said = (
            f"Doubling the labels of {self.model} is worth {_signed(self.doubling)}; the {size} model {self.other} "
            f"{_signed(self.replacing)}: "
        )
        ends = {
            "better": "more labels pay more",
            "worse": f"the {size} model pays more",
            "tie": "as much, within the tolerance",
            "undecided": f"which pays more is undecided ({_signed(self.more)} for the labels)",
        }
        return f"{said}{ends[self.kind]}."


@dataclass(frozen=True)
class Curve:
    """lines in the order of the models; levers for each model after the first."""

    lines: tuple[Line, ...]
    levers: tuple[Lever, ...]
    data: dict[str, Any]
    settings: dict[str, Any]
    notes: tuple[str, ...] = ()
    folder: Path | None = None

    @property
    def doubled(self) -> int:
        """As far as curves are drawn."""
        return 2 * max(line.labels for line in self.lines)

    def table(self) -> list[tuple[str, ...]]:
        """Cells in the order of CURVE_COLUMNS, one row a model and size."""
        return [
            (
                line.model,
                f"{line.params / 1e6:.3g}",
                str(point.labels),
                f"{point.accuracy:.3f}",
                f"{point.low:.3f}-{point.high:.3f}",
                f"{1 - line.fit.error(point.labels):.3f}",
            )
            for line in self.lines
            for point in line.points
        ]

    def summary(self) -> str:
        """Levers first, then each curve, then the notes."""
        said = [lever.sentence() for lever in self.levers] + [line.sentence() for line in self.lines]
        return "\n".join([*said, *self.notes])

    def to_dict(self) -> dict[str, Any]:
        """JSON, the form of curve.json."""
        return {
            "lines": [{**asdict(line), "sentence": line.sentence()} for line in self.lines],
            "levers": [{**asdict(lever), "sentence": lever.sentence()} for lever in self.levers],
            "data": self.data,
            "settings": self.settings,
            "notes": list(self.notes),
        }

    def write(self, folder: Path) -> None:
        """curve.json. Raises StorageError."""
        with atomic_file(folder / FILE) as path:
            path.write_text(json.dumps(self.to_dict(), indent=1), encoding="utf-8")


def analyse(
    models: list[tuple[str, int]], sizes: list[int], correct: Array, *, tolerance: float, seed: int
) -> tuple[tuple[Line, ...], tuple[Lever, ...]]:
    """Lines and levers. models: (id, params); correct: bool [models, S, K sizes, M examples]."""
    wrong = ~correct
    drawn = resample(wrong, DRAWS, seed=seed)
    means = wrong.mean(axis=(1, 3))
    # The whole data first, then its resamples: row 0 is the estimate, the others its interval.
    errors = np.concatenate([means[None], drawn])
    weights = [1 / (mean * (1 - mean) + 1 / wrong.shape[-1]) for mean in means]
    fits = [fit(sizes, errors[:, m], weights[m]) for m in range(len(models))]
    lines = tuple(
        _line(models[m], sizes, errors[:, m], fits[m], weights[m], examples=wrong.shape[-1])
        for m in range(len(models))
    )
    gains = [_doubling(found) for found in fits]
    levers = [
        _lever(models[0], models[m], gains[0], errors[:, 0, -1] - errors[:, m, -1], tolerance)
        for m in range(1, len(models))
    ]
    return lines, tuple(levers)


def _line(
    model: tuple[str, int], sizes: list[int], errors: Array, found: Fits, weights: Array, *, examples: int
) -> Line:
    points = []
    for k, size in enumerate(sizes):
        right = float(1 - errors[0, k])
        drawn, alone = interval(1 - errors[1:, k]), wilson_interval(round(right * examples), examples)
        # Resamples of runs without an error have none: Wilson's interval of the examples is the least there is.
        points.append(Point(size, right, min(drawn[0], alone[0]), max(drawn[1], alone[1])))
    foretold = None
    if len(sizes) > 3:
        before = fit(sizes[:-1], errors[:, :-1], weights[:-1])
        foretold = gap(before.error(sizes[-1]))
    resamples = Fits(found.a[1:], found.b[1:], found.c[1:], found.scale)
    end = interval(resamples.a)
    told = resamples.identified and end[1] - end[0] <= WIDEST_END * float(errors[0, -1])
    return Line(
        *model,
        points=tuple(points),
        fit=found.one(0),
        doubling=gap(_doubling(found)),
        end=end,
        identified=told,
        foretold=foretold,
    )


def _doubling(found: Fits) -> Array:
    """Accuracy won from the largest size to twice it, for each fit."""
    return found.error(found.scale) - found.error(2 * found.scale)


def _lever(
    first: tuple[str, int], other: tuple[str, int], doubling: Array, replacing: Array, tolerance: float
) -> Lever:
    more = gap(doubling - replacing)
    bigger = other[1] > first[1]
    return Lever(first[0], other[0], bigger, gap(doubling), gap(replacing), more, kind_of(more, tolerance))


def gap(values: Array) -> Gap:
    """The estimate in row 0, and the middle 95 % of the resamples after it."""
    return Gap(float(values[0]), *interval(values[1:]))


def _signed(found: Gap) -> str:
    return f"{100 * found.value:+.1f} points ({100 * found.low:.1f} to {100 * found.high:.1f})"
