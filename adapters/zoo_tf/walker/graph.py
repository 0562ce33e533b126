"""The ONNX graph while it grows: nodes, weights, and the two layouts of a value.

Names are numbers in the order of the walk, so two exports of one network are the same bytes. A node that is
there already (same operator, inputs and attributes) is not written again: a mask that each layer of a
transformer computes for itself is computed once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from zoo_tf.walker.values import KINDS, Layout, Shape, Value, as_array

ELEMENTS = {"float32": TensorProto.FLOAT, "int64": TensorProto.INT64, "bool": TensorProto.BOOL}

SAMPLE = 64  # numbers by which equal weights are found before all of them are compared


class Graph:
    """Nodes in order, weights by name."""

    def __init__(self, opset: int) -> None:
        self.opset = opset
        self.nodes: list[onnx.NodeProto] = []
        self.weights: dict[str, np.ndarray] = {}
        self._known: dict[Any, str] = {}
        self._alike: dict[Any, list[str]] = {}
        self._inverse: dict[str, Value] = {}
        self._count = 0

    # --- writing
    def node(
        self,
        kind: str,
        inputs: Sequence[Value | str],
        shape: Sequence[int | None],
        attributes: Mapping[str, Any] | None = None,
        *,
        layout: Layout = Layout.KERAS,
        dtype: str = "float32",
        grid: tuple[int, int, int] | None = None,
    ) -> Value:
        """Append an operator with one output, of `shape` as Keras counts. An input "" is left out."""
        names = tuple(i.name if isinstance(i, Value) else i for i in inputs)
        settings = {key: value for key, value in (attributes or {}).items() if value is not None}
        key = (kind, names, tuple((k, tuple(v) if isinstance(v, list) else v) for k, v in settings.items()))
        if key not in self._known:
            self._known[key] = self._append(kind, names, settings)
        return Value(self._known[key], tuple(shape), layout, dtype, grid)

    def _append(self, kind: str, names: Sequence[str], settings: Mapping[str, Any]) -> str:
        name = f"value_{self._count}"
        self._count += 1
        self.nodes.append(helper.make_node(kind, names, [name], **settings))
        return name

    def split(self, x: Value, sizes: Sequence[int], axis: int) -> list[Value]:
        """Parts of `x`, in Keras's order, along `axis`."""
        x, found, begin = self.keras_order(x), [], 0
        for size in sizes:
            found.append(self.slice(x, [begin], [begin + size], [axis]))
            begin += size
        return found

    def slice(
        self,
        x: Value,
        starts: Sequence[int],
        ends: Sequence[int],
        axes: Sequence[int],
        steps: Sequence[int] | None = None,
    ) -> Value:
        """A part of `x`, in Keras's order; the axes are the tensor's own."""
        shape, steps = list(x.shape), list(steps or [1] * len(axes))
        for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
            size = shape[axis]
            shape[axis] = None if size is None else len(range(size)[start:end:step])
        limits = [self.constant(np.array(v, np.int64)) for v in (starts, ends, axes, steps)]
        return self.node("Slice", [x, *limits], shape, dtype=x.dtype)

    def same(
        self, kind: str, x: Value, *others: Value | str, attributes: Mapping[str, Any] | None = None
    ) -> Value:
        """An operator that keeps shape, layout and type of `x`."""
        found = self.node(kind, [x, *others], x.shape, attributes)
        return replace(x, name=found.name)

    def constant(self, array: Any) -> str:
        """Name of a weight; equal ones are one."""
        array = np.ascontiguousarray(as_array(array))
        sample = array.reshape(-1)[:: array.size // SAMPLE + 1].tobytes()
        alike = self._alike.setdefault((array.dtype.str, array.shape, sample), [])
        for name in alike:
            if np.array_equal(self.weights[name], array):
                return name
        name = f"weight_{len(self.weights)}"
        self.weights[name] = array
        alike.append(name)
        return name

    def value(self, array: Any) -> Value:
        """A constant as a value in Keras's order."""
        array = as_array(array)
        dtype = next(name for name, kind in KINDS.items() if array.dtype == kind)
        return Value(self.constant(array), array.shape, dtype=dtype)

    def cast(self, x: Value, dtype: str) -> Value:
        """The same values as another type."""
        if x.dtype == dtype:
            return x
        return replace(self.same("Cast", x, attributes={"to": ELEMENTS[dtype]}), dtype=dtype)

    # --- layouts
    def keras_order(self, x: Value) -> Value:
        """[N, ..., C]."""
        if x.layout is Layout.KERAS:
            return x
        if x.layout is Layout.FLAT:
            return self._unflatten(x)
        return self._turned(x, [0, *range(2, x.rank), 1], Layout.KERAS)

    def channels_first(self, x: Value) -> Value:
        """[N, C, ...]; vectors have one order only."""
        if x.layout is Layout.FIRST or x.rank < 3:
            return x
        return self._turned(x, [0, x.rank - 1, *range(1, x.rank - 1)], Layout.FIRST)

    def _turned(self, x: Value, order: Sequence[int], layout: Layout) -> Value:
        if x.name in self._inverse and self._inverse[x.name].layout is layout:
            return replace(self._inverse[x.name], shape=x.shape)
        if all(size == 1 for size in x.shape[1:-1]) and x.shape[-1] is not None:
            ones, channels = [1] * (x.rank - 2), [x.shape[-1]]
            target = [0, *channels, *ones] if layout is Layout.FIRST else [0, *ones, *channels]
            found = self.node("Reshape", [x, self.constant(np.array(target))], x.shape)
        else:
            found = self.node("Transpose", [x], x.shape, {"perm": list(order)})
        turned = replace(x, name=found.name, layout=layout)
        self._inverse[turned.name] = x
        return turned

    def _unflatten(self, x: Value) -> Value:
        assert x.grid is not None
        height, width, channels = x.grid
        square = self.node("Reshape", [x, self.constant(np.array([0, channels, height, width]))], ())
        turned = self.node("Transpose", [square], (), {"perm": [0, 2, 3, 1]})
        return self.node(
            "Reshape", [turned, self.constant(np.array([0, height * width * channels]))], x.shape
        )

    def sizes(self, x: Value, shape: Shape) -> Value | str:
        """`shape` as an ONNX tensor of sizes, its open axes read from `x` (Keras's order, same rank)."""
        if None not in shape:
            return self.constant(np.array(shape, np.int64))
        parts: list[Value | str] = []
        for axis, size in enumerate(shape):
            if size is None:
                parts.append(self.length(x, axis))
            else:
                parts.append(self.constant(np.array([size], np.int64)))
        return self.node("Concat", parts, (len(shape),), {"axis": 0}, dtype="int64")

    def length(self, x: Value, axis: int) -> Value:
        """The size of one axis of a value in Keras's order, int64 [1]."""
        axis %= x.rank
        return self.node("Shape", [x], (1,), {"start": axis, "end": axis + 1}, dtype="int64")
