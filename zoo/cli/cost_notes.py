"""What `zoo bench` says about its figures: how far each can be trusted, under which conditions, and who is tied."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from zoo.cards import Cost
from zoo.cli import tables


def latency_cells(cost: Cost) -> tuple[str, str, str, str]:
    """p50, its interval, p90 and p99 with their upper bounds; of a blank one, the runs that it needs."""
    from zoo.cost.summary import runs_needed

    missing = {percent: f"needs {runs}" for percent, runs in runs_needed(cost).items()}
    low, high = cost.latency_p50_low_ms, cost.latency_p50_high_ms
    return (
        missing.get(50, tables.number(cost.latency_p50_ms)),
        "" if low is None or high is None else f"{tables.number(low)}-{tables.number(high)}",
        missing.get(90, _bounded(cost.latency_p90_ms, cost.latency_p90_high_ms)),
        missing.get(99, _bounded(cost.latency_p99_ms, cost.latency_p99_high_ms)),
    )


def _bounded(value: float | None, high: float | None) -> str:
    return tables.number(value) + ("" if high is None else f" ({tables.number(high)})")


def conditions(costs: Sequence[Cost]) -> Iterator[str]:
    """What the figures mean and under which conditions they hold, a line each. costs: measured ones, not empty."""
    from zoo.choose.past_costs import threads_text

    yield (
        "95 %: interval of p50 over the rounds. In brackets: what p90 and p99 do not exceed, with 99 % confidence "
        "(MLPerf's early-stopping rule)." + _more_runs(costs)
    )
    first = costs[0]
    parts = [threads_text(first)]
    if tokens := next((c.sequence_length for c in costs if c.sequence_length), None):
        parts.append(f"texts of {tokens} tokens")
    parts.append("weights " + _by_value([(c.precision or "of unknown precision", c.id) for c in costs]))
    parts.append("inputs " + _by_value([(_inputs(c), c.id) for c in costs]))
    yield f"{', '.join(parts)}; {', '.join(f'{k} {v}' for k, v in first.machine.items())}."


def _more_runs(costs: Sequence[Cost]) -> str:
    """How long to measure for the percentiles that are blank."""
    from zoo.cost.summary import runs_needed

    seconds = [
        max(runs_needed(cost).values()) * cost.batch_size / cost.throughput_per_s
        for cost in costs
        if runs_needed(cost) and cost.throughput_per_s
    ]
    if not seconds:
        return ""
    enough = math.ceil(1.2 * max(seconds))
    return f" A percentile that needs more runs is blank: --min-seconds {enough} would do for all."


def _inputs(cost: Cost) -> str:
    return " ".join(f"{name} {shape}" for name, shape in cost.inputs.items()) or "unknown"


def _by_value(pairs: Sequence[tuple[str, str]]) -> str:
    """ "float32", or "float32 (a, b), int8 (c)" where they differ."""
    found: dict[str, dict[str, None]] = {}
    for value, name in pairs:
        found.setdefault(value, {})[name] = None
    if len(found) == 1:
        return next(iter(found))
    return ", ".join(f"{value} ({', '.join(names)})" for value, names in found.items())


def doubts(costs: Sequence[Cost]) -> Iterator[str]:
    """Ties and warnings, a line each."""
    seen: set[frozenset[object]] = set()
    pairs = []
    for cost in costs:
        others = [o for o in cost.ties if frozenset({cost.id, o, cost.batch_size}) not in seen]
        seen |= {frozenset({cost.id, other, cost.batch_size}) for other in others}
        if others:
            batch = f" at batch {cost.batch_size}" if cost.batch_size > 1 else ""
            pairs.append(f"{cost.id} with {', '.join(others)}{batch}")
    if pairs:
        yield f"Tied, for their p50 intervals overlap: {'; '.join(pairs)}."
    yield from _warnings(costs)


def _warnings(costs: Sequence[Cost]) -> Iterator[str]:
    """Each reason once, with the rows that it is about."""
    about: dict[str, list[str]] = {}
    for cost in costs:
        for reason in (cost.warning or "").split("; "):
            if reason:
                about.setdefault(reason, []).append(f"{cost.id} at batch {cost.batch_size}")
    for reason, rows in about.items():
        whose = "" if len(rows) == len(costs) else f" ({', '.join(rows)})"
        yield f"Warning: {reason}{whose}."
