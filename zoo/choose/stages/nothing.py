"""Nobody is within the budget: which limit binds, and what loosening it would buy."""

from __future__ import annotations

import math
from collections.abc import Sequence

from zoo import registry
from zoo.cards import ModelId
from zoo.choose.artefacts import Artefact, Features
from zoo.choose.limits import describe
from zoo.choose.stages.costs import Over, macs
from zoo.choose.stages.probe import evidence_of
from zoo.choose.stages.state import State
from zoo.errors import NothingFitsError, WorkerError, ZooError

NEAREST = 3
"""So many candidates are looked at: each limit's nearest, then the nearest of the rest."""
PASS_S = 30.0
"""A probe is worth its time where its features take no longer than this, by their MACs."""
MACS_PER_S = 5e10
"""Of two cores in float32, roughly (benchmarks/RESULTS.md): for that estimate alone."""


def error(state: State, over: Sequence[Over]) -> ZooError:
    """What to raise. Rows of those looked at get their accuracy."""
    if not over:
        reasons = "; ".join(f"{row.id}: {row.reason}" for row in state.rows.values())
        return WorkerError(f"no candidate could be measured. {reasons}")
    nearest = sorted(over, key=lambda one: (one.broken[0].ratio, one.artefact.id))
    shown = _shown(nearest)
    features = Features(state.judged.inputs, source=state.parts.train.source)
    buys = [_buys(state, one, features) for one in shown]
    state.save()
    first = nearest[0]
    worst = first.broken[0]
    table = f" The table is in {state.folder}/table.md." if state.folder else ""
    return NothingFitsError(
        f"none of {len(over)} candidates fits {describe(state.budget)}. The nearest is {first.artefact.id}: {worst}. "
        f"Raise that limit to {rounded_up(worst.value)} {worst.unit}, or add smaller candidates. "
        f"What loosening buys: {'; '.join(buys)}.{table}",
        limit=worst.limit,
        nearest=first.artefact.id,
    )


def _shown(nearest: Sequence[Over]) -> list[Over]:
    """The nearest, and of each limit the nearest that breaks it alone: what raising that limit lets in first."""
    alone: dict[str, Over] = {}
    for one in nearest:
        if len(one.broken) == 1:
            alone.setdefault(one.broken[0].limit, one)
    chosen = list(dict.fromkeys([id(one) for one in (nearest[0], *alone.values(), *nearest)]))[:NEAREST]
    by_id = {id(one): one for one in nearest}
    return [by_id[number] for number in chosen]


def _buys(state: State, one: Over, features: Features) -> str:
    needed = " and ".join(f"{e.limit} {rounded_up(e.value)} {e.unit}" for e in one.broken)
    unknown = "" if one.measured or not _clocked(state) else ", whose latency and memory were not measured"
    return f"{needed} lets in {one.artefact.id}{unknown} ({_quality(state, one, features)})"


def rounded_up(value: float) -> str:
    """Three digits, and never less than the value: a limit raised to it lets the candidate in."""
    if not 0 < value < math.inf:
        return f"{value:g}"
    digit = 10.0 ** (math.floor(math.log10(value)) - 2)
    return f"{math.ceil(value / digit * (1 - 1e-12)) * digit:.3g}"


def _clocked(state: State) -> bool:
    return state.budget.latency_ms is not None or state.budget.memory_mb is not None


def _quality(state: State, one: Over, features: Features) -> str:
    """Its accuracy by probe, or, where that would take long, what its publisher says."""
    if _cheap(state, one):
        try:
            found = evidence_of(state, one.artefact, features)
        except ZooError as failed:
            return f"no probe: {str(failed).splitlines()[0]}"
        row = state.rows[one.artefact.id]
        state.row(row.id, row.status, row.reason, row.stage, evidence=found)
        return f"accuracy {found.accuracy:.3f} by probe"
    return published(one.artefact)


def _cheap(state: State, one: Over) -> bool:
    found = one.cost.macs or macs(state, one.artefact)
    return found is not None and len(state.judged.inputs) * found / MACS_PER_S <= PASS_S


def published(artefact: Artefact) -> str:
    """What its publisher states, in words."""
    weights = registry.weights_card(ModelId.parse(artefact.id))
    if weights is None or weights.value is None:
        return "not probed, which would take long, and nothing is published of it"
    return f"not probed, which would take long; published: {weights.metric} {weights.value:g} on {weights.dataset}"
