"""Cached features give the head of the frozen network: torchvision's, with BatchNorm and stochastic depth."""

from __future__ import annotations

from pathlib import Path

import frozen_training
import pytest
import torch
import torchvision

import zoo
from zoo.data import prepare

pytestmark = pytest.mark.torch


def learn_statistics(model: zoo.Backbone) -> None:
    """BatchNorm's statistics as training on such photographs leaves them."""
    images = prepare(frozen_training.photos(32, 64, seed=2)[0], model.preprocess)["images"]
    norms = [m for m in model.module.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    usual = [norm.momentum for norm in norms]
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        for norm in norms:
            norm.momentum = 1.0
        model.module.train()(torch.from_numpy(images))
    model.module.eval()
    for norm, momentum in zip(norms, usual, strict=True):
        norm.momentum = momentum


@pytest.mark.parametrize("optimizer", list(frozen_training.RECIPES))
@pytest.mark.parametrize("name", ["mobilenet_v2", "efficientnet_b0"])
def test_cached_is_uncached(
    name: str, optimizer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def make() -> zoo.Backbone:
        model = zoo.get(f"torch:{name}@none", num_classes=2, size=64)
        learn_statistics(model)
        drops = any(isinstance(m, torchvision.ops.StochasticDepth) for m in model.module.modules())
        assert drops == (name == "efficientnet_b0")
        return model

    monkeypatch.setenv("ZOO_CACHE", str(tmp_path))
    data, held = frozen_training.photos(26, 64), frozen_training.photos(8, 64, seed=1)
    recipe = frozen_training.RECIPES[optimizer]
    print(f"{name} {optimizer}: {frozen_training.check_the_same(make, data, held, recipe, tmp_path):.1e}")
