"""Multiply-accumulates of an ONNX graph, counted node by node at concrete shapes.

One MAC is one multiplication whose product is summed: convolutions, matrix products, contractions. Bias
additions, activations, normalisations and poolings are none. Shapes come from onnx's own inference; where
it cannot tell, the graph is run once and asked, so that nothing is missed in silence: what this module
cannot count it refuses, never calls 0. Conventions as in Sze et al. 2017, Efficient Processing of DNNs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import onnx
import onnx.inliner
import onnx.shape_inference

from zoo.cost.inputs import METADATA_KEY, InputSpec, concrete_feed, draw
from zoo.errors import ModelFileError

Shape: TypeAlias = tuple[int, ...]
Shapes: TypeAlias = dict[str, Shape]
_SMALL = 4096  # elements; larger initialisers hold weights, not shapes, and inference need not carry them


def count_macs(
    path: Path | str, *, batch_size: int = 1, sequence_length: int = 128, size: int | None = None
) -> int:
    """MACs of one run on `batch_size` inputs of `sequence_length` tokens, or of `size` pixels a side.

    sequence_length is cut to the model's longest; size None: the file's own, its metadata's, or 224.
    Raises ModelFileError where the file is no graph, fixes another batch, or holds a node not counted here.
    """
    path = Path(path)
    model = read_graph(path)
    nodes = [node for node in model.graph.node if _counts(node)]
    specs = input_specs(model)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    feed = concrete_feed(
        specs,
        metadata.get(METADATA_KEY),
        batch_size=batch_size,
        sequence_length=sequence_length,
        size=size,
    )
    needed = {name for node in nodes for name in _operands(node)}
    shapes = _inferred(model, feed.shapes)
    if unknown := sorted(needed - shapes.keys()):
        shapes |= _run_for_shapes(path, unknown, draw(specs, feed))
    return sum(_macs(node, shapes) for node in nodes)


def read_graph(path: Path) -> onnx.ModelProto:
    """The file without its external weights, local functions inlined. Raises ModelFileError."""
    try:
        model = onnx.load(str(path), load_external_data=False)
    except OSError as error:
        raise ModelFileError(f"cannot read {path}: {error.strerror or error}") from error
    except Exception as error:  # protobuf's DecodeError has no public, stable home
        raise ModelFileError(f"{path} is not an ONNX file: {error}") from error
    if not model.graph.node:
        raise ModelFileError(f"{path} is not an ONNX file, or its graph is empty: export the model again.")
    return onnx.inliner.inline_local_functions(model) if model.functions else model


def input_specs(model: onnx.ModelProto) -> list[InputSpec]:
    """The graph's inputs without those that are initialisers, as ONNX Runtime would list them."""
    weights = {tensor.name for tensor in model.graph.initializer}
    names = {
        onnx.TensorProto.FLOAT: "float",
        onnx.TensorProto.FLOAT16: "float16",
        onnx.TensorProto.DOUBLE: "double",
    }
    found = []
    for value in model.graph.input:
        if value.name in weights:
            continue
        kind = value.type.tensor_type.elem_type
        text = names.get(kind) or onnx.TensorProto.DataType.Name(kind).lower()
        dims = tuple(d.dim_value if d.dim_value > 0 else None for d in value.type.tensor_type.shape.dim)
        found.append(InputSpec(value.name, f"tensor({text})", dims))
    return found


# --- shapes
def _inferred(model: onnx.ModelProto, inputs: Mapping[str, Shape]) -> Shapes:
    """Every shape that onnx can infer once the inputs are concrete; initialisers' included."""
    shapes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    known = onnx.shape_inference.infer_shapes(_light(model, inputs), data_prop=True)
    for value in (*known.graph.value_info, *known.graph.output, *known.graph.input):
        tensor = value.type.tensor_type
        if tensor.HasField("shape") and all(d.HasField("dim_value") for d in tensor.shape.dim):
            shapes[value.name] = tuple(d.dim_value for d in tensor.shape.dim)
    return shapes


