"""Cached features give the head of the frozen network: Keras's MobileNet, with BatchNorm and dropout."""

from __future__ import annotations

from pathlib import Path

import frozen_training
import pytest

import zoo
from zoo.data import prepare
from zoo_tf.start import keras


def learn_statistics(model: zoo.Backbone) -> None:
    """BatchNorm's statistics as training on such photographs leaves them."""
    images = prepare(frozen_training.photos(32, 64, seed=2)[0], model.preprocess)["images"]
    norms = [layer for layer in model.module.layers if isinstance(layer, keras.layers.BatchNormalization)]
    usual = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    model.module(images.transpose(0, 2, 3, 1), training=True)
    for norm, momentum in zip(norms, usual, strict=True):
        norm.momentum = momentum


@pytest.mark.parametrize("optimizer", list(frozen_training.RECIPES))
@pytest.mark.parametrize("name", ["mobilenet_v1_0.25_128", "mobilenet_v2_0.35_96"])
def test_cached_is_uncached(
    name: str, optimizer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def make() -> zoo.Backbone:
        model = zoo.get(f"tf:{name}@none", num_classes=2, size=64)
        learn_statistics(model)
        return model

    monkeypatch.setenv("ZOO_CACHE", str(tmp_path))
    data, held = frozen_training.photos(26, 64), frozen_training.photos(8, 64, seed=1)
    recipe = frozen_training.RECIPES[optimizer]
    print(f"{name} {optimizer}: {frozen_training.check_the_same(make, data, held, recipe, tmp_path):.1e}")
