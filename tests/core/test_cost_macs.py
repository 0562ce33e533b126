"""MACs and parameters against figures worked out by hand, operator by operator."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from cost_graphs import conv_net, endless, node, text_net, write, zeros
from onnx import TensorProto, helper

from zoo.cost import count_macs, graph_facts, shapes
from zoo.errors import ModelFileError


# --- one operator each
@pytest.mark.parametrize(
    ("attributes", "weight", "expected"),
    [
        ({"pads": [1, 1, 1, 1]}, (8, 6, 3, 3), 8 * 10 * 10 * 6 * 9),
        ({}, (8, 6, 3, 3), 8 * 8 * 8 * 6 * 9),
        ({"strides": [2, 2]}, (8, 6, 1, 1), 8 * 5 * 5 * 6),
        ({"group": 6, "pads": [1, 1, 1, 1]}, (6, 1, 3, 3), 6 * 10 * 10 * 9),  # depthwise
        ({"group": 2}, (8, 3, 1, 5), 8 * 10 * 6 * 3 * 5),
        ({"dilations": [2, 2]}, (8, 6, 3, 3), 8 * 6 * 6 * 6 * 9),
    ],
)
def test_conv(tmp_path: Path, attributes: dict, weight: tuple[int, ...], expected: int) -> None:
    path = write(
        tmp_path / "m.onnx",
        [node("Conv", ["x", "w", "b"], ["y"], **attributes)],
        {"x": ["N", 6, 10, 10]},
        {"w": zeros(*weight), "b": zeros(weight[0])},
    )
    assert count_macs(path) == expected  # the bias adds nothing
    assert count_macs(path, batch_size=3) == 3 * expected


def test_conv_transpose(tmp_path: Path) -> None:
    path = write(
        tmp_path / "m.onnx",
        [node("ConvTranspose", ["x", "w"], ["y"], strides=[2, 2])],
        {"x": ["N", 6, 5, 5]},
        {"w": zeros(6, 4, 3, 3)},
    )
    assert count_macs(path) == 6 * 5 * 5 * 4 * 9


@pytest.mark.parametrize("transposed", [0, 1])
def test_gemm(tmp_path: Path, transposed: int) -> None:
    weight = zeros(7, 5) if transposed else zeros(5, 7)
    path = write(
        tmp_path / "m.onnx",
        [node("Gemm", ["x", "w", "b"], ["y"], transB=transposed)],
        {"x": ["N", 5]},
        {"w": weight, "b": zeros(7)},
    )
    assert count_macs(path, batch_size=2) == 2 * 5 * 7


def test_gemm_with_its_first_operand_transposed(tmp_path: Path) -> None:
    path = write(
        tmp_path / "m.onnx",
        [node("Transpose", ["x"], ["t"]), node("Gemm", ["t", "w"], ["y"], transA=1)],
        {"x": ["N", 5]},
        {"w": zeros(5, 7)},
    )
    assert count_macs(path, batch_size=2) == 2 * 5 * 7


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        (["N", 4, 5], (5, 6), 4 * 5 * 6),
        (["N", 1, 4, 5], (3, 5, 6), 3 * 4 * 5 * 6),  # broadcast over a batch of 3
        (["N", 5], (5,), 5),  # a vector
    ],
)
def test_matmul(tmp_path: Path, left: list, right: tuple[int, ...], expected: int) -> None:
    path = write(tmp_path / "m.onnx", [node("MatMul", ["x", "w"], ["y"])], {"x": left}, {"w": zeros(*right)})
    assert count_macs(path) == expected


@pytest.mark.parametrize(
    ("equation", "right", "expected"),
    [
        ("nld,dk->nlk", (5, 6), 4 * 5 * 6),
        ("nld,nkd->nlk", (1, 7, 5), 4 * 7 * 5),
        ("nld,ld->nld", (4, 5), 0),  # element by element: nothing is summed
    ],
)
def test_einsum(tmp_path: Path, equation: str, right: tuple[int, ...], expected: int) -> None:
    nodes = [node("Einsum", ["x", "w"], ["y"], equation=equation)]
    path = write(tmp_path / "m.onnx", nodes, {"x": [1, 4, 5]}, {"w": zeros(*right)})
    assert count_macs(path) == expected


def test_quantised_products_count_as_their_float_ones(tmp_path: Path) -> None:
    path = write(
        tmp_path / "m.onnx",
        [
            node("DynamicQuantizeLinear", ["x"], ["q", "scale", "zero"]),
            node("MatMulInteger", ["q", "w"], ["y"]),
        ],
        {"x": ["N", 5]},
        {"w": np.zeros((5, 6), np.int8)},
    )
    assert count_macs(path) == 5 * 6
    assert graph_facts(path).params == 5 * 6


def test_graphs_without_products_have_none(tmp_path: Path) -> None:
    path = write(tmp_path / "m.onnx", [node("Relu", ["x"], ["y"])], {"x": ["N", 5]}, {})
    assert count_macs(path) == 0


# --- whole graphs
def test_a_transformer_layer_is_the_textbook_formula(tmp_path: Path) -> None:
    """4 L D^2 (query, key, value, output) + 2 L^2 D (scores, mix) + 2 L D F (feed-forward)."""
    heads, d, f = 4, 16, 48
    nodes = []
    for name in "qkv":
        nodes += [
            node("MatMul", ["x", f"w_{name}"], [f"{name}_flat"]),
            # The shape is computed in the graph, as exporters write it.
            node("Shape", [f"{name}_flat"], [f"{name}_all"]),
            node("Slice", [f"{name}_all", "zero", "two"], [f"{name}_nl"]),
            node("Concat", [f"{name}_nl", "split"], [f"{name}_shape"], axis=0),
            node("Reshape", [f"{name}_flat", f"{name}_shape"], [f"{name}_4d"]),
            node("Transpose", [f"{name}_4d"], [name], perm=[0, 2, 3, 1] if name == "k" else [0, 2, 1, 3]),
        ]
    nodes += [
        node("MatMul", ["q", "k"], ["scores"]),
        node("Softmax", ["scores"], ["attention"]),
        node("MatMul", ["attention", "v"], ["mixed"]),
        node("Transpose", ["mixed"], ["back"], perm=[0, 2, 1, 3]),
        node("Reshape", ["back", "join"], ["joined"]),
        node("MatMul", ["joined", "w_o"], ["out"]),
        node("MatMul", ["out", "w_1"], ["inner"]),
        node("MatMul", ["inner", "w_2"], ["y"]),
    ]
    weights = {f"w_{name}": zeros(d, d) for name in "qkvo"} | {
        "w_1": zeros(d, f),
        "w_2": zeros(f, d),
        "zero": np.array([0], np.int64),
        "two": np.array([2], np.int64),
        "split": np.array([heads, d // heads], np.int64),
        "join": np.array([0, 0, d], np.int64),
    }
    path = write(tmp_path / "m.onnx", nodes, {"x": ["N", "L", d]}, weights)
    for length in (10, 33):
        formula = 4 * length * d**2 + 2 * length**2 * d + 2 * length * d * f
        assert count_macs(path, sequence_length=length) == formula
        assert count_macs(path, sequence_length=length, batch_size=5) == 5 * formula
    assert graph_facts(path).params == 4 * d * d + 2 * d * f
    assert graph_facts(path).transposes == 4


def test_a_size_and_a_length_are_set_where_they_are_dynamic(tmp_path: Path) -> None:
    images = conv_net(tmp_path / "images.onnx", size="S")
    assert count_macs(images) == 224 * 224 * 8 * 27
    assert count_macs(images, size=96) == 96 * 96 * 8 * 27
    assert count_macs(text_net(tmp_path / "text.onnx"), sequence_length=50) == 2 * 50 * 50 * 8
    short = {"zoo.preprocess": json.dumps({"kind": "text", "max_length": 20})}
    assert count_macs(text_net(tmp_path / "short.onnx", metadata=short)) == 2 * 20 * 20 * 8


def test_shapes_that_depend_on_values_are_found_by_running(tmp_path: Path) -> None:
    """How many entries NonZero finds is known to no shape inference: of drawn floats, all of them."""
    nodes = [
        node("NonZero", ["x"], ["where"]),  # [2, 10]
        node("Transpose", ["where"], ["pairs"]),
        node("Cast", ["pairs"], ["floats"], to=TensorProto.FLOAT),  # [10, 2]
        node("MatMul", ["floats", "w"], ["wide"]),
        node("MatMul", ["wide", "w2"], ["middle"]),
        node("ReduceSum", ["middle", "axis"], ["row"]),
        node("Add", ["x", "row"], ["y"]),
    ]
    weights = {"w": zeros(2, 6), "w2": zeros(6, 5), "axis": np.array([0], np.int64)}
    path = write(tmp_path / "m.onnx", nodes, {"x": ["N", 5]}, weights)
    assert count_macs(path, batch_size=2) == 10 * 2 * 6 + 10 * 6 * 5


def test_shapes_computed_in_the_graph_need_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A position table cut to the length, as BERT's exporters write it: only its few integers are computed."""
    nodes = [
        node("Shape", ["x"], ["tail"], start=1),
        node("Gather", ["tail", "first"], ["length"]),  # a scalar, where onnx's own inference gives up
        node("Unsqueeze", ["length", "zero"], ["end"]),
        node("Slice", ["table", "zero", "end"], ["positions"]),
        node("MatMul", ["positions", "w"], ["mixed"]),
        node("Add", ["x", "mixed"], ["y"]),
    ]
    weights = {
        "first": np.array(0, np.int64),
        "zero": np.array([0], np.int64),
        "table": zeros(512, 6),
        "w": zeros(6, 6),
    }
    path = write(tmp_path / "m.onnx", nodes, {"x": ["N", "L", 6]}, weights)
    assert count_macs(path, sequence_length=20) == 20 * 6 * 6
    monkeypatch.setattr(shapes, "_run_for_tensors", None)
    assert count_macs(path, sequence_length=30) == 30 * 6 * 6


