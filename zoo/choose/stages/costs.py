"""Who is within the budget: by the graph's own figures before any clock runs, then by measuring those that are left.

What breaks a limit on size, parameters or MACs is never measured: the figure is the file's and would not change.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from zoo.cards import Budget, Cost
from zoo.choose import derived
from zoo.choose.artefacts import Artefact
from zoo.choose.limits import Excess, excesses
from zoo.choose.parts import typical_tokens
from zoo.choose.results import key_of
from zoo.choose.stages.state import State
from zoo.cost.rounds import environment
from zoo.cost.store import cost_of
from zoo.errors import ModelFileError, ZooError
from zoo.process import Worker

STATIC, MEASURED = "static cost", "measured cost"
FACTS_S = 300.0
FIGURES = ("params", "weight_bytes", "macs", "precision", "transposes", "operators")


@dataclass(frozen=True)
class Over:
    """A candidate that breaks limits, the worst first.  measured: whether a clock ran for it."""

    artefact: Artefact
    broken: tuple[Excess, ...]
    cost: Cost
    measured: bool


def static(state: State, artefacts: Sequence[Artefact], over: list[Over]) -> list[Artefact]:
    """Those whose graphs keep the limits; the others go to `over`, with a row."""
    tokens = typical_tokens(state.parts.train, artefacts[0].preprocess)
    state.settings["sequence_length"] = tokens if state.parts.train.kind == "text" else None
    limits = dataclasses.replace(state.budget, latency_ms=None, memory_mb=None)
    if limits == Budget(latency_percentile=limits.latency_percentile):
        return list(artefacts)
    left = []
    with contextlib.ExitStack() as stack:
        facts = _Facts(state, tokens, stack)
        for artefact in artefacts:
            state.say(f"{artefact.id}: its graph's figures")
            cost = facts.cost(artefact)
            if cost.error:
                _fail(state, artefact.id, cost, STATIC)
            elif broken := excesses(cost, limits):
                _drop(state, Over(artefact, tuple(broken), cost, False), over)
            else:
                left.append(artefact)
    return left


@dataclass
class _Facts:
    """Figures of graphs, read in a process apart: a graph that crashes onnx costs a row."""

    state: State
    tokens: int
    stack: contextlib.ExitStack
    worker: Worker | None = None

    def cost(self, artefact: Artefact, *, all_of_it: bool = False) -> Cost:
        """size, and where the budget asks for them (or all_of_it) params and MACs; `error`: they cannot be told."""
        size, budget = artefact.path.stat().st_size, self.state.budget
        blank = Cost(artefact.id, file_bytes=size)
        if budget.macs_g is None and budget.params_m is None and not all_of_it:
            return blank
        key = key_of("facts", derived.digest(artefact.path), self.tokens)
        try:
            found = self.state.results.once_json(key, lambda: self._asked(artefact))
        except ZooError as error:
            return dataclasses.replace(blank, error=str(error).splitlines()[0])
        return dataclasses.replace(blank, **{name: found[name] for name in FIGURES})

    def _asked(self, artefact: Artefact) -> dict[str, Any]:
        if self.worker is None or not self.worker.alive:
            self.worker = self.stack.enter_context(Worker("graph facts", env=environment(1)))
        asked = {"path": str(artefact.path), "sequence_length": self.tokens, "batch_sizes": [1]}
        found: dict[str, Any] = self.worker.call("zoo.cost.facts:describe", asked, timeout_s=FACTS_S)
        if error := found.get("error"):
            raise ModelFileError(str(error))
        return {name: found[name] for name in FIGURES}


def macs(state: State, artefact: Artefact) -> int | None:
    """Of one input; None where they cannot be counted."""
    with contextlib.ExitStack() as stack:
        tokens = state.settings["sequence_length"] or 128
        return _Facts(state, tokens, stack).cost(artefact, all_of_it=True).macs


def measured(state: State, artefacts: Sequence[Artefact], over: list[Over]) -> list[Artefact]:
    """Those that keep all limits, measured in rounds beside each other; the others go to `over`, with a row."""
    costs = _costs(state, artefacts)
    left = []
    for artefact in (artefact for artefact in artefacts if artefact.id in costs):
        cost = costs[artefact.id]
        state.cost(artefact.id, cost)
        if cost.error:
            _fail(state, artefact.id, cost, MEASURED)
        elif broken := excesses(cost, state.budget):
            _drop(state, Over(artefact, tuple(broken), cost, True), over)
        else:
            left.append(artefact)
    return left


def _costs(state: State, artefacts: Sequence[Artefact]) -> Mapping[str, Cost]:
    """By id; kept in the journal once all are there, for they are of one session and compared."""
    if not artefacts:
        return {}

    def work() -> dict[str, Any]:
        tokens = state.settings["sequence_length"] or 128
        found = state.costing.of([(artefact.id, artefact.path) for artefact in artefacts], tokens=tokens)
        return {
            "costs": [dataclasses.asdict(cost) for cost in found.by_id.values()],
            "missing": dict(found.missing),
            "notes": list(found.notes),
        }

    digests = {artefact.id: derived.digest(artefact.path) for artefact in artefacts}
    kept = state.journal.once("costs", lambda: {**work(), "of": digests}, sound=lambda r: r["of"] == digests)
    for text in kept["notes"]:
        state.note(text)
    for name, why in kept["missing"].items():
        state.row(name, "failed", why, MEASURED)
    return {cost.id: cost for cost in map(cost_of, kept["costs"])}


def _fail(state: State, name: str, cost: Cost, stage: str) -> None:
    state.cost(name, cost)
    state.row(name, "failed", cost.error or "", stage)


def _drop(state: State, found: Over, over: list[Over]) -> None:
    over.append(found)
    name = found.artefact.id
    state.cost(name, found.cost)
    stage = MEASURED if found.measured else STATIC
    state.row(name, "over budget", ", ".join(map(str, found.broken)), stage)
