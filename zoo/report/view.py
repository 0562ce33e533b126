"""From the content of selection.json to what a page shows: figures as text, shares as widths, points as pixels.

Everything here is plain data for the template, which escapes all of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from zoo.errors import ZooError
from zoo.report.confusion import Confusion, confusion
from zoo.report.pictures import thumbnail

Content: TypeAlias = Mapping[str, Any]
Read: TypeAlias = Callable[[Content], float | None]
NONE = "\u2013"
GROUPS = {"over budget": "over", "unreachable": "failed"}
"""The class of a status that shares its colour with another."""


@dataclass(frozen=True)
class Axis:
    """One kind of cost. key: its name on the page; field: its limit's in a budget; form: how a figure is written."""

    key: str
    label: str
    unit: str
    field: str
    form: str
    read: Read

    def text(self, cost: Content | None) -> str:
        """The figure with its unit left out, or a dash."""
        return number(None if cost is None else self.read(cost), self.form)


def _scaled(name: str, unit: float) -> Read:
    return lambda cost: None if cost.get(name) is None else cost[name] / unit


def axes(budget: Content) -> tuple[Axis, ...]:
    """The five that a budget can limit; latency at the percentile that it limits."""
    percentile = budget.get("latency_percentile", 50)
    return (
        Axis(
            "latency", f"Latency p{percentile}", "ms", "latency_ms", ".3g",
            _scaled(f"latency_p{percentile}_ms", 1),
        ),
        Axis("size", "Size", "MB", "size_mb", ".1f", _scaled("file_bytes", 1e6)),
        Axis("memory", "Memory", "MB", "memory_mb", ".0f", _scaled("peak_memory_mb", 1)),
        Axis("macs", "MACs", "G", "macs_g", ".3g", _scaled("macs", 1e9)),
        Axis("params", "Params", "M", "params_m", ".3g", _scaled("params", 1e6)),
    )  # fmt: skip


def number(value: float | None, form: str) -> str:
    """A figure, or a dash where nobody measured it; a large one without an exponent."""
    if value is None:
        return NONE
    text = format(value, form)
    return f"{value:.0f}" if "e" in text and abs(value) >= 1 else text


def interval(low: float | None, high: float | None, form: str) -> str:
    """`0.797 to 0.861`, or nothing."""
    return "" if low is None or high is None else f"{low:{form}} to {high:{form}}"


@dataclass(frozen=True)
class Figure:
    """One of the key figures. used: share of its limit, or None without one."""

    label: str
    value: str
    unit: str = ""
    note: str = ""
    used: float | None = None


def key_figures(content: Content) -> list[Figure]:
    """Quality by choosing and on the test part, then the cost of the shipped file beside its limits."""
    chosen = next((row for row in content["candidates"] if row["id"] == content["best"]), None)
    found = []
    if chosen is not None and chosen["accuracy"] is not None:
        note = interval(chosen["accuracy_low"], chosen["accuracy_high"], ".3f")
        found.append(Figure("Accuracy", f"{chosen['accuracy']:.3f}", note=f"95 %: {note}" if note else ""))
    test = content.get("test") or {}
    if test:
        note = f"{interval(test['accuracy_low'], test['accuracy_high'], '.3f')}, of {test['n']} never seen"
        found.append(Figure("On the test part", f"{test['accuracy']:.3f}", note=note))
    cost = content.get("cost") or (chosen or {}).get("cost") or {}
    for axis in axes(content["budget"]) if cost else ():
        limit, value = content["budget"].get(axis.field), axis.read(cost)
        if limit is None and (value is None or axis.key in ("macs", "params")):
            continue
        used = None if limit is None or value is None else value / limit
        note = "" if limit is None else f"limit {limit:g} {axis.unit}"
        found.append(Figure(axis.label, number(value, axis.form), axis.unit, note, used))
    return found


@dataclass(frozen=True)
class Curve:
    """A learning curve in pixels. band: the intervals as an SVG polygon; ticks: (pixel, text)."""

    width: int
    height: int
    line: str
    band: str
    dots: tuple[tuple[float, float, str], ...]
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    said: str


WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 380, 190, 38, 12, 10, 36


