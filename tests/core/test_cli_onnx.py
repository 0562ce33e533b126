"""ONNX files on the command line: ours without any framework, somebody else's with `--preprocess`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from errors_table import check, fails, here, process
from onnx import TensorProto, helper, numpy_helper, save

Capture = pytest.CaptureFixture[str]
TRAIN = ["train", "toy:tiny", "photos", "--epochs", "2", "-o", "runs/mine"]


pytestmark = pytest.mark.usefixtures("folder")


def trained(capsys: Capture) -> None:
    """A saved run in runs/mine."""
    assert here(capsys, *TRAIN).code == 0


def exported(capsys: Capture) -> None:
    """The same as model.onnx."""
    trained(capsys)
    said = here(capsys, "export", "runs/mine", "-o", "model.onnx")
    assert said.code == 0, said.err


# --- ONNX files
def foreign_onnx(path: Path) -> None:
    """Somebody's network: three classes from the mean colour, no metadata."""
    weight = numpy_helper.from_array(np.eye(3, dtype=np.float32), "w")
    nodes = [
        helper.make_node("GlobalAveragePool", ["x"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["y"]),
    ]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 16, 16])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])]
    graph = helper.make_graph(nodes, "g", inputs, outputs, [weight])
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)


def test_foreign_onnx_asks_for_preprocess(capsys: Capture) -> None:
    foreign_onnx(Path("theirs.onnx"))
    arguments = ["predict", "theirs.onnx", "photos/ants/0.png"]
    says = ["theirs.onnx does not say how its inputs are prepared", "--preprocess"]
    fails(capsys, "Somebody's ONNX file without our metadata", arguments, code=2, says=says)


@pytest.mark.parametrize(("preset", "red"), [("torch", "0"), ("tf", "0"), ("caffe", "2")])
def test_foreign_onnx_is_usable_with_a_preset(capsys: Capture, preset: str, red: str) -> None:
    foreign_onnx(Path("theirs.onnx"))
    arguments = ["predict", "theirs.onnx", "photos/ants/0.png", "--preprocess", preset, "--csv", "--top", "1"]
    said = here(capsys, *arguments)
    assert said.code == 0
    assert said.out.splitlines()[1].split(",")[2] == red  # a red photograph: first of RGB, last of BGR


def test_foreign_onnx_is_usable_with_a_file(capsys: Capture) -> None:
    foreign_onnx(Path("theirs.onnx"))
    Path("how.json").write_text(
        json.dumps({"kind": "image", "height": 16, "width": 16, "resize_to": [18, 18]})
    )
    said = here(capsys, "predict", "theirs.onnx", "photos/bees/0.png", "--preprocess", "how.json", "--json")
    assert said.code == 0
    assert json.loads(said.out)[0]["predictions"][0]["label"] == "2"


def test_preset_that_does_not_exist(capsys: Capture) -> None:
    foreign_onnx(Path("theirs.onnx"))
    arguments = ["predict", "theirs.onnx", "photos/ants/0.png", "--preprocess", "imagenet"]
    says = ["--preprocess imagenet: torch, tf, caffe", "JSON file"]
    fails(capsys, "Preset that does not exist", arguments, code=2, says=says)


def test_text_posing_as_onnx(capsys: Capture) -> None:
    Path("model.onnx").write_text("version https://git-lfs.github.com/spec/v1\n")
    arguments = ["predict", "model.onnx", "photos/ants/0.png"]
    says = ["model.onnx is not an ONNX model"]
    fails(
        capsys, "File that is no ONNX model", arguments, code=2, says=says, theirs=r"\(Error parsing [^)]*\)"
    )


def test_verify_finds_changed_weights(capsys: Capture) -> None:
    import onnx

    exported(capsys)
    model = onnx.load("model.onnx")
    bias = next(t for t in model.graph.initializer if t.name == "head.bias")
    bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) + 1, "head.bias"))
    onnx.save(model, "model.onnx")
    fails(
        capsys,
        "ONNX file that was changed",
        ["verify", "model.onnx"],
        code=6,
        says=["no longer computes what it did"],
        theirs=r"logits differs.*?\)",
    )


def test_onnx_name_without_its_suffix(capsys: Capture) -> None:
    trained(capsys)
    arguments = ["export", "runs/mine", "-o", "ants"]
    fails(capsys, "Export to a name without .onnx", arguments, code=2, says=["must end in .onnx"])


def test_export_writes_a_script_for_its_own_name_and_leaves_mine(capsys: Capture) -> None:
    trained(capsys)
    Path("mine").mkdir()
    Path("mine/predict.py").write_text("print('mine')\n")
    assert here(capsys, "export", "runs/mine", "-o", "mine/ants.onnx").code == 0
    assert Path("mine/predict.py").read_text() == "print('mine')\n"
    assert here(capsys, "export", "runs/mine", "-o", "ants.onnx").code == 0
    done = subprocess.run([sys.executable, "predict.py", "photos/ants/0.png"], capture_output=True, text=True)
    assert done.returncode == 0 and ("ants" in done.stdout or "bees" in done.stdout), done.stderr


# --- neither torch nor tensorflow
BLOCKER = """import sys
for name in ("torch", "torchvision", "tensorflow", "keras", "transformers", "sklearn", "pandas"):
    sys.modules[name] = None
"""


def test_predict_and_verify_need_no_framework(capsys: Capture, folder: Path) -> None:
    exported(capsys)
    (folder / "block").mkdir()
    (folder / "block" / "sitecustomize.py").write_text(BLOCKER)
    env = {"PYTHONPATH": str(folder / "block")}  # without the toy's folder: it is not there either
    said = process("predict", "model.onnx", "photos/ants/0.png", env=env)
    assert said.code == 0 and "ants" in said.out, said.err
    assert process("verify", "model.onnx", env=env).code == 0
    needs = process("predict", "runs/mine", "photos/ants/0.png", env=env)
    check(
        "Run whose framework is gone",
        ["predict", "runs/mine", "photos/ants/0.png"],
        needs,
        code=2,
        says=["toy"],
    )
