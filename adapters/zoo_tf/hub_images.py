"""How KerasHub's image models want their pictures, from each of the three layouts, as one ImagePreprocess.

timm's and transformers' folders are read as timm and transformers read them: KerasHub's own converter takes no
notice of timm's `crop_pct`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zoo import model_folder
from zoo.cards import ImagePreprocess
from zoo.errors import InputError
from zoo_tf.hub_checkpoints import elsewhere
from zoo_tf.weight_files import imagenet_labels

# PIL's resampling filters by number, as preprocessor_config.json names them.
FILTERS = ("nearest", "lanczos", "bilinear", "bicubic", "box")
TIMM_CROP = 0.875
IMAGENET = 1000


def task_options(folder: Path, config: Mapping[str, Any]) -> dict[str, Any] | None:
    """Arguments of KerasHub's classifier where the folder has a head; None where it has none."""
    if "model_type" not in config:
        return _timm_options(folder, config)
    kinds = " ".join(map(str, config.get("architectures") or []))
    if "WithTeacher" in kinds:
        raise InputError(
            f"{folder} has two classifiers, whose logits are averaged: KerasHub reads one. Use hf:{folder}"
        )
    if "ForImageClassification" not in kinds:
        return None
    return {"num_classes": len(config.get("id2label") or ()) or int(config.get("num_labels", 2))}


def _timm_options(folder: Path, config: Mapping[str, Any]) -> dict[str, Any] | None:
    classes, name = int(config.get("num_classes") or 0), str(config["architecture"])
    if name.startswith("mobilenetv5"):
        raise InputError(
            f"{folder} is timm's {name}: from the same weights KerasHub computes other features than timm. "
            f"Use {elsewhere(folder, config)}"
        )
    if not classes:
        return None
    if name.startswith("hgnetv2"):
        raise InputError(
            f"{folder} is timm's {name} with its classifier: KerasHub computes the head's convolution before the "
            f"average over the map, timm after it, and the answers differ. Use {elsewhere(folder, config)}"
        )
    wide = "mobilenet" in name and "num_features" in config
    return {"num_classes": classes, **({"num_features": int(config["num_features"])} if wide else {})}


# --- preprocessing
def folder_preprocess(folder: Path, config: Mapping[str, Any], _plan: Any) -> ImagePreprocess:
    """Of a transformers or timm folder. Raises InputError where it does not say."""
    return (
        _timm_preprocess(folder, config) if "model_type" not in config else _transformers_preprocess(folder)
    )


def _timm_preprocess(folder: Path, config: Mapping[str, Any]) -> ImagePreprocess:
    """pretrained_cfg as timm's evaluation applies it: the shorter side to size / crop_pct, then the centre."""
    stated = config.get("pretrained_cfg") or {}
    if "input_size" not in stated:
        raise InputError(f"{folder / 'config.json'} has no pretrained_cfg: how to prepare images is not said")
    height, width = (int(n) for n in stated["input_size"][1:])
    shorter = math.floor(height / float(stated.get("crop_pct") or TIMM_CROP))
    exact = stated.get("crop_mode") in ("squash", "border")
    return ImagePreprocess(
        height=height,
        width=width,
        resize="exact" if exact else "shortest",
        resize_to=(shorter, math.floor(width / float(stated.get("crop_pct") or TIMM_CROP))),
        interpolation=str(stated.get("interpolation") or "bilinear"),  # type: ignore[arg-type]
        mean=_three(stated.get("mean", (0.485, 0.456, 0.406))),
        std=_three(stated.get("std", (0.229, 0.224, 0.225))),
    )


