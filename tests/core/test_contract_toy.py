"""The numpy toy keeps the whole public contract, and its gradients are the derivatives of its loss."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from zoo.cards import Recipe
from zoo.engine import LoadRequest
from zoo.testing import Case, ModelContract
from zoo.testing.helpers import targets_for
from zoo.testing.toy import ADAPTER, ToyEngine, installed


def case(name: str) -> Case:
    def load(depth: int | None = None) -> ToyEngine:
        return ADAPTER.load(LoadRequest(name, depth=depth))

    return Case(f"toy:{name}", load, at_depth=load)


CASES = (case("tiny"), case("words"))


@pytest.fixture(autouse=True, scope="module")
def _installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with installed(tmp_path_factory.mktemp("toy")):
        yield


class TestToy(ModelContract):
    cases = CASES


@pytest.mark.parametrize("toy", CASES, ids=lambda c: c.id)
def test_gradients_are_the_derivatives(toy: Case) -> None:
    """Central differences on every trainable array, with batch norm, dropout and sample weights in play."""
    engine = toy.engine()
    batch, targets = toy.batch(engine), targets_for(6, 3)
    shares = np.array([1, 2, 0.5, 1, 0, 1]) / 5.5
    engine.start_training(Recipe(seed=3))
    _, gradients, _ = engine.gradients(batch, targets, shares=shares)
    for key, gradient in gradients.items():
        stored = engine._values[key]
        for index in list(np.ndindex(*gradient.shape))[::37]:
            ends = []
            for step in (1e-5, -1e-5):
                engine._values[key] = stored.astype(np.float64)
                engine._values[key][index] += step
                ends.append(engine.gradients(batch, targets, shares=shares)[0])
            assert (ends[0] - ends[1]) / 2e-5 == pytest.approx(gradient[index], abs=1e-7), (key, index)
        engine._values[key] = stored


def test_frozen_blocks_pass_gradients_on() -> None:
    """A frozen block between trained ones: the lower one still gets the true derivative."""
    engine = CASES[0].engine()
    engine.set_trainable(["stem"])
    batch, targets, shares = CASES[0].batch(engine), targets_for(6, 3), np.full(6, 1 / 6)
    engine.start_training(Recipe())
    loss, gradients, _ = engine.gradients(batch, targets, shares=shares)
    assert set(gradients) == {"stem.weight", "stem.gamma", "stem.beta", "head.weight", "head.bias"}
    engine._values["stem.weight"] = engine._values["stem.weight"] - 1e-3 * gradients["stem.weight"]
    assert engine.gradients(batch, targets, shares=shares)[0] < loss


def test_the_toy_learns(tmp_path: Path) -> None:
    """Three colours, as the tests of training and selection above it assume."""
    engine = CASES[0].engine()
    rng = np.random.default_rng(0)
    classes = rng.integers(0, 3, 60)
    images = rng.normal(0, 0.5, (60, 3, 8, 8)) + np.eye(3)[classes][:, :, None, None]
    batch, targets = {"images": images.astype(np.float32)}, np.eye(3, dtype=np.float32)[classes]
    engine.start_training(Recipe())
    for _ in range(60):
        engine.train_step(batch, targets, lr=dict.fromkeys([*engine.blocks, "head"], 0.01))
    assert (engine.logits(batch).argmax(1) == classes).mean() > 0.95
