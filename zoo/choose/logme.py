"""LogME: the log of the maximum evidence of the labels under a linear model of the features.

You, Liu, Wang & Long, "LogME: Practical Assessment of Pre-trained Models for Transfer Learning" (ICML 2021), by the
fixed point of "Ranking and Tuning Pre-trained Models" (You et al., JMLR 2022). Weights are Gaussian with precision
alpha, noise with precision beta; both are set where the evidence is largest, and integrating the weights out
punishes what overfits. Three differences from the authors' code: features and targets are centred, which stands for
an intercept with a flat prior (theirs has none, so that a shift of the features changes the score); the
directions that the features do not span are counted out on both sides; and the fixed point, which finds one maximum
of several, starts at the best of a grid (theirs at alpha = beta = 1, so that the features' scale decides).

Here it only orders candidates that the probe cannot tell apart.
"""

from __future__ import annotations

import math

import numpy as np

from zoo.choose.ridge import one_hot
from zoo.choose.spectrum import Spectrum
from zoo.engine import Array

ITERATIONS, SETTLED = 100, 1e-6
ROUNDING = 1e-12
"""A rest below so much of the target's squared length is none."""
STARTS = 10 ** np.arange(-6.0, 6.1, 0.5)
"""alpha / beta, in units of the eigenvalues' mean."""
FLATTEST = 1e12
"""The same, where features say nothing and alpha would grow without end; its inverse, where they span the targets
and beta would: the evidence tends to a limit at both ends.
"""


def logme(spectrum: Spectrum, targets: Array) -> float:
    """Mean over classes of the maximum log evidence per example, in nats; larger is better. targets int64 [N].

    Comparable between feature spaces of any number of columns, on the same examples only.
    """
    wanted = one_hot(targets)
    centred = wanted - wanted.mean(axis=0)
    squares = (spectrum.components.T @ centred) ** 2 / spectrum.values[:, None]
    lengths = (centred**2).sum(axis=0)
    rest = lengths - squares.sum(axis=0)
    rest[rest < ROUNDING * lengths] = 0.0
    count = len(targets)
    # The flat intercept uses up one dimension of the N.
    found = [
        evidence(spectrum.values, squares[:, k], float(rest[k]), count - 1)
        for k in range(wanted.shape[1])
        if 0 < wanted[:, k].sum() < count
    ]
    return float(np.mean(found)) / count if found else -math.inf


def evidence(values: Array, squares: Array, rest: float, count: int) -> float:
    """The maximum log evidence of one target vector, over alpha and beta.

    values: float64 [K], eigenvalues of the Gram matrix.  squares: float64 [K], the target's squared projections on
    the orthonormal directions.  rest: the squared length of what they leave.  count: dimensions of the target.
    """
    unit = float(values.mean()) if len(values) else 1.0
    least, most = unit / FLATTEST, unit * FLATTEST
    ratio = max(
        (float(start) * unit for start in STARTS), key=lambda at: _at(at, values, squares, rest, count)
    )
    for _ in range(ITERATIONS):
        shares, left = values / (values + ratio), ratio / (values + ratio)
        weights = float((shares * squares / (values + ratio)).sum())  # |m|^2
        errors = float((squares * left**2).sum()) + rest
        alpha = float(shares.sum()) / max(weights, np.finfo(np.float64).tiny)
        # count - gamma, which rounds to 0 where each share is all but 1.
        beta = (count - len(values) + float(left.sum())) / max(errors, np.finfo(np.float64).tiny)
        new = min(max(alpha / beta, least), most)
        settled = abs(new - ratio) <= SETTLED * ratio
        ratio = new
        if settled or ratio in (least, most):
            break
    return _at(ratio, values, squares, rest, count)


def _at(ratio: float, values: Array, squares: Array, rest: float, count: int) -> float:
    """log p(target) at alpha / beta = ratio with the best beta for it: a Gaussian of variance
    (1 + value / ratio) / beta along each direction and 1 / beta along the others.
    """
    widths = 1 + values / ratio
    scaled = float((squares / widths).sum()) + rest
    beta = count / max(scaled, np.finfo(np.float64).tiny)
    return 0.5 * (count * (math.log(beta) - math.log(2 * math.pi) - 1) - float(np.log(widths).sum()))
