"""Arithmetic and comparisons of keras.ops, element by element, with numpy's broadcasting in either layout."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from zoo_tf.start import keras
from zoo_tf.walker.values import Layout, RefusedError, Value, as_array, broadcast, kind_of
from zoo_tf.walker.walk import Walk

np_ops, core, math_ops = keras.src.ops.numpy, keras.src.ops.core, keras.src.ops.math


def binary(walk: Walk, kind: str, a: Any, b: Any, *, dtype: str | None = None) -> Value:
    """An operator on two values, or a value and an array or number; dtype: of a result unlike the operands."""
    operands = [x if isinstance(x, Value) else as_array(x) for x in (a, b)]
    values = [x for x in operands if isinstance(x, Value)]
    if not values:
        raise RefusedError(f"{kind} of constants only")
    shape = broadcast(*(x.shape for x in operands))
    common = _common_type(operands, wants_numbers=kind not in ("And", "Or", "Xor"))
    layout = _layout(values, operands, len(shape))
    inputs = [_operand(walk, x, layout, len(shape), common) for x in operands]
    grid = values[0].grid if layout is Layout.FLAT else None
    return walk.graph.node(kind, inputs, shape, layout=layout, dtype=dtype or common, grid=grid)


def _common_type(operands: list[Any], *, wants_numbers: bool) -> str:
    types = {x.dtype if isinstance(x, Value) else kind_of(x.dtype) for x in operands}
    if types == {"bool"}:
        return "int64" if wants_numbers else "bool"
    return "float32" if "float32" in types else "int64"


def _layout(values: list[Value], operands: list[Any], rank: int) -> Layout:
    """Channels first where that needs no turning of the larger one; flat where nothing depends on the order."""
    if any(v.layout is Layout.FIRST for v in values) and all(v.rank == rank for v in values):
        return Layout.FIRST
    numbers = [x for x in operands if not isinstance(x, Value)]
    if len({(v.layout, v.grid) for v in values}) == 1 and all(x.size == 1 for x in numbers):
        return values[0].layout
    return Layout.KERAS


def _operand(walk: Walk, x: Any, layout: Layout, rank: int, dtype: str) -> Value | str:
    if isinstance(x, Value):
        turned = {Layout.FIRST: walk.graph.channels_first, Layout.KERAS: walk.graph.keras_order}
        return walk.graph.cast(turned[layout](x) if layout in turned else x, dtype)
    array = x.astype({"float32": np.float32, "int64": np.int64, "bool": np.bool_}[dtype])
    if layout is Layout.FIRST and array.ndim:
        array = np.moveaxis(array.reshape((1,) * (rank - array.ndim) + array.shape), -1, 1)
    return walk.graph.constant(array)


def _arithmetic(kind: str) -> Any:
    def lowering(walk: Walk, op: Any, a: Any, b: Any) -> Value:
        return binary(walk, kind, a, b)

    return lowering


def _comparison(kind: str, *, negated: bool = False) -> Any:
    def lowering(walk: Walk, op: Any, a: Any, b: Any) -> Value:
        found = binary(walk, kind, a, b, dtype="bool")
        return walk.graph.same("Not", found) if negated else found

    return lowering


def _unary(kind: str) -> Any:
    def lowering(walk: Walk, op: Any, x: Value) -> Value:
        return walk.graph.same(kind, x)

    return lowering


def divide(walk: Walk, op: Any, a: Any, b: Any) -> Value:
    """True division: integers become float32 first."""
    return binary(walk, "Div", *(_floating(walk, x) for x in (a, b)))


def power(walk: Walk, op: Any, a: Any, b: Any) -> Value:
    if not isinstance(a, Value) or a.dtype != "float32":
        raise RefusedError("a power of integers or of a constant")
    return binary(walk, "Pow", a, b)


def square(walk: Walk, op: Any, x: Value) -> Value:
    return walk.graph.same("Mul", x, x)


def rsqrt(walk: Walk, op: Any, x: Value) -> Value:
    return walk.graph.same("Reciprocal", walk.graph.same("Sqrt", x))


def logical(kind: str) -> Any:
    def lowering(walk: Walk, op: Any, a: Any, b: Any) -> Value:
        both = [
            walk.graph.cast(x, "bool") if isinstance(x, Value) else as_array(x).astype(bool) for x in (a, b)
        ]
        return binary(walk, kind, *both)

    return lowering


def logical_not(walk: Walk, op: Any, x: Value) -> Value:
    return walk.graph.same("Not", walk.graph.cast(x, "bool"))


def clip(walk: Walk, op: Any, x: Value) -> Value:
    if x.dtype != "float32":
        raise RefusedError("clipping of integers")
    return walk.graph.same("Clip", x, *(walk.graph.constant(np.float32(v)) for v in (op.x_min, op.x_max)))


def cast(walk: Walk, op: Any, x: Value) -> Value:
    return walk.graph.cast(x, kind_of(op.dtype))


def same(walk: Walk, op: Any, x: Value) -> Value:
    """What changes nothing in inference."""
    return x


def where(walk: Walk, op: Any, condition: Any, a: Any, b: Any) -> Value:
    """In Keras's order: the condition often has fewer axes than what it chooses from."""
    graph = walk.graph
    operands = [graph.keras_order(x) if isinstance(x, Value) else graph.value(x) for x in (condition, a, b)]
    dtype = _common_type(operands[1:], wants_numbers=False)
    chosen = [graph.cast(x, dtype) for x in operands[1:]]
    shape = broadcast(*(x.shape for x in operands))
    return graph.node("Where", [graph.cast(operands[0], "bool"), *chosen], shape, dtype=dtype)