def test_nodes_inside_functions_are_counted(tmp_path: Path) -> None:
    function = helper.make_function(
        "ours",
        "Double",
        ["a", "b"],
        ["c"],
        [node("MatMul", ["a", "b"], ["c"])],
        [helper.make_opsetid("", 18)],
    )
    path = write(
        tmp_path / "m.onnx",
        [node("Double", ["x", "w"], ["y"], domain="ours")],
        {"x": ["N", 5]},
        {"w": zeros(5, 6)},
        functions=[function],
        domains=["ours"],
    )
    assert count_macs(path) == 30


def test_weights_larger_than_shape_inference_carries(tmp_path: Path) -> None:
    path = write(
        tmp_path / "m.onnx", [node("MatMul", ["x", "w"], ["y"])], {"x": ["N", 300]}, {"w": zeros(300, 400)}
    )
    assert count_macs(path) == 300 * 400


# --- what is refused
def test_what_has_no_formula_is_refused_not_called_zero(tmp_path: Path) -> None:
    lstm = [node("LSTM", ["x", "w", "r"], ["y"], hidden_size=4, name="memory")]
    weights = {"w": zeros(1, 16, 5), "r": zeros(1, 16, 4)}
    with pytest.raises(ModelFileError, match=r"its node 'memory' is a ai\.onnx LSTM"):
        count_macs(write(tmp_path / "lstm.onnx", lstm, {"x": [3, "N", 5]}, weights))
    foreign = [node("Magic", ["x"], ["y"], domain="some.body")]
    with pytest.raises(ModelFileError, match=r"some\.body Magic, for which there is no formula"):
        count_macs(
            write(tmp_path / "f.onnx", foreign, {"x": ["N", 5]}, {}, domains=["some.body"], check=False)
        )
    letters = [node("Einsum", ["x", "w"], ["y"], equation="...d,dk->...k")]
    with pytest.raises(ModelFileError, match="Einsum"):
        count_macs(write(tmp_path / "e.onnx", letters, {"x": ["N", 5]}, {"w": zeros(5, 6)}))


