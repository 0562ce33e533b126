"""`zoo export --precision` on the command line: a variant from start to use, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from errors_table import fails, here, photographs
from small_networks import convnet, foreign

from zoo.graph import OnnxModel, export_engine
from zoo.testing import toy
from zoo.testing.toy import ToyEngine

Capture = pytest.CaptureFixture[str]
STATIC = ["--precision", "int8-static"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder: photos of two classes, a network for them as ants.onnx; beside it the toy framework."""
    work = tmp_path / "work"
    photographs(work / "photos")
    monkeypatch.chdir(work)
    convnet(Path("ants.onnx"))
    with toy.installed(tmp_path / "site"):
        yield work


def texts() -> None:
    export_engine(ToyEngine("text", num_classes=2), Path("texts.onnx"), model_id="toy:text", versions={})


# --- what works
def test_a_variant_is_written_judged_verified_and_used(capsys: Capture) -> None:
    arguments = ["export", "ants.onnx", "-o", "q.onnx", *STATIC, "--calibrate", "photos", "--data", "photos"]
    said = here(capsys, *arguments)
    assert said.code == 0, said.err
    assert "int8-static" in said.out and "float32 1.000 on the same 16 examples" in said.out
    assert "of float32's" in said.out and Path("predict.py").is_file()
    assert here(capsys, "verify", "q.onnx").code == 0
    assert "bees" in here(capsys, "predict", "q.onnx", "photos/bees/0.png").out
    assert "1.000" in here(capsys, "evaluate", "q.onnx", "photos").out
    measured = here(capsys, "bench", "q.onnx", "ants.onnx", "--json")
    assert measured.code == 0 and not any(row["error"] for row in json.loads(measured.out))


def test_a_lost_point_is_explained(capsys: Capture) -> None:
    convnet(Path("loud.onnx"), loud=20000.0)
    arguments = ["export", "loud.onnx", "-o", "q.onnx", *STATIC, "--calibrate", "photos", "--data", "photos"]
    said = here(capsys, *arguments)
    assert said.code == 0, said.err
    assert "costly layer" in said.out and "--keep last" in said.out
    kept = here(capsys, *arguments, "--keep", "last", "--json")
    report = json.loads(kept.out)
    assert (
        report["kept"] == ["last"] and report["report"]["accuracy"] == 1.0 and not report["report"]["layers"]
    )


def test_a_run_becomes_a_variant(capsys: Capture) -> None:
    assert here(capsys, "train", "toy:tiny", "photos", "--epochs", "1", "-o", "runs/mine").code == 0
    said = here(capsys, "export", "runs/mine", "-o", "q.onnx", "--precision", "fp16", "--uint8-input")
    assert said.code == 0, said.err
    assert OnnxModel("q.onnx").provenance["precision"] == "fp16"
    assert [p.name for p in Path().glob("*.onnx")].count("fp32.onnx") == 0


def test_photographs_without_labels_calibrate(capsys: Capture) -> None:
    Path("flat").mkdir()
    for file in Path("photos/ants").iterdir():
        file.rename(Path("flat") / file.name)
    said = here(capsys, "export", "ants.onnx", "-o", "q.onnx", *STATIC, "--calibrate", "flat")
    assert said.code == 0, said.err
    assert OnnxModel("q.onnx").provenance["calibrated_on"]["examples"] == 8


def test_the_script_beside_it_is_for_the_file_written_last(capsys: Capture) -> None:
    for name in ("u.onnx", "q.onnx"):
        said = here(capsys, "export", "ants.onnx", "-o", name, "--uint8-input")
        assert said.code == 0 and "is yours" not in said.out
    assert '"q.onnx"' in Path("predict.py").read_text()


# --- what does not
def refused(
    capsys: Capture, case: str, *arguments: str, says: list[str], model: str = "ants.onnx", code: int = 2
) -> None:
    fails(capsys, case, ["export", model, "-o", "q.onnx", *arguments], code=code, says=says)
    assert not Path("q.onnx").exists()


