"""Cheap scores for everyone within the budget, and who goes on to the probe: most of a selection's candidates end here.

One pass of features a backbone, then a ridge probe whose leave-one-out predictions are exact and cost one
decomposition (`zoo.choose.ridge`), LogME where two are equal. With many examples first on a part of them, which grows;
each rung drops who cannot win any more (`zoo.choose.ladder`). On the parts those stay too that nobody as fast beats:
a tighter budget would want them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from zoo.choose import derived
from zoo.choose.artefacts import Artefact, Features
from zoo.choose.evidence import Evidence
from zoo.choose.ladder import Cheap, Climb, cheap_scores, climb
from zoo.choose.pareto import front
from zoo.choose.parts import Judged
from zoo.choose.results import key_of
from zoo.choose.stages.probe import question_of
from zoo.choose.stages.state import State
from zoo.choose.subsets import limited
from zoo.engine import Array
from zoo.errors import ModelFileError, TrainingError

SCORES = "cheap scores"
FIRST, OF_A_CLASS, GROWTH = 512, 20, 4
"""Examples of the first rung, or so many of each class where that is more; each rung has so many times as many."""


@dataclass
class Scored:
    """What the cheap scores came to. left: who goes on.  out: who does not, judged on all examples."""

    left: list[Artefact]
    out: dict[str, Evidence]


def scored(state: State, fitting: Sequence[Artefact], features: Features) -> Scored:
    """Those that may still win, and those that may not, which have a row.

    A network that gives no finite features leaves as failed.
    """
    left, out = list(fitting), dict[str, Evidence]()
    for judged, rows in rungs(state.judged, state.parts.groups, seed=state.wanted.seed):
        last = judged is state.judged
        cheap = _cheap(state, left, judged, rows, features if last else Features(judged.inputs))
        left = [artefact for artefact in left if artefact.id in cheap]
        if not left:
            break
        stay = _climbed(state, cheap, judged)
        kept = set(stay.stay) | (set() if last else _cheap_and_good(state, cheap))
        for name in (artefact.id for artefact in left if artefact.id not in kept):
            evidence, count = cheap[name].evidence, len(judged.judged_targets)
            reason = f"{stay.leave[name]}, on {count} examples"
            state.row(name, "within", reason, SCORES, evidence=evidence)
            if last:
                out[name] = evidence
        left = [artefact for artefact in left if artefact.id in kept]
    return Scored(left, out)


def rungs(judged: Judged, groups: Array, *, seed: int) -> Iterator[tuple[Judged, Array]]:
    """Stratified parts of what is judged, each within the next, and at last all of it; with their groups int64 [n]."""
    together = _grouped(judged, groups)
    size = max(FIRST, OF_A_CLASS * (int(judged.targets.max()) + 1))
    while 2 * size <= len(judged.inputs):
        yield _part(judged, together, size, seed)
        size *= GROWTH
    yield judged, together


def _grouped(judged: Judged, groups: Array) -> Array:
    """int64 [N]: those of the training examples; what else is judged on is each its own."""
    others = len(judged.inputs) - len(groups)
    return np.concatenate([groups, int(groups.max()) + 1 + np.arange(others)])


def _part(judged: Judged, groups: Array, size: int, seed: int) -> tuple[Judged, Array]:
    """A part of the examples: of one split of both its sides, in proportion."""
    sides = [np.arange(len(judged.inputs))] if len(judged.splits) > 1 else list(judged.splits[0])
    share = size / len(judged.inputs)
    least = 4 * len(np.unique(judged.targets))
    chosen = []
    for side in sides:
        count = min(len(side), max(least, round(share * len(side))))
        chosen.append(side[limited(judged.targets[side], count, seed=seed)])
    rows = np.concatenate(chosen)
    places = np.arange(len(rows))
    # The ridge probe leaves out one by one: of a cross-validation it asks only that all are judged.
    halves = [(places[1::2], places[::2]), (places[::2], places[1::2])]
    splits = halves if len(sides) == 1 else [(places[: len(chosen[0])], places[len(chosen[0]) :])]
    inputs = [judged.inputs[row] for row in rows]
    return Judged(inputs, judged.targets[rows], splits), groups[rows]


def _cheap(
    state: State, artefacts: Sequence[Artefact], judged: Judged, groups: Array, features: Features
) -> dict[str, Cheap]:
    found = {}
    for artefact in artefacts:
        state.say(f"{SCORES} of {artefact.id}, {len(judged.inputs)} examples")

        def work(artefact: Artefact = artefact) -> dict[str, Array]:
            cheap = cheap_scores(features.of(artefact), judged.targets, judged.splits, groups)
            return {**cheap.evidence.arrays, "logme": np.array(cheap.logme)}

        key = key_of("cheap", derived.digest(artefact.path), question_of(state, judged))
        try:
            kept = state.results.once(key, work)
        except (ModelFileError, TrainingError) as error:  # a graph that fails when it is run, or gives NaN
            state.lose(artefact.id, error, SCORES)
            continue
        logme = float(kept.pop("logme"))
        found[artefact.id] = Cheap(Evidence(**kept), logme)
    return found


def _climbed(state: State, cheap: Mapping[str, Cheap], judged: Judged) -> Climb:
    return climb(
        {name: one.evidence for name, one in cheap.items()},
        objective=state.wanted.aim,
        targets=judged.judged_targets,
        tie_break={name: one.logme for name, one in cheap.items()},
    )


def _cheap_and_good(state: State, cheap: Mapping[str, Cheap]) -> set[str]:
    """Who is on the front of accuracy against latency."""
    names = list(cheap)
    costs = {name: state.rows[name].cost for name in names}
    known = [name for name in names if (cost := costs[name]) is not None and cost.latency_p50_ms is not None]
    points = [(float(costs[n].latency_p50_ms or 0.0), cheap[n].evidence.accuracy) for n in known]  # type: ignore[union-attr]
    return {known[place] for place in front(points)}
