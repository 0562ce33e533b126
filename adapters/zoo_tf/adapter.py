"""The TensorFlow adapter: from a name, a file or a folder to an engine."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from zoo.cards import ModelCard, Preprocess, WeightsCard
from zoo.engine import Adapter, LoadRequest
from zoo.errors import InputError, UnknownModelError
from zoo_tf import images, texts, wrapping
from zoo_tf.engine import KerasEngine
from zoo_tf.network import seeded
from zoo_tf.start import keras, tf
from zoo_tf.weight_files import imagenet_labels, load_into, official


class KerasAdapter(Adapter):
    """keras.applications by name, KerasHub text encoders by name or from a Hugging Face folder."""

    framework = "tf"

    def load(self, request: LoadRequest) -> KerasEngine:
        """Sources in this order: keras.applications, KerasHub, a local folder."""
        device = device_of(request.device)
        with tf.device(device), seeded(request.seed):
            if request.name in images.APPLICATIONS:
                engine = _load_image(request, device)
            elif request.name in texts.NAMES:
                engine = _load_text(request, device)
            elif (folder := Path(request.name).expanduser()).is_dir():
                engine = texts.load_folder(folder, request, device=device)
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
            elif kind == "keras_hub":
                engine = KerasEngine(texts.rebuild(architecture, preprocess), device=device)
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
    raise InputError(f"device {name!r}: TensorFlow has {', '.join(have)} here")


def catalogue() -> dict[str, ModelCard]:
    """This package's cards by name."""
    text = (Path(__file__).parent / "cards.json").read_text(encoding="utf-8")
    return {card.name: card for card in map(ModelCard.from_dict, json.loads(text))}


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
    if request.depth is not None:
        raise InputError(f"tf:{request.name} cannot be cut: depth is for text encoders")
    size = app.size if request.size is None else request.size
    downloaded, labelled = False, False
    if request.weights == "none":
        model = images.build(app, size=size)
    else:
        if looks_like_path(request.weights):
            path = Path(request.weights).expanduser()
        else:
            path, downloaded = official(weights_cards(request.name, request.weights))
        model, labelled = load_into(
            path, lambda classes: images.build(app, size=size, classes=classes), classes=images.CLASSES
        )
    engine = KerasEngine(images.network(request.name, app, model, size=size), device=device)
    if (head := images.split_head(model)[1]) is not None:
        engine.set_head(*head)
    if labelled and engine.num_classes == images.CLASSES and request.num_classes is None:
        engine.labels = imagenet_labels(may_download=downloaded)
    return engine


def _load_text(request: LoadRequest, device: str) -> KerasEngine:
    if request.weights == "none":
        return texts.random_encoder(request, device=device)
    if looks_like_path(request.weights):
        return texts.load_folder(Path(request.weights).expanduser(), request, device=device)
    return texts.load_official(request, weights_cards(request.name, request.weights), device=device)


def _rebuild_image(architecture: Mapping[str, Any], preprocess: Preprocess, device: str) -> KerasEngine:
    name, size = str(architecture.get("name")), int(architecture.get("size", 0))
    if name not in images.APPLICATIONS:
        raise _unknown(name)
    app = images.APPLICATIONS[name]
    found = images.network(name, app, images.build(app, size=size, classes=None), size=size)
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
