"""The TensorFlow adapter: from a name, a file or a folder to an engine."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from zoo import reads
from zoo.cards import ModelCard, Preprocess, WeightsCard, read_cards
from zoo.engine import Adapter, LoadRequest
from zoo.errors import InputError, UnknownModelError
from zoo_tf import hub_folders, hub_models, hub_names, images, texts, wrapping
from zoo_tf.engine import KerasEngine
from zoo_tf.network import seeded
from zoo_tf.start import keras, tf
from zoo_tf.weight_files import imagenet_labels, keras_cache, load_into, official


class KerasAdapter(Adapter):
    """keras.applications by name; KerasHub by name, from its presets, and from Hugging Face and timm folders."""

    framework = "tf"
    notes_reads = True

    def load(self, request: LoadRequest) -> KerasEngine:
        """Sources in this order: keras.applications, KerasHub, a local folder, a hub id (KerasHub reads both)."""
        device = device_of(request.device)
        reads.note(keras_cache().parent / "keras.json")  # Keras's own settings: layout, epsilon
        with tf.device(device), seeded(request.seed):
            if request.name in images.APPLICATIONS:
                engine = _load_image(request, device)
            elif request.name in texts.NAMES:
                engine = _load_text(request, device)
            elif (folder := Path(request.name).expanduser()).is_dir():
                engine = hub_folders.load(folder, request, device=device)
            elif hub_names.owns(request.name):
                engine = hub_names.load(request, device=device)
            else:
                raise _unknown(request.name)
        if request.num_classes is not None:
            engine.reset_head(request.num_classes, seed=request.seed)
        return engine

    def rebuild(self, architecture: Mapping[str, Any], preprocess: Preprocess) -> KerasEngine:
        """The same network; its values are set by `load_state`. Raises InputError."""
        kind, device = architecture.get("kind"), device_of(None)
        with tf.device(device), seeded(0):
            if kind == "application":
                engine = _rebuild_image(architecture, preprocess, device)
            elif kind == hub_models.KIND:
                engine = KerasEngine(hub_models.rebuild(architecture, preprocess), device=device)
            elif kind == "wrapped":
                engine = KerasEngine(wrapping.rebuild(architecture, preprocess), device=device)
            else:
                raise InputError(f"not an architecture of the tf adapter: its kind is {kind!r}")
        if (classes := architecture.get("num_classes")) is not None:
            engine.reset_head(int(classes), seed=0)
        return engine

    def owns(self, module: object) -> bool:
        """Any keras.Model."""
        return isinstance(module, keras.Model)

    def wrap(
        self, module: Any, *, preprocess: Preprocess, head: str, blocks: Mapping[str, Sequence[str]] | None
    ) -> KerasEngine:
        """Somebody's functional or sequential model; head: the name of its last Dense."""
        device = device_of(None)
        with tf.device(device), seeded(0):  # whether it can be rebuilt is tried, which draws seeds
            network, values = wrapping.network(module, preprocess=preprocess, head=head, blocks=blocks)
            engine = KerasEngine(network, device=device)
        engine.set_head(*values)
        return engine

    def versions(self) -> dict[str, str]:
        """What shapes the results."""
        names = ("tensorflow", "keras", "keras-hub", "tf2onnx", "numpy")
        return {name: metadata.version(name) for name in names}


def device_of(name: str | None) -> str:
    """TensorFlow's name of a device. Raises InputError for one that is not there."""
    wanted = (name or "cpu").lower()
    if wanted == "cpu":
        return "/CPU:0"
    if wanted in ("cuda", "gpu", "cuda:0", "gpu:0") and tf.config.list_physical_devices("GPU"):
        return "/GPU:0"
    have = ["cpu", *("cuda" for _ in tf.config.list_physical_devices("GPU")[:1])]
    raise InputError(
        f"device {name!r}: TensorFlow has {', '.join(have)} here. Leave the device out to compute on the CPU."
    )


