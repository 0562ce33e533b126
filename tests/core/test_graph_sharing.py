"""Nodes that compute the same are one: the graph gets smaller and gives the same numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from cost_graphs import node, write

from zoo.graph.sharing import share


def run(model: onnx.ModelProto, x: np.ndarray) -> list[np.ndarray]:
    """Its outputs."""
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})


def twice(path: Path, **second: int) -> onnx.ModelProto:
    """A trunk (product, softmax) written down twice; `second`: attributes of the second softmax."""
    nodes = []
    for name, given in (("a", {"axis": -1}), ("b", {"axis": -1, **second})):
        nodes += [
            node("Constant", [], [f"{name}_two"], value_float=2.0),
            node("MatMul", ["x", "w"], [f"{name}_map"]),
            node("Mul", [f"{name}_map", f"{name}_two"], [f"{name}_more"]),
            node("Softmax", [f"{name}_more"], [f"{name}_soft"], **given),
        ]
    nodes += [node("ReduceSum", ["a_more"], ["features"]), node("Relu", ["b_soft"], ["logits"])]
    weights = {"w": np.random.default_rng(0).standard_normal((4, 4), dtype=np.float32)}
    return onnx.load(str(write(path, nodes, {"x": ["N", 4]}, weights, outputs=("features", "logits"))))


def test_a_trunk_that_is_there_twice_becomes_one(tmp_path: Path) -> None:
    model = twice(tmp_path / "m.onnx")
    x = np.random.default_rng(1).standard_normal((3, 4), dtype=np.float32)
    before = run(model, x)
    share(model)
    assert [n.op_type for n in model.graph.node] == [
        "Constant",
        "MatMul",
        "Mul",
        "Softmax",
        "ReduceSum",
        "Relu",
    ]
    assert all(np.array_equal(one, other) for one, other in zip(run(model, x), before, strict=True))


def test_other_attributes_are_other_nodes(tmp_path: Path) -> None:
    model = twice(tmp_path / "m.onnx", axis=0)
    x = np.random.default_rng(1).standard_normal((3, 4), dtype=np.float32)
    before = run(model, x)
    share(model)
    kinds = [n.op_type for n in model.graph.node]
    assert (kinds.count("MatMul"), kinds.count("Softmax")) == (1, 1)  # the first one's is read by nobody
    assert all(np.array_equal(one, other) for one, other in zip(run(model, x), before, strict=True))


def test_outputs_and_draws_stay_apart(tmp_path: Path) -> None:
    nodes = [
        node("Relu", ["x"], ["first"]),
        node("Relu", ["x"], ["second"]),
        node("RandomNormalLike", ["x"], ["noise"]),
        node("RandomNormalLike", ["x"], ["more"]),
        node("Sub", ["noise", "more"], ["drawn"]),
    ]
    path = write(tmp_path / "m.onnx", nodes, {"x": ["N", 4]}, {}, outputs=("first", "second", "drawn"))
    model = onnx.load(str(path))
    share(model)
    assert len(model.graph.node) == 5
    assert np.abs(run(model, np.zeros((2, 4), np.float32))[2]).max() > 0
