"""Training on augmented photographs: never from the cache, the same bits with any threads and after any stop."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from zoo.cards import Recipe
from zoo.data import Dataset
from zoo.engine import Array, Batch
from zoo.errors import InputError
from zoo.testing.toy import ToyEngine
from zoo.train import FeatureCache, fit

RECIPE = Recipe(optimizer="sgd", lr=0.05, epochs=3, batch_size=8, augment="strong")


def images(n: int = 40) -> Dataset:
    rng, targets = np.random.default_rng(0), np.arange(n) % 2
    pixels = [rng.integers(60 * t, 60 * t + 130, (24, 30, 3), dtype=np.uint8) for t in targets]
    return Dataset("image", pixels, targets, ("dark", "light"))


class Watched(ToyEngine):
    """Writes down what it is given; stopped by Ctrl-C at step `stop`."""

    stop = -1

    def train_step(
        self, batch: Batch, targets: Array, *, lr: Mapping[str, float], weights: Array | None = None
    ) -> float:
        self.seen = [*getattr(self, "seen", []), batch["images"].copy()]
        if len(self.seen) == self.stop:
            raise KeyboardInterrupt
        return float(super().train_step(batch, targets, lr=lr, weights=weights))


def toy(*, stop: int = -1, frozen: bool = False) -> Watched:
    engine = Watched("image", num_classes=2, seed=1)
    engine.set_trainable(() if frozen else engine.blocks)
    engine.stop = stop
    return engine


def train(engine: Watched, recipe: Recipe = RECIPE, **options: object) -> Watched:
    fit(engine, images(), images(12), recipe, progress=False, **options)  # type: ignore[arg-type]
    return engine


def same(a: Watched, b: Watched) -> bool:
    return all(np.array_equal(value, b.state()[name]) for name, value in a.state().items())


def test_each_epoch_sees_other_pixels_of_the_same_photographs() -> None:
    seen = np.concatenate(train(toy(), dataclasses.replace(RECIPE, augment="light")).seen)
    assert len(seen) == 3 * 40
    assert len({image.tobytes() for image in seen}) == 3 * 40


def test_threads_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_DATA_THREADS", "0")
    alone = train(toy())
    monkeypatch.setenv("ZOO_DATA_THREADS", "4")
    assert same(train(toy()), alone)


def test_a_run_stopped_within_an_epoch_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(toy(stop=9), run_dir=tmp_path, checkpoint_seconds=0)
    resumed = train(toy(), run_dir=tmp_path, resume=True, checkpoint_seconds=0)
    assert len(resumed.seen) == 15 - 8, "it went on within the second epoch"
    assert same(resumed, train(toy()))


def test_a_frozen_backbone_is_fed_augmented_photographs_and_not_cached_features() -> None:
    engine = train(toy(frozen=True), cache=FeatureCache())
    assert len(engine.seen) == 15, "every step went through the network"
    assert not same(engine, train(toy(frozen=True), dataclasses.replace(RECIPE, augment="none")))


def test_a_text_model_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    texts = Dataset("text", ["a", "b"], np.array([0, 1]), ("x", "y"))
    with pytest.raises(InputError, match="reads texts"):
        fit(ToyEngine("text", num_classes=2), texts, None, RECIPE, run_dir=tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()
