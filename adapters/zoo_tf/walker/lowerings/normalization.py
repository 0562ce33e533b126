"""Layers that shift and scale by statistics: those of training, or those of each input."""

from __future__ import annotations

from typing import Any

import numpy as np

from zoo_tf.start import keras
from zoo_tf.walker.lowerings.elementwise import binary
from zoo_tf.walker.values import Layout, RefusedError, Value, as_array
from zoo_tf.walker.walk import Walk


def batch_norm(walk: Walk, layer: Any, x: Value, mask: Value | None = None) -> Value:
    """With the stored statistics; a mask only chooses what training counts."""
    _last_axis(layer.axis, x)
    graph, mean, variance = walk.graph, as_array(layer.moving_mean), as_array(layer.moving_variance)
    gamma = as_array(layer.gamma) if layer.scale else np.ones_like(mean)
    beta = as_array(layer.beta) if layer.center else np.zeros_like(mean)
    x = graph.keras_order(x) if x.layout is Layout.FLAT else graph.channels_first(x)
    weights = [graph.constant(w) for w in (gamma, beta, mean, variance)]
    return graph.same("BatchNormalization", x, *weights, attributes={"epsilon": float(layer.epsilon)})


def layer_norm(walk: Walk, layer: Any, x: Value) -> Value:
    """Over the last axis (Ba et al. 2016)."""
    _last_axis(layer.axis, x)
    if getattr(layer, "rms_scaling", False):
        raise RefusedError("rms_scaling=True")
    graph, width = walk.graph, x.shape[-1]
    gamma = as_array(layer.gamma) if layer.scale else np.ones(width, np.float32)
    weights = [graph.constant(gamma)]
    if layer.center:
        weights.append(graph.constant(layer.beta))
    settings = {"axis": -1, "epsilon": float(layer.epsilon)}
    return graph.same("LayerNormalization", graph.keras_order(x), *weights, attributes=settings)


def group_norm(walk: Walk, layer: Any, x: Value) -> Value:
    """Each group of channels as one channel of an InstanceNormalization (Wu & He 2018)."""
    _last_axis(layer.axis, x)
    graph, channels = walk.graph, int(x.shape[-1] or 0)
    groups = channels if layer.groups == -1 else layer.groups
    x = graph.channels_first(x)
    if x.layout is not Layout.FIRST or None in x.shape[1:]:
        raise RefusedError("a group norm on vectors or on maps of open size")
    pixels = int(np.prod(x.shape[1:-1])) * (channels // groups)
    grouped = graph.node("Reshape", [x, graph.constant(np.array([0, groups, pixels]))], ())
    one, zero = graph.constant(np.ones(groups, np.float32)), graph.constant(np.zeros(groups, np.float32))
    normed = graph.node("InstanceNormalization", [grouped, one, zero], (), {"epsilon": float(layer.epsilon)})
    sizes = graph.constant(np.array([0, channels, *x.shape[1:-1]]))
    found = graph.node("Reshape", [normed, sizes], x.shape, layout=Layout.FIRST)
    found = binary(walk, "Mul", found, layer.gamma) if layer.scale else found
    return binary(walk, "Add", found, layer.beta) if layer.center else found


def rescaling(walk: Walk, layer: Any, x: Value) -> Value:
    """x * scale + offset."""
    found = binary(walk, "Mul", x, np.asarray(layer.scale, np.float32))
    offset = np.asarray(layer.offset, np.float32)
    return binary(walk, "Add", found, offset) if offset.any() else found


def standardizing(walk: Walk, layer: Any, x: Value) -> Value:
    """keras.layers.Normalization: (x - mean) / sqrt(variance), both fixed."""
    mean, variance = as_array(layer.mean), as_array(layer.variance)
    deviation = np.maximum(np.sqrt(variance), np.float32(keras.config.epsilon()))
    if layer.invert:
        return binary(walk, "Add", binary(walk, "Mul", x, deviation), mean)
    return binary(walk, "Div", binary(walk, "Sub", x, mean), deviation)


def _last_axis(axis: Any, x: Value) -> None:
    """Raises RefusedError unless `axis` is the channels'."""
    axes = [axis] if isinstance(axis, int) else list(axis)
    if [a % x.rank for a in axes] != [x.rank - 1]:
        raise RefusedError(f"axis={axis}: the walker normalises over the last axis only")


LOWERINGS: dict[Any, Any] = {
    keras.layers.BatchNormalization: batch_norm,
    keras.layers.LayerNormalization: layer_norm,
    keras.layers.GroupNormalization: group_norm,
    keras.layers.Rescaling: rescaling,
    keras.layers.Normalization: standardizing,
}
