"""Smaller data sets out of a large one: stratified, and each within the next larger."""

from __future__ import annotations

import numpy as np

from zoo.engine import Array
from zoo.errors import InputError

FIRST = 2
"""Of each class so many come first: fewer can be neither learned nor split."""


def nested_order(targets: Array, *, seed: int) -> Array:
    """int64 [N]: an order of the examples of which every beginning is stratified; targets int64 [N].

    Each class is shuffled and spread evenly over the whole, after FIRST of each.
    """
    rng = np.random.default_rng(seed)
    places = np.empty(len(targets))
    for target in np.unique(targets):
        members = rng.permutation(np.flatnonzero(targets == target))
        places[members] = (np.arange(len(members)) + rng.uniform()) / len(members)
        places[members[:FIRST]] -= 2
    return np.argsort(places, kind="stable")


def limited(targets: Array, limit: int | None, *, seed: int) -> Array:
    """int64 positions, ascending, of at most `limit` examples, each class in proportion. Raises InputError."""
    if limit is None or limit >= len(targets):
        return np.arange(len(targets))
    least = FIRST * 2 * len(np.unique(targets))
    if limit < least:
        raise InputError(f"limit {limit}: {len(np.unique(targets))} classes need {least} examples at least")
    return np.sort(nested_order(targets, seed=seed)[:limit])
