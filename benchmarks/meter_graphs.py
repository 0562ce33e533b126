"""Graphs of chosen size and work for the meter's benchmarks, made by onnx.helper: no framework, no export."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def convolutions(path: Path, *, channels: int, depth: int, size: int) -> Path:
    """`depth` 3 x 3 convolutions with ReLU on images of `size`, then the global average."""
    rng = np.random.default_rng(0)
    nodes, weights, last, width = [], [], "images", 3
    for i in range(depth):
        kernel = rng.standard_normal((channels, width, 3, 3)) / np.sqrt(9 * width)
        weights.append(numpy_helper.from_array(kernel.astype(np.float32), f"w{i}"))
        nodes.append(helper.make_node("Conv", [last, f"w{i}"], [f"c{i}"], pads=[1] * 4))
        nodes.append(helper.make_node("Relu", [f"c{i}"], [f"r{i}"]))
        last, width = f"r{i}", channels
    nodes.append(helper.make_node("GlobalAveragePool", [last], ["y"]))
    return _save(path, nodes, ["n", 3, size, size], weights)


def layers(path: Path, *, width: int, depth: int) -> Path:
    """`depth` square fully connected layers with ReLU: 4 x width^2 bytes each."""
    rng = np.random.default_rng(0)
    nodes, weights, last = [], [], "images"
    for i in range(depth):
        matrix = rng.standard_normal((width, width), dtype=np.float32) / np.sqrt(width)
        weights.append(numpy_helper.from_array(matrix.astype(np.float32), f"w{i}"))
        nodes.append(helper.make_node("MatMul", [last, f"w{i}"], [f"c{i}"]))
        nodes.append(helper.make_node("Relu", [f"c{i}"], [f"r{i}" if i < depth - 1 else "y"]))
        last = f"r{i}"
    return _save(path, nodes, ["n", width], weights)


def _save(
    path: Path, nodes: list[onnx.NodeProto], dims: list[object], weights: list[onnx.TensorProto]
) -> Path:
    inputs = [helper.make_tensor_value_info("images", TensorProto.FLOAT, dims)]
    graph = helper.make_graph(nodes, "bench", inputs, [onnx.ValueInfoProto(name="y")], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, str(path))
    return path


def of_many_sizes(folder: Path) -> dict[str, Path]:
    """Eight graphs from 1 MB to 500 MB, by name."""
    return {
        "conv 1 MB": convolutions(folder / "a.onnx", channels=64, depth=8, size=56),
        "conv 2 MB": convolutions(folder / "b.onnx", channels=64, depth=14, size=112),
        "conv 9 MB": convolutions(folder / "c.onnx", channels=192, depth=8, size=28),
        "conv 38 MB": convolutions(folder / "d.onnx", channels=512, depth=5, size=14),
        "dense 8 MB": layers(folder / "e.onnx", width=512, depth=8),
        "dense 34 MB": layers(folder / "f.onnx", width=1024, depth=8),
        "dense 134 MB": layers(folder / "g.onnx", width=2048, depth=8),
        "dense 503 MB": layers(folder / "h.onnx", width=4096, depth=7),
    }


DEPTHS = (16, 18, 21, 24, 28, 32, 37, 43)
"""At least 12 % apart, of the same layer: the order of their latencies is known."""


def in_order(folder: Path) -> dict[str, Path]:
    """Eight graphs whose latencies are 10 % or more apart, the fastest first."""
    return {f"depth {n}": convolutions(folder / f"o{n}.onnx", channels=32, depth=n, size=28) for n in DEPTHS}


def small(folder: Path, count: int) -> dict[str, Path]:
    """`count` different graphs of the size of a MobileNet and less (0.1 to 2 MB, up to some 100 M MACs)."""
    return {
        f"small {i}": convolutions(
            folder / f"s{i}.onnx", channels=24 + 2 * i, depth=6 + i, size=28 + 2 * (i % 5)
        )
        for i in range(count)
    }
