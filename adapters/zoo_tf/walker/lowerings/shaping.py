"""Layers and operations that move values and compute nothing, and those that inference skips."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from zoo_tf.start import keras
from zoo_tf.walker.values import Layout, RefusedError, Shape, Value, axis_in
from zoo_tf.walker.walk import Walk

np_ops = keras.src.ops.numpy
LARGEST = int(np.iinfo(np.int64).max)


def reshape(walk: Walk, x: Value, shape: Shape, *, keeps_batch: bool) -> Value:
    """To `shape`, as Keras counts it. One pixel, or a change of one only, needs no turning of the map."""
    graph, ones = walk.graph, all(size == 1 for size in x.shape[1:-1])
    channels = x.shape[-1]
    if keeps_batch and channels is not None and ones and shape[-1] == channels and _is_pixel(shape):
        if len(shape) == 2:
            return graph.node("Reshape", [x, graph.constant(np.array([0, channels]))], shape, dtype=x.dtype)
        if len(shape) == 4 and x.layout is not Layout.FLAT:
            target = graph.constant(np.array([0, channels, 1, 1]))
            return graph.node("Reshape", [x, target], shape, dtype=x.dtype, layout=Layout.FIRST)
    x = graph.keras_order(x)
    if tuple(shape) == x.shape and list(shape).count(None) <= 1:
        return x
    target = graph.constant(np.array(_targets(x.shape, shape, keeps_batch)))
    return graph.node("Reshape", [x, target], shape, dtype=x.dtype)


def _is_pixel(shape: Shape) -> bool:
    return all(size == 1 for size in shape[1:-1])


def _targets(before: Shape, after: Shape, keeps_batch: bool) -> list[int]:
    """ONNX's: 0 copies the size at the same place, one -1 is computed."""
    open_axes = [axis for axis, size in enumerate(after) if size is None]
    copied = [a for a in open_axes if after[: a + 1] == before[: a + 1]]
    if len(open_axes) == 1 and not (keeps_batch and open_axes == [0]):
        copied = []
    if len(open_axes) - len(copied) > 1:
        raise RefusedError(f"a reshape from {before} to {after}: more than one size is open")
    return [0 if axis in copied else -1 if size is None else size for axis, size in enumerate(after)]


def reshape_layer(walk: Walk, layer: Any, x: Value) -> Value:
    return reshape(walk, x, tuple(layer.compute_output_shape(x.shape)), keeps_batch=True)


def reshape_op(walk: Walk, op: Any, x: Value) -> Value:
    shape = tuple(op.compute_output_spec(keras.KerasTensor(x.shape)).shape)
    return reshape(walk, x, shape, keeps_batch=False)


def flatten(walk: Walk, layer: Any, x: Value) -> Value:
    """A map keeps its channels first: the Dense behind it turns its weights instead."""
    graph, columns = walk.graph, layer.compute_output_shape(x.shape)[-1]
    grid = tuple(x.shape[1:])
    if x.layout is Layout.FIRST and None not in grid and len(grid) == 3:
        pixel = grid[:2] == (1, 1)
        layout = Layout.KERAS if pixel else Layout.FLAT
        found = graph.node("Flatten", [x], (x.shape[0], columns), {"axis": 1}, layout=layout)
        return found if pixel else Value(found.name, found.shape, layout, grid=grid)  # type: ignore[arg-type]
    x = graph.keras_order(x)
    return graph.node("Flatten", [x], (x.shape[0], columns), {"axis": 1}, dtype=x.dtype)


def permute(walk: Walk, layer: Any, x: Value) -> Value:
    return transposed(walk, x, [0, *layer.dims])


def transpose_op(walk: Walk, op: Any, x: Value) -> Value:
    return transposed(walk, x, op.axes or list(range(x.rank))[::-1])


def swap_op(walk: Walk, op: Any, x: Value) -> Value:
    order = list(range(x.rank))
    order[op.axis1], order[op.axis2] = order[op.axis2], order[op.axis1]
    return transposed(walk, x, order)


def transposed(walk: Walk, x: Value, order: Sequence[int]) -> Value:
    x, axes = walk.graph.keras_order(x), [axis % x.rank for axis in order]
    if axes == list(range(x.rank)):
        return x
    shape = tuple(x.shape[axis] for axis in axes)
    return walk.graph.node("Transpose", [x], shape, {"perm": axes}, dtype=x.dtype)


def zero_padding(walk: Walk, layer: Any, x: Value) -> Value:
    pairs = [layer.padding] if isinstance(layer.padding[0], int) else list(layer.padding)
    x = walk.graph.channels_first(x)
    return _padded(walk, x, [(0, 0), (0, 0), *pairs], tuple(layer.compute_output_shape(x.shape)))


