"""keras.applications: from a row of `applications.py` to a network with blocks, stages and preprocessing."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from zoo.cards import ImagePreprocess
from zoo.engine import Array
from zoo.errors import InputError
from zoo_tf.applications import APPLICATIONS, Application
from zoo_tf.network import IMAGES, Network, build_network, layer_names
from zoo_tf.start import keras

__all__ = [
    "APPLICATIONS",
    "CLASSES",
    "Application",
    "block_rule",
    "build",
    "network",
    "preprocess",
    "split_head",
]

CLASSES = 1000

MODES: dict[str, dict[str, Any]] = {
    "tf": {"scale": 1 / 255, "mean": (0.5,) * 3, "std": (0.5,) * 3},
    "torch": {"scale": 1 / 255, "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)},
    "caffe": {"scale": 1.0, "mean": (103.939, 116.779, 123.68), "channels": "BGR"},
    "none": {"scale": 1.0},
}
"""Keras's preprocessing modes as ours. 'tf' is x / 127.5 - 1, which is (x / 255 - .5) / .5; 'none' is of the
networks that take pixels of 0-255 and scale them inside."""


def preprocess(app: Application, size: int) -> ImagePreprocess:
    """Keras resizes nothing: the shorter side to 256/224 of the input, then the centre, is our choice."""
    shorter = round(app.size * 256 / 224)
    whole = ImagePreprocess(app.size, app.size, "shortest", (shorter, shorter), **MODES[app.mode])
    return whole if size == app.size else whole.at_size(size)


def build(app: Application, *, size: int, classes: int | None = CLASSES) -> keras.Model:
    """The native model without weights; classes=None: without its top. Raises InputError for a size it
    cannot take."""
    if size < app.smallest:
        raise InputError(f"size={size}: this network takes {app.smallest} pixels a side or more")
    if keras.config.image_data_format() != "channels_last":
        raise InputError("Keras is set to channels_first (~/.keras/keras.json): set channels_last")
    top: dict[str, Any] = {"include_top": False, **app.bare} if classes is None else {"classes": classes}
    model: keras.Model = app.make(weights=None, input_shape=(size, size, 3), **top, **app.options)
    return model


def network(
    name: str, app: Application, model: keras.Model, *, size: int, depth: int | None = None
) -> Network:
    """The backbone inside a native model, up to [N, D]; with `depth` up to the average of that stage's map.

    Raises InputError for a depth that it has not.
    """
    features, _ = split_head(model)
    names = layer_names(keras.Model(model.inputs, features))
    taps = _stages(app, model, names)
    taps[len(taps) + 1] = features
    if depth is not None and depth not in taps:
        raise InputError(f"tf:{name} has depths 1 to {max(taps)}, its stages, not {depth}")
    end = max(taps) if depth is None else depth
    depth = None if depth == max(taps) else depth
    blocks = blocks_of(keras.Model(model.inputs, taps[end]), app)
    return build_network(
        keras.Model(model.inputs, taps[end]),
        inputs=IMAGES,
        rule=blocks.get,
        preprocess=preprocess(app, size),
        architecture={
            "kind": "application",
            "name": name,
            "size": size,
            "top": len(model.outputs[0].shape) == 2 and _head_layer(model) is not None,
            "depth": depth,
        },
        taps={d: tensor for d, tensor in taps.items() if d <= end},
    )


def _stages(app: Application, model: keras.Model, names: Mapping[str, str]) -> dict[int, Any]:
    """Depth -> the average of that stage's map; without the map that is the model's own output."""
    found = {}
    for depth, pattern in enumerate(app.stages, 1):
        wanted = re.compile(pattern.removeprefix("<"))
        layer = model.get_layer([layer for layer, name in names.items() if wanted.fullmatch(name)][-1])
        tensor = layer.input if pattern.startswith("<") else layer.output
        if tensor is not model.outputs[0]:
            found[depth] = keras.layers.GlobalAveragePooling2D(name=f"zoo_average_{depth}")(tensor)
    return found


def blocks_of(model: keras.Model, app: Application) -> dict[str, str]:
    """Lasting layer name -> block: the first block whose end needs that layer."""
    names = layer_names(model)
    rule, order, ends = block_rule(app.ends), dict[str, int](), dict[str, int]()
    for layer, name in names.items():
        if (block := rule(name)) is not None:
            ends[layer] = order.setdefault(block, len(order))
    owners = _owners(model, ends)
    blocks = list(order)
    after = {name for layer, name in names.items() if layer not in owners}
    heavy = any(model.get_layer(layer).weights for layer, name in names.items() if name in after)
    found = {names[layer]: blocks[index] for layer, index in owners.items() if layer in names}
    return found | dict.fromkeys(after, app.rest if heavy else blocks[-1])


def _owners(model: keras.Model, ends: Mapping[str, int]) -> dict[str, int]:
    """Layer -> the lowest number of an end that needs it, or is it; from the outputs to the inputs."""
    needed_by: dict[int, int] = {}
    owners = {}
    for operation in reversed(model.operations):
        if isinstance(operation, keras.layers.InputLayer):
            continue
        found = [needed_by[id(t)] for t in keras.tree.flatten(operation.output) if id(t) in needed_by]
        if operation.name in ends:
            found.append(ends[operation.name])
        if found:
            owners[operation.name] = min(found)
            for tensor in keras.tree.flatten(operation.input):
                needed_by[id(tensor)] = min(owners[operation.name], needed_by.get(id(tensor), len(ends)))
    return owners


def settle_scaling(app: Application, model: keras.Model, *, official: bool) -> None:
    """EfficientNet's published weights hold, as variance, ImageNet's standard deviations, and Keras puts one
    more layer behind them, 1 / sqrt(those), but only into the network that it loads itself
    (tensorflow issue 49930). Here that layer goes into the variance: one network for all weights.

    official: Keras's own file. Somebody's file comes from such a network where its variance is that of the
    published weights.
    """
    if not app.scaled_twice:
        return
    layer = next(layer for layer in model.layers if isinstance(layer, keras.layers.Normalization))
    variance, deviations = np.array(layer.adapt_variance), np.array(MODES["torch"]["std"], np.float32)
    if official or np.allclose(variance, deviations, rtol=1e-3):
        layer.adapt_variance.assign(variance * deviations)
    layer.finalize_state()


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
    if (layer := _head_layer(model)) is None:
        return output, None
    features = without_dropout(model, layer.input)
    if isinstance(layer, keras.layers.Conv2D):
        features = keras.layers.Flatten(name="zoo_features")(features)
    return features, head_values(layer)


def _head_layer(model: keras.Model) -> keras.Layer | None:
    """The last layer with weights where it is a Dense, or a 1 x 1 convolution on one pixel."""
    layer = next(layer for layer in reversed(model.layers) if layer.weights)
    if isinstance(layer, keras.layers.Dense):
        return layer
    pixel = isinstance(layer, keras.layers.Conv2D) and tuple(layer.input.shape[1:3]) == (1, 1)
    return layer if pixel else None


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
