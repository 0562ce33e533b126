"""Opening the data that a calibration is fitted on: held out and with the model's classes for probabilities, any
inputs like those to come for the ranges of int8 activations.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from zoo.data import Dataset, Input, Kind, find_parts, open_data, open_inputs
from zoo.data.dataset import input_digests, listing
from zoo.data.sources import Data
from zoo.errors import DataError, HeadMissingError
from zoo.graph.precision import CalibrationSet


def calibration_part(data: Data) -> Data:
    """The validation part, so that a test part stays for judging; else the test part; or data without parts.

    Raises DataError where there is a train part only.
    """
    parts = find_parts(data)
    return parts.to_judge(None if parts.validation is None else "validation")


def held_out(data: Data, kind: Kind, labels: Sequence[str] | None, num_classes: int | None) -> Dataset:
    """Opened and checked; warns of classes without an example.

    Raises DataError (a train part only, other classes than the model's), HeadMissingError.
    """
    if num_classes is None:
        raise HeadMissingError(
            "the model has no classification head, so there is no probability to calibrate: replace_head "
            "(num_classes) puts one on, and `zoo train` trains it"
        )
    opened = open_data(calibration_part(data), kind=kind, classes=labels)
    if len(opened.classes) != num_classes:
        raise DataError(
            f"{opened.source or 'the data'} has {len(opened.classes)} classes ({listing(opened.classes)}) and the "
            f"model {num_classes}: calibrate on examples of the model's own classes"
        )
    counts = np.bincount(opened.targets, minlength=num_classes)
    if absent := [name for name, count in zip(opened.classes, counts, strict=True) if not count]:
        warnings.warn(
            f"{opened.source or 'the data'} has no example of {listing(absent)}: the calibration says nothing of "
            "them",
            stacklevel=3,
        )
    return opened


EXAMPLES = 128
"""For ranges: more change them little, and each is one pass of the network."""


def calibration_set(data: Data, kind: Kind, *, count: int = EXAMPLES, seed: int = 0) -> CalibrationSet:
    """Up to `count` inputs, drawn with `seed`; of data in parts, from the train part. Labels are not needed.

    data: as `open_data` takes it (unreadable files are passed over), a folder of photographs, a file of texts.
    Raises DataError: not there, empty, of another kind.
    """
    part = find_parts(data).to_train()
    inputs = _unlabelled(part, kind) or open_data(part, kind=kind, on_error="skip").inputs
    if not len(inputs):
        raise DataError(f"{_said(data)} holds no example to calibrate on: give some dozens of inputs")
    chosen = np.sort(np.random.default_rng(seed).permutation(len(inputs))[:count])
    found = [inputs[i] for i in chosen]
    if kind == "text" and not all(isinstance(item, str) for item in found):
        raise DataError(
            f"{_said(data)} holds photographs, and this model reads texts: give texts to calibrate on"
        )
    if kind == "image" and any(isinstance(item, str) for item in found):
        raise DataError(f"{_said(data)} holds texts, and this model takes photographs: give photographs")
    return CalibrationSet(found, _said(data), hashlib.sha256(input_digests(found).tobytes()).hexdigest())


def _unlabelled(data: Data, kind: Kind) -> Sequence[Input] | None:
    """The inputs of a folder without class folders, or of a file of texts a line; None for what has labels."""
    path = Path(data).expanduser() if isinstance(data, str | Path) else None
    if path is None or (kind == "image") != path.is_dir():
        return None
    flat = kind == "image" and not any(entry.is_dir() for entry in path.iterdir())
    return open_inputs(path, kind=kind) if flat or path.suffix.lower() == ".txt" else None


def _said(data: Data) -> str:
    return str(data) if isinstance(data, str | Path) else "the given data"
