"""Anybody's ONNX files under `zoo bench` and `zoo info`: what they are missing, what they want, what is refused."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import onnx
import pytest
from cost_graphs import Dims, conv_net, node, write, zeros
from errors_table import fails, here
from onnx import TensorProto

import zoo
from zoo.errors import InputError

Capture = pytest.CaptureFixture[str]
QUICK = ("--min-seconds", "0.05", "--threads", "1")
LIBRARY = """
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
void *RegisterCustomOps(void *options, const void *api) {
    FILE *note = fopen(getenv("ZOO_TEST_NOTE"), "a");
    fprintf(note, "%d\\n", (int)getpid());
    fclose(note);
    return 0;  /* no operator, and no error */
}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The current folder is empty."""
    monkeypatch.chdir(tmp_path)


def one_node(
    name: str, op: str, *, inputs: dict[str, Dims] | None = None, domain: str = "", opset: int = 18
) -> None:
    """A file of one node."""
    domains = [domain] if domain else []
    given = inputs or {"x": ["N", 4]}
    nodes = [node(op, list(given), ["y"], domain=domain, name="the_node")]
    path = write(Path(name), nodes, given, {}, domains=domains, check=False)
    model = onnx.load(str(path))
    model.opset_import[0].version = opset
    onnx.save(model, str(path))


def refused(
    capsys: Capture, case: str, name: str, *says: str, options: tuple[str, ...] = (), theirs: str = ""
) -> None:
    """`zoo bench` on that file alone ends with these words."""
    fails(capsys, case, ["bench", name, *options], code=9, says=says, theirs=theirs)


# --- no ONNX
def test_no_onnx(capsys: Capture) -> None:
    Path("notes.onnx").write_text("my notes")
    refused(
        capsys,
        "Measuring a file that is no ONNX model",
        "notes.onnx",
        "is not an ONNX file",
        theirs=r"\(.*?\)",
    )
    Path("empty.onnx").touch()
    refused(capsys, "Measuring an empty file", "empty.onnx", "empty.onnx is not an ONNX file: it is empty")
    Path("pointer.onnx").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    refused(capsys, "Measuring a Git LFS pointer", "pointer.onnx", "it is a Git LFS pointer", "git lfs pull")
    Path("page.onnx").write_text("<!DOCTYPE html>\n<html>not found</html>")
    refused(capsys, "Measuring a web page in place of a model", "page.onnx", "it is a web page")
    Path("folder.onnx").mkdir()
    refused(capsys, "Measuring a folder", "folder.onnx", "folder.onnx is a folder")
    refused(capsys, "Measuring a file that is not there", "nowhere.onnx", "no file nowhere.onnx")


def test_truncated(capsys: Capture) -> None:
    whole = conv_net(Path("whole.onnx"), channels=64).read_bytes()
    Path("cut.onnx").write_bytes(whole[: len(whole) // 2])
    refused(
        capsys,
        "Measuring a truncated model",
        "cut.onnx",
        "was cut off while it was copied",
        theirs=r"\(.*?\)",
    )


def test_external_weights(capsys: Capture) -> None:
    path = write(Path("m.onnx"), [node("MatMul", ["x", "w"], ["y"])], {"x": ["N", 300]}, {"w": zeros(300, 9)})
    model = onnx.load(str(path))
    onnx.save(model, str(path), save_as_external_data=True, location="m.data", size_threshold=0)
    assert here(capsys, "bench", "m.onnx", *QUICK).code == 0
    Path("m.data").rename("other.data")
    refused(
        capsys,
        "Model without the file of its weights",
        "m.onnx",
        "m.onnx keeps weights in m.data, which is missing",
    )
    model = onnx.load(str(path), load_external_data=False)
    next(e for e in model.graph.initializer[0].external_data if e.key == "location").value = "../m.data"
    onnx.save(model, "outside.onnx")
    refused(
        capsys,
        "Model that keeps its weights elsewhere",
        "outside.onnx",
        "keeps weights in ../m.data, outside its own",
    )


# --- what ONNX Runtime lacks
def test_an_opset_that_the_runtime_lacks(capsys: Capture) -> None:
    one_node("new.onnx", "Relu", opset=99)
    theirs = r"ONNX Runtime [\d.]+ here has opsets up to \d+|opset \d+ or lower"
    refused(capsys, "Opset that ONNX Runtime lacks", "new.onnx", "new.onnx is of opset 99", theirs=theirs)
    model = onnx.load("new.onnx")
    model.opset_import[0].version, model.ir_version = 18, 99
    onnx.save(model, "format.onnx")
    theirs = r"ONNX Runtime [\d.]+ here takes up to \d+"
    refused(capsys, "IR version that ONNX Runtime lacks", "format.onnx", "IR version 99", theirs=theirs)


def test_an_operator_that_the_opset_lacks(capsys: Capture) -> None:
    one_node("gelu.onnx", "Gelu", opset=18)
    says = (
        "says opset 18 and uses ai.onnx Gelu (node 'the_node')",
        "from opset 20 on",
        "at opset 20 or higher",
    )
    refused(capsys, "Operator that is newer than the file's opset", "gelu.onnx", *says)


def test_an_operator_that_nobody_has(capsys: Capture) -> None:
    one_node("magic.onnx", "Magic")
    says = ("uses ai.onnx Magic (node 'the_node')", "knows such an operator")
    refused(
        capsys,
        "Operator that ONNX Runtime lacks",
        "magic.onnx",
        *says,
        theirs=r"Runtime [\d.]+ nor onnx [\d.]+",
    )
    one_node("contrib.onnx", "Magic", domain="com.microsoft")
    says = ("uses com.microsoft Magic",)
    refused(
        capsys, "Operator that ONNX Runtime's own domain lacks", "contrib.onnx", *says,
        theirs=r"Runtime [\d.]+ nor onnx [\d.]+",
    )  # fmt: skip


def test_every_version_that_the_runtime_has_is_taken(capsys: Capture) -> None:
    """The check beforehand refuses nothing that ONNX Runtime takes: old opsets, its own operators, functions."""
    one_node("old.onnx", "Relu", opset=7)
    one_node("contrib.onnx", "Gelu", domain="com.microsoft")
    one_node("newest.onnx", "Swish", opset=24)
    said = here(capsys, "bench", "old.onnx", "contrib.onnx", "newest.onnx", *QUICK)
    assert said.code == 0 and "could not be measured" not in said.out, said


# --- operators in a library
def test_a_library_of_operators_is_refused_unless_named(capsys: Capture) -> None:
    one_node("foreign.onnx", "Magic", domain="some.body")
    says = ("foreign.onnx uses some.body.Magic", "runs its code here", "--custom-ops")
    refused(
        capsys, "Operators in a library that was not named", "foreign.onnx", *says, theirs=r"Runtime [\d.]+"
    )
    arguments = ["bench", "foreign.onnx", "--custom-ops", "nowhere.so"]
    fails(
        capsys, "Library of operators that is not there", arguments, code=2, says=["nowhere.so: no such file"]
    )
    Path("text.so").write_text("no library")
    refused(
        capsys, "File that is no library of operators", "foreign.onnx", "text.so is no library of operators",
        options=("--custom-ops", "text.so"), theirs=r"Runtime [\d.]+ takes: .*",
    )  # fmt: skip


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler to build a library with")
def test_a_named_library_is_loaded_in_the_models_process_alone(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("lib.c").write_text(LIBRARY)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", "lib.so", "lib.c"], check=True)
    monkeypatch.setenv("ZOO_TEST_NOTE", str(Path("note").resolve()))
    conv_net(Path("good.onnx"))
    (cost,) = zoo.benchmark("good.onnx", custom_ops=["lib.so"], threads=1, min_seconds=0.05)
    assert cost.error is None and cost.latency_p50_ms
    loaded = Path("note").read_text().split()
    assert len(loaded) == 1 and int(loaded[0]) != os.getpid()
    one_node("foreign.onnx", "Magic", domain="some.body")
    refused(
        capsys, "Operator that the named library lacks", "foreign.onnx", "some.body:Magic", "not a registered",
        options=("--custom-ops", "lib.so"), theirs=r"foreign.onnx failed:.*",
    )  # fmt: skip


# --- inputs of unknown meaning, absurd shapes
def test_an_input_of_unknown_meaning_is_asked_for(capsys: Capture) -> None:
    nodes = [node("MatMul", ["frames", "w"], ["map"]), node("Mul", ["map", "gain"], ["y"])]
    inputs = {"frames": ["N", "time", "bins"], "gain": []}
    write(Path("sound.onnx"), nodes, inputs, {"w": zeros(80, 4)}, check=False)
    says = ("frames (?x?x? float32), gain (no axes declared, float32)", "--input frames:?x?x?:float32")
    refused(capsys, "Input whose meaning is not known", "sound.onnx", *says)
    given = ("--input", "frames:Nx50x80:float32", "--input", "gain:scalar:float32=2")
    said = here(capsys, "bench", "sound.onnx", *given, "--batch-size", "1,2", "--json", *QUICK)
    one, two = json.loads(said.out)
    assert one["error"] is None and one["macs"] == two["macs"] == 50 * 80 * 4
    assert (one["activation_bytes"], two["activation_bytes"]) == (4 * (50 * 84 + 1), 4 * (2 * 50 * 84 + 1))


def test_guessed_sizes_are_named_where_the_run_fails(capsys: Capture) -> None:
    nodes = [node("Reshape", ["x", "shape"], ["flat"]), node("MatMul", ["flat", "w"], ["y"])]
    weights = {"shape": np.array([0, 3 * 48 * 32], np.int64), "w": zeros(3 * 48 * 32, 4)}
    write(Path("strips.onnx"), nodes, {"x": ["N", 3, "H", "W"]}, weights, check=False)
    says = ("taken as x:1x3x224x224", "say so with --input")
    theirs = r"ONNX Runtime fails on this graph: .*?(?=\. Sizes)"
    refused(
        capsys,
        "Size that the file leaves open and 224 pixels do not fit",
        "strips.onnx",
        *says,
        theirs=theirs,
    )
    assert here(capsys, "bench", "strips.onnx", "--input", "x:Nx3x48x32", *QUICK).code == 0


@pytest.mark.parametrize(
    ("case", "option", "says"),
    [
        ("Input that cannot be read", "x", "cannot read --input 'x'"),
        ("Input that the graph lacks", "z:1x4", "--input z: no such input; there are x"),
    ],
)
def test_given_inputs_that_cannot_be(capsys: Capture, case: str, option: str, says: str) -> None:
    one_node("m.onnx", "Relu")
    fails(capsys, case, ["bench", "m.onnx", "--input", option], code=2, says=[says])


@pytest.mark.parametrize(
    ("case", "option", "says"),
    [
        ("Input with other axes than the graph's", "x:1x4x4:float32", "2 axes, not 3"),
        ("Input of another type than the graph's", "x:1x4:int64", "which is float32"),
    ],
)
def test_given_inputs_that_contradict_the_graph(capsys: Capture, case: str, option: str, says: str) -> None:
    one_node("m.onnx", "Relu")
    refused(capsys, case, "m.onnx", says, options=("--input", option))


def test_a_batch_that_no_axis_takes(capsys: Capture) -> None:
    one_node("m.onnx", "Relu")
    options = ("--input", "x:1x4", "--batch-size", "8")
    refused(
        capsys,
        "Batch size beside shapes without N",
        "m.onnx",
        "write N where the batch goes",
        options=options,
    )


def test_absurd_shapes_are_bounded(capsys: Capture) -> None:
    one_node("huge.onnx", "Relu", inputs={"x": [1, 3, 100_000, 100_000]})
    refused(
        capsys,
        "Input of an absurd size",
        "huge.onnx",
        "1x3x100000x100000 and take 120 GB",
        "4 GB is the most",
    )
    nodes = [node("Expand", ["x", "shape"], ["wide"]), node("ReduceSum", ["wide"], ["y"])]
    weights = {"shape": np.array([1, 10**7, 10**6], np.int64)}
    write(Path("grows.onnx"), nodes, {"x": ["N", 1]}, weights, check=False)
    says = "would hold 40,000 GB of tensors at once"
    refused(capsys, "Tensor of an absurd size inside a graph", "grows.onnx", says, theirs=r"has \d+ GB")


def test_inputs_that_hold_no_numbers(capsys: Capture) -> None:
    write(
        Path("words.onnx"),
        [node("StringNormalizer", ["x"], ["y"])],
        {"x": ["N"]},
        {},
        kind=TensorProto.STRING,
    )
    says = "the input 'x' is a tensor(string)"
    refused(capsys, "Input of strings", "words.onnx", says)


# --- what is shown
def test_info_shows_the_graph(capsys: Capture) -> None:
    conv_net(Path("mine.onnx"), size=32)
    said = here(capsys, "info", "mine.onnx")
    assert said.code == 0
    for text in (
        "images (?x3x32x32 float32)",
        "opset        ai.onnx 18",
        "Conv 1",
        "at batch 1",
        "0.000224 M",
    ):
        assert text in said.out, said.out
    card = json.loads(here(capsys, "info", "mine.onnx", "--json").out)
    assert card["macs"] == 32 * 32 * 8 * 27 and card["error"] is None
    one_node("magic.onnx", "Magic")
    assert "refused      magic.onnx uses ai.onnx Magic" in here(capsys, "info", "magic.onnx").out
    says = ["cannot read nowhere.onnx", "Check the path"]
    fails(capsys, "ONNX file that is not there, to be shown", ["info", "nowhere.onnx"], code=2, says=says)


def test_bench_shows_the_graph(capsys: Capture) -> None:
    conv_net(Path("mine.onnx"), size=32)
    said = here(capsys, "bench", "mine.onnx", "--graph", *QUICK)
    header, _, row = said.out.strip().splitlines()[-3:]
    assert [cell.strip() for cell in header.split("|")[3:6]] == ["weights MB", "activations MB", "nodes"]
    assert "0.0451" in row and "Conv 1, Flatten 1, GlobalAveragePool 1" in row
    (values,) = csv.DictReader(here(capsys, "bench", "mine.onnx", "--csv", *QUICK).out.splitlines())
    assert (values["weight_bytes"], values["activation_bytes"], values["transposes"]) == ("896", "45088", "0")


def test_python_takes_the_same(capsys: Capture) -> None:
    one_node("m.onnx", "Relu", inputs={"x": ["N", "time"]})
    (cost,) = zoo.benchmark("m.onnx", inputs=["x:Nx50"], threads=1, min_seconds=0.05)
    assert cost.error is None and cost.activation_bytes == 2 * 50 * 4 and cost.operators == {"Relu": 1}
    with pytest.raises(InputError, match="no such input"):
        zoo.benchmark("m.onnx", inputs=["z:1"], threads=1, min_seconds=0.05)
