"""What a graph's weights are held in: beside a latency it says what was run."""

from __future__ import annotations

import collections
import math
from collections.abc import Iterable

import onnx

_NEARLY_ALL = 0.9  # of the elements: biases and scales stay float32 in every precision


def precision(weights: Iterable[onnx.TensorProto]) -> str | None:
    """The type of nearly all elements ("float32", "float16", "int8"); "mixed" where no type has 90 %; None of none."""
    counts: collections.Counter[str] = collections.Counter()
    for tensor in weights:
        counts[onnx.TensorProto.DataType.Name(tensor.data_type).lower()] += math.prod(tensor.dims)
    if not counts:
        return None
    name, most = counts.most_common(1)[0]
    if most < _NEARLY_ALL * counts.total():
        return "mixed"
    return {"float": "float32", "double": "float64"}.get(name, name)
