"""The head that ships says what the probe says; evidence comes from examples the probe did not see."""

from __future__ import annotations

import numpy as np
import pytest

from zoo.choose.evidence import choose_strength, cross_validate, fit_linear_head, logistic
from zoo.data import folds
from zoo.train import softmax


def data(classes: int, n: int = 120, dimensions: int = 10) -> tuple[np.ndarray, np.ndarray]:
    """Features far from zero mean and unit scale, so that a standardisation left out shows."""
    rng = np.random.default_rng(classes)
    targets = np.arange(n) % classes
    means = rng.normal(size=(classes, dimensions))
    features = (means[targets] + rng.normal(size=(n, dimensions))) * rng.uniform(0.1, 30, dimensions) + 50
    return features.astype(np.float32), targets


@pytest.mark.parametrize("classes", [2, 5])
def test_the_head_gives_the_probes_probabilities(classes: int) -> None:
    features, targets = data(classes)
    weight, bias = fit_linear_head(features, targets, classes, seed=0)
    assert (weight.shape, bias.shape, weight.dtype) == ((classes, 10), (classes,), np.float32)
    probe = logistic(choose_strength(features, targets, seed=0)).fit(features, targets)
    np.testing.assert_allclose(softmax(features @ weight.T + bias), probe.predict_proba(features), atol=2e-4)


def test_a_class_without_examples_is_never_predicted() -> None:
    features, targets = data(3)
    weight, bias = fit_linear_head(features[targets != 1], targets[targets != 1], 3, seed=0)
    assert softmax(features @ weight.T + bias)[:, 1].max() < 1e-6


def test_noise_is_not_learned() -> None:
    """With as many features as examples a probe fits its own labels perfectly, and unseen ones at chance."""
    rng = np.random.default_rng(0)
    features, targets = rng.normal(size=(200, 200)).astype(np.float32), rng.permutation(np.arange(200) % 2)
    evidence = cross_validate(features, targets, folds(targets, 5, seed=0), seed=0)
    assert 0.35 < evidence.accuracy < 0.65
    low, high = evidence.interval
    assert low < evidence.accuracy < high


def test_a_dead_feature_gets_no_weight() -> None:
    """MiniLM has features of 1e-31. Standardised they gave weights of 1e30, which no other precision can hold."""
    features, targets = data(2)
    dead = (targets[:, None] * 1e-31).astype(np.float32)  # it would even help
    weight, bias = fit_linear_head(np.hstack([features, dead]), targets, 2, seed=0)
    assert (weight[:, -1] == 0).all()
    alone, alone_bias = fit_linear_head(features, targets, 2, seed=0)
    np.testing.assert_allclose(weight[:, :-1], alone, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(bias, alone_bias, rtol=1e-3, atol=1e-4)
