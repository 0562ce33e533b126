"""Graphs that take pixels: the normalisation inside, so that a camera's or a decoder's bytes go straight in.

The input is uint8 [N, H, W, 3], RGB: what Pillow, OpenCV (after BGR to RGB), V4L and TFLite's tools hand over, and
a quarter of the bytes of float32. Resizing and cropping stay outside, where the pixels come from.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from zoo.cards import ImagePreprocess, Preprocess
from zoo.engine import Array
from zoo.errors import InputError
from zoo.graph import surgery
from zoo.graph.surgery import IMAGES

PREFIX = "uint8_input"


def takes_pixels(value: onnx.ValueInfoProto) -> bool:
    """Whether this input of a graph is our uint8 [N, H, W, 3]."""
    return value.name == IMAGES and value.type.tensor_type.elem_type == TensorProto.UINT8


def leaves_pixels(preprocess: ImagePreprocess) -> bool:
    """Whether what it gives are the pixels themselves, in the order RGB."""
    plain = preprocess.scale == 1 and not any(preprocess.mean) and set(preprocess.std) == {1.0}
    return plain and preprocess.channels == "RGB"


def add_uint8_input(model: onnx.ModelProto, preprocess: Preprocess, path: Path) -> ImagePreprocess:
    """Put the preprocess's order of channels, scale, mean and std into the graph; the preprocess that is left.

    Raises InputError for a text network.
    """
    if not isinstance(preprocess, ImagePreprocess):
        raise InputError(
            f"{path} reads texts: uint8 input is for photographs. Leave --uint8-input out; ids of words "
            "are whole numbers already"
        )
    graph = model.graph
    (images,) = (value for value in graph.input if value.name == IMAGES)
    dims = [d.dim_value or d.dim_param or None for d in images.type.tensor_type.shape.dim]
    inside = f"{PREFIX}.normalised"
    surgery.rename(model, {IMAGES: inside})
    mean, std = (np.array(v, np.float32).reshape(1, 3, 1, 1) for v in (preprocess.mean, preprocess.std))
    made = [
        helper.make_node("Transpose", [IMAGES], [f"{PREFIX}.nchw"], perm=[0, 3, 1, 2]),
        helper.make_node("Cast", [f"{PREFIX}.nchw"], [f"{PREFIX}.floats"], to=TensorProto.FLOAT),
    ]
    constants: dict[str, Array] = {}
    if preprocess.channels == "BGR":
        constants["bgr"] = np.array([2, 1, 0], np.int64)
        made.append(
            helper.make_node("Gather", [made[-1].output[0], f"{PREFIX}.bgr"], [f"{PREFIX}.x"], axis=1)
        )
    constants |= {"slope": np.float32(preprocess.scale) / std, "offset": -mean / std}
    made.append(helper.make_node("Mul", [made[-1].output[0], f"{PREFIX}.slope"], [f"{PREFIX}.scaled"]))
    made.append(helper.make_node("Add", [made[-1].output[0], f"{PREFIX}.offset"], [inside]))
    for number, node in enumerate(made):
        node.name = f"{PREFIX}.{number}"
    graph.initializer.extend(numpy_helper.from_array(v, f"{PREFIX}.{name}") for name, v in constants.items())
    old = list(graph.node)
    nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in (*made, *old)]
    del graph.node[:]
    graph.node.extend(nodes)
    shape = [dims[0], dims[2], dims[3], 3]
    given = helper.make_tensor_value_info(IMAGES, TensorProto.UINT8, shape)
    del graph.input[:]
    graph.input.append(given)
    return dataclasses.replace(
        preprocess, scale=1.0, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), channels="RGB"
    )
