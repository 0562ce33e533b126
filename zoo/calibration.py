"""Probabilities that mean what they say, and when to say 'unsure': one temperature and one threshold.

Temperature scaling (Guo et al. 2017, "On calibration of modern neural networks") divides the logits by one
number, fitted on held-out data. The order of the classes stays, so accuracy does. The threshold is for the top
probability after it: below it the model does not answer (selective prediction, Geifman & El-Yaniv 2017).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from zoo.engine import Array
from zoo.errors import DataError, InputError, ModelFileError
from zoo.probability import cross_entropy, expected_calibration_error, softmax, wilson_interval

FEWEST, FEWEST_ANSWERED = 20, 10
"""Examples to calibrate on, and those that a threshold must leave answered: with fewer a figure says nothing."""
COLDEST, HOTTEST = 1e-3, 1e3
GOLDEN = (math.sqrt(5) - 1) / 2


@dataclass(frozen=True)
class Calibration:
    """temperature: what logits are divided by; above 1 the model was too sure of itself.

    threshold: top probability below which the answer is 'unsure'; 0 where everything is answered.
    coverage: share of the held-out data that is answered.  accuracy, accuracy_low, accuracy_high: of what is
    answered, with its Wilson 95 % interval.  wanted: the accuracy that was asked for, or None.
    n: held-out examples.  ece_before, ece_after: expected calibration error, 15 bins.  log_loss_before,
    log_loss_after: mean -log p of the right class.  The figures are of the data that was fitted on.
    """

    temperature: float
    threshold: float
    coverage: float
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    wanted: float | None
    n: int
    ece_before: float
    ece_after: float
    log_loss_before: float
    log_loss_after: float

    def probabilities(self, logits: Array) -> Array:
        """Calibrated, float32 [N, C]; rows sum to 1."""
        return softmax(logits.astype(np.float64) / self.temperature)

    def unsure(self, probabilities: Array) -> Array:
        """bool [N]: whose top probability is below the threshold; probabilities are calibrated ones [N, C]."""
        below: Array = probabilities.max(axis=1) < self.threshold
        return below


def probabilities(logits: Array, calibration: Calibration | None) -> Array:
    """float32 [N, C], calibrated where there is a calibration."""
    return softmax(logits) if calibration is None else calibration.probabilities(logits)


def fit_calibration(logits: Array, targets: Array, *, accuracy: float | None = None) -> Calibration:
    """From logits float32 [N, C] of held-out examples and their targets int64 [N].

    accuracy: the threshold is then the one that answers most with at least this share right; None: all is
    answered.  Raises DataError (too few examples), InputError (an accuracy that no threshold reaches).
    """
    if accuracy is not None and not 0 < accuracy <= 1:
        raise InputError(f"accuracy {accuracy}: a share above 0 and at most 1, such as 0.95")
    if len(targets) < FEWEST:
        raise DataError(
            f"{len(targets)} examples to calibrate on: at least {FEWEST} are needed, and some hundreds for "
            "figures to rely on. Give more held-out data."
        )
    temperature = fit_temperature(logits, targets)
    before, after = softmax(logits), softmax(logits.astype(np.float64) / temperature)
    confidence, right = after.max(axis=1), after.argmax(axis=1) == targets
    threshold = 0.0 if accuracy is None else _threshold(confidence, right, accuracy)
    answered = confidence >= threshold
    hits, count = int((right & answered).sum()), int(answered.sum())
    low, high = wilson_interval(hits, count)
    return Calibration(
        temperature=temperature,
        threshold=threshold,
        coverage=count / len(targets),
        accuracy=hits / count,
        accuracy_low=low,
        accuracy_high=high,
        wanted=accuracy,
        n=len(targets),
        ece_before=expected_calibration_error(before, targets),
        ece_after=expected_calibration_error(after, targets),
        log_loss_before=cross_entropy(logits, targets),
        log_loss_after=cross_entropy(logits.astype(np.float64) / temperature, targets),
    )


def fit_temperature(logits: Array, targets: Array) -> float:
    """The temperature with the lowest log loss, between 0.001 and 1000.

    A prior worth one example (log T normal around 0, deviation 1) keeps it finite where all answers are right:
    the likelihood alone would make the model infinitely sure.
    """
    wide = logits.astype(np.float64)

    def cost(log_t: float) -> float:
        return cross_entropy(wide / math.exp(log_t), targets) + log_t**2 / (2 * len(targets))

    return math.exp(_lowest(cost, math.log(COLDEST), math.log(HOTTEST)))


def _lowest(cost: Any, low: float, high: float, tolerance: float = 1e-7) -> float:
    """Golden-section search of a function with one valley (log loss is convex in 1 / T)."""
    a, b = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
    at_a, at_b = cost(a), cost(b)
    while high - low > tolerance:
        if at_a <= at_b:
            high, b, at_b = b, a, at_a
            a = high - GOLDEN * (high - low)
            at_a = cost(a)
        else:
            low, a, at_a = a, b, at_b
            b = low + GOLDEN * (high - low)
            at_b = cost(b)
    return (low + high) / 2


def _threshold(confidence: Array, right: Array, wanted: float) -> float:
    """The lowest threshold above which at least `wanted` is right, midway between two confidences.

    Midway, because two runtimes differ in the last digits. Raises InputError with the best that there is.
    """
    order = np.argsort(-confidence, kind="stable")
    sorted_confidence = confidence[order].astype(np.float64)
    shares = np.cumsum(right[order]) / np.arange(1, len(order) + 1)
    # Equal confidences are answered together: only the last of them is a place to cut.
    cuts = np.append(sorted_confidence[:-1] > sorted_confidence[1:], True)
    cuts[: FEWEST_ANSWERED - 1] = False
    good = np.flatnonzero(cuts & (shares >= wanted))
    if not len(good):
        best = int(np.argmax(np.where(cuts, shares, -1)))
        raise InputError(
            f"no threshold reaches an accuracy of {wanted:g}: the best is {shares[best]:.3f}, on the {best + 1} "
            f"surest of {len(order)} examples. Ask for less, or train a better model."
        )
    last = int(good[-1])
    if last == len(order) - 1:
        return 0.0
    return float((sorted_confidence[last] + sorted_confidence[last + 1]) / 2)


# --- kept
def calibration_to_dict(calibration: Calibration) -> dict[str, Any]:
    """JSON."""
    return dataclasses.asdict(calibration)


def calibration_from_dict(data: Mapping[str, Any], where: str) -> Calibration:
    """What `calibration_to_dict` gave. Raises ModelFileError where it was changed into what cannot be."""
    try:
        found = Calibration(**data)
        fits = 0 < found.temperature < math.inf and 0 <= found.threshold <= 1 and 0 <= found.coverage <= 1
    except TypeError as error:
        raise ModelFileError(
            f"{where}: its calibration cannot be read ({error}). Calibrate it again."
        ) from error
    if not fits:
        raise ModelFileError(
            f"{where}: its calibration cannot be (temperature {found.temperature}, threshold "
            f"{found.threshold}). Calibrate it again."
        )
    return found
