"""timm's networks: the numbers of timm's own module, its weights from a mirror, and how each can be wrong."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import timm
import timm.data
import torch
from errors_table import pickled_payload
from PIL import Image

from zoo.data import prepare
from zoo.engine import LoadRequest
from zoo.errors import (
    HeadMissingError,
    InputError,
    UnknownModelError,
    UnsafeWeightsError,
    WeightsCorruptError,
    WeightsUnavailableError,
)
from zoo.testing import Case, ModelContract
from zoo_torch import timm_models
from zoo_torch.adapter import ADAPTER
from zoo_torch.engine import TorchEngine

SMALL, TAG = "test_vit", "r160_in1k"
# One of each shape of head: Linear, 1x1 convolution, a small network, tokens averaged, branches averaged with
# learned shares, and one that is not linear on the features.
HEADS = {
    "test_resnet": 64,
    "resnetv2_50": 32,
    "test_mambaout": 64,
    "deit_tiny_distilled_patch16_224": 32,
    "repvit_m1": 32,
    "efficientvim_m1": 64,
    "volo_d1_224": 32,
}


def load(name: str, weights: object = "none", **options: Any) -> TorchEngine:
    return ADAPTER.load(LoadRequest(f"timm/{name}", weights=str(weights), **options))


def images(size: int, n: int = 2) -> dict[str, Any]:
    return {"images": np.random.default_rng(n).standard_normal((n, 3, size, size), dtype=np.float32)}


def native(name: str, size: int, classes: int = 1000, seed: int = 0, **options: Any) -> Any:
    """timm's own module, random from `seed`."""
    if timm.get_pretrained_cfg(name).fixed_input_size:
        options["img_size"] = (size, size)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return timm.create_model(name, num_classes=classes, **options).eval()


def run(module: Any, batch: dict[str, Any]) -> Any:
    with torch.no_grad():
        return module(torch.from_numpy(batch["images"]))


