"""The step from probe to fine-tuning: how far it moves candidates, and so how wide a margin dropping has to leave."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from common import table
from select_strategies import Case, gap_low, oracle
from select_table import MODES, Table, probes

from zoo.cards import Budget
from zoo.choose.ladder import MARGIN
from zoo.engine import Array

LOST = 0.05
"""Share of the splits in which dropping may lose the eventual winner."""


@dataclass(frozen=True)
class Margin:
    """kept: the smallest margin (a share of the examples) at which the winner is dropped in at most LOST of the cases.
    text: the distribution for a reader.
    """

    kept: float
    text: str


def margin_of(cases: Sequence[Sequence[Case]]) -> Margin:
    """cases: by split, then budget. A candidate is dropped where the low end of the paired 95 % interval of (leader -
    it), by the cheap score, lies above the margin; the eventual winner is the oracle's choice.
    """
    needed, left = [], []
    for row in cases:
        for case in row:
            probed = {c.label: case.probes[c.label] for c in case.fitting}
            leader = max(probed, key=lambda name: (probed[name].cheap.accuracy, name))
            lows = {name: gap_low(probed, leader, name) for name in probed}
            needed.append(lows[oracle(case).label])
            left.append(np.array(list(lows.values())))
    kept = max(0.0, float(np.quantile(needed, 1 - LOST, method="inverted_cdf")))
    rows = []
    for margin in sorted({0.0, 0.01, 0.02, 0.03, MARGIN, kept}):
        lost = float(np.mean(np.array(needed) > margin + 1e-12))
        stay = float(np.mean([np.mean(lows <= margin + 1e-12) for lows in left]))
        mark = " (calibrated)" if margin == kept else " (used)" if margin == MARGIN else ""
        rows.append([f"{100 * margin:.1f}{mark}", f"{100 * lost:.1f} %", f"{100 * stay:.0f} %"])
    said = (
        f"Dropping by the cheap score: the eventual winner is lost in at most {100 * LOST:.0f} % of {len(needed)} "
        f"cases at a margin of {100 * kept:.1f} points (of its worst case {100 * max(needed):.1f})."
    )
    return Margin(
        kept, said + "\n\n" + table(["margin, points", "winner lost", "candidates that stay"], rows)
    )


def steps(found: Table) -> str:
    """Accuracy on test after fine-tuning less that of the probe's head, and how it differs between candidates."""
    chosen = [c for c in found.task.candidates if c.precision == "fp32"]
    gains = []
    for split in found.splits:
        probed = probes(found.task, split, MODES[0])
        case = Case(found, split, Budget(), probed)
        gains.append(
            [case.best(found.whole(c, split)).test - float(probed[c.label].test.mean()) for c in chosen]
        )
    gain: Array = np.array(gains)
    apart = (gain[:, :, None] - gain[:, None, :])[:, ~np.eye(len(chosen), dtype=bool)]

    def quantiles(values: Array) -> str:
        low, middle, high = (100 * float(q) for q in np.quantile(values, (0.05, 0.5, 0.95)))
        return f"{middle:+.1f} points (5 % to 95 %: {low:+.1f} to {high:+.1f})"

    means = gain.mean(axis=0)
    order = np.argsort(-means)
    ends = ", ".join(f"{chosen[i].label} {100 * means[i]:+.1f}" for i in (*order[:3], *order[-3:]))
    return (
        f"All layers less the probe's head, on test: {quantiles(gain)}; between two candidates the step differs by "
        f"{quantiles(np.abs(apart))}. Highest and lowest on the mean: {ends}."
    )
