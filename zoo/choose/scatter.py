"""Quality against cost as a plot: a point a model, a colour a framework, and the Pareto front as a line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from zoo.choose.pareto import front
from zoo.choose.plots import Plot, Series, short
from zoo.choose.rows import Row
from zoo.errors import InputError

FEW = 12
"""Up to so many points, each has its name beside it; of more, those of the front."""
GREY = 5


@dataclass(frozen=True)
class Point:
    """One model. cost > 0.  low, high: of its quality, or None."""

    name: str
    cost: float
    quality: float
    low: float | None = None
    high: float | None = None

    @property
    def group(self) -> str:
        """Its framework; files are their own group."""
        head, colon, _ = self.name.partition(":")
        return head if colon and "/" not in head else "files"

    def label(self, whole: bool) -> str:
        """Its name; where there is little room the architecture alone: the colour tells the framework."""
        name = short(self.name)
        if whole or self.group == "files":
            return name
        return name.partition(":")[2].partition("@")[0].rpartition("/")[2]


def scatter(
    points: Sequence[Point], *, title: str, x: str, y: str, floor: tuple[str, float] | None = None
) -> Plot:
    """floor: name and quality of what needs no backbone, a dashed line. Raises InputError for no points."""
    if not points:
        raise InputError(
            "there is nothing to plot: no model has both a quality and a cost. The table says what is missing."
        )
    best = [points[i] for i in front([(p.cost, p.quality) for p in points])]
    few = len(points) <= FEW
    named = frozenset(p.name for p in (points if few else best))
    series = [Series("Pareto front", *_steps(best), line="solid", colour=GREY)] if len(best) > 1 else []
    if floor is not None:
        ends = (min(p.cost for p in points), max(p.cost for p in points))
        series.append(Series(floor[0], ends, (floor[1], floor[1]), line="dash", colour=GREY))
    groups = list(dict.fromkeys(p.group for p in points))
    for number, group in enumerate(groups):
        members = [p for p in points if p.group == group]
        series.append(_group(members, group, named, number, few))
    below = f"; dashed: {floor[0]}" if floor else ""
    return Plot(f"{title} (line: Pareto front{below})", x, y, tuple(series))


def _group(points: Sequence[Point], name: str, named: frozenset[str], colour: int, few: bool) -> Series:
    bars = all(p.low is not None and p.high is not None for p in points)
    return Series(
        name,
        tuple(p.cost for p in points),
        tuple(p.quality for p in points),
        tuple(p.low or 0.0 for p in points) if bars else (),
        tuple(p.high or 0.0 for p in points) if bars else (),
        colour=colour,
        labels=tuple(p.label(few) for p in points),
        shown=frozenset(i for i, p in enumerate(points) if p.name in named),
    )


def _steps(best: Sequence[Point]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Corners between the points of the front: what a budget between two of them buys is the cheaper one's."""
    xs, ys = [best[0].cost], [best[0].quality]
    for p in best[1:]:
        xs += [p.cost, p.cost]
        ys += [ys[-1], p.quality]
    return tuple(xs), tuple(ys)


def of_rows(rows: Sequence[Row], *, machine: str) -> Plot:
    """Accuracy with its interval against p50 at batch 1. machine: what the costs are of. Raises InputError."""
    points = [
        Point(row.id, row.cost.latency_p50_ms, row.accuracy, row.accuracy_low, row.accuracy_high)
        for row in rows
        if row.cost and row.cost.latency_p50_ms and row.accuracy is not None
    ]
    floors = [(row.id, row.accuracy) for row in rows if row.status == "baseline" and row.accuracy is not None]
    floor = max(floors, key=lambda pair: pair[1], default=None)
    x = f"p50 at batch 1, ms ({machine})"
    return scatter(points, title="Accuracy and latency", x=x, y="accuracy, 95 % interval", floor=floor)
