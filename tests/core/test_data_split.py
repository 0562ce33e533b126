"""Splits and folds: stratified, complete, disjoint, the same for the same seed."""

from __future__ import annotations

import numpy as np
import pytest

from zoo.data import Dataset, epoch_order, folds, split
from zoo.data.split import split_indices
from zoo.errors import DataError, InputError


def made(counts: list[int]) -> Dataset:
    targets = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
    classes = tuple("abcdefgh"[: len(counts)])
    return Dataset("text", [f"text {i}" for i in range(len(targets))], targets, classes)


@pytest.mark.parametrize("fraction", [0.1, 0.2, 0.5, 0.9])
def test_split_is_stratified_disjoint_and_complete(fraction: float) -> None:
    data = made([100, 37, 8, 2])
    rest, part = split(data, fraction, seed=3)
    assert sorted([*rest.inputs, *part.inputs]) == sorted(data.inputs)
    for target, count in enumerate([100, 37, 8, 2]):
        inside = int((part.targets == target).sum())
        assert 1 <= inside <= count - 1
        assert abs(inside - count * fraction) <= 1
    assert abs(len(part) - len(data) * fraction) <= 2
    assert rest.classes == part.classes == data.classes


def test_fractions_of_an_example_add_up() -> None:
    part = split(made([15, 15, 15, 15]), 0.1, seed=0)[1]
    assert sorted(np.bincount(part.targets).tolist()) == [1, 1, 2, 2]


def test_each_input_keeps_its_target() -> None:
    data = made([20, 10])
    truth = dict(zip(data.inputs, data.targets, strict=True))
    for piece in split(data, 0.3, seed=0):
        assert all(truth[x] == t for x, t in zip(piece.inputs, piece.targets, strict=True))


def test_split_is_a_function_of_the_seed_and_touches_no_global_generator() -> None:
    data = made([30, 30])
    np.random.seed(5)
    before = np.random.get_state()[1].copy()
    first, again, other = (split(data, 0.3, seed=s)[1].inputs for s in (1, 1, 2))
    assert first == again != other
    assert np.array_equal(before, np.random.get_state()[1])


def test_class_with_one_example_is_named() -> None:
    with pytest.raises(DataError, match=r"class 'b' with one example only.*Add examples"):
        split(made([5, 1]), 0.5, seed=0)
    with pytest.raises(DataError, match="with one example only"):
        folds(np.array([0, 0, 1]), 2, seed=0)


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, 1.5])
def test_fraction_outside_is_refused(fraction: float) -> None:
    with pytest.raises(InputError, match="between 0 and 1"):
        split(made([5, 5]), fraction, seed=0)


def test_folds_test_each_example_once_and_spread_the_classes() -> None:
    targets = made([50, 23, 7, 2]).targets
    parts = folds(targets, 5, seed=1)
    assert np.array_equal(np.sort(np.concatenate([test for _, test in parts])), np.arange(len(targets)))
    sizes = [len(test) for _, test in parts]
    assert max(sizes) - min(sizes) <= 1
    for train, test in parts:
        assert not set(train) & set(test) and len(train) + len(test) == len(targets)
        assert set(targets[train]) == {0, 1, 2, 3}
    for target in range(4):
        counts = [int((targets[test] == target).sum()) for _, test in parts]
        assert max(counts) - min(counts) <= 1


def test_folds_repeat_by_seed() -> None:
    targets = made([20, 20]).targets
    a, b, c = (np.concatenate([t for _, t in folds(targets, 4, seed=s)]) for s in (7, 7, 8))
    assert np.array_equal(a, b) and not np.array_equal(a, c)


def test_too_few_examples_for_the_folds() -> None:
    with pytest.raises(DataError, match="4 examples are too few for 5 folds"):
        folds(np.array([0, 0, 1, 1]), 5, seed=0)
    with pytest.raises(InputError, match="at least 2"):
        folds(np.array([0, 0, 1, 1]), 1, seed=0)


