"""Centred features, decomposed once: what the ridge probe at every strength and LogME are closed forms of.

With X the features less their means, X = P V^T with orthonormal V: P are the principal components. The smaller of
X^T X [D, D] and X X^T [N, N] is decomposed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from zoo.choose.evidence import finite, one_thread
from zoo.engine import Array

RANK = 1e-14
"""Eigenvalues below this share of the largest one are rounding, so that the direction says nothing."""
EPS = float(np.finfo(np.float64).eps)
ROUNDINGS = 10
"""By so many an element may be off its column's mean and the column be constant."""


@dataclass(frozen=True)
class Spectrum:
    """components: float64 [N, K], columns orthogonal.  values: float64 [K], their squared lengths, which are the
    eigenvalues of the Gram matrix, descending; K <= min(N - 1, D).  mean: float64 [D].  axes: float64 [D, K], V.
    """

    components: Array
    values: Array
    mean: Array
    axes: Array

    @property
    def trace(self) -> float:
        """Of the Gram matrix: the examples' summed squared distance from their mean. 1 where all are one point."""
        return float(self.values.sum()) or 1.0


@one_thread
def decompose(features: Array) -> Spectrum:
    """Features [N, D]. O(N D min(N, D)). Raises TrainingError where one is NaN or infinite."""
    wide = finite(features).astype(np.float64)
    examples, columns = wide.shape
    noise = (
        examples * columns * (ROUNDINGS * EPS * float(np.abs(wide).max())) ** 2
    )  # what centring leaves of constants
    mean = wide.mean(axis=0)
    wide -= mean
    dual = columns > examples
    values, vectors = np.linalg.eigh(wide @ wide.T if dual else wide.T @ wide)
    values, vectors = values[::-1], vectors[:, ::-1]
    rank = int((values > max(RANK * float(values[0]), noise)).sum())
    values, vectors = values[:rank], vectors[:, :rank]
    roots = np.sqrt(values)
    if dual:
        return Spectrum(vectors * roots, values, mean, wide.T @ (vectors / roots))
    return Spectrum(wide @ vectors, values, mean, vectors)
