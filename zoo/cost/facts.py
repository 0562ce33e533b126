"""What a graph is made of: parameters, bytes, operators, MACs, activations. Nothing is timed."""

from __future__ import annotations

import contextlib
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import onnx
import psutil

from zoo.cost.activations import activation_bytes, activation_tensors
from zoo.cost.inputs import METADATA_KEY, InputSpec, concrete_feed, draw
from zoo.cost.macs import macs, operands
from zoo.cost.precision import precision
from zoo.cost.reading import (
    all_graphs,
    all_nodes,
    external_files,
    input_spec,
    input_specs,
    metadata,
    read_graph,
)
from zoo.cost.refusals import refusal
from zoo.cost.shapes import Tensor, find_tensors
from zoo.errors import ModelFileError, ZooError

_FLOATS = (
    onnx.TensorProto.FLOAT,
    onnx.TensorProto.FLOAT16,
    onnx.TensorProto.BFLOAT16,
    onnx.TensorProto.DOUBLE,
)
_QUANTISED = (onnx.TensorProto.INT8, onnx.TensorProto.UINT8, onnx.TensorProto.INT4, onnx.TensorProto.UINT4)
_LARGE_CONSTANT = 64  # elements; smaller Constant nodes are scales, shapes and the like
# Where operators take their weights. Test models fill them by ConstantOfShape instead of holding them.
_WEIGHTS_AT = {
    "Conv": (1, 2),
    "ConvTranspose": (1, 2),
    "Gemm": (1, 2),
    "MatMul": (1,),
    "BatchNormalization": (1, 2),
}


@dataclass(frozen=True)
class GraphFacts:
    """Of one ONNX file.

    params: elements of the weights in it: float tensors (and 8- or 4-bit ones of rank 2 and more) that a
    node uses, without scalars and without BatchNormalization's statistics, which are no parameters.
    weight_bytes: of those.  nodes, operators (by type, the most frequent first; other domains' with their domain):
    functions inlined, those inside control flow included.  transposes: they cost time and compute nothing.
    opset: of the standard domain.
    """

    params: int
    weight_bytes: int
    nodes: int
    transposes: int
    opset: int
    operators: Mapping[str, int] = field(default_factory=dict)


def graph_facts(path: Path | str) -> GraphFacts:
    """Read them. Raises ModelFileError where the file is no ONNX graph."""
    return facts_of(read_graph(Path(path)))


def facts_of(model: onnx.ModelProto) -> GraphFacts:
    """The facts of a graph that was read."""
    weights = list(_weights(model.graph))
    opsets = [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
    operators = Counter(_operator(node) for node in all_nodes(model.graph))
    return GraphFacts(
        params=sum(math.prod(dims) for dims, _ in weights),
        weight_bytes=sum(_bytes(math.prod(dims), kind) for dims, kind in weights),
        nodes=operators.total(),
        transposes=operators["Transpose"],
        opset=max(opsets, default=0),
        operators=dict(operators.most_common()),
    )


def _operator(node: onnx.NodeProto) -> str:
    return node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}"


def _weights(graph: onnx.GraphProto) -> Iterator[tuple[Sequence[int], int]]:
    """Shape and data type of each, those inside control flow included."""
    nodes = list(all_nodes(graph))
    used = {name for node in nodes for i, name in enumerate(node.input) if not _statistic(node, i)}
    used |= {value.name for part in all_graphs(graph) for value in part.output}
    held = [tensor for part in all_graphs(graph) for tensor in part.initializer]
    for tensor in held:
        if tensor.name in used and math.prod(tensor.dims) > 1 and _is_weight(tensor):
            yield tensor.dims, tensor.data_type
    for node in nodes:
        for attribute in node.attribute if node.op_type == "Constant" else ():
            large = attribute.name == "value" and math.prod(attribute.t.dims) >= _LARGE_CONSTANT
            if large and _is_weight(attribute.t):
                yield attribute.t.dims, attribute.t.data_type
    yield from _filled(nodes, held)


def _filled(
    nodes: Sequence[onnx.NodeProto], held: Sequence[onnx.TensorProto]
) -> Iterator[tuple[Sequence[int], int]]:
    """Weights that are no tensors of the file: ConstantOfShape where an operator takes its weights."""
    weighing = {n.input[i] for n in nodes for i in _WEIGHTS_AT.get(n.op_type, ()) if i < len(n.input)}
    shapes = {t.name: t for t in held if t.data_type == onnx.TensorProto.INT64 and len(t.dims) == 1}
    for node in nodes:
        if node.op_type == "ConstantOfShape" and node.output[0] in weighing and node.input[0] in shapes:
            kinds = [a.t.data_type for a in node.attribute if a.name == "value"]
            dims = onnx.numpy_helper.to_array(shapes[node.input[0]]).tolist()
            yield dims, next(iter(kinds), onnx.TensorProto.FLOAT)


def _statistic(node: onnx.NodeProto, index: int) -> bool:
    """BatchNormalization(x, scale, bias, mean, variance): the last two are statistics."""
    return node.op_type == "BatchNormalization" and index in (3, 4)


def _is_weight(tensor: onnx.TensorProto) -> bool:
    return tensor.data_type in _FLOATS or (tensor.data_type in _QUANTISED and len(tensor.dims) > 1)


