"""What flows along the edges of the walk: a name in the ONNX graph, and how its axes lie there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeAlias

import numpy as np

from zoo.errors import ExportError

Shape: TypeAlias = tuple[int | None, ...]

KINDS = {"float32": np.float32, "int64": np.int64, "bool": np.bool_}
"""Element types in the graph, by the name that a Value carries."""


class RefusedError(ExportError):
    """The walker cannot do this network, and says which layer it is."""


class Layout(Enum):
    """How the ONNX tensor lies, for a tensor that Keras counts as [N, ..., C].

    KERAS: the same.  FIRST: [N, C, ...].  FLAT: [N, C * H * W], a map flattened while its channels were
    first: the columns are Keras's (H, W, C), in another order.
    """

    KERAS = "keras"
    FIRST = "first"
    FLAT = "flat"


@dataclass(frozen=True)
class Value:
    """name: in the graph.  shape: as Keras counts, None is open.  dtype: one of KINDS; Keras's integers are
    int64 here, which is what ONNX's indices are.  grid: (H, W, C) of what a FLAT value was.
    """

    name: str
    shape: Shape
    layout: Layout = Layout.KERAS
    dtype: str = "float32"
    grid: tuple[int, int, int] | None = None

    @property
    def rank(self) -> int:
        """Number of axes as Keras counts."""
        return len(self.shape)


def kind_of(dtype: Any) -> str:
    """The element type in the graph for one of Keras's. Raises RefusedError."""
    name = str(dtype)
    if name in ("int32", "int64"):
        return "int64"
    if name in ("float32", "bool"):
        return name
    raise RefusedError(f"values of type {name}: the walker does float32, int32, int64 and bool")


def as_array(value: Any) -> np.ndarray:
    """A variable, tensor, array or number as numpy: float32, int64 or bool."""
    array = np.asarray(value.numpy() if hasattr(value, "numpy") else value)
    if array.dtype == np.float64:  # Python's own numbers
        array = array.astype(np.float32)
    return array.astype(KINDS[kind_of(array.dtype)], copy=False)


def axis_in(value: Value, axis: int) -> int:
    """Where Keras's axis lies in the ONNX tensor."""
    axis %= value.rank
    if value.layout is not Layout.FIRST or axis == 0:
        return axis
    return 1 if axis == value.rank - 1 else axis + 1


def broadcast(*shapes: Sequence[int | None]) -> Shape:
    """numpy's rule; an open axis against 1 stays open, against a number is taken to be that number."""
    rank = max(map(len, shapes))
    padded = [(1,) * (rank - len(shape)) + tuple(shape) for shape in shapes]
    found: list[int | None] = []
    for sizes in zip(*padded, strict=True):
        fixed = {size for size in sizes if size not in (1, None)}
        found.append(fixed.pop() if fixed else None if None in sizes else 1)
    return tuple(found)
