"""Is one way of training better than another? Runs are paired by seed, and judged on the same examples.

The differences are a table, seeds x examples, and both are samples: other seeds and other examples would have
given another gap. So both go into the interval, as readers and cases do in studies of many of each (Roe & Metz
1997; Gallas et al. 2009): with row means' variance s_r, column means' s_c and the rest's s_e over S seeds and
M examples, Var(gap) = s_r / S + s_c / M - s_e / (S M), on Satterthwaite's degrees of freedom (1946).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from zoo.engine import Array

Kind = Literal["better", "worse", "tie", "undecided"]
WIDE = 3.0
"""An interval that reaches further than so many tolerances from 0 is too wide for a tie."""


@dataclass(frozen=True)
class Gap:
    """Of `first` less `second`, as shares of the examples: 0.021 is 2.1 points."""

    value: float
    low: float
    high: float

    def words(self) -> str:
        """ "2.1 points, 95 % interval 0.8 to 3.3"."""
        return (
            f"{100 * self.value:.1f} points, 95 % interval {100 * self.low:.1f} to {100 * self.high:.1f}"
        ).replace("-0.0 ", "0.0 ")

    def reversed(self) -> Gap:
        """The same from the other side."""
        return Gap(-self.value, -self.high, -self.low)


def paired_gap(first: Array, second: Array) -> Gap:
    """Gap in accuracy and its 95 % interval; bool [S, M] each, run s of both with the same seed. S and M >= 2.

    At the least one half example each way counts as undecided (Agresti & Min 2005), so that runs which agree
    on every example are not said to agree on all others too.
    """
    from scipy.stats import t

    table = first.astype(np.float64) - second.astype(np.float64)
    seeds, examples = table.shape
    middle = float(table.mean())
    rows, columns = table.mean(axis=1), table.mean(axis=0)
    rest = table - rows[:, None] - columns[None, :] + middle
    of_rest = float((rest**2).sum()) / ((seeds - 1) * (examples - 1)) / (seeds * examples)
    of_rows, of_columns = float(rows.var(ddof=1)) / seeds, float(columns.var(ddof=1)) / examples
    # Where the sum is the smaller, the component of the other factor was estimated below 0: it is none.
    variance = max(of_rows + of_columns - of_rest, of_rows, of_columns)
    parts = of_rows**2 / (seeds - 1) + of_columns**2 / (examples - 1)
    parts += of_rest**2 / ((seeds - 1) * (examples - 1))
    freedom = variance**2 / parts if parts > 0 else float(examples - 1)
    error = max(math.sqrt(variance), 1 / (examples + 2))
    half = float(t.ppf(0.975, max(1.0, freedom))) * error
    return Gap(middle, max(-1.0, middle - half), min(1.0, middle + half))


def kind_of(gap: Gap, tolerance: float) -> Kind:
    """A tie needs an interval that holds 0 AND a gap within the tolerance AND no great width; else undecided."""
    if gap.low > 0:
        return "better"
    if gap.high < 0:
        return "worse"
    near = abs(gap.value) <= tolerance + 1e-12
    wide = max(-gap.low, gap.high) > WIDE * tolerance + 1e-12
    return "tie" if near and not wide else "undecided"


@dataclass(frozen=True)
class Verdict:
    """first and second: what was compared, in words. times: what the dearer one takes, in units of the other."""

    question: str
    first: str
    second: str
    gap: Gap
    kind: Kind
    times: float | None = None

    def sentence(self) -> str:
        """The verdict for a person."""
        if self.kind == "worse":
            return self._won(self.second, self.first, self.gap.reversed(), _inverse(self.times))
        if self.kind == "better":
            return self._won(self.first, self.second, self.gap, self.times)
        pair = f"{self.first} against {self.second}"
        if self.kind == "tie":
            return f"A tie: {pair}, {self.gap.words()}{self._cheaper()}."
        why = "more seeds or more examples to judge on would narrow it"
        return f"Undecided: {pair}, {self.gap.words()}: {why}{self._cheaper()}."

    def _won(self, winner: str, loser: str, gap: Gap, times: float | None) -> str:
        price = "" if times is None else f", for {_times(times)} the time"
        return f"{_capital(winner)} beats {loser} by {gap.words()}{price}."

    def _cheaper(self) -> str:
        if self.times is None or 0.8 < self.times < 1.25:
            return ""
        dear, cheap = (self.first, self.second) if self.times > 1 else (self.second, self.first)
        return f"; {dear}: {_times(max(self.times, 1 / self.times))} the time of {cheap}"


def compare(
    question: str,
    names: tuple[str, str],
    correct: tuple[Array, Array],
    *,
    tolerance: float,
    times: float | None = None,
) -> Verdict:
    """Judge the first against the second; correct: bool [S, M] each.  times: the first's time by the second's."""
    gap = paired_gap(*correct)
    return Verdict(question, *names, gap, kind_of(gap, tolerance), times)


def _inverse(times: float | None) -> float | None:
    return None if times is None else 1 / times


def _times(value: float) -> str:
    return f"{value:.0f} times" if value >= 9.5 else f"{value:.2g} times"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
