"""Percentiles of latency, blank where the samples cannot carry them."""

from __future__ import annotations

import math
from collections.abc import Sequence

_BEYOND = 5  # samples that must lie beyond a percentile: p50 needs 10, p90 50, p99 500


def percentile(values: Sequence[float], percent: int) -> float | None:
    """The `percent`-th percentile, interpolated between neighbours; None with too few samples beyond it.

    With fewer than five samples beyond it a percentile is one slow run's luck.
    """
    if len(values) * (100 - percent) < _BEYOND * 100 or not values:
        return None
    ordered = sorted(values)
    position = (len(ordered) - 1) * percent / 100
    below = math.floor(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (position - below)
