"""KerasEngine against native Keras: features and logits, freezing whole, names that last, torch's formulas."""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import tf_models

from zoo.cards import ImagePreprocess, Recipe, TextPreprocess
from zoo.engine import HEAD, Batch
from zoo.errors import HeadMissingError, InputError, TrainingError
from zoo.testing.helpers import changed, error, keys_of, rates, targets_for, train
from zoo.train.optim import Optimizer
from zoo_tf import hub_names, images, texts
from zoo_tf.adapter import ADAPTER, catalogue
from zoo_tf.engine import KerasEngine
from zoo_tf.hub_graph import pooled
from zoo_tf.network import seed_variables, take, variable_keys
from zoo_tf.optimizers import TorchOptimizer
from zoo_tf.start import keras, tf


def pixels(n: int = 4, size: int = 32, *, seed: int = 0) -> Batch:
    rng = np.random.default_rng(seed)
    return {"images": rng.normal(size=(n, 3, size, size)).astype(np.float32)}


# --- against native Keras
@pytest.mark.parametrize("name", ["mobilenet_v1_0.25_224", "mobilenet_v2"])
def test_logits_are_native_keras_before_its_softmax(name: str) -> None:
    app = images.APPLICATIONS[name]
    model = tf_models.enlivened(images.build(app, size=32, classes=7))
    features, head = images.split_head(model)
    engine = KerasEngine(images.network(name, app, model, size=32))
    assert head is not None and features.shape[1] == engine.feature_dim
    engine.set_head(*head)
    batch = pixels()
    nhwc = batch["images"].transpose(0, 2, 3, 1)
    native = np.log(model(nhwc, training=False).numpy())
    logits, spread = engine.logits(batch), native.std(1).max()
    assert spread > 0.1, "outputs that tell no class from another"
    scores = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    np.testing.assert_allclose(scores, native, rtol=0, atol=1e-4 * spread)
    np.testing.assert_allclose(engine.module(nhwc, training=False), logits, rtol=0, atol=1e-4 * spread)


def test_features_are_the_global_average_of_the_last_map() -> None:
    model = tf_models.narrow_model(None)
    engine = KerasEngine(images.network("narrow", tf_models.NARROW, model, size=32))
    batch = pixels()
    native = model(batch["images"].transpose(0, 2, 3, 1), training=False).numpy().mean((1, 2))
    assert error(engine.features(batch), native) < 1e-4
    with pytest.raises(HeadMissingError, match="replace_head"):
        engine.logits(batch)


def test_preprocess_is_keras_own_scaling() -> None:
    values = np.arange(256, dtype=np.float32).reshape(1, 16, 16, 1).repeat(3, -1)
    want = keras.applications.mobilenet_v2.preprocess_input(values.copy())
    for name in ("mobilenet_v1", "mobilenet_v2"):
        ours = images.preprocess(images.APPLICATIONS[name], 224)
        assert isinstance(ours, ImagePreprocess) and ours.channels == "RGB"
        np.testing.assert_allclose((values * ours.scale - ours.mean) / ours.std, want, atol=1e-6)
    assert images.preprocess(images.APPLICATIONS["mobilenet_v2"], 160).resize_to == (183, 183)


# --- blocks and names
@pytest.mark.parametrize(("name", "units"), [("mobilenet_v1", 13), ("mobilenet_v2", 17)])
def test_blocks_are_the_papers(name: str, units: int) -> None:
    blocks = tf_models.load(name, weights="none", size=32).blocks
    repeating = [block for block in blocks if block.startswith("block_")]
    assert blocks[0] == "stem" and len(repeating) == units
    assert len(blocks) == units + (2 if name == "mobilenet_v2" else 1)


def test_names_do_not_depend_on_what_was_built_before() -> None:
    keys = [set(tf_models.wrapped().state()) for _ in range(2)]
    assert keys[0] == keys[1] and "dense_0/kernel" in keys[0] and "dense_1/kernel" in keys[0]


def test_two_layers_of_one_name_are_refused() -> None:
    inputs = keras.Input((4,))
    unnamed = keras.layers.Dense(3)  # Keras calls it dense_<counter of the process>, here it is dense_0
    model = keras.Model(inputs, keras.layers.ReLU(name="dense_0")(unnamed(inputs)))
    with pytest.raises(InputError, match="dense_0"):
        variable_keys(model)


def test_every_card_can_be_made() -> None:
    for card in catalogue().values():
        named = card.name in images.APPLICATIONS or card.name in texts.NAMES
        assert named or card.name.removeprefix("kerashub/") in hub_names.presets()
        assert card.weights and card.params and (card.macs_g or not named)


# --- random weights
def test_random_weights_depend_on_the_seed_alone() -> None:
    name = "mobilenet_v1_0.25_224"
    before = random.getstate(), tf.random.get_global_generator().state.numpy().tobytes()
    first = tf_models.load(name, weights="none", size=32, seed=1).state()
    assert (random.getstate(), tf.random.get_global_generator().state.numpy().tobytes()) == before
    keras.utils.set_random_seed(5)
    assert not changed(first, tf_models.load(name, weights="none", size=32, seed=1).state())
    assert changed(first, tf_models.load(name, weights="none", size=32, seed=2).state())


