"""Layers that put several inputs into one."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any

import numpy as np

from zoo_tf.start import keras
from zoo_tf.walker.lowerings.elementwise import binary
from zoo_tf.walker.lowerings.shaping import concatenate
from zoo_tf.walker.values import RefusedError, Value
from zoo_tf.walker.walk import Walk


def merged(kind: str) -> Any:
    """One operator between each input and the next."""

    def lowering(walk: Walk, layer: Any, xs: Sequence[Value]) -> Value:
        if len({x.rank for x in xs}) > 1:
            raise RefusedError(
                "inputs of different rank: Keras lines them up at the batch, ONNX at the channels"
            )
        return reduce(lambda a, b: binary(walk, kind, a, b), xs)

    return lowering


def average(walk: Walk, layer: Any, xs: Sequence[Value]) -> Value:
    return binary(walk, "Div", merged("Add")(walk, layer, xs), np.float32(len(xs)))


def concatenated(walk: Walk, layer: Any, xs: Sequence[Value]) -> Value:
    return concatenate(walk, xs, layer.axis)


LOWERINGS: dict[Any, Any] = {
    keras.layers.Add: merged("Add"),
    keras.layers.Subtract: merged("Sub"),
    keras.layers.Multiply: merged("Mul"),
    keras.layers.Maximum: merged("Max"),
    keras.layers.Minimum: merged("Min"),
    keras.layers.Average: average,
    keras.layers.Concatenate: concatenated,
}
