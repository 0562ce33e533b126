"""What a graph is made of: parameters, bytes, nodes, Transposes, opset. Nothing is run."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import onnx

from zoo.cost.macs import count_macs, input_specs, read_graph
from zoo.cost.precision import precision
from zoo.errors import ModelFileError

_FLOATS = (
    onnx.TensorProto.FLOAT,
    onnx.TensorProto.FLOAT16,
    onnx.TensorProto.BFLOAT16,
    onnx.TensorProto.DOUBLE,
)
_QUANTISED = (onnx.TensorProto.INT8, onnx.TensorProto.UINT8, onnx.TensorProto.INT4, onnx.TensorProto.UINT4)
_LARGE_CONSTANT = 64  # elements; smaller Constant nodes are scales, shapes and the like


@dataclass(frozen=True)
class GraphFacts:
    """Of one ONNX file.

    params: elements of the weights in it: float tensors (and 8- or 4-bit ones of rank 2 and more) that a
    node uses, without scalars and without BatchNormalization's statistics, which are no parameters.
    weight_bytes: of those.  transposes: they cost time and compute nothing.  opset: of the standard domain.
    """

    params: int
    weight_bytes: int
    nodes: int
    transposes: int
    opset: int


def graph_facts(path: Path | str) -> GraphFacts:
    """Read them. Raises ModelFileError where the file is no ONNX graph."""
    model = read_graph(Path(path))
    weights = list(_weights(model.graph))
    opsets = [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
    return GraphFacts(
        params=sum(math.prod(tensor.dims) for tensor in weights),
        weight_bytes=sum(_bytes(tensor) for tensor in weights),
        nodes=len(model.graph.node),
        transposes=sum(node.op_type == "Transpose" for node in model.graph.node),
        opset=max(opsets, default=0),
    )


def _weights(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    used = {name for node in graph.node for i, name in enumerate(node.input) if not _statistic(node, i)}
    used |= {value.name for value in graph.output}
    for tensor in graph.initializer:
        if tensor.name in used and math.prod(tensor.dims) > 1 and _is_weight(tensor):
            yield tensor
    for node in graph.node:
        for attribute in node.attribute if node.op_type == "Constant" else ():
            if attribute.name == "value" and math.prod(attribute.t.dims) >= _LARGE_CONSTANT:
                yield from (attribute.t,) if _is_weight(attribute.t) else ()


def _statistic(node: onnx.NodeProto, index: int) -> bool:
    """BatchNormalization(x, scale, bias, mean, variance): the last two are statistics."""
    return node.op_type == "BatchNormalization" and index in (3, 4)


def _is_weight(tensor: onnx.TensorProto) -> bool:
    return tensor.data_type in _FLOATS or (tensor.data_type in _QUANTISED and len(tensor.dims) > 1)


def _bytes(tensor: onnx.TensorProto) -> int:
    elements: int = math.prod(tensor.dims)
    if tensor.data_type in (onnx.TensorProto.INT4, onnx.TensorProto.UINT4):
        return elements // 2
    return elements * int(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)


def describe(path: str, sequence_length: int) -> dict[str, int | str | None]:
    """file_bytes, params, precision and macs for the meter; macs are of one input, None where they cannot be counted.

    A graph that fixes its batch is counted at that batch. Raises ModelFileError where the file is no graph.
    """
    model = read_graph(Path(path))
    fixed = [spec.dims[0] for spec in input_specs(model) if spec.dims and spec.dims[0]]
    batch = fixed[0] if fixed else None
    macs: int | None = None
    with contextlib.suppress(ModelFileError):
        macs = count_macs(path, batch_size=batch or 1, sequence_length=sequence_length) // (batch or 1)
    size = Path(path).stat().st_size + _external_bytes(model, Path(path).parent)
    held = precision(_weights(model.graph))
    return {"file_bytes": size, "params": graph_facts(path).params, "precision": held, "macs": macs}


def _external_bytes(model: onnx.ModelProto, folder: Path) -> int:
    """Size of the files beside the graph that hold its large weights."""
    names = {
        entry.value
        for tensor in model.graph.initializer
        for entry in tensor.external_data
        if entry.key == "location"
    }
    files = [folder / name for name in names if not Path(name).is_absolute() and ".." not in Path(name).parts]
    return sum(file.stat().st_size for file in files if file.is_file())
