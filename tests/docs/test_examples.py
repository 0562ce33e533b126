"""Each framework's example runs from its file, as its head says, and leaves the model it promises."""

from __future__ import annotations

from pathlib import Path

import pytest
from docs_desk import ROOT, run

EXAMPLES = {
    "torch_photos.py": "photos/train photos/val out torch:resnet18@none,size=64",
    "tf_photos.py": "photos/train photos/val out",
    "hf_texts.py": "tickets.csv out",
}


def test_every_example_is_tried() -> None:
    assert {path.name for path in (ROOT / "examples").glob("*.py")} == set(EXAMPLES)


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_example_runs(name: str, desk: Path) -> None:
    said = run("bash", f"python {ROOT / 'examples' / name} {EXAMPLES[name]}", desk)
    assert (desk / "out" / "model.onnx").is_file(), said
