"""The training loop over the toy: cached features against the frozen network, best weights, bad input."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from zoo.cards import Recipe
from zoo.data import Dataset
from zoo.engine import HEAD_BIAS, HEAD_WEIGHT, Array, Batch
from zoo.errors import DataError, DivergedError, HeadMissingError, InputError
from zoo.testing.toy import ToyEngine
from zoo.train import FeatureCache, fit, fit_head, weights_hash

RECIPE = Recipe(optimizer="sgd", lr=0.05, epochs=4, batch_size=16, schedule="cosine", warmup_epochs=0.5)


def images(n: int, *, seed: int = 0, classes: tuple[str, ...] = ("dark", "light")) -> Dataset:
    """8 x 8 noise, brighter with the class."""
    rng = np.random.default_rng(seed)
    targets = np.arange(n) % len(classes)
    rng.shuffle(targets)
    pixels = [rng.integers(60 * t, 60 * t + 130, (8, 8, 3), dtype=np.uint8) for t in targets]
    return Dataset("image", pixels, targets, classes)


def toy(*, frozen: bool = True, kind: type[ToyEngine] = ToyEngine) -> ToyEngine:
    engine = kind("image", num_classes=2, seed=1)
    engine.set_trainable(() if frozen else engine.blocks)
    return engine


def fitted(engine: ToyEngine, recipe: Recipe, *, cached: bool = True) -> ToyEngine:
    cache = FeatureCache() if cached else None
    fit(engine, images(70), images(20, seed=1), recipe, cache=cache, model_id="toy:tiny", progress=False)
    return engine


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
@pytest.mark.parametrize("clip_norm", [None, 0.3])
def test_cached_features_train_the_head_that_the_frozen_network_trains(
    optimizer: str, clip_norm: float | None
) -> None:
    recipe = dataclasses.replace(
        RECIPE, optimizer=optimizer, clip_norm=clip_norm, weight_decay=0.01, label_smoothing=0.1
    )
    cached = fitted(toy(), recipe)
    native = fitted(toy(), recipe, cached=False)
    start, wanted = toy().state(), native.state()
    for name in (HEAD_WEIGHT, HEAD_BIAS):
        norm = np.linalg.norm(wanted[name])
        assert np.linalg.norm(cached.state()[name] - wanted[name]) <= 1e-5 * norm
        assert np.linalg.norm(start[name] - wanted[name]) > 1e-2 * norm, "the head must have moved"


def test_cached_training_touches_nothing_but_the_head() -> None:
    before, engine = toy().state(), fitted(toy(), RECIPE)
    changed = {name for name, value in engine.state().items() if not np.array_equal(value, before[name])}
    assert changed == {HEAD_WEIGHT, HEAD_BIAS}


def test_losses_are_one_a_step_and_rows_one_an_epoch(tmp_path: Path) -> None:
    history = fit(toy(), images(70), images(20, seed=1), RECIPE, run_dir=tmp_path, progress=False)
    assert len(history.losses) == 4 * math.ceil(70 / 16)
    assert [row["epoch"] for row in history.epochs] == [1, 2, 3, 4]
    assert history.epochs[0]["loss"] == pytest.approx(np.mean(history.losses[:5]))
    lines = (tmp_path / "history.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == list(history.epochs)


def test_a_batch_larger_than_the_data_is_one_step() -> None:
    recipe = dataclasses.replace(RECIPE, batch_size=1000)
    assert len(fit(toy(), images(10), None, recipe, progress=False).losses) == recipe.epochs


def test_the_best_epochs_weights_are_kept_and_patience_stops() -> None:
    recipe = dataclasses.replace(RECIPE, lr=0.5, epochs=40, patience=2, schedule="constant")
    held = images(30, seed=3)
    held = dataclasses.replace(held, targets=1 - held.targets)  # the more is learnt, the worse it gets
    engine = toy()
    history = fit(engine, images(70), held, recipe, progress=False)
    assert history.stopped == "no better validation loss for 2 epochs"
    losses = [row["validation_loss"] for row in history.epochs]
    assert history.best_epoch == int(np.argmin(losses)) + 1 == len(losses) - 2
    short = toy()
    fit(short, images(70), None, dataclasses.replace(recipe, patience=None, epochs=history.best_epoch),
        progress=False)  # fmt: skip
    assert np.array_equal(engine.state()[HEAD_WEIGHT], short.state()[HEAD_WEIGHT])


def test_the_last_epochs_weights_are_kept_on_wish(tmp_path: Path) -> None:
    """Also by a run that is resumed at its end."""
    recipe = dataclasses.replace(RECIPE, lr=0.5, epochs=6, schedule="constant", keep="last")
    held = images(30, seed=3)
    held = dataclasses.replace(held, targets=1 - held.targets)  # the more is learnt, the worse it gets
    engine, bare, again = toy(), toy(), toy()
    history = fit(engine, images(70), held, recipe, run_dir=tmp_path, progress=False)
    fit(bare, images(70), None, recipe, progress=False)
    fit(again, images(70), held, recipe, run_dir=tmp_path, resume=True, progress=False)
    assert history.best_epoch is not None and history.best_epoch < 6
    for one in (engine, again):
        assert np.array_equal(one.state()[HEAD_WEIGHT], bare.state()[HEAD_WEIGHT])


def test_without_validation_data_the_last_weights_stay_and_patience_is_refused() -> None:
    history = fit(toy(), images(30), None, RECIPE, progress=False)
    assert history.best_epoch is None and history.epochs[-1]["validation_loss"] is None
    with pytest.raises(InputError, match="patience stops on the validation loss"):
        fit(toy(), images(30), None, dataclasses.replace(RECIPE, patience=1), progress=False)


def test_the_seed_decides_and_the_global_generator_is_untouched() -> None:
    state = np.random.get_state()[1].copy()  # type: ignore[union-attr]
    one, two = fitted(toy(frozen=False), RECIPE), fitted(toy(frozen=False), RECIPE)
    other = fitted(toy(frozen=False), dataclasses.replace(RECIPE, seed=1))
    assert weights_hash(one, backbone_only=False) == weights_hash(two, backbone_only=False)
    assert weights_hash(one, backbone_only=True) != weights_hash(other, backbone_only=True)
    assert np.array_equal(state, np.random.get_state()[1])  # type: ignore[index]


def test_the_seed_decides_the_order() -> None:
    """Nothing but the order is random in a frozen network."""
    losses = [
        fit(toy(), images(70), None, dataclasses.replace(RECIPE, seed=seed), progress=False).losses
        for seed in (0, 1)
    ]
    assert losses[0][0] != losses[1][0]


def test_the_backbones_hash_leaves_the_head_out() -> None:
    one, other = toy(), toy()
    other.reset_head(2, seed=99)
    assert weights_hash(one, backbone_only=True) == weights_hash(other, backbone_only=True)
    assert weights_hash(one, backbone_only=False) != weights_hash(other, backbone_only=False)


class Exploding(ToyEngine):
    """From step `at` on (counted from 0), the loss is NaN and so are the weights."""

    at = 7

    def train_step(
        self, batch: Batch, targets: Array, *, lr: Mapping[str, float], weights: Array | None = None
    ) -> float:
        loss = super().train_step(batch, targets, lr=lr, weights=weights)
        if self._optimizer.steps <= self.at:
            return loss
        self._values[HEAD_WEIGHT][:] = np.nan
        return math.nan


def test_a_nan_loss_stops_names_step_and_rate_and_puts_good_weights_back(tmp_path: Path) -> None:
    recipe, good = dataclasses.replace(RECIPE, schedule="constant", warmup_epochs=0), toy(frozen=False)
    fit(good, images(70), None, dataclasses.replace(recipe, epochs=1), progress=False)
    engine = toy(frozen=False, kind=Exploding)
    with pytest.raises(DivergedError, match=r"the loss became nan at step 8 \(epoch 2\).*rate was 0.05") as e:
        fit(engine, images(70), None, recipe, run_dir=tmp_path, progress=False)
    assert "the weights of epoch 1 were put back" in str(e.value) and str(tmp_path) in str(e.value)
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["step-00000005"]
    assert all(np.array_equal(engine.state()[k], v) for k, v in good.state().items())


class QuietlyBroken(Exploding):
    """The very last step of an epoch breaks the weights; its loss, taken before, shows nothing."""

    at = 4

    def train_step(
        self, batch: Batch, targets: Array, *, lr: Mapping[str, float], weights: Array | None = None
    ) -> float:
        loss = ToyEngine.train_step(self, batch, targets, lr=lr, weights=weights)
        if self._optimizer.steps > self.at:
            self._values[HEAD_WEIGHT][0, 0] = np.inf
        return loss


def test_weights_that_break_at_an_epochs_last_step_are_not_checkpointed(tmp_path: Path) -> None:
    with pytest.raises(DivergedError, match=r"head.weight became NaN or infinite at step 5 \(epoch 1\)"):
        fit(toy(kind=QuietlyBroken), images(70), None, RECIPE, run_dir=tmp_path, progress=False)
    assert not (tmp_path / "checkpoints").exists()


def test_cached_features_diverge_cleanly_too() -> None:
    engine = toy()
    with pytest.raises(DivergedError, match="the learning rate was"), np.errstate(all="ignore"):
        fitted(engine, dataclasses.replace(RECIPE, lr=1e39, schedule="constant", warmup_epochs=0))
    assert np.isfinite(engine.state()[HEAD_WEIGHT]).all()


def test_a_head_that_is_missing_or_of_another_size_is_named() -> None:
    with pytest.raises(HeadMissingError, match=r"replace_head\(num_classes=2\)"):
        fit(ToyEngine("image", num_classes=None), images(10), None, RECIPE, progress=False)
    with pytest.raises(DataError, match=r"head has 3 classes and the data 2.*replace_head"):
        fit(ToyEngine("image", num_classes=3), images(10), None, RECIPE, progress=False)


def test_a_text_model_without_tokenizer_trains_one_on_its_texts() -> None:
    engine = ToyEngine("text", num_classes=2)
    texts = ["the parcel never came", "please refund the money"] * 8
    data = Dataset("text", texts, np.array([0, 1] * 8), ("late", "money"))
    history = fit(engine, data, None, dataclasses.replace(RECIPE, epochs=20), progress=False)
    assert engine.preprocess.tokenizer is not None and '"parcel"' in engine.preprocess.tokenizer  # type: ignore[union-attr]
    assert history.losses[-1] < history.losses[0]


def test_fit_head_learns_and_leaves_its_arguments_alone() -> None:
    rng = np.random.default_rng(0)
    targets = rng.integers(0, 3, 90)
    features = (np.eye(3, 8)[targets] * 3 + rng.normal(size=(90, 8))).astype(np.float32)
    weight, bias = np.zeros((3, 8), np.float32), np.zeros(3, np.float32)
    recipe = Recipe(lr=0.05, epochs=20, batch_size=32)
    w, b, history = fit_head(features, targets, recipe, num_classes=3, weight=weight, bias=bias,
                             validation=(features, targets))  # fmt: skip
    assert ((features @ w.T + b).argmax(1) == targets).mean() > 0.9
    assert not weight.any() and history.epochs[-1]["validation_accuracy"] > 0.9
