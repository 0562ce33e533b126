"""torchvision's classifiers: made, filled with official or own weights, cut in depth, at any size they take."""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from torch import Tensor, nn
from torchvision.models import WeightsEnum
from torchvision.models.vision_transformer import interpolate_embeddings

from zoo import weights as zoo_weights
from zoo.cards import ImagePreprocess
from zoo.engine import LoadRequest
from zoo.errors import InputError, UnknownModelError, WeightsCorruptError
from zoo_torch.anatomy import Anatomy, seeded
from zoo_torch.checkpoints import fill, read_weights
from zoo_torch.cutting import shorten
from zoo_torch.engine import TorchEngine
from zoo_torch.families import Family, family_of

DEFAULT, RANDOM = "default", "none"
WEIGHT_SUFFIXES = (".pth", ".pt", ".bin", ".safetensors")
POSITIONS = "encoder.pos_embedding"  # of a ViT: its length tells the size that weights are laid out for
# Names that older official files use, and what they are called now: DenseNet's layers, ViT's MLP.
RENAMED = (
    (re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)"), r"\1\2"),
    (re.compile(r"\.mlp\.linear_1\."), ".mlp.0."),
    (re.compile(r"\.mlp\.linear_2\."), ".mlp.3."),
)


# --- making
def known(name: str) -> Family:
    """The family of a torchvision classifier. Raises UnknownModelError with near names."""
    names = torchvision.models.list_models(module=torchvision.models)
    if name not in names:
        near = difflib.get_close_matches(name, names, n=3)
        raise UnknownModelError(
            f"torchvision has no model {name!r}. `zoo list --framework torch` shows all.", near
        )
    if (family := family_of(name)) is None:
        raise UnknownModelError(f"{name!r} is in torchvision, and the zoo cannot read its family yet")
    return family


def build(name: str, classes: int, *, seed: int = 0, size: int | None = None) -> tuple[nn.Module, Anatomy]:
    """The native module, random from `seed`, and how it is read; size: where it is laid out for one.

    Raises UnknownModelError.
    """
    family = known(name)
    options: dict[str, Any] = dict(family.options)
    if family.sized == "image_size" and size is not None:
        options["image_size"] = size
    elif family.sized is not None and size is not None:
        options[family.sized] = (size, size)
    with seeded(seed, torch.device("cpu")):
        module = torchvision.models.get_model(name, weights=None, num_classes=classes, **options)
    return module, family.read(module)


def _random_at(name: str, classes: int, seed: int, size: int, usual: int) -> tuple[nn.Module, Anatomy]:
    """The same random network at every size: a ViT's positions are drawn at the usual one, interpolated."""
    module, anatomy = build(name, classes, seed=seed, size=size)
    if POSITIONS in module.state_dict() and size != usual:
        drawn = build(name, classes, seed=seed, size=usual)[0].state_dict()
        module.load_state_dict(at_size(drawn, module, size))
    return module, anatomy


def at_size(tensors: Mapping[str, Tensor], module: Any, size: int) -> dict[str, Tensor]:
    """A ViT's weights for another input size, as torchvision itself interpolates them; other weights as is."""
    if POSITIONS not in tensors or not hasattr(module, "patch_size"):
        return dict(tensors)
    try:
        return interpolate_embeddings(size, module.patch_size, dict(tensors))
    except ValueError as error:
        raise WeightsCorruptError(f"{POSITIONS} is no square of patches: {error}") from error


def _engine(
    module: nn.Module,
    anatomy: Anatomy,
    *,
    classes: int | None,
    preprocess: ImagePreprocess,
    architecture: Mapping[str, Any],
    labels: tuple[str, ...] | None = None,
    device: str | None = None,
) -> TorchEngine:
    """An engine around a native module; classes None: its head is taken off first."""
    if classes is None and (path := anatomy.head or anatomy.native_head):
        module.set_submodule(path, nn.Identity())
    engine = TorchEngine(
        module,
        anatomy,
        preprocess=preprocess,
        native_classes=classes,
        labels=labels,
        architecture=architecture,
        device=device,
    )
    if (head := engine.head()) is not None:
        engine.set_head(*head)  # MaxViT's own has no bias: here each head has one
    return engine


