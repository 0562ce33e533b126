"""Plots of `zoo tune` and `zoo curve`: a small SVG always, and a page to hover over where plotly is installed.

Both are drawn from one list of series, and neither asks the network for anything: the page holds plotly itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.choose.arms import WORDS
from zoo.files import atomic_file

if TYPE_CHECKING:
    from zoo.choose.curving import Curve
    from zoo.choose.tuning import Tuning

COLOURS = ("#1b6ca8", "#d1495b", "#2e8b57", "#8a5a9e", "#b8860b", "#555555")
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 640, 400, 64, 16, 34, 52


@dataclass(frozen=True)
class Series:
    """x and y of points; low and high of their bars, or empty.  line: joined, dashed or points alone."""

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    line: str = ""  # "", "solid" or "dash"
    colour: int = 0


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
        figure.add_scatter(
            x=series.x, y=series.y, name=series.name, mode="lines" if series.line else "markers",
            line={"dash": series.line or "solid", "color": _colour(series)}, **bars,
        )  # fmt: skip
    figure.update_layout(
        title=plot.title,
        xaxis={"title": plot.x, "type": "log"},
        yaxis={"title": plot.y},
        template="plotly_white",
    )
    page: str = figure.to_html(include_plotlyjs=True, full_html=True)
    return page


# --- SVG
def svg(plot: Plot) -> str:
    """The same, without anything installed."""
    xs = [x for s in plot.series for x in s.x] or [1.0]
    ys = [y for s in plot.series for y in (*s.y, *s.low, *s.high)] or [0.0]
    frame = Frame(*_widened(math.log10(min(xs)), math.log10(max(xs))), *_widened(min(ys), max(ys)))
    parts = [_axes(plot, frame)]
    for series in plot.series:
        parts.append(_series(series, frame))
    parts.append(_legend(plot.series))
    size = f'width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}"'
    style = 'font-family="sans-serif" font-size="12" fill="#333"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} {style}>'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>{"".join(parts)}</svg>\n'
    )


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


def _axes(plot: Plot, frame: Frame) -> str:
    bottom, found = HEIGHT - BOTTOM, []
    decades = range(math.floor(frame.left), math.ceil(frame.right) + 1)
    for value in (digit * 10.0**decade for decade in decades for digit in (1, 2, 5)):
        if frame.left <= math.log10(value) <= frame.right:
            x = frame.x(value)
            found.append(f'<path d="M{x:.1f} {TOP}V{bottom}" stroke="#eee"/>')
            found.append(f'<text x="{x:.1f}" y="{bottom + 17}" text-anchor="middle">{value:g}</text>')
    for value in _ticks(frame.bottom, frame.top):
        y = frame.y(value)
        found.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="#eee"/>')
        found.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{value:.3g}</text>')
    middle = (TOP + bottom) / 2
    found.append(f'<text x="{LEFT}" y="20" font-size="14">{escape(plot.title)}</text>')
    found.append(
        f'<text x="{(LEFT + WIDTH) / 2:.0f}" y="{HEIGHT - 12}" text-anchor="middle">{escape(plot.x)}</text>'
    )
    turned = f'transform="rotate(-90 16 {middle:.0f})" text-anchor="middle"'
    found.append(f'<text x="16" y="{middle:.0f}" {turned}>{escape(plot.y)}</text>')
    return "".join(found)


def _series(series: Series, frame: Frame) -> str:
    points = [(frame.x(x), frame.y(y)) for x, y in zip(series.x, series.y, strict=True)]
    colour = _colour(series)
    if series.line:
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
        dash = ' stroke-dasharray="5 4"' if series.line == "dash" else ""
        return f'<path d="M{path}" fill="none" stroke="{colour}"{dash}/>'
    bars = [
        f'<path d="M{x:.1f} {frame.y(low):.1f}V{frame.y(high):.1f}" stroke="{colour}"/>'
        for (x, _), low, high in zip(points, series.low, series.high, strict=True)
    ]
    return "".join(bars + [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>' for x, y in points])


def _legend(series: Sequence[Series]) -> str:
    found = []
    for number, one in enumerate([s for s in series if not s.line]):
        y = HEIGHT - BOTTOM - 14 - 16 * number
        found.append(f'<circle cx="{WIDTH - RIGHT - 12}" cy="{y - 4}" r="4" fill="{_colour(one)}"/>')
        found.append(f'<text x="{WIDTH - RIGHT - 22}" y="{y}" text-anchor="end">{escape(one.name)}</text>')
    return "".join(found)


def _colour(series: Series) -> str:
    return COLOURS[series.colour % len(COLOURS)]
