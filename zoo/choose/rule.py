"""The rule that picks: quality first, and among equals cost.

A tie needs both: the paired 95 % interval of the difference on the same examples contains 0, AND the gap is
at most `tolerance`. Among the tied the lowest p50 latency wins; latencies closer than half the 95 %
interval of p50 are one latency, and then size and at last the id decide.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from zoo.cards import Cost
from zoo.choose.evidence import Evidence
from zoo.choose.need import Need, too_little
from zoo.choose.objectives import ACCURACY, NO_TARGETS, Objective
from zoo.choose.paired import Gap
from zoo.engine import Array


@dataclass(frozen=True)
class Verdict:
    """order: candidates from the one to ship to the last one to fall back on. tied: with the best in quality.
    reasons: for everybody but the first of `order`, why not.  top: the best in quality.
    need: what it would take to tell the first of `order` from its rival, where the data cannot; else None. Rivals
    are who may be better after all: of the tied the one that may be so by most, and the best of those that are
    cheaper and were not shown to be worse.
    """

    order: tuple[str, ...]
    tied: frozenset[str]
    reasons: Mapping[str, str]
    top: str = ""
    need: Need | None = None


def judge(
    evidence: Mapping[str, Evidence],
    costs: Mapping[str, Cost],
    *,
    tolerance: float,
    objective: Objective = ACCURACY,
    targets: Array = NO_TARGETS,
) -> Verdict:
    """Order the candidates that are within the budget. evidence and costs have the same, non-empty keys.

    tolerance: the largest gap that can be a tie, in units of the objective.  targets: int64 [N], of the judged
    examples; the accuracy needs none.  O(M log M) for M candidates.
    """
    names = list(evidence)
    gains = dict(zip(names, objective.gains(list(evidence.values()), targets).tolist(), strict=True))
    ranked = sorted(names, key=lambda name: (-gains[name], _latency(costs[name]), name))
    top = ranked[0]
    found = objective.gaps(evidence[top], [evidence[name] for name in ranked], targets)
    gaps = {name: found.at(index) for index, name in enumerate(ranked)}
    tied = {name for name in ranked if _ties(gaps[name], tolerance * objective.unit)}
    cheap = _cheapest_first(tied, costs)
    rest = [name for name in ranked if name not in tied]
    reasons = {
        name: _tied_reason(cheap[0], name, gains[name] - gains[cheap[0]], costs, objective)
        for name in cheap[1:]
    }
    reasons |= {name: objective.behind(top, gaps[name]) for name in rest}
    most = _latency(costs[cheap[0]])
    unsure = [name for name in rest if gaps[name].low <= 0 and _latency(costs[name]) < most]
    rivals = _nearest(cheap, evidence, objective, targets) + unsure[:1]
    need = too_little(cheap[0], rivals, evidence, tolerance=tolerance, objective=objective, targets=targets)
    return Verdict((*cheap, *rest), frozenset(tied), reasons, top, need)


def _ties(gap: Gap, tolerance: float) -> bool:
    return gap.low <= 0 <= gap.high and gap.value <= tolerance + 1e-12


def _nearest(
    cheap: list[str], evidence: Mapping[str, Evidence], objective: Objective, targets: Array
) -> list[str]:
    """Of those that tie with the pick, the first of `cheap`, the one that may be the better by most."""
    if len(cheap) < 2:
        return []
    found = objective.gaps(evidence[cheap[0]], [evidence[name] for name in cheap[1:]], targets)
    return [cheap[1 + int(found.low.argmin())]]


def _latency(cost: Cost) -> float:
    return float("inf") if cost.latency_p50_ms is None else cost.latency_p50_ms


def _noise(cost: Cost) -> float:
    """How far its p50 may lie to either side, relative: half its interval, or half its rounds' spread without one."""
    low, high, middle = cost.latency_p50_low_ms, cost.latency_p50_high_ms, cost.latency_p50_ms
    if low is not None and high is not None and middle:
        return (high - low) / middle / 2
    return (cost.spread or 0.0) / 2


def _cheapest_first(names: Collection[str], costs: Mapping[str, Cost]) -> list[str]:
    """Repeatedly take the cheapest: among those within the fastest one's noise the smallest, then by id."""
    by_latency = sorted(names, key=lambda name: (_latency(costs[name]), name))
    by_size = sorted(names, key=lambda name: (costs[name].file_bytes or 0, name))
    rank = {name: number for number, name in enumerate(by_size)}
    latencies = [_latency(costs[name]) for name in by_latency]
    left = _Least([rank[name] for name in by_latency])
    order: list[str] = []
    for place, fastest in enumerate(by_latency):
        equal = bisect_right(latencies, latencies[place] * (1 + _noise(costs[fastest])))
        while left.holds(place):
            order.append(by_size[left.pop(equal)])
    return order


class _Least:
    """Numbers in places, the least of the first so many taken out in O(log n): a tree of minima."""

    def __init__(self, numbers: list[int]) -> None:
        self.size = len(numbers)
        self.gone = self.size
        self.place = {number: place for place, number in enumerate(numbers)}
        self.tree = [self.gone] * self.size + numbers
        for node in range(self.size - 1, 0, -1):
            self.tree[node] = min(self.tree[2 * node], self.tree[2 * node + 1])

    def holds(self, place: int) -> bool:
        """Whether the number in a place is still there."""
        return self.tree[self.size + place] < self.gone

    def pop(self, end: int) -> int:
        """Take out the least number of the places before `end`; one of them must still hold its own."""
        least, low, high = self.gone, self.size, self.size + end
        while low < high:
            if low & 1:
                least = min(least, self.tree[low])
                low += 1
            if high & 1:
                high -= 1
                least = min(least, self.tree[high])
            low, high = low // 2, high // 2
        node = self.size + self.place[least]
        self.tree[node] = self.gone
        while node > 1:
            node //= 2
            self.tree[node] = min(self.tree[2 * node], self.tree[2 * node + 1])
        return least


def _tied_reason(chosen: str, name: str, gain: float, costs: Mapping[str, Cost], objective: Objective) -> str:
    mine, theirs = _latency(costs[name]), _latency(costs[chosen])
    cost = f"costs more ({mine:.3g} ms against {theirs:.3g} ms)"
    if mine <= theirs * (1 + _noise(costs[chosen])):
        cost = "is as fast within the noise, and larger or later by id"
    return f"a tie in quality ({objective.signed(gain)}), and it {cost}"
