"""Which example goes where: stratified splits, folds, and the order of an epoch, all functions of a seed.

Own numpy code, so that the core needs no scikit-learn; the same seed gives the same parts everywhere.
"""

from __future__ import annotations

import numpy as np

from zoo.data.dataset import Dataset, listing
from zoo.engine import Array
from zoo.errors import DataError, InputError


def split(dataset: Dataset, fraction: float, *, seed: int) -> tuple[Dataset, Dataset]:
    """(the rest, a part of `fraction`), each class in proportion and in both; order within each is kept.

    Raises DataError where a class has one example only, InputError for a fraction outside (0, 1).
    """
    if not 0 < fraction < 1:
        raise InputError(f"fraction {fraction}: the part that is split off must be between 0 and 1")
    _two_of_each(dataset.targets, dataset.classes)
    rng = np.random.default_rng(seed)
    part = np.zeros(len(dataset), dtype=bool)
    members = [np.flatnonzero(dataset.targets == target) for target in np.unique(dataset.targets)]
    for indices, size in zip(members, _shares([len(m) for m in members], fraction), strict=True):
        part[rng.permutation(indices)[:size]] = True
    return dataset.subset(np.flatnonzero(~part)), dataset.subset(np.flatnonzero(part))


def _shares(sizes: list[int], fraction: float) -> list[int]:
    """How many of each class go into the part: largest remainders, at least 1 and never all of a class."""
    exact = np.array(sizes) * fraction
    shares = np.floor(exact).astype(int)
    missing = round(sum(sizes) * fraction) - int(shares.sum())
    for i in np.argsort(-(exact - shares), kind="stable")[: max(0, missing)]:
        shares[i] += 1
    return [int(min(max(share, 1), size - 1)) for share, size in zip(shares, sizes, strict=True)]


def folds(targets: Array, k: int, *, seed: int) -> list[tuple[Array, Array]]:
    """k pairs of (train indices, test indices), int64 ascending; each example is tested once, classes spread.

    A class with fewer than k examples is missing from some test parts, never from a training part.
    Raises DataError where a class has one example only or there are fewer than k examples.
    """
    targets = np.asarray(targets)
    if k < 2:
        raise InputError(f"{k} folds: at least 2 are needed")
    if len(targets) < k:
        raise DataError(
            f"{len(targets)} examples are too few for {k} folds. Add examples or use fewer folds."
        )
    _two_of_each(targets, None)
    rng = np.random.default_rng(seed)
    # Dealt like cards, going on where the last class stopped: the folds' sizes differ by one at most.
    dealt = np.concatenate([rng.permutation(np.flatnonzero(targets == t)) for t in np.unique(targets)])
    fold = np.empty(len(targets), dtype=np.int64)
    fold[dealt] = np.arange(len(targets)) % k
    return [(np.flatnonzero(fold != i), np.flatnonzero(fold == i)) for i in range(k)]


def _two_of_each(targets: Array, classes: tuple[str, ...] | None) -> None:
    values, counts = np.unique(targets, return_counts=True)
    single = [classes[v] if classes else int(v) for v in values[counts < 2]]
    if single:
        raise DataError(
            f"{'class' if len(single) == 1 else 'classes'} {listing(single)} with one example only: it cannot be "
            "both learned and tested. Add examples of it, or leave the class out."
        )


def epoch_order(n: int, *, seed: int, epoch: int) -> Array:
    """int64 [n]: the order of an epoch, a function of (seed, epoch) alone, so a resumed run repeats it."""
    return np.random.default_rng([seed, epoch]).permutation(n)
