"""Plots of `zoo tune`, `zoo curve` and `zoo compare`: SVG and PNG always, and a page to hover over with plotly.

All are drawn from one list of series, and none asks the network for anything: the page holds plotly itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from zoo.choose.arms import WORDS
from zoo.choose.canvas import Canvas, Png, Svg
from zoo.errors import InputError
from zoo.files import atomic_file
from zoo.plots import plotly

if TYPE_CHECKING:
    from zoo.choose.curving import Curve
    from zoo.choose.tuning import Tuning

COLOURS = ("#1b6ca8", "#d1495b", "#2e8b57", "#8a5a9e", "#b8860b", "#555555")
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 640, 400, 64, 16, 34, 52
GRID, RADIUS, LETTER, MANY_DECADES = "#eee", 4.0, 6.2, 5
"""LETTER: pixels that a letter takes, on the mean."""
MANY = 60
"""From so many points on they are drawn half as large, and named on their left, where a front has nothing."""
Box: TypeAlias = tuple[float, float, float, float]


@dataclass(frozen=True)
class Series:
    """x and y of points; low and high of their bars, or empty.  line: joined, dashed or points alone.

    labels: what each point is, or empty; those of the points in `shown` stand beside them.  ring: hollow points.
    """

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    line: str = ""  # "", "solid" or "dash"
    colour: int = 0
    labels: tuple[str, ...] = ()
    shown: frozenset[int] = frozenset()
    ring: bool = False


@dataclass(frozen=True)
class Plot:
    """Both axes' titles carry the units; x is logarithmic."""

    title: str
    x: str
    y: str
    series: tuple[Series, ...]


def tuning(found: Tuning) -> Plot:
    """Accuracy against the seconds of a run, the finalists' seeds as bars from the worst to the best."""
    series = []
    for number, part in enumerate(WORDS):
        rows = [row for row in found.rows if row.arm.part == part and row.accuracies]
        if not rows:
            continue
        series.append(
            Series(
                WORDS[part],
                tuple(max(row.seconds, 1e-3) for row in rows),
                tuple(row.accuracy for row in rows),
                tuple(min(row.accuracies) for row in rows),
                tuple(max(row.accuracies) for row in rows),
                colour=number,
            )
        )
    return Plot(
        f"{short(found.model)}: finalists, bars over seeds", "seconds a run", "accuracy", tuple(series)
    )


def curve(found: Curve) -> Plot:
    """Accuracy against labels for each model: measured with intervals, fitted and extrapolated dashed."""
    series = []
    for number, line in enumerate(found.lines):
        points = line.points
        series.append(
            Series(
                short(line.model),
                tuple(p.labels for p in points),
                tuple(p.accuracy for p in points),
                tuple(p.low for p in points),
                tuple(p.high for p in points),
                colour=number,
            )
        )
        drawn = [points[0].labels * 2 ** (i / 4) for i in range(200)]
        drawn = [n for n in drawn if n <= found.doubled]
        values = tuple(1 - line.fit.error(n) for n in drawn)
        series.append(
            Series(f"{short(line.model)}, fitted", tuple(drawn), values, line="dash", colour=number)
        )
    return Plot("Labels or a bigger model?", "labels", "accuracy", tuple(series))


def short(model: str) -> str:
    """An id with the name of a weights file in place of its path."""
    name, at, weights = model.partition("@")
    return name + at + weights.rpartition("/")[2]


def write(plot: Plot, folder: Path) -> list[Path]:
    """plot.svg, and plot.html where plotly is installed; what was written. Raises StorageError."""
    written = [folder / "plot.svg"]
    with atomic_file(written[0]) as path:
        path.write_text(svg(plot), encoding="utf-8")
    try:
        page = html(plot)
    except ModuleNotFoundError:
        return written
    written.append(folder / "plot.html")
    with atomic_file(written[1]) as path:
        path.write_text(page, encoding="utf-8")
    return written


def html(plot: Plot) -> str:
    """A page of its own. Raises ModuleNotFoundError without plotly."""
    import plotly.graph_objects as go

    figure = go.Figure()
    for series in plot.series:
        bars: dict[str, Any] = {}
        if series.low:
            up = [h - y for h, y in zip(series.high, series.y, strict=True)]
            down = [y - low for low, y in zip(series.low, series.y, strict=True)]
            bars = {"error_y": {"type": "data", "symmetric": False, "array": up, "arrayminus": down}}
        if series.labels:
            bars |= {
                "hovertext": series.labels,
                "hovertemplate": "%{hovertext}<br>%{x:.4g}, %{y:.4g}<extra></extra>",
            }
            bars["text"] = [label if i in series.shown else "" for i, label in enumerate(series.labels)]
            bars["textposition"] = "top center"
        figure.add_scatter(
            x=series.x, y=series.y, name=series.name,
            mode="lines" if series.line else "markers+text" if series.shown else "markers",
            line={"dash": series.line or "solid", "color": _colour(series)},
            marker={"symbol": "circle-open" if series.ring else "circle", "color": _colour(series), "size": 8}, **bars,
        )  # fmt: skip
    figure.update_layout(
        title=plot.title,
        xaxis={"title": plot.x, "type": "log"},
        yaxis={"title": plot.y},
        template="plotly_white",
    )
    page: str = figure.to_html(include_plotlyjs=True, full_html=True)
    return page


# --- SVG and PNG
ENDINGS = (".html", ".png", ".svg")


def check_path(path: Path) -> None:
    """Raise InputError for an ending that no plot is written with, FrameworkMissingError for .html without plotly."""
    if path.suffix.lower() not in ENDINGS:
        raise InputError(
            f"cannot draw {path.name or path}: a plot ends in {', '.join(ENDINGS[:-1])} or {ENDINGS[-1]}"
        )
    if path.suffix.lower() == ".html":
        plotly()


