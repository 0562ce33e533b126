"""Image classifiers of transformers, from a folder: made, filled, cut, fitted to another size, and rebuilt."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from zoo.cards import ImagePreprocess
from zoo.engine import LoadRequest
from zoo.errors import InputError
from zoo_hf import image_anatomy, processors
from zoo_torch import folders
from zoo_torch.anatomy import seeded
from zoo_torch.cutting import shorten
from zoo_torch.engine import NO_HEAD, TorchEngine

CLASSES = transformers.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING
# TF's probability to keep, which transformers' config carries as the one to drop: fine-tuning with 99.9 % of the
# features dropped learns nothing. Where a config has this very value, what was meant is dropped instead.
KEEP_PROBABILITY = {"mobilenet_v1": 0.999, "mobilenet_v2": 0.8}
# What the classes of these ask for is not a photograph and a fixed list of classes.
OTHERWISE = {
    "shieldgemma2": "answers questions on policies in words, over a language model",
    "siglip2": "takes lists of patches of any shape, not photographs of one size",
    "imagegpt": "takes each pixel as one of 512 colours, not as three numbers",
    "perceiver": "reads pixels one by one through a decoder of queries, without a Linear on features",
    "timm_wrapper": "holds a network of timm: give it as torch:timm/<architecture>",
}


def from_folder(folder: Path, request: LoadRequest) -> TorchEngine:
    """A classifier from a local folder; with weights "none" its config only, random."""
    config = folders.read_config(folder)
    if why := OTHERWISE.get(config.model_type):
        raise InputError(f"{request.name}: a {config.model_type} {why}; the zoo does not run it")
    check_task(config, request)
    preprocess = processors.read(folder, config)
    if request.size is not None:
        preprocess = preprocess.at_size(request.size)
    if getattr(config, "classifier_dropout_prob", None) == KEEP_PROBABILITY.get(config.model_type, -1.0):
        config.classifier_dropout_prob = round(1 - config.classifier_dropout_prob, 6)
    if request.weights == "none":
        module = _random(config, request.seed)
    else:
        optional = ("classifier", "head", "fc") if request.num_classes is not None else ()
        module = folders.pretrained(
            _class(config), folder, config, {}, seed=request.seed, partial=request.partial, optional=optional
        )
    engine = _engine(module, preprocess, name=request.name, depth=request.depth, device=request.device)
    if request.num_classes is not None:
        engine.reset_head(request.num_classes, seed=request.seed)
    elif engine.num_classes and request.weights != "none":
        engine.labels = tuple(str(config.id2label[i]) for i in range(config.num_labels))
    return engine


def check_task(config: Any, request: LoadRequest) -> None:
    """Raise InputError for a head that gives several labels at once, or a number."""
    wrong = config.problem_type in ("multi_label_classification", "regression")
    if wrong and request.num_classes is None and request.depth is None:
        raise InputError(
            f"the head of {request.name} is for {config.problem_type}; the zoo has single-label classification "
            "only. Its backbone can be used: `zoo train` and num_classes=N put a fresh head on it."
        )


def rebuild(architecture: Mapping[str, Any], preprocess: ImagePreprocess) -> TorchEngine:
    """The network that `TorchEngine.architecture` described, its values still to be loaded."""
    values, classes = architecture["config"], architecture["classes"]
    config = transformers.CONFIG_MAPPING[values["model_type"]].from_dict(dict(values))
    engine = _engine(_random(config, 0), preprocess, name="this run", depth=architecture.get("depth"))
    if classes is not None:
        engine.set_head(np.zeros((classes, engine.feature_dim), np.float32), np.zeros(classes, np.float32))
    return engine


def _class(config: Any) -> Any:
    """The class that the config says was saved; of several, the first."""
    kinds = CLASSES[type(config)]
    kinds = kinds if isinstance(kinds, tuple) else (kinds,)
    saved = config.architectures or ()
    return next((kind for kind in kinds if kind.__name__ in saved), kinds[0])


def _random(config: Any, seed: int) -> Any:
    with seeded(seed, torch.device("cpu")), folders.quiet():
        return _class(config)(config).float()


def _engine(
    module: Any,
    preprocess: ImagePreprocess,
    *,
    name: str,
    depth: int | None = None,
    device: str | None = None,
) -> TorchEngine:
    size = (preprocess.height, preprocess.width)
    values = folders.config_values(module.config)
    image_anatomy.fit_to(module, size, name)
    anatomy = image_anatomy.anatomy_of(module, size)
    head = image_anatomy.averaged_head(module)
    if head is not None:
        image_anatomy.take_off_heads(module)
    if depth is not None:
        whole = anatomy
        anatomy = shorten(module, anatomy, depth, {"images": torch.zeros(1, 3, *size)})
        if anatomy is not whole:
            head, anatomy = None, image_anatomy.headless(module, anatomy)
    engine = TorchEngine(
        module,
        anatomy,
        preprocess=preprocess,
        architecture={"kind": "transformers-image", "config": values, "depth": depth},
        device=device,
        no_head=NO_HEAD if depth is None else f"{NO_HEAD} (a network cut in depth has none of its own)",
    )
    if head is not None:
        engine.set_head(*head)
    return engine
