"""Reading a local model folder: what is in it, judged before anything loads it. JSON and safetensors only."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import BertWordPieceTokenizer

from zoo.errors import InputError
from zoo.model_folder import CONFIG, read_json

HF_ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
}


def details(folder: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """{"activation", "eps"} of a transformers checkpoint, which KerasHub's arguments cannot say.

    Raises InputError for an activation or a kind of positions that KerasHub's layers do not have.
    """
    stated = config.get("hidden_act", config.get("activation"))
    position = config.get("position_embedding_type", "absolute")
    if position != "absolute" or (stated is not None and stated not in HF_ACTIVATIONS):
        raise InputError(
            f"{folder} has hidden_act={stated!r}, position_embedding_type={position!r}: KerasHub has absolute "
            f"positions and one of {', '.join(HF_ACTIVATIONS)}. Use hf:{folder}"
        )
    eps = config.get("layer_norm_eps")
    return {"activation": stated and HF_ACTIVATIONS[stated], "eps": None if eps is None else float(eps)}


def labels(config: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Class names of the checkpoint's own head, or None: transformers' id2label, timm's label_names."""
    names = config.get("id2label") or config.get("label_names")
    if isinstance(names, dict):
        return tuple(str(names[key]) for key in sorted(names, key=int))
    return tuple(map(str, names)) if isinstance(names, list) else None


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
