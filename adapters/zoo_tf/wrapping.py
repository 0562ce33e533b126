"""Somebody's own keras.Model as a backbone: functional and sequential models, whose graph can be cut."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from zoo.cards import ImagePreprocess, Preprocess, TextPreprocess
from zoo.engine import Array
from zoo.errors import InputError
from zoo_tf.images import head_values, without_dropout
from zoo_tf.network import IMAGES, Network, build_network, layer_names
from zoo_tf.start import keras


def network(
    module: keras.Model,
    *,
    preprocess: Preprocess,
    head: str,
    blocks: Mapping[str, Sequence[str]] | None,
) -> tuple[Network, tuple[Array, Array]]:
    """The backbone before the Dense called `head`, and that Dense's values. Raises InputError."""
    try:
        layer = module.get_layer(head)
        features = without_dropout(module, layer.input)
        backbone = keras.Model(module.inputs, features)
    except (ValueError, AttributeError, TypeError) as error:
        raise InputError(
            f"cannot wrap {module.name!r}: a functional or sequential keras.Model that was built, with a layer "
            f"{head!r} called once, is needed ({' '.join(str(error).split())[:200]})"
        ) from error
    if not isinstance(layer, keras.layers.Dense) or len(features.shape) != 2:
        raise InputError(f"head={head!r} must name the last Dense, on features [N, D]")
    return _network(backbone, preprocess, _rule(backbone, blocks), blocks), head_values(layer)


def rebuild(architecture: Mapping[str, Any], preprocess: Preprocess) -> Network:
    """The network that `network` described; Keras's safe mode refuses layers that hold code."""
    blocks = architecture["blocks"]
    backbone = keras.models.model_from_json(json.dumps(architecture["model"]))
    return _network(backbone, preprocess, _rule(backbone, blocks), blocks)


def _network(
    backbone: keras.Model, preprocess: Preprocess, rule: Any, blocks: Mapping[str, Sequence[str]] | None
) -> Network:
    return build_network(
        _ordered(backbone, preprocess),
        inputs=IMAGES if isinstance(preprocess, ImagePreprocess) else preprocess.inputs,
        rule=rule,
        preprocess=preprocess,
        architecture=_description(backbone, blocks),
        first=next(iter(blocks)) if blocks else next(iter(layer_names(backbone).values())),
    )


def _ordered(backbone: keras.Model, preprocess: Preprocess) -> keras.Model:
    """With its inputs in the order of the preprocess: images NHWC, or ids by their names."""
    if isinstance(preprocess, TextPreprocess):
        given = {tensor.name: tensor for tensor in backbone.inputs}
        if given.keys() != set(preprocess.inputs):
            raise InputError(
                f"the model takes {', '.join(given)}, its preprocess gives {', '.join(preprocess.inputs)}: "
                "name the inputs alike"
            )
        return keras.Model([given[name] for name in preprocess.inputs], backbone.outputs[0])
    if len(backbone.inputs) != 1 or len(backbone.inputs[0].shape) != 4 or backbone.inputs[0].shape[-1] != 3:
        raise InputError("an image model must take one input [N, height, width, 3]")
    return backbone


def _rule(backbone: keras.Model, blocks: Mapping[str, Sequence[str]] | None) -> Any:
    """Named blocks, complete; or a block for each layer with weights, called like it."""
    names = layer_names(backbone)
    if blocks is None:
        weighted = {name for layer, name in names.items() if backbone.get_layer(layer).weights}
        return lambda name: name if name in weighted else None
    if unknown := sorted({layer for layers in blocks.values() for layer in layers} - names.keys()):
        raise InputError(f"blocks name layers that the model has not: {', '.join(unknown)}")
    chosen = {names[layer]: block for block, layers in blocks.items() for layer in layers}
    missing = [
        layer for layer, name in names.items() if name not in chosen and backbone.get_layer(layer).weights
    ]
    if missing:
        raise InputError(f"blocks leave out layers with weights: {', '.join(missing)}")
    return chosen.get


def _description(backbone: keras.Model, blocks: Mapping[str, Sequence[str]] | None) -> dict[str, Any] | None:
    """JSON to make it again, or None where it holds layers that only its author's code can make."""
    try:
        model = json.loads(backbone.to_json())
        keras.models.model_from_json(json.dumps(model))
    except (ValueError, TypeError, NotImplementedError):
        return None
    plain = None if blocks is None else {block: list(layers) for block, layers in blocks.items()}
    return {"kind": "wrapped", "model": model, "blocks": plain}
