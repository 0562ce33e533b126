"""Image classification folders of transformers: preprocess as their processor states it, head on pooled maps."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from torch import nn

from zoo import model_folder
from zoo.cards import ImagePreprocess
from zoo.engine import LoadRequest
from zoo.errors import InputError
from zoo_torch import folders
from zoo_torch.anatomy import Anatomy, around, seeded
from zoo_torch.engine import TorchEngine

CLASSES = transformers.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING
# PIL's resampling filters by number, as preprocessor_config.json names them.
FILTERS = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box"}
# Layers of the list that make one unit of the paper: a depthwise and a pointwise convolution (Howard et al. 2017).
LAYERS_A_UNIT = {"mobilenet_v1": 2}
# TF's probability to keep, which transformers' config carries as the one to drop: fine-tuning with 99.9 % of the
# features dropped learns nothing. Where a config has this very value, what was meant is dropped instead.
KEEP_PROBABILITY = {"mobilenet_v1": 0.999, "mobilenet_v2": 0.8}


def from_folder(folder: Path, request: LoadRequest) -> TorchEngine:
    """A classifier from a local folder; with weights "none" its config only, random."""
    config = folders.read_config(folder)
    if request.depth is not None:
        raise InputError(f"{request.name} cannot be cut: depth= is for text encoders")
    preprocess = read_preprocess(folder, config, request.size)
    if getattr(config, "classifier_dropout_prob", None) == KEEP_PROBABILITY.get(config.model_type, -1.0):
        config.classifier_dropout_prob = round(1 - config.classifier_dropout_prob, 6)
    if request.weights == "none":
        module = _random(config, request.seed)
    else:
        module = folders.pretrained(CLASSES[type(config)], folder, config, {})
    labels = tuple(str(config.id2label[i]) for i in range(config.num_labels))
    engine = _engine(module, preprocess, device=request.device)
    engine.labels = None if request.weights == "none" else labels
    if request.num_classes is not None:
        engine.reset_head(request.num_classes, seed=request.seed)
    return engine


def rebuild(architecture: Mapping[str, Any], preprocess: ImagePreprocess) -> TorchEngine:
    """The network that `TorchEngine.architecture` described, its values still to be loaded."""
    values, classes = architecture["config"], architecture["classes"]
    config = transformers.CONFIG_MAPPING[values["model_type"]].from_dict(dict(values))
    engine = _engine(_random(config, 0), preprocess)
    engine.set_head(np.zeros((classes, engine.feature_dim), np.float32), np.zeros(classes, np.float32))
    return engine


def _random(config: Any, seed: int) -> Any:
    with seeded(seed, torch.device("cpu")):
        return CLASSES[type(config)](config).float()


def _engine(module: Any, preprocess: ImagePreprocess, *, device: str | None = None) -> TorchEngine:
    return TorchEngine(
        module,
        anatomy_of(module),
        preprocess=preprocess,
        architecture={"kind": "transformers-image", "config": folders.config_values(module.config)},
        device=device,
    )


def anatomy_of(module: Any) -> Anatomy:
    """How a transformers image classifier is read: its longest list of layers, and its last Linear."""
    head = _head(module)
    path, layers = max(
        ((name, part) for name, part in module.named_modules() if isinstance(part, nn.ModuleList)),
        key=lambda found: len(found[1]),
        default=("", ()),
    )
    if not path:
        raise InputError(f"the zoo cannot read the layers of a {type(module).__name__} yet")
    step = LAYERS_A_UNIT.get(module.config.model_type, 1)
    units = {
        f"unit.{i // step}": tuple(f"{path}.{j}" for j in range(i, min(i + step, len(layers))))
        for i in range(0, len(layers), step)
    }
    before, after = around(module, path, leave_out=head)
    last = list(units)[-1]
    units[last] = (*units[last], *after)
    width = module.get_submodule(head).in_features
    return Anatomy(width, {"stem": before, **units}, head=head)


def _head(module: Any) -> str:
    linears = [
        name
        for name, part in module.named_modules()
        if isinstance(part, nn.Linear) and part.out_features == module.config.num_labels
    ]
    if not linears:
        raise InputError(f"the head of a {type(module).__name__} is no Linear: the zoo cannot read it yet")
    return linears[-1]


def read_preprocess(folder: Path, config: Any, size: int | None) -> ImagePreprocess:
    """preprocessor_config.json as transformers applies it: resize, crop (rounded down), rescale, normalise.

    Raises InputError for what the zoo's one implementation cannot do the same.
    """
    stated = model_folder.read_json(folder / "preprocessor_config.json")
    if not stated:
        raise InputError(
            f"{folder} holds no preprocessor_config.json: the zoo does not guess how to prepare images"
        )
    resize, to = _resize(stated, folder)
    height, width = _pixels(stated.get("crop_size") or {}) if stated.get("do_center_crop") else to
    if resize == "shortest" and not stated.get("do_center_crop"):
        raise InputError(f"{folder} resizes the shorter side without a crop: inputs would differ in shape")
    normalise = stated.get("do_normalize", True)
    found = ImagePreprocess(
        height=height,
        width=width,
        resize=resize,
        resize_to=to,
        interpolation=FILTERS[int(stated.get("resample", 2))],
        scale=float(stated.get("rescale_factor", 1 / 255)) if stated.get("do_rescale", True) else 1.0,
        mean=tuple(stated["image_mean"]) if normalise else (0.0, 0.0, 0.0),
        std=tuple(stated["image_std"]) if normalise else (1.0, 1.0, 1.0),
        crop_rounding="floor",
    )
    return found if size is None else found.at_size(size)


def _resize(stated: Mapping[str, Any], folder: Path) -> tuple[Any, tuple[int, int]]:
    size = stated.get("size")
    if not stated.get("do_resize", True) or not size:
        raise InputError(
            f"{folder}: its preprocessor_config.json resizes nothing; inputs would differ in shape"
        )
    if isinstance(size, dict) and set(size) == {"shortest_edge"}:
        return "shortest", (int(size["shortest_edge"]), int(size["shortest_edge"]))
    return "exact", _pixels(size)


def _pixels(size: Any) -> tuple[int, int]:
    """(height, width) from 224 or {"height": 224, "width": 224}."""
    if isinstance(size, int):
        return size, size
    try:
        return int(size["height"]), int(size["width"])
    except (KeyError, TypeError) as error:
        raise InputError(f"preprocessor_config.json has a size that the zoo cannot read: {size}") from error
