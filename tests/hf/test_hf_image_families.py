"""Image classifiers beyond one family: layers and stages, other sizes, averaged heads, processors of each kind."""

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
from zoo.errors import HeadMissingError, InputError
from zoo_hf import processors
from zoo_hf.adapter import ADAPTER
from zoo_torch.engine import TorchEngine

PLAIN = {"size": {"height": 32, "width": 32}, "image_processor_type": "ViTImageProcessor"}
VIT: dict[str, Any] = {
    "image_size": 32,
    "patch_size": 8,
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "num_labels": 3,
    "initializer_range": 0.4,
}


def saved(module: Any, folder: Path, processor: dict[str, Any] = PLAIN) -> Any:
    module.eval().save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return module


def load(folder: Path, **options: Any) -> TorchEngine:
    return ADAPTER.load(LoadRequest(str(folder), **options))


def images(size: int) -> dict[str, Any]:
    return {"images": np.random.default_rng(0).standard_normal((2, 3, size, size), dtype=np.float32)}


def test_a_transformer_is_cut_in_layers(tmp_path: Path) -> None:
    saved(transformers.ViTForImageClassification(transformers.ViTConfig(**VIT)), tmp_path)
    whole, cut, batch = load(tmp_path), load(tmp_path, depth=2), images(32)
    shallow = transformers.ViTForImageClassification.from_pretrained(tmp_path, num_hidden_layers=2).eval()
    shallow.classifier = torch.nn.Identity()
    with torch.no_grad():
        want = shallow(torch.from_numpy(batch["images"])).logits.numpy()
        (one_pass,) = whole._outputs((2,))(whole._tensors(batch))
    assert whole.depths == (1, 2, 3) and cut.depths == (1, 2) and len(cut.state()) < len(whole.state())
    assert np.abs(cut.features(batch) - want).max() < 1e-5
    assert np.abs(one_pass.numpy() - want).max() < 1e-5
    with pytest.raises(HeadMissingError, match="cut in depth"):
        cut.logits(batch)
    again = ADAPTER.rebuild(json.loads(json.dumps(cut.architecture())), cut.preprocess)
    again.load_state(cut.state())
    assert np.array_equal(again.features(batch), cut.features(batch))


def test_a_convolution_net_is_cut_at_stages(tmp_path: Path) -> None:
    config = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 12, 16, 20], depths=[1, 1, 1, 1], num_labels=3
    )
    native = saved(transformers.ResNetForImageClassification(config), tmp_path)
    engine, batch = load(tmp_path), images(32)
    with torch.no_grad():
        stem = native.resnet.embedder(torch.from_numpy(batch["images"]))
        second = native.resnet.encoder.stages[1](native.resnet.encoder.stages[0](stem))
    cut = load(tmp_path, depth=2)
    assert engine.depths == (1, 2, 3, 4) and (cut.feature_dim, cut.num_classes) == (12, None)
    assert np.abs(cut.features(batch) - second.mean(dim=(2, 3)).numpy()).max() < 1e-5
    assert not any("stages.2" in key for key in cut.state())


def test_position_embeddings_are_interpolated_as_transformers_does(tmp_path: Path) -> None:
    native = saved(transformers.ViTForImageClassification(transformers.ViTConfig(**VIT)), tmp_path)
    engine, batch = load(tmp_path, size=48), images(48)
    with torch.no_grad():
        want = native(torch.from_numpy(batch["images"]), interpolate_pos_encoding=True).logits.numpy()
    assert (engine.preprocess.height, engine.preprocess.width) == (48, 48)
    assert np.abs(engine.logits(batch) - want).max() < 1e-5 * max(1, np.abs(want).max())


def test_a_size_that_a_network_cannot_take_says_which_it_takes(tmp_path: Path) -> None:
    config = transformers.LevitConfig(
        image_size=64,
        hidden_sizes=[16, 32, 48],
        num_attention_heads=[1, 2, 3],
        depths=[1, 1, 1],
        down_ops=[["Subsample", 16, 1, 4, 2, 2], ["Subsample", 16, 2, 4, 2, 2]],
    )
    at_64 = {**PLAIN, "size": {"height": 64, "width": 64}}
    saved(transformers.LevitForImageClassification(config), tmp_path, at_64)
    assert load(tmp_path).feature_dim == 48
    with pytest.raises(InputError, match=r"takes no 96 x 96 pixels.*it takes 64; the smallest is 64"):
        load(tmp_path, size=96)


