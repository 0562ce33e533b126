"""Augmented training photographs: the same pixels for every framework, worker count, order and resumed run.

What is done to a photograph depends on (seed, epoch, its index in the data) alone. It happens to Pillow images
before they become arrays, so each framework gets the same batch.

Why the parameters are drawn here and Pillow does the work: of the kept libraries none fits. torchvision's and
timm's transforms and kornia need torch and draw from its global generator; Keras's layers need TensorFlow: the
data must feed either without the other in the process. albumentations (MIT) had its last release in May 2025 and
imports torch where it is installed, which ends a process that runs TensorFlow; one pipeline shared by two threads
gave other pixels for 66 of 200 photographs, and a pipeline a thread, reseeded for each photograph, costs 0.19 ms.
Its successor is under the AGPL. imgaug and augly had theirs in 2020 and 2022. Pillow is kept, is here already,
lets threads run side by side, and has each operation that the published policies are made of.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from zoo.cards import ImagePreprocess, Preprocess
from zoo.data.dataset import Input
from zoo.data.images import centred, load_rgb, scaled
from zoo.errors import InputError
from zoo.recipe import Augment, one_of

Box: TypeAlias = tuple[int, int, int, int]
"""left, top, right, bottom in pixels."""
Rng: TypeAlias = np.random.Generator

CROP_TRIES = 10
MAGNITUDES = 31
_STREAM = 0xA46
"""Apart from the order of the epoch, which is drawn from (seed, epoch, 0, 0)."""


@dataclass(frozen=True)
class Policy:
    """What may happen to a training photograph, in this order.

    A part of `crop_scale` of its area and `crop_ratio` of the network's aspect ratio is cut out and scaled to the
    network's size by the interpolation of its preprocess (Szegedy et al. 2015); mirrored with probability `flip`;
    trivial: one operation of TrivialAugmentWide (Müller & Hutter 2021); a rectangle is painted over in the mean
    colour with probability `erase` (Zhong et al. 2020).
    """

    crop_scale: tuple[float, float] = (0.08, 1.0)
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: float = 0.5
    trivial: bool = False
    erase: float = 0.0
    erase_scale: tuple[float, float] = (0.02, 0.33)
    erase_ratio: tuple[float, float] = (0.3, 3.3)


POLICIES: Mapping[str, Policy] = {"light": Policy(), "strong": Policy(trivial=True, erase=0.1)}


@dataclass(frozen=True)
class Augmentation:
    """A policy in one epoch (counted from 0) of a run with this seed."""

    policy: Policy
    seed: int
    epoch: int = 0

    def least_side(self, preprocess: ImagePreprocess) -> int:
        """Pixels that a photograph's shorter side needs for its smallest crop to have the network's resolution."""
        smallest = math.sqrt(self.policy.crop_scale[0] / max(*self.policy.crop_ratio, 1))
        return math.ceil(max(preprocess.width, preprocess.height) / smallest)

    def load(self, item: Input, preprocess: ImagePreprocess) -> Image.Image:
        """The photograph to `apply` to; a JPEG larger than any crop needs is decoded at a fraction of its size."""
        return load_rgb(item, least=self.least_side(preprocess))

    def apply(self, image: Image.Image, index: int, preprocess: ImagePreprocess) -> Image.Image:
        """From an upright RGB photograph, the index-th of the data, to a new one of the network's size."""
        policy, rng = self.policy, np.random.default_rng([self.seed, self.epoch, index, _STREAM])
        aspect = preprocess.width / preprocess.height
        box = _crop_box(rng, image.size, policy, aspect)
        image = scaled(image.crop(box), (preprocess.width, preprocess.height), preprocess)
        if rng.random() < policy.flip:
            image = ImageOps.mirror(image)
        if policy.trivial:
            image = trivial_augment(image, rng)
        if rng.random() < policy.erase:
            image = _erased(image, rng, policy, mean_colour(preprocess))
        return image


def augmentation(name: Augment, preprocess: Preprocess, *, seed: int, epoch: int = 0) -> Augmentation | None:
    """What `recipe.augment` means in an epoch (from 0); None for "none". Raises InputError, also for texts."""
    if name not in get_args(Augment):
        raise InputError(f"augment {name!r}: {one_of(get_args(Augment))}")
    if name == "none":
        return None
    if not isinstance(preprocess, ImagePreprocess):
        raise InputError(f"augment {name!r} changes photographs, and this model reads texts: leave it 'none'")
    return Augmentation(POLICIES[name], seed, epoch)


# --- what is drawn
def _crop_box(rng: Rng, size: tuple[int, int], policy: Policy, aspect: float) -> Box:
    """A part of random area, aspect ratio and place; after ten that do not fit the largest one in the centre."""
    width, height = size
    for _ in range(CROP_TRIES):
        wide, high = _sides(rng, width * height, policy.crop_scale, policy.crop_ratio, aspect)
        if 0 < wide <= width and 0 < high <= height:
            return _placed(rng, size, wide, high)
    least, most = (ratio * aspect for ratio in policy.crop_ratio)
    wide, high = min(width, round(height * most)), min(height, round(width / least))
    wide, high = max(1, wide), max(1, high)
    left, top = (width - wide) // 2, (height - high) // 2
    return left, top, left + wide, top + high


