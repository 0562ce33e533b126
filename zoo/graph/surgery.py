"""Changing an ONNX graph: one Gemm as head, outputs cut away, names and dynamic axes as the project has them.

Everything here edits the ModelProto in place and runs nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from zoo.engine import HEAD_BIAS, HEAD_WEIGHT, Array
from zoo.errors import ExportError

FEATURES, LOGITS, IMAGES = "features", "logits", "images"
DEPTH_PREFIX = "features_"


def depth_output(depth: int) -> str:
    """The name of the output that holds the features at a depth."""
    return f"{DEPTH_PREFIX}{depth}"


def names(values: Collection[onnx.ValueInfoProto]) -> list[str]:
    """Names of inputs or outputs, in order."""
    return [value.name for value in values]


def subgraphs(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    """Graphs in a node's attributes: the branches of If, the bodies of Loop and Scan."""
    single = [a.g for a in node.attribute if a.HasField("g")]
    return single + [graph for a in node.attribute for graph in a.graphs]


def reads(node: onnx.NodeProto) -> set[str]:
    """Tensors that a node takes, those that its subgraphs capture from outside included."""
    found = {name for name in node.input if name}
    for graph in subgraphs(node):
        inner = {name for child in graph.node for name in reads(child)} | set(names(graph.output))
        made = {name for child in graph.node for name in child.output}
        found |= inner - made - set(names(graph.input)) - {t.name for t in graph.initializer}
    return found


def prune(model: onnx.ModelProto) -> None:
    """Drop nodes and initialisers that no output needs, and inputs that only repeat an initialiser."""
    graph = model.graph
    producer = {name: i for i, node in enumerate(graph.node) for name in node.output if name}
    needed: set[str] = set()
    kept: set[int] = set()
    waiting = names(graph.output)
    while waiting:
        name = waiting.pop()
        if name in needed:
            continue
        needed.add(name)
        if (index := producer.get(name)) is not None and index not in kept:
            kept.add(index)
            waiting.extend(reads(graph.node[index]))
    _leave(graph.node, kept)
    _leave(graph.initializer, {i for i, t in enumerate(graph.initializer) if t.name in needed})
    held = {tensor.name for tensor in graph.initializer}
    _leave(graph.input, {i for i, value in enumerate(graph.input) if value.name not in held})


def keep_outputs(model: onnx.ModelProto, wanted: Sequence[str]) -> None:
    """Leave these outputs, in this order, and nothing that only the others needed."""
    by_name = {value.name: value for value in model.graph.output}
    _keep(model.graph.output, [by_name[name] for name in wanted])
    prune(model)


def _leave(field: Any, wanted: Collection[int]) -> None:
    """Leave the members at these places, without copying one: they may hold half a gigabyte of weights."""
    for i in range(len(field) - 1, -1, -1):
        if i not in wanted:
            del field[i]


def _keep(field: Any, values: Sequence[Any]) -> None:
    """Replace a repeated field; copies first, since clearing the field ends its members."""
    copies = []
    for value in values:
        copies.append(type(value)())
        copies[-1].CopyFrom(value)
    del field[:]
    field.extend(copies)


def rename(model: onnx.ModelProto, mapping: Mapping[str, str]) -> None:
    """Rename tensors everywhere, in subgraphs too. A new name that another tensor has moves that one aside."""
    taken = {new for old, new in mapping.items() if new != old} - set(mapping)
    _rename_graph(model.graph, {**{name: f"{name}.inner" for name in taken}, **mapping})


def _rename_graph(graph: onnx.GraphProto, mapping: Mapping[str, str]) -> None:
    for values in (graph.input, graph.output, graph.initializer, graph.value_info):
        for value in values:
            value.name = mapping.get(value.name, value.name)
    for node in graph.node:
        for field in (node.input, node.output):
            field[:] = [mapping.get(name, name) for name in field]
        for inner in subgraphs(node):
            _rename_graph(inner, mapping)