def test_two_heads_that_are_averaged_become_one(tmp_path: Path) -> None:
    config = transformers.DeiTConfig(**VIT)
    native = saved(transformers.DeiTForImageClassificationWithTeacher(config), tmp_path)
    engine, batch = load(tmp_path), images(32)
    with torch.no_grad():
        want = native(torch.from_numpy(batch["images"])).logits.numpy()
    assert engine.feature_dim == 32 and engine.num_classes == 3
    assert np.abs(engine.logits(batch) - want).max() < 1e-5 * max(1, np.abs(want).max())
    again = ADAPTER.rebuild(json.loads(json.dumps(engine.architecture())), engine.preprocess)
    again.load_state(engine.state())
    assert np.array_equal(again.logits(batch), engine.logits(batch))


# One model of each preprocessing family: its processor's class, a config of its kind, what the file states.
PROCESSORS: dict[str, tuple[Any, dict[str, Any]]] = {
    "ViTImageProcessor": (transformers.ViTConfig, {"size": 64}),  # stretched, [-1, 1]
    "BeitImageProcessor": (transformers.BeitConfig, {"size": 64, "do_center_crop": False}),
    "DeiTImageProcessor": (transformers.DeiTConfig, {}),  # stretched, then cropped
    "CLIPImageProcessor": (transformers.CLIPConfig, {}),  # the shorter side, cropped
    "ConvNextImageProcessor": (transformers.ConvNextConfig, {"size": 224}),  # by crop_pct below 384
    "LevitImageProcessor": (transformers.LevitConfig, {}),  # the shorter side x 256 / 224
    "PoolFormerImageProcessor": (transformers.PoolFormerConfig, {}),  # by crop_pct
    "MobileViTImageProcessor": (transformers.MobileViTConfig, {}),  # BGR, not normalised
    "EfficientNetImageProcessor": (transformers.EfficientNetConfig, {}),  # divided by the std twice
    "SegformerImageProcessor": (transformers.SegformerConfig, {}),
    "MobileNetV2ImageProcessor": (transformers.MobileNetV2Config, {}),
    "SiglipImageProcessor": (transformers.SiglipConfig, {}),
}


def photographs(shared: Path | None) -> list[Image.Image]:
    """Six photographs; waves where there are none."""
    files = sorted((shared / "data" / "imagenet_sample").glob("*.JPEG"))[:6] if shared else []
    if files:
        return [Image.open(file).convert("RGB") for file in files]
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 256, (31, 47, 3), dtype=np.uint8) for _ in range(3)]
    return [Image.fromarray(n).resize((470, 310), Image.Resampling.BICUBIC) for n in noise]


@pytest.mark.parametrize("name", PROCESSORS)
def test_preprocessing_is_the_processors_own(name: str, tmp_path: Path) -> None:
    """At most 1/255 a pixel apart before normalisation, on the mean, from transformers' Pillow processor."""
    config, stated = PROCESSORS[name]
    file = {"image_processor_type": name, **stated}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(file))
    found = processors.read(tmp_path, config())
    theirs = getattr(transformers, f"{name}Pil")(**stated)
    folder = Path(__file__).resolve().parents[3] / "shared"
    for image in photographs(folder if folder.is_dir() else None):
        want = np.asarray(theirs(images=image, return_tensors="np")["pixel_values"][0])
        got = data.prepare([image], found)["images"][0]
        assert got.shape == want.shape
        apart = np.abs(got - want) * np.array(found.std, np.float32)[:, None, None] / found.scale
        assert apart.mean() <= 1.0, f"{apart.mean():.2f} of 255"


@pytest.mark.parametrize(
    ("file", "config", "why"),
    [
        ({"image_processor_type": "ImageGPTImageProcessor"}, transformers.ViTConfig, "512 colours"),
        ({"image_processor_type": "TextNetImageProcessor"}, transformers.TextNetConfig, "without a crop"),
        ({"do_resize": False}, transformers.ViTConfig, "resizes nothing"),
    ],
)
def test_what_cannot_be_followed_is_refused(
    file: dict[str, Any], config: Any, why: str, tmp_path: Path
) -> None:
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(file))
    with pytest.raises(InputError, match=why):
        processors.read(tmp_path, config())


def test_classifiers_of_something_else_are_refused(tmp_path: Path) -> None:
    config = transformers.ImageGPTConfig(architectures=["ImageGPTForImageClassification"])
    config.save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(PLAIN))
    with pytest.raises(InputError, match="one of 512 colours"):
        load(tmp_path, weights="none")