def _bytes(elements: int, kind: int) -> int:
    if kind in (onnx.TensorProto.INT4, onnx.TensorProto.UINT4):
        return elements // 2
    return elements * int(onnx.helper.tensor_dtype_to_np_dtype(kind).itemsize)


# --- for the meter
def describe(
    path: str,
    sequence_length: int,
    batch_sizes: Sequence[int] = (1,),
    inputs: Sequence[str] = (),
    custom_ops: bool = False,
) -> dict[str, Any]:
    """Fields of Cost that no run is needed for: file_bytes, params, weight_bytes, precision, operators, transposes,
    macs (of one input; None where they cannot be counted), and "error" where ONNX Runtime would refuse the file.

    Beside them "activation_bytes" by batch size (as text: JSON has no other keys; without those that cannot be
    counted) and "inputs", the names of what the graph takes.  inputs: as `concrete_feed` takes them.
    custom_ops: a library of operators is named, so those that ONNX Runtime lacks may be in it.
    Raises ModelFileError where the file is no graph, or lacks the files of its weights.
    """
    model, file = read_graph(Path(path)), Path(path)
    specs = input_specs(model)
    facts = facts_of(model)
    size = file.stat().st_size + sum(beside.stat().st_size for beside in external_files(model, file))
    found: dict[str, Any] = {
        "file_bytes": size,
        "params": facts.params,
        "weight_bytes": facts.weight_bytes,
        "operators": dict(facts.operators),
        "transposes": facts.transposes,
        "precision": precision(_weights(model.graph)),
        "macs": None,
        "activation_bytes": {},
        "inputs": [spec.name for spec in specs],
    }
    if error := refusal(model, file, custom_ops=custom_ops):
        return {**found, "error": error}
    for batch in _batches(specs, batch_sizes):
        counted = _counted(file, model, specs, batch, sequence_length, inputs)
        if found["macs"] is None and counted.macs is not None:
            found["macs"] = counted.macs // batch
        if counted.live is not None:
            found["activation_bytes"][str(batch)] = counted.live
        if batch == min(batch_sizes) and (error := _too_large(counted, batch)):
            return {**found, "error": error}
    return found


class _Counted(NamedTuple):
    """Of one run: MACs and activation bytes, None where they cannot be told; bytes of its largest tensor."""

    macs: int | None = None
    live: int | None = None
    largest: int = 0


def _batches(specs: Sequence[InputSpec], wanted: Sequence[int]) -> list[int]:
    """The batch sizes asked for, smallest first; where the graph fixes its own, that one too."""
    fixed = [spec.dims[0] for spec in specs[:1] if spec.dims and spec.dims[0]]
    return sorted({*wanted, *fixed})


def _counted(
    path: Path,
    model: onnx.ModelProto,
    specs: Sequence[InputSpec],
    batch: int,
    sequence_length: int,
    inputs: Sequence[str],
) -> _Counted:
    try:
        feed = concrete_feed(
            specs,
            metadata(model).get(METADATA_KEY),
            batch_size=batch,
            sequence_length=sequence_length,
            inputs=inputs,
        )
        arrays = draw(specs, feed)
    except ZooError:
        return _Counted()  # the meter's own load says it again, and there it ends the row
    tensors: dict[str, Tensor] = {}
    live = count = None
    with contextlib.suppress(ModelFileError):
        needed = activation_tensors(model)
        tensors = find_tensors(path, model, needed, arrays)
        live = activation_bytes(model, tensors)
    with contextlib.suppress(ModelFileError):
        wanted = operands(model)
        if not tensors.keys() >= wanted:
            tensors = find_tensors(path, model, wanted, arrays)
        count = macs(model, tensors)
    return _Counted(count, live, max((tensor.bytes for tensor in tensors.values()), default=0))


def _too_large(counted: _Counted, batch: int) -> str | None:
    """Why a run would not fit into this machine; None where it does."""
    held, memory = max(counted.live or 0, counted.largest), psutil.virtual_memory().total
    if held <= memory:
        return None
    return (
        f"one run of this graph at batch {batch} would hold {held / 1e9:,.0f} GB of tensors at once, and this machine "
        f"has {memory / 1e9:.0f} GB: export it with smaller shapes."
    )


# --- for people
def card(path: str, sequence_length: int = 128) -> dict[str, Any]:
    """What `describe` tells at batch 1 (or the batch that the graph fixes), with its inputs and outputs spelt out, its
    opsets and who made it; "error": why ONNX Runtime would refuse it, or None. Raises ModelFileError."""
    model = read_graph(Path(path))
    found = describe(path, sequence_length)
    live: Mapping[str, int] = found["activation_bytes"]
    batch = min(live, key=int, default="1")
    return {
        **found,
        "path": path,
        "producer": " ".join(filter(None, (model.producer_name, model.producer_version))),
        "opsets": {entry.domain or "ai.onnx": entry.version for entry in model.opset_import},
        "inputs": [str(spec) for spec in input_specs(model)],
        "outputs": [str(input_spec(value)) for value in model.graph.output],
        "batch_size": int(batch),
        "activation_bytes": live.get(batch),
        "error": found.get("error"),
    }
