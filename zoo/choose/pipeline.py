"""`zoo.select`: max P(model, data) subject to R(model) <= R_max, by measurement.

Stages, cheap ones first: graphs -> costs -> those over the budget leave with their reason -> features in
one pass a network -> linear probe, cross-validated -> the rule of `zoo.choose.rule` -> the head goes into
the graph, which is measured again and evaluated once on the test part, and written.
"""

from __future__ import annotations

import shlex
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from zoo.cards import Budget, Cost
from zoo.choose import baselines
from zoo.choose.artefacts import Artefact, Features, Say, export_families, takes
from zoo.choose.candidates import expand
from zoo.choose.costing import Costing
from zoo.choose.device import Source, device_costs
from zoo.choose.error_costs import asked_objective
from zoo.choose.evidence import Evidence, cross_validate, fit_linear_head
from zoo.choose.limits import Excess, describe, excesses
from zoo.choose.objectives import ACCURACY, NO_TARGETS, Objective
from zoo.choose.parts import DataOptions, Judged, Parts, open_parts, typical_tokens
from zoo.choose.rows import Row
from zoo.choose.rule import Verdict, judge
from zoo.choose.selection import Selection
from zoo.cost import kept_or_measured
from zoo.data.sources import OnError
from zoo.engine import Array
from zoo.errors import (
    FrameworkBrokenError,
    FrameworkMissingError,
    InputError,
    NothingFitsError,
    WeightsError,
    WeightsUnavailableError,
    WorkerError,
    ZooError,
)
from zoo.files import atomic_file, sha256_file
from zoo.graph import OnnxModel, write_predict_script
from zoo.train import evaluate

SHARED = (WeightsUnavailableError, WeightsError, FrameworkMissingError, FrameworkBrokenError, WorkerError)


def select(
    data: Any,
    *,
    validation: Any = None,
    test: Any = None,
    budget: Budget = Budget(),  # noqa: B008 - frozen
    candidates: Sequence[str] | None = None,
    costs: Source | None = None,
    out: str | Path | None = None,
    force: bool = False,
    objective: str = "accuracy",
    error_costs: str | Path | None = None,
    tolerance: float = 0.01,
    folds: int = 5,
    seed: int = 0,
    threads: int | None = None,
    fresh: bool = False,
    text: str | None = None,
    label: str | None = None,
    on_error: OnError = "fail",
    progress: Callable[[str], None] | None = None,
) -> Selection:
    """The best model within the budget for this data, every loser with its reason.

    data, validation, test: as `zoo.data.open_data` takes them; data that comes in parts brings its own. Without
    `test` a stratified fifth of data is held out for it; without `validation` candidates are judged by
    cross-validation over `folds`.
    candidates: ids, globs, `,depth=all`, or a file of these; None: the catalogue's models of the task.
    costs: another device's (`zoo bench --json` there), in the place of measuring here: the budget is the device's then,
    and a candidate that it has no figure of leaves with that reason.  fresh: as in `zoo.benchmark`.
    out: a folder for model.onnx, predict.py, selection.json, table.md; refused where it is not empty unless `force`.
    objective, error_costs: as `asked_objective` takes them.  tolerance: the largest gap in it that can be a tie.
    Raises DataError, InputError, NothingFitsError (with the limit that binds and the nearest candidate).
    """
    folder = _prepare(out, force)
    options = DataOptions(text, label, on_error)
    parts = open_parts(data, validation, test, options=options, folds=folds, seed=seed)
    aim = asked_objective(objective, error_costs, parts.train.classes)
    settings = {"tolerance": tolerance, "folds": folds, "seed": seed, "source": parts.train.source}
    settings["objective"] = aim.name
    say = progress or (lambda message: None)
    costing = Costing(threads, fresh, None if costs is None else device_costs(costs), say)
    run = _Run(parts, budget, aim, folder, costing, settings, say)
    with tempfile.TemporaryDirectory(prefix="zoo-select-") as work:
        return run.go(candidates, Path(work))


