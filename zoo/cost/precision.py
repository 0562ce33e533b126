"""What a graph's weights are held in: beside a latency it says what was run."""

from __future__ import annotations

import collections
import math
from collections.abc import Iterable, Sequence

import onnx

_NEARLY_ALL = 0.9  # of the elements: biases and scales stay float32 in every precision


def precision(weights: Iterable[tuple[Sequence[int], int]]) -> str | None:
    """The type of nearly all elements ("float32", "float16", "int8"); "mixed" where no type has 90 %; None of none.

    weights: shape and data type of each.
    """
    counts: collections.Counter[str] = collections.Counter()
    for dims, kind in weights:
        counts[onnx.TensorProto.DataType.Name(kind).lower()] += math.prod(dims)
    if not counts:
        return None
    name, most = counts.most_common(1)[0]
    if most < _NEARLY_ALL * counts.total():
        return "mixed"
    return {"float": "float32", "double": "float64"}.get(name, name)
