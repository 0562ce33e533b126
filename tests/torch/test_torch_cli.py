"""The command line over torch: weights that cannot be had or trusted, and from training to the ONNX file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torchvision
from errors_table import NO_NETWORK, fails, here, photographs, pickled_payload

Capture = pytest.CaptureFixture[str]
SMALL = ["--size", "64", "--epochs", "1", "-o", "runs/mine"]
REFUSED = r"<urlopen error .*?>"
TRAIN = ["train", "torch:squeezenet1_1", "photos", *SMALL]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder: photos of two classes. No network, and no weights downloaded before."""
    photographs(tmp_path / "photos", count=4)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    for name, value in NO_NETWORK.items():
        monkeypatch.setenv(name, value)
    yield tmp_path
    assert not (tmp_path / "pwned").exists(), "a pickle was run"


# --- weights
def test_weights_unreachable(capsys: Capture) -> None:
    arguments = ["predict", "torch:resnet50", "photos"]
    says = ["resnet50-11ad3fa6.pth", "https://download.pytorch.org/models/", "ZOO_MIRROR is not set"]
    fails(capsys, "Weights that cannot be reached", arguments, code=5, says=says, theirs=REFUSED)
    assert [p for p in Path("torch").rglob("*") if p.is_file()] == []


def test_mirror_without_the_file(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("mirror").mkdir()
    monkeypatch.setenv("ZOO_MIRROR", "mirror")
    arguments = ["predict", "torch:resnet50", "photos"]
    says = ["ZOO_MIRROR=mirror does not hold it", "Put resnet50-11ad3fa6.pth into a folder"]
    fails(capsys, "Mirror that lacks the weights", arguments, code=5, says=says, theirs=REFUSED)


def test_weights_tampered_with(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("mirror").mkdir()
    Path("mirror/resnet50-11ad3fa6.pth").write_bytes(b"other bytes")
    monkeypatch.setenv("ZOO_MIRROR", "mirror")
    arguments = ["predict", "torch:resnet50", "photos"]
    says = ["mirror/resnet50-11ad3fa6.pth is not the official", "SHA-256", "it was not loaded"]
    fails(capsys, "Weights tampered with (other bytes than their name says)", arguments, code=5, says=says)


def test_weights_truncated(capsys: Capture) -> None:
    torch.save({"weight": torch.zeros(1000)}, "whole.pth")
    Path("cut.pth").write_bytes(Path("whole.pth").read_bytes()[:-600])
    arguments = [*TRAIN, "--weights", "cut.pth"]
    says = ["cannot read the weights cut.pth", "truncated"]
    theirs = r"(?<=file\): ).*(?= Get)"
    fails(capsys, "Truncated weights (torch)", arguments, code=5, says=says, theirs=theirs)
    assert not Path("runs").exists()


def test_weights_of_another_network(capsys: Capture) -> None:
    torch.save({"weight": torch.zeros(3)}, "other.pth")
    arguments = [*TRAIN, "--weights", "other.pth"]
    fails(capsys, "Weights of another network", arguments, code=5, says=["another network", "missing"])


@pytest.mark.filterwarnings("always::UserWarning")
def test_weights_that_lack_keys(capsys: Capture) -> None:
    """Listed; with --partial they stay random, are named again, and training goes on."""
    whole = torchvision.models.squeezenet1_1(weights=None).state_dict()
    torch.save({key: value for key, value in whole.items() if "features.12" not in key}, "part.pth")
    arguments = [*TRAIN, "--weights", "part.pth"]
    says = ["6 of 50 keys are missing: features.12.squeeze.weight", "--partial"]
    fails(capsys, "Weights that lack some keys (torch)", arguments, code=5, says=says)
    said = here(capsys, *arguments, "--partial")
    assert (
        said.code == 0
        and "warning: the weights lack 6 of 50 keys, which stay random: features.12" in said.err
    )


SIZES = {
    "Input smaller than the network takes (torch)": (
        ["torch:squeezenet1_1", "photos", "--size", "8"],
        "at least 17 pixels a side",
    ),
    "Input of no whole number of patches (torch)": (
        ["torch:vit_b_32", "photos", "--size", "100"],
        "multiples of 32 pixels",
    ),
    "Depth that the network has not (torch)": (
        ["torch:squeezenet1_1", "photos", "--size", "64", "--depth", "9"],
        "depths 1 to 3, not 9",
    ),
}


@pytest.mark.parametrize("case", list(SIZES))
def test_sizes_and_depths_that_there_are_not(capsys: Capture, case: str) -> None:
    arguments, says = SIZES[case]
    fails(capsys, case, ["train", *arguments, "--weights", "none", "-o", "runs/mine"], code=2, says=[says])
    assert not Path("runs").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is one here")
def test_device_that_is_not_there(capsys: Capture) -> None:
    arguments = [
        "train",
        "torch:squeezenet1_1",
        "photos",
        "--weights",
        "none",
        "--device",
        "cuda",
        "-o",
        "runs/mine",
    ]
    says = ["torch cannot use the device 'cuda' here", "Leave the device out to compute on the CPU"]
    fails(
        capsys,
        "Device that is not there (torch)",
        arguments,
        code=2,
        says=says,
        theirs=r"(?<=here: ).*(?=\. Leave)",
    )
    assert not Path("runs").exists()


def test_weights_file_missing(capsys: Capture) -> None:
    arguments = [*TRAIN, "--weights", "nowhere.pth"]
    fails(capsys, "Weights file that is not there", arguments, code=2, says=["nowhere.pth"])


@pytest.mark.parametrize("protocol", [2, 4])
def test_pickle_posing_as_weights(capsys: Capture, protocol: int) -> None:
    pickled_payload(Path("evil.pth"), protocol=protocol)
    arguments = [*TRAIN, "--weights", "evil.pth"]
    says = ["evil.pth is a pickle that holds more than tensors", "it was not loaded"]
    fails(capsys, "Pickle posing as weights (torch)", arguments, code=5, says=says)


@pytest.mark.parametrize("size", [10, 200, 400, 4000])
def test_old_torch_file_truncated_anywhere(capsys: Capture, size: int) -> None:
    torch.save({"weight": torch.zeros(1000)}, "whole.pth", _use_new_zipfile_serialization=False)
    Path("cut.pth").write_bytes(Path("whole.pth").read_bytes()[:size])
    said = here(capsys, *TRAIN, "--weights", "cut.pth")
    assert said.code == 5 and "cannot read the weights cut.pth" in said.err, said


def test_web_page_in_place_of_weights(capsys: Capture) -> None:
    Path("page.pth").write_text("<html><body>404 Not Found</body></html>")
    arguments = [*TRAIN, "--weights", "page.pth"]
    says = ["cannot read the weights page.pth", "neither a torch file nor safetensors"]
    said = fails(capsys, "Web page in place of weights", arguments, code=5, says=says)
    assert "weights_only" not in said.err  # torch advises to load without its guard


# --- training
def test_loss_that_is_not_a_number(capsys: Capture) -> None:
    recipe = [
        "--weights",
        "none",
        "--freeze",
        "none",
        "--optimizer",
        "sgd",
        "--lr",
        "1e20",
        "--batch-size",
        "4",
    ]
    says = ["the loss became nan", "the weights from before training were put back", "Lower lr"]
    fails(capsys, "Loss that becomes NaN (torch)", [*TRAIN, *recipe], code=7, says=says)
    assert not Path("runs/mine/zoo.json").exists()


def test_from_training_to_onnx(capsys: Capture) -> None:
    recipe = ["--weights", "none", "--freeze", "2", "--optimizer", "sgd", "--lr", "1e-3", "--seed", "1"]
    said = here(capsys, *TRAIN, *recipe, "--validation-fraction", "0.25")
    assert said.code == 0, said.err
    assert (
        "zoo export runs/mine" in said.out and "zoo evaluate" not in said.out
    )  # nothing is left to judge on
    said = here(capsys, "evaluate", "runs/mine", "photos", "--json")
    native = json.loads(said.out)
    assert here(capsys, "export", "runs/mine", "-o", "out/model.onnx").code == 0
    assert Path("out/predict.py").is_file()
    exported = json.loads(here(capsys, "evaluate", "out/model.onnx", "photos", "--json").out)
    assert exported["accuracy"] == native["accuracy"]
    assert exported["log_loss"] == pytest.approx(native["log_loss"], abs=1e-4)
    assert here(capsys, "verify", "out/model.onnx").code == 0
    lines = here(capsys, "predict", "out/model.onnx", "photos", "--top", "1").out.splitlines()
    assert len(lines) == 8 and lines[0].startswith("photos/ants/0.png")