def _transformers_preprocess(folder: Path) -> ImagePreprocess:
    """preprocessor_config.json: resize, crop (rounded down), rescale, normalise."""
    stated = model_folder.read_json(folder / "preprocessor_config.json")
    if not stated.get("size") or not stated.get("do_resize", True):
        raise InputError(
            f"{folder} holds no preprocessor_config.json with a size: the zoo does not guess how to prepare images"
        )
    shortest = isinstance(stated["size"], dict) and set(stated["size"]) == {"shortest_edge"}
    to = (int(stated["size"]["shortest_edge"]),) * 2 if shortest else _pixels(stated["size"])
    crops = bool(stated.get("do_center_crop"))
    if shortest and not crops:
        raise InputError(f"{folder} resizes the shorter side without a crop: inputs would differ in shape")
    height, width = _pixels(stated.get("crop_size") or to) if crops else to
    normal = stated.get("do_normalize", True)
    return ImagePreprocess(
        height=height,
        width=width,
        resize="shortest" if shortest else "exact",
        resize_to=(to[0], to[1]),
        interpolation=FILTERS[int(stated.get("resample", 2))],  # type: ignore[arg-type]
        scale=float(stated.get("rescale_factor", 1 / 255)) if stated.get("do_rescale", True) else 1.0,
        mean=_three(stated["image_mean"]) if normal else (0.0, 0.0, 0.0),
        std=_three(stated["image_std"]) if normal else (1.0, 1.0, 1.0),
        crop_rounding="floor",
    )


def preset_preprocess(folder: Path) -> ImagePreprocess:
    """KerasHub's image converter: crop to the aspect ratio and resize, then pixel * scale + offset."""
    stated = model_folder.read_json(folder / "image_converter.json").get("config")
    stated = stated or _inside(model_folder.read_json(folder / "preprocessor.json"))
    if not stated or not stated.get("image_size") or stated.get("pad_to_aspect_ratio"):
        raise InputError(
            f"{folder} holds no image_converter.json that gives every image one size without padding: the zoo "
            "does not guess how to prepare images"
        )
    height, width = (int(n) for n in stated["image_size"])
    scale, offset = _three(stated.get("scale") or 1.0), _three(stated.get("offset") or 0.0)
    whole = 1.0 if max(scale) >= 1 else 1 / 255
    std = tuple(whole / s for s in scale)
    return ImagePreprocess(
        height=height,
        width=width,
        resize="cropped" if stated.get("crop_to_aspect_ratio", True) else "exact",
        resize_to=(height, width),
        interpolation=str(stated.get("interpolation") or "bilinear"),  # type: ignore[arg-type]
        antialias=bool(stated.get("antialias", False)),
        scale=whole,
        mean=_three([-o * s for o, s in zip(offset, std, strict=True)]),
        std=_three(std),
    )


def _inside(preprocessor: Mapping[str, Any]) -> dict[str, Any]:
    """The image converter that a preset of KerasHub's keeps in its preprocessor.json."""
    found: dict[str, Any] = ((preprocessor.get("config") or {}).get("image_converter") or {}).get(
        "config"
    ) or {}
    return found


def _three(value: Any) -> tuple[float, float, float]:
    values = [float(value)] * 3 if isinstance(value, int | float) else [float(v) for v in value]
    return values[0], values[1], values[2]


def _pixels(size: Any) -> tuple[int, int]:
    """(height, width) from 224, (224, 224) or {"height": 224, "width": 224}."""
    if isinstance(size, int):
        return size, size
    try:
        pair = (size["height"], size["width"]) if isinstance(size, dict) else (size[0], size[1])
        return int(pair[0]), int(pair[1])
    except (KeyError, TypeError, IndexError) as error:
        raise InputError(f"preprocessor_config.json has a size that the zoo cannot read: {size}") from error


def labels(folder: Path, classes: int | None) -> tuple[str, ...] | None:
    """KerasHub's presets name no classes; those trained on ImageNet have its thousand, in its order."""
    metadata = model_folder.read_json(folder / "metadata.json")
    known = "imagenet" in folder.name.lower() or "imagenet" in str(metadata.get("description", "")).lower()
    return imagenet_labels(may_download=False) if classes == IMAGENET and known else None
