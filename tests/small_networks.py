"""Small networks as files of ours, for tests of what is made of files: convolutions, and values that overflow."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from zoo.cards import ImagePreprocess
from zoo.graph import OnnxModel, surgery
from zoo.graph.metadata import Metadata
from zoo.graph.sealing import accepted, seal

PIXELS = 16
PREPROCESS = ImagePreprocess(
    PIXELS, PIXELS, resize="exact", resize_to=(PIXELS, PIXELS), mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.25)
)
WIDTH = 24


def convnet(
    path: Path,
    *,
    loud: float = 0.0,
    gain: float = 1.0,
    preprocess: ImagePreprocess = PREPROCESS,
    labels: tuple[str, ...] = ("ants", "bees"),
) -> OnnxModel:
    """Three convolutions (the middle one depthwise), their mean as features, a head that tells red from blue.

    loud: what one channel of the last layer is above the others, as outliers are; gain: of the first layer, undone
    in the last: what overflows fp16.
    """
    weights = _weights(loud, gain)
    nodes = [
        helper.make_node(
            "Conv", ["images", "first.weight"], ["a"], name="first", pads=[1] * 4, strides=[2, 2]
        ),
        helper.make_node("Relu", ["a"], ["b"], name="relu"),
        helper.make_node("Conv", ["b", "middle.weight"], ["c"], name="middle", pads=[1] * 4, group=WIDTH),
        helper.make_node("Relu", ["c"], ["d"], name="relu2"),
        helper.make_node("Conv", ["d", "last.weight", "last.bias"], ["e"], name="last"),
        helper.make_node("Relu", ["e"], ["f"], name="relu3"),
        helper.make_node("GlobalAveragePool", ["f"], ["g"], name="mean"),
        helper.make_node("Flatten", ["g"], ["features"], name="flat"),
    ]
    graph = helper.make_graph(
        nodes,
        "convnet",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 3, PIXELS, PIXELS])],
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", WIDTH])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    head = np.zeros((2, WIDTH), np.float32)
    head[0, :2], head[1, :2] = (1, -1), (-1, 1)
    surgery.set_head(model, head, np.zeros(2, np.float32))
    seal(model, Metadata(preprocess, labels, {"id": "toy:convnet"}), accepted(model), path)
    return OnnxModel(path, threads=1)


def _weights(loud: float, gain: float) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    first = rng.normal(0, 0.3, (WIDTH, 3, 3, 3)).astype(np.float32)
    first[0, 0, 1, 1], first[1, 2, 1, 1] = 2.0, 2.0
    last = rng.normal(0, 0.2, (WIDTH, WIDTH, 1, 1)).astype(np.float32)
    last[0], last[1] = 0, 0
    last[0, 0], last[1, 1] = 1.0, 1.0
    bias = np.zeros(WIDTH, np.float32)
    bias[2] = loud
    return {
        "first.weight": first * gain,
        "middle.weight": rng.uniform(0.05, 0.2, (WIDTH, 1, 3, 3)).astype(np.float32),
        "last.weight": last / gain,
        "last.bias": bias,
    }


def foreign(path: Path) -> Path:
    """The same network without metadata."""
    model = onnx.load(convnet(path).path)
    del model.metadata_props[:]
    onnx.save(model, path)
    return path