def catalogue() -> dict[str, ModelCard]:
    """This package's cards by name."""
    files = sorted((Path(__file__).parent / "cards").glob("*.json"))
    return {card.name: card for path in files for card in read_cards(path.read_text(encoding="utf-8"))}


def weights_cards(name: str, tag: str) -> list[WeightsCard]:
    """The published weights a tag stands for; "default": with the top, else without. UnknownModelError."""
    known = catalogue()[name].weights
    if tag == "default":
        return list(known)
    if found := [card for card in known if card.tag == tag]:
        return found
    tags = ["default", "none", *(card.tag for card in known if card.tag != "default")]
    raise UnknownModelError(
        f"tf:{name} has no weights {tag!r}: there are {', '.join(tags)}, or give the path of a file",
        difflib.get_close_matches(tag, tags, n=3, cutoff=0.5),
    )


def looks_like_path(text: str) -> bool:
    """Whether weights=... is meant as a file or folder."""
    return "/" in text or Path(text).suffix in (".h5", ".hdf5", ".keras") or Path(text).exists()


def _load_image(request: LoadRequest, device: str) -> KerasEngine:
    app = images.APPLICATIONS[request.name]
    size = app.size if request.size is None else request.size
    model, labels = _native_image(app, request, size)
    found = images.network(request.name, app, model, size=size, depth=request.depth)
    engine = KerasEngine(found, device=device)
    whole = found.architecture is not None and found.architecture["depth"] is None
    if whole and (head := images.split_head(model)[1]) is not None:
        engine.set_head(*head)
        engine.labels = labels if request.num_classes is None else None
    return engine


def _native_image(
    app: images.Application, request: LoadRequest, size: int
) -> tuple[keras.Model, tuple[str, ...] | None]:
    """Keras's own model with the weights that were asked for, and the names of its classes."""
    if request.weights == "none":
        return images.build(app, size=size), None
    official_file = not looks_like_path(request.weights)
    if official_file:
        path, downloaded = official(weights_cards(request.name, request.weights))
    else:
        path, downloaded = Path(request.weights).expanduser(), False

    def build(classes: int | None) -> keras.Model:
        if app.flat and classes is not None and size != app.size:
            raise InputError(
                f"size={size}: with its fully connected layers this network takes {app.size} pixels a side "
                "alone, since their weights belong to a map of one size. The weights without its top "
                f"(@imagenet_no_top) take any size from {app.smallest} up"
            )
        return images.build(app, size=size, classes=classes)

    model, top = load_into(path, build, classes=images.CLASSES, partial=request.partial)
    images.settle_scaling(app, model, official=official_file)
    thousand = top and model.outputs[0].shape[-1] == images.CLASSES
    return model, imagenet_labels(may_download=downloaded) if thousand else None


def _load_text(request: LoadRequest, device: str) -> KerasEngine:
    local = request.weights == "none" or looks_like_path(request.weights)
    cards = [] if local else weights_cards(request.name, request.weights)
    return texts.load(request, cards, device=device)


def _rebuild_image(architecture: Mapping[str, Any], preprocess: Preprocess, device: str) -> KerasEngine:
    name, size = str(architecture.get("name")), int(architecture.get("size", 0))
    if name not in images.APPLICATIONS:
        raise _unknown(name)
    app = images.APPLICATIONS[name]
    model = images.build(app, size=size, classes=1 if architecture.get("top") else None)
    found = images.network(name, app, model, size=size, depth=architecture.get("depth"))
    engine = KerasEngine(found, device=device)
    engine.preprocess = preprocess
    return engine


def _unknown(name: str) -> UnknownModelError:
    if name.startswith(("/", "./", "../", "~")):
        return UnknownModelError(f"no folder {name}: give a folder with config.json and model.safetensors")
    known = sorted([*images.APPLICATIONS, *texts.NAMES])
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    guess = f" Did you mean {', '.join(near)}?" if near else ""
    return UnknownModelError(f"no model {name!r} in tf.{guess} `zoo list --framework tf` shows all.", near)


ADAPTER = KerasAdapter()
