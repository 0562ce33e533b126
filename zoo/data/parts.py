"""The parts that a data set comes in: a folder with train/val/test inside, files train.csv and test.csv, the
splits of a Hugging Face dataset. They are used as they were given: train trains, val validates, test tests.

Finding parts opens none: training never reads the test part.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast

from zoo.data import typed_tables
from zoo.data.sources import Data, existing, part_entries
from zoo.data.typed_tables import LoadedSplit
from zoo.errors import DataError, InputError

Part: TypeAlias = Literal["train", "validation", "test"]
ROLES: Mapping[str, Part] = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}
PARTS: tuple[Part, ...] = ("train", "validation", "test")


@dataclass(frozen=True)
class DataParts:
    """Where each part is, as `open_data` takes it; None where it is not there.

    whole: data without parts, which is the train part here and may be split, tested on, anything.
    """

    source: str
    train: Data | None = None
    validation: Data | None = None
    test: Data | None = None
    whole: bool = False

    def to_train(self) -> Data:
        """What a model learns from. Raises DataError where there is no such part."""
        if self.train is None:
            raise DataError(
                f"{self.source} has no part to train on, only {self._held()}: add a folder or file called train"
            )
        return self.train

    def to_judge(self, part: Part | None = None) -> Data:
        """What a model is judged on: the test part, else the validation part, or all of data without parts.

        part: that one of them. Raises DataError where it is not there, or where only a train part is.
        """
        if part is not None and part not in PARTS:
            raise InputError(f"part {part!r}: {', '.join(PARTS)}")
        if part is not None:
            return self._given(part)
        held = next((p for p in (self.test, self.validation) if p is not None), None)
        if held is None and not self.whole:
            raise DataError(
                f"{self.source} holds a train part only, and a model is not judged on what it learned from: "
                f"give other data, or say so with part='train' (--part train)"
            )
        return held if held is not None else self.to_train()

    def _given(self, part: Part) -> Data:
        if self.whole:
            return self.to_train()
        found = cast("Data | None", getattr(self, part))
        if found is None:
            raise DataError(f"{self.source} has no {part} part: it has {self._held()}")
        return found

    def _held(self) -> str:
        return ", ".join(part for part in PARTS if getattr(self, part) is not None)


def find_parts(data: Data) -> DataParts:
    """The parts of `data`, unopened; data without parts is `whole`.

    Raises DataError: nothing there, two parts of one role (val and dev), a data set that cannot be read.
    """
    if isinstance(data, str | Path) and not typed_tables.is_typed(data):
        path = existing(Path(data).expanduser())
        entries = part_entries(path) if path.is_dir() else []
        return _by_role(((e.stem if e.is_file() else e.name, e) for e in entries), data)
    if typed_tables.is_typed(data):
        return _splits(data)
    return DataParts(_name(data), data, whole=True)


def _name(data: object) -> str:
    return str(data) if isinstance(data, str | Path) else "the given data"


def _splits(data: Data) -> DataParts:
    """The splits of a typed data set. One without any label (a contest's test split) is no part."""
    found = typed_tables.load(data)
    source = _name(data)
    if list(found) == [""]:
        return DataParts(source, LoadedSplit(found[""], source), whole=True)
    named = {name: LoadedSplit(split, f"{source} ({name})") for name, split in found.items()}
    return _by_role([(n, s) for n, s in named.items() if typed_tables.is_labelled(s.data)], data)


def _by_role(named: Iterable[tuple[str, Any]], data: Data) -> DataParts:
    roles: dict[str, tuple[str, Any]] = {}
    others = []
    for name, part in named:
        role = ROLES.get(name.lower())
        if role is None:
            others.append(name)
            continue
        if role in roles:
            raise DataError(
                f"{_name(data)} has two {role} parts, {roles[role][0]} and {name}: rename or remove one"
            )
        roles[role] = (name, part)
    if others and not roles:
        raise DataError(
            f"{_name(data)} has splits called {', '.join(others)}, none of them train, validation or test: load "
            "it and give the one you mean (datasets.load_dataset(...)[NAME])"
        )
    if not roles:
        return DataParts(_name(data), data, whole=True)
    return DataParts(_name(data), **{role: part for role, (_, part) in roles.items()})
