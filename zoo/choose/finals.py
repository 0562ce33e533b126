"""Who is left at the end of halving, which of them are compared, and which one is picked."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean
from typing import Any

from zoo.choose.arms import OPTIMIZER_WORDS, OPTIMIZERS, PARTS, WORDS, Arm
from zoo.choose.halving import Score
from zoo.choose.paired import Verdict, compare, kind_of, paired_gap
from zoo.choose.tuning import ArmRow
from zoo.engine import Array


@dataclass(frozen=True)
class Finalists:
    """best: of each part that is left.  rivals: the best of each optimizer in the leading part."""

    best: tuple[Arm, ...]
    rivals: tuple[Arm, ...]

    @property
    def arms(self) -> list[Arm]:
        """All of them once: parts in order, then the rivals."""
        return list(dict.fromkeys((*self.best, *self.rivals)))

    def questions(self) -> list[tuple[Arm, Arm]]:
        """Pairs to compare: parts, the deeper one first; then optimizers, the later one first."""
        return [(b, a) for group in (self.best, self.rivals) for a, b in combinations(group, 2)]


def choose_finalists(arms: Sequence[Arm], scores: Mapping[str, Score | None]) -> Finalists:
    """By the last rung's scores, before anything is judged. scores: at least one is not None."""
    alive = [arm for arm in arms if scores.get(arm.key) is not None]
    ranked = sorted(alive, key=lambda arm: rank(scores[arm.key]), reverse=True)
    best = [arm for part in PARTS for arm in _first(ranked, part=part)]
    rivals = [arm for o in OPTIMIZERS for arm in _first(ranked, part=ranked[0].part, optimizer=o)]
    return Finalists(tuple(best), tuple(rivals))


def _first(ranked: Sequence[Arm], **wanted: str) -> list[Arm]:
    return [arm for arm in ranked if all(getattr(arm, k) == v for k, v in wanted.items())][:1]


def score(*results: Mapping[str, Any]) -> Score | None:
    """Mean of a setting's runs, one a seed; None where there is none, or one failed: it cannot be relied on."""
    if not results or any("failed" in result for result in results):
        return None
    accuracy = fmean(result["validation_accuracy"] for result in results)
    return Score(accuracy, -fmean(result["validation_loss"] for result in results))


def rank(found: Score | None) -> tuple[float, float]:
    """Sorts a failed run below all others."""
    return (-math.inf, 0.0) if found is None else (found.accuracy, found.minus_loss)


def pick(rows: Sequence[ArmRow], correct: Mapping[Arm, Array], tolerance: float) -> Arm:
    """The most accurate on the mean, or, of those that tie with it, the most accurate of the fewest trained blocks.

    Not the least seconds: of two settings of one part they differ by the machine's noise alone.
    """
    alive = [row for row in rows if row.arm in correct]
    top = max(alive, key=lambda row: row.accuracy)
    tied = [top]
    tied += [r for r in alive if r is not top and _ties(correct[top.arm], correct[r.arm], tolerance)]
    return min(tied, key=lambda row: (row.blocks, -row.accuracy)).arm


def _ties(top: Array, other: Array, tolerance: float) -> bool:
    return kind_of(paired_gap(top, other), tolerance) == "tie"


def verdicts(
    finalists: Finalists, rows: Sequence[ArmRow], correct: Mapping[Arm, Array], tolerance: float
) -> list[Verdict]:
    """One for each question whose two settings never failed; times are compared between parts."""
    seconds = {row.arm: row.seconds for row in rows}
    found = []
    for first, second in finalists.questions():
        if first not in correct or second not in correct:
            continue
        pair, times = (correct[first], correct[second]), None
        if first.part != second.part:
            names = (WORDS[first.part], WORDS[second.part])
            question = f"{names[0]} or {names[1]}"
            times = seconds[first] / seconds[second] if seconds[second] > 0 else None
        else:
            names = (OPTIMIZER_WORDS[first.optimizer], OPTIMIZER_WORDS[second.optimizer])
            question = f"{names[0]} or {names[1]} for {WORDS[first.part]}"
        question = question[:1].upper() + question[1:]
        found.append(compare(question, names, pair, tolerance=tolerance, times=times))
    return found
