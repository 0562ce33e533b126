"""The whole catalogue by what its publishers say of it: accuracy against size or MACs, or latency where it is known.

These are figures of others, on their own data, each by its own evaluation: they rank architectures for ImageNet, not
for your data. No framework is imported and nothing is downloaded or measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from zoo import registry
from zoo.catalogue import Entry, Wanted, entries
from zoo.choose.device import Source, device_costs
from zoo.choose.pareto import front
from zoo.choose.past_costs import machine_text
from zoo.choose.plots import Plot
from zoo.choose.scatter import Point, scatter
from zoo.cost.host import machine, usable_cores
from zoo.cost.kept import AGREEMENT
from zoo.cost.store import Store
from zoo.errors import InputError, UnknownModelError

By: TypeAlias = Literal["macs", "params", "latency"]
AXES: Mapping[str, str] = {
    "macs": "published MACs of one input, 10^9",
    "params": "published parameters, 10^6",
    "latency": "measured p50 at batch 1, ms",
}
SAID = (
    "Top-1 in percent on ImageNet-1K as the publishers state it, by their own evaluation and at their own input size: "
    "on your data the order may be another. `zoo compare MODEL... --data DATA` measures."
)


@dataclass(frozen=True)
class PublishedRow:
    """One model with one set of weights. top1: percent.  p50_ms: measured at batch 1, or None.

    top1_at: the input size that it was measured at, where that is not the one of macs_g.
    front: whether no other row is at least as accurate and as cheap, and better in one.
    """

    id: str
    top1: float
    top1_at: str
    params_m: float | None
    macs_g: float | None
    p50_ms: float | None
    front: bool


@dataclass(frozen=True)
class Published:
    """rows: the most accurate first.  by: what the front's cost is.  notes: where figures are from, a line each."""

    rows: tuple[PublishedRow, ...]
    by: By
    notes: tuple[str, ...]

    def plot(self) -> Plot:
        """Top-1 against cost. Raises InputError where no row has both."""
        points = [Point(row.id, cost, row.top1) for row in self.rows if (cost := _cost(row, self.by))]
        title = "Published top-1, ImageNet-1K"
        return scatter(points, title=title, x=AXES[self.by], y="top-1, % (published)")


def published(patterns: Sequence[str] = ("*",), *, by: By = "macs", costs: Source | None = None) -> Published:
    """Every model of the catalogue that meets a shell pattern and has a published ImageNet top-1.

    costs: another device's, for p50; else the latest kept figures of this machine, as far as the reference model was
    as fast in their sessions. Raises UnknownModelError for a pattern that meets nothing, InputError where nothing that
    it meets has a figure, or a latency with by="latency"; and as `device_costs`.
    """
    found = {entry.id: entry for pattern in patterns for entry in _named(pattern)}
    with_top1 = [entry for entry in found.values() if entry.top1 is not None]
    if not with_top1:
        raise InputError(
            f"none of the {len(found)} set(s) of weights that match {', '.join(patterns)} has a published ImageNet "
            "top-1: figures of texts are each on another data set. Compare those on yours: --data."
        )
    p50, said = _given(costs) if costs is not None else _kept()
    rows = [_row(entry, p50) for entry in with_top1]
    known = [i for i, row in enumerate(rows) if _cost(row, by)]
    if not known:
        raise InputError(
            f"none of these {len(rows)} has a measured latency here: zoo bench MODEL... first, or --by macs"
        )
    best = {known[i] for i in front([(_cost(rows[k], by) or 0.0, rows[k].top1) for k in known])}
    rows = [_row(entry, p50, on_front=i in best) for i, entry in enumerate(with_top1)]
    rows.sort(key=lambda row: (-row.top1, row.id))
    left = len(found) - len(rows)
    notes = [SAID, *([f"{left} more set(s) of weights state no ImageNet top-1."] if left else [])]
    if dumb := len(rows) - len(known):
        notes.append(
            f"{dumb} of the {len(rows)} have no {by} at the input size of their top-1: none of them is on the front."
        )
    return Published(tuple(rows), by, (*notes, *(said if any(row.p50_ms for row in rows) else ())))


def _named(pattern: str) -> list[Entry]:
    found = entries(Wanted(pattern))
    if not found:
        names = {
            text for f in registry.frameworks() for c in registry.cards(f) for text in (c.name, *c.aliases)
        }
        near = registry.near(pattern.strip("*?"), names)
        guess = f" Did you mean {', '.join(near)}?" if near else ""
        raise UnknownModelError(
            f"no model matches {pattern!r}.{guess} `zoo list` shows all; quote a pattern: 'resnet*'.", near
        )
    return found


def _row(entry: Entry, p50: Mapping[str, float], *, on_front: bool = False) -> PublishedRow:
    params = None if entry.card.params is None else entry.card.params / 1e6
    as_measured = entry.input == entry.card.size  # a latency is of the card's own size
    latency = p50.get(entry.card.id) if as_measured else None
    return PublishedRow(entry.id, entry.top1 or 0.0, entry.top1_at, params, entry.macs_g, latency, on_front)


def _cost(row: PublishedRow, by: By) -> float | None:
    """None where it is unknown, or of another input size than the accuracy: the two do not make a point."""
    if row.top1_at and by != "params":
        return None
    return {"macs": row.macs_g, "params": row.params_m, "latency": row.p50_ms}[by]


def _kept() -> tuple[dict[str, float], tuple[str, ...]]:
    """p50 by model, from this machine's record, and what is to be said of it."""
    here = machine()
    kept = [k for k in Store().latest(here, threads=usable_cores()) if k.reference_ms]
    if not kept:
        return {}, ()
    anchor = kept[0].reference_ms or 0.0
    good = [k for k in kept if abs((k.reference_ms or 0.0) / anchor - 1) <= AGREEMENT]
    p50 = {_model(k.cost.id): k.cost.latency_p50_ms for k in reversed(good) if k.cost.latency_p50_ms}
    said = (
        f"p50: kept figures of this machine ({machine_text(good[0].cost)}; {good[0].cost.threads} threads), of "
        "sessions in which the reference model was within 3 % of the latest's."
    )
    return p50, (said,)


def _given(costs: Source) -> tuple[dict[str, float], tuple[str, ...]]:
    given = device_costs(costs)
    good = [cost for cost in given.costs if cost.latency_p50_ms]
    p50 = {_model(cost.model or cost.id): cost.latency_p50_ms or 0.0 for cost in good}
    return p50, (given.note() + " Found by id: the files may have other weights.",)


def _model(name: str) -> str:
    """An id without its weights, on which latency does not depend; a cut or resized model keeps its options."""
    head, comma, options = name.partition(",")
    return head.partition("@")[0] + comma + options
