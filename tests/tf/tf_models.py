"""Small Keras networks and a small transformers folder, for all tests of this folder."""

from __future__ import annotations

import dataclasses
import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from zoo.cards import ImagePreprocess
from zoo.engine import LoadRequest
from zoo_tf import images
from zoo_tf.adapter import ADAPTER
from zoo_tf.engine import KerasEngine
from zoo_tf.network import layer_names, seeded
from zoo_tf.start import keras

HERE = Path(__file__).resolve().parent
WIDTH, LAYERS, HEADS, VOCABULARY, POSITIONS = 16, 2, 2, 60, 24
NARROW = dataclasses.replace(images.APPLICATIONS["mobilenet_v2_0.35_96"], size=32)


def narrow_model(classes: int | None = 5, *, seed: int = 0) -> keras.Model:
    """Keras's own MobileNetV2, 0.35 wide, 32 px, with statistics and a bias that are not the initial ones."""
    with seeded(seed):
        return enlivened(images.build(NARROW, size=32, classes=classes), seed=seed)


def enlivened(model: keras.Model, *, seed: int = 0) -> keras.Model:
    """With values as after training: fresh ones give nearly the same outputs for all inputs and classes."""
    rng = np.random.default_rng(seed)
    for variable in model.variables:
        if variable.name in ("moving_mean", "bias", "beta"):
            variable.assign(rng.normal(0, 0.1, variable.shape))
        elif variable.name == "moving_variance":
            variable.assign(rng.uniform(0.1, 0.3, variable.shape))
        elif variable.path.startswith(("predictions/kernel", "conv_preds/kernel")):
            variable.assign(rng.normal(0, 0.2, variable.shape))
    return model


def narrow(classes: int | None = 5, *, seed: int = 0) -> KerasEngine:
    """An engine on `narrow_model`, with its head."""
    model = narrow_model(classes, seed=seed)
    engine = KerasEngine(images.network("narrow", NARROW, model, size=32))
    if (head := images.split_head(model)[1]) is not None:
        engine.set_head(*head)
    return engine


def cut(name: str, last: str) -> KerasEngine:
    """The first blocks of a keras.applications network, up to the layer `last`, as somebody's own model."""
    kept, blocks = _first_blocks(name, last)
    app = images.APPLICATIONS[name]
    with seeded(0):
        model = keras.models.clone_model(kept)
    model.set_weights(kept.get_weights())
    return ADAPTER.wrap(model, preprocess=images.preprocess(app, app.smallest), head="top", blocks=blocks)


@functools.cache
def _first_blocks(name: str, last: str) -> tuple[keras.Model, dict[str, list[str]]]:
    """The model and its blocks' layers. Building the whole network takes most of a test's time: once."""
    app = images.APPLICATIONS[name]
    with seeded(0):
        whole = images.build(app, size=app.smallest, classes=None)
        average = keras.layers.GlobalAveragePooling2D(name="average")(whole.get_layer(last).output)
        model = keras.Model(whole.inputs, keras.layers.Dense(4, name="top")(average))
    blocks: dict[str, list[str]] = {}
    backbone = keras.Model(model.inputs, average)
    owners = images.blocks_of(backbone, app)
    for layer, owner in layer_names(backbone).items():
        blocks.setdefault(owners[owner], []).append(layer)
    return model, blocks


def own_model(*, seed: int = 3) -> keras.Model:
    """Somebody's network: unnamed layers, batch norm, dropout inside, softmax in the head."""
    layers = keras.layers
    with seeded(seed):
        return keras.Sequential(
            [
                layers.Input((12, 12, 3)),
                layers.Conv2D(6, 3, strides=2),
                layers.BatchNormalization(),
                layers.ReLU(),
                layers.Flatten(),
                layers.Dense(16, activation="tanh"),
                layers.Dropout(0.4),
                layers.Dense(16),
                layers.Dense(4, activation="softmax", name="top"),
            ]
        )


def wrapped() -> KerasEngine:
    return ADAPTER.wrap(own_model(), preprocess=ImagePreprocess(12, 12), head="top", blocks=None)


def bert_folder(path: Path, *, config: dict[str, Any] | None = None, seed: int = 0) -> Path:
    """A transformers BERT folder, written with numpy: config.json and model.safetensors."""
    path.mkdir(parents=True, exist_ok=True)
    values = {
        "model_type": "bert",
        "architectures": ["BertModel"],
        "vocab_size": VOCABULARY,
        "hidden_size": WIDTH,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "intermediate_size": 2 * WIDTH,
        "max_position_embeddings": POSITIONS,
        "type_vocab_size": 2,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-12,
        "hidden_dropout_prob": 0.1,
        "pad_token_id": 0,
        **(config or {}),
    }
    (path / "config.json").write_text(json.dumps(values), encoding="utf-8")
    save_file(bert_tensors(seed), str(path / "model.safetensors"))
    return path


def bert_tensors(seed: int = 0) -> dict[str, np.ndarray]:
    """Random tensors by transformers' names; Linear weights are [out, in]."""
    rng = np.random.default_rng(seed)
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (VOCABULARY, WIDTH),
        "embeddings.position_embeddings.weight": (POSITIONS, WIDTH),
        "embeddings.token_type_embeddings.weight": (2, WIDTH),
        "pooler.dense.weight": (WIDTH, WIDTH),
        "pooler.dense.bias": (WIDTH,),
    }
    for layer in range(LAYERS):
        at = f"encoder.layer.{layer}"
        for name in ("attention.self.query", "attention.self.key", "attention.self.value"):
            shapes |= {f"{at}.{name}.weight": (WIDTH, WIDTH), f"{at}.{name}.bias": (WIDTH,)}
        shapes |= {f"{at}.attention.output.dense.weight": (WIDTH, WIDTH)}
        shapes |= {f"{at}.attention.output.dense.bias": (WIDTH,)}
        shapes |= {f"{at}.intermediate.dense.weight": (2 * WIDTH, WIDTH)}
        shapes |= {f"{at}.intermediate.dense.bias": (2 * WIDTH,)}
        shapes |= {f"{at}.output.dense.weight": (WIDTH, 2 * WIDTH), f"{at}.output.dense.bias": (WIDTH,)}
    norms = ["embeddings.LayerNorm"]
    for layer in range(LAYERS):
        at = f"encoder.layer.{layer}"
        norms += [f"{at}.attention.output.LayerNorm", f"{at}.output.LayerNorm"]
    tensors = {name: rng.normal(0, 0.4, shape).astype(np.float32) for name, shape in shapes.items()}
    for name in norms:
        tensors[f"{name}.weight"] = rng.uniform(0.5, 1.5, WIDTH).astype(np.float32)
        tensors[f"{name}.bias"] = rng.normal(0, 0.1, WIDTH).astype(np.float32)
    return tensors


def load(name: str | Path, **options: Any) -> KerasEngine:
    """Through the adapter."""
    return ADAPTER.load(LoadRequest(str(name), **options))
