"""Optimizers, schedule and metrics against numbers worked out by hand or by another route."""

from __future__ import annotations

import math

import numpy as np
import pytest

from zoo.cards import Recipe
from zoo.errors import DataError
from zoo.train import evaluate, rate, softmax, wilson_interval
from zoo.train.metrics import cross_entropy, log_loss, macro_f1
from zoo.train.optim import Optimizer, clip
from zoo.train.schedule import steps_per_epoch

GRADIENTS = (0.5, -0.25, 1.0)


def trajectory(recipe: Recipe, start: float = 2.0) -> list[float]:
    values, optimizer = {"head.bias": np.array([start], np.float32)}, Optimizer(recipe)
    found = []
    for gradient in GRADIENTS:
        optimizer.update(values, {"head.bias": np.array([gradient], np.float32)}, {"head.bias": recipe.lr})
        found.append(float(values["head.bias"][0]))
    return found


def test_sgd_momentum_starts_from_the_gradient_and_decay_is_l2() -> None:
    recipe = Recipe(optimizer="sgd", lr=0.1, momentum=0.9, weight_decay=0.01)
    value, slot, expected = 2.0, None, []
    for gradient in GRADIENTS:
        slope = gradient + 0.01 * value
        slot = slope if slot is None else 0.9 * slot + slope
        value -= 0.1 * slot
        expected.append(value)
    assert trajectory(recipe) == pytest.approx(expected, rel=1e-6)


def test_sgd_without_momentum_keeps_no_slots() -> None:
    optimizer = Optimizer(Recipe(optimizer="sgd", momentum=0.0))
    optimizer.update({"w": np.ones(2, np.float32)}, {"w": np.ones(2, np.float32)}, {"w": 0.1})
    assert list(optimizer.state()) == ["steps"]


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_adam_adds_decay_to_the_gradient_and_adamw_to_the_value(name: str) -> None:
    recipe = Recipe(optimizer=name, lr=0.1, weight_decay=0.1)
    value, mean, square, expected = 2.0, 0.0, 0.0, []
    for step, gradient in enumerate(GRADIENTS, 1):
        if name == "adamw":
            value -= 0.1 * 0.1 * value
        else:
            gradient += 0.1 * value
        mean, square = 0.9 * mean + 0.1 * gradient, 0.999 * square + 0.001 * gradient**2
        corrected = mean / (1 - 0.9**step)
        value -= 0.1 * corrected / (math.sqrt(square / (1 - 0.999**step)) + 1e-8)
        expected.append(value)
    assert trajectory(recipe) == pytest.approx(expected, rel=1e-6)


def test_clipping_is_by_the_norm_over_all_arrays_and_never_scales_up() -> None:
    gradients = {"a": np.array([3.0], np.float32), "b": np.array([4.0], np.float32)}
    clipped = clip(gradients, 1.0)
    assert float(clipped["a"][0]) == pytest.approx(3 / (5 + 1e-6), rel=1e-6)
    assert float(clipped["b"][0]) == pytest.approx(4 / (5 + 1e-6), rel=1e-6)
    assert float(clip(gradients, 100.0)["b"][0]) == 4.0
    values = {name: np.zeros(1, np.float32) for name in gradients}
    recipe = Recipe(optimizer="sgd", momentum=0.0, clip_norm=1.0)
    Optimizer(recipe).update(values, gradients, dict.fromkeys(values, 1.0))
    assert float(values["b"][0]) == pytest.approx(-0.8, rel=1e-6)


def test_optimizer_state_is_a_copy_that_goes_on_to_the_same_bits() -> None:
    recipe = Recipe(optimizer="adamw", lr=0.1, weight_decay=0.1)
    rng = np.random.default_rng(0)
    steps = [{"w": rng.normal(size=5).astype(np.float32)} for _ in range(6)]
    whole, first = {"w": np.ones(5, np.float32)}, {"w": np.ones(5, np.float32)}
    a, b, c = Optimizer(recipe), Optimizer(recipe), Optimizer(recipe)
    for gradient in steps:
        a.update(whole, gradient, {"w": 0.1})
    for gradient in steps[:3]:
        b.update(first, gradient, {"w": 0.1})
    state = b.state()
    b.update({"w": np.ones(5, np.float32)}, steps[3], {"w": 9.0})
    c.load_state(state)
    for gradient in steps[3:]:
        c.update(first, gradient, {"w": 0.1})
    assert np.array_equal(whole["w"], first["w"])


def test_warm_up_rises_in_a_line_and_cosine_falls_to_nothing() -> None:
    recipe = Recipe(lr=1.0, epochs=3, schedule="cosine", warmup_epochs=1)
    found = [rate(recipe, step, 4) for step in range(12)]
    assert found[:4] == [0.25, 0.5, 0.75, 1.0]
    assert found[4] == 1.0
    assert found[8] == pytest.approx(0.5)
    assert found[11] == pytest.approx(0.5 * (1 + math.cos(math.pi * 7 / 8)))
    assert rate(Recipe(lr=0.3), 10**6, 4) == 0.3


def test_the_partial_batch_is_a_step() -> None:
    assert [steps_per_epoch(n, 4) for n in (1, 4, 5)] == [1, 1, 2]


def test_wilson_interval_of_published_values() -> None:
    """Newcombe 1998, table I: 81 of 263 and 0 of 20."""
    assert wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson_interval(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)
    assert wilson_interval(0, 0) == (0.0, 1.0)


def test_macro_f1_counts_every_class_alike() -> None:
    targets, predicted = np.array([0, 0, 0, 1, 1, 2]), np.array([0, 0, 1, 1, 1, 0])
    for classes in (3, 5):  # a class that nothing is of or taken for does not count
        assert macro_f1(predicted, targets, classes) == pytest.approx((2 * 2 / 6 + 2 * 2 / 5 + 0) / 3)


def test_losses_agree_from_logits_and_from_probabilities() -> None:
    logits = np.array([[2.0, 1.0, 0.0], [0.0, 1000.0, 0.0]], np.float32)
    targets = np.array([0, 1])
    right = -math.log(math.exp(2) / (math.exp(2) + math.e + 1)) / 2
    assert cross_entropy(logits, targets) == pytest.approx(right)
    assert log_loss(softmax(logits), targets) == pytest.approx(right, rel=1e-6)
    assert math.isfinite(log_loss(softmax(logits), np.array([0, 2])))


def test_evaluate_gives_all_its_figures() -> None:
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]], np.float32)
    found = evaluate(probabilities, np.array([0, 1, 1]), ("ants", "bees"))
    assert found["accuracy"] == pytest.approx(2 / 3) and found["n"] == 3
    assert found["accuracy_low"] < 2 / 3 < found["accuracy_high"]
    assert found["log_loss"] == pytest.approx(-np.log([0.9, 0.8, 0.4]).mean())
    assert found["macro_f1"] == pytest.approx(2 / 3)


def test_evaluate_refuses_what_does_not_fit() -> None:
    with pytest.raises(DataError, match=r"shape \(2, 3\) for 2 examples of 2 classes"):
        evaluate(np.zeros((2, 3), np.float32), np.array([0, 1]), ("a", "b"))
    with pytest.raises(DataError, match="no examples"):
        evaluate(np.zeros((0, 2), np.float32), np.zeros(0, np.int64), ("a", "b"))
