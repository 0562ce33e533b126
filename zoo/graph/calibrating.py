"""Opening the data that a calibration is fitted on: held out, and with the model's classes."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np

from zoo.data import Dataset, Kind, find_parts, open_data
from zoo.data.dataset import listing
from zoo.data.sources import Data
from zoo.errors import DataError, HeadMissingError


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
