"""From KerasHub's nested models to one flat graph: images or ids -> features, with its units and cuts.

KerasHub nests: a task holds a backbone, a backbone an encoder layer that holds all blocks. Freezing, cutting and
walking need the blocks themselves, so the graph is recorded anew, calling what is inside such containers. The
weights are the same objects: nothing is copied, and what is left out is gone.

Keras's own walk (`_run_through_graph`), its record of nodes (`_nodes_by_depth`, `_keras_history`) are private
names; a test pins them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from keras import ops

from zoo.errors import InputError
from zoo_tf.hub_families import Family
from zoo_tf.start import keras

MASK_SUM = 1e-9  # least sum of a mask: an empty text is 0 / this, not 0 / 0


class FirstOutput(keras.layers.Layer):
    """A layer that also returns attention scores, or None for them, which no graph can record: its first output."""

    def __init__(self, layer: Any) -> None:
        super().__init__(name=layer.name)
        self.layer = layer
        self.built = True

    def call(self, hidden: Any, training: Any = None) -> Any:
        """[N, L, D] -> [N, L, D]."""
        return self.layer(hidden, training=training)[0]

    def compute_output_shape(self, shape: Any) -> Any:
        """As it came."""
        return shape


class MatrixFourier(keras.layers.Layer):
    """FNet's layer (Lee-Thorp et al. 2021) with its Fourier transform as two products with cosines and sines.

    ONNX has no Fourier transform over an axis of open length. The real part of the two-dimensional one is
    C_L x C_D - S_L x S_D, where C[j, k] = cos(2 pi jk / n) and S its sine.
    """

    def __init__(self, layer: Any) -> None:
        super().__init__(name=layer.name)
        self.layer = layer
        self.built = True

    def call(self, hidden: Any, training: Any = None) -> Any:
        """[N, L, D] -> [N, L, D]."""
        layer = self.layer
        mixed = layer._mixing_layer_norm(hidden + _real_fourier(hidden))
        inner = layer._output_dense(layer._intermediate_dense(mixed))
        return layer._output_layer_norm(mixed + layer._output_dropout(inner, training=training))

    def compute_output_shape(self, shape: Any) -> Any:
        """As it came."""
        return shape


def _real_fourier(x: Any) -> Any:
    """[N, L, D] -> [N, L, D]: the real part of the transform over both axes."""
    along, across = _waves(ops.shape(x)[1]), _waves(ops.shape(x)[2])
    return ops.matmul(along[0], ops.matmul(x, across[0])) - ops.matmul(along[1], ops.matmul(x, across[1]))


def _waves(length: Any) -> tuple[Any, Any]:
    """Cosines and sines [n, n] of 2 pi jk / n; jk modulo n first, which keeps small angles exact."""
    steps = ops.arange(length, dtype="int32")
    turns = ops.mod(ops.expand_dims(steps, 1) * ops.expand_dims(steps, 0), length)
    angles = ops.cast(turns, "float32") * (2 * math.pi / ops.cast(length, "float32"))
    return ops.cos(angles), ops.sin(angles)


def _deit_encoder(encoder: Any) -> Any:
    def call(hidden: Any, **_: Any) -> Any:
        for block in encoder.encoder_layers:
            hidden = FirstOutput(block)(hidden)
        return (encoder.layer_norm(hidden),) * 3  # the two others, states and scores, are used by nobody

    return call


# Layers that hold the repeating units and no weights of their own, and those that no graph or no ONNX file can
# take as they are: what is called in their place.
CONTAINERS: Mapping[str, Any] = {
    "ViTEncoder": lambda layer: layer.call,
    "HGNetV2Encoder": lambda layer: layer.call,
    "DeiTEncoder": _deit_encoder,
    "FNetEncoder": MatrixFourier,
}


def replay(model: Any, inputs: Sequence[Any], *, symmetric: bool = False) -> Any:
    """The model's outputs on other symbolic inputs, with what containers hold called one by one.

    symmetric: layers of padding "same" and a stride pad both sides alike, as torch does; TensorFlow pads an even
    height one pixel less above than below.
    """
    graph = getattr(model, "_functional", None) or model  # a Sequential keeps its graph there

    def operation(node: Any) -> Any:
        if isinstance(node, keras.Model):
            return lambda tensors, **_: replay(node, _flat(tensors))
        if symmetric and getattr(node, "padding", "") == "same" and max(_pair(node, "strides")) > 1:
            return _padded(node)
        return CONTAINERS[kind](node) if (kind := type(node).__name__) in CONTAINERS else node

    return graph._run_through_graph(list(inputs), operation_fn=operation)


def _padded(layer: Any) -> Any:
    """The layer after padding of its own. The pooling it is used on comes after a ReLU: 0 is no maximum there."""
    size = _pair(layer, "kernel_size" if hasattr(layer, "kernel_size") else "pool_size")
    layer.padding = "valid"
    return lambda x: layer(
        keras.layers.ZeroPadding2D(tuple(n // 2 for n in size), name=f"{layer.name}_pad")(x)
    )


def _pair(layer: Any, name: str) -> tuple[int, ...]:
    value = getattr(layer, name, 1)
    return (value, value) if isinstance(value, int) else tuple(value)


def replace_backbone(task: Any, output: Any) -> Any:
    """The task's own graph after its backbone, on a backbone output that was recorded elsewhere."""

    def operation(node: Any) -> Any:
        if node is task.backbone:
            return lambda *_args, **_kwargs: output
        if isinstance(node, keras.Model):
            return lambda tensors, **_: replay(node, _flat(tensors))
        return node

    return task._run_through_graph(list(task.inputs), operation_fn=operation)