def _light(model: onnx.ModelProto, inputs: Mapping[str, Shape]) -> onnx.ModelProto:
    """A copy with concrete inputs and with large weights as mere inputs (protobuf ends at 2 GB)."""
    graph = model.graph
    kept = [t for t in graph.initializer if math.prod(t.dims) <= _SMALL]
    large = [
        onnx.helper.make_tensor_value_info(t.name, t.data_type, list(t.dims))
        for t in graph.initializer
        if math.prod(t.dims) > _SMALL
    ]
    fed = [
        onnx.helper.make_tensor_value_info(v.name, v.type.tensor_type.elem_type, inputs[v.name])
        for v in graph.input
        if v.name in inputs
    ]
    # Old value_info holds symbols ("batch") that would stand in the way of the numbers; so do the outputs'.
    outputs = [onnx.ValueInfoProto(name=value.name) for value in graph.output]
    light = onnx.helper.make_graph(graph.node, graph.name, [*fed, *large], outputs, kept)
    light.sparse_initializer.extend(graph.sparse_initializer)
    return onnx.helper.make_model(light, opset_imports=model.opset_import, ir_version=model.ir_version)


def _run_for_shapes(path: Path, names: Iterable[str], feed: Mapping[str, Any]) -> Shapes:
    """Run the graph once with `names` as further outputs, unoptimised so that they exist."""
    import onnxruntime  # only here: most graphs are counted without running them

    model = onnx.load(str(path), load_external_data=False)
    if model.functions:
        model = onnx.inliner.inline_local_functions(model)
    present = {value.name for value in model.graph.output}
    wanted = list(names)
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in wanted if name not in present)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.add_session_config_entry(
        "session.model_external_initializers_file_folder_path", str(path.resolve().parent)
    )
    try:
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        return {
            name: tuple(value.shape) for name, value in zip(wanted, session.run(wanted, feed), strict=True)
        }
    except Exception as error:  # ONNX Runtime's exceptions share no base class but Exception
        raise ModelFileError(
            f"the MACs of {path.name} cannot be counted: the shapes of {', '.join(wanted[:3])} are neither "
            f"inferred nor found by running it: {str(error).splitlines()[0][:300]}"
        ) from error


# --- nodes
_CONV, _MATMUL = "conv", "matmul"
_PRODUCTS: Mapping[str, tuple[str, int, int]] = {
    # op: (formula, index of the activations, index of the weights)
    "Conv": (_CONV, 0, 1),
    "FusedConv": (_CONV, 0, 1),
    "ConvInteger": (_CONV, 0, 1),
    "QLinearConv": (_CONV, 0, 3),
    "ConvTranspose": ("transposed", 0, 1),
    "Gemm": ("gemm", 0, 1),
    "FusedGemm": ("gemm", 0, 1),
    "MatMul": (_MATMUL, 0, 1),
    "FusedMatMul": ("fused_matmul", 0, 1),
    "MatMulInteger": (_MATMUL, 0, 1),
    "MatMulIntegerToFloat": (_MATMUL, 0, 1),
    "DynamicQuantizeMatMul": (_MATMUL, 0, 1),
    "QLinearMatMul": (_MATMUL, 0, 3),
    "Einsum": ("einsum", 0, 1),
}
# They multiply and accumulate, and no formula for them is here.
_UNCOUNTED = {"LSTM", "GRU", "RNN", "Attention", "DeformConv", "DFT", "STFT", "Loop", "Scan", "If", "Det"}
# ONNX Runtime's own operators that do not multiply and accumulate; its others are refused.
_HARMLESS = {
    "Gelu", "FastGelu", "BiasGelu", "QuickGelu", "SkipLayerNormalization", "LayerNormalization",
    "SimplifiedLayerNormalization", "SkipSimplifiedLayerNormalization", "EmbedLayerNormalization",
    "QuantizeLinear", "DequantizeLinear", "QLinearAdd", "QLinearMul", "QLinearSigmoid", "QLinearLeakyRelu",
    "QLinearAveragePool", "QLinearGlobalAveragePool", "QLinearConcat", "QLinearSoftmax", "BiasSoftmax",
}  # fmt: skip


