"""The rule that picks: quality first, and among equals cost.

A tie needs both: the paired 95 % interval of the difference on the same examples contains 0, AND the gap is
at most `tolerance`. Among the tied the lowest p50 latency wins; latencies closer than half the 95 %
interval of p50 are one latency, and then size and at last the id decide.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from zoo.cards import Cost
from zoo.choose.evidence import Evidence, paired_interval


@dataclass(frozen=True)
class Verdict:
    """order: candidates from the one to ship to the last one to fall back on. tied: with the most accurate.
    reasons: for everybody but the first of `order`, why not.
    """

    order: tuple[str, ...]
    tied: frozenset[str]
    reasons: Mapping[str, str]


def judge(evidence: Mapping[str, Evidence], costs: Mapping[str, Cost], *, tolerance: float) -> Verdict:
    """Order the candidates that are within the budget. evidence and costs have the same, non-empty keys."""
    top = min(evidence, key=lambda name: (-evidence[name].accuracy, _latency(costs[name]), name))
    tied = {name for name in evidence if _ties(evidence[top], evidence[name], tolerance)}
    cheap = _cheapest_first(tied, costs)
    rest = sorted(
        set(evidence) - tied, key=lambda name: (-evidence[name].accuracy, _latency(costs[name]), name)
    )
    chosen = cheap[0]
    reasons = {name: _tied_reason(chosen, name, evidence, costs) for name in cheap[1:]}
    reasons |= {name: _beaten_reason(top, name, evidence) for name in rest}
    return Verdict((*cheap, *rest), frozenset(tied), reasons)


def _ties(best: Evidence, other: Evidence, tolerance: float) -> bool:
    low, high = paired_interval(best.correct, other.correct)
    return low <= 0 <= high and best.accuracy - other.accuracy <= tolerance + 1e-12


def _latency(cost: Cost) -> float:
    return float("inf") if cost.latency_p50_ms is None else cost.latency_p50_ms


def _noise(cost: Cost) -> float:
    """How far its p50 may lie to either side, relative: half its interval, or half its rounds' spread without one."""
    low, high, middle = cost.latency_p50_low_ms, cost.latency_p50_high_ms, cost.latency_p50_ms
    if low is not None and high is not None and middle:
        return (high - low) / middle / 2
    return (cost.spread or 0.0) / 2


def _cheapest_first(names: set[str], costs: Mapping[str, Cost]) -> list[str]:
    """Repeatedly take the cheapest: among those within the fastest one's noise the smallest, then by id."""
    left, order = set(names), []
    while left:
        fastest = min(left, key=lambda name: (_latency(costs[name]), name))
        limit = _latency(costs[fastest]) * (1 + _noise(costs[fastest]))
        equal = [name for name in left if _latency(costs[name]) <= limit]
        order.append(min(equal, key=lambda name: (costs[name].file_bytes or 0, name)))
        left.remove(order[-1])
    return order


def _tied_reason(chosen: str, name: str, evidence: Mapping[str, Evidence], costs: Mapping[str, Cost]) -> str:
    gap = 100 * (evidence[name].accuracy - evidence[chosen].accuracy)
    mine, theirs = _latency(costs[name]), _latency(costs[chosen])
    cost = f"costs more ({mine:.3g} ms against {theirs:.3g} ms)"
    if mine <= theirs * (1 + _noise(costs[chosen])):
        cost = "is as fast within the noise, and larger or later by id"
    return f"a tie in quality ({gap:+.1f} points), and it {cost}"


def _beaten_reason(top: str, name: str, evidence: Mapping[str, Evidence]) -> str:
    gap = 100 * (evidence[top].accuracy - evidence[name].accuracy)
    low, high = paired_interval(evidence[top].correct, evidence[name].correct)
    return f"{gap:.1f} points below {top} (95 % interval {100 * low:.1f} to {100 * high:.1f})"
