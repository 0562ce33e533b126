"""The winner becomes what ships: the head in its graph, measured again, evaluated once on the test part, written."""

from __future__ import annotations

import dataclasses
import shlex
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from zoo.cards import Cost, ModelId
from zoo.choose.artefacts import Artefact, Features
from zoo.choose.candidates import is_run
from zoo.choose.evidence import Evidence, fit_linear_head
from zoo.choose.limits import describe, excesses
from zoo.choose.objectives import ACCURACY
from zoo.choose.rule import Verdict
from zoo.choose.selection import Selection
from zoo.choose.stages.fine_tune import Tuned, train_on_all
from zoo.choose.stages.state import State
from zoo.cost.store import cost_of
from zoo.errors import ExportError, NothingFitsError, TrainingError, WorkerError, ZooError
from zoo.files import atomic_file, atomic_folder, sha256_file
from zoo.graph import OnnxModel, write_predict_script
from zoo.process import Worker
from zoo.train import evaluate

SHIPPED, MODEL = "shipped", "model"
SAVE_S = 900.0


@dataclass(frozen=True)
class Finalists:
    """Who may ship.  tuned: those that were fine-tuned and are better so; they ship with their fine-tuned weights."""

    verdict: Verdict
    evidence: Mapping[str, Evidence]
    artefacts: Mapping[str, Artefact]
    tuned: Mapping[str, Tuned]


def shipped(state: State, finalists: Finalists, features: Features) -> Selection:
    """The first candidate of the order whose finished file is still within the budget."""
    failed: ZooError | None = None
    for name in finalists.verdict.order:
        try:
            made = _finished(state, finalists, features, name)
            cost = _cost(state, name, made)
        except (TrainingError, ExportError, WorkerError) as error:
            failed = error
            state.lose(name, error, SHIPPED)
            continue
        if broken := excesses(cost, state.budget):
            reason = "measured again with its head: " + ", ".join(map(str, broken))
            state.cost(name, cost)
            state.row(name, "over budget", reason, SHIPPED)
            continue
        return _written(state, finalists, name, made, cost)
    if failed is not None:
        raise failed
    raise NothingFitsError(
        f"every candidate went over {describe(state.budget)} when measured again: the limit is within the "
        "noise of this machine; raise it a little"
    )


def _finished(state: State, finalists: Finalists, features: Features, name: str) -> OnnxModel:
    """Its graph with a head that was fitted on all training examples, or fine-tuned on them as a whole."""
    train = state.parts.train
    if name in finalists.tuned:
        return train_on_all(state, finalists.tuned[name])
    state.say(f"head of {name}")
    x = features.of(finalists.artefacts[name])[: len(train)]
    weight, bias = fit_linear_head(x, train.targets, len(train.classes), seed=state.wanted.seed)
    np.savez(state.work / "head.npz", weight=weight, bias=bias)
    parent = OnnxModel(finalists.artefacts[name].path)
    return parent.with_head(weight, bias, labels=train.classes, path=state.work / "shipped.onnx")


def _cost(state: State, name: str, made: OnnxModel) -> Cost:
    """Of the finished file itself, of the last minutes. A device's figures are of the candidate; its size is known."""
    digest = sha256_file(made.path)
    if state.costing.given is not None and (there := state.rows[name].cost) is not None:
        return dataclasses.replace(there, file_bytes=made.path.stat().st_size, sha256=digest)

    def work() -> dict[str, Any]:
        found = state.costing.again(name, made.path, tokens=state.settings["sequence_length"] or 128)
        if found.error:
            raise WorkerError(f"{name} could not be measured with its head: {found.error}")
        return {**dataclasses.asdict(found), "sha256": digest}

    return cost_of(
        state.journal.once(f"shipped/{name}", work, sound=lambda result: result["sha256"] == digest)
    )


