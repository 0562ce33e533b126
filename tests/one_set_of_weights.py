"""What the workers of tests/core/test_two_frameworks.py run: native logits of a model on given pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from zoo import backbone


def native_and_onnx(model: str, pixels: str, folder: str) -> None:
    """Write the native logits to `folder`/logits.npy and the graph to `folder`/model.onnx."""
    found = backbone.get(model)
    np.save(Path(folder) / "logits.npy", found.engine.logits({"images": np.load(pixels)}))
    found.export(Path(folder) / "model.onnx")
