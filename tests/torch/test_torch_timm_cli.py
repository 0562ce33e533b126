"""timm's networks on the command line: names, tags, sizes and files that are wrong, each with its cure."""

from __future__ import annotations

from pathlib import Path

import pytest
import safetensors.torch
import timm
from errors_table import NO_NETWORK, fails, photographs

Capture = pytest.CaptureFixture[str]
RUN = ["--epochs", "1", "-o", "runs/mine"]
WRONG = {
    "timm tag that does not exist": (["timm/resnet50@a1_in2k"], ["a1_in1k"]),
    "timm architecture that does not exist": (["timm/resnett50"], ["timm/resnet50"]),
    "Input of a size that a timm network does not take": (
        ["timm/test_vit", "--weights", "none", "--size", "100"],
        ["does not take images of 100 pixels", "96 and 128", "smallest is 16"],
    ),
    "Depth that a timm network has not": (
        ["timm/test_vit", "--weights", "none", "--depth", "9"],
        ["depths 1 to 6"],
    ),
}


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The current folder: photos of two classes. No network."""
    photographs(tmp_path / "photos", count=4)
    monkeypatch.chdir(tmp_path)
    for name, value in NO_NETWORK.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize("case", list(WRONG))
def test_timm_wrong(capsys: Capture, case: str) -> None:
    (name, *options), says = WRONG[case]
    fails(capsys, case, ["train", f"torch:{name}", "photos", *options, *RUN], code=2, says=says)
    assert not Path("runs").exists()


def test_timm_file_that_lacks_keys(capsys: Capture) -> None:
    state = timm.create_model("test_vit").state_dict()
    safetensors.torch.save_file(
        {k: v for k, v in state.items() if "blocks.5.mlp" not in k}, "part.safetensors"
    )
    arguments = ["train", "torch:timm/test_vit", "photos", "--weights", "part.safetensors", *RUN]
    says = ["lack 4 keys (blocks.5.mlp.fc1.weight", "--partial"]
    fails(capsys, "timm weights that lack some keys", arguments, code=5, says=says)