def _flat(tensors: Any) -> list[Any]:
    return list(keras.tree.flatten(tensors))


# --- pooling
def pooled(hidden: Any, mask: Any, mode: str) -> Any:
    """[N, L, D] and mask [N, L] -> [N, D]: mean or maximum over the tokens, or the first one."""
    if mode in ("cls", "first"):
        return hidden[:, 0, :]
    weights = ops.expand_dims(ops.cast(mask, hidden.dtype), -1)
    if mode == "max":
        return ops.max(hidden * weights + (weights - 1.0) * 1e9, axis=1)
    return ops.sum(hidden * weights, axis=1) / ops.maximum(ops.sum(weights, axis=1), MASK_SUM)


def average(hidden: Any) -> Any:
    """[N, H, W, C] or [N, L, C] -> [N, C]: the mean over places."""
    return ops.mean(hidden, axis=tuple(range(1, len(hidden.shape) - 1)))


def before_head(logits: Any) -> tuple[Any, Any]:
    """(features [N, D], the last Dense) of a classifier's symbolic output; dropout before it falls away.

    Raises InputError where the last layer with weights is no Dense.
    """
    layer, source = _maker(logits)
    while not (isinstance(layer, keras.layers.Layer) and layer.weights):
        layer, source = _maker(source)
    if not isinstance(layer, keras.layers.Dense):
        raise InputError(
            f"the classifier ends in a {type(layer).__name__}, not in a Dense: it has no features"
        )
    features = source
    while isinstance(_maker(features)[0], keras.layers.Dropout):
        features = _maker(features)[1]
    return features, layer


def _maker(tensor: Any) -> tuple[Any, Any]:
    """(the operation that made a tensor, that operation's first input)."""
    history = tensor._keras_history
    node = history.operation._inbound_nodes[history.node_index]
    return history.operation, (node.input_tensors or [None])[0]


# --- units
@dataclass(frozen=True)
class Cuts:
    """ends: depth -> the tensor there, the full depth last.  blocks: block -> names of layers.

    names: depth -> the block that ends there.
    """

    ends: Mapping[int, Any]
    blocks: Mapping[str, tuple[str, ...]]
    names: Mapping[int, str]

    def name(self, depth: int) -> str | None:
        """The block that ends at a depth."""
        return self.names.get(depth)


