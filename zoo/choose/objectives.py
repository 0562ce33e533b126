"""What 'the best model' means: accuracy, macro-F1, log loss, calibration, or the user's own costs of errors.

Each is the mean of one value an example, so that an interval, a paired difference and a count of labels needed come
from the values' spread in one way for all: Student's interval on the mean, or on the mean of the paired
differences. Macro-F1 is no mean; its values are its linearisation (delta method; the infinitesimal jackknife of
Efron 1982; for F1 Takahashi et al. 2022). Accuracy is counted, and has the better intervals for counts: Wilson
(1927), and for pairs Agresti & Min (2005).

Calibration is the Brier score (1950), not the expected calibration error: a model that always says the class
frequencies has an ECE of 0, and on some hundreds of examples the ECE of a perfectly calibrated model is far
from it (Roelofs et al. 2022); the Brier score is proper, needs no bins and is a mean.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from zoo.choose.evidence import Evidence
from zoo.choose.paired import Gap
from zoo.engine import Array
from zoo.errors import InputError
from zoo.probability import Z95, wilson_interval

NO_TARGETS: Array = np.empty(0, np.int64)
CHUNK = 4096
"""Candidates compared at a time: bounds memory."""


@dataclass(frozen=True)
class Gaps:
    """Of one candidate less each of several, in the objective's unit, above 0 where the one is better: float64 [M]."""

    value: Array
    low: Array
    high: Array

    def at(self, index: int) -> Gap:
        """One of them."""
        return Gap(float(self.value[index]), float(self.low[index]), float(self.high[index]))


class Objective(ABC):
    """name: as on the command line.  larger_is_better: of `value`; every gap is above 0 where the first is better.

    unit: the difference that a tolerance of 1 stands for.  In all methods targets are int64 [N], those of the
    judged examples; the accuracy needs none.
    """

    name: ClassVar[str]
    words: ClassVar[str]
    larger_is_better: ClassVar[bool]

    @property
    def unit(self) -> float:
        """1 but for costs."""
        return 1.0

    @property
    def least_error(self) -> float:
        """Half of it, over N examples, is the least standard error of a gap: of outcomes that are counted, two
        candidates that agree on all examples at hand are not known to agree on all others.
        """
        return 0.0

    @abstractmethod
    def values(self, evidence: Evidence, targets: Array) -> Array:
        """float64 [N], whose mean is the objective."""

    def value(self, evidence: Evidence, targets: Array = NO_TARGETS) -> float:
        """The objective itself."""
        return float(self.values(evidence, targets).mean())

    def interval(self, evidence: Evidence, targets: Array = NO_TARGETS) -> tuple[float, float]:
        """95 % interval of the value."""
        each = self.values(evidence, targets)
        half = float(_half(each[None], self.least_error)[0])
        return float(each.mean()) - half, float(each.mean()) + half

    def gains(self, evidences: Sequence[Evidence], targets: Array = NO_TARGETS) -> Array:
        """float64 [M]: the value of each, its sign turned where smaller is better."""
        sign = 1.0 if self.larger_is_better else -1.0
        return np.array([sign * self.value(evidence, targets) for evidence in evidences])

    def gap(self, first: Evidence, second: Evidence, targets: Array = NO_TARGETS) -> Gap:
        """How much better the first is on the same examples, with the paired 95 % interval."""
        return self.gaps(first, [second], targets).at(0)

    def gaps(self, first: Evidence, others: Sequence[Evidence], targets: Array = NO_TARGETS) -> Gaps:
        """`gap` of the first and each of the others."""
        sign = 1.0 if self.larger_is_better else -1.0
        mine = self.values(first, targets)
        value, half = np.empty(len(others)), np.empty(len(others))
        for start in range(0, len(others), CHUNK):
            part = slice(start, start + CHUNK)
            each = sign * (mine - np.array([self.values(other, targets) for other in others[part]]))
            value[part], half[part] = each.mean(axis=1), _half(each, self.least_error)
        return Gaps(value, value - half, value + half)

    def sentence(self, evidence: Evidence, targets: Array) -> str:
        """The value and its interval for a person."""
        low, high = self.interval(evidence, targets)
        best = "larger" if self.larger_is_better else "smaller"
        return (
            f"By {self.words}, {self.value(evidence, targets):.3g} (95 % interval {low:.3g} to {high:.3g}), of which "
            f"{best} is better."
        )

    def size(self, gap: float) -> str:
        """The size of a gap for a person, without its sign."""
        return f"{abs(gap):.3g} of {self.words}"

    def signed(self, gap: float) -> str:
        """With its sign, + where the first is the better one."""
        return ("-" if gap < 0 else "+") + self.size(gap)

    def behind(self, leader: str, gap: Gap) -> str:
        """Why a candidate lost: gap is the leader less it."""
        where = "below" if self.larger_is_better else "above"
        return (
            f"{self.words} {abs(gap.value):.3g} {where} that of {leader} "
            f"(95 % interval {gap.low:.3g} to {gap.high:.3g})"
        )