def filled(number: float) -> Any:
    """ones_like, zeros_like."""

    def lowering(walk: Walk, op: Any, x: Value, dtype: Any = None) -> Value:
        x = walk.graph.keras_order(x)
        kind = kind_of(dtype or getattr(op, "dtype", None) or x.dtype)
        one = walk.graph.cast(walk.graph.value(np.float32(number)), kind)
        return walk.graph.node("Expand", [one, walk.graph.sizes(x, x.shape)], x.shape, dtype=kind)

    return lowering


def _floating(walk: Walk, x: Any) -> Any:
    if isinstance(x, Value):
        return walk.graph.cast(x, "float32")
    return as_array(x).astype(np.float32)


def as_symbol(
    walk: Walk, op: Any, x: Value, dtype: Any = None, sparse: Any = None, ragged: Any = None
) -> Value:
    """convert_to_tensor of what is one."""
    wanted = dtype or getattr(op, "dtype", None)
    return walk.graph.cast(x, kind_of(wanted)) if wanted else replace(x)


LOWERINGS: dict[Any, Any] = {
    np_ops.Add: _arithmetic("Add"),
    np_ops.Subtract: _arithmetic("Sub"),
    np_ops.Multiply: _arithmetic("Mul"),
    np_ops.Divide: divide,
    np_ops.TrueDivide: divide,
    np_ops.Power: power,
    np_ops.Maximum: _arithmetic("Max"),
    np_ops.Minimum: _arithmetic("Min"),
    np_ops.Equal: _comparison("Equal"),
    np_ops.NotEqual: _comparison("Equal", negated=True),
    np_ops.Greater: _comparison("Greater"),
    np_ops.GreaterEqual: _comparison("GreaterOrEqual"),
    np_ops.Less: _comparison("Less"),
    np_ops.LessEqual: _comparison("LessOrEqual"),
    np_ops.LogicalAnd: logical("And"),
    np_ops.LogicalOr: logical("Or"),
    np_ops.LogicalNot: logical_not,
    np_ops.Negative: _unary("Neg"),
    np_ops.Exp: _unary("Exp"),
    np_ops.Log: _unary("Log"),
    np_ops.Sqrt: _unary("Sqrt"),
    np_ops.Tanh: _unary("Tanh"),
    np_ops.Sin: _unary("Sin"),
    np_ops.Cos: _unary("Cos"),
    np_ops.Abs: _unary("Abs"),
    np_ops.Absolute: _unary("Abs"),
    np_ops.Sign: _unary("Sign"),
    np_ops.Ceil: _unary("Ceil"),
    np_ops.Floor: _unary("Floor"),
    np_ops.Reciprocal: _unary("Reciprocal"),
    np_ops.Square: square,
    math_ops.Rsqrt: rsqrt,
    math_ops.Erf: _unary("Erf"),
    np_ops.Clip: clip,
    np_ops.Where: where,
    np_ops.ZerosLike: filled(0.0),
    np_ops.OnesLike: filled(1.0),
    core.Cast: cast,
    core.ConvertToTensor: as_symbol,
    core.StopGradient: same,
}