# --- freezing
def test_training_flag_reaches_every_layer_alone() -> None:
    """Pins Keras's private walk: dropout of a frozen block is off although the block after it trains."""
    engine = tf_models.wrapped()
    batch = np.random.default_rng(0).normal(size=(64, 12, 12, 3)).astype(np.float32)
    dropout = next(n for layers in engine.network.blocks.values() for n in layers if "dropout" in n)
    backbone = engine.network.backbone
    still = take(backbone, [batch], lambda layer: layer != dropout and "norm" not in layer)
    noisy = take(backbone, [batch], lambda layer: layer == dropout)
    want = backbone(batch, training=False)
    np.testing.assert_array_equal(np.asarray(still), np.asarray(want))
    assert np.abs(np.asarray(noisy) - np.asarray(want)).max() > 0.01


def test_frozen_dropout_is_off_while_later_blocks_train() -> None:
    """The loss of a step at rate 0 is the loss in inference mode where nothing that trains has a mode."""
    engine = tf_models.wrapped()
    batch, targets = pixels(32, 12), targets_for(32, 4)
    engine.set_trainable([engine.blocks[-1]])  # the Dense after the dropout
    engine.start_training(Recipe())
    logits = engine.logits(batch).astype(np.float64)
    want = -(targets * (logits - np.log(np.exp(logits).sum(1, keepdims=True)))).sum(1).mean()
    assert float(engine.train_step(batch, targets, lr=rates(engine, 0.0))) == pytest.approx(want, rel=1e-5)
    engine.set_trainable(engine.blocks)
    engine.start_training(Recipe())
    assert float(engine.train_step(batch, targets, lr=rates(engine, 0.0))) != pytest.approx(want, rel=1e-3)


def test_dropout_trains_and_is_drawn_by_seed_and_step() -> None:
    """At rate 0 only dropout can move the loss: another one each step, the same ones for the same seed."""
    with tempfile.TemporaryDirectory() as folder:
        engine = tf_models.load(tf_models.bert_folder(Path(folder)), num_classes=3)
    ids = np.arange(1, 25).reshape(4, 6)
    batch = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
    losses = {}
    for name, seed in (("first", 1), ("again", 1), ("other", 2)):
        recipe = Recipe(seed=seed)
        losses[name] = train(engine, batch, recipe=recipe, steps=3, lr=rates(engine, 0.0))
    assert len(set(losses["first"])) == 3 and losses["first"] == losses["again"] != losses["other"]
    engine.set_trainable([])
    assert len(set(train(engine, batch, steps=3, lr=rates(engine, 0.0)))) == 1


def test_native_flags_say_what_is_frozen_and_come_back() -> None:
    engine = tf_models.wrapped()
    layer = engine.module.get_layer(engine.network.blocks[engine.blocks[0]][0])
    layer.trainable = False  # its author's wish, from before
    engine = KerasEngine(engine.network)
    engine.set_trainable([])
    assert not engine.network.backbone.trainable_variables
    engine.set_trainable(engine.blocks)
    assert not layer.trainable and engine.network.backbone.trainable_variables


def test_freezing_ends_a_training() -> None:
    engine = tf_models.wrapped()
    engine.start_training(Recipe())
    engine.set_trainable([])
    with pytest.raises(TrainingError, match="start_training"):
        engine.train_step(pixels(4, 12), targets_for(4, 4), lr={HEAD: 0.1})
    with pytest.raises(InputError, match="no blocks nose"):
        engine.set_trainable(["nose"])


# --- training
@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(optimizer="sgd", momentum=0.9, weight_decay=0.02, clip_norm=1.0),
        Recipe(optimizer="sgd", momentum=0.0),
        Recipe(optimizer="adam", weight_decay=0.02),
        Recipe(optimizer="adamw", weight_decay=0.05, clip_norm=0.5),
    ],
    ids=lambda recipe: f"{recipe.optimizer}-{recipe.momentum}-{recipe.clip_norm}",
)
def test_optimizers_are_torchs_formulas(recipe: Recipe) -> None:
    """60 steps on given gradients, two groups with a changing rate, against the core's numpy formulas."""
    rng = np.random.default_rng(0)
    values = {"a": rng.normal(size=(5, 3)).astype(np.float32), "b": rng.normal(size=7).astype(np.float32)}
    variables = {key: tf.Variable(value) for key, value in values.items()}
    ours, reference = TorchOptimizer(recipe, variables, ["one", "two"]), Optimizer(recipe)
    apply = tf.function(ours.apply)
    for step in range(1, 61):
        gradients = {key: rng.normal(size=v.shape).astype(np.float32) for key, v in values.items()}
        lr = {"one": 0.02 / step**0.5, "two": 0.005}
        apply(list(map(tf.constant, gradients.values())), tf.constant(ours.numbers(lr, step)))
        reference.update(values, dict(gradients), {"a": lr["one"], "b": lr["two"]})
    for key, value in values.items():
        np.testing.assert_allclose(variables[key].numpy(), value, rtol=2e-5, atol=2e-6)


