"""The user's data in the parts that a choice needs: what it is made on, and what it is tested on once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from zoo.cards import TextPreprocess
from zoo.choose.evidence import Splits
from zoo.data import Dataset, find_parts, open_data, split, token_lengths
from zoo.data import folds as make_folds
from zoo.data.sources import OnError
from zoo.engine import Array
from zoo.errors import DataError

TEST_FRACTION = 0.2


@dataclass(frozen=True)
class Judged:
    """The examples that a choice is made on. splits: what is fitted on and what is judged, for each turn."""

    inputs: Sequence[Any]
    targets: Array
    splits: Splits

    @property
    def judged_targets(self) -> Array:
        """int64 [M], of the examples that are judged, in their order: those of an `Evidence`."""
        found: Array = self.targets[np.sort(np.concatenate([held for _, held in self.splits]))]
        return found

    @classmethod
    def of(cls, train: Dataset, validation: Dataset | None, *, folds: int, seed: int) -> Judged:
        """Cross-validation over `train`, or fitted on `train` and judged on `validation`."""
        if validation is None:
            return cls(train.inputs, train.targets, make_folds(train.targets, folds, seed=seed))
        both = np.arange(len(train) + len(validation))
        inputs = [*train.inputs, *validation.inputs]
        targets = np.concatenate([train.targets, validation.targets])
        return cls(inputs, targets, [(both[: len(train)], both[len(train) :])])


@dataclass(frozen=True)
class Parts:
    """train: where probes are fitted; validation: where they are judged, or None for cross-validation;
    test: looked at once, by the model that ships.
    """

    train: Dataset
    validation: Dataset | None
    test: Dataset


@dataclass(frozen=True)
class DataOptions:
    """How the data is read: column names, and what happens to files that cannot be read."""

    text: str | None = None
    label: str | None = None
    on_error: OnError = "fail"

    def open(self, data: Any, classes: tuple[str, ...] | None = None) -> Dataset:
        """One part."""
        return open_data(data, text=self.text, label=self.label, classes=classes, on_error=self.on_error)


def open_parts(
    data: Any, validation: Any, test: Any, *, options: DataOptions, folds: int, seed: int
) -> Parts:
    """Open what is given; without a test part a stratified fifth of the training data is held out, seeded.

    Data that comes in parts brings its own validation and test part, unless others are given.
    """
    given = find_parts(data)
    train = options.open(given.to_train())
    validation = given.validation if validation is None else find_parts(validation).to_judge("validation")
    test = given.test if test is None else find_parts(test).to_judge("test")
    checked = None if validation is None else options.open(validation, train.classes)
    if test is not None:
        held = options.open(test, train.classes)
    else:
        train, held = split(train, TEST_FRACTION, seed=seed)
    least = folds if checked is None else 4  # the probe's strength is chosen on a quarter
    fewest = int(np.bincount(train.targets, minlength=len(train.classes)).min())
    if fewest < least:
        name = train.classes[int(np.bincount(train.targets, minlength=len(train.classes)).argmin())]
        raise DataError(
            f"class {name!r} has {fewest} training examples, too few for {least} folds "
            "(a fifth of the data is held out as the test part): add examples, or lower folds"
        )
    return Parts(train, checked, held)


def open_judged(data: Any, options: DataOptions) -> tuple[Dataset, Dataset | None]:
    """(what probes learn from, what models are judged on), the latter None for data without parts.

    The validation part judges; the test part only where there is no other, since who compares goes on to choose.
    """
    given = find_parts(data)
    train = options.open(given.to_train())
    held = given.validation if given.validation is not None else given.test
    return train, None if held is None else options.open(held, train.classes)


def typical_tokens(data: Dataset, preprocess: object) -> int:
    """Median length in tokens of the texts, at least 8: the length at which latency is measured."""
    if not isinstance(preprocess, TextPreprocess) or not preprocess.tokenizer:
        return 128
    return max(8, int(np.median(token_lengths([str(text) for text in data.inputs], preprocess))))
