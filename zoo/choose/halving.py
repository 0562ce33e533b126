"""Successive halving (Jamieson & Talwalkar 2016): many settings for few epochs, the better ones for more.

Settings are compared within strata as well as overall: the best of each stratum is always promoted, because
the question is not only which setting wins but how the best of each kind compares. A rung starts afresh with
its own number of epochs: a schedule that falls to zero depends on its length, so a longer run is not the
shorter one continued.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

ETA = 3
"""Each rung keeps a third and gives it three times the epochs."""


@dataclass(frozen=True)
class Rung:
    """epochs: of every setting in it.  keep: how many of them go on."""

    epochs: int
    keep: int


@dataclass(frozen=True, order=True)
class Score:
    """Ordered: accuracy first, and of equals the lower loss (kept as its negative).

    Not the loss first: a network that learnt nothing (0.69 on two classes) would beat an accurate one that is too
    sure of itself, as it did on sst2.
    """

    accuracy: float
    minus_loss: float


def rungs(settings: int, strata: int, epochs: int, *, eta: int = ETA) -> list[Rung]:
    """From the shortest rung to the one of `epochs`; none that would send nobody home, but for the last.

    settings: how many there are; strata: how many must be left at the least.
    """
    narrowings = math.ceil(round(math.log(max(1.0, settings / strata), eta), 9))
    lengths = math.floor(round(math.log(epochs, eta), 9))
    count = min(narrowings, lengths)
    found, left = [], settings
    for number in range(count + 1):
        left = max(strata, math.ceil(left / eta)) if number < count else min(left, strata)
        found.append(Rung(max(1, round(epochs / eta ** (count - number))), left))
    return found


def promote(scores: Mapping[str, Score | None], stratum: Mapping[str, str], keep: int) -> list[str]:
    """The names that go on, in the order of `scores`: each stratum's best, then the best of the rest.

    scores: None for one that failed, which never goes on.  Equal scores go to the earlier name.
    """
    names = list(scores)
    alive = [name for name in names if scores[name] is not None]
    ranked = sorted(alive, key=lambda name: (_worst_last(scores[name]), names.index(name)))
    chosen: dict[str, str] = {}
    for name in ranked:
        chosen.setdefault(stratum[name], name)
    kept = set(chosen.values())
    for name in ranked:
        if len(kept) >= keep:
            break
        kept.add(name)
    return [name for name in names if name in kept]


def _worst_last(score: Score | None) -> tuple[float, float]:
    assert score is not None
    return -score.accuracy, -score.minus_loss
