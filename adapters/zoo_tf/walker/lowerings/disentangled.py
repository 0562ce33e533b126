"""DeBERTa's attention of KerasHub: content and relative position apart (He et al. 2021), for any length.

A score is content to content, plus content to position, plus position to content. The position is the
bucket of the distance between two tokens. KerasHub computes the buckets anew for each text; here they are a
table over all distances, made by KerasHub's own function, and looked up.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from zoo_tf.start import keras
from zoo_tf.walker.lowerings.activations import softmax
from zoo_tf.walker.lowerings.attention import mask_bias
from zoo_tf.walker.lowerings.dense import einsum_dense
from zoo_tf.walker.lowerings.elementwise import binary
from zoo_tf.walker.values import RefusedError, Value, as_array
from zoo_tf.walker.walk import Walk

MODELS = "keras_hub.src.models.deberta_v3"


def relative_embedding(walk: Walk, layer: Any, x: Value) -> Value:
    """A normed table [1, 2 k, D]; KerasHub repeats it for each text, which the attention here does not need."""
    table = walk.graph.value(as_array(layer.rel_embeddings)[None])
    return walk.lower(layer.layer_norm, [table], {})[0]


def self_attention(
    walk: Walk, layer: Any, x: Value, rel_embeddings: Value, attention_mask: Value | None = None
) -> Value:
    """x: [N, L, D]; rel_embeddings: [1, 2 k, D]; attention_mask: [N, 1 or L, L]."""
    graph = walk.graph
    query, key, value = (
        einsum_dense(walk, part, x) for part in (layer._query_dense, layer._key_dense, layer._value_dense)
    )
    placed_query, placed_key = (
        einsum_dense(walk, part, rel_embeddings) for part in (layer._query_dense, layer._key_dense)
    )
    content = _scores(walk, query, key)
    to_place = _chosen(walk, layer, _scores(walk, query, placed_key), x, sign=1)
    from_place = _chosen(walk, layer, _scores(walk, key, placed_query), x, sign=-1)
    turned = graph.node("Transpose", [from_place], from_place.shape, {"perm": [0, 1, 3, 2]})
    scores = binary(walk, "Add", binary(walk, "Add", content, to_place), turned)
    scores = binary(walk, "Mul", scores, np.float32(layer.scale_factor))
    if attention_mask is not None:
        scores = binary(walk, "Add", scores, mask_bias(walk, attention_mask))
    heads, width = value.shape[-2:]
    mixed = graph.node("MatMul", [softmax(walk, scores), _by_head(walk, value)], (*scores.shape[:3], width))
    rows = graph.node("Transpose", [mixed], (*x.shape[:2], heads, width), {"perm": [0, 2, 1, 3]})
    flat = graph.node("Reshape", [rows, graph.constant(np.array([0, 0, heads * width]))], x.shape)  # type: ignore[operator]
    return einsum_dense(walk, layer._output_dense, flat)


def _by_head(walk: Walk, x: Value) -> Value:
    n, length, heads, width = x.shape
    return walk.graph.node("Transpose", [x], (n, heads, length, width), {"perm": [0, 2, 1, 3]})


def _scores(walk: Walk, a: Value, b: Value) -> Value:
    """[N, heads, La, Lb] for [N, La, heads, D] and [N or 1, Lb, heads, D]."""
    n, length, heads, width = b.shape
    turned = walk.graph.node("Transpose", [b], (n, heads, width, length), {"perm": [0, 2, 3, 1]})
    shape = (a.shape[0], heads, a.shape[1], length)
    return walk.graph.node("MatMul", [_by_head(walk, a), turned], shape)


def _chosen(walk: Walk, layer: Any, scores: Value, x: Value, *, sign: int) -> Value:
    """[N, heads, L, L]: from scores [N, heads, L, 2 k] the one of each pair's bucket."""
    graph = walk.graph
    buckets = graph.node(
        "Gather", [graph.value(_table(layer, sign)), _distances(walk, layer, x)], (None, None)
    )
    parts = [graph.length(scores, 0), graph.length(scores, 1), graph.length(x, 1), graph.length(x, 1)]
    sizes = graph.node("Concat", parts, (4,), {"axis": 0}, dtype="int64")
    shape = (*scores.shape[:3], x.shape[1])
    indices = graph.node("Expand", [buckets, sizes], shape, dtype="int64")
    return graph.node("GatherElements", [scores, indices], shape, {"axis": 3})


def _table(layer: Any, sign: int) -> np.ndarray:
    """The bucket of each distance from -(P - 1) to P - 1, shifted to begin at 0; sign -1: of its opposite."""
    longest, span = int(layer.max_position_embeddings), int(layer.bucket_size)
    distances = keras.ops.convert_to_tensor(np.arange(-longest + 1, longest), "int32")
    buckets = as_array(layer._make_log_bucket_position(distances))
    return np.clip(sign * buckets + span, 0, 2 * span - 1)


def _distances(walk: Walk, layer: Any, x: Value) -> Value:
    """[L, L]: place in the table of query's position less key's."""
    graph, longest = walk.graph, int(layer.max_position_embeddings)
    if longest < 1:
        raise RefusedError(f"max_position_embeddings={longest}")
    length = graph.node("Squeeze", [graph.length(x, 1)], (), dtype="int64")
    zero, one = (graph.constant(np.array(v, np.int64)) for v in (0, 1))
    places = graph.node("Range", [zero, length, one], (None,), dtype="int64")
    column = graph.node("Unsqueeze", [places, graph.constant(np.array([1]))], (None, 1), dtype="int64")
    return binary(walk, "Add", binary(walk, "Sub", column, places), np.int64(longest - 1))


LOWERINGS: dict[Any, Any] = {
    f"{MODELS}.relative_embedding.RelativeEmbedding": relative_embedding,
    f"{MODELS}.disentangled_self_attention.DisentangledSelfAttention": self_attention,
}
