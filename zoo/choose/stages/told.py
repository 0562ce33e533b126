"""What the report tells beyond the table: each candidate's card and errors, the rule as data, how to do it again."""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping
from typing import Any

from zoo.cards import Cost
from zoo.choose import derived, details
from zoo.choose.artefacts import Artefact, Features
from zoo.choose.evidence import Evidence
from zoo.choose.objectives import scores
from zoo.choose.results import key_of
from zoo.choose.rule import judge
from zoo.choose.stages.probe import question_of
from zoo.choose.stages.ship import Finalists
from zoo.choose.stages.state import State

CURVES = 12
"""Learning curves are of so many, in the order of the verdict: five probes each."""


def tell(state: State, finalists: Finalists, features: Features, *, probed: Collection[str]) -> None:
    """Put `details` into the rows of those that were judged, and ranking and provenance into the settings.

    probed: who was not judged by its cheap score alone; they have learning curves.
    """
    verdict, evidence, by_id = finalists.verdict, finalists.evidence, finalists.artefacts
    first = (
        0 if state.parts.validation is None else len(state.parts.train)
    )  # judged is the validation part alone
    inputs, targets = state.judged.inputs[first:], state.judged.judged_targets
    for place, name in enumerate(verdict.order):
        found, artefact = evidence[name], by_id[name]
        card = details.card(name, artefact.preprocess)
        told = {"card": card, "scores": scores(found, targets, state.wanted.aim)}
        told |= details.mistakes(found.probabilities, targets, inputs)
        if place < CURVES and name in probed:
            state.say(f"learning curve of {name}")
            told["curve"] = _curve(state, artefact, features)
        for key, value in told.items():
            state.detail(name, key, value)
    _settings(state, evidence)


def _curve(state: State, artefact: Artefact, features: Features) -> Any:
    """Of the probe on its features, also where the candidate was fine-tuned afterwards."""
    judged, seed = state.judged, state.wanted.seed

    def work() -> Any:
        return details.learning_curve(features.of(artefact), judged.targets, judged.splits, seed=seed)

    return state.results.once_json(key_of("curve", derived.digest(artefact.path), question_of(state)), work)


def _settings(state: State, evidence: Mapping[str, Evidence]) -> None:
    costs: dict[str, Cost] = {name: cost for name in evidence if (cost := state.rows[name].cost) is not None}
    aim, targets = state.wanted.aim, state.judged.judged_targets
    rule = functools.partial(judge, tolerance=state.wanted.tolerance, objective=aim, targets=targets)

    def gain(found: Evidence) -> float:
        return float(aim.gains([found], targets)[0])

    parts = {"train": state.parts.train, "validation": state.parts.validation, "test": state.parts.test}
    state.settings["ranking"] = details.ranking(evidence, costs, rule, gain)
    state.settings |= details.provenance(parts, list(evidence))
