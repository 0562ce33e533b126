"""The rung between probe and fine-tuning: who cannot win any more, and in which order the others go on.

A candidate leaves when the leader is better by more than a margin for certain: when the paired 95 % interval of
(leader less candidate) lies above it. The interval is for what the probes' examples do not tell, the margin for
what a probe does not: fine-tuning moves candidates unequally. The margin is a heuristic, calibrated and no more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from zoo.choose.evidence import Evidence
from zoo.choose.objectives import ACCURACY, NO_TARGETS, Objective
from zoo.engine import Array

MARGIN = 0.05
"""In units of the objective: what a candidate may make up on the leader from probe to fine-tuning. Calibrated in
benchmarks/select.py on two data sets, so that it loses the eventual winner in few splits; not a law."""


@dataclass(frozen=True)
class Climb:
    """leader: the best at the probe.  stay: who goes on, the best first, the leader at their head.
    leave: why not, by id.
    """

    leader: str
    stay: tuple[str, ...]
    leave: Mapping[str, str]


def climb(
    evidence: Mapping[str, Evidence],
    *,
    margin: float = MARGIN,
    objective: Objective = ACCURACY,
    targets: Array = NO_TARGETS,
    logme: Mapping[str, float] | None = None,
) -> Climb:
    """Who goes on from the probe. evidence: not empty, of the same examples each; targets: theirs, int64 [N].

    margin: 0 or more, in units of the objective.  logme: by id; of equals in the objective the larger comes
    first, then the smaller id. It orders, and makes nobody leave.
    """
    names = sorted(evidence)
    ties = {} if logme is None else logme
    gains = objective.gains([evidence[name] for name in names], targets)
    order = sorted(range(len(names)), key=lambda i: (-gains[i], -ties.get(names[i], -np.inf), names[i]))
    ranked = [names[i] for i in order]
    leader = ranked[0]
    gaps = objective.gaps(evidence[leader], [evidence[name] for name in ranked], targets)
    out = gaps.low > margin * objective.unit
    stay = tuple(name for name, gone in zip(ranked, out, strict=True) if not gone)
    most = objective.size(margin * objective.unit)
    leave = {
        ranked[
            i
        ]: f"{objective.behind(leader, gaps.at(i))} by the probe: more than the {most} that fine-tuning "
        "may make up"
        for i in np.flatnonzero(out).tolist()
    }
    return Climb(leader, stay, leave)