def _sides(
    rng: Rng, area: int, scale: tuple[float, float], ratio: tuple[float, float], aspect: float = 1.0
) -> tuple[int, int]:
    """Width and height in pixels of a part of `area`; the ratio is uniform in its logarithm."""
    part = area * rng.uniform(*scale)
    drawn = aspect * math.exp(rng.uniform(math.log(ratio[0]), math.log(ratio[1])))
    return round(math.sqrt(part * drawn)), round(math.sqrt(part / drawn))


def _placed(rng: Rng, size: tuple[int, int], wide: int, high: int) -> Box:
    left = int(rng.integers(size[0] - wide + 1))
    top = int(rng.integers(size[1] - high + 1))
    return left, top, left + wide, top + high


def _erased(image: Image.Image, rng: Rng, policy: Policy, colour: tuple[int, int, int]) -> Image.Image:
    """With one rectangle painted over, in place; unchanged where none of ten fits."""
    for _ in range(CROP_TRIES):
        wide, high = _sides(rng, image.width * image.height, policy.erase_scale, policy.erase_ratio)
        if 0 < wide < image.width and 0 < high < image.height:
            image.paste(colour, _placed(rng, image.size, wide, high))
            break
    return image


def mean_colour(preprocess: ImagePreprocess) -> tuple[int, int, int]:
    """The RGB colour that becomes 0 for the network, as nearly as bytes can."""
    levels = [min(255, max(0, round(mean / preprocess.scale))) for mean in preprocess.mean]
    red, green, blue = levels if preprocess.channels == "RGB" else levels[::-1]
    return red, green, blue


# --- TrivialAugmentWide
def trivial_augment(image: Image.Image, rng: Rng) -> Image.Image:
    """One operation of the wide space at one of 31 magnitudes, each equally likely; black comes in at the edges."""
    operation = _OPERATIONS[int(rng.integers(len(_OPERATIONS)))]
    strength = int(rng.integers(MAGNITUDES)) / (MAGNITUDES - 1)
    sign = -1 if rng.random() < 0.5 else 1
    return operation(image, strength, sign)


Operation: TypeAlias = Callable[[Image.Image, float, int], Image.Image]
"""(image, strength from 0 to 1, direction -1 or 1)."""


def _affine(image: Image.Image, matrix: Sequence[float]) -> Image.Image:
    return image.transform(image.size, Image.Transform.AFFINE, tuple(matrix))


def _enhance(kind: Callable[[Image.Image], ImageEnhance._Enhance]) -> Operation:
    return lambda image, strength, sign: kind(image).enhance(1 + sign * 0.99 * strength)


def _solarize(image: Image.Image, strength: float, _sign: int) -> Image.Image:
    return ImageOps.solarize(image, threshold=round(255 * (1 - strength)))


_OPERATIONS: tuple[Operation, ...] = (
    lambda image, _strength, _sign: image,
    lambda image, strength, sign: _affine(image, (1, sign * 0.99 * strength, 0, 0, 1, 0)),
    lambda image, strength, sign: _affine(image, (1, 0, 0, sign * 0.99 * strength, 1, 0)),
    lambda image, strength, sign: _affine(image, (1, 0, sign * 32 * strength, 0, 1, 0)),
    lambda image, strength, sign: _affine(image, (1, 0, 0, 0, 1, sign * 32 * strength)),
    lambda image, strength, sign: image.rotate(sign * 135 * strength),
    _enhance(ImageEnhance.Brightness),
    _enhance(ImageEnhance.Color),
    _enhance(ImageEnhance.Contrast),
    _enhance(ImageEnhance.Sharpness),
    lambda image, strength, _sign: ImageOps.posterize(image, 8 - round(6 * strength)),
    _solarize,
    lambda image, _strength, _sign: ImageOps.autocontrast(image),
    lambda image, _strength, _sign: ImageOps.equalize(image),
)
"""Identity, shears, shifts (pixels), rotation (degrees), brightness, colour, contrast, sharpness, posterize
(8 to 2 bits), solarize, auto-contrast, equalize: table 1 of the paper, "Wide".
"""


# --- to look at
def sheet(
    inputs: Sequence[Input],
    preprocess: ImagePreprocess,
    name: Literal["light", "strong"],
    *,
    seed: int = 0,
    epochs: int = 6,
    gap: int = 4,
) -> Image.Image:
    """A picture: a row a photograph, as it is predicted on and then as it is trained on in each epoch.

    Raises BadFilesError, DataError, InputError.
    """
    first = augmentation(name, preprocess, seed=seed)
    if first is None:
        raise InputError("augment 'none' changes nothing, so there is nothing to show: light or strong")
    across, down = preprocess.width + gap, preprocess.height + gap
    picture = Image.new("RGB", (across * (epochs + 1) - gap, down * len(inputs) - gap), "white")
    for row, item in enumerate(inputs):
        picture.paste(centred(load_rgb(item), preprocess), (0, row * down))
        photo = first.load(item, preprocess)
        for epoch in range(epochs):
            now = dataclasses.replace(first, epoch=epoch)
            picture.paste(now.apply(photo, row, preprocess), ((epoch + 1) * across, row * down))
    return picture