def curve(points: Sequence[Content]) -> Curve | None:
    """Examples on a logarithmic axis; None where there are not two points to draw a line through."""
    if len(points) < 2:
        return None
    sizes = [math.log(point["examples"]) for point in points]
    lows, highs = (
        [p.get("low", p["accuracy"]) for p in points],
        [p.get("high", p["accuracy"]) for p in points],
    )
    bottom, top, step = _round(min(lows), max(highs))

    def x(value: float) -> float:
        return round(LEFT + (value - sizes[0]) / ((sizes[-1] - sizes[0]) or 1) * (WIDTH - LEFT - RIGHT), 1)

    def y(value: float) -> float:
        return round(HEIGHT - BOTTOM - (value - bottom) / (top - bottom) * (HEIGHT - TOP - BOTTOM), 1)

    xs = [x(size) for size in sizes]
    upper = [f"{a},{y(high)}" for a, high in zip(xs, highs, strict=True)]
    lower = [f"{a},{y(low)}" for a, low in zip(xs, lows, strict=True)]
    texts = [f"{p['accuracy']:.3f} with {p['examples']} examples" for p in points]
    count = round((top - bottom) / step)
    return Curve(
        WIDTH,
        HEIGHT,
        " ".join(f"{a},{y(p['accuracy'])}" for a, p in zip(xs, points, strict=True)),
        " ".join([*upper, *reversed(lower)]),
        tuple((a, y(p["accuracy"]), said) for a, p, said in zip(xs, points, texts, strict=True)),
        tuple((a, str(p["examples"])) for a, p in zip(xs, points, strict=True)),
        tuple((y(bottom + i * step), f"{bottom + i * step:.2g}") for i in range(count + 1)),
        "; ".join(texts),
    )


def _round(low: float, high: float) -> tuple[float, float, float]:
    """The ends of an axis of three to six round steps."""
    step = next(s for s in (0.02, 0.05, 0.1, 0.2, 0.5) if (high - low) / s <= 5)
    return math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step, step


@dataclass(frozen=True)
class Mistake:
    """One error. picture: a key of Pictures; text: what stands there in its place or beside it."""

    picture: str
    text: str
    name: str
    true: str
    predicted: str
    confidence: str


class Pictures:
    """Every picture once, however many candidates err on it: {key: (data URI, width, height)}."""

    def __init__(self) -> None:
        self.found: dict[str, str] = {}
        self._keys: dict[str, str] = {}

    def key(self, error: Content) -> str:
        """The key of an error's picture, "" where it has none or its file is gone."""
        name = str(error.get("path") or error.get("thumbnail") or "")
        if name and name not in self._keys:
            try:
                made = error.get("thumbnail") or thumbnail(Path(name))
            except ZooError:
                self._keys[name] = ""
            else:
                self._keys[name] = f"e{len(self.found)}"
                self.found[self._keys[name]] = made
        return self._keys.get(name, "")


@dataclass(frozen=True)
class Candidate:
    """A row with all that unfolds under it."""

    id: str
    anchor: str
    status: str
    group: str
    stage: str
    reason: str
    quality: float | None
    accuracy: str
    interval: str
    whisker: tuple[float, float, float] | None
    costs: tuple[tuple[str, str, float | None], ...]
    card: tuple[tuple[str, str, str], ...]
    measured: tuple[tuple[str, str], ...]
    scores: tuple[tuple[str, str], ...]
    warning: str
    curve: Curve | None
    confusion: Confusion | None
    errors: tuple[Mistake, ...]

    @property
    def details(self) -> bool:
        """Whether there is anything to unfold."""
        return bool(self.card or self.measured or self.scores or self.curve or self.confusion or self.errors)


def candidates(content: Content, pictures: Pictures) -> list[Candidate]:
    """Every row, in the order of selection.json."""
    rows = content["candidates"]
    judged = [row for row in rows if row["status"] != "baseline"]
    ends = [v for r in judged for v in (r["accuracy_low"], r["accuracy_high"]) if v is not None]
    scale = (min(ends), max(ends)) if ends else (0.0, 1.0)
    classes = [str(name) for name in content["settings"].get("classes", ())]
    return [_candidate(row, i, content["budget"], scale, classes, pictures) for i, row in enumerate(rows)]


def _candidate(
    row: Content,
    place: int,
    budget: Content,
    scale: tuple[float, float],
    classes: Sequence[str],
    pictures: Pictures,
) -> Candidate:
    details, cost = row.get("details") or {}, row["cost"]
    errors = tuple(_mistake(error, classes, pictures) for error in details.get("errors", ()))
    return Candidate(
        id=row["id"],
        anchor=f"c{place}",
        status=row["status"],
        group=GROUPS.get(str(row["status"]), str(row["status"])),
        stage=row.get("stage", ""),
        reason=row["reason"],
        quality=row["accuracy"],
        accuracy=number(row["accuracy"], ".3f"),
        interval=interval(row["accuracy_low"], row["accuracy_high"], ".3f"),
        whisker=_whisker(row, scale),
        costs=tuple((a.label, a.text(cost), None if cost is None else a.read(cost)) for a in axes(budget)),
        card=_card(details.get("card") or {}),
        measured=() if cost is None else _measured(cost),
        scores=_scores(details),
        warning=(cost or {}).get("warning") or "",
        curve=curve(details.get("curve", ())),
        confusion=confusion(details.get("confusion"), classes),
        errors=errors,
    )