def test_static_int8_without_calibration_data(capsys: Capture) -> None:
    refused(
        capsys, "int8-static without calibration data", *STATIC, says=["--calibrate DATA", "int8-dynamic"]
    )


def test_calibration_data_for_what_takes_none(capsys: Capture) -> None:
    arguments = ["--precision", "fp16", "--calibrate", "photos"]
    refused(capsys, "Calibration data for fp16", *arguments, says=["leave the calibration data out"])


def test_calibration_data_that_is_not_there(capsys: Capture) -> None:
    arguments = [*STATIC, "--calibrate", "fotos"]
    refused(capsys, "Calibration data that is not there", *arguments, says=["fotos"])


def test_calibration_data_that_is_empty(capsys: Capture) -> None:
    Path("empty").mkdir()
    arguments = [*STATIC, "--calibrate", "empty"]
    refused(capsys, "Calibration data that is empty", *arguments, says=["empty holds no photographs"])


def test_calibration_data_of_another_kind(capsys: Capture) -> None:
    Path("texts.csv").write_text("text,label\nlost,a\nfound,b\nlate,a\nbroken,b\n")
    arguments = [*STATIC, "--calibrate", "texts.csv"]
    refused(capsys, "Texts to calibrate an image network on", *arguments, says=["texts.csv"])


def test_precision_that_there_is_not(capsys: Capture) -> None:
    refused(
        capsys,
        "Precision that there is not",
        "--precision",
        "int4",
        says=["fp32, fp16, int8-dynamic, int8-static"],
    )


def test_variant_of_a_variant(capsys: Capture) -> None:
    OnnxModel("ants.onnx").quantize("int8-static", "int8.onnx", calibrate="photos")
    arguments = ["--precision", "fp16"]
    says = ["int8.onnx is no float32 file", "give the file that it was made from"]
    refused(capsys, "Variant of a file that is int8 already", *arguments, says=says, model="int8.onnx")


def test_half_that_overflows(capsys: Capture) -> None:
    convnet(Path("loud.onnx"), gain=1e5)
    arguments = ["--precision", "fp16"]
    says = ["overflows in fp16", "65504", "Nothing was written"]
    refused(capsys, "fp16 of a network that overflows", *arguments, says=says, model="loud.onnx", code=6)


def test_pixels_for_a_text_network(capsys: Capture) -> None:
    texts()
    says = ["texts.onnx reads texts", "--uint8-input"]
    refused(capsys, "uint8 input for a text network", "--uint8-input", says=says, model="texts.onnx")


def test_dynamic_int8_of_convolutions(capsys: Capture) -> None:
    says = ["convolutions hold 100% of the weights", "int8-static"]
    refused(capsys, "int8-dynamic of a convolutional network", "--precision", "int8-dynamic", says=says)


def test_layer_that_is_not_there(capsys: Capture) -> None:
    arguments = [*STATIC, "--calibrate", "photos", "--keep", "frist"]
    refused(
        capsys,
        "Layer to keep in float that is not there",
        *arguments,
        says=["no layer 'frist'", "near: first"],
    )


def test_onnx_file_and_nothing_to_make_of_it(capsys: Capture) -> None:
    refused(capsys, "Export of an ONNX file as it is", says=["is an ONNX file already", "--precision"])


def test_option_of_a_variant_without_one(capsys: Capture) -> None:
    says = ["--calibrate: of a variant", "--precision"]
    refused(capsys, "Calibration data and no precision", "--calibrate", "photos", says=says, model="toy:tiny")


def test_variant_of_somebody_elses_file(capsys: Capture) -> None:
    foreign(Path("theirs.onnx"))
    arguments = ["--precision", "fp16"]
    says = ["theirs.onnx was not exported by Backbone Zoo", "`zoo export`"]
    refused(capsys, "Variant of somebody's ONNX file", *arguments, says=says, model="theirs.onnx")


def test_data_of_other_classes_for_a_variant(capsys: Capture) -> None:
    photographs(Path("other"))
    Path("other/ants").rename("other/cats")
    arguments = ["--precision", "fp16", "--data", "other"]
    refused(capsys, "Variant judged on other classes", *arguments, says=["cats"])
