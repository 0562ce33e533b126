"""timm's image models: every architecture and every `arch.tag`, loaded by timm itself from files read safely.

timm makes the network, and its own loader puts the weights in: it renames old keys, interpolates position
embeddings to another input size, and knows each family's history. What it is given are tensors that we have
read (no pickle with code), from the mirror or from the hub. How a network is read: `timm_anatomy`.
"""

from __future__ import annotations

import difflib
import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from timm.data import ImageNetInfo, infer_imagenet_subset, resolve_data_config
from torch import Tensor, nn

from zoo.cards import ImagePreprocess
from zoo.engine import LoadRequest
from zoo.errors import InputError, UnknownModelError
from zoo_torch import timm_anatomy, timm_files
from zoo_torch.anatomy import Anatomy
from zoo_torch.checkpoints import read_weights
from zoo_torch.cutting import shorten
from zoo_torch.engine import NO_HEAD, TorchEngine
from zoo_torch.timm_anatomy import Heads

KIND, PREFIX = "timm", "timm/"
DEFAULT, RANDOM = "default", "none"
SMALLEST_TRIES = (16, 32, 48, 64, 96, 112, 128, 160, 192, 224, 256, 288, 320, 384, 448, 512)
# What a network says, in whatever way, to an input it cannot take: assertions of its size, shapes that do not
# meet, windows larger than the map.
SIZE_ERRORS = (AssertionError, RuntimeError, ValueError, ZeroDivisionError, IndexError, TypeError)
PROJECTION = (
    "the last layer of these weights projects into the space of a text encoder, it is no classification head: "
    "replace_head(num_classes) puts one on the features before it"
)


@dataclass(frozen=True)
class Source:
    """One `arch.tag`: what timm states of it, and whether these weights were asked for (else: random).

    classes: of the checkpoint's own head; None: it has none (pretraining, or an image tower of CLIP's kind,
    whose `outputs` are a projection).
    """

    arch: str
    tag: str
    config: Mapping[str, Any]
    classes: int | None

    @property
    def outputs(self) -> int:
        """Columns of the last layer as published, 0 where there is none."""
        return int(self.config.get("num_classes") or 0)


# --- names
def architecture(name: str) -> str:
    """timm's name of "timm/<arch>". Raises UnknownModelError with near names."""
    arch = name.removeprefix(PREFIX)
    known = timm.list_models()
    if arch not in known:
        near = [PREFIX + text for text in difflib.get_close_matches(arch, known, n=3)]
        guess = f" Did you mean {', '.join(near)}?" if near else ""
        raise UnknownModelError(
            f"timm has no architecture {arch!r}.{guess} `zoo list 'timm/*'` shows all.", near
        )
    return arch


def tags(arch: str) -> list[str]:
    """The tags of an architecture's published weights, timm's default first."""
    first = timm.get_pretrained_cfg(arch).tag
    found = [name.partition(".")[2] for name in timm.list_models(f"{arch}.*", pretrained=True)]
    return sorted(found, key=lambda tag: tag != first)


def source(arch: str, wanted: str) -> Source:
    """The published weights of that tag; "default", "none" and a file: what timm's default tag states.

    Raises UnknownModelError with near tags.
    """
    have = tags(arch)
    if timm_files.is_path(wanted) or wanted in (DEFAULT, RANDOM):
        tag = have[0] if have else ""
    elif wanted in have:
        tag = wanted
    else:
        near = difflib.get_close_matches(wanted, have, n=3, cutoff=0.3)
        guess = f" Did you mean {', '.join(near)}?" if near else ""
        there = f"there are {', '.join(have)}" if have else "timm publishes none for it"
        raise UnknownModelError(
            f"torch:{PREFIX}{arch} has no weights {wanted!r}.{guess} Of its tags {there}; 'none' for random "
            f"ones, or a file. `zoo info torch:{PREFIX}{arch}` shows them.",
            near,
        )
    config = timm.get_pretrained_cfg(f"{arch}.{tag}" if tag else arch).to_dict()
    return Source(arch, tag, config, own_classes(config))


