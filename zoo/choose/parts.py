"""The user's data in the parts that a choice needs: what it is made on, and what it is tested on once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from zoo.cards import TextPreprocess
from zoo.choose.evidence import QUARTERS, Splits
from zoo.choose.leaks import without_leaks
from zoo.data import Dataset, find_parts, open_data, token_lengths
from zoo.data import folds as make_folds
from zoo.data.sources import OnError
from zoo.data.split import split_indices
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
    def of(
        cls,
        train: Dataset,
        validation: Dataset | None,
        *,
        folds: int,
        seed: int,
        groups: Array | None = None,
    ) -> Judged:
        """Cross-validation over `train`, or fitted on `train` and judged on `validation`.

        groups: int64 [len(train)], equal inputs, which no split parts.
        """
        if validation is None:
            splits = make_folds(train.targets, folds, seed=seed, groups=groups)
            return cls(train.inputs, train.targets, splits)
        both = np.arange(len(train) + len(validation))
        inputs = [*train.inputs, *validation.inputs]
        targets = np.concatenate([train.targets, validation.targets])
        return cls(inputs, targets, [(both[: len(train)], both[len(train) :])])


@dataclass(frozen=True)
class Parts:
    """train: where probes are fitted; validation: where they are judged, or None for cross-validation;
    test: looked at once, by the model that ships. No input is in two of them.

    groups: int64 [len(train)], equal inputs have one number (`zoo.choose.leaks`).  notes: what was found equal, and
    what was done about it, a line each.
    """

    train: Dataset
    validation: Dataset | None
    test: Dataset
    groups: Array
    notes: tuple[str, ...] = ()


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

    Data that comes in parts brings its own validation and test part, unless others are given. What is in two parts
    stays where it is judged on, and equal examples are never parted (`zoo.choose.leaks`).
    """
    given = find_parts(data)
    train = options.open(given.to_train())
    validation = given.validation if validation is None else find_parts(validation).to_judge("validation")
    test = given.test if test is None else find_parts(test).to_judge("test")
    checked = None if validation is None else options.open(validation, train.classes)
    held = None if test is None else options.open(test, train.classes)
    clean = without_leaks(train, checked, held)
    train, groups, held = clean.train, clean.groups, clean.test
    if held is None:
        rest, part = split_indices(train, TEST_FRACTION, seed=seed, groups=groups)
        train, groups, held = train.subset(rest), groups[rest], train.subset(part)
    _enough(train, groups, folds if checked is None else None)
    return Parts(train, clean.validation, held, groups, clean.notes)


def _enough(train: Dataset, groups: Array, folds: int | None) -> None:
    """Raise DataError where a class has too few training examples, copies counting once, for the folds (None: there
    is a validation part) or for the quarter within them that the probe's strength is chosen on.
    """
    firsts = np.unique(groups, return_index=True)[1]
    counts = np.bincount(train.targets[firsts], minlength=len(train.classes))
    fewest = int(counts.min())
    # Two of a class must be left where one fold is held out: of three folds three do, of two only four.
    least = folds if folds is not None and folds > 2 else QUARTERS
    if fewest >= least:
        return
    name = train.classes[int(counts.argmin())]
    copies = " that are no copies of others" if len(firsts) < len(train) else ""
    if least == folds:
        why = (
            f"{folds} folds (a fifth of the data is held out as the test part): add examples, or lower folds"
        )
    else:
        why = f"choosing the probe's strength on a quarter of them: {least} are needed"
    raise DataError(f"class {name!r} has {fewest} training examples{copies}, too few for {why}")


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
