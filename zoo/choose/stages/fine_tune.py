"""Real fine-tuning for the few that may still win, where `within` leaves time for it.

A probe says what a frozen backbone can do. Of each network that is near the best probe several learning rates train
all layers for few epochs, the better ones for more (successive halving, `zoo.choose.halving`), promoted on a part
carved out of the training examples. The best of each network then trains once for each split of the probes and
predicts the same held examples, so that differences are paired. What ships is trained on all training examples.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from zoo.cards import ModelId, Precision, fingerprint
from zoo.choose import spool
from zoo.choose.arms import Arm, make_arms
from zoo.choose.artefacts import Artefact
from zoo.choose.evidence import Evidence
from zoo.choose.experiment import LEAST, Bench
from zoo.choose.finals import rank, score
from zoo.choose.halving import Score, promote, rungs
from zoo.choose.stages.graphs import ranges_of
from zoo.choose.stages.state import State
from zoo.data import Dataset
from zoo.engine import Array
from zoo.errors import ExportError, InputError, TrainingError, WorkerError
from zoo.files import atomic_file, sha256_file
from zoo.graph import OnnxModel, Settings
from zoo.graph.precision import write_variant

FINE_TUNING = "fine-tuning"
MARGIN = 0.03
"""A probe that is further below the best than this, in the objective's unit, is not fine-tuned: a heuristic, for
fine-tuning may gain more.
"""
MOST = 3
EPOCHS, BATCH = (9, 3), 32
"""Of a full run: the first that fits into the time."""
PRIOR_STEP = 8.0
"""An epoch's seconds over those of single inferences in ONNX Runtime, before one was timed: forward, backward, and a
framework that is two to three times as slow."""


@dataclass(frozen=True)
class Tuned:
    """A candidate fine-tuned. network: the float32 one that was trained.  evidence: on the probes' judged examples, in
    the candidate's precision.  seconds: of all runs of the network.
    """

    network: str
    precision: Precision
    arm: Arm
    epochs: int
    evidence: Evidence
    seconds: float

    def details(self, probe: Evidence) -> dict[str, Any]:
        """For a row."""
        low, high = self.evidence.interval
        return {
            "setting": self.arm.key,
            "epochs": self.epochs,
            "accuracy": self.evidence.accuracy,
            "accuracy_low": low,
            "accuracy_high": high,
            "probe_accuracy": probe.accuracy,
            "seconds": self.seconds,
        }


@dataclass(frozen=True)
class Contender:
    """A network near the best probe. id: in float32, perhaps no candidate itself.  members: ids of its candidates by
    precision.  epoch_s: of all layers on the training examples, estimated.
    """

    id: str
    members: Mapping[Precision, str]
    epoch_s: float


def fine_tuned(
    state: State, fitting: Sequence[Artefact], evidence: Mapping[str, Evidence]
) -> dict[str, Tuned]:
    """By candidate. Empty without `within`, without time, or where nobody came through."""
    if state.left_s is None:
        state.note(
            "Heads are linear probes on frozen backbones. --within TIME fine-tunes the few that may still win."
        )
        return {}
    few = contenders(state, fitting, evidence)
    fewest = int(np.bincount(state.parts.train.targets).min())
    if fewest < LEAST:
        state.note(f"Nothing was fine-tuned: a class has {fewest} training examples, too few to validate on.")
        return {}
    state.say("data for fine-tuning")
    _spool(state)
    with contextlib.ExitStack() as stack:
        return _Race(state, few, stack).run()


def contenders(
    state: State, fitting: Sequence[Artefact], evidence: Mapping[str, Evidence]
) -> list[Contender]:
    """At most MOST networks within MARGIN of the best probe in the objective, the best first, of equals the fastest."""
    aim, names = state.wanted.aim, sorted(evidence)
    values = aim.gains([evidence[name] for name in names], state.judged.judged_targets)
    gains = dict(zip(names, values.tolist(), strict=True))
    least = max(gains.values()) - MARGIN * aim.unit
    near: dict[str, dict[Precision, str]] = {}
    for name in sorted(artefact.id for artefact in fitting):
        if gains[name] >= least:
            model = ModelId.parse(name)
            network = str(dataclasses.replace(model, precision=None))
            near.setdefault(network, {})[model.precision or "fp32"] = name

    def rank_of(network: str) -> tuple[float, float, str]:
        names = near[network].values()
        return -max(gains[name] for name in names), min(map(latency, names)), network

    def latency(name: str) -> float:
        cost = state.rows[name].cost
        return (cost.latency_p50_ms if cost else None) or 10.0

    ranked = sorted(near, key=rank_of)[:MOST]
    step_s = PRIOR_STEP * len(state.parts.train) / 1000
    return [Contender(n, near[n], step_s * max(map(latency, near[n].values()))) for n in ranked]


def _spool(state: State) -> None:
    """Training examples, then those of the validation part, as a worker reads them."""
    train, judged = state.parts.train, state.judged
    whole = Dataset(train.kind, list(judged.inputs), judged.targets, train.classes, train.source)
    portable = not state.executor.shares_files
    spool.write(whole, state.work, "train", portable=portable)
    spool.write(whole.subset([0]), state.work, "judged", portable=portable)


@dataclass(frozen=True)
class Plan:
    """How many contenders, for how many epochs in a full run."""

    few: int
    epochs: int


@dataclass
class _Race:
    """Halving, then the splits. Every run is a step of the journal. spent_s: of each contender's runs."""

    state: State
    few: list[Contender]
    stack: contextlib.ExitStack
    benches: dict[str, Bench] = field(default_factory=dict)
    spent_s: dict[str, float] = field(default_factory=dict)
    arms: list[Arm] = field(default_factory=lambda: make_arms(("all",), ("adamw",), None))

    def run(self) -> dict[str, Tuned]:
        """By candidate."""
        kept = self.state.journal.once("tune/plan", self._planned)
        if kept["few"] == 0:
            self.state.note(kept["why"])
            return {}
        plan = Plan(kept["few"], kept["epochs"])
        self.few = self.few[: plan.few]
        best = self._halved(plan)
        found: dict[str, Tuned] = {}
        for contender in self.few:
            if contender.id in best:
                found |= self._judged(contender, best[contender.id], plan)
        return found

    # --- how much of it fits
    def _planned(self) -> dict[str, Any]:
        """The first plan that fits into the time, with an epoch of each contender timed first where that fits."""
        if sum(c.epoch_s for c in self.few) < (self.state.left_s or 0.0) / 4:
            self.few = [self._timed(contender) for contender in self.few]
        left = self.state.left_s or 0.0
        for plan in (Plan(few, epochs) for epochs in EPOCHS for few in range(len(self.few), 0, -1)):
            if self.needs(plan) <= left:
                return {"few": plan.few, "epochs": plan.epochs, "why": ""}
        least = self.needs(Plan(1, EPOCHS[-1]))
        why = (
            f"Nothing was fine-tuned: {max(0.0, left):.0f} s were left of --within, and the least of it takes about "
            f"{least:.0f} s here."
        )
        return {"few": 0, "epochs": 0, "why": why}

    def needs(self, plan: Plan) -> float:
        """Seconds of a plan: halving, a run for each split, and one on all examples."""
        epoch_s = float(np.mean([c.epoch_s for c in self.few[: plan.few]]))
        left, total = plan.few * len(self.arms), 0.0
        for rung in rungs(left, plan.few, plan.epochs):
            total += left * rung.epochs
            left = rung.keep
        fitted = sum(len(part) for part, _ in self.state.judged.splits) / len(self.state.parts.train)
        return epoch_s * (total + plan.few * plan.epochs * fitted + plan.epochs)

    def _timed(self, contender: Contender) -> Contender:
        result = self._trained(contender, self.arms[0], 1, "timed")
        return dataclasses.replace(contender, epoch_s=max(result["seconds"], 1e-3))

    # --- runs
    def _halved(self, plan: Plan) -> dict[str, Arm]:
        """Each contender's best learning rate; none for one whose runs all failed."""
        keys = {f"{c.id}|{arm.key}": (c, arm) for c in self.few for arm in self.arms}
        strata = {key: contender.id for key, (contender, _) in keys.items()}
        left, scores = list(keys), dict[str, Score | None]()
        for number, rung in enumerate(rungs(len(keys), plan.few, plan.epochs)):
            results = {key: self._trained(*keys[key], rung.epochs, f"rung {number}") for key in left}
            scores = {key: score(result) for key, result in results.items()}
            left = promote(scores, strata, rung.keep)
        found: dict[str, Arm] = {}
        for key in sorted(left, key=lambda key: rank(scores[key]), reverse=True):
            contender, arm = keys[key]
            found.setdefault(contender.id, arm)
        return found

    def _trained(self, contender: Contender, arm: Arm, epochs: int, step: str) -> dict[str, Any]:
        """A run on the training examples, a fifth of them kept back to promote by."""
        self.state.say(f"{step} ({epochs} epochs): {contender.id}, {arm.key}")
        only = list(range(len(self.state.parts.train)))

        def work() -> dict[str, Any]:
            bench = self._bench(contender.id)
            return bench.run({**_asked(self.state, bench, arm, epochs), "only": only})

        return self._step(contender, f"tune/{step}/{contender.id}/{arm.key}", work)

    def _judged(self, contender: Contender, arm: Arm, plan: Plan) -> dict[str, Tuned]:
        """A run for each split, its network in each precision of the contender; empty where one fails."""
        state = self.state
        parts: dict[Precision, list[tuple[Array, Array]]] = {}
        for number, split in enumerate(state.judged.splits):
            state.say(f"fine-tune {contender.id}, split {number + 1} of {len(state.judged.splits)}")
            result = self._split(contender, arm, plan.epochs, split, number)
            if "failed" in result:
                state.note(f"{contender.id} could not be fine-tuned: {result['failed']}")
                return {}
            for precision in contender.members:
                values = np.load(state.work / _file(contender, number, precision))
                parts.setdefault(precision, []).append((split[1], values))
        spent_s, targets = self.spent_s[contender.id], state.judged.targets
        found = {}
        for precision, name in contender.members.items():
            evidence = paired_evidence(targets, parts[precision])
            found[name] = Tuned(contender.id, precision, arm, plan.epochs, evidence, spent_s)
        return found

    def _split(
        self, contender: Contender, arm: Arm, epochs: int, split: tuple[Array, Array], number: int
    ) -> dict[str, Any]:
        """Files of probabilities for each precision, and their digests."""
        state, (fitted, held) = self.state, split
        files = {p: state.work / _file(contender, number, p) for p in contender.members}
        graph = state.work / "split.onnx" if set(files) - {"fp32"} else None

        def work() -> dict[str, Any]:
            bench = self._bench(contender.id)
            asked = {**_asked(state, bench, arm, epochs), "fitted": fitted.tolist(), "held": held.tolist()}
            asked["probabilities"] = str(files["fp32"]) if "fp32" in files else None
            written = [path for path in (files.get("fp32"), graph) if path is not None]
            names = [path.name for path in written]
            result = bench.run({**asked, "export_to": graph and str(graph)}, what="fold", writes=names)
            if "failed" in result:
                return result
            if graph is not None:
                _predict(state, graph, files, fitted, held)
            return {**result, "sha256": {p: _digest(path) for p, path in files.items()}}

        def sound(result: Mapping[str, Any]) -> bool:
            return "failed" in result or result["sha256"] == {p: _digest(path) for p, path in files.items()}

        return self._step(contender, f"tune/split {number}/{contender.id}", work, sound)

    def _step(
        self,
        contender: Contender,
        key: str,
        work: Callable[[], dict[str, Any]],
        sound: Callable[[Any], bool] = lambda result: True,
    ) -> dict[str, Any]:
        def tried() -> dict[str, Any]:
            try:
                return work()
            except (WorkerError, TrainingError, ExportError, InputError) as error:
                return {"failed": str(error).splitlines()[0], "seconds": 0.0}

        result: dict[str, Any] = self.state.journal.once(key, tried, sound=sound)
        self.spent_s[contender.id] = self.spent_s.get(contender.id, 0.0) + result["seconds"]
        return result

    def _bench(self, network: str) -> Bench:
        """One worker a network, as loading takes longer than an epoch."""
        if network not in self.benches:
            self.benches[network] = self.stack.enter_context(_opened(self.state, network))
        return self.benches[network]


