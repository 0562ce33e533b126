"""What is said of a classifier's quality, in numpy alone: the core predicts and evaluates without scikit-learn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from zoo.engine import Array
from zoo.errors import DataError
from zoo.probability import cross_entropy, log_softmax, paired_interval, softmax, wilson_interval

__all__ = [
    "cross_entropy",
    "evaluate",
    "log_loss",
    "log_softmax",
    "macro_f1",
    "paired_interval",
    "softmax",
    "wilson_interval",
]


def log_loss(probabilities: Array, targets: Array) -> float:
    """The same from probabilities [N, C]; a probability of 0 counts as float32's smallest, 1.2e-38."""
    chosen = probabilities[np.arange(len(targets)), targets].astype(np.float64)
    return float(-np.log(np.maximum(chosen, np.finfo(np.float32).tiny)).mean())


def macro_f1(predicted: Array, targets: Array, num_classes: int) -> float:
    """Unweighted mean of F1 over the classes that occur in either array; 0 for one never predicted right."""
    hits = np.bincount(targets[predicted == targets], minlength=num_classes)
    named = np.bincount(predicted, minlength=num_classes) + np.bincount(targets, minlength=num_classes)
    present = named > 0
    return float((2 * hits[present] / named[present]).mean())


def evaluate(probabilities: Array, targets: Array, classes: Sequence[str]) -> dict[str, Any]:
    """accuracy, accuracy_low and accuracy_high (Wilson 95 %), macro_f1, log_loss, n.

    probabilities: float32 [N, C]; targets: int64 [N].  Raises DataError where the shapes do not fit.
    """
    if probabilities.shape != (len(targets), len(classes)):
        raise DataError(
            f"cannot evaluate: probabilities of shape {probabilities.shape} for {len(targets)} examples of "
            f"{len(classes)} classes; the model and the data must have the same classes"
        )
    if len(targets) == 0:
        raise DataError("cannot evaluate on no examples at all: give a data set that holds some")
    predicted = probabilities.argmax(axis=1)
    right = int((predicted == targets).sum())
    low, high = wilson_interval(right, len(targets))
    return {
        "accuracy": right / len(targets),
        "accuracy_low": low,
        "accuracy_high": high,
        "macro_f1": macro_f1(predicted, targets, len(classes)),
        "log_loss": log_loss(probabilities, targets),
        "n": len(targets),
    }