def pad_op(walk: Walk, op: Any, x: Value, constant_values: Any = None) -> Value:
    if op.mode != "constant" or x.dtype != "float32":
        raise RefusedError(f"padding of mode {op.mode!r} or of integers")
    pairs = list(op.pad_width) * (x.rank if len(op.pad_width) == 1 else 1)
    shape = tuple(None if s is None else s + sum(p) for s, p in zip(x.shape, pairs, strict=True))
    if x.layout is Layout.FIRST:
        pairs = [pairs[0], pairs[-1], *pairs[1:-1]]
    x = walk.graph.keras_order(x) if x.layout is Layout.FLAT else x
    return _padded(walk, x, pairs, shape, 0.0 if constant_values is None else float(constant_values))


def _padded(
    walk: Walk, x: Value, pairs: Sequence[Sequence[int]], shape: Shape, filling: float = 0.0
) -> Value:
    """pairs: before and after, in the order of the ONNX tensor."""
    before, after = ([pair[side] for pair in pairs] for side in (0, 1))
    inputs = [x, walk.graph.constant(np.array([*before, *after])), walk.graph.constant(np.float32(filling))]
    return walk.graph.node("Pad", inputs, shape, {"mode": "constant"}, layout=x.layout)


def cropping(walk: Walk, layer: Any, x: Value) -> Value:
    pairs = [layer.cropping] if isinstance(layer.cropping[0], int) else list(layer.cropping)
    graph, x = walk.graph, walk.graph.channels_first(x)
    starts, ends = [a for a, _ in pairs], [-b or LARGEST for _, b in pairs]
    limits = [graph.constant(np.array(v)) for v in (starts, ends, list(range(2, 2 + len(pairs))))]
    shape = tuple(layer.compute_output_shape(x.shape))
    return graph.node("Slice", [x, *limits], shape, layout=Layout.FIRST)


def upsampling(walk: Walk, layer: Any, x: Value) -> Value:
    """Whole factors, each pixel repeated."""
    if layer.interpolation != "nearest":
        raise RefusedError(f"interpolation={layer.interpolation!r}")
    x, size = walk.graph.channels_first(x), layer.size
    scales = walk.graph.constant(np.array([1, 1, *size], np.float32))
    settings = {
        "mode": "nearest",
        "nearest_mode": "floor",
        "coordinate_transformation_mode": "asymmetric",
    }
    shape = tuple(layer.compute_output_shape(x.shape))
    return walk.graph.node("Resize", [x, "", scales], shape, settings, layout=Layout.FIRST)


def expand_dims(walk: Walk, op: Any, x: Value) -> Value:
    x, axes = walk.graph.keras_order(x), [op.axis] if isinstance(op.axis, int) else list(op.axis)
    shape = tuple(op.compute_output_spec(keras.KerasTensor(x.shape)).shape)
    rank = x.rank + len(axes)
    return walk.graph.node(
        "Unsqueeze", [x, walk.graph.constant(np.array([a % rank for a in axes]))], shape, dtype=x.dtype
    )


def squeeze(walk: Walk, op: Any, x: Value) -> Value:
    x = walk.graph.keras_order(x)
    wanted = [op.axis] if isinstance(op.axis, int) else op.axis
    axes = (
        [a for a, size in enumerate(x.shape) if size == 1] if wanted is None else [a % x.rank for a in wanted]
    )
    shape = tuple(size for axis, size in enumerate(x.shape) if axis not in axes)
    return walk.graph.node("Squeeze", [x, walk.graph.constant(np.array(axes))], shape, dtype=x.dtype)


def concatenate(walk: Walk, xs: Sequence[Any], axis: int) -> Value:
    """Maps stay channels first if one of them is."""
    graph = walk.graph
    values = [x if isinstance(x, Value) else graph.value(x) for x in xs]
    first = any(v.layout is Layout.FIRST for v in values)
    values = [graph.channels_first(v) if first else graph.keras_order(v) for v in values]
    axis %= values[0].rank
    sizes = [v.shape[axis] for v in values]
    shape = list(values[0].shape)
    shape[axis] = None if None in sizes else sum(sizes)  # type: ignore[arg-type]
    settings = {"axis": axis_in(values[0], axis)}
    return graph.node("Concat", values, shape, settings, layout=values[0].layout, dtype=values[0].dtype)


def concatenate_op(walk: Walk, op: Any, xs: Sequence[Any]) -> Value:
    return concatenate(walk, xs, op.axis)