def load(request: LoadRequest) -> TorchEngine:
    """A torchvision classifier with the weights asked for. Raises as `Adapter.load` says."""
    family, tags = known(request.name), torchvision.models.get_model_weights(request.name)
    entry, tensors = _weights(request, tags)
    labels = tuple(entry.meta["categories"] or ())
    size = _size(request, family, entry, tensors)
    classes = head_rows(tensors, family.head) if tensors is not None else len(labels)
    if tensors is None:
        module, anatomy = _random_at(
            request.name, classes or 1, request.seed, size, entry.transforms().crop_size[0]
        )
    else:
        module, anatomy = build(request.name, classes or 1, seed=request.seed, size=size)
    depth = _depth(request, anatomy, headless=not labels)
    own_head = request.num_classes is None and classes is not None and depth is None
    whole = set(module.state_dict())
    if depth is not None:
        anatomy = shorten(module, anatomy, depth, _example(size))
    if tensors is not None:
        dropped = whole - set(module.state_dict())
        given = _own_part(at_size(tensors, module, size), family)
        fill(
            module,
            {key: value for key, value in given.items() if key not in dropped},
            optional=None if own_head else family.head,
            partial=request.partial,
        )
    usual = entry.transforms().crop_size[0]
    engine = _engine(
        module,
        anatomy,
        classes=classes if own_head else None,
        preprocess=preprocess_of(entry, None if size == usual else size),
        architecture=_architecture(request.name, depth),
        labels=labels if own_head and tensors is not None and classes == len(labels) else None,
        device=request.device,
    )
    if request.num_classes is not None:
        engine.reset_head(request.num_classes, seed=request.seed)
    return engine


def rebuild(architecture: Mapping[str, Any], preprocess: ImagePreprocess) -> TorchEngine:
    """The network that `TorchEngine.architecture` described, its values still to be loaded."""
    name, classes, head = architecture["name"], architecture["classes"], architecture["head"]
    depth, size = architecture.get("depth"), preprocess.height
    module, anatomy = build(name, classes or 1, size=size if known(name).sized else None)
    engine = _engine(
        module,
        anatomy if depth is None else shorten(module, anatomy, depth, _example(size)),
        classes=classes if head == "native" else None,
        preprocess=preprocess,
        architecture={key: architecture[key] for key in architecture if key not in ("classes", "head")},
    )
    if head == "linear":
        engine.set_head(np.zeros((classes, engine.feature_dim), np.float32), np.zeros(classes, np.float32))
    return engine


def _architecture(name: str, depth: int | None) -> dict[str, Any]:
    return {"kind": "torchvision", "name": name} | ({} if depth is None else {"depth": depth})


def _example(size: int) -> dict[str, Tensor]:
    return {"images": torch.zeros(1, 3, size, size)}


def _depth(request: LoadRequest, anatomy: Anatomy, *, headless: bool) -> int | None:
    """Where to cut, or None for the whole network.

    headless: the file holds no classifier (VGG's IMAGENET1K_FEATURES), nor the Linears before it: the last
    stage of convolutions is as far as it goes.
    """
    depths = anatomy.depths[:-1] if headless else anatomy.depths
    depth = request.depth if request.depth is not None or not headless else depths[-1]
    if depth is not None and depth not in depths:
        last = "its convolutions, all that these weights hold" if headless else "the whole network"
        raise InputError(
            f"torch:{request.name} has depths {depths[0]} to {depths[-1]}, not {depth} ({depths[-1]} is {last})"
        )
    return None if depth == anatomy.depths[-1] else depth


# --- sizes
def _size(
    request: LoadRequest, family: Family, entry: WeightsEnum, tensors: Mapping[str, Tensor] | None
) -> int:
    """The input in pixels a side: what is asked for, else what the weights are laid out for.

    Raises InputError for a size that the network does not take, saying which it does.
    """
    usual = int(entry.transforms().crop_size[0])
    step = _step(request.name, family)
    if request.size is None:
        if tensors is not None and POSITIONS in tensors:
            return step * round((tensors[POSITIONS].shape[1] - 1) ** 0.5)
        return usual
    stated = max(entry.meta.get("min_size", (32, 32)))
    smallest = step if family.sized else family.smallest or stated
    if request.size < smallest:
        raise InputError(
            f"size {request.size} is too small for torch:{request.name}: at least {smallest} pixels a side"
        )
    if request.size % step:
        raise InputError(
            f"size {request.size} does not fit torch:{request.name}: it takes multiples of {step} pixels"
        )
    return request.size


