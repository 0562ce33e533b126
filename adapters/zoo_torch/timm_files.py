"""timm's weight files: where they are found, and how timm's own loader is given what was read from them.

Official names: the repository on the hub (`timm/<arch>.<tag>`, as a folder of the mirror, holding
model.safetensors), or the file of the release that timm names by URL (`resnet18-5c106cde.pth`).
"""

from __future__ import annotations

import contextlib
import logging
import re
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import huggingface_hub
import timm
import torch
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
)
from torch import Tensor, nn

from zoo import weights as zoo_weights
from zoo.engine import LoadRequest
from zoo.errors import WeightsCorruptError, WeightsUnavailableError
from zoo_torch import vision
from zoo_torch.anatomy import seeded
from zoo_torch.checkpoints import read_weights

HUB_FILES = ("model.safetensors", "pytorch_model.bin")
DIGITS = re.compile(r"-([0-9a-f]{8,64})\.\w+$")
LISTED = 6
# Classes of a head that is only there to be taken off: some networks go another way without one.
TAKEN_OFF = 2
# What timm's renaming of keys raises on tensors of another network, and torch on shapes that do not fit.
FOREIGN = (RuntimeError, KeyError, ValueError, IndexError, AttributeError, TypeError, AssertionError)


def is_path(text: str) -> bool:
    """Whether `weights` means a file; a tag of timm's holds neither a slash nor such an ending."""
    return vision.looks_like_path(text)


def official(arch: str, tag: str, config: Mapping[str, Any]) -> dict[str, Tensor]:
    """The published tensors of `arch.tag`: from the mirror, the hub's cache, or downloaded.

    Raises WeightsUnavailableError, WeightsCorruptError, UnsafeWeightsError.
    """
    hub, url = config.get("hf_hub_id"), config.get("url")
    if not hub and not url:
        raise WeightsUnavailableError(
            f"timm publishes no weights for {arch}: use weights='none' for random ones, or give a file"
        )
    for name in mirrored_names(arch, tag, config):
        if (path := zoo_weights.mirrored(name, sha256=digits(name))) is not None and path.is_file():
            return read_weights(path)
    return _from_hub(hub) if hub else read_weights(vision.official(url))


def mirrored_names(arch: str, tag: str, config: Mapping[str, Any]) -> list[str]:
    """Under which names a mirror may hold these weights, the best first."""
    names = [f"{config['hf_hub_id']}/{file}" for file in HUB_FILES] if config.get("hf_hub_id") else []
    names.append(f"{arch}.{tag}.safetensors")
    if url := config.get("url"):
        names.append(url.rpartition("/")[2])
    return names


def digits(name: str) -> str | None:
    """The first digits of the SHA-256 that an official name carries."""
    found = DIGITS.search(name)
    return found.group(1) if found else None


def _from_hub(repo: str) -> dict[str, Tensor]:
    """The weights of a hub repository, safetensors before torch's format."""
    problem: BaseException | None = None
    for file in HUB_FILES:
        try:
            return read_weights(Path(huggingface_hub.hf_hub_download(repo, file)))
        except EntryNotFoundError as error:  # of this name; the next may be there. Offline: not in the cache
            problem = problem or error
        except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
            raise _unreachable(repo, error) from error
    assert problem is not None
    raise _unreachable(repo, problem) from problem


def _unreachable(repo: str, error: BaseException) -> WeightsUnavailableError:
    return zoo_weights.unavailable(f"{repo}/{HUB_FILES[0]}", f"https://huggingface.co/{repo}", error)


# --- into the network
def fill(
    found: Any, options: Mapping[str, Any], request: LoadRequest, tensors: Mapping[str, Tensor] | None
) -> nn.Module:
    """The network of a `timm_models.Source`, random from the seed or with these tensors, by timm's loader.

    Raises WeightsCorruptError: tensors of another network, or (unless request.partial) missing ones.
    """
    if tensors is None:
        return _made(found, options, request.seed, None)
    try:
        return _made(found, options, request.seed, tensors)
    except FOREIGN as error:
        missing = _missing(error)
        if not missing:
            raise WeightsCorruptError(
                f"these weights belong to another network than {found.arch}: {_brief(error)}. Nothing was loaded."
            ) from error
        if not request.partial:
            raise WeightsCorruptError(
                f"these weights lack {_listed(missing)} of {found.arch}. Nothing was loaded. Get the file again, "
                "or go on with those at random: --partial (partial=True)."
            ) from error
    return _partly(found, options, request, tensors, missing)


def _partly(
    found: Any,
    options: Mapping[str, Any],
    request: LoadRequest,
    tensors: Mapping[str, Tensor],
    missing: list[str],
) -> nn.Module:
    """The network with what there is; the rest random from the seed, and named in a warning."""
    random = _made(found, options, request.seed, None).state_dict()
    if 2 * len(missing) > len(random):
        raise WeightsCorruptError(
            f"these weights lack {len(missing)} of the {len(random)} of {found.arch}: they belong to another network"
        )
    try:
        module = _made(found, options, request.seed, {**tensors, **{key: random[key] for key in missing}})
    except FOREIGN as error:
        raise WeightsCorruptError(
            f"these weights belong to another network than {found.arch}: {_brief(error)}. Nothing was loaded."
        ) from error
    warnings.warn(
        f"these weights lack some of {found.arch}'s, which stay random: {', '.join(missing)}",
        UserWarning,
        stacklevel=4,
    )
    return module


def _made(
    found: Any, options: Mapping[str, Any], seed: int, tensors: Mapping[str, Tensor] | None
) -> nn.Module:
    """timm's network. `state_dict` in its configuration is how timm's loader takes tensors that were read."""
    given = {} if tensors is None else {"state_dict": dict(tensors)}
    config = {**found.config, **given}
    with seeded(seed, torch.device("cpu")), quiet():
        module: Any = timm.create_model(
            found.arch,
            pretrained=tensors is not None,
            pretrained_cfg=config,
            num_classes=found.outputs or (0 if tensors is not None else TAKEN_OFF),
            **options,
        )
    module.pretrained_cfg.pop("state_dict", None)  # timm keeps a copy of it there
    return module.float()


def _missing(error: BaseException) -> list[str]:
    """The missing keys of torch's message, where missing ones are all that it complains of."""
    text = str(error)
    if "Unexpected key(s)" in text or "size mismatch" in text or "Missing key(s)" not in text:
        return []
    return re.findall(r'"([^"]+)"', text.partition("Missing key(s)")[2])


def _brief(error: BaseException) -> str:
    """Names and shapes out of torch's message of many lines; the first line of any other."""
    text = str(error)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    told = [line for line in lines if line.startswith(("Missing", "Unexpected", "size mismatch"))] or lines[
        :1
    ]
    return "; ".join(line[:160] for line in told[:3]) or type(error).__name__


def _listed(keys: list[str]) -> str:
    shown = ", ".join(keys[:LISTED]) + (", ..." if len(keys) > LISTED else "")
    return f"{len(keys)} keys ({shown})"


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Inside, timm does not log what it loads from where."""
    logger = logging.getLogger("timm")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)
