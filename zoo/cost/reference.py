"""The reference model: a small graph, the same everywhere, measured with every session to tell the machine's speed.

Figures of two days may stand in one column only where the machine was as fast on both. What tells is a model that
both sessions measured by the same meter, with the same threads, interleaved with the models in question. It holds what
backbones spend their time in: 3 x 3 convolutions, which are bound by arithmetic, and a matrix of 17 MB, more than most
processors keep in a core's caches, which is bound by memory. 118 million MACs; on two cores of an AMD EPYC 1.4 ms, a
third of it for the matrix.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from zoo.engine import Array

ID = "zoo:reference-1"
"""The number changes with the graph: figures of another reference are never compared."""
CHANNELS, SIDE, LAYERS, WIDTH = 32, 64, 3, 2048


def write_reference(path: Path) -> Path:
    """Write the graph: images [N, 32, 64, 64] -> y [N, 2048]. The same bytes on every machine."""
    nodes, weights, last = [], [], "images"
    for layer in range(LAYERS):
        weights.append(numpy_helper.from_array(_values(CHANNELS, CHANNELS, 3, 3), f"w{layer}"))
        nodes.append(helper.make_node("Conv", [last, f"w{layer}"], [f"c{layer}"], pads=[1, 1, 1, 1]))
        nodes.append(helper.make_node("Relu", [f"c{layer}"], [f"r{layer}"]))
        last = f"r{layer}"
    weights.append(numpy_helper.from_array(_values(CHANNELS, WIDTH), "up"))
    weights.append(numpy_helper.from_array(_values(WIDTH, WIDTH), "mix"))
    nodes += [
        helper.make_node("GlobalAveragePool", [last], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("MatMul", ["flat", "up"], ["wide"]),
        helper.make_node("MatMul", ["wide", "mix"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "reference",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["N", CHANNELS, SIDE, SIDE])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", WIDTH])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(path))
    return path


def _values(*shape: int) -> Array:
    """float32 of mean 0 and the variance that keeps a layer's scale (He et al. 2015), without a generator:
    constants or zeros would let a processor, or a runtime, do less.
    """
    count, fan_in = math.prod(shape), math.prod(shape[1:]) if len(shape) > 2 else shape[0]
    spread = (np.arange(count, dtype=np.uint64) * 2654435761 % 2**32).astype(np.float64) / 2**31 - 1
    return (spread * math.sqrt(6 / fan_in)).astype(np.float32).reshape(shape)
