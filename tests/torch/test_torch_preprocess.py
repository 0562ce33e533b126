"""Our preprocessing against torchvision's transforms on PIL images: the same pixels, bit for bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms as tv

from zoo.cards import ImagePreprocess
from zoo.data import prepare
from zoo.data.images import pixels

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
