"""Folders of which KerasHub computes something else than their authors: refused on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from errors_table import fails, photographs

pytestmark = pytest.mark.tf
Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three folders of models, photographs and tickets, in a folder of the test's own."""
    monkeypatch.chdir(tmp_path)
    photographs(Path("photos"))
    Path("tickets.csv").write_text("text,label\n" + "it broke,bad\nit works,good\n" * 8)
    timm = {"architecture": "hgnetv2_b0", "num_classes": 1000, "num_features": 2048}
    other = {"architecture": "mobilenetv5_300m", "num_classes": 1000}
    for name, config in {"esm": {"model_type": "esm"}, "hgnet": timm, "mobile": other}.items():
        Path(name).mkdir()
        (Path(name) / "config.json").write_text(json.dumps(config))


def test_esm(capsys: Capture) -> None:
    arguments = ["train", "tf:./esm", "tickets.csv", "-o", "runs/mine"]
    fails(capsys, "ESM by KerasHub", arguments, code=2, says=["masks queries instead of keys", "Use hf:esm"])


def test_hgnetv2_with_its_classifier(capsys: Capture) -> None:
    arguments = ["train", "tf:./hgnet", "photos", "-o", "runs/mine"]
    says = ["convolution before the average", "Use torch:timm/hgnetv2_b0 --weights hgnet/"]
    fails(capsys, "timm's HGNetV2 by KerasHub", arguments, code=2, says=says)


def test_mobilenetv5(capsys: Capture) -> None:
    """With random weights of unit gain the features differ by more than they spread."""
    arguments = ["train", "tf:./mobile", "photos", "-o", "runs/mine"]
    says = ["other features than timm", "Use torch:timm/mobilenetv5_300m"]
    fails(capsys, "timm's MobileNetV5 by KerasHub", arguments, code=2, says=says)