def _half(each: Array, least: float) -> Array:
    """Half the width of Student's 95 % interval of the mean of each row of [M, N]; infinite for N = 1."""
    from scipy.stats import t

    count = each.shape[1]
    if count < 2:
        return np.full(len(each), math.inf)
    error = np.maximum(each.std(axis=1, ddof=1) / math.sqrt(count), least / 2 / count)
    half: Array = float(t.ppf(0.975, count - 1)) * error
    return half


class InPoints(Objective):
    """A share, of which a larger one is better: gaps are told in points."""

    larger_is_better = True
    points: ClassVar[str]

    def size(self, gap: float) -> str:
        """In points."""
        return f"{100 * abs(gap):.1f} {self.points}"

    def behind(self, leader: str, gap: Gap) -> str:
        """In points."""
        return (
            f"{100 * gap.value:.1f} {self.points} below {leader} "
            f"(95 % interval {100 * gap.low:.1f} to {100 * gap.high:.1f})"
        )


@dataclass(frozen=True)
class Accuracy(InPoints):
    """Share of examples answered right."""

    name = "accuracy"
    words = "accuracy"
    points = "points"

    def values(self, evidence: Evidence, targets: Array) -> Array:
        """1 or 0."""
        return evidence.correct.astype(np.float64)

    def interval(self, evidence: Evidence, targets: Array = NO_TARGETS) -> tuple[float, float]:
        """Wilson's."""
        return wilson_interval(int(evidence.correct.sum()), len(evidence.correct))

    def gains(self, evidences: Sequence[Evidence], targets: Array = NO_TARGETS) -> Array:
        """float64 [M]."""
        return np.array([np.count_nonzero(e.correct) / len(e.correct) for e in evidences])

    def gaps(self, first: Evidence, others: Sequence[Evidence], targets: Array = NO_TARGETS) -> Gaps:
        """`paired_interval` of each: Wald's after half an observation in each cell."""
        found = [self._of(first, others[i : i + CHUNK]) for i in range(0, len(others), CHUNK)]
        value, low, high = np.concatenate(found, axis=1) if found else np.empty((3, 0))
        return Gaps(value, low, high)

    def _of(self, first: Evidence, others: Sequence[Evidence]) -> Array:
        theirs = np.array([other.correct for other in others])
        n = theirs.shape[1] + 2
        better = np.count_nonzero(first.correct & ~theirs, axis=1) + 0.5
        worse = np.count_nonzero(theirs & ~first.correct, axis=1) + 0.5
        middle = (better - worse) / n
        error = np.sqrt(np.maximum(better + worse - (better - worse) ** 2 / n, 0.0)) / n
        return np.array([(better - worse) / (n - 2), middle - Z95 * error, middle + Z95 * error])


