"""Multiply-accumulates of an ONNX graph, counted node by node at concrete shapes.

One MAC is one multiplication whose product is summed: convolutions, matrix products, contractions. Bias
additions, activations, normalisations and poolings are none. What this module cannot count it refuses, never
calls 0. Conventions as in Sze et al. 2017, Efficient Processing of DNNs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx

from zoo.cost.inputs import METADATA_KEY, concrete_feed, draw
from zoo.cost.reading import input_specs, metadata, read_graph
from zoo.cost.shapes import Shape, Shapes, Tensor, find_tensors
from zoo.errors import ModelFileError


def count_macs(
    path: Path | str,
    *,
    batch_size: int = 1,
    sequence_length: int = 128,
    size: int | None = None,
    inputs: Sequence[str] = (),
) -> int:
    """MACs of one run on `batch_size` inputs of `sequence_length` tokens, or of `size` pixels a side.

    sequence_length is cut to the model's longest; size None: the file's own, its metadata's, or 224.
    inputs: as `concrete_feed` takes them.
    Raises ModelFileError where the file is no graph, fixes another batch, or holds a node not counted here.
    """
    path = Path(path)
    model = read_graph(path)
    needed = operands(model)
    specs = input_specs(model)
    feed = concrete_feed(
        specs,
        metadata(model).get(METADATA_KEY),
        batch_size=batch_size,
        sequence_length=sequence_length,
        size=size,
        inputs=inputs,
    )
    return macs(model, find_tensors(path, model, needed, draw(specs, feed)))


def operands(model: onnx.ModelProto) -> set[str]:
    """The tensors whose shapes the count needs. Raises ModelFileError where a node is not counted here."""
    return {name for node in model.graph.node if _counts(node) for name in _operands(node)}


def macs(model: onnx.ModelProto, tensors: Mapping[str, Tensor]) -> int:
    """MACs of one run at those shapes; `tensors` holds the `operands`."""
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    return sum(_macs(node, shapes) for node in model.graph.node if _counts(node))


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
_UNCOUNTED = {
    "LSTM", "GRU", "RNN", "Attention", "DeformConv", "DFT", "STFT", "Loop", "Scan", "If", "Det",
    "LinearClassifier", "LinearRegressor", "SVMClassifier", "SVMRegressor",
}  # fmt: skip
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