def test_a_loop_is_refused_only_where_it_multiplies(tmp_path: Path) -> None:
    path = endless(tmp_path / "m.onnx")
    assert count_macs(path) == 0
    model = onnx.load(str(path))
    body = model.graph.node[0].attribute[0].g
    body.node[1].op_type = "MatMul"
    onnx.save(model, str(path))
    with pytest.raises(ModelFileError, match="Loop"):
        count_macs(path)


def test_a_fixed_batch_is_named(tmp_path: Path) -> None:
    path = conv_net(tmp_path / "m.onnx", batch=4)
    with pytest.raises(ModelFileError, match=r"takes batches of 4 only .*not 1"):
        count_macs(path)
    assert count_macs(path, batch_size=4) == 4 * 16 * 16 * 8 * 27


def test_a_fixed_size_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"fixed shape .*not size 32"):
        count_macs(conv_net(tmp_path / "m.onnx", size=16), size=32)


def test_files_that_are_no_graphs(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"cannot read .*absent"):
        count_macs(tmp_path / "absent.onnx")
    (tmp_path / "text.onnx").write_text("<html>not found</html>", encoding="utf-8")
    with pytest.raises(ModelFileError, match="not an ONNX file"):
        graph_facts(tmp_path / "text.onnx")
    (tmp_path / "empty.onnx").write_bytes(b"")
    with pytest.raises(ModelFileError, match="not an ONNX file"):
        count_macs(tmp_path / "empty.onnx")


# --- parameters
def test_parameters_are_weights_and_nothing_else(tmp_path: Path) -> None:
    names = ["x", "scale", "shift", "mean", "variance"]
    constant = helper.make_tensor("c", TensorProto.FLOAT, [100], np.zeros(100, np.float32))
    nodes = [
        node("Conv", ["x", "w"], ["map"]),
        node("BatchNormalization", ["map", *names[1:]], ["normal"]),
        node("Mul", ["normal", "half"], ["small"]),
        node("Reshape", ["small", "shape"], ["flat"]),
        node("Constant", [], ["table"], value=constant),
        node("Add", ["flat", "table"], ["y"]),
    ]
    weights = {
        "w": zeros(4, 3, 1, 1),
        **{name: np.ones(4, np.float32) for name in names[1:]},
        "half": np.array(0.5, np.float32),
        "unused": zeros(1000),
        "shape": np.array([-1, 100], np.int64),
    }
    facts = graph_facts(write(tmp_path / "m.onnx", nodes, {"x": ["N", 3, 5, 5]}, weights))
    assert facts.params == 4 * 3 + 4 + 4 + 100  # w, scale, shift, the constant
    assert facts.weight_bytes == 4 * facts.params
    assert (facts.nodes, facts.transposes, facts.opset) == (6, 0, 18)