def _counts(node: onnx.NodeProto) -> bool:
    """Whether the node has MACs. Raises ModelFileError where that is not known here."""
    if node.op_type in _PRODUCTS:
        return True
    standard = node.domain in ("", "ai.onnx", "ai.onnx.ml")
    subgraphs = [a.g for a in node.attribute if a.type == onnx.AttributeProto.GRAPH]
    if subgraphs and not any(_counts(inner) for graph in subgraphs for inner in graph.node):
        return False
    if node.op_type in _UNCOUNTED or subgraphs or not (standard or node.op_type in _HARMLESS):
        raise ModelFileError(
            f"the MACs of this graph cannot be counted: its node {node.name or node.output[0]!r} is a "
            f"{node.domain or 'ai.onnx'} {node.op_type}, for which there is no formula here."
        )
    return False


def _operands(node: onnx.NodeProto) -> list[str]:
    """The tensors whose shapes the formula needs."""
    if node.op_type == "Einsum":
        return [name for name in node.input if name]
    _, left, right = _PRODUCTS[node.op_type]
    return [node.input[left], node.input[right], node.output[0]]


def _macs(node: onnx.NodeProto, shapes: Shapes) -> int:
    formula, left, right = _PRODUCTS[node.op_type]
    if formula == "einsum":
        return _einsum(node, [shapes[name] for name in node.input])
    count = _FORMULAS[formula]
    return count(node, shapes[node.input[left]], shapes[node.input[right]], shapes[node.output[0]])


def _conv(node: onnx.NodeProto, x: Shape, w: Shape, y: Shape) -> int:
    """Each output is a sum over [C_in / groups, kernel...]: w is [C_out, C_in / groups, kernel...]."""
    return math.prod(y) * math.prod(w[1:])


def _transposed(node: onnx.NodeProto, x: Shape, w: Shape, y: Shape) -> int:
    """Each input is spread over [C_out / groups, kernel...]: w is [C_in, C_out / groups, kernel...]."""
    return math.prod(x) * math.prod(w[1:])


def _gemm(node: onnx.NodeProto, x: Shape, w: Shape, y: Shape) -> int:
    return math.prod(y) * x[0 if _attribute(node, "transA", 0) else 1]


def _matmul(node: onnx.NodeProto, x: Shape, w: Shape, y: Shape) -> int:
    return math.prod(y) * x[-1]


def _fused_matmul(node: onnx.NodeProto, x: Shape, w: Shape, y: Shape) -> int:
    if _attribute(node, "transBatchA", 0):
        raise ModelFileError(f"the MACs of {node.name!r} cannot be counted: FusedMatMul with transBatchA.")
    return math.prod(y) * x[-2 if _attribute(node, "transA", 0) else -1]


_FORMULAS: Mapping[str, Callable[[onnx.NodeProto, Shape, Shape, Shape], int]] = {
    _CONV: _conv,
    "transposed": _transposed,
    "gemm": _gemm,
    _MATMUL: _matmul,
    "fused_matmul": _fused_matmul,
}


def _einsum(node: onnx.NodeProto, operands: list[Shape]) -> int:
    """The product of all index ranges where two operands are contracted; element-wise products count 0."""
    equation = _attribute(node, "equation", b"").decode().replace(" ", "")
    inputs, _, output = equation.partition("->")
    terms = inputs.split(",")
    if "." in equation or "->" not in equation or len(terms) > 2:
        raise ModelFileError(f"the MACs of the Einsum {equation!r} cannot be counted: no formula here.")
    ranges = {
        letter: extent
        for term, shape in zip(terms, operands, strict=True)
        for letter, extent in zip(term, shape, strict=True)
    }
    contracted = len(terms) == 2 and set(terms[0]) & set(terms[1]) - set(output)
    return math.prod(ranges.values()) if contracted else 0


def _attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    found = [a for a in node.attribute if a.name == name]
    return onnx.helper.get_attribute_value(found[0]) if found else default
