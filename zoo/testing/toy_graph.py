"""The toy's network as an ONNX graph: a Gemm and a Relu a block; texts through an embedding's masked mean."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper, save

from zoo.engine import Array


def write_graph(
    path: Path,
    kind: str,
    layers: Sequence[tuple[Array, Array]],
    *,
    opset: int,
    depths: Sequence[int],
    pixels: int = 8,
) -> None:
    """layers: (weight [F, W], bias [W]) of stem, block1, ...; output "features", or each "features_<d>"."""
    nodes, x = _image_rows() if kind == "image" else _text_rows()
    constants = {"stem.weight": layers[0][0], "stem.bias": layers[0][1]}
    outs = {f"features_{d}": d for d in depths} or {"features": len(layers) - 1}
    nodes.append(helper.make_node("Relu", [x], ["depth_0"]))
    for i, (weight, bias) in enumerate(layers[1:], 1):
        constants |= {f"block{i}.weight": weight, f"block{i}.bias": bias}
        nodes.append(_node("Gemm", [f"depth_{i - 1}", f"block{i}.weight", f"block{i}.bias"], f"linear_{i}"))
        nodes.append(_node("Relu", [f"linear_{i}"], f"depth_{i}"))
    nodes += [_node("Identity", [f"depth_{depth}"], name) for name, depth in outs.items()]
    width = layers[0][0].shape[1]
    if kind != "image":
        constants |= {"last_axis": np.array([2], np.int64), "length_axis": np.array([1], np.int64)}
        constants |= {"one": np.array(1, np.float32)}
    graph = helper.make_graph(
        nodes,
        "toy",
        _inputs(kind, pixels),
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", width]) for name in outs],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    # IR 10 is what opset 18 files of the frameworks' own exporters carry; onnx's default may be too new.
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10), path)


def _inputs(kind: str, pixels: int) -> list[Any]:
    if kind == "image":
        return [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 3, pixels, pixels])]
    names = ("input_ids", "attention_mask")
    return [helper.make_tensor_value_info(name, TensorProto.INT64, ["n", "length"]) for name in names]


def _node(kind: str, inputs: Sequence[str], output: str) -> Any:
    return helper.make_node(kind, list(inputs), [output])


def _image_rows() -> tuple[list[Any], str]:
    flat = _node("Flatten", ["images"], "flat")
    return [flat, _node("Gemm", ["flat", "stem.weight", "stem.bias"], "linear_0")], "linear_0"


def _text_rows() -> tuple[list[Any], str]:
    mask = [
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        _node("Unsqueeze", ["mask", "last_axis"], "mask_3d"),
        helper.make_node("ReduceSum", ["mask", "length_axis"], ["tokens"], keepdims=1),
        _node("Max", ["tokens", "one"], "divisor"),
    ]
    mean = [
        _node("Gather", ["stem.weight", "input_ids"], "embedded"),
        _node("Mul", ["embedded", "mask_3d"], "masked"),
        helper.make_node("ReduceSum", ["masked", "length_axis"], ["sum"], keepdims=0),
        _node("Div", ["sum", "divisor"], "mean"),
        _node("Add", ["mean", "stem.bias"], "linear_0"),
    ]
    return mask + mean, "linear_0"
