"""Too little data to tell candidates apart: how many labels would?

A tie that rests on a wide interval is no finding that two candidates are equally good. The question is then for
the number of judged examples on which a difference that matters would show.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from zoo.choose.evidence import Evidence
from zoo.choose.objectives import ACCURACY, NO_TARGETS, Accuracy, Objective
from zoo.choose.paired import Gap
from zoo.engine import Array
from zoo.probability import Z95

POWER, Z_POWER = 0.8, 0.8416212335729143
"""The chance that the difference shows, where it is there, and its quantile of the normal distribution."""


@dataclass(frozen=True)
class Need:
    """pick, rival: whom the data cannot tell apart.  gap: of the rival less the pick, in the objective's unit.

    difference: what should show.  examples: judged so far.  labels: judged examples needed for it.
    worse, better, shown: the interval's ends and the difference in words.
    """

    pick: str
    rival: str
    gap: Gap
    difference: float
    examples: int
    labels: int
    worse: str
    better: str
    shown: str

    def sentence(self) -> str:
        """What to tell the user."""
        wanted = _rounded(self.labels)
        return (
            f"Too little data to tell {self.pick} from {self.rival}, which may be anything from {self.worse} worse to "
            f"{self.better} better (95 % interval on {self.examples} examples): a difference of {self.shown} would "
            f"show on about {wanted:,} ({100 * POWER:.0f} % power), {_rounded(wanted - self.examples):,} more labels."
        )


def too_little(
    pick: str,
    rivals: Sequence[str],
    evidence: Mapping[str, Evidence],
    *,
    tolerance: float,
    objective: Objective = ACCURACY,
    targets: Array = NO_TARGETS,
) -> Need | None:
    """Of the rivals the one that may be better than the pick by most, if by more than the tolerance; else None.

    Also None where the examples at hand are enough to see a gap of the tolerance (or the larger one observed), so
    that what was not seen is likely not there; and with a tolerance of 0 between candidates that answer alike,
    which no number of labels tells apart.
    """
    found = [need_between(pick, rival, evidence, tolerance, objective, targets) for rival in rivals]
    needed = [need for need in found if need is not None]
    return max(needed, key=lambda need: need.gap.high, default=None)


def need_between(
    pick: str,
    rival: str,
    evidence: Mapping[str, Evidence],
    tolerance: float,
    objective: Objective,
    targets: Array,
) -> Need | None:
    """See `too_little`."""
    gap = objective.gap(evidence[rival], evidence[pick], targets)
    difference = max(tolerance * objective.unit, abs(gap.value))
    unsure = gap.low <= 0 <= gap.high and max(gap.high, -gap.low) > difference
    if not unsure or difference == 0:
        return None
    count = len(evidence[pick].correct)
    if isinstance(objective, Accuracy):
        labels = labels_for(_discordance(evidence[pick], evidence[rival]), difference)
    else:
        each = objective.values(evidence[rival], targets) - objective.values(evidence[pick], targets)
        labels = labels_for_means(float(each.std(ddof=1)), difference)
    if labels <= count:
        return None
    worse, better, shown = (objective.size(value) for value in (gap.low, gap.high, difference))
    return Need(pick, rival, gap, difference, count, labels, worse, better, shown)


def _discordance(first: Evidence, second: Evidence) -> float:
    """Share of examples that one of them answers right, half an observation added to each cell as in the interval."""
    return (int(np.count_nonzero(first.correct != second.correct)) + 1) / (len(first.correct) + 2)


def labels_for(discordance: float, difference: float) -> int:
    """Examples on which McNemar's two-sided test at 5 % shows a difference in accuracy with 80 % power.

    n = (1.96 sqrt(p) + 0.84 sqrt(p - d^2))^2 / d^2 for discordance p and difference d: Connor, "Sample size for
    testing differences in proportions for the paired-sample design", Biometrics 43 (1987), p. 209.
    """
    share = max(discordance, difference)  # two candidates cannot differ by more than they disagree
    root = Z95 * math.sqrt(share) + Z_POWER * math.sqrt(share - difference**2)
    return math.ceil((root / difference) ** 2)


def labels_for_means(deviation: float, difference: float) -> int:
    """The same for a mean of paired differences: n = ((1.96 + 0.84) s / d)^2, for their standard deviation s."""
    return math.ceil(((Z95 + Z_POWER) * deviation / difference) ** 2)


def _rounded(number: int) -> int:
    """To two digits, upwards: no more is known."""
    step = int(10 ** max(0, len(str(max(number, 1))) - 2))
    return math.ceil(number / step) * step
