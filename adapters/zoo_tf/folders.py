"""Reading a local model folder: what is in it, judged before anything loads it. JSON and safetensors only."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tokenizers import BertWordPieceTokenizer

from zoo import model_folder
from zoo.errors import InputError
from zoo.model_folder import CONFIG, read_json


def read_config(folder: Path, *, families: Sequence[str]) -> dict[str, Any]:
    """config.json of a text encoder that KerasHub can read. Raises InputError, UnsafeWeightsError."""
    config = model_folder.read_config(folder)
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
