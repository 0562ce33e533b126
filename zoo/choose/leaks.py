"""Equal inputs in several parts, or several times in one: found by content, kept on one side, reported.

A copy of a test example among the training examples makes the test figure too good, so it is the copy that is learned
from that goes: the test part stays as it is. A copy within the training part goes nowhere, but no split parts it from
its twin, or it would be judged by a model that has seen it.

Texts are equal where they differ in case and spacing alone. Photographs are equal where their files are, and among up
to PIXELS_UP_TO of them also where their pixels are, upright and in RGB (a PNG of the same pixels, another EXIF).
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from zoo.data import Dataset
from zoo.data.dataset import Input, input_digests
from zoo.data.digests import DIGEST_BYTES
from zoo.data.images import load_rgb
from zoo.data.threads import in_threads
from zoo.engine import Array
from zoo.errors import DataError

PIXELS_UP_TO = 5_000
"""Photographs that are decoded to compare their pixels: about 3 ms each, a fraction of one network's pass."""
SHOWN = 3


@dataclass(frozen=True)
class Cleaned:
    """The parts without leaks. groups: int64 [len(train)], equal inputs have one number.  notes: what was done."""

    train: Dataset
    validation: Dataset | None
    test: Dataset | None
    groups: Array
    notes: tuple[str, ...]


def groups_of(inputs: Sequence[Input]) -> Array:
    """int64 [N]: equal inputs have one number, from 0 in the order in which they first come.

    Raises BadFilesError where a file has gone or cannot be decoded.
    """
    keys: Array = input_digests(inputs)
    texts = [i for i, item in enumerate(inputs) if isinstance(item, str)]
    if texts:
        keys = keys.copy()
        for i in texts:
            keys[i] = np.frombuffer(_of_text(str(inputs[i])), np.uint8)
    elif 0 < len(inputs) <= PIXELS_UP_TO:
        keys = np.frombuffer(b"".join(in_threads(_of_pixels, list(inputs))), np.uint8).reshape(
            -1, DIGEST_BYTES
        )
    _, first, numbers = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first, kind="stable")] = np.arange(len(first))
    found: Array = rank[numbers.reshape(-1)]
    return found


def _of_text(text: str) -> bytes:
    plain = " ".join(unicodedata.normalize("NFC", text).casefold().split())
    return hashlib.blake2b(plain.encode("utf-8", "surrogatepass"), digest_size=DIGEST_BYTES).digest()


def _of_pixels(item: Input) -> bytes:
    image = load_rgb(item)
    found = hashlib.blake2b(repr(image.size).encode(), digest_size=DIGEST_BYTES)
    found.update(image.tobytes())
    return found.digest()


def without_leaks(train: Dataset, validation: Dataset | None, test: Dataset | None) -> Cleaned:
    """Every input in one part alone: out of train what validation or test holds, out of validation what test holds.

    Raises DataError where nothing is left of a part or of a class of the training part.
    """
    given = {"training": train, "validation": validation, "test": test}
    parts = {name: part for name, part in given.items() if part is not None}
    groups = groups_of([item for part in parts.values() for item in part.inputs])
    ends = np.cumsum([len(part) for part in parts.values()])
    own = dict(zip(parts, np.split(groups, ends[:-1]), strict=True))
    notes = _twice_labelled(train, own["training"])
    for name, judges in (("training", ("test", "validation")), ("validation", ("test",))):
        for judge in judges:
            if name in parts and judge in parts:
                parts[name], own[name], said = _taken_out(parts, own, name, judge)
                notes += said
    _still_whole(train, parts["training"])
    notes += _copies(own)
    numbers = np.unique(own["training"], return_inverse=True)[1].reshape(-1).astype(np.int64)
    return Cleaned(parts["training"], parts.get("validation"), parts.get("test"), numbers, tuple(notes))


def _taken_out(
    parts: dict[str, Dataset], own: dict[str, Array], name: str, judge: str
) -> tuple[Dataset, Array, list[str]]:
    """A part without what another one holds, and a note of it."""
    part, seen = parts[name], np.isin(own[name], own[judge])
    if not seen.any():
        return part, own[name], []
    if seen.all():
        raise DataError(
            f"every one of the {len(part)} {name} examples is in the {judge} part too: give data that is not "
            "the same on both sides"
        )
    places = np.flatnonzero(seen)
    pairs = [
        _pair(part, int(i), parts[judge], int(np.argmax(own[judge] == own[name][i]))) for i in places[:SHOWN]
    ]
    more = f" and {len(places) - SHOWN} more" if len(places) > SHOWN else ""
    note = (
        f"{len(places)} of {len(part)} {name} examples are in the {judge} part too, and were left out of the {name} "
        f"part: {'; '.join(pairs)}{more}."
    )
    kept = np.flatnonzero(~seen)
    return part.subset(kept), own[name][kept], [note]


def _pair(part: Dataset, i: int, other: Dataset, j: int) -> str:
    labels = part.classes[int(part.targets[i])], other.classes[int(other.targets[j])]
    apart = "" if labels[0] == labels[1] else f" (labelled {labels[0]} here, {labels[1]} there)"
    return f"{_name(part, i)} = {_name(other, j)}{apart}"


def _name(part: Dataset, i: int) -> str:
    """A file's path, or the beginning of a text, or the number of an image in memory."""
    item = part.inputs[i]
    if isinstance(item, str):
        return repr(item if len(item) <= 40 else item[:37] + "...")
    return (
        f"input {i}"
        if isinstance(item, np.ndarray) or not str(item).strip() or "<" in str(item)
        else str(item)
    )


def _still_whole(before: Dataset, after: Dataset) -> None:
    """Raise DataError where a class has lost all its examples."""
    gone = set(np.unique(before.targets)) - set(np.unique(after.targets))
    if gone:
        names = ", ".join(repr(before.classes[int(target)]) for target in sorted(gone))
        raise DataError(
            f"every training example of {names} is in the validation or test part too: nothing is left to learn from. "
            "Give training examples that are not judged on."
        )


def _twice_labelled(train: Dataset, groups: Array) -> list[str]:
    """Equal training inputs with several labels: at best one of them is right."""
    order = np.lexsort((train.targets, groups))
    same = groups[order][1:] == groups[order][:-1]
    differ = same & (train.targets[order][1:] != train.targets[order][:-1])
    torn = np.unique(groups[order][1:][differ])
    if not len(torn):
        return []
    shown = []
    for group in torn[:SHOWN]:
        places = np.flatnonzero(groups == group)
        labels = " and ".join(dict.fromkeys(train.classes[int(train.targets[i])] for i in places))
        shown.append(f"{_name(train, int(places[0]))} as {labels}")
    more = f" and {len(torn) - SHOWN} more" if len(torn) > SHOWN else ""
    return [
        f"{len(torn)} input(s) are in the training part with different labels: {'; '.join(shown)}{more}. "
        "At most one label of each is right; all were kept."
    ]


def _copies(own: dict[str, Array]) -> list[str]:
    """How many examples of a part are copies of others in it."""
    notes = []
    for name, groups in own.items():
        copies = len(groups) - len(np.unique(groups))
        if copies and name == "training":
            notes.append(f"{copies} training example(s) are copies of others: no split parts them.")
        elif copies:
            notes.append(
                f"{copies} of {len(groups)} {name} examples are copies of others in it: they count twice."
            )
    return notes