def _whisker(row: Content, scale: tuple[float, float]) -> tuple[float, float, float] | None:
    """Left end, width and middle in percent of the column."""
    low, high, value = row["accuracy_low"], row["accuracy_high"], row["accuracy"]
    if low is None or high is None or value is None:
        return None
    span = (scale[1] - scale[0]) or 1.0
    left, right, middle = (round(100 * (v - scale[0]) / span, 1) for v in (low, high, value))
    if middle < 0 or middle > 100:  # a baseline, far below: the scale is that of the candidates
        return None
    left, right = max(left, 0.0), min(right, 100.0)
    return left, round(right - left, 1), middle


def _mistake(error: Content, classes: Sequence[str], pictures: Pictures) -> Mistake:
    key, path = pictures.key(error), error.get("path")
    text = error.get("text", "") or (
        "" if key or not path else f"{Path(path).name}: the picture cannot be read any more"
    )

    def name(place: int) -> str:
        return classes[place] if place < len(classes) else f"class {place}"

    return Mistake(
        key, text, Path(path).name if path else "", name(error["true"]), name(error["predicted"]),
        f"{error['confidence']:.2f}",
    )  # fmt: skip


CARD = {
    "licence": "Licence", "source": "Source", "weights": "Weights", "published": "Published", "family": "Family",
    "preprocessing": "Preprocessing", "download_mb": "Download", "paper": "Paper", "note": "Note",
}  # fmt: skip
LINKS = {"source": "url", "published": "figure_source", "paper": "paper"}


def _card(card: Content) -> tuple[tuple[str, str, str], ...]:
    """(label, text, link or ""): what the publisher says. A licence that nobody states is said to be unknown."""
    if not card:
        return ()
    known = {"licence": "unknown", **card}
    rows = []
    for key, label in CARD.items():
        if (value := known.get(key)) in (None, ""):
            continue
        text = f"{value:.1f} MB" if key == "download_mb" else str(value)
        link = str(known.get(LINKS.get(key, ""), "") or "")
        rows.append((label, text, link if link.startswith("https://") else ""))
    return tuple(rows)


def _measured(cost: Content) -> tuple[tuple[str, str], ...]:
    """The cost in full, what was not measured left out."""

    def said(name: str, form: str, unit: str, scale: float = 1.0) -> str:
        value = cost.get(name)
        return "" if value is None else f"{number(value / scale, form)} {unit}".rstrip()

    spread = interval(cost.get("latency_p50_low_ms"), cost.get("latency_p50_high_ms"), ".3g")
    p50 = said("latency_p50_ms", ".3g", "ms")
    rows = [("Latency p50", f"{p50} (95 %: {spread})" if p50 and spread else p50)]
    for name in ("p90", "p99"):
        value, bound = said(f"latency_{name}_ms", ".3g", "ms"), said(f"latency_{name}_high_ms", ".3g", "ms")
        rows.append((f"Latency {name}", f"{value} (at most {bound})" if value and bound else value))
    tokens = said("sequence_length", ".0f", "tokens")
    rows += [
        ("Throughput", said("throughput_per_s", ".0f", "a second")),
        ("File", said("file_bytes", ".1f", "MB", 1e6)),
        ("Peak memory", said("peak_memory_mb", ".0f", "MB")),
        ("Loading", said("load_ms", ".0f", "ms")),
        ("MACs", said("macs", ".3g", "G", 1e9)),
        ("Parameters", said("params", ".3g", "M", 1e6)),
        ("Precision", str(cost.get("precision") or "")),
        ("Input", tokens or " ".join((cost.get("inputs") or {}).values())),
        ("Threads", said("threads", ".0f", "")),
        ("Failed", str(cost.get("error") or "")),
    ]
    return tuple((label, text) for label, text in rows if text)


def _scores(details: Content) -> tuple[tuple[str, str], ...]:
    """Every objective with its interval, and what fine-tuning brought."""
    found = {**(details.get("scores") or {})}
    tuned = details.get("fine_tuned")
    found |= {f"Fine-tuned: {k}": v for k, v in tuned.items()} if isinstance(tuned, Mapping) else {}
    return tuple(
        (str(key).replace("_", " "), _said(value)) for key, value in found.items() if value is not None
    )


def _said(value: object) -> str:
    """A number; a number with its interval; or what else it is."""
    if isinstance(value, Mapping) and {"value", "low", "high"} <= set(value):
        return f"{number(value['value'], '.3f')} ({number(value['low'], '.3f')} to {number(value['high'], '.3f')})"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_said(item)}" for key, item in value.items())
    return number(value, ".4g") if isinstance(value, int | float) else str(value)