def test_epoch_order_is_a_permutation_of_seed_and_epoch() -> None:
    order = epoch_order(50, seed=1, epoch=2)
    assert np.array_equal(np.sort(order), np.arange(50)) and order.dtype == np.int64
    assert np.array_equal(order, epoch_order(50, seed=1, epoch=2))
    assert not np.array_equal(order, epoch_order(50, seed=1, epoch=3))
    assert not np.array_equal(order, epoch_order(50, seed=2, epoch=2))


# --- Dataset
def test_subset_takes_inputs_and_targets_together() -> None:
    data = made([3, 3])
    part = data.subset([4, 0])
    assert part.inputs == [data.inputs[4], data.inputs[0]]
    assert part.targets.tolist() == data.targets[[4, 0]].tolist() and len(part) == 2
    assert len(data.subset([])) == 0


def test_fingerprint_changes_with_texts_targets_classes_and_order() -> None:
    data = made([3, 3])
    same = Dataset("text", list(data.inputs), data.targets.copy(), data.classes, source="elsewhere")
    assert same.fingerprint() == data.fingerprint()
    others = [
        Dataset("text", ["changed", *data.inputs[1:]], data.targets, data.classes),
        Dataset("text", data.inputs, 1 - data.targets, data.classes),
        Dataset("text", data.inputs, data.targets, ("x", "y")),
        data.subset([1, 0, 2, 3, 4, 5]),
    ]
    assert len({data.fingerprint(), *(d.fingerprint() for d in others)}) == 5


def test_fingerprint_of_neighbouring_texts_is_not_ambiguous() -> None:
    targets = np.array([0, 1])
    a, b = (Dataset("text", texts, targets, ("x", "y")) for texts in (["ab", "c"], ["a", "bc"]))
    assert a.fingerprint() != b.fingerprint()


def grouped(seed: int) -> tuple[Dataset, np.ndarray]:
    """120 examples of three classes; some are copies of one another, up to six times."""
    rng = np.random.default_rng(seed)
    data = made([60, 40, 20])
    groups = np.arange(len(data))
    for target in range(3):
        members = rng.permutation(np.flatnonzero(data.targets == target))
        groups[members[:6]] = members[0]
        groups[members[6:8]] = members[6]
    return data, groups


@pytest.mark.parametrize("seed", range(5))
def test_equal_examples_are_never_parted(seed: int) -> None:
    data, groups = grouped(seed)
    rest, part = split_indices(data, 0.2, seed=seed, groups=groups)
    assert not set(groups[rest]) & set(groups[part])
    assert sorted([*rest, *part]) == list(range(120))
    assert np.abs(np.bincount(data.targets[part]) - [12, 8, 4]).max() <= 3, "still stratified"

    parts = folds(data.targets, 5, seed=seed, groups=groups)
    assert sorted(np.concatenate([held for _, held in parts])) == list(range(120))
    for fitted, held in parts:
        assert not set(groups[fitted]) & set(groups[held])
        assert np.abs(np.bincount(data.targets[held]) - [12, 8, 4]).max() <= 3


def test_groups_of_one_example_change_nothing() -> None:
    data = made([30, 13])
    alone = np.arange(43)[::-1].copy()
    for one, other in zip(split(data, 0.3, seed=4), split(data, 0.3, seed=4, groups=alone), strict=True):
        assert list(one.inputs) == list(other.inputs)
    for one, other in zip(
        folds(data.targets, 3, seed=4), folds(data.targets, 3, seed=4, groups=alone), strict=True
    ):
        assert np.array_equal(one[1], other[1])


def test_a_class_of_copies_cannot_be_split() -> None:
    data = made([10, 5])
    groups = np.where(data.targets == 1, 99, np.arange(15))
    with pytest.raises(DataError, match="'b' with one example only, all others being copies of it"):
        split(data, 0.2, seed=0, groups=groups)
    with pytest.raises(DataError, match="with one example only, all others being copies"):
        folds(data.targets, 3, seed=0, groups=groups)
