"""`zoo.compare`: quality and cost side by side, over frameworks, without a budget and without a choice."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from zoo.cards import Cost
from zoo.choose import baselines
from zoo.choose.artefacts import takes
from zoo.choose.bench import Model, benchmark, files
from zoo.choose.evidence import Evidence, cross_validate
from zoo.choose.parts import DataOptions, Judged, open_judged, typical_tokens
from zoo.choose.rows import Row, markdown
from zoo.cost import measure
from zoo.data import Dataset
from zoo.data.sources import OnError
from zoo.errors import DataError, ZooError
from zoo.graph import OnnxModel


@dataclass(frozen=True)
class Comparison:
    """rows in the order of the models, baselines last. notes: how the figures came about, a line each."""

    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()

    def markdown(self) -> str:
        """The table, and the notes below it."""
        return "\n".join([markdown(self.rows), "", *self.notes])


def compare(
    models: Sequence[Model],
    data: Any = None,
    *,
    folds: int = 5,
    threads: int | None = None,
    seed: int = 0,
    text: str | None = None,
    label: str | None = None,
    on_error: OnError = "fail",
    progress: Callable[[str], None] | None = None,
) -> Comparison:
    """Cost of each model, and with data its quality, from the same ONNX artefact.

    A model whose own head has exactly the data's classes is judged as it is (give data it was not trained
    on); any other by a linear probe on its features, cross-validated over `folds`. Of data that comes in parts
    probes learn from the train part, and every model is judged on the validation part (on the test part only
    where there is no other).
    """
    say = progress or (lambda message: None)
    if data is None:
        costs = benchmark(list(models), threads=threads, progress=progress)
        return Comparison(tuple(_cost_row(cost) for cost in costs))
    dataset, held = open_judged(data, DataOptions(text, label, on_error))
    least = folds if held is None else 4  # the probe's strength is chosen on a quarter
    if (fewest := int(np.bincount(dataset.targets, minlength=len(dataset.classes)).min())) < least:
        raise DataError(
            f"a class has {fewest} examples, too few for {least} folds: add examples, or lower folds"
        )
    judged = Judged.of(dataset, held, folds=folds, seed=seed)
    with tempfile.TemporaryDirectory(prefix="zoo-compare-") as work:
        found = files(list(models), Path(work), say=say)
        rows = _rows(found, held or dataset, judged, threads=threads, seed=seed, say=say)
    for name, baseline in baselines.for_kind(dataset.kind).items():
        rows.append(baseline(judged, seed=seed).row(name, "baseline", "no backbone", None))
    shown = held or dataset
    notes = [f"Accuracy on the {len(shown)} examples of {shown.source}; p50 at batch 1."]
    notes += [f"Probes learned from the {len(dataset)} examples of {dataset.source}."] if held else []
    notes += [
        f"Passed over: {path}: {reason}" for part in (dataset, held) if part for path, reason in part.bad
    ]
    return Comparison(tuple(rows), tuple(notes))


def _rows(
    found: Sequence[tuple[str, Path | ZooError]],
    dataset: Dataset,
    judged: Judged,
    *,
    threads: int | None,
    seed: int,
    say: Callable[[str], None],
) -> list[Row]:
    good = [(name, path) for name, path in found if isinstance(path, Path)]
    tokens = typical_tokens(dataset, OnnxModel(good[0][1]).preprocess) if good else 128
    costs = (
        {c.id: c for c in measure(good, threads=threads, sequence_length=tokens, progress=say)}
        if good
        else {}
    )
    rows = []
    for name, path in found:
        if not isinstance(path, Path):
            rows.append(Row(name, "failed", str(path).splitlines()[0]))
            continue
        if not takes(OnnxModel(path), dataset.kind):
            rows.append(Row(name, "failed", f"does not take {dataset.kind} data", cost=costs[name]))
            continue
        say(f"quality of {name}")
        try:
            evidence, how = _quality(OnnxModel(path), dataset, judged, seed=seed)
        except ZooError as error:
            rows.append(Row(name, "failed", str(error).splitlines()[0], cost=costs[name]))
            continue
        rows.append(evidence.row(name, "measured", how, costs[name]))
    return rows


def _quality(model: OnnxModel, dataset: Dataset, judged: Judged, *, seed: int) -> tuple[Evidence, str]:
    if model.num_classes is not None and tuple(model.labels or ()) == dataset.classes:
        predicted = model.predict(dataset.inputs).argmax(axis=1)
        return Evidence(np.asarray(predicted == dataset.targets)), "its own head"
    features = model.features(judged.inputs)
    evidence = cross_validate(features, judged.targets, judged.splits, seed=seed)
    folds = len(judged.splits)
    return evidence, f"linear probe, {folds} folds" if folds > 1 else "linear probe"


def _cost_row(cost: Cost) -> Row:
    return Row(cost.id, "failed" if cost.error else "measured", cost.error or "", cost=cost)
