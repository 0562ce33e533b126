"""`zoo check` on real weights and photographs: quiet on the model as it is, and right about a broken one."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import onnx
import pytest

import zoo
from zoo.cards import ImagePreprocess
from zoo.graph import metadata

SQUEEZENET = "weights/torch/squeezenet1_1-converted-from-caffe-fp16.pth"


@pytest.fixture(scope="module")
def squeezenet(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("check") / "squeezenet.onnx"
    zoo.get("torch:squeezenet1_1", weights=shared / SQUEEZENET).export(path)
    return path


@pytest.mark.shared
@pytest.mark.parametrize(
    ("fault", "changes"),
    [(None, {}), ("BGR for RGB", {"channels": "BGR"})],
)
def test_squeezenet(
    fault: str | None, changes: dict[str, object], squeezenet: Path, shared: Path, tmp_path: Path
) -> None:
    model = onnx.load(squeezenet)
    found = metadata.read(model, squeezenet)
    assert isinstance(found.preprocess, ImagePreprocess)
    broken = dataclasses.replace(found.preprocess, **changes)  # type: ignore[arg-type]
    metadata.write(model, dataclasses.replace(found, preprocess=broken))
    onnx.save(model, tmp_path / "model.onnx")
    labels = shared / "data/imagenet_sample/labels.csv"
    report = zoo.check(tmp_path / "model.onnx", labels, label="class_index", examples=60)
    assert [finding.fault for finding in report.findings] == ([] if fault is None else [fault]), (
        report.lines()
    )
    if fault is not None:
        assert report.preprocess == found.preprocess
        assert report.findings[0].accuracy_after > 0.5 > report.findings[0].accuracy_before