def cuts(family: Family, model: Any) -> Cuts:
    """A flat model's units by the family's patterns; their ends; every layer in one block."""
    calls = [(node.operation.name, node.outputs[0]) for node in _nodes(model)]
    ends = _ends(family, calls)
    layers = [layer.name for layer in model.layers if not isinstance(layer, keras.layers.InputLayer)]
    unit = re.compile(family.unit or "(?!)")
    first = next((name for name, _ in calls if unit.fullmatch(name)), None)
    names = _block_names(family, ends)
    reached = {names[depth]: ancestors([end]) for depth, end in ends.items()}
    before = [name for name, _ in calls[: next((i for i, c in enumerate(calls) if c[0] == first), 0)]]
    blocks: dict[str, list[str]] = {"embeddings" if family.reads_text else "stem": []}
    blocks |= {name: [] for name in names.values() if name not in blocks}
    stem, top = next(iter(blocks)), list(blocks)[-1]
    for layer in layers:
        found = stem if layer in before else next((b for b, have in reached.items() if layer in have), top)
        if unit.groups and (match := unit.fullmatch(layer)):
            found = names[_rank(family, calls)[int(match[1])]]
        blocks[found].append(layer)
    return Cuts(ends, {name: tuple(found) for name, found in blocks.items() if found}, names)


def _nodes(model: Any) -> list[Any]:
    """The recorded calls in the order in which they run, inputs left out."""
    depths = sorted(model._nodes_by_depth, reverse=True)
    return [n for d in depths for n in model._nodes_by_depth[d] if not n.is_input]


def _rank(family: Family, calls: Sequence[tuple[str, Any]]) -> dict[int, int]:
    """A stage's number in the layers' names -> its place, counted from 1."""
    numbers = {int(m[1]) for name, _ in calls if (m := re.fullmatch(family.unit, name))}
    return {number: place for place, number in enumerate(sorted(numbers), 1)}


def _ends(family: Family, calls: Sequence[tuple[str, Any]]) -> dict[int, Any]:
    if family.layered:
        start = [t for name, t in calls if re.fullmatch(family.start, name) and name != "rel_embedding"]
        units = [tensor for name, tensor in calls if re.fullmatch(family.unit, name)]
        ends = dict(enumerate([_one(unit) for unit in units], 1))
        return {0: start[-1], **ends} if start and family.reads_text else ends
    if not family.unit:
        return _by_resolution([tensor for _, tensor in calls])
    rank = _rank(family, calls)
    return {rank[int(m[1])]: t for name, t in calls if (m := re.fullmatch(family.unit, name))}


def _by_resolution(tensors: Sequence[Any]) -> dict[int, Any]:
    """Stages where nothing names them: the last map of each height, up to the last one of the lowest."""
    maps = [t for t in tensors if len(getattr(t, "shape", ())) == 4 and (t.shape[1] or 0) > 1]
    if not maps:
        return {}
    lowest = min(t.shape[1] for t in maps)
    last = max(i for i, t in enumerate(maps) if t.shape[1] == lowest)
    ends = {t.shape[1]: t for t in maps[: last + 1]}
    return dict(enumerate((ends[height] for height in sorted(ends, reverse=True)), 1))


def _one(value: Any) -> Any:
    """A layer that also returns its attention scores gives the hidden states first."""
    return value[0] if isinstance(value, list | tuple) else value


def _block_names(family: Family, ends: Mapping[int, Any]) -> dict[int, str]:
    """depth -> block; a text's depth 0 is its embeddings, its layers count from 0 as everywhere."""
    if family.layered:
        return {d: f"layer_{d - 1}" if d else "embeddings" for d in ends}
    return {depth: f"stage_{depth}" for depth in ends}


def ancestors(tensors: Sequence[Any]) -> set[str]:
    """Names of the operations that these symbolic tensors come from, their own makers among them."""
    found: set[str] = set()
    waiting, seen = list(tensors), set()
    while waiting:
        tensor = waiting.pop()
        history = tensor._keras_history
        mark = (id(history.operation), history.node_index)
        if mark in seen:
            continue
        seen.add(mark)
        found.add(history.operation.name)
        waiting += history.operation._inbound_nodes[history.node_index].input_tensors
    return found
