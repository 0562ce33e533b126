"""KerasHub's image converters and the zoo's ImagePreprocess prepare a photograph alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from present import SHARED

from zoo.data import prepare
from zoo.errors import InputError
from zoo_tf import hub_images
from zoo_tf.hub_families import families

pytestmark = pytest.mark.tf
SIDE = 96
IMAGENET = {
    "scale": [1 / 255 / s for s in (0.229, 0.224, 0.225)],
    "offset": [-m / s for m, s in zip((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), strict=True)],
}
HALF = {"scale": 1 / 127.5, "offset": -1.0}
# What KerasHub's converters can say, of which every family's presets choose one.
KINDS: dict[str, dict[str, Any]] = {
    "bilinear, cropped, ImageNet's mean": IMAGENET,
    "bilinear, antialiased": {"antialias": True, **HALF},
    "bicubic, antialiased": {"interpolation": "bicubic", "antialias": True, **HALF},
    "bilinear, squashed": {"crop_to_aspect_ratio": False, **HALF},
    "nearest": {"interpolation": "nearest", **HALF},
    "pixels as they are": {},
}
FAMILIES = sorted(name for name, family in families().items() if not family.reads_text)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three real ones, broad and tall; where ../shared is not there, drawn ones."""
    real = sorted((SHARED / "data" / "imagenet_sample").glob("*.JPEG"))[:3]
    return real or [drawn(tmp_path_factory.mktemp("drawn") / f"{i}.png", i) for i in range(3)]


def drawn(path: Path, seed: int) -> Path:
    """Soft blobs, as photographs are: 150 x 220 pixels, or lying."""
    small = np.random.default_rng(seed).integers(0, 256, (15, 22, 3), dtype=np.uint8)
    image = Image.fromarray(small).resize((220, 150), Image.Resampling.BICUBIC)
    (image.rotate(90, expand=True) if seed else image).save(path)
    return path


def apart(converter: Any, options: dict[str, Any], folder: Path, photograph: Path) -> float:
    """The mean difference a pixel, in [0, 1], before normalisation."""
    native = converter(image_size=(SIDE, SIDE), **options)
    native.save_to_preset(str(folder))
    ours = hub_images.preset_preprocess(folder)
    with Image.open(photograph) as image:
        theirs = np.array(native(np.asarray(image.convert("RGB"))[None].astype(np.float32)))[0]
    found = prepare([photograph], ours)["images"][0].transpose(1, 2, 0)
    assert found.shape == theirs.shape
    return float(np.abs(found - theirs).mean() / np.mean(options.get("scale", 1.0)) / 255)


@pytest.mark.parametrize("kind", KINDS)
def test_prepared_alike(kind: str, photographs: list[Path], tmp_path: Path) -> None:
    """Every family's own converter class; all within 1/255."""
    errors = {
        (name, path.name): apart(converter(name), KINDS[kind], tmp_path / name, path)
        for name in FAMILIES
        for path in photographs
    }
    assert max(errors.values()) <= 1 / 255, {k: round(255 * v, 2) for k, v in errors.items()}


def test_bicubic_without_antialias_is_refused(photographs: list[Path], tmp_path: Path) -> None:
    """TensorFlow's is not Pillow's; nothing is prepared in another way in silence."""
    options = {"interpolation": "bicubic", **IMAGENET}
    with pytest.raises(InputError, match=r"bicubic.*without antialias is not offered"):
        apart(converter("ResNet"), options, tmp_path, photographs[0])


def converter(family: str) -> Any:
    """The class of a family's image converter."""
    return families()[family].classifier.preprocessor_cls.image_converter_cls
