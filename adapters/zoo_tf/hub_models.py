"""A KerasHub model as the zoo's Network: a plan in JSON, from which it is made, cut, and made again.

KerasHub's arguments cannot say everything that a checkpoint was trained with: its BERT and ALBERT compute GELU
by tanh, and some epsilons are fixed. The plan carries the checkpoint's own, and they are put into the layers, so
that one folder gives the same numbers here and in transformers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from zoo.cards import Preprocess
from zoo.engine import Array
from zoo.errors import InputError
from zoo_tf.hub_families import Family, families
from zoo_tf.hub_graph import average, before_head, cuts, pooled, replace_backbone, replay
from zoo_tf.network import IMAGES, Network
from zoo_tf.start import keras

KIND = "keras_hub"
# KerasHub's names of a text backbone's inputs, and ours, in our order.
OURS = {"token_ids": "input_ids", "padding_mask": "attention_mask", "segment_ids": "token_type_ids"}
ACTIVATIONS = {
    "gelu": lambda x: keras.activations.gelu(x, approximate=False),
    "gelu_tanh": lambda x: keras.activations.gelu(x, approximate=True),
    "relu": keras.activations.relu,
    "silu": keras.activations.silu,
}
# Where KerasHub's layers keep the activation between the two halves of a feed-forward part.
_ACTIVATED = ("_feedforward_intermediate_dense", "intermediate_dense", "dense", "fc1")
DEFAULT_SIZE = 224


@dataclass(frozen=True)
class Plan:
    """What makes a network, JSON-able.

    family: kind of KerasHub's backbone.  backbone: its arguments.  task: the classifier's arguments beside the
    backbone, whose graph leads to the features; None: pooled by `pooling` ("mean", "max", "cls").
    depth: cut there; None: whole.  size: input pixels a side.  activation, eps: put into the layers; None: as
    KerasHub has them.  symmetric: strided 'same' layers pad both sides alike, as torch does.
    """

    family: str
    backbone: Mapping[str, Any] = field(default_factory=dict)
    task: Mapping[str, Any] | None = None
    pooling: str = "mean"
    depth: int | None = None
    size: int | None = None
    activation: str | None = None
    eps: float | None = None
    symmetric: bool = False

    @property
    def kind(self) -> Family:
        """The family's entry. Raises InputError for one that this KerasHub has not."""
        if self.family not in families():
            raise InputError(
                f"KerasHub has no classifier family {self.family!r} in the version installed here"
            )
        return families()[self.family]


def plan_of(model: Any, **options: Any) -> Plan:
    """The plan of a KerasHub backbone or task that exists already."""
    backbone = getattr(model, "backbone", None) or model
    kind = type(backbone).__name__.removesuffix("Backbone")
    task = None if model is backbone else _plain(model.get_config(), leave=_NOT_OPTIONS)
    arguments = _plain(backbone.get_config())
    if kind == "HGNetV2":  # it names its layers after itself
        arguments["name"] = backbone.name
    return Plan(kind, arguments, task, **options)


_NOT_OPTIONS = ("backbone", "preprocessor", "num_classes", "activation")


def _plain(config: Mapping[str, Any], leave: tuple[str, ...] = ()) -> dict[str, Any]:
    """Arguments without what the process gave (names, dtypes)."""
    return {k: v for k, v in config.items() if k not in ("name", "trainable", "dtype", *leave)}


def make(plan: Plan, *, classes: int = 1) -> Any:
    """A task, or the backbone alone where the plan has none, with fresh weights."""
    family = plan.kind
    backbone = family.backbone.from_config({**plan.backbone, "dtype": "float32"})
    if plan.task is None:
        return backbone
    return family.classifier(backbone=backbone, preprocessor=None, num_classes=classes, **plan.task)


def rebuild(architecture: Mapping[str, Any], preprocess: Preprocess) -> Network:
    """The network that `Network.architecture` describes, with fresh weights."""
    names = {f.name for f in dataclasses.fields(Plan)}
    plan = Plan(**{key: value for key, value in architecture.items() if key in names})
    return network(plan, make(plan), preprocess)[0]


def network(plan: Plan, model: Any, preprocess: Preprocess) -> tuple[Network, tuple[Array, Array] | None]:
    """The flat network of a task or backbone, and the head's (weight [C, D], bias [C]) where it is whole.

    Raises InputError for a depth or size that it has not.
    """
    backbone = getattr(model, "backbone", None) or model
    family = plan.kind
    _set_details(backbone, plan)
    model = _at_size(plan, model)
    whole, mask, head = _flat(plan, model)
    found = cuts(family, whole)
    taps = _taps(family, whole, found.ends, mask)
    depth = _depth(plan, taps)
    if depth is not None and depth < max(taps):
        whole, head = keras.Model(whole.inputs, taps[depth]), None
        taps = {d: tensor for d, tensor in taps.items() if d <= depth}
    left = {layer.name for layer in whole.layers}
    blocks = _left(found.blocks, left, None if depth is None else found.name(depth))
    inputs = tuple(t.name for t in whole.inputs) if family.reads_text else IMAGES
    made = Network(
        whole,
        inputs,
        blocks,
        preprocess,
        {"kind": KIND, **dataclasses.asdict(plan)},
        taps,
    )
    return made, None if head is None else _values(head)


def _left(
    blocks: Mapping[str, tuple[str, ...]], layers: set[str], last: str | None
) -> dict[str, tuple[str, ...]]:
    """The blocks of what is left of a network; what comes after the cut (norm, pooling) is the last one's."""
    names = list(blocks)
    kept = names if last not in names else names[: names.index(last) + 1]
    found = {block: [n for n in blocks[block] if n in layers] for block in kept}
    found[kept[-1]] += [n for block in names[len(kept) :] for n in blocks[block] if n in layers]
    return {block: tuple(own) for block, own in found.items() if own}