def test_optimizer_state_of_another_run_is_refused() -> None:
    engine = tf_models.wrapped()
    train(engine, pixels(4, 12), steps=1)
    state = engine.training_state()
    engine.start_training(Recipe(optimizer="adamw"))
    with pytest.raises(TrainingError, match="another run"):
        engine.load_training_state(state)


def test_one_trace_serves_every_batch_size() -> None:
    engine = tf_models.wrapped()
    engine.start_training(Recipe())
    for n in (4, 7, 3):
        engine.train_step(pixels(n, 12), targets_for(n, 4), lr=rates(engine, 0.01))
    assert engine._trainer is not None
    assert engine._trainer._traced.experimental_get_tracing_count() == 1


def test_mobilenet_v2_trains_freezes_and_resumes() -> None:
    """The real network once through all of it: the contract runs on cuts of it, for speed."""
    engine, batch = tf_models.narrow(), pixels(6)
    before = engine.state()
    free = engine.blocks[-2:]
    engine.set_trainable(free)
    recipe = Recipe(optimizer="adamw", weight_decay=0.01)
    train(engine, batch, recipe=recipe, steps=2)
    assert changed(before, engine.state()) == keys_of(engine, (*free, HEAD))
    state, training = engine.state(), engine.training_state()
    train(engine, batch, recipe=recipe, steps=2, start=False)
    again = tf_models.narrow(seed=4)
    again.set_trainable(free)
    again.load_state(state)
    again.start_training(recipe)
    again.load_training_state(training)
    train(again, batch, recipe=recipe, steps=2, start=False)
    assert not changed(engine.state(), again.state())


# --- somebody's own
def test_wrap_refuses_what_cannot_be_cut() -> None:
    class Own(keras.Model):
        def call(self, x):
            return x

    image = ImagePreprocess(12, 12)
    for module, head, says in (
        (Own(), "top", "cannot wrap"),
        (tf_models.own_model(), "nose", "cannot wrap"),
        (tf_models.own_model(), tf_models.own_model().layers[0].name, "cannot wrap|last Dense"),
    ):
        with pytest.raises(InputError, match=says):
            ADAPTER.wrap(module, preprocess=image, head=head, blocks=None)
    model = tf_models.own_model()
    names = [layer.name for layer in model.layers if layer.weights and layer.name != "top"]
    with pytest.raises(InputError, match=f"leave out layers with weights: {names[-1]}"):
        ADAPTER.wrap(model, preprocess=image, head="top", blocks={"all": names[:-1]})
    engine = ADAPTER.wrap(model, preprocess=image, head="top", blocks={"low": names[:2], "high": names[2:]})
    assert engine.blocks == ("low", "high")


def test_wrap_takes_text_models_by_their_input_names() -> None:
    ids, mask = (keras.Input((None,), dtype="int32", name=n) for n in ("attention_mask", "input_ids"))
    vectors = keras.layers.Embedding(30, 8, name="words")(mask)
    features = pooled(vectors, ids, "mean")
    model = keras.Model([ids, mask], keras.layers.Dense(3, name="top")(features))
    engine = ADAPTER.wrap(model, preprocess=TextPreprocess(vocab_size=30), head="top", blocks=None)
    assert engine.inputs == ("input_ids", "attention_mask") and seed_variables(engine.network.backbone) == []
    batch = {"input_ids": np.array([[4, 5, 0]]), "attention_mask": np.array([[1, 1, 0]])}
    table = engine.state()["words/embeddings"]
    assert error(engine.features(batch)[0], (table[4] + table[5]) / 2) < 1e-6


# --- two frameworks in one process
ADAM = """
import numpy as np
import torch
from zoo.cards import Recipe
w = torch.nn.Linear(2, 2); o = torch.optim.Adam(w.parameters()); w(torch.ones(1, 2)).sum().backward(); o.step()
import sys; sys.path.insert(0, {tests!r})
import tf_models
e = tf_models.wrapped(); e.start_training(Recipe(optimizer="adam"))
x = {{"images": np.ones((2, 3, 12, 12), np.float32)}}
print("loss", float(e.train_step(x, np.eye(4, dtype=np.float32)[:2], lr=dict.fromkeys([*e.blocks, "head"], 0.1))))
"""


@pytest.mark.parametrize(
    "order", ["zoo_tf.adapter zoo_torch.adapter", "zoo_torch.adapter zoo_tf.adapter", "zoo_tf.adapter torch"]
)
def test_tensorflow_and_torch_train_in_one_process(order: str) -> None:
    pytest.importorskip("torch")
    lines = [f"import {name}" for name in order.split()]
    code = "\n".join(lines) + ADAM.format(tests=str(tf_models.HERE))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and done.stdout.startswith("loss"), done.stderr[-2000:]