def _opened(state: State, network: str) -> Bench:
    """In a process of its own here, or on the cluster that the run works on."""
    away = None if state.executor.shares_files else state.executor
    return Bench(network, state.work, state.costing.threads, away)


def _asked(state: State, bench: Bench, arm: Arm, epochs: int) -> dict[str, Any]:
    """All layers, by an arm."""
    recipe = arm.recipe(epochs=epochs, batch_size=BATCH, seed=state.wanted.seed)
    return {"last": len(bench.ask("describe")["blocks"]), "recipe": dataclasses.asdict(recipe)}


def _file(contender: Contender, number: int, precision: Precision) -> str:
    return f"split-{fingerprint([contender.id, number, precision])}.npy"


def _predict(state: State, graph: Path, files: Mapping[Precision, Path], fitted: Array, held: Array) -> None:
    """Probabilities of `held` in each precision below float32, int8 ranges found on `fitted` alone."""
    judged, train = state.judged, state.parts.train
    data = Dataset(train.kind, [judged.inputs[i] for i in fitted], judged.targets[fitted], train.classes)
    for precision, path in files.items():
        if precision != "fp32":
            model = in_precision(graph, precision, data, seed=state.wanted.seed)
            with atomic_file(path) as new:
                np.save(new, model.predict([judged.inputs[i] for i in held]))


