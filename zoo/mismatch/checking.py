"""`zoo.check`: open model and data, put them in one order of classes, try every hypothesis, report."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from zoo.cards import ImagePreprocess, Preprocess
from zoo.choose.bench import files
from zoo.data import Dataset, Kind, find_parts, open_data
from zoo.data.dataset import listing
from zoo.data.parts import Part
from zoo.data.sources import Data, OnError
from zoo.engine import Array
from zoo.errors import DataError, HeadMissingError, InputError, ModelFileError
from zoo.graph import OnnxModel, metadata
from zoo.graph.session import load_proto
from zoo.mismatch import facts as file_facts
from zoo.mismatch.hypotheses import COMMON_SIZES, LEAST_GAIN, Hypothesis, hypotheses
from zoo.mismatch.judging import SCREENED, Comparison, Judge, Outcome, fewest_gained, mcnemar
from zoo.mismatch.report import CheckReport, Finding, Trial, describe_change
from zoo.train import wilson_interval

if TYPE_CHECKING:
    from zoo.backbone import Backbone

Say = Callable[[str], None]
MOST_FAULTS = 3
INDISTINCT = 0.05
"""Two corrections that differ less surely than this are said to explain the same fault."""


def check(
    model: str | Path | Backbone | OnnxModel,
    data: Data,
    *,
    examples: int = 200,
    part: Part | None = None,
    seed: int = 0,
    threads: int | None = None,
    text: str | None = None,
    label: str | None = None,
    on_error: OnError = "fail",
    progress: Say | None = None,
) -> CheckReport:
    """Whether the model gets its inputs and its labels as it was trained to, judged by itself on labelled data.

    Looks for: normalised twice, BGR for RGB, 0-255 for 0-1 and the reverse, another normalisation, wrong size,
    labels shifted by one. model: an ONNX file, an id, a saved run, a Backbone or OnnxModel, with a head. data:
    with the model's classes, by name or by number; data in parts is judged on its test part (or `part`).
    Two faults that hide each other (of which mending one alone helps nothing) are not found: "unclear".
    examples: how many are looked at, classes in turn. A head trained on wrongly prepared pictures is used to
    them: check with the head that came with the weights. Raises DataError, HeadMissingError, WeightsError.
    """
    if examples < 2:
        raise InputError(f"examples {examples}: at least 2 are needed to compare anything")
    say = progress or (lambda message: None)
    with tempfile.TemporaryDirectory(prefix="zoo-check-") as work:
        opened = _opened(model, Path(work), threads, say)
        if opened.num_classes is None:
            raise HeadMissingError(f"{opened.id} has no classification head, and a check needs its answers")
        kind: Kind = "image" if isinstance(opened.preprocess, ImagePreprocess) else "text"
        judged = find_parts(data).to_judge(part)
        dataset = open_data(judged, kind=kind, text=text, label=label, on_error=on_error)
        targets = targets_of(dataset, opened.labels, opened.num_classes)
        chosen = file_facts.stratified(targets, examples, seed=seed)
        inputs = [dataset.inputs[i] for i in chosen]
        judge = Judge(opened, _resizable(opened, Path(work)), inputs, targets[chosen])
        search = _Search(judge, _sizes(opened), say)
        search.run()
        found = tuple(file_facts.facts(opened, len(dataset.classes)))
        return _report(search, opened.id, dataset.source, found)


def _opened(model: str | Path | Backbone | OnnxModel, work: Path, threads: int | None, say: Say) -> OnnxModel:
    if isinstance(model, OnnxModel):
        return model
    ((_, path),) = files([model], work, say=say, random_if_unreachable=False)
    if not isinstance(path, Path):
        raise path
    return OnnxModel(path, threads=threads)


def _resizable(model: OnnxModel, work: Path) -> OnnxModel | None:
    if not isinstance(model.preprocess, ImagePreprocess):
        return None
    target = work / "any-size.onnx"
    if not file_facts.write_resizable(model.path, target):
        return None
    stored = metadata.read(load_proto(target), target).preprocess
    return OnnxModel(target, preprocess=model.preprocess if stored is None else None, threads=model.threads)


def _sizes(model: OnnxModel) -> tuple[int, ...]:
    known = file_facts.catalogue_size(model)
    return tuple(sorted({*COMMON_SIZES, *((known,) if known else ())}))


def targets_of(dataset: Dataset, labels: Sequence[str] | None, outputs: int) -> Array:
    """int64 [N]: the output of the model that stands for each example's class.

    By name; else by number, where the data's classes are numbers; else in order, where there are as many (or one
    fewer: an output for 'background'). Raises DataError where none of these tells.
    """
    names = dataset.classes
    position = {name: i for i, name in enumerate(labels or ())}
    if set(names) <= set(position):
        outputs_of = [position[name] for name in names]
    elif all(name.isdigit() and int(name) < outputs for name in names):
        outputs_of = [int(name) for name in names]
    elif len(names) in (outputs, outputs - 1):
        outputs_of = list(range(len(names)))
    else:
        missing = sorted(set(names) - set(position))
        raise DataError(
            f"{dataset.source} has classes that the model does not know: {listing(missing)}; the model has "
            f"{outputs}, {listing(list(labels or range(outputs)))}. Name them as the model does, or give their "
            "numbers."
        )
    return np.asarray(outputs_of, dtype=np.int64)[dataset.targets]


@dataclass
class _Search:
    """Finds the surest fault, mends it, and looks again."""

    judge: Judge
    sizes: tuple[int, ...]
    say: Say
    tried: list[Trial] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    shift: int = 0

    def run(self) -> None:
        """At most MOST_FAULTS rounds; a kind of fault is found once."""
        self.preprocess: Preprocess = self.judge.given
        mended: set[str] = set()
        if twice := file_facts.certainly_twice(self.judge.model):
            mended |= self._by_file(*twice)
        for _ in range(MOST_FAULTS):
            given = self.judge.outcome(self.preprocess, self.shift)
            every = hypotheses(self.preprocess, sizes=self.sizes, shift=self.shift)
            todo = [hypothesis for hypothesis in every if hypothesis.kind not in mended]
            self.say(f"trying {len(todo)} corrections on {len(self.judge.targets)} examples")
            alarms = [(h, o) for h in todo if (o := self._try(h, given, len(todo))) is not None]
            if not alarms:
                return
            best, outcome, others = _surest(alarms)
            self._found(best, given, outcome, others, len(todo))
            mended.add(best.kind)

    def _by_file(self, right: ImagePreprocess, why: str) -> set[str]:
        """A fault that the file shows, unless the model itself is surely the worse for its correction."""
        given = self.judge.outcome(self.preprocess, self.shift)
        outcome = self.judge.outcome(right, self.shift)
        if _tells(given, outcome):
            return set()
        best = Hypothesis("values", "normalised twice", f"the same normalisation once: {why}", right)
        self._found(best, given, outcome, (), 1)
        return {best.kind}

    def _try(self, hypothesis: Hypothesis, given: Outcome, tests: int) -> Outcome | None:
        """Its outcome where it raises the alarm."""
        trial = Trial(hypothesis.fault, hypothesis.right)
        try:
            part = self.judge.outcome(hypothesis.preprocess, hypothesis.shift, examples=SCREENED)
            start = given.first(len(part.right))
            few = part.accuracy < start.accuracy and part.log_loss > start.log_loss
            outcome = part if few else self.judge.outcome(hypothesis.preprocess, hypothesis.shift)
            compared = Comparison.of(start if few else given, outcome)
        except ModelFileError:
            self.tried.append(Trial(trial.fault, trial.right, reason="the graph takes no other size"))
            return None
        self.tried.append(
            Trial(
                trial.fault, trial.right, outcome.accuracy, outcome.log_loss, compared.gained, compared.lost,
                compared.p, len(outcome.right), "no better on the first examples" if few else "",
            )
        )  # fmt: skip
        return outcome if not few and compared.alarms(hypothesis.kind, tests) else None

    def _found(
        self, best: Hypothesis, given: Outcome, outcome: Outcome, others: Sequence[str], tests: int
    ) -> None:
        compared = Comparison.of(given, outcome)
        before, after = self._values(self.preprocess), self._values(best.preprocess)
        self.findings.append(
            Finding(
                best.fault, best.right, given.accuracy, outcome.accuracy, compared.low, compared.high,
                compared.gained, compared.lost, min(1.0, compared.p * tests), given.log_loss, outcome.log_loss,
                "" if before == after else before, "" if before == after else after,
                describe_change(self.preprocess, best.preprocess, best.shift - self.shift), tuple(others),
            )
        )  # fmt: skip
        self.preprocess, self.shift = best.preprocess, best.shift

    def _values(self, preprocess: Preprocess) -> str:
        if not isinstance(preprocess, ImagePreprocess):
            return ""
        return file_facts.describe_values(self.judge.images(preprocess))


def _surest(alarms: Sequence[tuple[Hypothesis, Outcome]]) -> tuple[Hypothesis, Outcome, list[str]]:
    """The correction to take, and what explains the fault as well.

    Of those whose accuracy cannot be told from the best one's, the one with the lowest log loss; of those that
    cannot be told apart by that either, the commonest fault.
    """
    top = max(alarms, key=lambda a: (a[1].accuracy, -a[1].log_loss))[1]
    close = [a for a in alarms if not _tells(top, a[1])]
    lowest = min(close, key=lambda a: a[1].log_loss)[1]
    level = [a for a in close if not _worse(a[1], lowest)]
    best, outcome = level[0]
    return best, outcome, [f"{h.fault} ({h.right})" for h, _ in level[1:]]


def _tells(better: Outcome, other: Outcome) -> bool:
    compared = Comparison.of(other, better)
    return mcnemar(compared.gained, compared.lost) < INDISTINCT


def _worse(one: Outcome, best: Outcome) -> bool:
    """Whether the losses are higher by more than two standard errors of their paired difference."""
    gap = one.losses - best.losses
    return bool(gap.mean() > 2 * gap.std() / np.sqrt(len(gap)))


def _report(search: _Search, model: str, source: str, facts: tuple[str, ...]) -> CheckReport:
    judge = search.judge
    given = judge.outcome(judge.given, 0)
    final = judge.outcome(search.preprocess, search.shift)
    count = len(judge.targets)
    chance = np.bincount(judge.targets).max() / count
    lowest, _ = wilson_interval(int(final.right.sum()), count)
    verdict = "fault" if search.findings else "no fault found" if lowest > chance else "unclear"
    tests = len(hypotheses(judge.given, sizes=search.sizes))
    smallest = max(min(LEAST_GAIN.values()), min(1.0, fewest_gained(tests) / count))
    return CheckReport(
        model, source, count, given.accuracy, *wilson_interval(int(given.right.sum()), count), given.log_loss,
        verdict, tuple(search.findings), tuple(search.tried), facts, smallest, search.preprocess, search.shift,
    )  # fmt: skip
