"""Named arrays in a file whose SHA-256 is known: what checkpoints and saved runs are made of. No pickle."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from zoo.engine import HEAD, Array, Engine
from zoo.errors import ModelFileError, WeightsCorruptError
from zoo.files import sha256_file


def write_tensors(path: Path, tensors: Mapping[str, Array]) -> str:
    """Write a safetensors file and return its SHA-256.

    Python writes the bytes: a full disk is then an OSError, where a memory map would be a fatal signal.
    """
    data = save({name: np.asarray(value, order="C") for name, value in tensors.items()})
    path.write_bytes(data)
    return hashlib.sha256(data).hexdigest()


def read_tensors(path: Path, sha256: str) -> dict[str, Array]:
    """Read what `write_tensors` wrote. Raises ModelFileError (absent), WeightsCorruptError (other bytes)."""
    if not path.is_file():
        raise ModelFileError(f"{path} is missing: the folder is incomplete; copy or save it again")
    if (found := sha256_file(path)) != sha256:
        raise WeightsCorruptError(
            f"{path} is truncated or was changed: its SHA-256 is {found[:12]}..., it was written with "
            f"{sha256[:12]}.... It was not loaded; copy or save it again."
        )
    try:
        return dict(load_file(path))
    except SafetensorError as error:
        raise WeightsCorruptError(f"{path} is no safetensors file: {error}") from error


def weights_hash(engine: Engine, *, backbone_only: bool) -> str:
    """SHA-256 over names, types, shapes and bytes of the state; `backbone_only` leaves the head out."""
    digest, block_of = hashlib.sha256(), engine.block_of()
    for name, value in sorted(engine.state().items()):
        if backbone_only and block_of[name] == HEAD:
            continue
        digest.update(f"{name} {value.dtype.str} {value.shape}\n".encode())
        digest.update(np.ascontiguousarray(value).data)
    return digest.hexdigest()
