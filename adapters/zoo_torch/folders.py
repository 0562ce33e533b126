"""Reading a transformers folder (or hub id) safely: JSON and safetensors only, nothing that runs code.

A hub id becomes a folder first, by the hub's own download; from there on both are the same.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import safetensors
import torch
import transformers
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from transformers.utils import logging as transformers_logging

from zoo import weights as zoo_weights
from zoo.errors import InputError, UnsafeWeightsError, WeightsCorruptError
from zoo_torch.anatomy import seeded

CONFIG, SAFE, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json")
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


def snapshot(repo: str) -> Path:
    """The folder of a hub repository, downloaded where it is not in the hub's cache yet.

    Raises WeightsUnavailableError where it cannot be reached.
    """
    try:
        return Path(huggingface_hub.snapshot_download(repo, allow_patterns=list(WANTED)))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise zoo_weights.unavailable(repo, f"https://huggingface.co/{repo}", error) from error


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


def read_config(folder: Path) -> Any:
    """The transformers config of a folder. Raises InputError, WeightsCorruptError, UnsafeWeightsError."""
    values = read_json(folder / CONFIG)
    kind = values.get("model_type")
    if not values:
        raise InputError(
            f"{folder} holds no {CONFIG}: give a folder that transformers' save_pretrained wrote"
        )
    if "auto_map" in values:
        raise UnsafeWeightsError(
            f"{folder / CONFIG} asks for code of its own (auto_map): it was not run. "
            "Only architectures that transformers itself ships can be loaded."
        )
    if kind not in transformers.CONFIG_MAPPING:
        raise InputError(f"{folder / CONFIG} is of model_type {kind!r}, which transformers does not ship")
    return transformers.CONFIG_MAPPING[kind].from_dict(values)


def config_values(config: Any) -> dict[str, Any]:
    """A config as JSON reads it back: keys are strings (id2label's are numbers), so that it hashes the same."""
    values: dict[str, Any] = json.loads(config.to_json_string(use_diff=False))
    return values


def check_weights(folder: Path) -> None:
    """Raise unless the folder's weights are safetensors inside the folder."""
    if (folder / INDEX).is_file():
        files = set(read_json(folder / INDEX).get("weight_map", {}).values())
        if outside := [str(f) for f in files if Path(str(f)).name != f]:
            raise UnsafeWeightsError(f"{folder / INDEX} names files outside the folder: {outside[0]}")
    elif not (folder / SAFE).is_file():
        if pickles := [name for name in PICKLES if (folder / name).exists()]:
            raise UnsafeWeightsError(
                f"{folder} holds its weights as a pickle only ({pickles[0]}), whose loading could run code: "
                "it was not loaded. Where you trust its origin: "
                "AutoModel.from_pretrained(FOLDER).save_pretrained(NEW_FOLDER), and give the new folder."
            )
        raise InputError(f"{folder} holds no {SAFE}: give a folder with weights, or weights='none'")


def pretrained(kind: Any, folder: Path, config: Any, options: dict[str, Any]) -> Any:
    """A module of the class `kind`, float32, filled from the folder's safetensors, no network.

    Raises WeightsCorruptError where a weight is missing: transformers would make one up at random.
    """
    check_weights(folder)
    try:
        with quiet(), seeded(0, torch.device("cpu")):
            module, report = kind.from_pretrained(
                folder,
                config=config,
                local_files_only=True,
                use_safetensors=True,
                trust_remote_code=False,
                dtype=torch.float32,
                output_loading_info=True,
                **options,
            )
    except (safetensors.SafetensorError, OSError, ValueError, RuntimeError) as error:
        reason = (str(error).strip().splitlines() or [""])[0][:200]
        raise WeightsCorruptError(
            f"cannot read the weights in {folder}: {reason}. Get them again."
        ) from error
    missing = sorted(report["missing_keys"])
    if missing or report["mismatched_keys"]:
        raise WeightsCorruptError(
            f"the weights in {folder} belong to another network than its {CONFIG}: {len(missing)} missing "
            f"({', '.join(missing[:6])}), {len(report['mismatched_keys'])} of another shape."
        )
    return _in_own_memory(module)


def _in_own_memory(module: Any) -> Any:
    """Copy the weights out of the mapped file.

    There they lie at odd addresses, where convolutions round otherwise than in the saved and loaded model
    (1e-8 apart, measured); and a file that is replaced while mapped would change or end the process.
    """
    for tensor in module.state_dict(keep_vars=True).values():
        tensor.data = tensor.data.clone()
    return module


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Inside, transformers neither logs nor draws progress bars."""
    level, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity(transformers_logging.CRITICAL)
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)
        if bars:
            transformers_logging.enable_progress_bar()


# --- tokenizers
def tokenizer_text(folder: Path) -> str | None:
    """The folder's tokenizer.json, made from vocab.txt or merges.txt where only those are there, or None."""
    path = folder / "tokenizer.json"
    if path.is_file():
        return path.read_text(encoding="utf-8")
    if not any((folder / name).is_file() for name in ("vocab.txt", "merges.txt")):
        return None
    with quiet():
        made = transformers.AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    text: str = made.backend_tokenizer.to_str()
    return text


def max_length(folder: Path | None, config: Any) -> int:
    """The longest text in tokens: the folder's own statement, else what the positions allow, up to 512."""
    positions = int(getattr(config, "max_position_embeddings", 512))
    if config.model_type in OFFSET_POSITIONS:
        positions -= int(config.pad_token_id) + 1
    limit = min(512, positions)
    if folder is None:
        return limit
    stated = read_json(folder / "sentence_bert_config.json").get("max_seq_length")
    stated = stated or read_json(folder / "tokenizer_config.json").get("model_max_length")
    return min(limit, int(stated)) if stated else limit


# Their positions start after the pad token's id (Liu et al. 2019's code does so, and its followers).
OFFSET_POSITIONS = ("roberta", "xlm-roberta", "camembert", "mpnet", "longformer")
