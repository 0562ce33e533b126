"""Reading a transformers folder (or hub id) safely: JSON and safetensors only, nothing that runs code.

A hub id becomes a folder first, by the hub's own download; from there on both are the same.
"""

from __future__ import annotations

import contextlib
import json
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import huggingface_hub
import safetensors
import torch
import transformers
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from transformers.utils import logging as transformers_logging

from zoo import model_folder
from zoo import weights as zoo_weights
from zoo.errors import InputError, WeightsCorruptError
from zoo.model_folder import CONFIG, WANTED, check_weights, stated_length
from zoo_torch.anatomy import seeded


def snapshot(repo: str, *, configured: bool = False) -> Path:
    """The folder of a hub repository, downloaded where it is not in the hub's cache yet.

    configured: what the network is comes from there too. Raises WeightsUnavailableError where it cannot be reached.
    """
    try:
        return Path(huggingface_hub.snapshot_download(repo, allow_patterns=list(WANTED)))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise zoo_weights.unavailable(
            repo, f"https://huggingface.co/{repo}", error, configured=configured
        ) from error


def read_config(folder: Path) -> Any:
    """The transformers config of a folder. Raises InputError, WeightsCorruptError, UnsafeWeightsError."""
    values = model_folder.read_config(folder)
    kind = values.get("model_type")
    if kind not in transformers.CONFIG_MAPPING:
        raise InputError(f"{folder / CONFIG} is of model_type {kind!r}, which transformers does not ship")
    return transformers.CONFIG_MAPPING[kind].from_dict(values)


def config_values(config: Any) -> dict[str, Any]:
    """A config as JSON reads it back: keys are strings (id2label's are numbers), so that it hashes the same."""
    values: dict[str, Any] = json.loads(config.to_json_string(use_diff=False))
    return values


def pretrained(
    kind: Any,
    folder: Path,
    config: Any,
    options: dict[str, Any],
    *,
    seed: int = 0,
    partial: bool = False,
    optional: Sequence[str] = (),
) -> Any:
    """A module of the class `kind`, float32, filled from the folder's safetensors, no network.

    optional: names of parts that may be missing (a head that will be replaced).  partial: weights that are
    missing stay random, drawn from `seed`, and a warning names them.
    Raises WeightsCorruptError where a weight is missing: transformers would make one up at random.
    """
    check_weights(folder)
    try:
        with quiet(), seeded(seed, torch.device("cpu")):
            module, report = kind.from_pretrained(
                folder,
                config=config,
                local_files_only=True,
                use_safetensors=True,
                trust_remote_code=False,
                dtype=torch.float32,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # into the report, which is judged below
                **options,
            )
    except (safetensors.SafetensorError, OSError, ValueError, RuntimeError) as error:
        reason = (str(error).strip().splitlines() or [""])[0][:200]
        raise WeightsCorruptError(
            f"cannot read the weights in {folder}: {reason}. Get them again."
        ) from error
    missing = sorted(key for key in report["missing_keys"] if key.partition(".")[0] not in optional)
    total = len(module.state_dict())
    _judge(folder, missing, sorted(str(m[0]) for m in report["mismatched_keys"]), total, partial)
    return _in_own_memory(module)


def _judge(folder: Path, missing: list[str], misshapen: list[str], total: int, partial: bool) -> None:
    """Raise WeightsCorruptError, or warn where that was asked for, unless every weight was there."""
    if not missing and not misshapen:
        return
    if misshapen or 2 * len(missing) > total:
        raise WeightsCorruptError(
            f"the weights in {folder} belong to another network than its {CONFIG}: "
            f"{_counted(missing, 'missing')}, {_counted(misshapen, 'of another shape')}. "
            "Give a folder whose files belong together."
        )
    if not partial:
        raise WeightsCorruptError(
            f"the weights in {folder} lack some of its network's: {_counted(missing, 'missing')}. "
            "Get the folder again, or go on with those at random: --partial (partial=True)."
        )
    warnings.warn(
        f"{folder} lacks weights, which stay random: {', '.join(missing)}", UserWarning, stacklevel=2
    )


def _counted(keys: list[str], what: str) -> str:
    """ "7 missing (the first three, ...)", or "0 missing"."""
    names = ", ".join([*keys[:3], *(["..."] if len(keys) > 3 else [])])
    return f"{len(keys)} {what}" + (f" ({names})" if keys else "")


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
    positions = getattr(config, "max_position_embeddings", None) or LONGEST
    positions = LONGEST if positions < 0 else int(positions)  # relative ones have no end (XLNet says -1)
    if config.model_type in OFFSET_POSITIONS:
        positions -= int(config.pad_token_id) + 1
    limit = min(LONGEST, positions)
    if folder is None:
        return limit
    stated = stated_length(folder)
    return min(limit, stated) if stated else limit


LONGEST = 512
# Their positions start after the pad token's id (Liu et al. 2019's code does so, and its followers).
OFFSET_POSITIONS = (
    "roberta",
    "xlm-roberta",
    "camembert",
    "mpnet",
    "longformer",
    "roberta-prelayernorm",
    "xlm-roberta-xl",
    "xmod",
    "ibert",
    "lilt",
    "luke",
    "markuplm",
    "data2vec-text",
    "esm",
    "layoutlmv3",
)
