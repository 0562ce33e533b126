"""Attention of Keras's own layers and operation (Vaswani et al. 2017), on [N, L, ...] of open length."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from zoo_tf.start import keras
from zoo_tf.walker.lowerings.activations import softmax
from zoo_tf.walker.lowerings.dense import einsum_dense
from zoo_tf.walker.lowerings.elementwise import binary
from zoo_tf.walker.values import RefusedError, Value
from zoo_tf.walker.walk import Walk

nn = keras.src.ops.nn
HIDDEN = -1e9
"""What a mask takes from a score, as Keras's masked softmax does: a text of padding alone stays finite."""


def multi_head(
    walk: Walk,
    layer: Any,
    query: Value,
    value: Value,
    key: Value | None = None,
    attention_mask: Value | None = None,
    return_attention_scores: bool = False,
    use_causal_mask: bool = False,
) -> Value:
    """keras.layers.MultiHeadAttention on sequences."""
    if return_attention_scores:
        raise RefusedError("its scores are asked for")
    if layer._use_gate or layer._sliding_window is not None or tuple(layer._attention_axes) != (1,):
        raise RefusedError("a gate, a sliding window or other axes than the first")
    q = einsum_dense(walk, layer.query_dense, query)
    k = einsum_dense(walk, layer.key_dense, value if key is None else key)
    v = einsum_dense(walk, layer.value_dense, value)
    bias = None if attention_mask is None else mask_bias(walk, attention_mask)
    if use_causal_mask:
        bias = _sum(walk, bias, causal_bias(walk, query))
    found = attend(walk, q, k, v, bias=bias, scale=1.0 / math.sqrt(layer.key_dim))
    return einsum_dense(walk, layer.output_dense, found)


def attend(walk: Walk, q: Value, k: Value, v: Value, *, bias: Value | None, scale: float) -> Value:
    """softmax(q k' scale + bias) v for [N, L, heads, D] each; bias [N or 1, 1 or heads, T, S]."""
    graph = walk.graph
    n, length, heads, _ = q.shape
    q = binary(walk, "Mul", graph.keras_order(q), np.float32(scale))
    q = graph.node("Transpose", [q], (n, heads, length, q.shape[-1]), {"perm": [0, 2, 1, 3]})
    k = graph.node(
        "Transpose", [graph.keras_order(k)], (n, heads, k.shape[-1], k.shape[1]), {"perm": [0, 2, 3, 1]}
    )
    v = graph.node(
        "Transpose", [graph.keras_order(v)], (n, heads, v.shape[1], v.shape[-1]), {"perm": [0, 2, 1, 3]}
    )
    scores = graph.node("MatMul", [q, k], (n, heads, length, k.shape[-1]))
    if bias is not None:
        scores = graph.same("Add", scores, bias)
    mixed = graph.node("MatMul", [softmax(walk, scores), v], (n, heads, length, v.shape[-1]))
    return graph.node("Transpose", [mixed], (n, length, heads, v.shape[-1]), {"perm": [0, 2, 1, 3]})


def mask_bias(walk: Walk, mask: Value) -> Value:
    """0 where the mask [N, T, S] (or [N, heads, T, S]) is true, else -1e9: [N, 1, T, S]."""
    graph, mask = walk.graph, walk.graph.cast(walk.graph.keras_order(mask), "bool")
    if mask.rank == 3:
        shape = (mask.shape[0], 1, *mask.shape[1:])
        mask = graph.node("Unsqueeze", [mask, graph.constant(np.array([1]))], shape, dtype="bool")
    if mask.rank != 4:
        raise RefusedError(f"an attention mask of {mask.rank} axes")
    hidden = binary(walk, "Sub", np.float32(1), graph.cast(mask, "float32"))
    return binary(walk, "Mul", hidden, np.float32(HIDDEN))


def causal_bias(walk: Walk, x: Value) -> Value:
    """[1, 1, L, L]: a token sees itself and what came before. x: [N, L, ...]."""
    graph = walk.graph
    length = graph.node("Squeeze", [graph.length(graph.keras_order(x), 1)], (), dtype="int64")
    zero, one = (graph.constant(np.array(v, np.int64)) for v in (0, 1))
    places = graph.node("Range", [zero, length, one], (x.shape[1],), dtype="int64")
    column = graph.node("Unsqueeze", [places, graph.constant(np.array([1]))], (x.shape[1], 1), dtype="int64")
    seen = graph.node("GreaterOrEqual", [column, places], (x.shape[1], x.shape[1]), dtype="bool")
    raised = graph.node("Unsqueeze", [seen, graph.constant(np.array([0]))], (1, *seen.shape), dtype="bool")
    return mask_bias(walk, raised)


def attention_op(
    walk: Walk,
    op: Any,
    query: Value,
    key: Value,
    value: Value,
    bias: Value | None = None,
    mask: Value | None = None,
) -> Value:
    """keras.ops.dot_product_attention on [N, L, heads, D]."""
    found = None if bias is None else walk.graph.keras_order(bias)
    if mask is not None:
        found = _sum(walk, found, mask_bias(walk, mask))
    if op.is_causal:
        found = _sum(walk, found, causal_bias(walk, query))
    scale = 1.0 / math.sqrt(int(query.shape[-1] or 0)) if op.scale is None else float(op.scale)
    if query.shape[2] != key.shape[2]:
        raise RefusedError("fewer heads for keys than for queries")
    return attend(walk, query, key, value, bias=found, scale=scale)


def _sum(walk: Walk, a: Value | None, b: Value) -> Value:
    return b if a is None else binary(walk, "Add", a, b)


LOWERINGS: dict[Any, Any] = {
    keras.layers.MultiHeadAttention: multi_head,
    nn.DotProductAttention: attention_op,
}
