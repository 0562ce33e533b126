"""torchvision's classifiers: how each family is read, and its official weights.

A new family is one more function in FAMILIES; whatever ends in one Linear needs only the names of its blocks.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from torch import Tensor, nn
from torchvision.models import WeightsEnum

from zoo import weights as zoo_weights
from zoo.cards import ImagePreprocess
from zoo.engine import LoadRequest
from zoo.errors import InputError, UnknownModelError, WeightsCorruptError
from zoo_torch.anatomy import Anatomy, Tensors, seeded
from zoo_torch.checkpoints import fill, read_weights
from zoo_torch.engine import TorchEngine

DEFAULT, RANDOM = "default", "none"
WEIGHT_SUFFIXES = (".pth", ".pt", ".bin", ".safetensors")


# --- families
def _resnet(module: Any) -> Anatomy:
    """He et al. 2015: a stem, then residual units in four stages."""
    units = {
        f"layer{stage}.{i}": (f"layer{stage}.{i}",)
        for stage in (1, 2, 3, 4)
        for i in range(len(module.get_submodule(f"layer{stage}")))
    }
    return Anatomy(module.fc.in_features, {"stem": ("conv1", "bn1"), **units}, head="fc")


def _squeezenet(module: Any) -> Anatomy:
    """Iandola et al. 2016: a stem, then fire modules; its own head is a convolution before the pooling."""
    fires = [f"features.{i}" for i, part in enumerate(module.features) if type(part).__name__ == "Fire"]
    return Anatomy(
        module.classifier[1].in_channels,
        {"stem": ("features.0",), **{f"fire{i}": (path,) for i, path in enumerate(fires, 2)}},
        features=_squeezenet_features,
        native_head="classifier",
        put_head=_squeezenet_head,
    )


def _squeezenet_features(module: Any, tensors: Tensors) -> Tensor:
    maps: Tensor = module.features(tensors["images"])
    return maps.mean(dim=(2, 3))


def _squeezenet_head(module: Any, linear: nn.Linear) -> str:
    module.classifier = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(1), linear)
    return "classifier.2"


FAMILIES: dict[type[nn.Module], Callable[[Any], Anatomy]] = {
    torchvision.models.ResNet: _resnet,
    torchvision.models.SqueezeNet: _squeezenet,
}


# --- making
def build(name: str, classes: int, *, seed: int = 0) -> tuple[nn.Module, Anatomy]:
    """The native module, random from `seed`, and how it is read. Raises UnknownModelError."""
    known = torchvision.models.list_models(module=torchvision.models)
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3)
        raise UnknownModelError(
            f"torchvision has no model {name!r}. `zoo list --framework torch` shows all.", near
        )
    with seeded(seed, torch.device("cpu")):
        module = torchvision.models.get_model(name, weights=None, num_classes=classes)
    family = FAMILIES.get(type(module))
    if family is None:
        raise UnknownModelError(f"{name!r} is in torchvision, and the zoo cannot read its family yet")
    return module, family(module)


def _engine(
    module: nn.Module,
    anatomy: Anatomy,
    name: str,
    *,
    classes: int | None,
    preprocess: ImagePreprocess,
    labels: tuple[str, ...] | None = None,
    device: str | None = None,
) -> TorchEngine:
    """An engine around a native module; classes None: its head is taken off first."""
    if classes is None:
        module.set_submodule(anatomy.head or anatomy.native_head or "", nn.Identity())
    return TorchEngine(
        module,
        anatomy,
        preprocess=preprocess,
        native_classes=classes,
        labels=labels,
        architecture={"kind": "torchvision", "name": name},
        device=device,
    )


def load(request: LoadRequest) -> TorchEngine:
    """A torchvision classifier with the weights asked for. Raises as `Adapter.load` says."""
    if request.depth is not None:
        raise InputError(f"torch:{request.name} cannot be cut: depth= is for text encoders")
    _, anatomy = build(request.name, 1)
    tags = torchvision.models.get_model_weights(request.name)
    entry, tensors = _weights(request, tags)
    classes = len(tags.DEFAULT.meta["categories"]) if tensors is None else head_rows(tensors, anatomy)
    own_head = request.num_classes is None and classes is not None
    module, anatomy = build(request.name, classes or 1, seed=request.seed)
    if tensors is not None:
        fill(module, tensors, optional=None if own_head else anatomy.head or anatomy.native_head)
    labels = tuple(entry.meta["categories"])
    engine = _engine(
        module,
        anatomy,
        request.name,
        classes=classes if own_head else None,
        preprocess=preprocess_of(entry, request.size),
        labels=labels if own_head and tensors is not None and classes == len(labels) else None,
        device=request.device,
    )
    if request.num_classes is not None:
        engine.reset_head(request.num_classes, seed=request.seed)
    return engine


def rebuild(architecture: Mapping[str, Any], preprocess: ImagePreprocess) -> TorchEngine:
    """The network that `TorchEngine.architecture` described, its values still to be loaded."""
    name, classes, head = architecture["name"], architecture["classes"], architecture["head"]
    module, anatomy = build(name, classes or 1)
    native = classes if head == "native" else None
    engine = _engine(module, anatomy, name, classes=native, preprocess=preprocess)
    if head == "linear":
        engine.set_head(np.zeros((classes, engine.feature_dim), np.float32), np.zeros(classes, np.float32))
    return engine


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
    smallest = max(entry.meta.get("min_size", (32, 32)))
    if size is not None and size < smallest:
        raise InputError(f"size {size} is too small for this network: at least {smallest} pixels a side")
    return stated if size is None else stated.at_size(size)


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


def head_rows(tensors: Mapping[str, Tensor], anatomy: Anatomy) -> int | None:
    """How many classes the head in these tensors has; None where they hold no head."""
    head = f"{anatomy.head or anatomy.native_head}."
    rows = [len(v) for k, v in tensors.items() if k.startswith(head) and k.endswith("weight")]
    return rows[-1] if rows else None
