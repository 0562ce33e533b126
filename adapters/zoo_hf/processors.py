"""What an image folder of transformers says about preparing photographs, in the zoo's one description.

preprocessor_config.json states what differs from its processor's class, so the class's own defaults come first.
What the zoo's one implementation cannot do the same is refused by name: it does not guess.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import transformers

from zoo import model_folder
from zoo.cards import ImagePreprocess
from zoo.errors import InputError

FILE = "preprocessor_config.json"
# PIL's resampling filters by number, as the file names them.
FILTERS = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box"}
KNOWN = (
    "size",
    "crop_size",
    "resample",
    "crop_pct",
    "image_mean",
    "image_std",
    "rescale_factor",
    "rescale_offset",
    "include_top",
    "default_to_square",
    "do_resize",
    "do_center_crop",
    "do_rescale",
    "do_normalize",
    "do_flip_channel_order",
)
# Processors that do something else to a photograph than resize, crop, scale and normalise it.
OTHERWISE = {
    "ImageGPT": "makes each pixel one of 512 colours",
    "Siglip2": "keeps each photograph's own shape, as a list of patches",
    "Perceiver": "crops before it resizes",
    "Gemma3": "feeds a language model",
}
# Their resize goes to size / crop_pct below 384 pixels, then crops; from 384 on it stretches (Liu et al. 2022).
LIKE_CONVNEXT = ("ConvNext",)


def read(folder: Path, config: Any) -> ImagePreprocess:
    """The folder's preprocessing. Raises InputError where there is none, or none that can be followed."""
    stated = model_folder.read_json(folder / FILE)
    if not stated:
        raise InputError(f"{folder} holds no {FILE}: the zoo does not guess how to prepare images")
    kind, values = _with_defaults(stated, config)
    for name, what in OTHERWISE.items():
        if kind.startswith(name):
            raise InputError(f"{folder}: its {kind} {what}; the zoo resizes, crops and normalises only")
    if stated.get("do_color_quantize"):
        raise InputError(f"{folder}: its {kind} {OTHERWISE['ImageGPT']}; the zoo does not")
    resize, to, crop = _geometry(kind, values, folder)
    if int(values["resample"]) not in FILTERS:
        raise InputError(f"{folder} resizes by filter {values['resample']}; known: {FILTERS}")
    scale, mean, std = _values(kind, values)
    return ImagePreprocess(
        height=crop[0],
        width=crop[1],
        resize=resize,
        resize_to=to,
        interpolation=FILTERS[int(values["resample"])],  # type: ignore[arg-type]
        scale=scale,
        mean=mean,
        std=std,
        channels="BGR" if values.get("do_flip_channel_order") else "RGB",
        crop_rounding="floor",
    )


def _with_defaults(stated: Mapping[str, Any], config: Any) -> tuple[str, dict[str, Any]]:
    """The processor's name, and the file's values over those of its class."""
    name = str(stated.get("image_processor_type") or stated.get("feature_extractor_type") or "")
    name = name.replace("FeatureExtractor", "ImageProcessor").removesuffix("Fast")
    kind = getattr(transformers, name, None) if name.endswith("ImageProcessor") else None
    if kind is None:
        with contextlib.suppress(KeyError):
            kind = next(iter(transformers.IMAGE_PROCESSOR_MAPPING[type(config)].values()), None)
    defaults = {key: getattr(kind, key, None) for key in KNOWN} if kind else {}
    # A class that says nothing of a step does not take it (MobileViT's does not normalise).
    values = {
        **dict.fromkeys(("do_resize", "do_rescale", "do_normalize"), kind is None),
        "rescale_factor": 1 / 255,
        "resample": 2,
        **{key: value for key, value in defaults.items() if value is not None},
        **{key: stated[key] for key in KNOWN if stated.get(key) is not None},
    }
    return name or (kind.__name__ if kind else "processor"), values


def _geometry(
    kind: str, values: Mapping[str, Any], folder: Path
) -> tuple[Any, tuple[int, int], tuple[int, int]]:
    """("shortest" or "exact", what it resizes to, what it crops), in pixels (height, width)."""
    size, crops = values.get("size"), bool(values.get("do_center_crop"))
    if not values["do_resize"] or not size:
        raise InputError(f"{folder}: its {FILE} resizes nothing; inputs would differ in shape")
    edge = _shortest(size, square=bool(values.get("default_to_square", True)))
    if kind.startswith(LIKE_CONVNEXT) and edge is not None:
        if edge >= 384:
            return "exact", (edge, edge), (edge, edge)
        wide = int(edge / float(values.get("crop_pct") or 224 / 256))
        return "shortest", (wide, wide), (edge, edge)
    if kind.startswith("PoolFormer") and values.get("crop_pct"):
        edge = int((edge or _pixels(size, folder)[0]) / float(values["crop_pct"]))
    if kind.startswith("Levit") and edge is not None:
        edge = int(256 / 224 * edge)
    if edge is None:
        to = _pixels(size, folder)
        return "exact", to, _pixels(values["crop_size"], folder) if crops else to
    if not crops or not values.get("crop_size"):
        raise InputError(f"{folder} resizes the shorter side without a crop: inputs would differ in shape")
    return "shortest", (edge, edge), _pixels(values["crop_size"], folder)


def _shortest(size: Any, *, square: bool) -> int | None:
    """The shorter side, where only that is stated; a bare number is one where the class reads it so."""
    if isinstance(size, Mapping):
        return int(size["shortest_edge"]) if set(size) == {"shortest_edge"} else None
    return int(size) if isinstance(size, int) and not square else None


def _pixels(size: Any, folder: Path) -> tuple[int, int]:
    """(height, width) from 224, [224, 224] or {"height": 224, "width": 224}."""
    if isinstance(size, int):
        return size, size
    if isinstance(size, list | tuple) and len(size) == 2:
        return int(size[0]), int(size[1])
    try:
        return int(size["height"]), int(size["width"])
    except (KeyError, TypeError) as error:
        raise InputError(f"{folder / FILE} has a size that the zoo cannot read: {size}") from error


def _values(kind: str, values: Mapping[str, Any]) -> tuple[float, Any, Any]:
    """(scale, mean, std): the network gets (pixel * scale - mean) / std."""
    scale = float(values["rescale_factor"]) if values["do_rescale"] else 1.0
    mean, std = (0.0,) * 3, (1.0,) * 3
    if values["do_normalize"]:
        mean, std = tuple(map(float, values["image_mean"])), tuple(map(float, values["image_std"]))
    if kind.startswith("EfficientNet"):
        if values.get("rescale_offset"):  # x * scale - 1 before the mean
            mean = tuple(m + 1 for m in mean)
        if values.get("include_top", True):  # divided by the std once more
            again = tuple(map(float, values["image_std"]))
            mean, std = mean, tuple(s * t for s, t in zip(std, again, strict=True))
    return scale, mean, std