def _written(state: State, finalists: Finalists, name: str, made: OnnxModel, cost: Cost) -> Selection:
    verdict, evidence = finalists.verdict, finalists.evidence
    for loser in verdict.order:
        row = state.rows[loser]
        if row.status not in ("over budget", "failed") and loser != name:
            status = "tied" if loser in verdict.tied else "within"
            state.row(
                loser, status, verdict.reasons.get(loser, "fell back"), row.stage, evidence=evidence[loser]
            )
    # Rows keep the interleaved measurement, in which candidates can be compared; `cost` is the file's own.
    best = "the cheapest of the best" if len(verdict.tied) > 1 else "the most accurate"
    best = best if name in verdict.tied else "the most accurate that stayed within the budget"
    state.row(name, "chosen", best, SHIPPED, evidence=evidence[name])
    test = state.parts.test
    figures = evaluate(made.predict(test.inputs), test.targets, made.labels or ())
    if state.folder is not None:
        with atomic_file(state.folder / "model.onnx") as file:
            shutil.copyfile(made.path, file)
        write_predict_script(state.folder)
        _model(state, name, tuned=name in finalists.tuned)
    first = test.inputs[0]
    example = shlex.quote(str(first)) if isinstance(first, str | Path) else "INPUT"
    return state.selection(name, _why(state, finalists, name, cost), cost, figures, example)


# --- to fine-tune further
def _model(state: State, name: str, *, tuned: bool) -> None:
    """OUT/model, which `zoo.load` reads: what was fine-tuned, or the backbone with the shipped head."""
    assert state.folder is not None
    target, made = state.folder / MODEL, state.work / MODEL
    try:
        if not tuned:
            state.say(f"{name}, to fine-tune further")
            _saved(state, ModelId.parse(name), made)
        with atomic_folder(target) as folder:
            shutil.copytree(made, folder, dirs_exist_ok=True)
    except ZooError as error:  # what was chosen stands all the same
        state.note(f"{MODEL}/ is not there: {str(error).splitlines()[0]}")


def _saved(state: State, model: ModelId, folder: Path) -> None:
    """In the framework's worker; a variant's head goes onto the float32 network that it was made from."""
    source = dataclasses.replace(model, precision=None)
    asked = {
        "model": source.name if is_run(source.name) else str(source),
        "head": str(state.work / "head.npz"),
        "labels": list(state.parts.train.classes),
        "folder": str(folder),
    }
    with Worker(source.framework) as worker:
        worker.call("zoo.jobs:save_with_head", asked, timeout_s=SAVE_S)


# --- the answer
def _why(state: State, finalists: Finalists, name: str, cost: Cost) -> str:
    found = finalists.evidence[name]
    low, high = found.interval
    how = "on the validation part" if state.parts.validation else "cross-validated"
    fitted = ", fine-tuned" if name in finalists.tuned else ""
    lines = [
        f"Ship {name}{fitted}: accuracy {found.accuracy:.3f} ({low:.3f} to {high:.3f}, {how} on {len(found.correct)} "
        f"examples). {_takes(state, cost)}, within {describe(state.budget)}."
    ]
    if state.wanted.aim is not ACCURACY:
        lines.append(state.wanted.aim.sentence(found, state.judged.judged_targets))
    if (need := finalists.verdict.need) is not None and need.pick == name:
        lines.append(need.sentence())
    if len(finalists.verdict.tied) > 1:
        others = len(finalists.verdict.tied) - 1
        lines.append(f"{others} more tie with the best in quality; this one costs least.")
    lines.append(_floor(state, found))
    return " ".join(lines)


def _takes(state: State, cost: Cost) -> str:
    size, given = f"{cost.size_mb:.1f} MB", state.costing.given
    if given is None:
        return f"Its model.onnx, measured again, takes p50 {cost.latency_p50_ms:.3g} ms and {size}"
    latency = "no p50" if cost.latency_p50_ms is None else f"p50 {cost.latency_p50_ms:.3g} ms"
    return (
        f"The candidate takes {latency} by {given.source}; its model.onnx, not measured there yet, has {size}"
    )


def _floor(state: State, found: Evidence) -> str:
    """Whether a backbone is needed at all."""
    floor = max((r for r in state.rows.values() if r.status == "baseline"), key=lambda r: r.accuracy or 0.0)
    if (floor.accuracy or 0.0) >= found.accuracy - state.wanted.tolerance:
        return f"{floor.id} does as well ({floor.accuracy:.3f}): you may not need a backbone."
    return f"Without a backbone, {floor.id} reaches {floor.accuracy:.3f}."
