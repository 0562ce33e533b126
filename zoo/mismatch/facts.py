"""What the file itself says, before any example is judged: sizes, numbers of classes, operations on the input."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from zoo import registry
from zoo.cards import ImagePreprocess, ModelId
from zoo.data.presets import PRESETS
from zoo.engine import Array
from zoo.errors import InputError, ModelFileError
from zoo.graph import OnnxModel
from zoo.graph.session import external_files, load_proto
from zoo.mismatch.hypotheses import normalises, once_of, raw_pixels, unit_pixels

ARITHMETIC = ("Sub", "Add", "Mul", "Div", "BatchNormalization")
PASSING = ("Transpose", "Cast", "Identity", "Pad")
BACKGROUND = 1001
"""Outputs of TensorFlow's older ImageNet networks: 'background' is number 0, and the 1000 classes follow."""


def catalogue_size(model: OnnxModel) -> int | None:
    """Pixels a side that the catalogue says for what the file was exported from, or None."""
    with contextlib.suppress(InputError):
        found = ModelId.parse(model.id)
        card = registry.card(found) if found.framework in registry.frameworks() else None
        return card.size if card else None
    return None


def facts(model: OnnxModel, classes: int) -> list[str]:
    """Sentences about the file.  classes: of the data."""
    found = []
    proto = load_proto(model.path)
    preprocess = model.preprocess
    if isinstance(preprocess, ImagePreprocess):
        if steps := arithmetic_on_input(proto):
            found.append(
                f"The graph begins with {', '.join(steps)} on its input: it scales or normalises pixels itself."
            )
        size = catalogue_size(model)
        if size is not None and size != preprocess.height:
            found.append(
                f"The catalogue says {size} pixels a side for {model.id}; it is given {preprocess.height}."
            )
    if model.num_classes == BACKGROUND and classes <= BACKGROUND - 1:
        found.append(
            "The file computes 1001 classes: networks of TensorFlow with 'background' as number 0 do."
        )
    return found


def arithmetic_on_input(model: onnx.ModelProto) -> list[str]:
    """Names of the arithmetic with constants that the image input meets before the first other operation."""
    return [node.op_type for node, _, _ in _leading(model) if node.op_type in ARITHMETIC]


def _leading(model: onnx.ModelProto) -> Iterator[tuple[onnx.NodeProto, Array | None, bool]]:
    """(node, its constant or None, whether the input is its first operand) from the image input onwards."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant" and node.attribute[0].HasField("t"):
            constants[node.output[0]] = node.attribute[0].t
    given = next((value.name for value in model.graph.input if value.name not in constants), None)
    while given is not None:
        readers = [node for node in model.graph.node if given in node.input]
        if len(readers) != 1 or readers[0].op_type not in (*ARITHMETIC, *PASSING):
            return
        node = readers[0]
        others = [name for name in node.input if name and name != given]
        if any(name not in constants for name in others):
            return
        value = numpy_helper.to_array(constants[others[0]]) if len(others) == 1 else None
        yield node, value, node.input[0] == given
        given = node.output[0]


def input_affine(model: onnx.ModelProto) -> tuple[Array, Array] | None:
    """(factor, shift), float64 [3] each: the arithmetic at the graph's beginning as factor * input + shift.

    None where there is none, or where it is not one number a channel.
    """
    factor, shift, found = np.ones(3), np.zeros(3), False
    for node, value, first in _leading(model):
        if node.op_type in PASSING:
            continue
        if value is None or value.size not in (1, 3):
            break
        number = value.reshape(-1).astype(np.float64)
        found = True
        if node.op_type == "Mul":
            factor, shift = factor * number, shift * number
        elif node.op_type == "Div" and first:
            factor, shift = factor / number, shift / number
        elif node.op_type == "Add":
            shift = shift + number
        elif node.op_type == "Sub":
            factor, shift = (factor, shift - number) if first else (-factor, number - shift)
        else:
            return None
    return (np.broadcast_to(factor, 3), np.broadcast_to(shift, 3)) if found else None


def certainly_twice(model: OnnxModel) -> tuple[ImagePreprocess, str] | None:
    """The right preprocess, and why, where the file alone shows that one normalisation is applied twice: the graph
    computes what the preprocess has computed already, or the preprocess is a well-known one on top of itself.
    """
    given = model.preprocess
    if not isinstance(given, ImagePreprocess) or not normalises(given):
        return None
    inside = input_affine(load_proto(model.path))
    if inside is not None:
        scale, spread = given.scale / np.array(given.std), -np.array(given.mean) / np.array(given.std)
        for levels, right in ((255.0, unit_pixels(given)), (1.0, raw_pixels(given))):
            if np.allclose(inside[0] / levels, scale, rtol=0.02) and np.allclose(
                inside[1], spread, atol=0.02
            ):
                return (
                    right,
                    "the graph itself computes the same normalisation that the preprocess has applied",
                )
    for once in once_of(given):
        for name, preset in PRESETS.items():
            same = np.allclose((*once.mean, *once.std), (*preset.mean, *preset.std), rtol=0.01)
            if same and np.isclose(once.scale, preset.scale, rtol=0.01):
                return once, f"the preprocess is the normalisation of {name} on top of itself"
    return None


def describe_values(images: Array) -> str:
    """Range, and mean and deviation of each channel, of what a network is given: float32 [N, 3, H, W]."""
    means = ", ".join(f"{value:.2f}" for value in images.mean(axis=(0, 2, 3)))
    spreads = ", ".join(f"{value:.2f}" for value in images.std(axis=(0, 2, 3)))
    return f"values from {images.min():.3g} to {images.max():.3g}, means {means}, deviations {spreads}"


def write_resizable(path: Path, target: Path) -> bool:
    """Copy the graph with the height and width of its image input set free; False where that can't be."""
    try:
        model = load_proto(path)
    except ModelFileError:
        return False
    if list(external_files(model, path)):
        return False
    for value in model.graph.input:
        dims = value.type.tensor_type.shape.dim
        if len(dims) == 4:
            spatial = (1, 2) if dims[3].dim_value == 3 and dims[1].dim_value != 3 else (2, 3)
            for axis, name in zip(spatial, ("height", "width"), strict=True):
                dims[axis].Clear()
                dims[axis].dim_param = name
    del model.graph.value_info[:]
    target.write_bytes(model.SerializeToString())
    return True


def stratified(targets: Array, count: int, *, seed: int) -> Array:
    """int64 indices of `count` examples: every class in turn, each class's examples in a seeded order."""
    rng = np.random.default_rng(seed)
    turn = np.empty(len(targets), dtype=np.int64)
    for target in np.unique(targets):
        members = rng.permutation(np.flatnonzero(targets == target))
        turn[members] = np.arange(len(members))
    order = np.lexsort((rng.permutation(len(targets)), turn))
    chosen: Array = order[:count]
    return chosen
