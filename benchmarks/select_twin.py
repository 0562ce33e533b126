"""The same weights in a framework that can be fine-tuned where the other is not at hand: on a borrowed GPU, say.

Of MobileNet 0.25 only Keras's file is in ../shared. Its tensors are written as a transformers folder, so that torch's
engine can train it too; that the two agree is checked where both are there.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np

from zoo.engine import Array

FOUND = re.compile(r"(conv1|conv_(dw|pw)_(\d+))(_bn)?/")
PARTS = {
    "kernel": "convolution.weight",
    "depthwise_kernel": "convolution.weight",
    "gamma": "normalization.weight",
    "beta": "normalization.bias",
    "moving_mean": "normalization.running_mean",
    "moving_variance": "normalization.running_var",
}


def write_twin(keras_file: Path, like: Path, folder: Path, multiplier: float) -> Path:
    """Write MobileNet v1's Keras weights (.h5, no top) as transformers' MobileNetV1.

    like: a folder of that architecture, of which the settings and the preprocessing are taken.
    """
    import h5py
    from safetensors.numpy import load_file, save_file

    tensors: dict[str, Array] = {}
    with h5py.File(keras_file) as stored:
        stored.visititems(lambda name, item: _put(tensors, name, item))
    wide = load_file(like / "model.safetensors")
    missing = {name for name in wide if not name.startswith("classifier.")} - set(tensors)
    assert all(name.endswith("num_batches_tracked") for name in missing), sorted(missing)
    tensors |= {name: wide[name] for name in missing}
    classes, features = len(wide["classifier.bias"]), tensors["mobilenet_v1.layer.25.normalization.bias"].size
    tensors["classifier.weight"] = np.zeros((classes, features), np.float32)
    tensors["classifier.bias"] = np.zeros(classes, np.float32)
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(like / "preprocessor_config.json", folder)
    config = json.loads((like / "config.json").read_text()) | {"depth_multiplier": multiplier}
    (folder / "config.json").write_text(json.dumps(config))
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def _put(tensors: dict[str, Array], name: str, item: object) -> None:
    found = FOUND.match(name)
    if found is None or not hasattr(item, "shape"):
        return
    part = PARTS[name.rpartition("/")[2].removesuffix(":0")]
    kind, number = found[2], int(found[3] or 0)
    place = "conv_stem" if kind is None else f"layer.{2 * (number - 1) + (kind == 'pw')}"
    value = np.asarray(item, np.float32)
    if value.ndim == 4:  # (height, width, in, out), and (height, width, in, 1) of a depthwise one
        value = value.transpose(2, 3, 0, 1) if kind == "dw" else value.transpose(3, 2, 0, 1)
    tensors[f"mobilenet_v1.{place}.{part}"] = np.ascontiguousarray(value)
