"""The truth table read back: what every run came to, and what the selector's own code makes of the same splits.

The selector is called here and nowhere else: `judged_candidate` fits its probes as `zoo.select` does, on kept features;
`select_strategies` puts them before its rule. Results are kept by the digest of the code that makes them.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from select_prepare import costs, features
from select_space import SEEDS, SPLITS, Candidate, Network, Task
from select_train import bits, key
from select_truth import heads_folder, pace, read, whole_folder

from zoo.choose import evidence, journal, ladder, logme, ridge
from zoo.choose.arms import Arm
from zoo.choose.evidence import Evidence, cross_validate, fit_linear_head
from zoo.choose.halving import Score
from zoo.choose.ladder import cheap_scores
from zoo.data import folds
from zoo.engine import Array

FOLDS = 5
NAMES = ("logistic", "ridge", "LogME")
"""Scores: the probe that is judged by, and the two cheap ones of `zoo.choose.ladder`."""
MODES = ("validation", "cross-validation")
"""Judged on the validation part, as the oracle is; or, as `zoo select` does unless told otherwise, over train and
validation together, on which the head that ships is then fitted too."""


@dataclass(frozen=True)
class Run:
    """validation, test: bool, an example each, None where it diverged.  cpu: seconds."""

    score: Score | None
    validation: Array
    test: Array
    cpu: float


@dataclass(frozen=True)
class Setting:
    """A candidate with one setting of training, its runs one a seed."""

    candidate: Candidate
    arm: Arm
    runs: tuple[Run, ...]

    @property
    def score(self) -> Score | None:
        """Mean over the seeds; None where one diverged."""
        found = [run.score for run in self.runs if run.score is not None]
        if len(found) < len(self.runs):
            return None
        means = np.mean([(one.accuracy, one.minus_loss) for one in found], axis=0)
        return Score(float(means[0]), float(means[1]))

    @property
    def test(self) -> float:
        """Accuracy on the test part, mean over the seeds."""
        return float(np.mean([run.test.mean() for run in self.runs]))

    @property
    def cpu(self) -> float:
        """Seconds of all its runs."""
        return sum(run.cpu for run in self.runs)


@dataclass(frozen=True)
class Probe:
    """What the selector knows of a candidate. evidence: the probe's, and cheap: the ridge's.  scores: by name.
    test: bool, by the head that would ship.  cpu: seconds of judging and of each score.
    """

    evidence: Evidence
    cheap: Evidence
    test: Array
    scores: dict[str, float]
    cpu: dict[str, float]


class Table:
    """All there is of one task; a network without a run of its own is read as the one that stands for it.

    only_heads: as if no network had been trained as a whole, which is all that there is of most splits for long.
    """

    def __init__(self, task: Task, *, only_heads: bool = False) -> None:
        self.task, self.costs, self.only_heads = task, costs(task), only_heads
        self._heads = {c.label: read(heads_folder(task, c)) for c in task.candidates}
        self._pace = pace(task)
        self._whole = {n.label: read(whole_folder(task, n)) for n in task.networks if not n.fine_tuned_as}

    @functools.cache  # noqa: B019 - a table lives as long as the program
    def seeds(self, split: int) -> tuple[int, ...]:
        """Of which every network's every run of full length is there, and every head."""
        return tuple(seed for seed in SEEDS if self._has(split, seed, self.task.epochs))

    def _has(self, split: int, seed: int, epochs: int) -> bool:
        whole = [] if self.only_heads else [key(arm, epochs, seed, split) for arm in self.task.arms("all")]
        heads = [key(arm, self.task.epochs, seed, split) for arm in self.task.arms("head")]
        return all(one in done for done in self._whole.values() for one in whole) and all(
            one in done for done in self._heads.values() for one in heads
        )

    @functools.cached_property
    def splits(self) -> list[int]:
        """Those that are whole for a seed at the least."""
        return [number for number in range(SPLITS) if self.seeds(number)]

    def has_short(self, split: int) -> bool:
        """Whether halving's first rung is there."""
        return not self.only_heads and self._has(split, SEEDS[0], self.task.short)

    def heads(self, candidate: Candidate, split: int) -> list[Setting]:
        """With the seeds that the whole networks have, for a fair choice between them."""
        done = self._heads[candidate.label]
        return [
            self._setting(candidate, arm, done, self.task.epochs, split) for arm in self.task.arms("head")
        ]

    def whole(self, candidate: Candidate, split: int, *, short: bool = False) -> list[Setting]:
        """All layers trained; none of a candidate in int8."""
        if candidate.precision != "fp32" or self.only_heads:
            return []
        done = self._whole[fine_tuned(candidate.network)]
        epochs = self.task.short if short else self.task.epochs
        return [
            self._setting(candidate, arm, done, epochs, split, seeds=(0,) if short else None)
            for arm in self.task.arms("all")
        ]

    def _setting(
        self,
        candidate: Candidate,
        arm: Arm,
        done: dict[str, dict[str, Any]],
        epochs: int,
        split: int,
        *,
        seeds: Sequence[int] | None = None,
    ) -> Setting:
        chosen = self.seeds(split) if seeds is None else seeds
        found = [done[key(arm, epochs, seed, split)] for seed in chosen]
        each = self._pace.get(fine_tuned(candidate.network), {}).get(arm.optimizer)
        return Setting(
            candidate,
            arm,
            tuple(_run(r, None if "device" not in r or each is None else each * epochs) for r in found),
        )


