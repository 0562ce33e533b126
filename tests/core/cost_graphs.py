"""Small ONNX graphs built by hand, for the tests of the meter. No framework, no downloads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Dims = Sequence[int | str]


def node(op: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op, inputs, outputs, **attributes)


def write(
    path: Path,
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, Dims],
    weights: Mapping[str, np.ndarray],
    *,
    outputs: Sequence[str] = ("y",),
    kind: int = TensorProto.FLOAT,
    metadata: Mapping[str, str] | None = None,
    functions: Sequence[onnx.FunctionProto] = (),
    domains: Sequence[str] = (),
    check: bool = True,
) -> Path:
    """Write a graph of opset 18 whose inputs all have the type `kind`."""
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info(name, kind, dims) for name, dims in inputs.items()],
        [onnx.ValueInfoProto(name=name) for name in outputs],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    opsets = [helper.make_opsetid("", 18), *(helper.make_opsetid(d, 1) for d in domains)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10, functions=list(functions))
    helper.set_model_props(model, dict(metadata or {}))
    if check:
        onnx.shape_inference.infer_shapes(model, strict_mode=True)
    onnx.save(model, str(path))
    return path


def zeros(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.float32)


def conv_net(path: Path, *, channels: int = 8, size: int | str = 16, batch: int | str = "N") -> Path:
    """images [N, 3, size, size] -> 3 x 3 convolution -> global average -> [N, channels]."""
    nodes = [
        node("Conv", ["images", "w", "b"], ["map"], pads=[1, 1, 1, 1]),
        node("GlobalAveragePool", ["map"], ["pooled"]),
        node("Flatten", ["pooled"], ["y"]),
    ]
    weights = {"w": zeros(channels, 3, 3, 3), "b": zeros(channels)}
    return write(path, nodes, {"images": [batch, 3, size, size]}, weights)


def text_net(path: Path, *, vocabulary: int = 16, width: int = 8, metadata: Any = None) -> Path:
    """input_ids, attention_mask [N, L] -> embedding -> scores [N, L, L] -> mean: L squared, as in attention."""
    nodes = [
        node("Gather", ["table", "input_ids"], ["rows"]),
        node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        node("Unsqueeze", ["mask", "last"], ["column"]),
        node("Mul", ["rows", "column"], ["kept"]),
        node("Transpose", ["kept"], ["turned"], perm=[0, 2, 1]),
        node("MatMul", ["kept", "turned"], ["scores"]),
        node("MatMul", ["scores", "kept"], ["mixed"]),
        node("ReduceMean", ["mixed", "middle"], ["y"], keepdims=0),
    ]
    weights = {
        "table": zeros(vocabulary, width),
        "last": np.array([2], np.int64),
        "middle": np.array([1], np.int64),
    }
    inputs = {"input_ids": ["N", "L"], "attention_mask": ["N", "L"]}
    return write(path, nodes, inputs, weights, kind=TensorProto.INT64, metadata=metadata)


def endless(path: Path) -> Path:
    """A valid graph whose Loop runs 2**62 times."""
    body = helper.make_graph(
        [node("Identity", ["go"], ["go_on"]), node("Add", ["value", "value"], ["next"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("value", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, None),
        ],
    )
    weights = {"trips": np.array(2**62, np.int64), "yes": np.array(True)}
    nodes = [helper.make_node("Loop", ["trips", "yes", "x"], ["y"], body=body)]
    return write(path, nodes, {"x": ["N", 4]}, weights)
