"""Sums, means and extremes of keras.ops along axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from zoo_tf.start import keras
from zoo_tf.walker.values import Layout, RefusedError, Value, axis_in
from zoo_tf.walker.walk import Walk

np_ops = keras.src.ops.numpy


def reduced(walk: Walk, kind: str, x: Value, axes: Sequence[int] | None, *, keepdims: bool) -> Value:
    """Over Keras's `axes` (None: all). Axes come as an input (ReduceSum since 13, the others since 18)."""
    if x.layout is Layout.FLAT or not keepdims:
        x = walk.graph.keras_order(x)
    wanted = sorted(a % x.rank for a in (range(x.rank) if axes is None else axes))
    shape = [1 if axis in wanted else size for axis, size in enumerate(x.shape)]
    if not keepdims:
        shape = [size for axis, size in enumerate(x.shape) if axis not in wanted]
    where = walk.graph.constant(np.array([axis_in(x, a) for a in wanted]))
    settings = {"keepdims": int(keepdims)}
    return walk.graph.node(kind, [x, where], shape, settings, layout=x.layout, dtype=x.dtype)


def reduction(kind: str, *, floats: bool = False) -> Any:
    def lowering(walk: Walk, op: Any, x: Value) -> Value:
        if getattr(op, "initial", None) is not None:
            raise RefusedError("a reduction with an initial value")
        numbers = walk.graph.cast(x, "float32" if floats else "int64" if x.dtype == "bool" else x.dtype)
        return reduced(walk, kind, numbers, op.axis, keepdims=bool(op.keepdims))

    return lowering


def variance(walk: Walk, op: Any, x: Value) -> Value:
    """The mean of squared differences."""
    mean = reduced(walk, "ReduceMean", x, op.axis, keepdims=True)
    x = walk.graph.keras_order(x) if mean.layout is Layout.KERAS else x
    away = walk.graph.same("Sub", x, mean)
    return reduced(
        walk, "ReduceMean", walk.graph.same("Mul", away, away), op.axis, keepdims=bool(op.keepdims)
    )


LOWERINGS: dict[Any, Any] = {
    np_ops.Sum: reduction("ReduceSum"),
    np_ops.Mean: reduction("ReduceMean", floats=True),
    np_ops.Max: reduction("ReduceMax"),
    np_ops.Amax: reduction("ReduceMax"),
    np_ops.Min: reduction("ReduceMin"),
    np_ops.Prod: reduction("ReduceProd"),
    np_ops.Var: variance,
}
