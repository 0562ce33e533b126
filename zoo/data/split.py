"""Which example goes where: stratified splits, folds, and the order of an epoch, all functions of a seed.

Own numpy code, so that the core needs no scikit-learn; the same seed gives the same parts everywhere.

groups, where they are given, are int64 [N]: examples of one number stay on one side of every split. Without two
examples of one group they change nothing.
"""

from __future__ import annotations

import numpy as np

from zoo.data.dataset import Dataset, listing
from zoo.engine import Array
from zoo.errors import DataError, InputError


def split(
    dataset: Dataset, fraction: float, *, seed: int, groups: Array | None = None
) -> tuple[Dataset, Dataset]:
    """(the rest, a part of `fraction`), each class in proportion and in both; order within each is kept.

    Raises DataError where a class has one example only, InputError for a fraction outside (0, 1).
    """
    rest, part = split_indices(dataset, fraction, seed=seed, groups=groups)
    return dataset.subset(rest), dataset.subset(part)


def split_indices(
    dataset: Dataset, fraction: float, *, seed: int, groups: Array | None = None
) -> tuple[Array, Array]:
    """The places, int64 ascending, of what `split` gives. Raises what it raises."""
    if not 0 < fraction < 1:
        raise InputError(f"fraction {fraction}: the part that is split off must be between 0 and 1")
    units, kinds, sizes = _units(dataset.targets, groups)
    _two_of_each(kinds, dataset.classes, copies=len(kinds) < len(dataset))
    rng = np.random.default_rng(seed)
    chosen = np.zeros(len(kinds), dtype=bool)
    members = [np.flatnonzero(kinds == kind) for kind in np.unique(kinds)]
    shares = _shares([int(sizes[m].sum()) for m in members], fraction)
    for indices, share in zip(members, shares, strict=True):
        chosen[_up_to(rng.permutation(indices), sizes, share)] = True
    part = chosen[units]
    return np.flatnonzero(~part), np.flatnonzero(part)


def _units(targets: Array, groups: Array | None) -> tuple[Array, Array, Array]:
    """What is dealt: (int64 [N] the unit of each example, int64 [U] each unit's class, int64 [U] its examples).

    A unit is a group, or a single example without groups; its class is that of most of its examples.
    """
    if groups is None or len(np.unique(groups)) == len(groups):
        return np.arange(len(targets)), np.asarray(targets), np.ones(len(targets), np.int64)
    _, units = np.unique(groups, return_inverse=True)
    counts = np.zeros((int(units.max()) + 1, int(targets.max()) + 1), np.int64)
    np.add.at(counts, (units.reshape(-1), targets), 1)
    return units.reshape(-1), counts.argmax(axis=1), counts.sum(axis=1)


def _up_to(order: Array, sizes: Array, share: int) -> list[int]:
    """The first units of an order that hold `share` examples, larger ones passed over; one at least, never all."""
    if len(sizes) and int(sizes.max()) == 1:
        return [int(i) for i in order[:share]]
    chosen: list[int] = []
    held = 0
    for unit in order[:-1]:
        if held + sizes[unit] <= share:
            chosen.append(int(unit))
            held += int(sizes[unit])
    return chosen or [int(min(order, key=lambda unit: sizes[unit]))]


def _shares(sizes: list[int], fraction: float) -> list[int]:
    """How many of each class go into the part: largest remainders, at least 1 and never all of a class."""
    exact = np.array(sizes) * fraction
    shares = np.floor(exact).astype(int)
    missing = round(sum(sizes) * fraction) - int(shares.sum())
    for i in np.argsort(-(exact - shares), kind="stable")[: max(0, missing)]:
        shares[i] += 1
    return [int(min(max(share, 1), size - 1)) for share, size in zip(shares, sizes, strict=True)]


def folds(targets: Array, k: int, *, seed: int, groups: Array | None = None) -> list[tuple[Array, Array]]:
    """k pairs of (train indices, test indices), int64 ascending; each example is tested once, classes spread.

    A class with fewer than k examples is missing from some test parts, never from a training part.
    Raises DataError where a class has one example only or there are fewer than k examples (of one group: one).
    """
    targets = np.asarray(targets)
    if k < 2:
        raise InputError(f"{k} folds: at least 2 are needed")
    units, kinds, sizes = _units(targets, groups)
    if len(kinds) < k:
        raise DataError(f"{len(kinds)} examples are too few for {k} folds. Add examples or use fewer folds.")
    _two_of_each(kinds, None, copies=len(kinds) < len(targets))
    rng = np.random.default_rng(seed)
    dealt = np.concatenate([rng.permutation(np.flatnonzero(kinds == kind)) for kind in np.unique(kinds)])
    fold = (_dealt(dealt, k) if len(kinds) == len(targets) else _balanced(dealt, kinds, sizes, k))[units]
    return [(np.flatnonzero(fold != i), np.flatnonzero(fold == i)) for i in range(k)]


def _dealt(order: Array, k: int) -> Array:
    """Like cards, going on where the last class stopped: the folds' sizes differ by one at most."""
    fold = np.empty(len(order), dtype=np.int64)
    fold[order] = np.arange(len(order)) % k
    return fold


def _balanced(order: Array, kinds: Array, sizes: Array, k: int) -> Array:
    """The largest units first, each to the fold with fewest of its class, then with fewest at all.

    scikit-learn's StratifiedGroupKFold goes the same way, by the deviation of all classes' counts; its order of
    groups of one size is not ours.
    """
    counts = np.zeros((k, int(kinds.max()) + 1), np.int64)
    units = np.zeros(k, np.int64)
    fold = np.empty(len(order), dtype=np.int64)
    for unit in order[np.argsort(-sizes[order], kind="stable")]:
        kind = kinds[unit]
        to = min(range(k), key=lambda i: (counts[i, kind], counts[i].sum(), units[i], i))
        fold[unit] = to
        counts[to, kind] += sizes[unit]
        units[to] += 1
    return fold


def _two_of_each(targets: Array, classes: tuple[str, ...] | None, *, copies: bool = False) -> None:
    values, counts = np.unique(targets, return_counts=True)
    single = [classes[v] if classes else int(v) for v in values[counts < 2]]
    if single:
        several = f"{'class' if len(single) == 1 else 'classes'} {listing(single)} with one example only"
        raise DataError(
            f"{several}{', all others being copies of it' if copies else ''}: it cannot be "
            "both learned and tested. Add examples of it, or leave the class out."
        )


def epoch_order(n: int, *, seed: int, epoch: int) -> Array:
    """int64 [n]: the order of an epoch, a function of (seed, epoch) alone, so a resumed run repeats it."""
    return np.random.default_rng([seed, epoch]).permutation(n)
