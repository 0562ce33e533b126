"""Our preprocessing against torchvision's transforms on PIL images: the same pixels, bit for bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import models
from torchvision import transforms as tv
from torchvision.models import WeightsEnum, get_model_weights, list_models

from zoo.cards import ImagePreprocess
from zoo.data import prepare
from zoo.data.images import pixels
from zoo_torch.vision import preprocess_of

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
MODES = tv.InterpolationMode
SIZES = [
    (500, 375),
    (375, 500),
    (224, 224),
    (256, 256),
    (257, 300),
    (100, 90),
    (61, 1000),
    (640, 427),
    (1, 7),
    (255, 257),
]


def noise(width: int, height: int) -> Image.Image:
    """Noise shows every misplaced pixel, a photograph hides some."""
    rng = np.random.default_rng([width, height])
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


def theirs(resize: int | tuple[int, int], crop: int, mode: MODES = MODES.BILINEAR) -> tv.Compose:
    return tv.Compose([tv.Resize(resize, interpolation=mode, antialias=True), tv.CenterCrop(crop)])


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("resize", "crop"), [(256, 224), (232, 224), (342, 299), (61, 50), (200, 224)])
def test_shortest_side_and_crop_are_torchvisions_bit_for_bit(
    size: tuple[int, int], resize: int, crop: int
) -> None:
    image = noise(*size)
    ours = pixels(image, ImagePreprocess(crop, crop, resize_to=(resize, resize)))
    assert np.array_equal(ours, np.asarray(theirs(resize, crop)(image)))


@pytest.mark.parametrize("name", ["nearest", "bilinear", "bicubic", "lanczos", "box"])
def test_every_filter(name: str) -> None:
    for size in ((300, 200), (90, 130)):
        image = noise(*size)
        ours = pixels(image, ImagePreprocess(96, 96, resize_to=(110, 110), interpolation=name))  # type: ignore[arg-type]
        assert np.array_equal(ours, np.asarray(theirs(110, 96, MODES[name.upper()])(image)))


def test_exact_resize_stretches() -> None:
    image = noise(300, 200)
    ours = pixels(image, ImagePreprocess(100, 120, resize="exact", resize_to=(100, 120)))
    assert np.array_equal(ours, np.asarray(tv.Resize((100, 120), antialias=True)(image)))


def test_small_photographs_are_padded_as_by_center_crop() -> None:
    for size in ((9, 9), (10, 13), (40, 11)):
        image = noise(*size)
        ours = pixels(image, ImagePreprocess(24, 31, resize="exact", resize_to=(size[1], size[0])))
        assert np.array_equal(ours, np.asarray(tv.CenterCrop((24, 31))(image)))


def test_without_antialias_is_torchs_bilinear_interpolation() -> None:
    for size in ((97, 64), (20, 30), (400, 301)):
        image = noise(*size)
        ours = pixels(image, ImagePreprocess(48, 48, resize="exact", resize_to=(48, 48), antialias=False))
        tensor = torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)[None].double()
        # In float64: torch's float32 puts the sample points up to 3e-5 pixels off.
        expected = torch.nn.functional.interpolate(tensor, (48, 48), mode="bilinear", antialias=False)
        found = torch.from_numpy(ours.copy()).permute(2, 0, 1)[None].double()
        assert (found - expected).abs().max() < 0.5001, "more than the rounding to whole levels"


def test_normalised_values_are_torchvisions_to_float32_rounding() -> None:
    image = noise(300, 260)
    full = tv.Compose([theirs(256, 224), tv.ToTensor(), tv.Normalize(MEAN, STD)])
    ours = prepare([image], ImagePreprocess(224, 224, mean=MEAN, std=STD))["images"][0]
    np.testing.assert_allclose(ours, full(image).numpy(), atol=1e-6, rtol=0)


# torchvision's families of preprocessing, one set of weights of each: (builder, tag). Shortest side and centre crop
# are all it has; the families differ in the filter, in whether anything is cropped, and in mean and deviation.
FAMILIES = {
    "bilinear 256 -> 224": ("resnet18", "IMAGENET1K_V1"),
    "bilinear 232 -> 224, the new recipe's": ("resnet50", "IMAGENET1K_V2"),
    "bilinear, 299 pixels": ("inception_v3", "IMAGENET1K_V1"),
    "bilinear, nothing cropped off": ("efficientnet_v2_s", "IMAGENET1K_V1"),
    "bicubic, cropped": ("swin_t", "IMAGENET1K_V1"),
    "bicubic, nothing cropped off": ("efficientnet_b7", "IMAGENET1K_V1"),
    "bicubic, pixels in -1..1": ("efficientnet_v2_l", "IMAGENET1K_V1"),
    "bicubic 384, SWAG's": ("vit_b_16", "IMAGENET1K_SWAG_E2E_V1"),
    "0-255 less the mean": ("vgg16", "IMAGENET1K_FEATURES"),
}


def pixel_difference(entry: WeightsEnum, image: Image.Image) -> float:
    """Mean |difference| from torchvision's own transform, in levels of 0..1, the normalisation undone."""
    preprocess, theirs_ = preprocess_of(entry, None), entry.transforms()
    std = np.array(preprocess.std, np.float32)[:, None, None]
    ours = prepare([image], preprocess)["images"][0]
    return float(np.abs((ours - theirs_(image).numpy()) * std).mean())


@pytest.mark.parametrize(("name", "tag"), FAMILIES.values(), ids=list(FAMILIES))
def test_each_family_equals_torchvisions_own_transform(name: str, tag: str) -> None:
    entry = get_model_weights(name)[tag]
    for size in ((500, 375), (97, 240), (640, 640)):
        assert pixel_difference(entry, noise(*size)) < 1e-6


def test_the_families_are_all_that_torchvision_has() -> None:
    """Filter, whether it crops, mean, deviation, antialias: no other combination among all its weights."""

    def kind(entry: WeightsEnum) -> tuple[object, ...]:
        own = entry.transforms()
        cropped = own.resize_size != own.crop_size
        return own.interpolation, cropped, own.antialias, tuple(own.mean), tuple(own.std)

    listed = {kind(get_model_weights(name)[tag]) for name, tag in FAMILIES.values()}
    every = [entry for name in list_models(module=models) for entry in get_model_weights(name)]
    assert {kind(entry) for entry in every} == listed and len(every) >= 115


@pytest.mark.shared
@pytest.mark.parametrize(("name", "tag"), FAMILIES.values(), ids=list(FAMILIES))
def test_each_family_on_photographs(shared: Path, name: str, tag: str) -> None:
    """The bound is a level of 255; what is found is float32's rounding."""
    entry = get_model_weights(name)[tag]
    for file in sorted((shared / "data/imagenet_sample").glob("*.JPEG"))[::25]:
        with Image.open(file) as image:
            assert pixel_difference(entry, image.convert("RGB")) <= 1e-6 < 1 / 255


@pytest.mark.shared
def test_real_photographs_from_their_files(shared: Path) -> None:
    preprocess = ImagePreprocess(224, 224, mean=MEAN, std=STD)
    files = sorted((shared / "data/imagenet_sample").glob("*.JPEG"))
    assert len(files) == 100
    normalise = tv.Compose([tv.ToTensor(), tv.Normalize(MEAN, STD)])
    for file in files:
        with Image.open(file) as image:
            expected = theirs(256, 224)(image.convert("RGB"))
        assert np.array_equal(pixels(file, preprocess), np.asarray(expected)), file.name
    worst = np.abs(prepare([files[-1]], preprocess)["images"][0] - normalise(expected).numpy()).max()
    assert worst < 1e-6
