"""Layers of KerasHub that ask for a batch or a length, which symbols leave open: written out by hand.

Its other layers are taken apart into the Keras layers and keras.ops that they are made of. KerasHub takes
five seconds to import, so its classes are named here, not imported; a test holds the names against it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from zoo_tf.walker.lowerings.elementwise import binary
from zoo_tf.walker.lowerings.indexing import embedding
from zoo_tf.walker.lowerings.shaping import concatenate, reshape
from zoo_tf.walker.values import RefusedError, Value, as_array
from zoo_tf.walker.walk import Walk

MODELING, MODELS = "keras_hub.src.layers.modeling", "keras_hub.src.models"


# --- texts
def position_embedding(
    walk: Walk, layer: Any, x: Value, start_index: int = 0, positions: Value | None = None
) -> Value:
    """The first L rows of a table, for each text. x: [N, L, D]."""
    if start_index != 0 or positions is not None:
        raise RefusedError("it is called with positions")
    graph, x = walk.graph, walk.graph.keras_order(x)
    table = graph.value(as_array(layer.position_embeddings)[None])
    limits = [graph.constant(np.array([0])), graph.length(x, -2), graph.constant(np.array([1]))]
    rows = graph.node("Slice", [table, *limits], (1, *x.shape[-2:]))
    # The addition that follows does this by itself; folding takes it out then.
    return graph.node("Expand", [rows, graph.node("Shape", [x], (x.rank,), dtype="int64")], x.shape)


def reversible_embedding(walk: Walk, layer: Any, x: Value, reverse: bool = False) -> Value:
    if reverse:
        raise RefusedError("it is called in reverse")
    return embedding(walk, layer, x)


# --- images as rows of patches (Dosovitskiy et al. 2021)
def vit_embedding(walk: Walk, layer: Any, x: Value) -> Value:
    """Patches behind a class token, plus their positions."""
    tokens = [layer.class_token] if layer.use_class_token else []
    found = behind(walk, tokens, patches(walk, layer.patch_embedding, x))
    return binary(walk, "Add", found, as_array(layer.position_embedding.embeddings)[None])


def deit_embedding(walk: Walk, layer: Any, x: Value) -> Value:
    """The same with a second token, which learns from a teacher (Touvron et al. 2021)."""
    tokens = [layer.class_token, layer.distillation_token]
    found = behind(walk, tokens, patches(walk, layer.patch_embedding, x))
    return binary(walk, "Add", found, layer.position_embedding)


def deit_encoder(walk: Walk, layer: Any, x: Value) -> list[Value]:
    """Its blocks and last norm. Beside the result KerasHub gives two empty arrays, of states not asked for."""
    for block in layer.encoder_layers:
        x = walk.decompose(block, lambda y, block=block: block.call(y)[0], [x], {})[0]
    empty = [walk.graph.value(np.zeros((0, *[1] * rank), np.float32)) for rank in (2, 3)]
    return [walk.lower(layer.layer_norm, [x], {})[0], *empty]


def patches(walk: Walk, convolution: Any, x: Value) -> Value:
    """A map [N, h, w, D] of patches as [N, h w, D]."""
    found = walk.lower(convolution, [x], {})[0]
    count = None if None in found.shape[1:3] else int(np.prod(found.shape[1:3]))  # type: ignore[arg-type]
    return reshape(walk, found, (found.shape[0], count, found.shape[-1]), keeps_batch=True)


def behind(walk: Walk, tokens: list[Any], x: Value) -> Value:
    """Learned tokens [1, 1, D], the same for each image, in front of x [N, L, D]."""
    graph, copies = walk.graph, []
    for token in tokens:
        value = graph.value(token)
        shape = (x.shape[0], *value.shape[1:])
        copies.append(graph.node("Expand", [value, graph.sizes(x, shape)], shape))
    return concatenate(walk, [*copies, x], 1)


def affine(walk: Walk, layer: Any, x: Value) -> Value:
    """x times one number plus another."""
    return binary(walk, "Add", binary(walk, "Mul", x, layer.scale), layer.bias)


LOWERINGS: dict[Any, Any] = {
    f"{MODELING}.position_embedding.PositionEmbedding": position_embedding,
    f"{MODELING}.reversible_embedding.ReversibleEmbedding": reversible_embedding,
    f"{MODELS}.vit.vit_layers.ViTPatchingAndEmbedding": vit_embedding,
    f"{MODELS}.deit.deit_layers.DeiTEmbeddings": deit_embedding,
    f"{MODELS}.deit.deit_layers.DeiTEncoder": deit_encoder,
    f"{MODELS}.hgnetv2.hgnetv2_layers.HGNetV2LearnableAffineBlock": affine,
}
