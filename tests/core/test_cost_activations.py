"""Bytes of activations that live at once, against figures worked out by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cost_graphs import conv_net, endless, node, text_net, write, zeros

from zoo.cost.facts import describe, graph_facts

FLOAT = 4


def peak(path: Path, batch: int = 1) -> int | None:
    """activation_bytes at that batch."""
    return describe(str(path), 128, (batch,))["activation_bytes"].get(str(batch))


def test_a_chain_holds_two_neighbours_and_its_relu_works_in_place(tmp_path: Path) -> None:
    nodes = [
        node("MatMul", ["x", "w1"], ["a"]),
        node("Relu", ["a"], ["b"]),
        node("MatMul", ["b", "w2"], ["y"]),
    ]
    path = write(tmp_path / "m.onnx", nodes, {"x": ["N", 8]}, {"w1": zeros(8, 16), "w2": zeros(16, 4)})
    for batch in (1, 3):  # the caller's x throughout, and at the second product its operand and result
        assert peak(path, batch) == batch * FLOAT * (8 + 16 + 4)


def test_what_is_read_again_is_not_written_over(tmp_path: Path) -> None:
    nodes = [
        node("MatMul", ["x", "w"], ["a"]),
        node("Relu", ["a"], ["b"]),  # a is wanted below
        node("Add", ["a", "b"], ["y"]),  # over a, or over b
    ]
    path = write(tmp_path / "m.onnx", nodes, {"x": ["N", 8]}, {"w": zeros(8, 16)})
    assert peak(path) == FLOAT * (8 + 16 + 16)


def test_the_callers_input_is_not_written_over(tmp_path: Path) -> None:
    path = write(tmp_path / "m.onnx", [node("Relu", ["x"], ["y"])], {"x": ["N", 8]}, {})
    assert peak(path) == FLOAT * (8 + 8)


def test_a_view_takes_no_bytes_and_keeps_what_it_shows(tmp_path: Path) -> None:
    nodes = [
        node("MatMul", ["x", "w"], ["a"]),
        node("Reshape", ["a", "shape"], ["view"]),
        node("MatMul", ["x", "w3"], ["other"]),  # a must still be there: its view is read below
        node("Flatten", ["view"], ["flat"]),
        node("Concat", ["flat", "other"], ["y"], axis=1),
    ]
    weights = {"w": zeros(8, 16), "w3": zeros(8, 3), "shape": np.array([0, 4, 4], np.int64)}
    path = write(tmp_path / "m.onnx", nodes, {"x": ["N", 8]}, weights)
    assert peak(path) == FLOAT * (8 + 16 + 3 + 19)


def test_a_view_of_something_large_is_no_second_one(tmp_path: Path) -> None:
    nodes = [
        node("MatMul", ["x", "w"], ["a"]),
        node("Reshape", ["a", "shape"], ["view"]),
        node("ReduceSum", ["view"], ["y"]),
    ]
    weights = {"w": zeros(8, 16), "shape": np.array([0, 4, 4], np.int64)}
    path = write(tmp_path / "m.onnx", nodes, {"x": ["N", 8]}, weights)
    assert peak(path) == FLOAT * (8 + 16 + 1)


def test_outputs_live_to_the_end_and_the_rest_does_not(tmp_path: Path) -> None:
    nodes = [
        node("MatMul", ["x", "w"], ["early"]),  # 100, an output
        node("MatMul", ["x", "v"], ["wide"]),  # 50, done with after the next
        node("ReduceSum", ["wide"], ["small"]),
        node("MatMul", ["x", "u"], ["late"]),  # 60
    ]
    weights = {"w": zeros(8, 100), "v": zeros(8, 50), "u": zeros(8, 60)}
    outputs = ("early", "small", "late")
    path = write(tmp_path / "m.onnx", nodes, {"x": ["N", 8]}, weights, outputs=outputs)
    assert peak(path) == FLOAT * (8 + 100 + 1 + 60)


def test_what_is_computed_from_weights_alone_is_no_activation(tmp_path: Path) -> None:
    nodes = [
        node("DequantizeLinear", ["w", "scale"], ["floats"]),
        node("Transpose", ["floats"], ["turned"]),
        node("MatMul", ["x", "turned"], ["y"]),
    ]
    weights = {"w": np.zeros((600, 8), np.int8), "scale": np.array(0.1, np.float32)}
    path = write(tmp_path / "m.onnx", nodes, {"x": ["N", 8]}, weights)
    assert peak(path) == FLOAT * (8 + 600)


def test_whole_graphs(tmp_path: Path) -> None:
    images = conv_net(tmp_path / "images.onnx", size=32)
    assert peak(images, 2) == 2 * FLOAT * (3 * 32 * 32 + 8 * 32 * 32 + 8)
    length, width, ids = 128, 8, 2 * 8 * 128  # two inputs of int64
    scores, rows = FLOAT * length * length, FLOAT * length * width
    # kept and turned make the scores, then kept and scores are mixed
    assert peak(text_net(tmp_path / "text.onnx")) == ids + 2 * rows + scores


def test_types_count_with_their_size(tmp_path: Path) -> None:
    path = write(tmp_path / "m.onnx", [node("Cast", ["x"], ["y"], to=10)], {"x": ["N", 8]}, {})  # to float16
    assert peak(path) == 8 * (4 + 2)


def test_control_flow_is_not_counted(tmp_path: Path) -> None:
    path = endless(tmp_path / "m.onnx")
    assert peak(path) is None
    facts = graph_facts(path)
    assert facts.operators == {"Loop": 1, "Identity": 1, "Add": 1} and facts.nodes == 3


def test_operators_by_type_with_their_domain(tmp_path: Path) -> None:
    nodes = [
        node("Relu", ["x"], ["a"]),
        node("Gelu", ["a"], ["b"], domain="com.microsoft"),
        node("Relu", ["b"], ["c"]),
        node("Transpose", ["c"], ["y"]),
    ]
    path = write(tmp_path / "m.onnx", nodes, {"x": ["N", 4]}, {}, domains=["com.microsoft"], check=False)
    facts = graph_facts(path)
    assert list(facts.operators.items()) == [("Relu", 2), ("com.microsoft.Gelu", 1), ("Transpose", 1)]
    assert facts.transposes == 1


def test_weights_that_a_file_fills_instead_of_holding(tmp_path: Path) -> None:
    """As onnx's own test models do: their files would else be of hundreds of megabytes."""
    nodes = [
        node("ConstantOfShape", ["shape"], ["w"]),
        node("Conv", ["x", "w"], ["map"]),
        node("ConstantOfShape", ["shape"], ["no_weight"]),
        node("ReduceSum", ["no_weight"], ["one"]),
        node("Add", ["map", "one"], ["y"]),
    ]
    weights = {"shape": np.array([6, 3, 3, 3], np.int64)}
    path = write(tmp_path / "m.onnx", nodes, {"x": ["N", 3, 8, 8]}, weights)
    facts = graph_facts(path)
    assert (facts.params, facts.weight_bytes) == (6 * 27, 4 * 6 * 27)
    described = describe(str(path), 128)
    assert described["macs"] == 6 * 6 * 6 * 27
    assert described["activation_bytes"] == {"1": FLOAT * (3 * 64 + 6 * 36)}


@pytest.mark.parametrize("name", ["resnet50", "squeezenet", "densenet121"])
def test_files_that_others_made(name: str) -> None:
    """onnx's own test models, which come with the package: the published sizes of these networks."""
    import onnx.backend.test

    folder = Path(onnx.backend.test.__file__).parent / "data" / "light"
    published = {  # parameters and MACs as torchvision states them: the same architectures
        "resnet50": (25_557_032, 4.089),
        "squeezenet": (1_235_496, 0.349),
        "densenet121": (7_978_856, 2.834),
    }
    described = describe(str(folder / f"light_{name}.onnx"), 128)
    params, macs = published[name]
    assert described["params"] == pytest.approx(params, rel=1e-4)
    assert described["macs"] / 1e9 == pytest.approx(macs, abs=0.0006)
    assert described["activation_bytes"]["1"] > 3e6