@dataclass(frozen=True)
class MacroF1(InPoints):
    """Unweighted mean of F1 over the classes that occur in the answers or the targets."""

    name = "macro-f1"
    words = "macro-F1"
    points = "points of macro-F1"

    def values(self, evidence: Evidence, targets: Array) -> Array:
        """The value plus N times each example's influence on it, whose mean over examples is 0.

        F1 of a class is 2 h / m with h right answers and m answers and targets together; an example moves it by
        2 dh / m - 2 h dm / m^2.
        """
        _check(evidence, targets)
        count, classes = evidence.probabilities.shape
        answers = evidence.probabilities.argmax(axis=1)
        said, true = np.eye(classes)[answers], np.eye(classes)[targets]
        hit, named = said * true, said + true
        hits, total = hit.sum(axis=0), named.sum(axis=0)
        present = total > 0
        share = np.where(present, 1 / np.maximum(total, 1), 0.0) / max(1, int(present.sum()))
        influence = (2 * share * hit - 2 * share * named * (hits / np.maximum(total, 1))).sum(axis=1)
        each: Array = float((2 * share * hits).sum()) + count * influence
        return each


@dataclass(frozen=True)
class LogLoss(Objective):
    """Mean of -log p(target), in nats; a probability of 0 counts as float32's smallest, 1.2e-38."""

    name = "log-loss"
    words = "log loss"
    larger_is_better = False

    def values(self, evidence: Evidence, targets: Array) -> Array:
        """Nats."""
        _check(evidence, targets)
        chosen = evidence.probabilities[np.arange(len(targets)), targets].astype(np.float64)
        losses: Array = -np.log(np.maximum(chosen, np.finfo(np.float32).tiny))
        return losses


@dataclass(frozen=True)
class Brier(Objective):
    """Mean squared distance of the probabilities from the one-hot target, summed over classes: 0 to 2."""

    name = "calibration"
    words = "Brier score"
    larger_is_better = False

    def values(self, evidence: Evidence, targets: Array) -> Array:
        """0 to 2."""
        _check(evidence, targets)
        wide = evidence.probabilities.astype(np.float64)
        distances: Array = ((wide - np.eye(wide.shape[1])[targets]) ** 2).sum(axis=1)
        return distances


@dataclass(frozen=True, eq=False)
class MeanCost(Objective):
    """Mean cost of the answers by the user's matrix: the negative of its mean utility.

    matrix: float64 [C, C], a row for each true class, a column for each answer.  The answer is the most probable
    class, as the file that ships answers; not the one of least expected cost.
    """

    name = "cost"
    words = "mean cost"
    larger_is_better = False
    matrix: Array = field(default_factory=lambda: 1 - np.eye(2))

    @property
    def unit(self) -> float:
        """What the dearest error costs beyond the right answer."""
        return float((self.matrix - np.diag(self.matrix)[:, None]).max())

    @property
    def least_error(self) -> float:
        """Costs are counted outcomes."""
        return self.unit

    def values(self, evidence: Evidence, targets: Array) -> Array:
        """In the matrix's unit."""
        _check(evidence, targets)
        found: Array = self.matrix[targets, evidence.probabilities.argmax(axis=1)]
        return found


ACCURACY = Accuracy()
NAMED: dict[str, Objective] = {o.name: o for o in (ACCURACY, MacroF1(), LogLoss(), Brier())}


def _check(evidence: Evidence, targets: Array) -> None:
    """Everything but the accuracy needs probabilities and targets; a caller's mistake, not a user's."""
    if len(evidence.probabilities) != len(targets):
        raise ValueError(f"{len(evidence.probabilities)} predictions for {len(targets)} targets")


def objective_named(name: str) -> Objective:
    """The objective of that name, but for "cost", which is made of a matrix. Raises InputError that lists the names."""
    if name not in NAMED:
        raise InputError(f"no objective {name!r}: there are {', '.join([*NAMED, MeanCost.name])}")
    return NAMED[name]


def scores(evidence: Evidence, targets: Array, aim: Objective = ACCURACY) -> dict[str, dict[str, float]]:
    """{name: {"value", "low", "high"}} of every objective, and of `aim` where it is the cost. JSON-able."""
    found = {}
    for objective in dict.fromkeys((*NAMED.values(), aim)):
        low, high = objective.interval(evidence, targets)
        found[objective.name] = {"value": objective.value(evidence, targets), "low": low, "high": high}
    return found
