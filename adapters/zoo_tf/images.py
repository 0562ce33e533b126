"""keras.applications: names, sizes, preprocessing, blocks; the same route for every architecture in it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from zoo.cards import ImagePreprocess
from zoo.engine import Array
from zoo.errors import InputError
from zoo_tf.network import IMAGES, Network, build_network
from zoo_tf.start import keras

CLASSES = 1000
SMALLEST = 32  # pixels a side: the least that keras.applications takes


@dataclass(frozen=True)
class Application:
    """One entry of keras.applications. mode: of its `preprocess_input`.  size: pixels a side.

    blocks: (pattern of layer names, block); the first that fits; a layer that fits none belongs to the
    block before it, the first ones to the stem.
    """

    make: Callable[..., keras.Model]
    size: int
    mode: str
    blocks: tuple[tuple[str, str], ...]
    options: Mapping[str, Any] = field(default_factory=dict)


# Howard et al. 2017, table 1: a convolution, then 13 depthwise-separable ones.
_V1 = ((r"conv_(?:pad|dw|pw)_(\d+)(?:_.*)?", r"block_\1"),)
# Sandler et al. 2018, table 2: a convolution, 17 inverted residuals (Keras counts from 0), a convolution.
_V2 = (
    (r"expanded_conv_.*", "block_0"),
    (r"block_(\d+)_.*", r"block_\1"),
    (r"Conv_1.*|out_relu", "last_conv"),
)

APPLICATIONS: dict[str, Application] = {
    "mobilenet_v1": Application(keras.applications.MobileNet, 224, "tf", _V1, {"alpha": 1.0}),
    "mobilenet_v1_0.75_224": Application(keras.applications.MobileNet, 224, "tf", _V1, {"alpha": 0.75}),
    "mobilenet_v1_0.25_224": Application(keras.applications.MobileNet, 224, "tf", _V1, {"alpha": 0.25}),
    "mobilenet_v2": Application(keras.applications.MobileNetV2, 224, "tf", _V2, {"alpha": 1.0}),
}

MODES: dict[str, dict[str, Any]] = {"tf": {"scale": 1 / 255, "mean": (0.5,) * 3, "std": (0.5,) * 3}}
"""Keras's preprocessing modes as ours. 'tf' is x / 127.5 - 1, which is (x / 255 - .5) / .5."""


def preprocess(app: Application, size: int) -> ImagePreprocess:
    """Keras resizes nothing: the shorter side to 256/224 of the input, then the centre, is our choice."""
    shorter = round(app.size * 256 / 224)
    whole = ImagePreprocess(app.size, app.size, "shortest", (shorter, shorter), **MODES[app.mode])
    return whole if size == app.size else whole.at_size(size)


def build(app: Application, *, size: int, classes: int | None = CLASSES) -> keras.Model:
    """The native model without weights; classes=None: without its top."""
    if size < SMALLEST:
        raise InputError(f"size={size}: keras.applications takes {SMALLEST} pixels a side or more")
    if keras.config.image_data_format() != "channels_last":
        raise InputError("Keras is set to channels_first (~/.keras/keras.json): set channels_last")
    top: dict[str, Any] = {"include_top": False} if classes is None else {"classes": classes}
    model: keras.Model = app.make(weights=None, input_shape=(size, size, 3), **top, **app.options)
    return model


def network(name: str, app: Application, model: keras.Model, *, size: int) -> Network:
    """The backbone inside a native model, up to [N, D]."""
    features, _ = split_head(model)
    return build_network(
        keras.Model(model.inputs, features),
        inputs=IMAGES,
        rule=block_rule(app.blocks),
        preprocess=preprocess(app, size),
        architecture={"kind": "application", "name": name, "size": size},
    )


def block_rule(patterns: tuple[tuple[str, str], ...]) -> Callable[[str], str | None]:
    """Layer name -> block by the first pattern that fits the whole name."""

    def rule(name: str) -> str | None:
        for pattern, block in patterns:
            if match := re.fullmatch(pattern, name):
                return match.expand(block)
        return None

    return rule


def split_head(model: keras.Model) -> tuple[Any, tuple[Array, Array] | None]:
    """Features [N, D], a tensor of the graph, and the head's (weight [C, D], bias [C]) or None.

    A head is a Dense, or a 1 x 1 convolution on one pixel (MobileNet v1); softmax, reshape and dropout
    around it fall away. Without one, the features are the global average of the last map.
    """
    output = model.outputs[0]
    if len(output.shape) == 4:
        return keras.layers.GlobalAveragePooling2D(name="zoo_average")(output), None
    layer = next(layer for layer in reversed(model.layers) if layer.weights)
    if isinstance(layer, keras.layers.Dense):
        return without_dropout(model, layer.input), head_values(layer)
    if isinstance(layer, keras.layers.Conv2D) and tuple(layer.input.shape[1:3]) == (1, 1):
        features = without_dropout(model, layer.input)
        return keras.layers.Flatten(name="zoo_features")(features), head_values(layer)
    return output, None


def without_dropout(model: keras.Model, tensor: Any) -> Any:
    """The tensor before the dropout that made this one: it belongs to a head's training, not to features."""
    for layer in model.layers:
        if isinstance(layer, keras.layers.Dropout) and layer.output is tensor:
            return layer.input
    return tensor


def head_values(layer: keras.Layer) -> tuple[Array, Array]:
    """weight [C, D] and bias [C] of a Dense or a 1 x 1 convolution."""
    kernel = np.array(layer.kernel.numpy())
    weight = np.ascontiguousarray(kernel.reshape(-1, kernel.shape[-1]).T)
    return weight, np.zeros(len(weight), np.float32) if layer.bias is None else np.array(layer.bias.numpy())