def tidy(model: onnx.ModelProto, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    """Bring a raw export into the project's form: inputs and outputs by name and in order, axes dynamic.

    inputs: as the engine names them; a single input is renamed whatever it is called.
    Raises ExportError where the graph has other inputs or lacks an output.
    """
    graph = model.graph
    missing = [name for name in outputs if name not in names(graph.output)]
    if len(outputs) == len(graph.output) == 1 and missing:
        rename(model, {graph.output[0].name: outputs[0]})
        missing = []
    if missing:
        raise ExportError(
            f"the exporter wrote no output {', '.join(missing)}; it wrote {', '.join(names(graph.output))}"
        )
    keep_outputs(model, outputs)
    if len(inputs) == len(graph.input) == 1:
        rename(model, {graph.input[0].name: inputs[0]})
    if set(names(graph.input)) != set(inputs):
        raise ExportError(
            f"the exported graph takes {', '.join(names(graph.input))}; the model takes {', '.join(inputs)}"
        )
    by_name = {value.name: value for value in graph.input}
    _keep(graph.input, [by_name[name] for name in inputs])
    # Shapes that the exporter saw with its example batch are wrong for any other.
    del graph.value_info[:]
    for value in graph.input:
        set_axes(value, ["batch"] if value.name == IMAGES else ["batch", "length"])
    for value in graph.output:
        set_axes(value, ["batch"])


def set_axes(value: onnx.ValueInfoProto, symbols: Sequence[str]) -> None:
    """Name the first axes, so that any size is taken; the others stay as they are."""
    dims = value.type.tensor_type.shape.dim
    for dim, symbol in zip(dims, symbols, strict=False):
        dim.Clear()
        dim.dim_param = symbol


def add_features_shape(model: onnx.ModelProto, feature_dim: int) -> None:
    """Declare every features output as float32 [batch, D]: feature_dim, or at a depth of another width that one."""
    outputs = [value for value in model.graph.output if value.name != LOGITS]
    widths = _widths(model) if len(outputs) > 1 else {}
    for value in outputs:
        width = widths.get(value.name, feature_dim)
        value.CopyFrom(helper.make_tensor_value_info(value.name, TensorProto.FLOAT, ["batch", width]))


def _widths(model: onnx.ModelProto) -> dict[str, int]:
    """The last axis of each output as the graph's own nodes have it; what cannot be told is left out."""
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    for value in bare.graph.output:  # whatever the exporter said of them
        value.type.tensor_type.ClearField("shape")
    found = {}
    for value in onnx.shape_inference.infer_shapes(bare).graph.output:
        dims = value.type.tensor_type.shape.dim
        if dims and dims[-1].dim_value > 0:
            found[value.name] = int(dims[-1].dim_value)
    return found


def set_head(model: onnx.ModelProto, weight: Array, bias: Array) -> None:
    """Put logits = features @ weight.T + bias on the graph as one Gemm; whatever gave logits before goes.

    weight: float32 [C, D].  bias: float32 [C].
    """
    graph = model.graph
    keep_outputs(model, [FEATURES])
    rename(model, {name: f"{name}.inner" for name in _tensor_names(graph) & {LOGITS, HEAD_WEIGHT, HEAD_BIAS}})
    for name, value in ((HEAD_WEIGHT, weight), (HEAD_BIAS, bias)):
        graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(value, np.float32), name))
    graph.node.append(
        helper.make_node("Gemm", [FEATURES, HEAD_WEIGHT, HEAD_BIAS], [LOGITS], name="head", transB=1)
    )
    logits = helper.make_tensor_value_info(LOGITS, TensorProto.FLOAT, ["batch", len(bias)])
    features = onnx.ValueInfoProto()
    features.CopyFrom(graph.output[0])
    _keep(graph.output, [logits, features])


def _tensor_names(graph: onnx.GraphProto) -> set[str]:
    made = {name for node in graph.node for name in node.output}
    return made | {tensor.name for tensor in graph.initializer} | set(names(graph.input))


def depths(model: onnx.ModelProto) -> tuple[int, ...]:
    """Depths for which the graph has a features output, ascending."""
    found = [
        name.removeprefix(DEPTH_PREFIX) for name in names(model.graph.output) if name.startswith(DEPTH_PREFIX)
    ]
    return tuple(sorted(int(text) for text in found if text.isdigit()))