def _prepare(out: str | Path | None, force: bool) -> Path | None:
    if out is None:
        return None
    folder = Path(out)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file: give a folder for the results")
    if folder.is_dir() and any(folder.iterdir()) and not force:
        raise InputError(
            f"{folder} is not empty: choose another folder, or --force to write over its results"
        )
    return folder


@dataclass
class _Run:
    """One selection under way. rows grow as results come; each stage writes what is known so far."""

    parts: Parts
    budget: Budget
    aim: Objective
    folder: Path | None
    costing: Costing
    settings: dict[str, Any]
    say: Say
    targets: Array = field(default_factory=lambda: NO_TARGETS)
    rows: dict[str, Row] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    def go(self, candidates: Sequence[str] | None, work: Path) -> Selection:
        """All stages in order."""
        artefacts = self._timed("export", lambda: self._graphs(candidates, work))
        costs = self._timed("measure", lambda: self._costs(artefacts))
        fitting = self._within(artefacts, costs)
        folds, seed = self.settings["folds"], self.settings["seed"]
        judged = Judged.of(self.parts.train, self.parts.validation, folds=folds, seed=seed)
        features = Features(judged.inputs, source=self.parts.train.source)
        evidence = self._timed("probe", lambda: self._evidence(fitting, judged, features, costs))
        tolerance, self.targets = self.settings["tolerance"], judged.judged_targets
        verdict = judge(evidence, costs, tolerance=tolerance, objective=self.aim, targets=self.targets)
        by_id = {artefact.id: artefact for artefact in fitting}
        started = time.perf_counter()
        selection = self._ship(verdict, by_id, features, evidence, work)
        self.seconds["ship"] = time.perf_counter() - started
        if self.folder is not None:
            selection.write(self.folder)
        return selection

    def _timed(self, stage: str, action: Callable[[], Any]) -> Any:
        started = time.perf_counter()
        result = action()
        self.seconds[stage] = time.perf_counter() - started
        self._save()
        return result

    def _save(self) -> None:
        """Write what is known by now, so that Ctrl-C loses nothing that was measured."""
        if self.folder is not None:
            partial = Selection("", "not finished", self.budget, tuple(self.rows.values()), self.settings)
            partial.write(self.folder)

    # --- stages
    def _graphs(self, candidates: Sequence[str] | None, work: Path) -> list[Artefact]:
        families, lost = expand(candidates, self.parts.train.kind)
        classes = len(self.parts.train.classes)
        artefacts, failed = export_families(families, work, classes, say=self.say)
        for name, error in (*lost, *failed):
            self._lost(name, error)
        wrong = [a for a in artefacts if not takes(OnnxModel(a.trunk), self.parts.train.kind)]
        for artefact in wrong:
            self.rows[artefact.id] = Row(artefact.id, "failed", f"does not take {self.parts.train.kind} data")
        good = [artefact for artefact in artefacts if artefact not in wrong]
        if not good:
            raise self._none_left([error for _, error in (*lost, *failed)])
        return good

    def _none_left(self, errors: Sequence[ZooError]) -> ZooError:
        """One error for all candidates: of the kind that they share, else an InputError."""
        reasons = "; ".join(f"{row.id}: {row.reason}" for row in self.rows.values())
        shared = next((k for k in SHARED if errors and all(isinstance(e, k) for e in errors)), InputError)
        return shared(f"no candidate could be loaded. {reasons}")

    def _lost(self, name: str, error: ZooError) -> None:
        status = "unreachable" if isinstance(error, WeightsUnavailableError) else "failed"
        reason = str(error).splitlines()[0] if not isinstance(error, WorkerError) else str(error)[:300]
        self.rows[name] = Row(name, status, reason.replace("\n", " "))

    def _costs(self, artefacts: Sequence[Artefact]) -> dict[str, Cost]:
        tokens = typical_tokens(self.parts.train, OnnxModel(artefacts[0].trunk).preprocess)
        self.settings["sequence_length"] = tokens if self.parts.train.kind == "text" else None
        pairs = [(artefact.id, artefact.path) for artefact in artefacts]
        found = self.costing.of(pairs, tokens=tokens)
        self.settings["notes"] = list(found.notes)
        self.rows |= {name: Row(name, "failed", why) for name, why in found.missing.items()}
        return dict(found.by_id)

    def _within(self, artefacts: Sequence[Artefact], costs: dict[str, Cost]) -> list[Artefact]:
        fitting, over = [], {}
        for artefact in (artefact for artefact in artefacts if artefact.id in costs):
            cost = costs[artefact.id]
            broken = excesses(cost, self.budget)
            if cost.error:
                self.rows[artefact.id] = Row(artefact.id, "failed", cost.error, cost=cost)
            elif broken:
                over[artefact.id] = broken[0]
                reason = ", ".join(map(str, broken))
                self.rows[artefact.id] = Row(artefact.id, "over budget", reason, cost=cost)
            else:
                fitting.append(artefact)
        self._save()
        if not fitting:
            raise self._nothing_fits(over)
        return fitting

    def _nothing_fits(self, over: dict[str, Excess]) -> ZooError:
        if not over:
            reasons = "; ".join(f"{row.id}: {row.reason}" for row in self.rows.values())
            return WorkerError(f"no candidate could be measured. {reasons}")
        nearest = min(over, key=lambda name: (over[name].ratio, name))
        worst = over[nearest]
        table = f" The table is in {self.folder}/table.md." if self.folder else ""
        return NothingFitsError(
            f"none of {len(over)} candidates fits {describe(self.budget)}. The nearest is {nearest}: {worst}. "
            f"Raise that limit to {worst.value:.3g} {worst.unit}, or add smaller candidates.{table}",
            limit=worst.limit,
            nearest=nearest,
        )

    def _evidence(
        self, fitting: Sequence[Artefact], judged: Judged, features: Features, costs: dict[str, Cost]
    ) -> dict[str, Evidence]:
        seed = self.settings["seed"]
        found: dict[str, Evidence] = {}
        for artefact in fitting:
            self.say(f"probe {artefact.id}")
            result = cross_validate(features.of(artefact), judged.targets, judged.splits, seed=seed)
            found[artefact.id] = result
            self.rows[artefact.id] = result.row(artefact.id, "within", "", costs[artefact.id])
        for name, baseline in baselines.for_kind(self.parts.train.kind).items():
            self.say(f"baseline {name}")
            self.rows[name] = baseline(judged, seed=seed).row(name, "baseline", "no backbone", None)
        return found

    def _ship(
        self,
        verdict: Verdict,
        artefacts: dict[str, Artefact],
        features: Features,
        evidence: dict[str, Evidence],
        work: Path,
    ) -> Selection:
        """The first candidate of the order whose finished file is still within the budget."""
        target = self.folder or work
        for name in verdict.order:
            self.say(f"head of {name}")
            train = self.parts.train
            x = features.of(artefacts[name])[: len(train)]
            weight, bias = fit_linear_head(x, train.targets, len(train.classes), seed=self.settings["seed"])
            made = OnnxModel(artefacts[name].path).with_head(
                weight, bias, labels=train.classes, path=work / "shipped.onnx"
            )
            cost = self._cost_shipped(name, made)
            broken = excesses(cost, self.budget)
            if not broken:
                return self._finish(name, verdict, evidence, made, cost, target)
            reason = "measured again with its head: " + ", ".join(map(str, broken))
            self.rows[name] = evidence[name].row(name, "over budget", reason, cost)
        raise NothingFitsError(
            f"every candidate went over {describe(self.budget)} when measured again: the limit is within the "
            "noise of this machine; raise it a little"
        )

    def _cost_shipped(self, name: str, made: OnnxModel) -> Cost:
        """Of the finished file, never a kept figure. A device's figures are of the candidate; its size is known."""
        if self.costing.given is not None and (there := self.rows[name].cost) is not None:
            return replace(there, file_bytes=made.path.stat().st_size, sha256=sha256_file(made.path))
        tokens, threads = self.settings["sequence_length"] or 128, self.costing.threads
        artefact = [(name, made.path)]
        return kept_or_measured(artefact, threads=threads, sequence_length=tokens, fresh=True)[0]

    def _finish(
        self,
        name: str,
        verdict: Verdict,
        evidence: dict[str, Evidence],
        made: OnnxModel,
        cost: Cost,
        target: Path,
    ) -> Selection:
        for loser in verdict.order:
            if self.rows[loser].status != "over budget" and loser != name:
                status = "tied" if loser in verdict.tied else "within"
                reason = verdict.reasons.get(loser, "fell back")
                self.rows[loser] = evidence[loser].row(loser, status, reason, self.rows[loser].cost)
        why = self._why(name, verdict, evidence, cost)
        # Rows keep the interleaved measurement, in which candidates can be compared; `cost` is the file's own.
        best = "the cheapest of the best" if len(verdict.tied) > 1 else "the most accurate"
        best = best if name in verdict.tied else "the most accurate that stayed within the budget"
        self.rows[name] = evidence[name].row(name, "chosen", best, self.rows[name].cost)
        test = evaluate(made.predict(self.parts.test.inputs), self.parts.test.targets, made.labels or ())
        if self.folder is not None:
            with atomic_file(target / "model.onnx") as file:
                shutil.copyfile(made.path, file)
            write_predict_script(target)
        first = self.parts.test.inputs[0]
        example = shlex.quote(str(first)) if isinstance(first, str | Path) else "INPUT"
        rows, bill = self._ordered(), self.seconds
        return Selection(name, why, self.budget, rows, self.settings, cost, test, bill, self.folder, example)

    def _ordered(self) -> tuple[Row, ...]:
        rank = {"chosen": 0, "tied": 1, "within": 2, "baseline": 3, "over budget": 4, "failed": 5}
        return tuple(
            sorted(self.rows.values(), key=lambda r: (rank.get(r.status, 6), -(r.accuracy or 0.0), r.id))
        )

    def _takes(self, cost: Cost) -> str:
        size = f"{cost.size_mb:.1f} MB"
        if self.costing.given is None:
            return f"Its model.onnx, measured again, takes p50 {cost.latency_p50_ms:.3g} ms and {size}"
        latency = "no p50" if cost.latency_p50_ms is None else f"p50 {cost.latency_p50_ms:.3g} ms"
        return (
            f"The candidate takes {latency} by {self.costing.given.source}; its model.onnx, not measured there yet, "
            f"has {size}"
        )

    def _why(self, name: str, verdict: Verdict, evidence: dict[str, Evidence], cost: Cost) -> str:
        low, high = evidence[name].interval
        how = "on the validation part" if self.parts.validation else "cross-validated"
        count = len(evidence[name].correct)
        lines = [
            f"Ship {name}: accuracy {evidence[name].accuracy:.3f} ({low:.3f} to {high:.3f}, {how} on {count} "
            f"examples). {self._takes(cost)}, within {describe(self.budget)}."
        ]
        if self.aim is not ACCURACY:
            lines.append(self.aim.sentence(evidence[name], self.targets))
        if verdict.need is not None and verdict.need.pick == name:
            lines.append(verdict.need.sentence())
        if len(verdict.tied) > 1:
            lines.append(f"{len(verdict.tied) - 1} more tie with the best in quality; this one costs least.")
        floor = max(
            (r for r in self.rows.values() if r.status == "baseline"), key=lambda r: r.accuracy or 0.0
        )
        if (floor.accuracy or 0.0) >= evidence[name].accuracy - self.settings["tolerance"]:
            lines.append(f"{floor.id} does as well ({floor.accuracy:.3f}): you may not need a backbone.")
        else:
            lines.append(f"Without a backbone, {floor.id} reaches {floor.accuracy:.3f}.")
        return " ".join(lines)
