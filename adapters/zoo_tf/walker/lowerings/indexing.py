"""Looking up and cutting out: embeddings, take, slices, x[...]."""

from __future__ import annotations

from typing import Any

import numpy as np

from zoo_tf.start import keras
from zoo_tf.walker.values import RefusedError, Value, as_array
from zoo_tf.walker.walk import Walk

np_ops, core = keras.src.ops.numpy, keras.src.ops.core
LARGEST = int(np.iinfo(np.int64).max)


def embedding(walk: Walk, layer: Any, x: Value) -> Value:
    """Rows of a table [V, D]."""
    if layer.mask_zero:
        raise RefusedError("mask_zero=True sends a mask along, which the walker does not carry")
    return rows(walk, as_array(layer.embeddings), x)


def reversible_embedding(walk: Walk, layer: Any, x: Value, reverse: bool = False) -> Value:
    if reverse or getattr(layer, "logit_soft_cap", None) is not None:
        raise RefusedError("an embedding used in reverse")
    return embedding(walk, layer, x)


def rows(walk: Walk, table: np.ndarray, ids: Value) -> Value:
    """table[ids]: the ids' shape, then the table's width."""
    indices = walk.graph.cast(walk.graph.keras_order(ids), "int64")
    shape = (*ids.shape, *table.shape[1:])
    return walk.graph.node("Gather", [walk.graph.constant(table), indices], shape, {"axis": 0})


def take(walk: Walk, op: Any, x: Any, indices: Any) -> Value:
    """np.take along one axis."""
    graph = walk.graph
    data, where = (graph.keras_order(v) if isinstance(v, Value) else graph.value(v) for v in (x, indices))
    if op.axis is None:
        raise RefusedError("take without an axis")
    axis = op.axis % data.rank
    shape = (*data.shape[:axis], *where.shape, *data.shape[axis + 1 :])
    return graph.node("Gather", [data, graph.cast(where, "int64")], shape, {"axis": axis}, dtype=data.dtype)


def slice_op(walk: Walk, op: Any, x: Value, start_indices: Any) -> Value:
    """A block from fixed starts, of fixed or whole extent."""
    if any(isinstance(start, Value) for start in start_indices):
        raise RefusedError("a slice from a start that is computed")
    x, starts = walk.graph.keras_order(x), [int(start) for start in start_indices]
    ends = []
    for start, size, whole in zip(starts, op.shape, x.shape, strict=True):
        if size is None or (whole is None and size != -1):
            raise RefusedError("a slice of open extent")
        ends.append(LARGEST if size == -1 else start + int(size))
    return walk.graph.slice(x, starts, ends, list(range(x.rank)))


def get_item(walk: Walk, op: Any, x: Value, key: Any) -> Value:
    """x[...] with numbers, slices, ... and None."""
    x = walk.graph.keras_order(x)
    keys = _explicit(list(key) if isinstance(key, list | tuple) else [key], x.rank)
    cuts, dropped, added, axis, out = [], [], [], 0, 0
    for part in keys:
        if part is None:
            added.append(out)
            out += 1
            continue
        if isinstance(part, slice):
            out += 1
        elif isinstance(part, int | np.integer):
            dropped.append(axis)
        else:
            raise RefusedError(f"indexing by {type(part).__name__}")
        cuts.append(_limits(part, axis))
        axis += 1
    cuts = [cut for cut in cuts if cut is not None]
    if cuts:
        starts, ends, axes, steps = zip(*cuts, strict=True)
        x = walk.graph.slice(x, starts, ends, axes, steps)
    x = _axes(walk, "Squeeze", x, dropped, tuple(s for a, s in enumerate(x.shape) if a not in dropped))
    shape = list(x.shape)
    for place in added:
        shape.insert(place, 1)
    return _axes(walk, "Unsqueeze", x, added, tuple(shape))


def _axes(walk: Walk, kind: str, x: Value, axes: list[int], shape: tuple[int | None, ...]) -> Value:
    if not axes:
        return x
    return walk.graph.node(kind, [x, walk.graph.constant(np.array(axes))], shape, dtype=x.dtype)


def _explicit(keys: list[Any], rank: int) -> list[Any]:
    """With ... written out, and whole slices for the axes that are not named."""
    missing = rank - sum(key is not None and key is not Ellipsis for key in keys)
    if Ellipsis not in [key for key in keys if key is None or key is Ellipsis]:
        return keys + [slice(None)] * missing
    at = next(index for index, key in enumerate(keys) if key is Ellipsis)
    return keys[:at] + [slice(None)] * missing + keys[at + 1 :]


def _limits(part: Any, axis: int) -> tuple[int, int, int, int] | None:
    """(start, end, axis, step), or None for the whole axis."""
    if not isinstance(part, slice):
        return int(part), int(part) + 1 or LARGEST, axis, 1
    if part == slice(None):
        return None
    if any(isinstance(v, Value) for v in (part.start, part.stop, part.step)) or (part.step or 1) < 0:
        raise RefusedError("a slice with computed limits or backwards")
    return int(part.start or 0), LARGEST if part.stop is None else int(part.stop), axis, int(part.step or 1)


LOWERINGS: dict[Any, Any] = {
    keras.layers.Embedding: embedding,
    keras.layers.ReversibleEmbedding: reversible_embedding,
    np_ops.Take: take,
    np_ops.GetItem: get_item,
    core.Slice: slice_op,
}
