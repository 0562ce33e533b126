"""`zoo.select`: max P(model, data) subject to R(model) <= R_max, by measurement, cheap stages first.

catalogue -> static cost -> measured cost -> cheap scores -> probe -> fine-tuning -> shipped (`zoo.choose.stages`).
Whoever leaves has a reason. Every finished step is on the disk: in the run's journal, or in the caches, by content.
"""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from zoo import executor as executors
from zoo.cards import Budget, fingerprint
from zoo.choose import journal as journals
from zoo.choose.artefacts import Artefact, Features
from zoo.choose.candidates import Family, expand, make_spread
from zoo.choose.catalogue_limits import check_limits, sift
from zoo.choose.costing import Costing
from zoo.choose.device import Source, device_costs
from zoo.choose.error_costs import asked_objective
from zoo.choose.evidence import Evidence
from zoo.choose.experiment import WORK, kept
from zoo.choose.journal import Journal
from zoo.choose.ladder import called_back
from zoo.choose.limits import check_within, describe
from zoo.choose.objectives import MeanCost, Objective
from zoo.choose.parts import DataOptions, Parts, open_parts
from zoo.choose.results import Results
from zoo.choose.rule import judge
from zoo.choose.selection import REPORT, Selection
from zoo.choose.stages import costs as cost_stages
from zoo.choose.stages import nothing
from zoo.choose.stages.costs import Over
from zoo.choose.stages.fine_tune import FINE_TUNING, Tuned, fine_tuned
from zoo.choose.stages.graphs import CATALOGUE, STATIC, make_graphs
from zoo.choose.stages.probe import PROBE, none_left, probed, put_baselines
from zoo.choose.stages.scores import SCORES, Scored, scored
from zoo.choose.stages.ship import MODEL, SHIPPED, Finalists, shipped
from zoo.choose.stages.state import State, Wanted
from zoo.choose.stages.told import tell
from zoo.choose.whereabouts import networked
from zoo.data.sources import OnError
from zoo.errors import InputError, ZooError

FINISHED = "selection"
CHEAPLY = ", by the cheap score"
WRITTEN = ("model.onnx", "predict.py", MODEL, "selection.json", "table.md", REPORT)


def select(
    data: Any,
    *,
    validation: Any = None,
    test: Any = None,
    budget: Budget = Budget(),  # noqa: B008 - frozen
    candidates: Sequence[str] | None = None,
    precisions: Sequence[str] = ("fp32",), sizes: Sequence[int] = (), within_s: float | None = None,
    costs: Source | None = None,
    out: str | Path | None = None, resume: bool = False, force: bool = False,
    objective: str = "accuracy", error_costs: str | Path | None = None, tolerance: float = 0.01,
    folds: int = 5, seed: int = 0, threads: int | None = None, fresh: bool = False, offline: bool = False,
    text: str | None = None, label: str | None = None, on_error: OnError = "fail",
    ray: str | None = None,
    progress: Callable[[str], None] | None = None,
) -> Selection:  # fmt: skip
    """The best model within the budget for this data, every loser with its reason.

    data, validation, test: as `zoo.data.open_data` takes them; data in parts brings its own. Without `test` a
    stratified fifth is held out; without `validation` candidates are judged by cross-validation over `folds`.
    candidates: ids, globs, `,depth=all`, or a file of these; None: the catalogue's of the task.  precisions, sizes: in
    which those are tried that name none.  within_s: for all of it; the few that may still win are fine-tuned then.
    costs: another device's (`zoo bench --json` there), in the place of measuring here.  fresh: as in `zoo.benchmark`.
    offline: fetch nothing; candidates whose weights are not here leave, and the default ones are those that are.
    out: a folder for what ships, tables and the journal; refused where it is not empty, unless `resume` goes on with
    the run in it or `force` begins anew.  objective: "accuracy", "macro-f1", "log-loss",
    "calibration" (the Brier score) or "cost", for which error_costs is a CSV file of what each error costs.
    tolerance: the largest gap in it that can be a tie.
    ray: a cluster for what needs a framework, see `zoo.executor.executor`; costs are measured here all the same.
    Raises DataError, InputError, NothingFitsError (with the limit that binds and what loosening it buys).
    """
    check_limits(budget, offline=offline)
    folder, reading = _folder(out, resume=resume, force=force), DataOptions(text, label, on_error)
    named = None if candidates is None else tuple(candidates)
    with networked(not offline):
        parts = open_parts(data, validation, test, options=reading, folds=folds, seed=seed)
        spread = make_spread(precisions, sizes, parts.train.kind)
        aim = asked_objective(objective, error_costs, parts.train.classes)
        wanted = Wanted(named, spread, aim, tolerance, folds, seed, check_within(within_s), offline)
        given = None if costs is None else device_costs(costs)
        costing = Costing(threads, fresh, given, progress or (lambda message: None))
        with executors.executor(ray, threads=threads, say=costing.say) as executor:
            asked = _Asked(parts, budget, wanted, costing, executor, folder)
            return _opened(asked, resume=resume, force=force)


