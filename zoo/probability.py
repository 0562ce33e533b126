"""Probabilities, and how far to trust a share of right answers: what training, ONNX files and calibration share."""

from __future__ import annotations

import math

import numpy as np

from zoo.engine import Array

Z95 = 1.959963984540054
"""Two-sided 95 % quantile of the normal distribution."""
BINS = 15


def log_softmax(logits: Array) -> Array:
    """float64 [N, C], rows are log probabilities."""
    wide = logits.astype(np.float64)
    shifted = wide - wide.max(axis=1, keepdims=True, initial=-np.inf)
    result: Array = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return result


def softmax(logits: Array) -> Array:
    """float32 [N, C], rows sum to 1."""
    return np.exp(log_softmax(logits)).astype(np.float32)


def cross_entropy(logits: Array, targets: Array) -> float:
    """Mean of -log p(target); targets int64 [N]."""
    return float(-log_softmax(logits)[np.arange(len(targets)), targets].mean())


def wilson_interval(right: int, n: int, z: float = Z95) -> tuple[float, float]:
    """Interval of a share (Wilson 1927), 95 % by default; (0, 1) where there is nothing to judge by."""
    if n == 0:
        return 0.0, 1.0
    share, spread = right / n, z * z / n
    middle = (share + spread / 2) / (1 + spread)
    half = z * math.sqrt(share * (1 - share) / n + spread / (4 * n)) / (1 + spread)
    return max(0.0, middle - half), min(1.0, middle + half)


def expected_calibration_error(probabilities: Array, targets: Array) -> float:
    """Mean gap between the top probability and the share that is right, in 15 equal bins (Guo et al. 2017)."""
    confidence = probabilities.max(axis=1).astype(np.float64)
    right = (probabilities.argmax(axis=1) == targets).astype(np.float64)
    bins = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    gaps = np.abs(np.bincount(bins, confidence - right, minlength=BINS))
    return float(gaps.sum() / len(targets))


def paired_interval(better: Array, other: Array) -> tuple[float, float]:
    """95 % interval of the difference in accuracy on the same examples.

    Wald's interval after adding half an observation to each cell (Agresti & Min 2005), in [-1, 1].
    """
    n = len(better) + 2
    only_better = float((better & ~other).sum()) + 0.5
    only_other = float((other & ~better).sum()) + 0.5
    gap = (only_better - only_other) / n
    error = math.sqrt(max(only_better + only_other - (only_better - only_other) ** 2 / n, 0.0)) / n
    return gap - Z95 * error, gap + Z95 * error
