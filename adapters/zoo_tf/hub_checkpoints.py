"""Weights in transformers' and timm's layout put into KerasHub models by KerasHub's own converters, checked.

KerasHub's reader of safetensors takes, for a key that is not there, any other whose name ends alike: a missing
`bn1.weight` is filled from `layer1.0.bn1.weight` in silence. The one here takes the key that was asked for,
below one prefix of the file's, or says which are missing.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors
from keras_hub.src.utils.timm.preset_loader import TimmPresetLoader
from keras_hub.src.utils.transformers.preset_loader import TransformersPresetLoader
from keras_hub.src.utils.transformers.safetensor_utils import SafetensorLoader

from zoo import model_folder
from zoo.errors import InputError, WeightsCorruptError

SHOWN = 8  # keys that a message names
OLD_NAMES = {"weight": "gamma", "bias": "beta"}  # of a layer norm, in files from TensorFlow's times
BASES = ("roberta", "bert", "deit", "vit", "distilbert")  # a backbone saved alone leaves its name out
MOST = 0.5  # share of missing keys above which a file belongs to another network
FAULTS = (safetensors.SafetensorError, KeyError, ValueError, OSError, IndexError, TypeError, AttributeError)


class StrictReader(SafetensorLoader):  # type: ignore[misc]
    """KerasHub's reader, without its guessing; keeps what was asked for and is not there."""

    def __init__(self, folder: Path, known: frozenset[str]) -> None:
        super().__init__(str(folder))
        self.known, self.missing, self.ported = known, [], 0

    def get_prefixed_key(self, hf_weight_key: str, dict_like: Any) -> str:
        """The key as the file spells it: itself, or with, or without, the one name of the whole network."""
        for key in _spellings(hf_weight_key):
            if key in self.known:
                return key
            if not self.prefix:
                heads = {known.partition(".")[0] + "." for known in self.known}
                self.prefix = next((h for h in sorted(heads) if h + key in self.known), None)
            if (full := (self.prefix or "") + key) in self.known:
                return full
        raise KeyError(hf_weight_key)

    def port_weight(
        self, keras_variable: Any, hf_weight_key: str, hook_fn: Callable[..., Any] | None = None
    ) -> None:
        """Put a tensor into a variable, or note that it is missing."""
        try:
            self.get_prefixed_key(hf_weight_key, self.known)
        except KeyError:
            self.missing.append(hf_weight_key)
            return
        tensor = self.get_tensor(hf_weight_key)
        tensor = hook_fn(tensor, list(keras_variable.shape)) if hook_fn else tensor
        # A single number is () in Keras and (1,) in torch.
        keras_variable.assign(tensor.reshape(keras_variable.shape) if tensor.size == 1 else tensor)
        self.ported += 1


def _spellings(key: str) -> Iterator[str]:
    """A key of KerasHub's converters, and how checkpoints spell it too."""
    yield key
    base, _, last = key.rpartition(".")
    yield f"{base}.{OLD_NAMES.get(last, last)}"
    if key.startswith("cls_classifier."):  # DeiT without a teacher has one classifier
        yield key.removeprefix("cls_")
    head, _, rest = key.partition(".")
    if head in BASES:
        yield rest


def preset_loader(folder: Path, config: Mapping[str, Any]) -> Any:
    """KerasHub's loader for a transformers or timm config. Raises InputError where it has no converter."""
    kind = TransformersPresetLoader if "model_type" in config else TimmPresetLoader
    try:
        return kind(str(folder), dict(config))
    except ValueError as error:
        raise InputError(f"{folder}: {error} Use {elsewhere(folder, config)}") from error


def elsewhere(folder: Path, config: Mapping[str, Any]) -> str:
    """How to load a transformers or timm folder in its own framework."""
    if "model_type" in config:
        return f"hf:{folder}"
    return f"torch:timm/{config['architecture']} --weights {folder / model_folder.SAFE}"


def keys_of(folder: Path) -> frozenset[str]:
    """All tensors' names in a folder of safetensors. Raises InputError, UnsafeWeightsError, WeightsCorruptError."""
    model_folder.check_weights(folder)
    index = model_folder.read_json(folder / model_folder.INDEX)
    if index:
        return frozenset(index.get("weight_map", {}))
    try:
        with safetensors.safe_open(str(folder / model_folder.SAFE), framework="np") as file:
            return frozenset(file.keys())
    except (safetensors.SafetensorError, OSError) as error:
        raise _corrupt(folder, error) from error


def fill(
    folder: Path, converters: Sequence[Callable[[StrictReader], None]], *, partial: bool, needless: str = ""
) -> None:
    """Run converters over a folder's weights. needless: keys that begin so may be missing.

    Raises WeightsCorruptError where keys are missing (partial=True warns and leaves those random), where shapes
    differ, or where most keys are another network's.
    """
    with StrictReader(folder, keys_of(folder)) as reader:
        for convert in converters:
            try:
                with contextlib.redirect_stdout(io.StringIO()):  # one of the converters prints each key
                    convert(reader)
            except FAULTS as error:
                raise _corrupt(folder, error) from error
    missing = [key for key in reader.missing if not needless or not key.startswith(needless)]
    if not missing:
        return
    named = ", ".join(missing[:SHOWN]) + (f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else "")
    if len(missing) > MOST * (reader.ported + len(missing)):
        raise WeightsCorruptError(f"the weights in {folder} are another network's: they lack {named}")
    if not partial:
        raise WeightsCorruptError(
            f"the weights in {folder} are not complete: {len(missing)} of {reader.ported + len(missing)} keys "
            f"are missing: {named}. Get them again, or leave those random: --partial (partial=True)."
        )
    warnings.warn(f"{folder} lacks {named}: these stay random", UserWarning, stacklevel=2)


def _corrupt(folder: Path, error: BaseException) -> WeightsCorruptError:
    reason = " ".join(str(error).split())[:200]
    return WeightsCorruptError(f"cannot read the weights in {folder}: {reason}. Get them again.")
