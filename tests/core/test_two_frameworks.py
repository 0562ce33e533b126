"""One set of weights in two frameworks: the same network, native and as ONNX (real weights, real photographs)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from present import missing

from zoo.cards import ImagePreprocess
from zoo.data import prepare
from zoo.graph import OnnxModel
from zoo.process import Worker


@pytest.mark.shared
@pytest.mark.skipif(bool(missing("tf") or missing("hf")), reason="needs the extras tf and hf")
def test_mobilenet_of_keras_and_of_transformers(shared: Path, tmp_path: Path) -> None:
    """Logits agree to 1e-4 of their scale: Keras, transformers, and both of their ONNX files."""
    photographs = sorted((shared / "data" / "imagenet_sample").glob("*.JPEG"))[::5]
    models = {"hf": f"hf:{shared}/weights/hf/mobilenet_v1_0.75_224", "tf": "tf:mobilenet_v1_0.75_224"}
    found: dict[str, np.ndarray] = {}
    tests = str(Path(__file__).resolve().parent.parent)
    env = {"PYTHONPATH": tests, "ZOO_MIRROR": str(shared / "weights" / "keras")}
    half = (0.5, 0.5, 0.5)
    pixels = tmp_path / "pixels.npy"
    np.save(pixels, prepare(photographs, ImagePreprocess(224, 224, mean=half, std=half))["images"])
    for framework, model in models.items():
        folder = tmp_path / framework
        folder.mkdir()
        with Worker(framework, env=env) as worker:
            arguments = {"model": model, "pixels": str(pixels), "folder": str(folder)}
            worker.call("one_set_of_weights:native_and_onnx", arguments, timeout_s=300)
        found[f"{framework} native"] = np.load(folder / "logits.npy")
        onnx = OnnxModel(folder / "model.onnx")
        found[f"{framework} onnx"] = onnx.logits({"images": np.load(pixels)})
    # Google's checkpoint, as transformers keeps it, has a background class before the thousand.
    thousand = {name: logits[:, -1000:] for name, logits in found.items()}
    reference = thousand["hf native"]
    scale = float(np.abs(reference).max())
    errors = {name: float(np.abs(logits - reference).max()) / scale for name, logits in thousand.items()}
    assert len(errors) == 4 and max(errors.values()) < 1e-4, errors
