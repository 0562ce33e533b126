"""Evidence for those within the budget: a linear probe on each one's own features, and baselines without a backbone.

A probe's evidence follows from the graph, the inputs, labels, splits and seed: a run that asks for it again, after a
kill or with another budget, finds it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from zoo.choose import baselines, derived
from zoo.choose.artefacts import Artefact, Features
from zoo.choose.evidence import Evidence, cross_validate
from zoo.choose.parts import Judged
from zoo.choose.results import key_of
from zoo.choose.stages.state import State
from zoo.data.dataset import input_digests
from zoo.errors import ModelFileError, TrainingError, WorkerError, ZooError

PROBE = "probe"
SAVED_S = 5.0


def probed(
    state: State, fitting: Sequence[Artefact], features: Features, evidence: dict[str, Evidence]
) -> list[Artefact]:
    """Those whose probe could be fitted; their evidence goes to `evidence`."""
    left = []
    for artefact in fitting:
        state.say(f"probe {artefact.id}")
        try:
            found = evidence_of(state, artefact, features)
        except (ModelFileError, TrainingError) as error:  # a graph that fails when it is run, or gives NaN
            state.lose(artefact.id, error, PROBE)
            continue
        evidence[artefact.id] = found
        state.row(artefact.id, "within", "", PROBE, evidence=found)
        left.append(artefact)
        state.save(every_s=SAVED_S)
    return left


def put_baselines(state: State) -> None:
    """Their rows: what needs no backbone."""
    for name, baseline in baselines.for_kind(state.parts.train.kind).items():
        state.say(f"baseline {name}")
        work = functools.partial(baseline, state.judged, seed=state.wanted.seed)
        found = _kept(state, [name, question_of(state)], work)
        state.row(name, "baseline", "no backbone", PROBE, evidence=found)


def evidence_of(state: State, artefact: Artefact, features: Features) -> Evidence:
    """A probe's, on out-of-fold or validation examples."""
    judged, seed = state.judged, state.wanted.seed

    def work() -> Evidence:
        return cross_validate(features.of(artefact), judged.targets, judged.splits, seed=seed)

    return _kept(state, [derived.digest(artefact.path), question_of(state)], work)


def question_of(state: State, judged: Judged | None = None) -> str:
    """Digest of what is judged and how; judged: a part, None: all of it."""
    judged = judged or state.judged
    splits = [array for pair in judged.splits for array in pair]
    return key_of(input_digests(judged.inputs), judged.targets, *splits, state.wanted.seed)


def _kept(state: State, facts: Sequence[Any], work: Callable[[], Evidence]) -> Evidence:
    return Evidence(**state.results.once(key_of("evidence", *facts), lambda: work().arrays))


def none_left(state: State) -> ZooError:
    """What to raise where no candidate could be probed."""
    reasons = "; ".join(f"{r.id}: {r.reason}" for r in state.rows.values() if r.status == "failed")
    return WorkerError(f"no candidate could be probed. {reasons}")
