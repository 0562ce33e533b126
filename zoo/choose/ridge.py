"""The cheap score: a ridge probe whose exact leave-one-out predictions cost one decomposition.

Least squares on one-hot targets with an L2 penalty, the intercept free of it, the answer by argmax. Linear
smoothers need no refitting to leave examples out: with hat matrix H and residuals r, the residuals of a group G
under the fit without it are (I - H_GG)^-1 r_G (Allen 1974, PRESS, for one example; Cook & Weisberg 1982 for groups).
Copies of one input are one group, so that no copy judges another.

The strength is relative to the trace of the centred Gram matrix, so that it means the same whatever the features'
scale, and is the one of STRENGTHS with the least squared error on what was left out. The same examples choose it
and judge by it. That is one number out of a few, and what it flatters is measured in benchmarks/select_probe.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from zoo.calibration import fit_temperature
from zoo.choose.evidence import Evidence, Splits, one_thread
from zoo.choose.spectrum import Spectrum, decompose
from zoo.engine import Array
from zoo.errors import DataError
from zoo.probability import softmax

STRENGTHS = tuple(float(value) for value in 10 ** np.arange(-6.0, 0.01, 0.5))
"""Shares of the trace. At 1e-6 the probe all but interpolates, at 1 it says little more than the class frequencies."""


@dataclass(frozen=True)
class LeftOut:
    """scores: float64 [N, C], of each example by the fit without it and its copies.  strength: of STRENGTHS.
    loss: mean squared error of the scores against one-hot targets, summed over the classes.
    """

    scores: Array
    strength: float
    loss: float


def leave_out(
    spectrum: Spectrum, targets: Array, groups: Array | None = None, *, strength: float | None = None
) -> LeftOut:
    """Exact leave-one-group-out scores; targets int64 [N].

    groups: int [N], equal for examples to be left out together; None: each by itself.
    strength: that one; None: the best of STRENGTHS (of equal ones the stronger penalty).
    Raises DataError where all examples are one group.
    """
    wanted = one_hot(targets)
    centred = wanted - wanted.mean(axis=0)
    blocks = list(_blocks(groups, len(targets)))
    tried = STRENGTHS if strength is None else (strength,)
    best: LeftOut | None = None
    for share in sorted(tried, reverse=True):
        residuals = _residuals(spectrum, centred, share * spectrum.trace, blocks)
        loss = float((residuals**2).sum(axis=1).mean())
        if best is None or loss < best.loss:
            best = LeftOut(wanted - residuals, share, loss)
    assert best is not None
    return best


def _residuals(spectrum: Spectrum, centred: Array, penalty: float, blocks: list[Array]) -> Array:
    """float64 [N, C]: one-hot target less the score by the fit without the example's group.

    blocks: int [B, g], examples of the groups of more than one, by size g.
    """
    shrunk = spectrum.components / (spectrum.values + penalty)
    fitted = shrunk @ (spectrum.components.T @ centred)
    leverage = 1 / len(centred) + (shrunk * spectrum.components).sum(axis=1)
    residuals: Array = (centred - fitted) / (1 - leverage)[:, None]
    for block in blocks:
        hat = 1 / len(centred) + shrunk[block] @ spectrum.components[block].swapaxes(1, 2)
        residuals[block] = np.linalg.solve(np.eye(block.shape[1]) - hat, (centred - fitted)[block])
    return residuals


def _blocks(groups: Array | None, count: int) -> Iterator[Array]:
    """int [B, g] for each size g > 1 of a group: the places of its examples."""
    if groups is None:
        return
    _, number, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    if len(sizes) == 1:
        raise DataError(
            f"all {count} examples are copies of one input: there is nothing to choose a model by"
        )
    order = np.argsort(number, kind="stable")
    ordered_sizes = sizes[number[order]]
    for size in np.unique(sizes[sizes > 1]):
        yield order[ordered_sizes == size].reshape(-1, size)


def one_hot(targets: Array) -> Array:
    """float64 [N, C], as many classes as the largest target says."""
    return np.eye(int(targets.max()) + 1)[targets]


def fitted_on(splits: Splits) -> Array:
    """int64 [M]: whom the ridge probe is fitted on. Of several splits, a cross-validation, all that are judged: each
    is left out by itself in the place of a fold. Of one split its first part.
    """
    if len(splits) == 1:
        return splits[0][0]
    return np.sort(np.concatenate([held for _, held in splits]))


@one_thread
def ridge_evidence(
    features: Array,
    targets: Array,
    splits: Splits,
    groups: Array | None = None,
    *,
    spectrum: Spectrum | None = None,
) -> Evidence:
    """What the ridge probe predicts of the judged examples, in their order: `cross_validate` for a fraction of it.

    features [N, D]; targets int64 [N]; groups: see `leave_out`.  spectrum: `decompose(features[fitted_on(splits)])`
    where the caller has it.  Raises TrainingError where features are not finite.
    """
    fitted = fitted_on(splits)
    known = spectrum or decompose(features[fitted])
    left = leave_out(known, targets[fitted], None if groups is None else groups[fitted])
    temperature = fit_temperature(left.scores, targets[fitted])
    if len(splits) > 1:
        return _evidence(left.scores, targets[fitted], temperature)
    held = splits[0][1]
    weight, bias = coefficients(known, targets[fitted], left.strength)
    return _evidence(features[held].astype(np.float64) @ weight.T + bias, targets[held], temperature)


def _evidence(scores: Array, targets: Array, temperature: float) -> Evidence:
    """As probabilities: scores of squared error lie in about 0 to 1, so one temperature for all, fitted on what
    was left out, makes their softmax mean something. The answers stay.
    """
    return Evidence(scores.argmax(axis=1) == targets, softmax(scores / temperature))


def coefficients(spectrum: Spectrum, targets: Array, strength: float) -> tuple[Array, Array]:
    """The probe on all examples: weight float64 [C, D], bias float64 [C]."""
    wanted = one_hot(targets)
    mean = wanted.mean(axis=0)
    projected = spectrum.components.T @ (wanted - mean)
    inner = projected / (spectrum.values + strength * spectrum.trace)[:, None]
    weight: Array = (spectrum.axes @ inner).T
    return weight, mean - weight @ spectrum.mean