def stack_op(walk: Walk, op: Any, xs: Sequence[Any]) -> Value:
    graph, raised = walk.graph, []
    for x in xs:
        value = graph.keras_order(x) if isinstance(x, Value) else graph.value(x)
        axis = op.axis % (value.rank + 1)
        shape = (*value.shape[:axis], 1, *value.shape[axis:])
        raised.append(
            graph.node("Unsqueeze", [value, graph.constant(np.array([axis]))], shape, dtype=value.dtype)
        )
    return concatenate(walk, raised, op.axis)


def split_op(walk: Walk, op: Any, x: Value) -> list[Value]:
    x, axis, parts = walk.graph.keras_order(x), op.axis % x.rank, op.indices_or_sections
    size = x.shape[axis]
    if size is None:
        raise RefusedError("a split along an open axis")
    cuts = [size // parts * i for i in range(1, parts)] if isinstance(parts, int) else list(parts)
    edges = [0, *cuts, size]
    return walk.graph.split(x, [b - a for a, b in pairwise(edges)], axis)


def roll_op(walk: Walk, op: Any, x: Value) -> Value:
    """Two parts change places, along each axis."""
    shifts, axes = (list(v) if isinstance(v, list | tuple) else [v] for v in (op.shift, op.axis))
    x = walk.graph.keras_order(x)
    for shift, axis in zip(shifts, axes, strict=True):
        if axis is None:
            raise RefusedError("a roll without an axis")
        shift, axis = int(shift), axis % x.rank
        if shift:
            tail = walk.graph.slice(x, [-shift], [LARGEST], [axis])
            head = walk.graph.slice(x, [0], [-shift], [axis])
            x = Value(concatenate(walk, [tail, head], axis).name, x.shape, dtype=x.dtype)
    return x


def broadcast_op(walk: Walk, op: Any, x: Value) -> Value:
    if None in tuple(op.shape)[1:] or None in x.shape[1:]:
        raise RefusedError(f"broadcasting to {op.shape}")
    x = walk.graph.keras_order(x)
    sizes = [1 if size is None else int(size) for size in op.shape]  # ONNX's Expand keeps the larger one
    return walk.graph.node(
        "Expand", [x, walk.graph.constant(np.array(sizes))], tuple(op.shape), dtype=x.dtype
    )


def tile_op(walk: Walk, op: Any, x: Value) -> Value:
    x, repeats = walk.graph.keras_order(x), op.repeats
    counts = [repeats] if isinstance(repeats, int) else list(repeats)
    if len(counts) != x.rank:
        raise RefusedError(f"tiling {x.rank} axes by {counts}")
    shape = tuple(None if s is None else s * c for s, c in zip(x.shape, counts, strict=True))
    return walk.graph.node("Tile", [x, walk.graph.constant(np.array(counts))], shape, dtype=x.dtype)


def nothing(walk: Walk, layer: Any, x: Value) -> Value:
    """Noise and dropout, in inference."""
    return x


def refused_lambda(walk: Walk, layer: Any, x: Value) -> Value:
    raise RefusedError("it holds Python code")


def refused_masking(walk: Walk, layer: Any, x: Value) -> Value:
    raise RefusedError("it sends a mask along, which the walker does not carry")


LOWERINGS: dict[Any, Any] = {
    keras.layers.Reshape: reshape_layer,
    keras.layers.Flatten: flatten,
    keras.layers.Permute: permute,
    keras.layers.ZeroPadding1D: zero_padding,
    keras.layers.ZeroPadding2D: zero_padding,
    keras.layers.ZeroPadding3D: zero_padding,
    keras.layers.Cropping1D: cropping,
    keras.layers.Cropping2D: cropping,
    keras.layers.Cropping3D: cropping,
    keras.layers.UpSampling2D: upsampling,
    keras.layers.Dropout: nothing,
    keras.layers.AlphaDropout: nothing,
    keras.layers.GaussianDropout: nothing,
    keras.layers.GaussianNoise: nothing,
    keras.layers.SpatialDropout1D: nothing,
    keras.layers.SpatialDropout2D: nothing,
    keras.layers.SpatialDropout3D: nothing,
    keras.layers.ActivityRegularization: nothing,
    keras.layers.Identity: nothing,
    keras.layers.Lambda: refused_lambda,
    keras.layers.Masking: refused_masking,
    np_ops.Reshape: reshape_op,
    np_ops.Transpose: transpose_op,
    np_ops.Swapaxes: swap_op,
    np_ops.Pad: pad_op,
    np_ops.ExpandDims: expand_dims,
    np_ops.Squeeze: squeeze,
    np_ops.Concatenate: concatenate_op,
    np_ops.Stack: stack_op,
    np_ops.Split: split_op,
    np_ops.Roll: roll_op,
    np_ops.BroadcastTo: broadcast_op,
    np_ops.Tile: tile_op,
}
