"""Image classification folders: transformers' own logits, preprocess as its processor states it, real top-1."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

from zoo import data
from zoo.engine import LoadRequest
from zoo.errors import InputError
from zoo_hf.adapter import ADAPTER
from zoo_torch.engine import TorchEngine
from zoo_torch.layout import arrange, image_tensor

CONFIG = transformers.MobileNetV1Config(
    depth_multiplier=0.25, image_size=32, initializer_range=0.4, id2label={0: "ant", 1: "bee", 2: "wasp"}
)
PROCESSOR: dict[str, Any] = {
    "do_resize": True,
    "size": {"shortest_edge": 40},
    "resample": 3,
    "do_center_crop": True,
    "crop_size": {"height": 32, "width": 32},
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.5, 0.4, 0.3],
    "image_std": [0.5, 0.6, 0.7],
    "image_processor_type": "MobileNetV1ImageProcessor",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    transformers.MobileNetV1ForImageClassification(CONFIG).save_pretrained(tmp_path)
    state(tmp_path, PROCESSOR)
    return tmp_path


def state(folder: Path, processor: dict[str, Any]) -> None:
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))


def load(folder: Path, **options: Any) -> TorchEngine:
    return ADAPTER.load(LoadRequest(str(folder), **options))


def test_logits_blocks_and_labels_are_the_checkpoints(folder: Path) -> None:
    engine = load(folder)
    batch = {"images": np.random.default_rng(0).standard_normal((2, 3, 32, 32), dtype=np.float32)}
    native = transformers.AutoModelForImageClassification.from_pretrained(folder).eval()
    with torch.no_grad():  # in the engine's layout in memory, which decides the last bits
        native = arrange(native, engine.layout)
        want = native(image_tensor(batch["images"], engine.layout)).logits.numpy()
    assert np.abs(engine.logits(batch) - want).max() < 1e-6 * np.abs(want).max()
    assert engine.labels == ("ant", "bee", "wasp") and engine.num_classes == 3
    assert engine.blocks == ("stem", *(f"unit.{i}" for i in range(13)))
    stored = json.loads(json.dumps(engine.architecture()))
    assert stored == engine.architecture(), "not the same after JSON"
    again = ADAPTER.rebuild(stored, engine.preprocess)
    again.load_state(engine.state())
    # Bit for bit: the weights must lie in memory of their own, not at odd addresses in the mapped file.
    assert np.array_equal(again.logits(batch), engine.logits(batch))
    assert load(folder, num_classes=7).logits(batch).shape == (2, 7)
    assert load(folder, weights="none").labels is None


def test_preprocess_is_the_processors(folder: Path) -> None:
    """Pixel for pixel what transformers' Pillow processor gives; its tensor one within 2 of 255 levels."""
    noise = np.random.default_rng(0).integers(0, 256, (61, 87, 3), dtype=np.uint8)
    image = Image.fromarray(noise).resize((177, 120), Image.Resampling.BICUBIC)  # crops at 13.5
    got = data.prepare([image], load(folder).preprocess)["images"]
    exact = transformers.MobileNetV1ImageProcessorPil.from_pretrained(folder)
    assert np.abs(got - exact(image, return_tensors="np")["pixel_values"]).max() < 1e-5
    fast = transformers.AutoImageProcessor.from_pretrained(folder)
    assert np.abs(got - fast(image, return_tensors="np")["pixel_values"]).max() < 2.01 / 255 / 0.5


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"do_center_crop": False}, "without a crop"),
        ({"do_resize": False}, "resizes nothing"),
        ({"size": {"longest_edge": 7}}, "size that the zoo cannot read"),
    ],
)
def test_a_preprocess_that_cannot_be_done_is_refused(folder: Path, change: dict[str, Any], said: str) -> None:
    state(folder, {**PROCESSOR, **change})
    with pytest.raises(InputError, match=said):
        load(folder)


def test_sizes(folder: Path) -> None:
    exact = {**PROCESSOR, "size": {"height": 32, "width": 32}, "do_center_crop": False}
    state(folder, exact)
    found = load(folder).preprocess
    assert (found.resize, found.resize_to, found.height) == ("exact", (32, 32), 32)
    state(folder, {**PROCESSOR, "crop_size": 32})
    assert load(folder, size=64).preprocess.resize_to == (80, 80)
    with pytest.raises(InputError, match=r"depth 9 is not there.*depths 1 to"):
        load(folder, depth=9)


def test_keep_probability_is_not_dropped(folder: Path) -> None:
    """transformers' MobileNetV1 default drops 99.9 % of the features: TF's probability to keep."""
    assert CONFIG.classifier_dropout_prob == 0.999
    assert load(folder).module.dropout.p == pytest.approx(0.001)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "classifier_dropout_prob": 0.3}))
    assert load(folder).module.dropout.p == pytest.approx(0.3)


@pytest.mark.shared
def test_mobilenet_gives_transformers_top_1(shared: Path) -> None:
    """100 photographs through our preprocess and engine, and through transformers' processor and model."""
    folder = shared / "weights" / "hf" / "mobilenet_v1_0.75_224"
    photographs = sorted((shared / "data" / "imagenet_sample").glob("*.JPEG"))
    engine = load(folder)
    processor = transformers.AutoImageProcessor.from_pretrained(folder)
    native = transformers.AutoModelForImageClassification.from_pretrained(folder).eval()
    agree = 0
    for path in photographs:
        fed = processor(Image.open(path).convert("RGB"), return_tensors="pt")
        with torch.no_grad():
            want = int(native(**fed).logits.argmax())
        agree += want == int(engine.logits(data.prepare([path], engine.preprocess)).argmax())
    assert len(photographs) == 100 and agree >= 99