def fine_tuned(network: Network) -> str:
    """The label under which its fine-tuning is."""
    return network.fine_tuned_as or network.label


def _run(result: dict[str, Any], here: float | None) -> Run:
    """here: what it would have taken on this machine, where it ran on another."""
    if "device" in result and here is None:
        raise RuntimeError("trained on another machine: python benchmarks/select_truth.py --pace, then again")
    spent = result["cpu"] if here is None else here
    if "failed" in result:
        return Run(None, np.zeros(0, bool), np.zeros(1, bool), spent)
    validation, test = (marks(result[part]) for part in ("validation", "test"))
    return Run(Score(float(validation.mean()), -result["validation_loss"]), validation, test, spent)


def marks(text: str) -> Array:
    """ "0110" as bool [M]."""
    return np.frombuffer(text.encode(), np.uint8) == ord("1")


# --- the selector's own code on the same splits
def probes(task: Task, split: int, mode: str) -> dict[str, Probe]:
    """Every candidate's, by label; computed once for each state of the code."""
    sources = "".join(inspect.getsource(code) for code in (evidence, ridge, logme, ladder, judged_candidate))
    digest = hashlib.sha256(sources.encode()).hexdigest()[:8]
    question = {"command": "probes", "task": task.name, "code": digest, "data": task.data.fingerprint()}
    with journal.opened(task.folder / f"probes-{digest}", question, resume=True) as kept:
        return {
            candidate.label: _probe(
                kept.once(
                    f"{candidate.label}/{mode}/{split}",
                    functools.partial(judged_candidate, task, candidate, split, mode),
                )
            )
            for candidate in task.candidates
        }


def _probe(stored: dict[str, Any]) -> Probe:
    judged, cheap = (Evidence(marks(stored[name])) for name in ("correct", "ridge"))
    return Probe(judged, cheap, marks(stored["test"]), stored["scores"], stored["cpu"])


def judged_candidate(task: Task, candidate: Candidate, number: int, mode: str) -> dict[str, Any]:
    """Cross-validation, head and cheap scores as `zoo.select` makes them, from features that are there."""
    rows, targets, split = features(task, candidate)[0], task.data.targets, task.split(number)
    known = np.concatenate([split.train, split.validation])
    x, y, count = rows[known], targets[known], len(split.train)
    places = np.arange(len(known))
    splits = [(places[:count], places[count:])] if mode == MODES[0] else folds(y, FOLDS, seed=number)
    found, cpu = timed(lambda: cross_validate(x, y, splits, seed=number))
    taught = slice(count) if mode == MODES[0] else slice(None)
    head, head_cpu = timed(lambda: fit_linear_head(x[taught], y[taught], len(task.data.classes), seed=number))
    right = (rows[split.test] @ head[0].T + head[1]).argmax(axis=1) == targets[split.test]
    cheap, cheap_cpu = timed(lambda: cheap_scores(x, y, splits))
    scores = {"logistic": found.accuracy, "ridge": cheap.evidence.accuracy, "LogME": cheap.logme}
    seconds = {"logistic": cpu, "head": head_cpu, "ridge": cheap_cpu, "LogME": cheap_cpu}
    answers = {"correct": found.correct, "ridge": cheap.evidence.correct, "test": right}
    return {name: bits(marks) for name, marks in answers.items()} | {"scores": scores, "cpu": seconds}


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """What it gives, and its CPU seconds."""
    started = time.process_time()
    return work(), time.process_time() - started
