"""Fine-tuning as practitioners do it: rates by layer, phases, class weights, the moving average, one cycle."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
import pytest
from test_train_checkpoint import plain, same, train
from test_train_loop import images

from zoo.cards import Recipe
from zoo.data import Dataset
from zoo.engine import HEAD, HEAD_WEIGHT, Array, Batch
from zoo.errors import DataError, InputError
from zoo.testing.toy import ToyEngine
from zoo.train import FeatureCache, fit, fit_head
from zoo.train.average import Average
from zoo.train.schedule import block_rates, class_weights, phase, rate

BASE = Recipe(optimizer="sgd", lr=0.05, epochs=4, batch_size=16)
BLOCKS = ("stem", "block1", "block2")


class Watched(ToyEngine):
    """Notes what trains and at which rates, step by step; stops before step `at` of the process."""

    at = 10**9

    def __init__(self, *arguments: object, **options: object) -> None:
        super().__init__(*arguments, **options)  # type: ignore[arg-type]
        self.seen: list[tuple[tuple[str, ...], dict[str, float]]] = []

    def train_step(
        self, batch: Batch, targets: Array, *, lr: Mapping[str, float], weights: Array | None = None
    ) -> float:
        if len(self.seen) >= self.at:
            raise RuntimeError("stopped by the test")
        self.seen.append((self.trainable, dict(lr)))
        return super().train_step(batch, targets, lr=lr, weights=weights)


def watched(free: Collection[str] = BLOCKS) -> Watched:
    engine = Watched("image", num_classes=2, seed=1)
    engine.set_trainable(free)
    return engine


# --- rates
def test_layer_decay_lowers_the_rate_block_by_block_from_the_head() -> None:
    recipe = dataclasses.replace(BASE, layer_decay=0.5)
    engine = watched()
    fit(engine, images(16), None, recipe, progress=False)
    assert engine.seen[0][1] == {HEAD: 0.05, "block2": 0.025, "block1": 0.0125, "stem": 0.00625}


def test_layer_decay_counts_frozen_blocks_too() -> None:
    rates = block_rates(dataclasses.replace(BASE, layer_decay=0.1), 1.0, BLOCKS, ("block1",))
    assert rates == pytest.approx({HEAD: 1.0, "block1": 0.01})


def test_one_cycle_rises_for_three_tenths_and_falls_to_next_to_nothing() -> None:
    """Against numbers that torch.optim.lr_scheduler.OneCycleLR(max_lr=1, total_steps=10) gives (torch 2.15)."""
    recipe = dataclasses.replace(BASE, schedule="one_cycle", lr=1.0, epochs=2)
    want = [0.04, 0.52, 1.0, 0.95048, 0.81175, 0.61126, 0.38874, 0.18826, 0.04952, 4e-6]
    assert [rate(recipe, step, 5) for step in range(10)] == pytest.approx(want, abs=6e-6)


def test_the_head_has_a_rate_of_its_own_first_and_the_schedule_begins_after_it() -> None:
    recipe = dataclasses.replace(BASE, head_epochs=1, head_lr=0.5, schedule="cosine", epochs=3)
    rates = [rate(recipe, step, 4) for step in range(12)]
    assert rates[:4] == [0.5] * 4 and rates[4] == 0.05
    short = dataclasses.replace(BASE, schedule="cosine", epochs=2)
    assert rates[4:] == [rate(short, step, 4) for step in range(8)]


# --- what trains when
def test_head_first_then_all() -> None:
    engine = watched()
    fit(engine, images(32), None, dataclasses.replace(BASE, head_epochs=2), progress=False)
    assert [trained for trained, _ in engine.seen] == [()] * 4 + [BLOCKS] * 4
    assert engine.trainable == BLOCKS


def test_gradual_unfreezing_goes_down_from_the_last_block() -> None:
    engine = watched()
    recipe = dataclasses.replace(BASE, head_epochs=1, unfreeze_every=1, epochs=5)
    fit(engine, images(16), None, recipe, progress=False)
    assert [len(trained) for trained, _ in engine.seen] == [0, 1, 2, 3, 3]
    assert engine.seen[1][0] == ("block2",)


def test_phases_stop_at_what_the_run_trains() -> None:
    recipe = dataclasses.replace(BASE, unfreeze_every=1)
    assert [phase(recipe, e, ("block2",)) for e in (0, 3)] == [phase(recipe, 0, ("block2",))] * 2
    assert phase(dataclasses.replace(BASE, head_epochs=1), 3, ()).index == 0


def test_a_phase_that_was_ended_by_an_error_gives_back_what_the_run_trains() -> None:
    engine = watched()
    engine.at = 1
    with pytest.raises(RuntimeError):
        fit(engine, images(64), None, dataclasses.replace(BASE, head_epochs=2), progress=False)
    assert engine.trainable == BLOCKS


@pytest.mark.parametrize("at", [1, 3, 5, 7, 9, 14, 18])
def test_a_run_with_phases_average_and_weights_resumes_to_the_same_bits(at: int, tmp_path: Path) -> None:
    """Within an epoch, at its end, before, at and after a change of phase."""
    recipe = Recipe(
        optimizer="adamw", lr=0.02, epochs=4, batch_size=16, head_epochs=1, head_lr=0.05, unfreeze_every=1,
        ema=0.9, class_weights="balanced", layer_decay=0.7, schedule="one_cycle",
    )  # fmt: skip
    whole, broken, resumed = watched(), watched(), watched(())
    expected = train(whole, recipe, cache=None)
    broken.at = at
    with pytest.raises(RuntimeError):
        train(broken, recipe, tmp_path, cache=None, checkpoint_seconds=0)
    history = train(resumed, recipe, tmp_path, resume=True, cache=None, checkpoint_seconds=0)
    assert len(resumed.seen) == 20 - at, "it goes on at the very step"
    assert same(resumed.state(), whole.state()) and plain(history) == plain(expected)
    assert same(resumed.training_state(), whole.training_state()) and resumed.trainable == whole.trainable


# --- class weights
def test_balanced_weights_are_inverse_to_the_counts() -> None:
    balanced = dataclasses.replace(BASE, class_weights="balanced")
    assert class_weights(balanced, np.array([0, 0, 0, 1]), 2) == pytest.approx([4 / 6, 2.0])
    assert class_weights(BASE, np.array([0, 1]), 2) is None


def test_class_weights_move_the_decision_to_the_rare_class() -> None:
    data = images(80)
    few = np.r_[np.flatnonzero(data.targets == 0), np.flatnonzero(data.targets == 1)[:4]]
    data = data.subset(few)
    shares = []
    for weights in (None, "balanced", (1.0, 50.0)):
        engine = watched(())
        recipe = dataclasses.replace(BASE, epochs=30, class_weights=weights)
        fit(engine, data, None, recipe, cache=FeatureCache(), model_id="toy:tiny", progress=False)
        batch = {"images": np.zeros((1, 3, 8, 8), np.float32)}
        shares.append(float(np.diff(engine.logits(batch)[0])[0]))
    assert shares[0] < shares[1] < shares[2]


def test_weighted_cached_training_is_weighted_network_training() -> None:
    recipe = dataclasses.replace(BASE, class_weights=(1.0, 3.0), label_smoothing=0.1, head_epochs=1, ema=0.8)
    heads = []
    for cache in (FeatureCache(), None):
        engine = watched(())
        fit(engine, images(70), images(20, seed=1), recipe, cache=cache, model_id="toy:tiny", progress=False)
        heads.append(engine.state()[HEAD_WEIGHT])
    assert np.linalg.norm(heads[0] - heads[1]) <= 1e-5 * np.linalg.norm(heads[1])


def test_wrong_class_weights_are_refused() -> None:
    with pytest.raises(InputError, match="class_weights has 3 numbers and the data 2 classes"):
        fit(
            watched(),
            images(16),
            None,
            dataclasses.replace(BASE, class_weights=(1.0, 1.0, 1.0)),
            progress=False,
        )


# --- the moving average
def test_the_average_is_the_formula_and_leaves_infinities_and_counters() -> None:
    mean = Average(0.9, {"w": np.array([0.0], np.float32), "mask": np.array([-np.inf]), "n": np.array(1)})
    mean.update({"w": np.array([1.0], np.float32), "mask": np.array([-np.inf]), "n": np.array(2)})
    assert mean.values["w"] == pytest.approx(1 - 2 / 11) and mean.values["n"] == 2
    assert mean.values["mask"] == -np.inf
    for _ in range(200):
        mean.update({"w": np.array([1.0], np.float32), "mask": np.array([-np.inf]), "n": np.array(2)})
    before = float(mean.values["w"][0])
    mean.update({"w": np.array([0.0], np.float32), "mask": np.array([-np.inf]), "n": np.array(2)})
    assert mean.values["w"] == pytest.approx(0.9 * before, rel=1e-5)


def test_the_average_is_what_is_validated_and_kept_and_does_not_touch_training() -> None:
    plain_engine, averaged = watched(), watched()
    want = fit(plain_engine, images(70), None, BASE, progress=False)
    got = fit(averaged, images(70), None, dataclasses.replace(BASE, ema=0.5), progress=False)
    assert got.losses == want.losses, "the steps are those without"
    assert not same(averaged.state(), plain_engine.state()), "what is kept is the average"
    held = fit(watched(), images(70), images(20, seed=1), dataclasses.replace(BASE, ema=0.99), progress=False)
    bare = fit(watched(), images(70), images(20, seed=1), BASE, progress=False)
    assert held.losses == bare.losses
    assert held.epochs[0]["validation_loss"] != bare.epochs[0]["validation_loss"], "what is validated is, too"


# --- another recipe half-way
def test_override_changes_the_recipe_and_says_what(tmp_path: Path) -> None:
    engine = watched()
    engine.at = 7
    with pytest.raises(RuntimeError):
        train(engine, BASE, tmp_path, cache=None, checkpoint_seconds=0)
    other = dataclasses.replace(BASE, lr=0.01, optimizer="adam")
    with pytest.raises(InputError, match=r"optimizer: sgd -> adam; lr: 0.05 -> 0.01.*--override"):
        train(watched(), other, tmp_path, resume=True, cache=None)
    again = watched()
    with pytest.warns(UserWarning, match=r"another recipe from here on: optimizer: sgd -> adam; lr"):
        history = train(again, other, tmp_path, resume=True, override=True, cache=None)
    assert again.seen[0][1][HEAD] == 0.01 and len(again.seen) == 13 and len(history.losses) == 20


def test_override_does_not_change_the_order_within_an_epoch(tmp_path: Path) -> None:
    engine = watched()
    engine.at = 7
    with pytest.raises(RuntimeError):
        train(engine, BASE, tmp_path, cache=None, checkpoint_seconds=0)
    other = dataclasses.replace(BASE, batch_size=8)
    with pytest.raises(InputError, match=r"another batch_size .*in the middle of an epoch"):
        train(watched(), other, tmp_path, resume=True, override=True, cache=None)


# --- bad input
def test_a_class_without_examples_is_named() -> None:
    data = images(16)
    absent = Dataset("image", data.inputs, data.targets, ("dark", "light", "striped"))
    with pytest.raises(DataError, match="'striped' has no example in the training part"):
        fit(ToyEngine("image", num_classes=3), absent, None, BASE, progress=False)


def test_a_batch_larger_than_the_data_is_said() -> None:
    with pytest.warns(UserWarning, match="batch_size 64 is more than the 10 training examples"):
        fit(watched(), images(10), None, dataclasses.replace(BASE, batch_size=64), progress=False)


def test_other_threads_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train(watched(()), BASE, tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "31")
    with pytest.warns(UserWarning, match=r"resumed under other conditions \(threads: .* -> 31\)"):
        train(watched(()), BASE, tmp_path, resume=True)


def test_two_runs_in_one_folder_are_refused(tmp_path: Path) -> None:
    from zoo.train.lock import only_run_in

    with only_run_in(tmp_path), pytest.raises(InputError, match="another run is training in"):
        train(watched(), BASE, tmp_path)
    train(watched(), BASE, tmp_path)


def test_fit_head_takes_the_new_fields_too() -> None:
    rng = np.random.default_rng(0)
    features, targets = rng.normal(size=(40, 8)).astype(np.float32), rng.integers(0, 2, 40)
    recipe = dataclasses.replace(BASE, ema=0.9, class_weights="balanced", head_epochs=1)
    weight, _, history = fit_head(features, targets, recipe, num_classes=2)
    assert weight.shape == (2, 8) and len(history.epochs) == 4