def in_precision(graph: Path, precision: Precision, data: Dataset, *, seed: int) -> OnnxModel:
    """A float32 graph, head and all, in another precision, beside it. Raises what `write_variant` does."""
    path = graph.with_name(f"{graph.stem}-{precision}.onnx")
    calibration = ranges_of(data, seed) if precision == "int8-static" else None
    write_variant(graph, Settings(precision), path, calibration)
    return OnnxModel(path)


def _digest(path: Path) -> str:
    return sha256_file(path) if path.is_file() else ""


def paired_evidence(targets: Array, parts: Sequence[tuple[Array, Array]]) -> Evidence:
    """Of (positions held, their probabilities float32 [n, C]) of every split, in the order of the examples."""
    held = np.concatenate([positions for positions, _ in parts])
    order = np.argsort(held)
    probabilities = np.concatenate([values for _, values in parts])[order]
    return Evidence.of(probabilities, targets[held[order]])


def train_on_all(state: State, tuned: Tuned) -> OnnxModel:
    """The network trained on all training examples, in the candidate's precision; its run is in work/model.

    Raises TrainingError, WorkerError, ExportError.
    """
    state.say(f"fine-tune {tuned.network} on all training examples")
    graph = state.work / "tuned.onnx"

    def work() -> dict[str, Any]:
        with _opened(state, tuned.network) as bench:
            asked = {**_asked(state, bench, tuned.arm, tuned.epochs), "held": [], "probabilities": None}
            asked["fitted"] = list(range(len(state.parts.train)))
            asked |= {"save_to": str(state.work / "model"), "export_to": str(graph)}
            result = bench.ask("fold", asked, writes=("model", graph.name))
        if "failed" in result:
            raise TrainingError(f"{tuned.network}, trained on all examples: {result['failed']}")
        return {**result, "sha256": _digest(graph)}

    state.journal.once(
        f"tune/all/{tuned.network}", work, sound=lambda result: result["sha256"] == _digest(graph)
    )
    if tuned.precision == "fp32":
        return OnnxModel(graph)
    return in_precision(graph, tuned.precision, state.parts.train, seed=state.wanted.seed)
