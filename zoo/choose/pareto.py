"""Who is beaten by nobody: the Pareto front of quality against cost."""

from __future__ import annotations

from collections.abc import Sequence


def front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Indices of (cost, quality) that no other point beats, the cheapest first; equal points are all on it.

    One beats another that is nowhere better: no dearer, no worse, and different in one of the two.
    """
    order = sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1]))
    found: list[int] = []
    for i in order:
        if not found or points[i][1] > points[found[-1]][1] or points[i] == points[found[-1]]:
            found.append(i)
    return found
