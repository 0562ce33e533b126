"""Pooling over a window or over the whole map, channels first."""

from __future__ import annotations

from typing import Any

from zoo_tf.start import keras
from zoo_tf.walker.lowerings.convolution import padding
from zoo_tf.walker.values import Layout, Value
from zoo_tf.walker.walk import Walk


def window(kind: str, settings: dict[str, Any]) -> Any:
    """MaxPooling, AveragePooling in 1, 2 or 3 dimensions. A mean leaves padded places out, as TensorFlow's."""

    def lowering(walk: Walk, layer: Any, x: Value) -> Value:
        x, size, strides = walk.graph.channels_first(x), list(layer.pool_size), list(layer.strides)
        around = padding(x, window=size, strides=strides, dilation=[1] * len(size), rule=layer.padding)
        found = {"kernel_shape": size, "strides": strides, **around, **settings}
        shape = tuple(layer.compute_output_shape(x.shape))
        return walk.graph.node(kind, [x], shape, found, layout=Layout.FIRST)

    return lowering


def whole(kind: str) -> Any:
    """GlobalAveragePooling, GlobalMaxPooling."""

    def lowering(walk: Walk, layer: Any, x: Value) -> Value:
        x = walk.graph.channels_first(x)
        shape = (x.shape[0], *[1] * (x.rank - 2), x.shape[-1])
        found = walk.graph.node(kind, [x], shape, layout=Layout.FIRST)
        if layer.keepdims:
            return found
        return walk.graph.node("Flatten", [found], (x.shape[0], x.shape[-1]), {"axis": 1})

    return lowering


_max, _mean = window("MaxPool", {}), window("AveragePool", {"count_include_pad": 0})

LOWERINGS: dict[Any, Any] = {
    keras.layers.MaxPooling1D: _max,
    keras.layers.MaxPooling2D: _max,
    keras.layers.MaxPooling3D: _max,
    keras.layers.AveragePooling1D: _mean,
    keras.layers.AveragePooling2D: _mean,
    keras.layers.AveragePooling3D: _mean,
    keras.layers.GlobalAveragePooling2D: whole("GlobalAveragePool"),
    keras.layers.GlobalAveragePooling3D: whole("GlobalAveragePool"),
    keras.layers.GlobalMaxPooling1D: whole("GlobalMaxPool"),
    keras.layers.GlobalMaxPooling2D: whole("GlobalMaxPool"),
    keras.layers.GlobalMaxPooling3D: whole("GlobalMaxPool"),
}
"""GlobalAveragePooling1D averages tokens under a mask: it is taken apart into the keras.ops that it is made of."""