@pytest.fixture(scope="module")
def mirror(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mirror in the hub's layout with one model's weights, random from seed 7."""
    folder = tmp_path_factory.mktemp("mirror")
    place = folder / "timm" / f"{SMALL}.{TAG}"
    place.mkdir(parents=True)
    safetensors.torch.save_file(native(SMALL, 160, seed=7).state_dict(), place / "model.safetensors")
    return folder


@pytest.fixture
def mirrored(mirror: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ZOO_MIRROR", str(mirror))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return mirror / "timm" / f"{SMALL}.{TAG}" / "model.safetensors"


class TestTimm(ModelContract):
    cases = (
        Case(
            "torch:timm/test_vit",
            functools.partial(load, "test_vit", size=32),
            at_depth=lambda depth: load("test_vit", size=32, depth=depth),
        ),
        Case("torch:timm/test_efficientnet", functools.partial(load, "test_efficientnet", size=64)),
    )


# --- the native module
@pytest.mark.parametrize(("name", "size"), HEADS.items())
def test_logits_are_timms_and_linear_on_the_features(name: str, size: int) -> None:
    engine, batch = load(name, size=size), images(size)
    want = run(native(name, size), batch).numpy()
    found = engine.logits(batch)
    assert np.allclose(found, want, rtol=1e-5, atol=1e-5 * np.abs(want).max())
    if name.startswith("volo"):
        assert engine.head() is None and engine.num_classes == 1000
        assert {k for k, b in engine.block_of().items() if b == "head"} >= {"aux_head.weight", "head.weight"}
    else:
        weight, bias = engine.head() or (None, None)
        assert np.allclose(engine.features(batch) @ weight.T + bias, found, atol=2e-5 * np.abs(found).max())
    again = ADAPTER.rebuild(engine.architecture() or {}, engine.preprocess)
    again.load_state(engine.state())
    assert np.array_equal(again.logits(batch), found)


@pytest.mark.parametrize("name", ["resnetv2_50", "efficientvim_m1", "volo_d1_224"])
def test_a_replaced_head_leaves_the_features(name: str, tmp_path: Path) -> None:
    size = HEADS[name]
    engine, batch = load(name, size=size), images(size)
    features = engine.features(batch)
    engine.reset_head(3, seed=0)
    assert np.allclose(engine.features(batch), features, atol=1e-5 * np.abs(features).max())
    assert engine.logits(batch).shape == (2, 3) and engine.head() is not None
    assert [k for k, b in engine.block_of().items() if b == "head"] == ["head.weight", "head.bias"]
    again = ADAPTER.rebuild(engine.architecture() or {}, engine.preprocess)
    again.load_state(engine.state())
    assert np.array_equal(again.logits(batch), engine.logits(batch))


def test_blocks_are_the_units_in_order() -> None:
    assert load("test_vit").blocks == ("stem", *(f"blocks.{i}" for i in range(6)))
    blocks = load("swin_tiny_patch4_window7_224", size=32).blocks
    assert blocks == (
        "stem",
        *(f"layers.{s}.blocks.{i}" for s, n in enumerate((2, 2, 6, 2)) for i in range(n)),
    )
    assert load("caformer_s18", size=32).blocks[-1] == "neck", "the MLP before its last Linear"


# --- depth and size
def test_depth_of_a_transformer_is_its_first_layers() -> None:
    engine, batch = load(SMALL, size=32, depth=2), images(32)
    module = native(SMALL, 32)
    module.blocks = module.blocks[:2]
    with torch.no_grad():
        tokens = module.forward_features(torch.from_numpy(batch["images"]))
        want = module.forward_head(tokens, pre_logits=True).numpy()
    assert np.allclose(engine.features(batch), want, atol=1e-6) and engine.num_classes is None
    assert not [key for key in engine.state() if key.startswith("blocks.2")]


@pytest.mark.parametrize(("name", "size"), [("test_resnet", 64), ("swin_tiny_patch4_window7_224", 32)])
def test_depth_of_a_pyramid_is_its_stages_mean(name: str, size: int) -> None:
    engine, batch = load(name, size=size, depth=2), images(size)
    module = native(name, size)
    with torch.no_grad():
        maps = module.forward_intermediates(torch.from_numpy(batch["images"]), intermediates_only=True)
    index = 1 if len(maps) == 4 else 2  # ResNet's first map is its stem's
    assert np.allclose(engine.features(batch), maps[index].mean(dim=(2, 3)).numpy(), atol=1e-5)
    assert engine.depths == (1, 2)


@pytest.mark.parametrize("name", ["volo_d1_224", "test_resnet", "swin_tiny_patch4_window7_224"])
def test_maps_are_averaged_over_positions_not_channels(name: str) -> None:
    module: Any = timm_models.on_paper(name, timm.get_pretrained_cfg(name).to_dict())
    anatomy, _ = timm_models.timm_anatomy.read(module)
    assert anatomy.cut is not None
    size = module.pretrained_cfg["input_size"][1]
    with torch.no_grad():
        found = anatomy.cut(module, {"images": torch.empty(1, 3, size, size, device="meta")}, anatomy.depths)
    assert [f.shape[1] for f in found[:-1]] == timm_models.timm_anatomy.widths(module, anatomy.stages)


def test_another_size_interpolates_positions_as_timm_does(mirrored: Path) -> None:
    engine, batch = load(SMALL, TAG, size=96), images(96)
    state = safetensors.torch.load_file(mirrored)
    overlay = {"state_dict": state}
    module = timm.create_model(SMALL, pretrained=True, pretrained_cfg_overlay=overlay, img_size=96).eval()
    assert np.allclose(engine.logits(batch), run(module, batch).numpy(), atol=1e-6)
    assert engine.preprocess.height == 96  # type: ignore[union-attr]


def test_a_size_that_the_network_does_not_take() -> None:
    with pytest.raises(InputError, match=r"does not take images of 100 .*made for 160, it takes 96 and 128"):
        load(SMALL, size=100)
    with pytest.raises(InputError, match="has depths 1 to 6"):
        load(SMALL, depth=9)


# --- names
def test_names_and_tags_that_do_not_exist() -> None:
    with pytest.raises(UnknownModelError, match="timm/resnet50") as error:
        load("resnett50")
    assert "timm/resnet50" in error.value.near
    with pytest.raises(UnknownModelError, match=r"Did you mean .*a1_in1k") as error:
        load("resnet50", "a1_in2k")
    assert "a1_in1k" in error.value.near


# --- weights
def test_weights_from_a_mirror(mirrored: Path) -> None:
    for tag in ("default", TAG):
        engine, batch = load(SMALL, tag), images(160)
        assert np.array_equal(engine.logits(batch), run(native(SMALL, 160, seed=7), batch).numpy())
        assert engine.labels is not None and engine.labels[0].startswith("tench")


def test_weights_that_are_nowhere(mirrored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(WeightsUnavailableError, match=r"timm/resnet18.a1_in1k/model.safetensors.*ZOO_MIRROR"):
        load("resnet18", "a1_in1k")
    with pytest.raises(WeightsUnavailableError, match="timm publishes no weights for resnet50t"):
        load("resnet50t", "default")


def test_a_file_of_ones_own_with_other_classes(tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    safetensors.torch.save_file(native(SMALL, 160, classes=4, seed=3).state_dict(), path)
    engine = load(SMALL, path)
    assert engine.num_classes == 4 and engine.labels is None
    bare = {k: v for k, v in safetensors.torch.load_file(path).items() if not k.startswith("head.")}
    safetensors.torch.save_file(bare, path)
    engine = load(SMALL, path)
    with pytest.raises(HeadMissingError):
        engine.logits(images(160))
    assert load(SMALL, path, num_classes=2).logits(images(160)).shape == (2, 2)


def test_files_that_lack_weights_or_are_of_another_network(tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    state = native(SMALL, 160, seed=3).state_dict()
    safetensors.torch.save_file({k: v for k, v in state.items() if "blocks.5.mlp" not in k}, path)
    with pytest.raises(WeightsCorruptError, match=r"lack 4 keys \(blocks.5.mlp.*--partial"):
        load(SMALL, path)
    with pytest.warns(UserWarning, match=r"stay random: blocks.5.mlp.fc1.weight"):
        engine = load(SMALL, path, partial=True, seed=2)
    assert np.array_equal(engine.state()["blocks.4.norm1.weight"], state["blocks.4.norm1.weight"].numpy())
    safetensors.torch.save_file(native("test_resnet", 160).state_dict(), path)
    for partial in (False, True):
        with pytest.raises(WeightsCorruptError, match="another network"):
            load(SMALL, path, partial=partial)


def test_a_pickle_with_code_is_not_run(
    mirrored: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ZOO_MIRROR", str(tmp_path))
    pickled_payload(tmp_path / "timm" / f"{SMALL}.{TAG}" / "pytorch_model.bin")
    with pytest.raises(UnsafeWeightsError):
        load(SMALL, TAG)
    assert not Path("pwned").exists()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("vit_small_patch14_dinov2", "holds no classification head"),
        ("vit_base_patch32_clip_224", "projects into"),
    ],
)
def test_weights_without_a_classifier(name: str, words: str) -> None:
    config = timm.get_pretrained_cfg(f"{name}.{'lvd142m' if 'dino' in name else 'openai'}")
    assert timm_models.own_classes(config.to_dict()) is None
    found = timm_models.Source(name, str(config.tag), config.to_dict(), None)
    engine = timm_models._engine(
        found, LoadRequest(f"timm/{name}", weights="none", size=56 if "14" in name else 64), None
    )
    with pytest.raises(HeadMissingError, match=words):
        engine.logits(images(56))
    assert engine.features(images(56 if "14" in name else 64)).shape == (2, 384 if "dino" in name else 768)


# --- preprocessing: a model of each kind that timm has
PREPROCESSED = {
    "shortest side, bicubic": "resnet50.a1_in1k",
    "shortest side, bilinear": "resnet18.tv_in1k",
    "no margin": "vit_base_patch16_clip_224.openai",
    "stretched": "eva_large_patch14_336.in22k_ft_in1k",
    "stretched, with a margin": "dm_nfnet_f0.dm_in1k",
    "another size": "tf_efficientnetv2_b0.in1k",
    "half": "vit_tiny_patch16_224.augreg_in21k_ft_in1k",
}


@pytest.mark.parametrize("name", PREPROCESSED.values(), ids=PREPROCESSED)
def test_pixels_are_timms(name: str, photographs_at_hand: list[Image.Image]) -> None:
    config = timm.get_pretrained_cfg(name).to_dict()
    theirs = timm.data.create_transform(
        **timm.data.resolve_data_config(pretrained_cfg=config), is_training=False
    )
    ours = timm_models.preprocess_of(config, None)
    std = np.array(ours.std, np.float32)[:, None, None]
    for image in photographs_at_hand:
        found = prepare([image], ours)["images"][0]
        difference = np.abs((found - theirs(image).numpy()) * std).mean()
        assert difference <= 1 / 255, (name, image.size, difference)


@pytest.fixture(scope="module")
def photographs_at_hand(request: pytest.FixtureRequest) -> list[Image.Image]:
    """A few photographs where the shared folder is there, and noise, which shows every misplaced pixel."""
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 256, (h, w, 3), dtype=np.uint8) for h, w in ((300, 201), (199, 320))]
    folder = Path(__file__).resolve().parents[3] / "shared" / "data" / "imagenet_sample"
    found = [Image.open(path).convert("RGB") for path in sorted(folder.glob("*.JPEG"))[:3]]
    return [*found, *map(Image.fromarray, noise)]