def save(plot: Plot, path: Path) -> None:
    """Write it in the form that the path ends in. Raises as `check_path`, and StorageError."""
    check_path(path)
    form = path.suffix.lower()
    content = png(plot) if form == ".png" else (svg if form == ".svg" else html)(plot).encode()
    with atomic_file(path) as temporary:
        temporary.write_bytes(content)


def svg(plot: Plot) -> str:
    """The same, without anything installed."""
    canvas = Svg(WIDTH, HEIGHT)
    _draw(plot, canvas)
    return canvas.result()


def png(plot: Plot) -> bytes:
    """As the SVG, twice as large."""
    canvas = Png(WIDTH, HEIGHT)
    _draw(plot, canvas)
    return canvas.result()


def _draw(plot: Plot, canvas: Canvas) -> None:
    xs = [x for s in plot.series for x in s.x] or [1.0]
    ys = [y for s in plot.series for y in (*s.y, *s.low, *s.high)] or [0.0]
    frame = Frame(*_widened(math.log10(min(xs)), math.log10(max(xs))), *_widened(min(ys), max(ys)))
    _axes(plot, frame, canvas)
    for series in plot.series:
        _series(series, frame, canvas, RADIUS / 2 if _crowded(plot) else RADIUS)
    _labels(plot, frame, canvas)
    _legend(plot.series, canvas)


@dataclass(frozen=True)
class Frame:
    """What the axes span: log10 of x, and y."""

    left: float
    right: float
    bottom: float
    top: float

    def x(self, value: float) -> float:
        """Pixels from the left."""
        return LEFT + (math.log10(value) - self.left) / (self.right - self.left) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        """Pixels from the top."""
        share = (value - self.bottom) / (self.top - self.bottom)
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)


def _widened(low: float, high: float) -> tuple[float, float]:
    margin = 0.06 * (high - low) or 0.1
    return low - margin, high + margin


def _ticks(low: float, high: float) -> list[float]:
    """Round values, four to ten of them."""
    step = 10 ** math.floor(math.log10(high - low))
    for factor in (1.0, 0.5, 0.2):
        if (high - low) / (step * factor) >= 4:
            break
    step *= factor
    return [i * step for i in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _axes(plot: Plot, frame: Frame, canvas: Canvas) -> None:
    bottom = HEIGHT - BOTTOM
    decades = range(math.floor(frame.left), math.ceil(frame.right) + 1)
    digits = (1, 2, 5) if len(decades) <= MANY_DECADES else (1,)
    for value in (digit * 10.0**decade for decade in decades for digit in digits):
        if frame.left <= math.log10(value) <= frame.right:
            x = frame.x(value)
            canvas.line([(x, TOP), (x, bottom)], GRID)
            canvas.text(x, bottom + 17, f"{value:g}", anchor="middle")
    for value in _ticks(frame.bottom, frame.top):
        y = frame.y(value)
        canvas.line([(LEFT, y), (WIDTH - RIGHT, y)], GRID)
        canvas.text(LEFT - 8, y + 4, f"{value:.3g}", anchor="end")
    canvas.text(LEFT, 20, plot.title, size=14)
    canvas.text((LEFT + WIDTH) / 2, HEIGHT - 12, plot.x, anchor="middle")
    canvas.text(16, (TOP + bottom) / 2, plot.y, anchor="middle", turned=True)


def _crowded(plot: Plot) -> bool:
    return sum(len(series.x) for series in plot.series if not series.line) > MANY


def _series(series: Series, frame: Frame, canvas: Canvas, radius: float) -> None:
    points = [(frame.x(x), frame.y(y)) for x, y in zip(series.x, series.y, strict=True)]
    colour = _colour(series)
    if series.line:
        canvas.line(points, colour, dashed=series.line == "dash")
        return
    for (x, _), low, high in zip(points, series.low, series.high, strict=bool(series.low)):
        canvas.line([(x, frame.y(low)), (x, frame.y(high))], colour)
    hints = series.labels or ("",) * len(points)
    for (x, y), hint in zip(points, hints, strict=True):
        canvas.circle(x, y, radius, colour, hint=hint, open_=series.ring)


def _labels(plot: Plot, frame: Frame, canvas: Canvas) -> None:
    """Beside their points, where they meet no other; one without room is left out. A point's bar stays free."""
    taken: list[Box] = []
    crowded = _crowded(plot)
    for series in plot.series:
        for i in sorted(series.shown):
            x, y, label = series.x[i], series.y[i], series.labels[i]
            width, px, py = LETTER * len(label), frame.x(x), frame.y(y)
            sides = (px + 7, px - 7 - width)
            places = [
                (left, base) for base in (py - 6, py + 15) for left in (sides[::-1] if crowded else sides)
            ]
            for left, base in places:
                box = (left, base - 11, left + width, base + 3)
                inside = left >= LEFT and left + width <= WIDTH - 2 and box[1] >= TOP - 12
                if inside and not any(_meet(box, other) for other in taken):
                    canvas.text(left, base, label)
                    taken.append(box)
                    break


def _meet(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _legend(series: Sequence[Series], canvas: Canvas) -> None:
    for number, one in enumerate([s for s in series if not s.line]):
        y = HEIGHT - BOTTOM - 14 - 16 * number
        canvas.circle(WIDTH - RIGHT - 12, y - 4, RADIUS, _colour(one), open_=one.ring)
        canvas.text(WIDTH - RIGHT - 22, y, one.name, anchor="end")


def _colour(series: Series) -> str:
    return COLOURS[series.colour % len(COLOURS)]
