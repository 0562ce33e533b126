"""Percentiles of latency with an upper confidence bound, blank where the samples cannot carry them.

The bound is the early-stopping rule of MLPerf Inference (Reddi et al. 2020; LoadGen's `early_stopping.cc`,
single stream): of n runs let the t slowest be over a latency L. Were the percentile p above L, so few or fewer would
be over it with the probability P(Binomial(n, 1 - p) <= t). The largest t for which that is at most
1 - confidence gives the bound: the t-th slowest run. It assumes nothing about the distribution but that the
runs are independent and alike. LoadGen counts t where t - 1 would do, so the bound holds a little more often than it
says; we keep to it, so that the figures are MLPerf's.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

CONFIDENCE = 0.99
"""LoadGen's own: p50 then needs 11 runs, p90 64, p99 662."""


def percentile(values: Sequence[float], percent: int) -> float | None:
    """The `percent`-th percentile, interpolated between neighbours; None with fewer than `needed` values."""
    if len(values) < needed(percent):
        return None
    ordered = sorted(values)
    position = (len(ordered) - 1) * percent / 100
    below = math.floor(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (position - below)


def upper_bound(values: Sequence[float], percent: int, *, confidence: float = CONFIDENCE) -> float | None:
    """What the `percent`-th percentile exceeds with a probability of 1 - confidence at most; None: too few values."""
    over = _most_over(len(values), percent, confidence)
    return sorted(values)[len(values) - over] if over else None


@functools.cache
def needed(percent: int, *, confidence: float = CONFIDENCE) -> int:
    """Runs without which that percentile has no upper bound."""
    count = 2
    while not _most_over(count, percent, confidence):
        count += 1
    return count


@functools.lru_cache(maxsize=4096)
def _most_over(count: int, percent: int, confidence: float) -> int:
    """The largest t with P(Binomial(count, 1 - p) <= t) <= 1 - confidence; 0 where not even t = 1 has it."""
    over, below = 0, _probability(count, 0, percent)
    while over < count:
        below += _probability(count, over + 1, percent)
        if below > 1 - confidence:
            break
        over += 1
    return over


def _probability(count: int, over: int, percent: int) -> float:
    """P(Binomial(count, 1 - percent / 100) = over), by logarithms: the coefficients overflow floats."""
    log_ways = math.lgamma(count + 1) - math.lgamma(over + 1) - math.lgamma(count - over + 1)
    share = percent / 100
    return math.exp(log_ways + over * math.log1p(-share) + (count - over) * math.log(share))