def _values(head: Any) -> tuple[Array, Array]:
    kernel = np.array(head.kernel.numpy())
    bias = np.zeros(kernel.shape[1], np.float32) if head.bias is None else np.array(head.bias.numpy())
    return np.ascontiguousarray(kernel.T), bias


# --- one flat graph
def _flat(plan: Plan, model: Any) -> tuple[Any, Any, Any]:
    """(model from our inputs to features, the mask's tensor or None, the head's Dense or None)."""
    family = plan.kind
    backbone = getattr(model, "backbone", None) or model
    inputs = _text_inputs(plan, backbone) if family.reads_text else _image_input(plan, backbone)
    native = (
        [inputs[OURS.get(t.name, t.name)] for t in backbone.inputs]
        if family.reads_text
        else [*inputs.values()]
    )
    output = replay(backbone, native, symmetric=plan.symmetric)
    mask = inputs.get("attention_mask")
    if model is not backbone:
        features, head = before_head(replace_backbone(model, output))
    else:
        features, head = _pool(plan, output, mask), None
    return keras.Model(list(inputs.values()), features), mask, head


def _text_inputs(plan: Plan, backbone: Any) -> dict[str, Any]:
    """Ids [N, L] by our names; a mask also where the backbone takes none but the pooling needs one."""
    have = {t.name for t in backbone.inputs}
    if plan.task is None and plan.pooling != "cls":
        have.add("padding_mask")
    names = [ours for native, ours in OURS.items() if native in have]
    return {name: keras.Input((None,), dtype="int32", name=name) for name in names}


def _image_input(plan: Plan, backbone: Any) -> dict[str, Any]:
    height, width = backbone.inputs[0].shape[1:3]
    size = plan.size or DEFAULT_SIZE
    return {"images": keras.Input((height or size, width or size, 3), name="images")}


def _pool(plan: Plan, output: Any, mask: Any) -> Any:
    """Features of a backbone without a head."""
    if isinstance(output, dict):
        output = output.get("sequence_output", list(output.values())[-1])
    if plan.kind.reads_text:
        return pooled(output, mask, plan.pooling)
    return output[:, 0, :] if plan.kind.tokens == "first" and len(output.shape) == 3 else average(output)


# --- depth
def _taps(family: Family, whole: Any, ends: Mapping[int, Any], mask: Any) -> dict[int, Any]:
    """depth -> features there; the last is the whole network's."""
    if not ends:
        return {}
    last, features = max(ends), whole.outputs[0]
    if not family.layered:
        return {**{d: average(end) for d, end in ends.items() if d != last}, last: features}
    pools = mask is not None and family.reads_text
    tail = _tail(whole, [ends[last], *([mask] if pools else [])], features)
    return {
        **{d: tail([end, *([mask] if pools else [])]) for d, end in ends.items() if d != last},
        last: features,
    }


def _tail(whole: Any, starts: list[Any], features: Any) -> Any:
    """What comes after the last layer, as a function of symbolic tensors: final norm, pooling, pooler."""
    part = keras.Model(starts, features)
    return lambda tensors: replay(part, tensors)


def _depth(plan: Plan, taps: Mapping[int, Any]) -> int | None:
    """The depth asked for, or None. Raises InputError."""
    if plan.depth is None:
        return None
    if plan.depth not in taps:
        have = f"depths {min(taps)} to {max(taps)}" if taps else "no depths: it cannot be cut"
        raise InputError(f"KerasHub's {plan.family} here has {have}, not {plan.depth}")
    return plan.depth


# --- size
def _at_size(plan: Plan, model: Any) -> Any:
    """The same weights for another input size. Raises InputError where they do not fit there."""
    backbone = getattr(model, "backbone", None) or model
    if plan.size is None or plan.kind.reads_text:
        return model
    now = tuple(backbone.inputs[0].shape[1:3])
    if now in ((None, None), (plan.size, plan.size)):
        return model
    other = dataclasses.replace(plan, backbone={**plan.backbone, "image_shape": (plan.size, plan.size, 3)})
    try:
        made = make(other, classes=getattr(model, "num_classes", None) or 1)
        made.set_weights(model.get_weights())
    except ValueError as error:
        raise InputError(
            f"KerasHub's {plan.family} of this checkpoint takes {now[0]} x {now[1]} pixels only, not "
            f"size={plan.size}: its weights belong to that size, and KerasHub does not interpolate them"
        ) from error
    _set_details(getattr(made, "backbone", None) or made, plan)
    return made


# --- details that KerasHub's arguments cannot say
def _set_details(backbone: Any, plan: Plan) -> None:
    """The checkpoint's activation and epsilon, in every layer that has one."""
    if plan.activation is None and plan.eps is None:
        return
    for layer in backbone._flatten_layers():
        name = layer.name.removesuffix("/")
        if plan.eps is not None and isinstance(layer, keras.layers.LayerNormalization):
            layer.epsilon = plan.eps
        for part in _ACTIVATED if plan.activation is not None else ():
            dense = getattr(layer, part, None)
            if isinstance(dense, keras.layers.Dense) and name != "pooled_dense":
                _activate(dense, plan.activation)


def _activate(dense: Any, activation: str | None) -> None:
    """Only where there is an activation already: a Dense without one ends a feed-forward part."""
    if dense.activation is not keras.activations.linear:
        dense.activation = ACTIVATIONS[str(activation)]