@dataclass(frozen=True)
class _Asked:
    """A selection to make."""

    parts: Parts
    budget: Budget
    wanted: Wanted
    costing: Costing
    executor: executors.Executor
    folder: Path | None


def _opened(asked: _Asked, *, resume: bool, force: bool) -> Selection:
    with (
        journals.opened(asked.folder, _question(asked), resume=resume, force=force) as journal,
        _workplace(asked.folder, anew=force) as work,
    ):
        if (found := journal.get(FINISHED)) is not None:
            return Selection.from_dict(found, asked.folder)
        try:
            return _go(_state(asked, journal, work))
        except KeyboardInterrupt as interrupt:
            raise KeyboardInterrupt(kept(journal, asked.folder)) from interrupt


def _folder(out: str | Path | None, *, resume: bool, force: bool) -> Path | None:
    """Checked before the data is read."""
    if out is None:
        return None
    folder = Path(out)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file: give a folder for the results")
    if folder.is_dir() and any(folder.iterdir()) and not (force or resume):
        raise InputError(
            f"{folder} is not empty: choose another folder, --resume to go on with the run in it, or --force to "
            "write over its results"
        )
    return folder


def _question(asked: _Asked) -> dict[str, Any]:
    """What a resumed run must ask as the first did."""
    parts, wanted, given = asked.parts, asked.wanted, asked.costing.given
    held = parts.validation
    return {
        "command": "select",
        "version": metadata.version("backbone-zoo"),
        "training data": parts.train.fingerprint(),
        "validation data": "none" if held is None else held.fingerprint(),
        "test data": parts.test.fingerprint(),
        "classes": list(parts.train.classes),
        "budget": describe(asked.budget),
        "candidates": "the defaults" if wanted.candidates is None else list(wanted.candidates),
        "precisions": list(wanted.spread.precisions),
        "sizes": list(wanted.spread.sizes),
        "within seconds": wanted.within_s,
        "offline": wanted.offline,
        "objective": _named_aim(wanted.aim),
        "tolerance": wanted.tolerance,
        "folds": wanted.folds,
        "seed": wanted.seed,
        "threads": asked.costing.threads,
        "costs": "measured" if given is None else f"{given.source} ({fingerprint(given)})",
    }


def _named_aim(aim: Objective) -> str:
    return f"{aim.name} {aim.matrix.tolist()}" if isinstance(aim, MeanCost) else aim.name


@contextlib.contextmanager
def _workplace(folder: Path | None, *, anew: bool) -> Iterator[Path]:
    """Where graphs lie meanwhile: in `folder`, where a resumed run finds them; gone after an end."""
    if folder is None:
        with tempfile.TemporaryDirectory(prefix="zoo-select-") as work:
            yield Path(work)
        return
    work_folder = folder / WORK
    _sweep(folder)
    if anew:
        shutil.rmtree(work_folder, ignore_errors=True)
    work_folder.mkdir(parents=True, exist_ok=True)
    yield work_folder
    shutil.rmtree(work_folder, ignore_errors=True)  # not after a failure: it serves a resumed run


def _sweep(folder: Path) -> None:
    """Remove what a killed run left half-written; nobody else writes here, for the journal is locked."""
    for name in WRITTEN:
        for path in folder.glob(f".{name}.*"):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def _state(asked: _Asked, journal: Journal, work: Path) -> State:
    wanted, source = asked.wanted, asked.parts.train.source
    settings: dict[str, Any] = {"tolerance": wanted.tolerance, "folds": wanted.folds, "seed": wanted.seed}
    settings |= {
        "objective": wanted.aim.name,
        "source": source,
        "offline": wanted.offline,
        "notes": list(asked.parts.notes),
    }
    results, costing = Results.of(None if asked.folder is None else work), asked.costing
    return State(
        asked.parts, asked.budget, wanted, asked.folder, work, costing, asked.executor, journal, results,
        settings, costing.say,
    )  # fmt: skip


def _go(state: State) -> Selection:
    """All stages in order."""
    families, lost = _named(state)
    over: list[Over] = []
    artefacts = state.stage(STATIC, len(families), lambda: _static(state, families, lost, over))
    fitting = _measured(state, artefacts, over)
    features = Features(state.judged.inputs, source=state.parts.train.source)
    evidence: dict[str, Evidence] = {}
    started = time.monotonic()
    cheap = scored(state, fitting, features)
    state.spend(SCORES, time.monotonic() - started)
    left = _probed(state, fitting, cheap, features, evidence)
    tuned = _tuned(state, left, evidence)
    evidence |= cheap.out
    started = time.monotonic()
    finalists = _judged(state, [one for one in fitting if one.id in evidence], cheap, evidence, tuned)
    tell(state, finalists, features, probed=[name for name in evidence if name not in cheap.out])
    found = shipped(state, finalists, features)
    state.spend(SHIPPED, time.monotonic() - started)
    state.charge(SHIPPED, len(left), 1)
    return _ended(state, found)


