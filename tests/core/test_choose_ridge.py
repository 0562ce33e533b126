"""The ridge probe's closed form against refits, group by group, and LogME against the evidence itself."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import multivariate_normal

from zoo.choose.evidence import cross_validate
from zoo.choose.logme import evidence, logme
from zoo.choose.ridge import STRENGTHS, coefficients, leave_out, one_hot, ridge_evidence
from zoo.choose.spectrum import decompose
from zoo.data import folds
from zoo.errors import DataError, TrainingError

Array = np.ndarray


def data(n: int, d: int, classes: int = 3) -> tuple[Array, Array]:
    """Features of unequal scales, far from 0, with a signal in them."""
    rng = np.random.default_rng([n, d])
    targets = rng.permutation(np.arange(n) % classes)
    means = rng.normal(size=(classes, d))
    return (means[targets] + 1.5 * rng.normal(size=(n, d))) * rng.uniform(0.1, 5, d) + 7, targets


def refit(features: Array, wanted: Array, penalty: float, new: Array) -> Array:
    """Ridge by its normal equations, the intercept unpenalised as the last column."""
    wide = np.hstack([features, np.ones((len(features), 1))])
    ridge = penalty * np.diag([1.0] * features.shape[1] + [0.0])
    solution = np.linalg.solve(wide.T @ wide + ridge, wide.T @ wanted)
    return np.hstack([new, np.ones((len(new), 1))]) @ solution


@pytest.mark.parametrize(("n", "d"), [(40, 7), (30, 30), (24, 60)], ids=["primal", "square", "dual"])
@pytest.mark.parametrize("strength", [1e-4, 1e-2, 1.0])
@pytest.mark.parametrize("grouped", [False, True])
def test_leave_out_equals_refits(n: int, d: int, strength: float, grouped: bool) -> None:
    features, targets = data(n, d)
    groups = np.arange(n)
    if (
        grouped
    ):  # sizes 1, 2 and 3; copies of one another in the first groups, merely left out together in the last
        groups = np.concatenate([[0, 0, 1, 1, 1], np.arange(2, n - 5), [2, 3]])
        features[1], features[3], features[4] = features[0], features[2], features[2]
    spectrum = decompose(features)
    left = leave_out(spectrum, targets, groups, strength=strength)
    wanted, penalty = one_hot(targets), strength * spectrum.trace
    for group in np.unique(groups):
        held = groups == group
        expected = refit(features[~held], wanted[~held], penalty, features[held])
        np.testing.assert_allclose(left.scores[held], expected, atol=1e-8)
    assert left.loss == pytest.approx(float(((left.scores - wanted) ** 2).sum(axis=1).mean()))


def test_the_trace_is_the_gram_matrix_own() -> None:
    for n, d in ((40, 7), (24, 60)):
        features = data(n, d)[0]
        centred = features - features.mean(axis=0)
        assert decompose(features).trace == pytest.approx(np.trace(centred @ centred.T))


def test_the_strength_has_the_least_loss_and_does_not_depend_on_scale() -> None:
    features, targets = data(60, 40)
    left = leave_out(decompose(features), targets)
    losses = {s: leave_out(decompose(features), targets, strength=s).loss for s in STRENGTHS}
    assert left.strength == min(losses, key=losses.__getitem__)
    assert STRENGTHS[0] < left.strength < STRENGTHS[-1]
    scaled = leave_out(decompose(1000 * features - 5), targets)
    assert scaled.strength == left.strength
    np.testing.assert_allclose(scaled.scores, left.scores, atol=1e-8)


def test_a_copy_does_not_judge_itself() -> None:
    """Labels of pure noise, each example twice: by itself left out, the copy gives the label away."""
    rng = np.random.default_rng(0)
    features, targets = np.tile(rng.normal(size=(40, 80)), (2, 1)), np.tile(rng.permutation(40) % 2, 2)
    splits = folds(targets, 5, seed=0)
    alone = ridge_evidence(features, targets, splits)
    together = ridge_evidence(features, targets, splits, np.arange(80) % 40)
    assert alone.accuracy > 0.95
    assert together.accuracy < 0.7
    assert (together.correct[:40] == together.correct[40:]).all()


def test_one_split_is_judged_on_its_other_part() -> None:
    features, targets = data(90, 12)
    fitted, held = np.arange(60), np.arange(60, 90)
    found = ridge_evidence(features, targets, [(fitted, held)])
    spectrum = decompose(features[fitted])
    strength = leave_out(spectrum, targets[fitted]).strength
    penalty = strength * spectrum.trace
    expected = refit(features[fitted], one_hot(targets[fitted]), penalty, features[held])
    weight, bias = coefficients(spectrum, targets[fitted], strength)
    np.testing.assert_allclose(features[held] @ weight.T + bias, expected, atol=1e-8)
    np.testing.assert_array_equal(found.correct, expected.argmax(axis=1) == targets[held])
    assert found.probabilities.shape == (30, 3)
    np.testing.assert_array_equal(found.probabilities.argmax(axis=1), expected.argmax(axis=1))


def test_it_agrees_with_the_logistic_probe() -> None:
    features, targets = data(200, 20)
    splits = folds(targets, 5, seed=0)
    ridge = ridge_evidence(features, targets, splits)
    logistic = cross_validate(features, targets, splits, seed=0)
    assert abs(ridge.accuracy - logistic.accuracy) < 0.05
    assert (ridge.probabilities.argmax(axis=1) == logistic.probabilities.argmax(axis=1)).mean() > 0.9
    assert ridge.probabilities.sum(axis=1) == pytest.approx(np.ones(200), abs=1e-5)


def test_features_that_say_nothing_leave_the_class_frequencies() -> None:
    targets = np.array([0] * 30 + [1] * 20)
    left = leave_out(decompose(np.full((50, 9), 0.1)), targets)
    np.testing.assert_allclose(left.scores[0], [29 / 49, 20 / 49])
    assert np.isfinite(logme(decompose(np.full((50, 9), 0.1)), targets))


def test_what_cannot_be_judged_is_refused() -> None:
    features, targets = data(20, 5)
    with pytest.raises(DataError, match="all 20 examples are copies of one input"):
        leave_out(decompose(features), targets, np.zeros(20, int))
    features[3, 2], features[4, 1] = np.nan, np.inf
    splits = folds(targets, 2, seed=0)
    for judge in (
        lambda: ridge_evidence(features, targets, splits),
        lambda: cross_validate(features, targets, splits, seed=0),
    ):
        with pytest.raises(TrainingError, match="features of 2 of 20 examples are NaN or infinite"):
            judge()


# --- LogME
def direct(features: Array, target: Array) -> float:
    """The largest log N(target; 0, F F^T / alpha + I / beta), by a general optimiser on the dense covariance."""
    gram, eye = features @ features.T, np.eye(len(target))

    def cost(logs: Array) -> float:
        alpha, beta = np.exp(np.clip(logs, -30, 30))
        return -float(multivariate_normal.logpdf(target, cov=gram / alpha + eye / beta))

    starts = [np.array([a, b]) for a in (-2.0, 3.0) for b in (0.0, 3.0)]
    return -min(minimize(cost, start, method="Nelder-Mead").fun for start in starts)


def split_up(features: Array, target: Array) -> tuple[Array, Array, float]:
    """Eigenvalues, squared projections and the squared rest, by an SVD."""
    u, s, _ = np.linalg.svd(features, full_matrices=False)
    squares = (u.T @ target) ** 2
    return s**2, squares, float(target @ target - squares.sum())


@pytest.mark.parametrize(("n", "d"), [(40, 5), (25, 50)])
def test_the_evidence_is_the_largest_there_is(n: int, d: int) -> None:
    features, targets = data(n, d, classes=2)
    features = (features - 7) / 3
    target = (targets == 1).astype(float)
    values, squares, rest = split_up(features, target)
    assert evidence(values, squares, rest, n) == pytest.approx(direct(features, target), abs=1e-4)


def authors(features: Array, target: Array) -> float:
    """Algorithm 1 and equation 2 of the ICML paper, word by word, with dense matrices."""
    n, d = features.shape
    alpha = beta = 1.0
    for _ in range(200):
        a = alpha * np.eye(d) + beta * features.T @ features
        m = beta * np.linalg.solve(a, features.T @ target)
        sigma = np.linalg.eigvalsh(features.T @ features)
        gamma = float((beta * sigma / (alpha + beta * sigma)).sum())
        alpha = gamma / float(m @ m)
        beta = (n - gamma) / float(((features @ m - target) ** 2).sum())
    a = alpha * np.eye(d) + beta * features.T @ features
    m = beta * np.linalg.solve(a, features.T @ target)
    whole = n / 2 * np.log(beta) + d / 2 * np.log(alpha) - n / 2 * np.log(2 * np.pi)
    return float(
        whole - beta / 2 * ((features @ m - target) ** 2).sum() - alpha / 2 * (m @ m)
        - np.linalg.slogdet(a)[1] / 2
    )  # fmt: skip


def test_the_evidence_is_the_authors() -> None:
    features, targets = data(60, 8, classes=2)
    features = features / 3
    target = (targets == 1).astype(float)
    found = evidence(*split_up(features, target), 60)
    assert found == pytest.approx(authors(features, target), abs=1e-6)


def test_logme_is_the_mean_over_classes_of_centred_data() -> None:
    features, targets = data(50, 6)
    centred = features - features.mean(axis=0)
    rotated = np.linalg.qr(np.hstack([np.ones((50, 1)), np.eye(50)[:, :49]]))[0][:, 1:]
    expected = []
    for number in range(3):
        target = (targets == number) - np.mean(targets == number)
        # In the 49 dimensions that the intercept leaves, centred data is a plain linear model.
        expected.append(direct(rotated.T @ centred, rotated.T @ target) / 50)
    assert logme(decompose(features), targets) == pytest.approx(np.mean(expected), abs=1e-5)
    assert logme(decompose(features + 100), targets) == pytest.approx(logme(decompose(features), targets))


@pytest.mark.parametrize("noise", [1e-1, 1e-3, 1e-5])
def test_logme_of_features_that_span_the_targets_is_their_maximum(noise: float) -> None:
    """Fewer examples than columns, and classes that lie apart: the noise is all but none."""
    rng = np.random.default_rng(0)
    targets = np.arange(21) % 2
    features = (2 * targets[:, None] - 1) * rng.normal(size=(1, 512)) + noise * rng.normal(size=(21, 512))
    spectrum = decompose(features.astype(np.float32))
    squares = (spectrum.components.T @ (targets - targets.mean())) ** 2 / spectrum.values

    def at(ratio: float) -> float:
        widths = 1 + spectrum.values / ratio
        beta = 20 / (squares / widths).sum()
        return float(10 * (np.log(beta / 2 / np.pi) - 1) - np.log(widths).sum() / 2)

    ratios = spectrum.values.mean() * np.logspace(-12, 12, 4801)
    assert logme(spectrum, targets) == pytest.approx(max(map(at, ratios)) / 21, abs=1e-4)


def test_logme_prefers_features_that_tell() -> None:
    features, targets = data(80, 10)
    noise = np.random.default_rng(1).normal(size=(80, 10))
    assert logme(decompose(features), targets) > logme(decompose(noise), targets)
