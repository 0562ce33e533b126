"""`zoo.compare`: quality and cost side by side, over frameworks, without a budget and without a choice."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from zoo import registry
from zoo.choose import baselines
from zoo.choose.artefacts import takes
from zoo.choose.bench import Model, files
from zoo.choose.candidates import is_run
from zoo.choose.costing import Costing, Costs
from zoo.choose.device import Source, device_costs
from zoo.choose.evidence import Evidence, cross_validate
from zoo.choose.parts import DataOptions, Judged, open_judged, typical_tokens
from zoo.choose.past_costs import short_machine
from zoo.choose.plots import Plot
from zoo.choose.rows import Row, markdown
from zoo.choose.scatter import of_rows
from zoo.data import Dataset
from zoo.data.sources import OnError
from zoo.errors import AmbiguousModelError, DataError, ZooError
from zoo.graph import OnnxModel


@dataclass(frozen=True)
class Comparison:
    """rows in the order of the models, baselines last. notes: how the figures came about, a line each."""

    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()

    def markdown(self) -> str:
        """The table, and the notes below it."""
        return "\n".join([markdown(self.rows), "", *self.notes])

    def plot(self) -> Plot:
        """Accuracy against p50, with the Pareto front. Raises InputError where no row has both."""
        costs = [row.cost for row in self.rows if row.cost and not row.cost.error]
        return of_rows(self.rows, machine=short_machine(costs[0]) if costs else "nothing was measured")


def compare(
    models: Sequence[Model],
    data: Any = None,
    *,
    costs: Source | None = None,
    folds: int = 5,
    threads: int | None = None,
    fresh: bool = False,
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
    A name that several frameworks have is a row of each. costs: another device's (`zoo bench --json` there, or
    what `zoo.benchmark` gave back), in the place of measuring here; a model that it has no figure of gets none.
    fresh: as in `zoo.benchmark`.
    """
    say = progress or (lambda message: None)
    costing = Costing(threads, fresh, None if costs is None else device_costs(costs), say)
    listed, notes = _spread(models)
    opened = None if data is None else _Judging.of(data, DataOptions(text, label, on_error), folds, seed)
    with tempfile.TemporaryDirectory(prefix="zoo-compare-") as work:
        found = files(listed, Path(work), say=say)
        good = [(name, path) for name, path in found if isinstance(path, Path)]
        known = costing.of(good, tokens=128 if opened is None else _tokens(good, opened.train))
        rows = [_row(name, path, known, opened, say) for name, path in found]
    if opened is not None:
        rows += opened.baselines()
        notes += opened.notes()
    notes += known.notes
    return Comparison(tuple(rows), tuple(notes))


def _spread(models: Sequence[Model]) -> tuple[list[Model], list[str]]:
    """A name that several frameworks have becomes a row of each, and a note says so."""
    found: list[Model] = []
    notes = []
    for model in models:
        try:
            if isinstance(model, str) and not model.endswith(".onnx") and not is_run(model):
                registry.resolve(model)
            found.append(model)
        except AmbiguousModelError as error:
            found += error.ids
            notes.append(f"{model} is in {len(error.ids)} frameworks: {', '.join(error.ids)}.")
    return found, notes


def _tokens(good: Sequence[tuple[str, Path]], data: Dataset) -> int:
    """At which length texts are measured: as the first file of ours cuts this data."""
    for _, path in good:
        with contextlib.suppress(ZooError):  # somebody else's file: its row says what is missing
            return typical_tokens(data, OnnxModel(path).preprocess)
    return 128


@dataclass(frozen=True)
class _Judging:
    """The data that quality is judged on. train: what probes learn from; held: None for cross-validation."""

    train: Dataset
    held: Dataset | None
    judged: Judged
    seed: int

    @classmethod
    def of(cls, data: Any, options: DataOptions, folds: int, seed: int) -> _Judging:
        """Open it. Raises DataError where a class has too few examples."""
        train, held = open_judged(data, options)
        least = folds if held is None else 4  # the probe's strength is chosen on a quarter
        if (fewest := int(np.bincount(train.targets, minlength=len(train.classes)).min())) < least:
            raise DataError(
                f"a class has {fewest} examples, too few for {least} folds: add examples, or lower folds"
            )
        return cls(train, held, Judged.of(train, held, folds=folds, seed=seed), seed)

    @property
    def shown(self) -> Dataset:
        """What models are judged on."""
        return self.held or self.train

    def baselines(self) -> list[Row]:
        """What is reached without a backbone."""
        return [
            baseline(self.judged, seed=self.seed).row(name, "baseline", "no backbone", None)
            for name, baseline in baselines.for_kind(self.train.kind).items()
        ]

    def notes(self) -> list[str]:
        """How quality came about."""
        found = [f"Accuracy on the {len(self.shown)} examples of {self.shown.source}; p50 at batch 1."]
        if self.held:
            found.append(f"Probes learned from the {len(self.train)} examples of {self.train.source}.")
        parts = [part for part in (self.train, self.held) if part]
        return found + [f"Passed over: {path}: {reason}" for part in parts for path, reason in part.bad]


def _row(
    name: str, path: Path | ZooError, known: Costs, opened: _Judging | None, say: Callable[[str], None]
) -> Row:
    if not isinstance(path, Path):
        return Row(name, "failed", str(path).splitlines()[0])
    cost, missing = known.by_id.get(name), known.missing.get(name, "")
    if opened is None:
        failed = bool(cost and cost.error)
        return Row(name, "failed" if failed else "measured", (cost and cost.error) or missing, cost=cost)
    try:
        if not takes(OnnxModel(path).preprocess, opened.train.kind):
            return Row(name, "failed", f"does not take {opened.train.kind} data", cost=cost)
        say(f"quality of {name}")
        evidence, how = _quality(OnnxModel(path), opened.shown, opened.judged, seed=opened.seed)
    except ZooError as error:
        return Row(name, "failed", str(error).splitlines()[0], cost=cost)
    return evidence.row(name, "measured", "; ".join(filter(None, (how, missing))), cost)


def _quality(model: OnnxModel, dataset: Dataset, judged: Judged, *, seed: int) -> tuple[Evidence, str]:
    if model.num_classes is not None and tuple(model.labels or ()) == dataset.classes:
        return Evidence.of(model.predict(dataset.inputs), dataset.targets), "its own head"
    features = model.features(judged.inputs)
    evidence = cross_validate(features, judged.targets, judged.splits, seed=seed)
    folds = len(judged.splits)
    return evidence, f"linear probe, {folds} folds" if folds > 1 else "linear probe"