def _step(name: str, family: Family) -> int:
    """Sizes must be multiples of this: a ViT's patch, MaxViT's windows at every stage."""
    if family.sized is None:
        return 1
    return int(name.rpartition("_")[2]) if family.sized == "image_size" else 224


def preprocess_of(entry: WeightsEnum, size: int | None) -> ImagePreprocess:
    """What these weights were trained with, as torchvision's own transform states it."""
    own = entry.transforms()
    crop, shorter = own.crop_size[0], own.resize_size[0]
    stated = ImagePreprocess(
        height=crop,
        width=crop,
        resize="shortest",
        resize_to=(shorter, shorter),
        interpolation=own.interpolation.value,
        antialias=bool(own.antialias),
        mean=tuple(own.mean),
        std=tuple(own.std),
    )
    return stated if size is None else stated.at_size(size)


def _own_part(tensors: Mapping[str, Tensor], family: Family) -> dict[str, Tensor]:
    """A checkpoint's tensors by today's names, without what only training reads."""
    found = {}
    for key, value in tensors.items():
        if key.partition(".")[0] in family.unused:
            continue
        for pattern, new in RENAMED:
            key = pattern.sub(new, key)
        found[key] = value
    return found


# --- weights
def _weights(request: LoadRequest, tags: type[WeightsEnum]) -> tuple[WeightsEnum, dict[str, Tensor] | None]:
    """The published entry whose preprocess and labels hold, and the tensors; None: random."""
    wanted = request.weights
    if wanted == RANDOM:
        return tags.DEFAULT, None
    if looks_like_path(wanted):
        return tags.DEFAULT, read_weights(Path(wanted).expanduser())
    names = {entry.name.lower(): entry for entry in tags}
    entry = tags.DEFAULT if wanted == DEFAULT else names.get(wanted.lower())
    if entry is None:
        near = difflib.get_close_matches(wanted.lower(), names, n=3, cutoff=0.3)
        raise UnknownModelError(
            f"torch:{request.name} has no weights {wanted!r}: there are {', '.join(e.name for e in tags)}, "
            f"'none' for random ones, or a file. `zoo info torch:{request.name}` shows them.",
            [names[name].name for name in near],
        )
    return entry, read_weights(official(entry.url))


def looks_like_path(text: str) -> bool:
    """Whether `weights` means a file or folder rather than a tag."""
    return "/" in text or "\\" in text or text.endswith(WEIGHT_SUFFIXES) or Path(text).exists()


def official(url: str) -> Path:
    """torchvision's file of that URL: in the mirror, in torch's cache, or downloaded and hash-checked.

    Raises WeightsUnavailableError, and WeightsCorruptError where the bytes are others than the name says.
    """
    file = url.rpartition("/")[2]
    digits = Path(file).stem.rpartition("-")[2]  # official names end in the first digits of the SHA-256
    if (path := zoo_weights.mirrored(file, sha256=digits)) is not None:
        return path
    path = Path(torch.hub.get_dir()) / "checkpoints" / file
    if not path.is_file():
        _download(url, path, digits)
    return path


def _download(url: str, path: Path, digits: str) -> None:
    """torch's own download: into a temporary file beside `path`, moved only when its hash is right."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(path), hash_prefix=digits, progress=sys.stderr.isatty())
    except OSError as error:  # URLError, HTTPError, timeouts and refused connections are OSErrors
        raise zoo_weights.unavailable(path.name, url, error) from error
    except RuntimeError as error:  # torch's "invalid hash value"
        raise WeightsCorruptError(
            f"what {url} gave is not {path.name}: {error}. Nothing was kept."
        ) from error


def head_rows(tensors: Mapping[str, Tensor], head: str) -> int | None:
    """How many classes the head at that path has in these tensors; None where they hold no head."""
    rows = [len(v) for k, v in tensors.items() if k.startswith(f"{head}.") and k.endswith("weight")]
    return rows[-1] if rows else None
