"""Where a model's weights are, without loading them: on this machine, or how much would have to be fetched.

The places are those that the frameworks' own loaders look into, under their official names: an installed package,
$ZOO_MIRROR, torch's cache, Keras's, the Hugging Face hub's, Kaggle's. Nothing is opened and no framework imported;
a file that is there and damaged is found out when it is loaded.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from zoo import registry
from zoo.cards import ModelCard, ModelId, WeightsCard
from zoo.packaged import packaged
from zoo.weights import mirrored

HUB, KAGGLE = "https://huggingface.co/", "https://www.kaggle.com/models/"
SAFE, BIN = "model.safetensors", "pytorch_model.bin"
FLOAT32_BYTES = 4
OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE")


@dataclass(frozen=True)
class Whereabouts:
    """said: in words.  here: nothing has to be fetched.  download_mb: 10^6 bytes to fetch, None where nobody knows.

    estimated: download_mb is 4 bytes a parameter, no publisher states a size.  file: what is fetched, by its name.
    """

    said: str
    here: bool
    download_mb: float | None = 0.0
    estimated: bool = False
    file: str = ""


def whereabouts(model: ModelId) -> Whereabouts:
    """Of the weights that an id names."""
    if model.weights == "none":
        return Whereabouts("random weights", here=True)
    if registry.is_local(model.name) or registry.is_local(model.weights):
        return Whereabouts("local weights", here=True)
    if packaged(model.name) is not None:
        return Whereabouts("weights from an installed package", here=True)
    card = registry.card(model)
    if card is not None and not card.weights:
        return Whereabouts("no weights are published", here=False, file="none are published")
    found = _wanted(card, model)
    if not found[0].file and not found[0].url:
        return Whereabouts("weights that its adapter brings", here=True)
    for weights in found:
        for name in _mirror_names(model, weights):
            if mirrored(name) is not None:
                return Whereabouts(f"{name} from the mirror", here=True)
        for path in _cached(weights, model.framework):
            if path.exists():
                return Whereabouts(f"{weights.file} from a cache", here=True)
    return _to_fetch(model, card, found[0])


def _wanted(card: ModelCard | None, model: ModelId) -> list[WeightsCard]:
    """The sets of weights of which one is loaded: Keras's default takes the file without a top as well."""
    if card is not None and model.weights == "default" and card.source.startswith("keras.applications"):
        return list(card.weights)
    stated = registry.weights_card(model)
    if stated is not None:
        return [stated]
    if card is not None:  # a tag that there is not: it is said when it is loaded
        return [WeightsCard(file=str(model))]
    return [WeightsCard(file=model.name, url=f"{HUB}{model.name}")]


def _to_fetch(model: ModelId, card: ModelCard | None, weights: WeightsCard) -> Whereabouts:
    size, estimated = None, False
    if weights.bytes:
        size = weights.bytes / 1e6
    elif card is not None and card.params:
        size, estimated = FLOAT32_BYTES * card.params / 1e6, True
    file = weights.file or model.name
    return Whereabouts(f"to download: {file}", here=False, download_mb=size, estimated=estimated, file=file)


# --- the places
def _mirror_names(model: ModelId, weights: WeightsCard) -> Iterator[str]:
    """Under which names a mirror may hold them."""
    if weights.file:
        yield weights.file
    repo = _repo(weights)
    if repo and not (weights.file or "").endswith(
        (SAFE, BIN)
    ):  # a folder of that name, in transformers' layout
        yield repo
        yield repo.rpartition("/")[2]
    elif repo:
        yield f"{repo}/{BIN}"
        yield f"{repo.rpartition('/')[2]}.safetensors"
    if (weights.url or "").startswith(KAGGLE):
        yield model.name


def _cached(weights: WeightsCard, framework: str) -> Iterator[Path]:
    """Where a framework's loader would have left them."""
    if repo := _repo(weights):
        snapshots = _hub_cache() / f"models--{repo.replace('/', '--')}" / "snapshots"
        yield from (
            path for name in (SAFE, f"{SAFE}.index.json", BIN) for path in snapshots.glob(f"*/{name}")
        )
    elif (url := weights.url or "").startswith(KAGGLE):
        yield _kaggle_cache() / "models" / url.removeprefix(KAGGLE) / "model.weights.h5"
    elif weights.file and framework == "tf":
        yield _home("KERAS_HOME", Path.home() / ".keras") / "models" / weights.file
    elif weights.file:
        yield _home("TORCH_HOME", _user_cache() / "torch") / "hub" / "checkpoints" / weights.file


def _repo(weights: WeightsCard) -> str:
    """The hub's repository that holds them, or ""."""
    url = weights.url or ""
    return "/".join(url.removeprefix(HUB).split("/")[:2]) if url.startswith(HUB) else ""


def _home(variable: str, otherwise: Path) -> Path:
    return Path(os.environ.get(variable) or otherwise)


def _user_cache() -> Path:
    return _home("XDG_CACHE_HOME", Path.home() / ".cache")


def _hub_cache() -> Path:
    return _home("HF_HUB_CACHE", _home("HF_HOME", _user_cache() / "huggingface") / "hub")


def _kaggle_cache() -> Path:
    return _home("KAGGLEHUB_CACHE", Path.home() / ".cache" / "kagglehub")


@contextlib.contextmanager
def networked(allowed: bool) -> Iterator[None]:
    """Where it is not allowed, tell the processes that are started inside to ask no hub; then as it was before."""
    before = {name: os.environ.get(name) for name in OFFLINE}
    if not allowed:
        os.environ.update(dict.fromkeys(OFFLINE, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
