"""Matrix products: Dense, EinsumDense, matmul, einsum."""

from __future__ import annotations

from typing import Any

import numpy as np

from zoo_tf.start import keras
from zoo_tf.walker.lowerings.convolution import convolve
from zoo_tf.walker.values import Layout, RefusedError, Value, as_array, broadcast
from zoo_tf.walker.walk import Walk

np_ops = keras.src.ops.numpy


def dense(walk: Walk, layer: Any, x: Value) -> Value:
    """On a flattened map the kernel's rows are put into the map's order; on a map it is a 1 x 1 convolution."""
    kernel, bias = as_array(layer.kernel), as_array(layer.bias) if layer.use_bias else None
    return walk.activation(layer.activation, _linear(walk, x, kernel, bias))


def _linear(walk: Walk, x: Value, kernel: np.ndarray, bias: np.ndarray | None) -> Value:
    graph, shape = walk.graph, (*x.shape[:-1], kernel.shape[1])
    if x.layout is Layout.FLAT:
        assert x.grid is not None
        kernel = kernel.reshape(*x.grid, -1).transpose(2, 0, 1, 3).reshape(kernel.shape)
    if x.rank == 2:
        weights = [graph.constant(w) for w in (kernel, bias) if w is not None]
        return graph.node("Gemm", [x, *weights], shape)
    if x.layout is Layout.FIRST:
        ones = (1,) * (x.rank - 2)
        turned = kernel.T.reshape(*kernel.T.shape, *ones)
        return convolve(walk, x, turned, bias, shape, strides=ones, dilation=ones, rule="valid")
    product = graph.node("MatMul", [x, graph.constant(kernel)], shape)
    return product if bias is None else graph.same("Add", product, graph.constant(bias))


def einsum_dense(walk: Walk, layer: Any, x: Value) -> Value:
    """A projection to or from heads: one matrix product and a change of shape; others as ONNX's Einsum."""
    kernel, graph = as_array(layer.kernel), walk.graph
    bias = None if layer.bias is None else as_array(layer.bias)
    x, shape = graph.keras_order(x), tuple(layer.compute_output_shape(x.shape))
    summed = _summed_axes(layer.equation, x.rank, kernel.ndim, len(shape))
    if summed is None:
        found = graph.node("Einsum", [x, graph.constant(kernel)], shape, {"equation": layer.equation})
        if bias is not None:
            found = graph.same("Add", found, graph.constant(bias))
        return walk.activation(layer.activation, found)
    flat = kernel.reshape(int(np.prod(kernel.shape[:summed])), -1)
    if bias is not None and bias.size != flat.shape[1]:
        raise RefusedError(f"a bias of shape {bias.shape} in {layer.equation}")
    found = _linear(walk, merged(walk, x, summed), flat, None if bias is None else bias.reshape(-1))
    return walk.activation(layer.activation, reshaped(walk, found, shape, x.rank - summed))


def _summed_axes(equation: str, rank: int, kernel_rank: int, out_rank: int) -> int | None:
    """How many last axes of the input are the first ones of the kernel ("abc,cde->abde": 1), or None."""
    left, _, result = equation.replace(" ", "").partition("->")
    data, _, kernel = left.partition(",")
    plain = f"{data}{kernel}{result}".isalpha() and (len(data), len(kernel)) == (rank, kernel_rank)
    for summed in range(1, min(rank, kernel_rank)):
        if plain and data[-summed:] == kernel[:summed] and result == data[:-summed] + kernel[summed:]:
            return summed
    return None


def merged(walk: Walk, x: Value, count: int) -> Value:
    """The last `count` axes as one; they must be closed."""
    if count == 1:
        return x
    sizes = [int(size or 0) for size in x.shape[-count:]]
    if 0 in sizes:
        raise RefusedError("a sum over axes of open size")
    whole = int(np.prod(sizes))
    kept = x.rank - count
    target = walk.graph.constant(np.array([0] * kept + [whole]))
    return walk.graph.node("Reshape", [x, target], (*x.shape[:kept], whole))


def reshaped(walk: Walk, x: Value, shape: tuple[int | None, ...], kept: int) -> Value:
    """To `shape`, whose first `kept` axes are those of x and whose others are closed."""
    if len(shape) == x.rank:
        return x
    target = walk.graph.constant(np.array([0] * kept + [int(size or 0) for size in shape[kept:]]))
    return walk.graph.node("Reshape", [x, target], shape)


def matmul(walk: Walk, op: Any, a: Any, b: Any) -> Value:
    graph = walk.graph
    first, second = (graph.keras_order(x) if isinstance(x, Value) else graph.value(x) for x in (a, b))
    if min(first.rank, second.rank) < 2 or "int64" in (first.dtype, second.dtype):
        raise RefusedError("a product of vectors or of integers")
    batch = broadcast(first.shape[:-2], second.shape[:-2])
    return graph.node("MatMul", [first, second], (*batch, first.shape[-2], second.shape[-1]))


def einsum(walk: Walk, op: Any, *operands: Any) -> Value:
    graph, equation = walk.graph, op.subscripts.replace(" ", "")
    values = [graph.keras_order(x) if isinstance(x, Value) else graph.value(x) for x in operands]
    terms, arrow, result = equation.partition("->")
    if not arrow or "." in equation or any(v.dtype != "float32" for v in values):
        raise RefusedError(f"einsum {op.subscripts!r}")
    sizes: dict[str, int | None] = {}
    for letters, value in zip(terms.split(","), values, strict=True):
        sizes |= {c: size for c, size in zip(letters, value.shape, strict=True) if size is not None}
    shape = tuple(sizes.get(letter) for letter in result)
    return graph.node("Einsum", values, shape, {"equation": equation})


LOWERINGS: dict[Any, Any] = {
    keras.layers.Dense: dense,
    keras.layers.EinsumDense: einsum_dense,
    np_ops.Matmul: matmul,
    np_ops.Einsum: einsum,
}
