"""How a step is computed (micro batches, bfloat16, memory layout) and that it is the same step all the same."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from zoo.cards import ImagePreprocess, Recipe
from zoo.engine import HEAD, Array, Batch
from zoo_torch.adapter import ADAPTER
from zoo_torch.anatomy import seeded
from zoo_torch.engine import TorchEngine

SGD = Recipe(optimizer="sgd", lr=0.05, momentum=0.9, clip_norm=0.5, seed=4)


class Plain(nn.Module):
    """Convolutions without batch norm, and dropout where it is asked for."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.Dropout(dropout))
        self.body = nn.Sequential(nn.Conv2d(8, 12, 3), nn.ReLU())
        self.fc = nn.Linear(12, 3)

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.fc(self.body(self.stem(images)).mean(dim=(2, 3)))
        return out


def plain(dropout: float = 0.0) -> TorchEngine:
    with seeded(0, torch.device("cpu")):
        module = Plain(dropout)
    return ADAPTER.wrap(module, preprocess=ImagePreprocess(12, 12), head="fc", blocks=None)


def data(n: int) -> tuple[Batch, Array]:
    rng = np.random.default_rng(n)
    images = rng.standard_normal((n, 3, 12, 12), dtype=np.float32)
    return {"images": images}, np.eye(3, dtype=np.float32)[rng.integers(0, 3, n)]


def steps(engine: TorchEngine, recipe: Recipe, batch: Batch, targets: Array, count: int = 3) -> list[float]:
    engine.start_training(recipe)
    lr = dict.fromkeys((*engine.trainable, HEAD), recipe.lr)
    return [float(engine.train_step(batch, targets, lr=lr)) for _ in range(count)]


# --- micro batches
@pytest.mark.parametrize("size", [1, 3, 5])
def test_micro_batches_train_all_blocks_as_the_whole_batch_does(size: int) -> None:
    whole, parts = plain(), plain()
    batch, targets = data(7)
    seen: list[int] = []
    parts.module.stem.register_forward_hook(lambda _, args, out: seen.append(len(args[0])))
    small = dataclasses.replace(SGD, micro_batch_size=size)
    assert steps(parts, small, batch, targets) == pytest.approx(steps(whole, SGD, batch, targets), rel=1e-6)
    for key, value in whole.state().items():
        np.testing.assert_allclose(parts.state()[key], value, rtol=1e-5, atol=1e-6)
    assert max(seen) == size and sum(seen) == 3 * 7, "what is in memory at a time is one micro batch"


def test_micro_batches_that_hold_the_whole_batch_change_no_bit() -> None:
    losses = [
        steps(plain(0.4), dataclasses.replace(SGD, micro_batch_size=size), *data(6)) for size in (None, 6, 32)
    ]
    assert losses[0] == losses[1] == losses[2]


def test_each_micro_batch_draws_dropout_of_its_own() -> None:
    """Twice the same images: with one mask for both parts the loss would be that of either half."""
    batch, targets = data(2)
    twice = {"images": np.concatenate([batch["images"]] * 2)}, np.concatenate([targets] * 2)
    small = dataclasses.replace(SGD, micro_batch_size=2)
    half, both = steps(plain(0.5), SGD, batch, targets, 1), steps(plain(0.5), small, *twice, 1)
    assert half != pytest.approx(both, rel=1e-6)
    assert both == steps(plain(0.5), small, *twice, 1)
