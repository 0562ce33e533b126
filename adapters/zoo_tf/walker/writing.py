"""From a Keras model to an ONNX file: names and sizes of inputs and outputs around the walk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx
from onnx import helper, numpy_helper

from zoo_tf.walker.folding import fold
from zoo_tf.walker.graph import ELEMENTS, Graph
from zoo_tf.walker.lowerings import LOWERINGS
from zoo_tf.walker.values import Layout, RefusedError, Value, axis_in, kind_of
from zoo_tf.walker.walk import Walk

IR_VERSION = 10  # of onnx 1.16, which first had opset 21; a newer one locks older runtimes out
LATEST = 21  # the newest opset whose operators the lowerings were checked against
OLDEST = 18


def export(
    model: Any, path: Path, *, opset: int, inputs: Sequence[str], outputs: Sequence[str]
) -> onnx.ModelProto:
    """Write a functional or sequential float32 model in inference mode; returns what was written.

    inputs, outputs: names for the model's, in its order.  An input of rank 4 is images: NHWC in Keras, NCHW
    in the file.  Integers are int64 in the file.  Batch (and length, height, width where the model leaves
    them open) stay open.  Raises RefusedError, which names the layer.
    """
    if not OLDEST <= opset <= LATEST:
        raise RefusedError(f"opset {opset}: the walker writes {OLDEST} to {LATEST}")
    walk = Walk(Graph(opset), LOWERINGS)
    values = [_input(t, name) for t, name in zip(model.inputs, inputs, strict=True)]
    found = walk.lower(model, [values], {})
    proto = _proto(walk.graph, values, found, list(outputs))
    data = proto.SerializeToString(deterministic=True)
    onnx.checker.check_model(data)
    path.write_bytes(data)
    return proto


def _input(tensor: Any, name: str) -> Value:
    shape, dtype = tuple(tensor.shape), kind_of(tensor.dtype)
    images = len(shape) == 4 and dtype == "float32"
    return Value(name, shape, Layout.FIRST if images else Layout.KERAS, dtype)


def _proto(
    graph: Graph, inputs: Sequence[Value], found: Sequence[Value], names: Sequence[str]
) -> onnx.ModelProto:
    ends = []
    for value, name in zip(found, names, strict=True):
        plain = graph.keras_order(value)
        graph.nodes.append(helper.make_node("Identity", [plain.name], [name]))
        ends.append(_described(Value(name, value.shape, dtype=value.dtype)))
    fold(graph, keep=names)
    _number(graph, {value.name for value in inputs} | set(names))
    weights = [numpy_helper.from_array(array, name) for name, array in graph.weights.items()]
    proto = helper.make_graph(graph.nodes, "backbone", [_described(v) for v in inputs], ends, weights)
    opset = helper.make_opsetid("", graph.opset)
    return helper.make_model(
        proto, opset_imports=[opset], ir_version=IR_VERSION, producer_name="backbone zoo"
    )


def _described(value: Value) -> onnx.ValueInfoProto:
    """Name, type and sizes as they lie in the file."""
    sizes: list[Any] = [None] * value.rank
    for axis, size in enumerate(value.shape):
        open_name = "batch" if axis == 0 else _open_axis(value, axis)
        sizes[axis_in(value, axis)] = size if size is not None else open_name
    return helper.make_tensor_value_info(value.name, ELEMENTS[value.dtype], sizes)


def _open_axis(value: Value, axis: int) -> str:
    if value.layout is Layout.FIRST:
        return {1: "height", 2: "width"}.get(axis, "channels")
    return "length" if value.rank <= 3 and axis == 1 else f"{value.name}_{axis}"


def _number(graph: Graph, kept: set[str]) -> None:
    """Names in the order of the folded graph; weights that nothing reads any more are gone."""
    names: dict[str, str] = {name: name for name in kept} | {"": ""}
    weights: dict[str, Any] = {}
    for index, node in enumerate(graph.nodes):
        for position, name in enumerate(node.input):
            if name in graph.weights and name not in names:
                names[name] = f"weight_{len(weights)}"
                weights[names[name]] = graph.weights[name]
            node.input[position] = names[name]
        for position, name in enumerate(node.output):
            node.output[position] = names.setdefault(name, f"value_{index}")
        node.name = f"{node.op_type}_{index}"
    graph.weights = weights