def own_classes(config: Mapping[str, Any]) -> int | None:
    """Classes of a published head, None where the last layer is none.

    The image towers of CLIP and its kin end in a projection of 384 to 1280 columns, which timm lists as
    num_classes; label sets are ImageNet's, or of tens of thousands of classes.
    """
    count = int(config.get("num_classes") or 0)
    is_classes = infer_imagenet_subset(dict(config)) or config.get("label_names") or count > 10_000
    return count if count and is_classes else None


def labels(config: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Class names: the checkpoint's own, or WordNet's words for ImageNet's subsets; None where not stated."""
    if given := config.get("label_names"):
        return tuple(given)
    subset = infer_imagenet_subset(dict(config))
    return tuple(ImageNetInfo(subset).label_descriptions()) if subset else None


# --- loading
def load(request: LoadRequest) -> TorchEngine:
    """One of timm's networks with the weights asked for. Raises as `Adapter.load` says."""
    wanted = architecture(request.name)
    found = source(wanted, request.weights)
    if request.size is not None:
        check_size(found, request.size)
    tensors = None
    if timm_files.is_path(request.weights):
        tensors = read_weights(Path(request.weights).expanduser())
        found = _as_in_file(found, tensors)
    elif request.weights != RANDOM:
        tensors = timm_files.official(found.arch, found.tag, found.config)
    engine = _engine(found, request, tensors)
    if request.num_classes is not None:
        engine.reset_head(request.num_classes, seed=request.seed)
    return engine


def _as_in_file(found: Source, tensors: Mapping[str, Tensor]) -> Source:
    """The same with as many classes as somebody's own file has."""
    names = found.config.get("classifier") or ()
    for name in (names,) if isinstance(names, str) else names:
        if (weight := tensors.get(f"{name}.weight")) is not None:
            rows = int(weight.shape[0])
            kept = found.classes if rows == found.outputs else rows
            return Source(found.arch, found.tag, {**found.config, "num_classes": rows}, kept)
    return Source(found.arch, found.tag, {**found.config, "num_classes": 0}, None)


def _engine(found: Source, request: LoadRequest, tensors: Mapping[str, Tensor] | None) -> TorchEngine:
    """The network with its own head where it is kept, its values from `tensors` or from the seed."""
    anatomy, heads = read(found.arch, found.config, request.size)
    whole = request.depth is None or not anatomy.depths or request.depth == anatomy.depths[-1]
    keeps = found.classes if request.num_classes is None and whole else None
    module = timm_files.fill(found, _options(found.config, request.size), request, tensors)
    example = _example(found.config, request.size)
    made = _fitted(module, heads, keeps, example)
    if request.depth is not None:
        anatomy = shorten(module, anatomy, request.depth, {"images": example[:1]})
    names = labels(found.config) if keeps and tensors is not None else None
    engine = TorchEngine(
        module,
        anatomy,
        preprocess=preprocess_of(found.config, request.size),
        native_classes=keeps,
        labels=names if names and len(names) == keeps else None,
        architecture={
            "kind": KIND,
            "name": found.arch,
            "tag": found.tag,
            "size": request.size,
            "depth": request.depth,
        },
        device=request.device,
        no_head=PROJECTION if found.outputs and not found.classes else NO_HEAD,
    )
    if made is not None:
        engine.set_head(*made)
    return engine


def _fitted(module: Any, heads: Heads, keeps: int | None, example: Tensor) -> tuple[Any, Any] | None:
    """Bring the module's head into the anatomy's form; returns the one Linear that several heads are."""
    made = None
    if keeps and heads.convolution:
        timm_anatomy.linear_of_convolution(module, heads.paths[0])
    elif keeps and len(heads.paths) > 1:
        made = timm_anatomy.one_of_several(module, heads, example.expand(len(heads.paths), -1, -1, -1))
    if not keeps or made is not None:
        timm_anatomy.take_off(module, heads)
    return made


def rebuild(stated: Mapping[str, Any], preprocess: ImagePreprocess) -> TorchEngine:
    """The network that `TorchEngine.architecture` described, its values still to be loaded."""
    classes, head, size = stated["classes"], stated["head"], stated["size"]
    config = timm.get_pretrained_cfg(f"{stated['name']}.{stated['tag']}".strip(".")).to_dict()
    native = classes if head == "native" else None
    found = Source(stated["name"], stated["tag"], {**config, "num_classes": native or 0}, native)
    request = LoadRequest(PREFIX + found.arch, weights=RANDOM, depth=stated["depth"], size=size)
    engine = _engine(found, request, None)
    engine.preprocess = preprocess
    if head == "linear":
        engine.set_head(np.zeros((classes, engine.feature_dim), np.float32), np.zeros(classes, np.float32))
    return engine


# --- the network on paper
def read(arch: str, config: Mapping[str, Any], size: int | None) -> tuple[Anatomy, Heads]:
    """The anatomy of an architecture, read off a network without values, and where its heads sit."""
    return timm_anatomy.read(on_paper(arch, config, size))


def on_paper(arch: str, config: Mapping[str, Any], size: int | None = None, *, classes: int = 2) -> nn.Module:
    """The network on torch's meta device: shapes, no values. In inference mode."""
    with torch.device("meta"), timm_files.quiet():
        module: nn.Module = timm.create_model(
            arch, pretrained_cfg=dict(config), num_classes=classes, **_options(config, size)
        )
    return module.eval()


def _options(config: Mapping[str, Any], size: int | None) -> dict[str, Any]:
    """Arguments for another input size, where the network is made for one."""
    return {"img_size": (size, size)} if size is not None and config.get("fixed_input_size") else {}


def _example(config: Mapping[str, Any], size: int | None) -> Tensor:
    height, width = (size, size) if size is not None else config["input_size"][1:]
    return torch.zeros(1, 3, height, width)


# --- input
def preprocess_of(config: Mapping[str, Any], size: int | None) -> ImagePreprocess:
    """What these weights are evaluated with, as timm's `transforms_imagenet_eval` does it.

    "center": the shorter side to floor(size / crop_pct); "squash" and "border": both sides.
    """
    data = resolve_data_config(pretrained_cfg=dict(config))
    height, width = (size, size) if size is not None else data["input_size"][1:]
    share = data["crop_pct"]
    return ImagePreprocess(
        height=height,
        width=width,
        resize="shortest" if data["crop_mode"] == "center" and height == width else "exact",
        resize_to=(math.floor(height / share), math.floor(width / share)),
        interpolation=data["interpolation"],
        mean=tuple(map(float, data["mean"])),
        std=tuple(map(float, data["std"])),
    )


def takes(found: Source, size: int) -> bool:
    """Whether the network runs on images of that size: it is tried, without values."""
    least = max((found.config.get("min_input_size") or (3, 1, 1))[1:])
    if size < least:
        return False
    try:
        with torch.no_grad():
            on_paper(found.arch, found.config, size)(torch.empty(2, 3, size, size, device="meta"))
    except SIZE_ERRORS:
        return False
    return True


def check_size(found: Source, size: int) -> None:
    """Raise InputError with the sizes that the network takes, unless it takes this one."""
    stated = max(found.config["input_size"][1:])
    if size == stated or takes(found, size):
        return
    smallest, near = smallest_size(found), _near_sizes(found, size)
    raise InputError(
        f"torch:{PREFIX}{found.arch} does not take images of {size} pixels a side: its weights were made for "
        f"{stated}{f', it takes {near}' if near else ''}; the smallest is {smallest or stated}"
    )


@functools.lru_cache(maxsize=64)
def _smallest(arch: str, tag: str) -> int | None:
    found = source(arch, tag or DEFAULT)
    return next((size for size in SMALLEST_TRIES if takes(found, size)), None)


def smallest_size(found: Source) -> int | None:
    """The smallest of the usual sizes that the network takes, None where only its own is."""
    return _smallest(found.arch, found.tag)


def _near_sizes(found: Source, size: int) -> str:
    """Multiples of 32 (or 28, for patches of 14) on both sides that work, as words."""
    for step in (32, 28):
        near = [
            s for s in (size // step * step, (size // step + 1) * step) if s and s != size and takes(found, s)
        ]
        if near:
            return " and ".join(map(str, near))
    return ""
