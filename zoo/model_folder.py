"""Judging a folder in transformers' layout before anything loads it: JSON and safetensors only, no code.

Several adapters read such folders; what is refused, and in which words, is decided here once.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from zoo import reads
from zoo.errors import InputError, UnsafeWeightsError, WeightsCorruptError

CONFIG, SAFE, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json")
# Tokenizers in another format, which transformers turns into a tokenizer.json.
SENTENCEPIECE = ("spiece.model", "sentencepiece.bpe.model", "tokenizer.model", "spm.model")
# What is taken from the hub: no pickle, no code, no other format's copy of the weights.
WANTED = (
    CONFIG,
    SAFE,
    INDEX,
    "model-*.safetensors",
    "preprocessor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "modules.json",
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


def read_config(folder: Path) -> dict[str, Any]:
    """config.json. Raises InputError where there is none, UnsafeWeightsError where it asks for code."""
    reads.note(folder)
    values = read_json(folder / CONFIG)
    if not values:
        raise InputError(
            f"{folder} holds no {CONFIG}: give a folder that transformers' save_pretrained wrote"
        )
    if "auto_map" in values:
        raise UnsafeWeightsError(
            f"{folder / CONFIG} asks for code of its own (auto_map): it was not run. "
            "Only architectures that transformers itself ships can be loaded."
        )
    return values


def check_weights(folder: Path) -> None:
    """Raise InputError or UnsafeWeightsError unless the weights are safetensors inside the folder."""
    if (folder / INDEX).is_file():
        files = {str(file) for file in read_json(folder / INDEX).get("weight_map", {}).values()}
        if outside := [file for file in files if Path(file).name != file]:
            raise UnsafeWeightsError(f"{folder / INDEX} names files outside the folder: {outside[0]}")
    elif not (folder / SAFE).is_file():
        if pickles := [name for name in PICKLES if (folder / name).exists()]:
            raise UnsafeWeightsError(
                f"{folder} holds its weights as a pickle only ({pickles[0]}), whose loading could run code: "
                "it was not loaded. Where you trust its origin: "
                "AutoModel.from_pretrained(FOLDER).save_pretrained(NEW_FOLDER), and give the new folder."
            )
        raise InputError(
            f"{folder} holds no {SAFE}: give a folder with weights, or leave them out: "
            "--weights none (weights='none')"
        )


def checked_tokenizer(folder: Path, text: str | None) -> str:
    """The tokenizer's text. Raises InputError where there is none: weights without it cannot be fed.

    A tokenizer trained on other texts would number other words, and the embeddings mean nothing then.
    """
    if text is not None:
        return text
    other = [name for name in SENTENCEPIECE if (folder / name).is_file()]
    cure = (
        f"AutoTokenizer.from_pretrained({str(folder)!r}).save_pretrained({str(folder)!r}) makes it of {other[0]}"
        if other
        else "it is published beside the weights"
    )
    raise InputError(
        f"{folder} holds weights but no tokenizer: which word has which number is not known, so texts would be "
        f"noise to them. Put its tokenizer.json there ({cure}), or leave the weights out: with --weights none "
        "(weights='none') training starts from nothing, with a WordPiece of your own texts."
    )


def stated_length(folder: Path) -> int | None:
    """The longest text in tokens that the folder itself states, or None."""
    stated = read_json(folder / "sentence_bert_config.json").get("max_seq_length")
    stated = stated or read_json(folder / "tokenizer_config.json").get("model_max_length")
    return int(stated) if stated else None
