"""KerasHub by name: its own presets (`kerashub/<preset>`), and repositories of the Hugging Face hub (`org/name`)."""

from __future__ import annotations

import difflib
from pathlib import Path

import huggingface_hub
import keras_hub
from keras_hub.src.utils import preset_utils

from zoo.cards import WeightsCard
from zoo.engine import LoadRequest
from zoo.errors import UnknownModelError, ZooError
from zoo.weights import mirrored, unavailable
from zoo_tf import hub_folders
from zoo_tf.engine import KerasEngine
from zoo_tf.hub_families import families
from zoo_tf.start import captured_stderr

PREFIX = "kerashub/"
KAGGLE, HUB = "https://www.kaggle.com/models/", "https://huggingface.co/"
# The files of a preset, in KerasHub's order of need; the second half may be absent.
NEEDED = ("config.json", "model.weights.h5")
MAYBE = (
    "metadata.json",
    "task.json",
    "task.weights.h5",
    "preprocessor.json",
    "image_converter.json",
    "tokenizer.json",
)


def presets() -> dict[str, str]:
    """Preset -> its handle at Kaggle, of every family with a classifier."""
    return {
        name: str(entry["kaggle_handle"])
        for family in families().values()
        for name, entry in family.classifier.presets.items()
        if "kaggle_handle" in entry
    }


def owns(name: str) -> bool:
    """Whether a name is KerasHub's to load: `kerashub/<preset>` or `org/name`, and no path."""
    return name.count("/") == 1 and not name.startswith((".", "/", "~"))


def load(request: LoadRequest, *, device: str) -> KerasEngine:
    """`kerashub/<preset>` or `org/name`, from the mirror or the hub.

    Raises UnknownModelError, WeightsUnavailableError, and what `hub_folders.load` raises.
    """
    if request.weights not in ("default", "none") and Path(request.weights).expanduser().is_dir():
        return hub_folders.load(Path(request.weights).expanduser(), request, device=device)
    if not request.name.startswith(PREFIX):
        return _hub(request.name, request, device)
    preset, known = request.name.removeprefix(PREFIX), presets()
    if preset not in known:
        near = difflib.get_close_matches(preset, known, n=3, cutoff=0.5)
        guess = f" Did you mean {', '.join(PREFIX + name for name in near)}?" if near else ""
        raise UnknownModelError(f"KerasHub has no classifier preset {preset!r}.{guess}", near)
    if request.weights not in ("default", "none", preset):
        raise UnknownModelError(
            f"{request.name} has no weights {request.weights!r}: there are default ({preset}) and none, or the "
            "path of a folder",
            [preset],
        )
    return _preset(preset, known[preset], request, device)


def load_card(card: WeightsCard, request: LoadRequest, *, device: str) -> KerasEngine:
    """Official weights of one of the zoo's own names: a repository of the hub, or a preset."""
    if card.url and card.url.startswith(HUB):
        return _hub(card.url.removeprefix(HUB), request, device)
    preset = card.file or request.name
    return _preset(preset, presets()[preset], request, device)


def _preset(preset: str, handle: str, request: LoadRequest, device: str) -> KerasEngine:
    folder = mirrored(preset) or mirrored(PREFIX + preset)
    if folder is None:
        try:
            with captured_stderr():
                folder = _download(preset, weights=request.weights != "none")
        except Exception as error:  # kagglehub raises its own kinds, requests' and ValueError
            url = KAGGLE + handle.removeprefix("kaggle://")
            raise unavailable(preset, url, error, configured=True) from error
    return hub_folders.load(folder, request, device=device)


def _download(preset: str, *, weights: bool) -> Path:
    """KerasHub's own loader of files, each at a time; they come to lie in one folder."""
    files = [name for name in (*NEEDED, *MAYBE) if weights or not name.endswith(".h5")]
    for name in files:
        if name in NEEDED:
            path = Path(preset_utils.get_file(preset, name))
        else:
            preset_utils.check_file_exists(preset, name)
    if preset_utils.check_file_exists(preset, "tokenizer.json"):
        keras_hub.tokenizers.Tokenizer.from_preset(preset)  # which gets the vocabulary's files
    return path.parent


def _hub(name: str, request: LoadRequest, device: str) -> KerasEngine:
    """A repository by `org/name`: safetensors of transformers or timm, or a preset of KerasHub's."""
    folder = mirrored(name) or mirrored(name.rpartition("/")[2])
    if folder is None or not folder.is_dir():
        try:
            with captured_stderr():
                place = huggingface_hub.snapshot_download(name, allow_patterns=list(hub_folders.WANTED))
        except ZooError:
            raise
        except Exception as error:  # the hub's client raises its own kinds
            raise unavailable(name, HUB + name, error, configured=True) from error
        folder = Path(place)
    return hub_folders.load(folder, request, device=device)
