"""Reading a local model folder: what is in it, judged before anything loads it. JSON and safetensors only."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tokenizers import BertWordPieceTokenizer

from zoo.errors import InputError, UnsafeWeightsError, WeightsCorruptError

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json")
# What is taken from the Hub: neither pickle nor code.
WANTED = (
    CONFIG,
    WEIGHTS,
    INDEX,
    "model-*.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
    "sentence_bert_config.json",
    "1_Pooling/config.json",
)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object, {} where there is no such file. Raises WeightsCorruptError where it is not one."""
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise WeightsCorruptError(f"cannot read {path}: {error}. Get the file again.") from error
    if not isinstance(value, dict):
        raise WeightsCorruptError(f"{path} holds no JSON object. Get the file again.")
    return value


def read_config(folder: Path, *, families: Sequence[str]) -> dict[str, Any]:
    """config.json of a text encoder that KerasHub can read. Raises InputError, UnsafeWeightsError."""
    config = read_json(folder / CONFIG)
    if not config:
        raise InputError(f"{folder} holds no {CONFIG}: give a folder with {CONFIG} and {WEIGHTS}")
    if "auto_map" in config:
        raise UnsafeWeightsError(
            f"{folder / CONFIG} asks for code of its own (auto_map): it was not run, nothing was loaded."
        )
    if config.get("registered_name") == "keras_hub>BertBackbone" or config.get("model_type") in families:
        return config
    found = config.get("model_type") or config.get("registered_name") or config.get("architecture")
    what = "images, not text" if _reads_images(folder, config) else "no encoder this adapter reads"
    raise InputError(
        f"{folder} is a {found!r} folder ({what}): tf reads folders of {', '.join(families)}. "
        f"For another one use hf:{folder}"
    )


def _reads_images(folder: Path, config: dict[str, Any]) -> bool:
    """Whether a transformers folder is of an image model."""
    kinds = " ".join(map(str, config.get("architectures") or []))
    return "Image" in kinds or "image_size" in config or (folder / "preprocessor_config.json").exists()


def check_weights(folder: Path) -> None:
    """Raise unless the weights are safetensors inside the folder."""
    if (folder / INDEX).is_file():
        files = {str(file) for file in read_json(folder / INDEX).get("weight_map", {}).values()}
        if outside := [file for file in files if Path(file).name != file]:
            raise UnsafeWeightsError(f"{folder / INDEX} names files outside the folder: {outside[0]}")
    elif not (folder / WEIGHTS).is_file():
        if pickles := [name for name in PICKLES if (folder / name).exists()]:
            raise UnsafeWeightsError(
                f"{folder} holds its weights as a pickle only ({pickles[0]}), whose loading could run code: "
                "it was not loaded. Convert it to safetensors where you trust its origin."
            )
        raise InputError(f"{folder} holds no {WEIGHTS}: give a folder with weights, or weights='none'")


def pooling(folder: Path) -> str:
    """ "mean", "cls" or "max": the folder's 1_Pooling (sentence-transformers), else the masked mean."""
    config = read_json(folder / "1_Pooling" / CONFIG)
    modes = {key.removeprefix("pooling_mode_") for key, on in config.items() if on is True}
    modes &= {
        "cls_token",
        "mean_tokens",
        "max_tokens",
        "mean_sqrt_len_tokens",
        "weightedmean_tokens",
        "lasttoken",
    }
    known = {"mean_tokens": "mean", "cls_token": "cls", "max_tokens": "max"}
    if not modes:
        return "mean"
    if len(modes) > 1 or not modes <= known.keys():
        raise InputError(f"{folder} pools by {', '.join(sorted(modes))}: one of mean, cls, max can be read")
    return known[modes.pop()]


def tokenizer_text(folder: Path) -> str | None:
    """The folder's tokenizer.json, made from vocab.txt where only that is there, or None."""
    path, vocabulary = folder / "tokenizer.json", folder / "vocab.txt"
    if path.is_file():
        return path.read_text(encoding="utf-8")
    if not vocabulary.is_file():
        return None
    lower = bool(read_json(folder / "tokenizer_config.json").get("do_lower_case", True))
    text: str = BertWordPieceTokenizer(str(vocabulary), lowercase=lower).to_str()
    return text


def stated_length(folder: Path) -> int | None:
    """The longest text in tokens that the folder itself states, or None."""
    stated = read_json(folder / "sentence_bert_config.json").get("max_seq_length")
    stated = stated or read_json(folder / "tokenizer_config.json").get("model_max_length")
    return int(stated) if stated else None
