"""How the error falls with the number of labels: err(n) = a + b n^-c (Hestness et al. 2017; Viering & Loog 2022).

a is what endless labels would leave. Extrapolation is honest only with its interval: fits of resampled data,
of which many agree within the measured sizes and part beyond them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from zoo.engine import Array

EXPONENTS = np.round(np.arange(0.05, 1.0001, 0.025), 3)
"""Where c is looked for: theory gives 1/2 and 1, and measured ones lie below. A fit at either end says that the
sizes do not tell c."""


@dataclass(frozen=True)
class PowerLaw:
    """a, b >= 0.  scale: the labels at which b is the part of the error that labels remove."""

    a: float
    b: float
    c: float
    scale: float

    def error(self, labels: float) -> float:
        """Expected error with so many labels."""
        return self.a + self.b * float((labels / self.scale) ** -self.c)


@dataclass(frozen=True)
class Fits:
    """Many fits at once, float64 [B] each, to errors of resampled data."""

    a: Array
    b: Array
    c: Array
    scale: float

    def error(self, labels: float) -> Array:
        """float64 [B]."""
        found: Array = self.a + self.b * (labels / self.scale) ** -self.c
        return found

    def one(self, index: int) -> PowerLaw:
        """The fit to row `index`."""
        return PowerLaw(float(self.a[index]), float(self.b[index]), float(self.c[index]), self.scale)

    @property
    def identified(self) -> bool:
        """Whether 95 % of the fits know the exponent: inside the range looked at, with an error that falls."""
        inside = (self.c > EXPONENTS[0]) & (self.c < EXPONENTS[-1]) & (self.b > 0)
        return bool(inside.mean() >= 0.95)


def fit(labels: Sequence[int], errors: Array, weights: Array) -> Fits:
    """Weighted least squares with a, b >= 0 for each row of errors [B, K]; weights [K]. K >= 3.

    For a given c it is linear in a and b, so c is searched and the two are solved for.
    """
    scale = float(max(labels))
    share = np.asarray(labels, np.float64) / scale
    best = np.full(len(errors), np.inf)
    found = np.zeros((3, len(errors)))
    for exponent in EXPONENTS:
        basis = share**-exponent
        a, b = _solved(basis, errors, weights)
        rest = errors - a[:, None] - b[:, None] * basis
        loss = (weights * rest**2).sum(axis=1)
        better = loss < best - 1e-15
        best[better] = loss[better]
        found[:, better] = np.stack([a, b, np.full(len(errors), exponent)])[:, better]
    return Fits(found[0], found[1], found[2], scale)


def _solved(basis: Array, errors: Array, weights: Array) -> tuple[Array, Array]:
    """a and b, float64 [B] each, neither below 0."""
    s0, s1, s2 = weights.sum(), (weights * basis).sum(), (weights * basis**2).sum()
    y0, y1 = errors @ weights, errors @ (weights * basis)
    determinant = s0 * s2 - s1**2
    a, b = (s2 * y0 - s1 * y1) / determinant, (s0 * y1 - s1 * y0) / determinant
    without_a, without_b = a < 0, b < 0
    b = np.where(without_a, y1 / s2, b)
    a = np.where(without_b, y0 / s0, a)
    return np.maximum(a, 0), np.maximum(np.where(without_b, 0, b), 0)


def resample(wrong: Array, count: int, *, seed: int) -> Array:
    """Errors float64 [count, ..., K] of samples with replacement of seeds and of examples.

    wrong: bool [..., S, K, M]; leading axes (models) share the draws, so that differences stay paired.
    """
    rng = np.random.default_rng(seed)
    *models, seeds, sizes, examples = wrong.shape
    flat = wrong.reshape(-1, examples).astype(np.float32)
    found = np.empty((count, *models, sizes))
    for draw in range(count):
        shares = np.bincount(rng.integers(0, examples, examples), minlength=examples) / examples
        drawn = rng.integers(0, seeds, seeds)
        table = (flat @ shares.astype(np.float32)).reshape(*models, seeds, sizes)
        found[draw] = table[..., drawn, :].mean(axis=-2)
    return found


def interval(values: Array) -> tuple[float, float]:
    """The middle 95 % of resampled values."""
    low, high = np.quantile(values, (0.025, 0.975))
    return float(low), float(high)
