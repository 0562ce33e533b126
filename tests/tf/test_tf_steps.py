"""How a step is computed (micro batches, bfloat16) and that it is the same step all the same."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from zoo.cards import ImagePreprocess, Recipe
from zoo.engine import HEAD, Array, Batch
from zoo.errors import TrainingError
from zoo.graph import export_engine
from zoo_tf.adapter import ADAPTER
from zoo_tf.engine import KerasEngine
from zoo_tf.network import seeded
from zoo_tf.precision import computing_in
from zoo_tf.start import keras, tf

SGD = Recipe(optimizer="sgd", lr=0.05, momentum=0.9, clip_norm=0.5, seed=4)


def plain(dropout: float = 0.0) -> KerasEngine:
    """Convolutions without batch norm, and dropout where it is asked for."""
    with seeded(0):
        pixels = keras.Input((12, 12, 3))
        maps = keras.layers.Conv2D(8, 3, activation="relu", name="stem")(pixels)
        maps = keras.layers.Dropout(dropout, name="drop")(maps)
        maps = keras.layers.Conv2D(12, 3, activation="relu", name="body")(maps)
        average = keras.layers.GlobalAveragePooling2D(name="average")(maps)
        model = keras.Model(pixels, keras.layers.Dense(3, name="top")(average))
    return ADAPTER.wrap(model, preprocess=ImagePreprocess(12, 12), head="top", blocks=None)


def data(n: int) -> tuple[Batch, Array]:
    rng = np.random.default_rng(n)
    images = rng.standard_normal((n, 3, 12, 12), dtype=np.float32)
    return {"images": images}, np.eye(3, dtype=np.float32)[rng.integers(0, 3, n)]


def steps(engine: KerasEngine, recipe: Recipe, batch: Batch, targets: Array, count: int = 3) -> list[float]:
    engine.start_training(recipe)
    lr = dict.fromkeys((*engine.trainable, HEAD), recipe.lr)
    return [float(engine.train_step(batch, targets, lr=lr)) for _ in range(count)]


# --- micro batches
def test_micro_batches_train_all_blocks_as_the_whole_batch_does() -> None:
    """In parts of 3, 3 and 1, in one graph for all sizes of parts and one for the update."""
    whole, parts = plain(), plain()
    batch, targets = data(7)
    small = dataclasses.replace(SGD, micro_batch_size=3)
    assert steps(parts, small, batch, targets) == pytest.approx(steps(whole, SGD, batch, targets), rel=1e-6)
    for key, value in whole.state().items():
        np.testing.assert_allclose(parts.state()[key], value, rtol=1e-5, atol=1e-6)
    trainer = parts._trainer
    assert trainer is not None
    assert trainer._add.experimental_get_tracing_count() == 1
    assert trainer._update.experimental_get_tracing_count() == 1


def test_each_micro_batch_draws_dropout_of_its_own() -> None:
    """Twice the same images: with one mask for both parts the loss would be that of either half."""
    batch, targets = data(2)
    twice = {"images": np.concatenate([batch["images"]] * 2)}, np.concatenate([targets] * 2)
    small = dataclasses.replace(SGD, micro_batch_size=2)
    half, both = steps(plain(0.5), SGD, batch, targets, 1), steps(plain(0.5), small, *twice, 1)
    assert half != pytest.approx(both, rel=1e-6)
    assert both == steps(plain(0.5), small, *twice, 1)


# --- bfloat16
BF16 = dataclasses.replace(SGD, precision="bf16")


def test_bfloat16_trains_and_what_ships_is_float32(tmp_path: Path) -> None:
    """The loss falls, every layer has its own policy back, and the export agrees with float32 inference."""
    engine = plain()
    losses = steps(engine, BF16, *data(12), count=30)
    assert losses[-1] < 0.9 * losses[0]
    assert {layer.dtype_policy.name for layer in engine.module._flatten_layers()} == {"float32"}
    assert all(value.dtype == np.float32 for value in engine.state().values())
    assert engine.logits(data(4)[0]).dtype == np.float32
    export_engine(engine, tmp_path / "model.onnx", model_id="tf:plain", versions={})


def test_layers_have_their_policies_back_whatever_happens() -> None:
    engine = plain()
    layers = [engine.network.backbone]
    with pytest.raises(RuntimeError), computing_in("bf16", layers):
        assert engine.module.get_layer("stem").compute_dtype == "bfloat16"
        raise RuntimeError
    assert engine.module.get_layer("stem").compute_dtype == "float32"


def test_an_operation_without_bfloat16_is_named() -> None:
    class Determinant(keras.layers.Layer):
        def call(self, maps: Any) -> Any:
            return maps + tf.linalg.det(maps[:, :8, :8, :8])[:, :, None, None]

    pixels = keras.Input((12, 12, 3))
    maps = Determinant(name="det")(keras.layers.Conv2D(8, 5, name="stem")(pixels))
    average = keras.layers.GlobalAveragePooling2D(name="average")(maps)
    model = keras.Model(pixels, keras.layers.Dense(3, name="top")(average))
    engine = ADAPTER.wrap(model, preprocess=ImagePreprocess(12, 12), head="top", blocks=None)
    assert steps(engine, SGD, *data(4), count=1)
    with pytest.raises(TrainingError, match=r"in bfloat16: Value passed.*precision='fp32' trains it"):
        steps(engine, BF16, *data(4), count=1)


# --- what bits depend on
def test_numerics_say_what_changes_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", "3")
    said = plain().numerics()
    assert said["threads"] == "3" and said["device"] == "/CPU:0"
    assert said["deterministic operations"] == "False" and said["tensorflow"] == tf.__version__
