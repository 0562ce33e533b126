"""The rungs between cheap scores, probe and fine-tuning: who cannot win any more, and in which order others go on.

A candidate leaves when the leader is better by more than a margin for certain: when the paired 95 % interval of
(leader less candidate) lies above it. The interval is for what the probes' examples do not tell, the margin for
what a probe does not: fine-tuning moves candidates unequally. The margin is a heuristic, calibrated and no more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from zoo.choose.evidence import Evidence, Splits, one_thread
from zoo.choose.logme import logme
from zoo.choose.objectives import ACCURACY, NO_TARGETS, Objective
from zoo.choose.ridge import fitted_on, ridge_evidence
from zoo.choose.spectrum import decompose
from zoo.engine import Array

MARGIN = 0.02
"""In units of the objective: what a candidate may make up on the leader from the cheap score to the end. On two data
sets 0.7 and 0.5 points lose the eventual winner in 5 % of the splits and 1.2 points in none
(benchmarks/select_regret.py); what is more is for data unlike these. A heuristic, not a law."""


@dataclass(frozen=True)
class Cheap:
    """evidence: the ridge probe's, of the judged examples.  logme: of those it was fitted on."""

    evidence: Evidence
    logme: float


@one_thread
def cheap_scores(features: Array, targets: Array, splits: Splits, groups: Array | None = None) -> Cheap:
    """Both cheap scores of one candidate from one decomposition: features [N, D], the rest as `ridge_evidence`."""
    fitted = fitted_on(splits)
    spectrum = decompose(features[fitted])
    evidence = ridge_evidence(features, targets, splits, groups, spectrum=spectrum)
    return Cheap(evidence, logme(spectrum, targets[fitted]))


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
    tie_break: Mapping[str, float] | None = None,
) -> Climb:
    """Who goes on from the probe. evidence: not empty, of the same examples each; targets: theirs, int64 [N].

    margin: 0 or more, in units of the objective.  tie_break: LogME by id; of equals in the objective the larger
    comes first, then the smaller id. It orders, and makes nobody leave.
    """
    names = sorted(evidence)
    ties = {} if tie_break is None else tie_break
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


def called_back(
    out: Mapping[str, Evidence],
    probed: Mapping[str, Evidence],
    *,
    margin: float = MARGIN,
    objective: Objective = ACCURACY,
    targets: Array = NO_TARGETS,
) -> list[str]:
    """Who left by the cheap score (`out`), but is not that far behind the best of the probes: the two may disagree.

    probed: not empty, of the same examples. The best first.
    """
    names = sorted(probed)
    gains = objective.gains([probed[name] for name in names], targets)
    leader = names[int(np.argmax(gains))]
    both = {leader: probed[leader], **{name: found for name, found in out.items() if name not in probed}}
    stay = climb(both, margin=margin, objective=objective, targets=targets).stay
    return [name for name in stay if name != leader]