def _judged(
    state: State,
    judged: Sequence[Artefact],
    cheap: Scored,
    evidence: Mapping[str, Evidence],
    tuned: Mapping[str, Tuned],
) -> Finalists:
    """By the rule; who left by its cheap score stands where that puts it, so that there is more to fall back on."""
    costs = {name: cost for name in evidence if (cost := state.rows[name].cost) is not None}
    aim, targets = state.wanted.aim, state.judged.judged_targets
    verdict = judge(evidence, costs, tolerance=state.wanted.tolerance, objective=aim, targets=targets)
    reasons = {name: why + CHEAPLY * (name in cheap.out) for name, why in verdict.reasons.items()}
    verdict = dataclasses.replace(verdict, reasons=reasons)
    return Finalists(verdict, evidence, {artefact.id: artefact for artefact in judged}, tuned)


def _named(state: State) -> tuple[list[Family], list[tuple[str, ZooError]]]:
    started = time.monotonic()
    wanted, kind = state.wanted, state.parts.train.kind
    families, lost = expand(wanted.candidates, kind, wanted.spread, offline=wanted.offline)
    sifted = sift(families, state.budget, offline=wanted.offline)
    state.rows |= {row.id: dataclasses.replace(row, stage=CATALOGUE) for row in sifted.rows}
    state.spend(CATALOGUE, time.monotonic() - started)
    state.charge(CATALOGUE, len(families) + len(lost), len(sifted.kept))
    return list(sifted.kept), lost


def _static(
    state: State, families: Sequence[Family], lost: Sequence[tuple[str, ZooError]], over: list[Over]
) -> list[Artefact]:
    return cost_stages.static(state, make_graphs(state, families, lost), over)


def _measured(state: State, artefacts: Sequence[Artefact], over: list[Over]) -> Sequence[Artefact]:
    name = cost_stages.MEASURED
    fitting = state.stage(name, len(artefacts), lambda: cost_stages.measured(state, artefacts, over))
    if not fitting:
        raise nothing.error(state, over)
    return fitting


def _probed(
    state: State,
    fitting: Sequence[Artefact],
    cheap: Scored,
    features: Features,
    evidence: dict[str, Evidence],
) -> list[Artefact]:
    """Those that may win by the cheap scores, then those that may win by the probes after all."""
    started, tried = time.monotonic(), 0
    aim, targets = state.wanted.aim, state.judged.judged_targets
    todo, left = cheap.left, list[Artefact]()
    while todo:
        tried += len(todo)
        left += probed(state, todo, features, evidence)
        near = called_back(cheap.out, evidence, objective=aim, targets=targets) if evidence else cheap.out
        again = set(near)
        todo = [artefact for artefact in fitting if artefact.id in again]
        cheap.out = {name: found for name, found in cheap.out.items() if name not in again}
    put_baselines(state)
    state.spend(PROBE, time.monotonic() - started)
    state.charge(SCORES, len(fitting), tried)
    state.charge(PROBE, tried, len(left))
    if not left:
        raise none_left(state)
    return left


def _tuned(state: State, left: Sequence[Artefact], evidence: dict[str, Evidence]) -> dict[str, Tuned]:
    """Those that are better fine-tuned; their evidence takes the place of their probe's."""
    started = time.monotonic()
    tuned = fine_tuned(state, left, evidence)
    for name, found in tuned.items():
        state.detail(name, "fine_tuned", found.details(evidence[name]))
    aim, targets = state.wanted.aim, state.judged.judged_targets
    gains = {name: aim.gains([t.evidence, evidence[name]], targets) for name, t in tuned.items()}
    better = {name: t for name, t in tuned.items() if gains[name][0] > gains[name][1]}
    evidence |= {name: found.evidence for name, found in better.items()}
    for name in tuned:
        state.row(name, "within", "", FINE_TUNING, evidence=evidence[name])
    if state.wanted.within_s is not None:
        state.spend(FINE_TUNING, time.monotonic() - started)
        state.charge(FINE_TUNING, len(left), len(tuned))
    return better


def _ended(state: State, found: Selection) -> Selection:
    """Written, and in the journal: from now on the run is done."""
    found = dataclasses.replace(found, seconds=state.seconds, bill=tuple(state.bill))
    if state.folder is not None:
        found.write(state.folder)
        found.report(state.folder / REPORT)
    state.journal.put(FINISHED, found.to_dict())
    return found
