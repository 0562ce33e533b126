"""What an engine needs to know of a backbone: its graph, its blocks, its borders, names that last.

Everything here is a Keras functional model seen from outside, so one engine serves keras.applications,
KerasHub and somebody's own model.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from zoo.cards import Preprocess
from zoo.errors import InputError
from zoo_tf.start import keras, tf

IMAGES = ("images",)
SEED_STATE = "seed_generator_state"


@dataclass(frozen=True)
class Network:
    """A backbone: functional model from native inputs (in the order of `inputs`) to features [N, D].

    inputs: the project's names.  blocks: block -> names of the model's layers, all of them.
    taps: depth -> pooled features at that depth, a tensor of the same graph.
    architecture: JSON from which the adapter makes it again, without the head; None if it cannot.
    """

    backbone: keras.Model
    inputs: tuple[str, ...]
    blocks: Mapping[str, tuple[str, ...]]
    preprocess: Preprocess
    architecture: Mapping[str, Any] | None
    taps: Mapping[int, Any] = field(default_factory=dict)

    @property
    def feature_dim(self) -> int:
        """D."""
        return int(self.backbone.outputs[0].shape[-1])

    def signature(self) -> list[tf.TensorSpec]:
        """What the backbone takes: float32 [N, H, W, 3], or int32 [N, L] each; N and L open."""
        return [tf.TensorSpec([None, *t.shape[1:]], t.dtype) for t in self.backbone.inputs]

    def block_of_layer(self) -> dict[str, str]:
        """Layer name -> block."""
        return {layer: block for block, layers in self.blocks.items() for layer in layers}


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Keras draws its initializers' (and dropout layers') seeds from Python's global generator while a model
    is built; everything after that is stateless. So that generator is set for the while, then put back:
    the weights depend on `seed` alone, and nobody's random numbers move."""
    saved = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(saved)


def build_network(
    backbone: keras.Model,
    *,
    inputs: tuple[str, ...],
    rule: Callable[[str], str | None],
    preprocess: Preprocess,
    architecture: Mapping[str, Any] | None,
    taps: Mapping[int, Any] | None = None,
    first: str = "stem",
) -> Network:
    """A Network whose blocks come from `rule`: layer name -> block, or None for 'the block before'."""
    blocks: dict[str, list[str]] = {}
    current = first
    for layer, name in layer_names(backbone).items():
        current = rule(name) or current
        blocks.setdefault(current, []).append(layer)
    frozen = {block: tuple(layers) for block, layers in blocks.items()}
    return Network(backbone, inputs, frozen, preprocess, architecture, taps or {})


def layer_names(model: keras.Model) -> dict[str, str]:
    """Layer name -> the name that lasts, in graph order, without the inputs.

    Keras numbers unnamed layers by a counter of the process (`dense_3`); here they are numbered within
    the model. Raises InputError where two layers would get one name.
    """
    layers = [layer for layer in model.layers if not isinstance(layer, keras.layers.InputLayer)]
    counts: dict[str, int] = {}
    names = {layer.name: _lasting(layer.name, type(layer).__name__, counts) for layer in layers}
    if twice := sorted({n for n in names.values() if list(names.values()).count(n) > 1}):
        raise InputError(
            f"two layers would be called {', '.join(twice)}: give the model's layers other names"
        )
    return names


def variable_keys(model: keras.Model) -> dict[str, tuple[str, Any]]:
    """Lasting key -> (layer name, variable), every variable of the model once, but no random seeds.

    A key is the layer's lasting name and the rest of the variable's path: `conv1/kernel`.
    """
    keys: dict[str, tuple[str, Any]] = {}
    seen: set[int] = set()
    for layer, name in layer_names(model).items():
        counts: dict[str, dict[str, int]] = {}
        parts = model.get_layer(layer)._flatten_layers()  # KerasHub's own kinds are numbered as Keras's are
        kinds = _AUTOMATIC | {to_snake_case(type(part).__name__) for part in parts}
        for variable in model.get_layer(layer).variables:
            if variable.name == SEED_STATE or id(variable) in seen:
                continue
            seen.add(id(variable))
            key = f"{name}/{_within(variable.path, layer, counts, kinds)}"
            if key in keys:
                raise InputError(f"two variables would be called {key}: give the model's layers other names")
            keys[key] = (layer, variable)
    return keys


def seed_variables(model: keras.Model) -> list[Any]:
    """The state (int64 [2]) of each random generator inside the model: dropout's."""
    return [variable for variable in model.variables if variable.name == SEED_STATE]


def _lasting(name: str, kind: str, counts: dict[str, int]) -> str:
    base = to_snake_case(kind)
    if not re.fullmatch(rf"{re.escape(base)}(_\d+)?", name):
        return name
    counts[base] = counts.get(base, 0) + 1
    return f"{base}_{counts[base] - 1}"


def to_snake_case(kind: str) -> str:
    """Keras's own rule for the name of a layer that was given none."""
    name = re.sub(r"\W+", "", kind)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


def _within(path: str, layer: str, counts: dict[str, dict[str, int]], kinds: frozenset[str]) -> str:
    """The path below the layer; numbered parts ("dense_7") are counted anew from 0 within the layer."""
    parts = path.split("/")
    if layer in (outer := parts[:-1]):  # a variable may be called as its layer is: RoBERTa's embeddings
        parts = parts[len(outer) - outer[::-1].index(layer) :]
    return "/".join([*(_renumber(part, counts, kinds) for part in parts[:-1]), parts[-1]])


def _renumber(part: str, counts: dict[str, dict[str, int]], kinds: frozenset[str]) -> str:
    base = re.sub(r"_\d+$", "", part)
    if base not in kinds:
        return part
    known = counts.setdefault(base, {})
    return f"{base}_{known.setdefault(part, len(known))}"


_AUTOMATIC = frozenset(
    to_snake_case(name) for name in dir(keras.layers) if isinstance(getattr(keras.layers, name), type)
)


def take(model: keras.Model, tensors: Sequence[Any], training: Callable[[str], bool]) -> Any:
    """Run a functional model with a training flag for each layer: `training(layer name)`.

    Keras passes one flag to all, and `layer.trainable = False` stops BatchNorm but not dropout. The walk
    itself is Keras's own (`_run_through_graph`, a private name that a test pins). As in Keras's own walk
    the flag replaces a recorded one: Keras records `training=False` for every dropout.
    """

    def operation(node: Any) -> Any:
        if not isinstance(node, keras.Layer):
            return node

        def call(*args: Any, **kwargs: Any) -> Any:
            return node(*args, **{**kwargs, "training": training(node.name)})

        return call

    return model._run_through_graph(list(tensors), operation_fn=operation)
