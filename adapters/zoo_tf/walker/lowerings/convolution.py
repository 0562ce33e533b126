"""Convolutions, channels first, with Keras's padding.

'same' puts the odd pixel after, not before (TensorFlow's rule): written out where the size is known, left to
ONNX's SAME_UPPER, the same rule, where it is open.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from zoo_tf.start import keras
from zoo_tf.walker.values import Layout, RefusedError, Shape, Value, as_array
from zoo_tf.walker.walk import Walk


def padding(
    x: Value, *, window: Sequence[int], strides: Sequence[int], dilation: Sequence[int], rule: str
) -> dict[str, Any]:
    """ONNX attributes for a window that slides over the inner axes of `x`. Raises RefusedError."""
    if rule == "valid":
        return {}
    if rule != "same":
        raise RefusedError(f"padding={rule!r}")
    totals = []
    for size, width, stride, spread in zip(x.shape[1:-1], window, strides, dilation, strict=True):
        reach = (width - 1) * spread + 1
        if stride == 1:
            totals.append(reach - 1)
        elif size is None:
            return {"auto_pad": "SAME_UPPER"}
        else:
            totals.append(max((math.ceil(size / stride) - 1) * stride + reach - size, 0))
    if not any(totals):
        return {}
    return {"pads": [t // 2 for t in totals] + [t - t // 2 for t in totals]}


def convolve(
    walk: Walk,
    x: Value,
    kernel: np.ndarray,
    bias: np.ndarray | None,
    shape: Shape,
    *,
    strides: Sequence[int],
    dilation: Sequence[int],
    rule: str,
    groups: int = 1,
) -> Value:
    """kernel: ONNX's order, [out, in / groups, ...].  shape: of the result, as Keras counts."""
    window = list(kernel.shape[2:])
    x = walk.graph.channels_first(x)
    settings = {
        "kernel_shape": window,
        "strides": list(strides),
        "dilations": list(dilation),
        "group": groups,
        **padding(x, window=window, strides=strides, dilation=dilation, rule=rule),
    }
    weights = [walk.graph.constant(w) for w in (kernel, bias) if w is not None]
    return walk.graph.node("Conv", [x, *weights], shape, settings, layout=Layout.FIRST)


def standard(walk: Walk, layer: Any, x: Value) -> Value:
    """Conv1D, Conv2D, Conv3D, grouped or not: Keras's kernel is [..., in / groups, out]."""
    kernel = as_array(layer.kernel)
    turned = np.moveaxis(kernel, (-1, -2), (0, 1))
    found = _convolve(walk, layer, x, turned, as_array(layer.bias) if layer.use_bias else None, layer.groups)
    return walk.activation(layer.activation, found)


def depthwise(walk: Walk, layer: Any, x: Value) -> Value:
    """DepthwiseConv1D, DepthwiseConv2D: Keras's kernel is [..., in, multiplier]."""
    kernel = as_array(layer.kernel)
    bias = as_array(layer.bias) if layer.use_bias else None
    found = _convolve(walk, layer, x, _per_channel(kernel), bias, kernel.shape[-2])
    return walk.activation(layer.activation, found)


def separable(walk: Walk, layer: Any, x: Value) -> Value:
    """SeparableConv1D, SeparableConv2D: each channel alone, then a 1 x 1 convolution over them."""
    kernel, pointwise = as_array(layer.depthwise_kernel), as_array(layer.pointwise_kernel)
    bias = as_array(layer.bias) if layer.use_bias else None
    shape, ones = tuple(layer.compute_output_shape(x.shape)), (1,) * (x.rank - 2)
    middle = (*shape[:-1], kernel.shape[-1] * kernel.shape[-2])
    each = convolve(
        walk, x, _per_channel(kernel), None, middle,
        strides=layer.strides, dilation=layer.dilation_rate, rule=layer.padding, groups=kernel.shape[-2],
    )  # fmt: skip
    over = np.moveaxis(pointwise, (-1, -2), (0, 1))
    found = convolve(walk, each, over, bias, shape, strides=ones, dilation=ones, rule="valid")
    return walk.activation(layer.activation, found)


def _convolve(
    walk: Walk, layer: Any, x: Value, kernel: np.ndarray, bias: np.ndarray | None, groups: int
) -> Value:
    if layer.padding == "causal":
        raise RefusedError("padding='causal'")
    shape = tuple(layer.compute_output_shape(x.shape))
    return convolve(
        walk, x, kernel, bias, shape,
        strides=layer.strides, dilation=layer.dilation_rate, rule=layer.padding, groups=groups,
    )  # fmt: skip


def _per_channel(kernel: np.ndarray) -> np.ndarray:
    """[..., in, multiplier] -> [in * multiplier, 1, ...]."""
    *window, channels, multiplier = kernel.shape
    return np.moveaxis(kernel, (-2, -1), (0, 1)).reshape(channels * multiplier, 1, *window)


LOWERINGS: dict[Any, Any] = {
    keras.layers.Conv1D: standard,
    keras.layers.Conv2D: standard,
    keras.layers.Conv3D: standard,
    keras.layers.DepthwiseConv1D: depthwise,
    keras.layers.DepthwiseConv2D: depthwise,
    keras.layers.SeparableConv1D: separable,
    keras.layers.SeparableConv2D: separable,
}
