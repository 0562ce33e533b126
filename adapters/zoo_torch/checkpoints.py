"""Reading weight files safely: tensors only, never code, and a clear word for each way a file can be wrong."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from zoo import reads
from zoo.errors import InputError, UnsafeWeightsError, WeightsCorruptError
from zoo_torch.engine import check_keys

# What training scripts wrap a state dict in, and what data-parallel training puts before each key.
WRAPPERS = ("state_dict", "model_state_dict", "model")
PARALLEL = "module."


def read_weights(path: Path) -> dict[str, Tensor]:
    """Tensors by name from a .safetensors or a torch file, on the CPU.

    Raises InputError (no such file), UnsafeWeightsError (a pickle that could run code: it is not run),
    WeightsCorruptError (truncated, or no weights).
    """
    reads.note(path)
    if not path.is_file():
        raise InputError(f"no weights file {path}: give a .safetensors or .pth file that exists")
    loaded = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    for key in WRAPPERS:
        if isinstance(inner := loaded.get(key), Mapping):
            loaded = dict(inner)
    tensors = {str(k).removeprefix(PARALLEL): v for k, v in loaded.items() if isinstance(v, Tensor)}
    if not tensors:
        raise WeightsCorruptError(f"{path} holds no tensors by name: it is no state dict")
    return tensors


def _read_safetensors(path: Path) -> dict[str, object]:
    try:
        return dict(safetensors.torch.load_file(path))
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise _corrupt(path, error) from error


def _read_torch(path: Path) -> dict[str, object]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch asks for a bug report on pickles of a newer protocol
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # torch's text advises to load without its guard, so it is not passed on.
        if "GLOBAL" in str(error) or _is_pickle(path):
            raise unsafe(path) from error
        raise _corrupt(path, "neither a torch file nor safetensors") from error
    except (RuntimeError, EOFError, OSError, ValueError, LookupError, UnicodeDecodeError) as error:
        raise _corrupt(path, error) from error
    if not isinstance(loaded, Mapping):
        raise WeightsCorruptError(f"{path} holds a {type(loaded).__name__}, not weights by name")
    return dict(loaded)


def _is_pickle(path: Path) -> bool:
    """Whether the file begins as a pickle of protocol 2 or newer does."""
    with path.open("rb") as file:
        start = file.read(2)
    return start[:1] == pickle.PROTO and start[1:] <= bytes([pickle.HIGHEST_PROTOCOL])


def unsafe(path: Path) -> UnsafeWeightsError:
    """The one wording for a pickle that holds more than tensors."""
    return UnsafeWeightsError(
        f"{path} is a pickle that holds more than tensors: loading it could run code, so it was not loaded. "
        "Where you trust its origin, load it yourself and save module.state_dict() as .safetensors "
        "(safetensors.torch.save_file), then give that file."
    )


def _corrupt(path: Path, error: BaseException | str) -> WeightsCorruptError:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
    return WeightsCorruptError(
        f"cannot read the weights {path} (truncated, or not a weights file): {reason}. Get the file again."
    )


def fill(
    module: nn.Module,
    tensors: Mapping[str, Tensor],
    *,
    optional: str | None = None,
    partial: bool = False,
) -> None:
    """Copy `tensors` into the module, cast to its own float32.

    optional: a prefix whose keys are passed over (a head that will be replaced).
    partial: keys that the file lacks stay as they are, with a UserWarning that names them.
    Raises WeightsCorruptError listing keys where they belong to another network, or, without `partial`, lack.
    """
    own = {k: v for k, v in module.state_dict().items() if not _under(k, optional)}
    given = {k: v for k, v in tensors.items() if not _under(k, optional)}
    for key in own.keys() - given.keys():
        if key.endswith("num_batches_tracked"):  # files from before torch 0.4.1 have no such counter
            given[key] = own[key]
    given = _taken(own, given, partial=partial)
    check_keys({k: tuple(v.shape) for k, v in own.items()}, {k: tuple(v.shape) for k, v in given.items()})
    with torch.no_grad():
        for key, value in own.items():
            value.copy_(given[key])


def _taken(own: Mapping[str, Tensor], given: Mapping[str, Tensor], *, partial: bool) -> dict[str, Tensor]:
    """What is copied: `given`, and of an incomplete file of this very network, if that will do, what it lacks."""
    missing = [key for key in own if key not in given]
    foreign = [key for key in given if key not in own]
    common = len(own) - len(missing)
    if not missing or common <= len(foreign) or not (partial or not foreign):
        return dict(given)
    if not partial:
        raise WeightsCorruptError(
            f"these weights are incomplete: {len(missing)} of {len(own)} keys are missing: {_some(missing)}. "
            "Get the whole file, or go on with --partial (partial=True): those stay random."
        )
    warnings.warn(
        f"the weights lack {len(missing)} of {len(own)} keys, which stay random: {_some(missing)}"
        + (f"; passed over, of no use here: {_some(foreign)}" if foreign else ""),
        stacklevel=2,
    )
    return {key: given.get(key, value) for key, value in own.items()}


def _some(keys: Sequence[str], most: int = 12) -> str:
    return ", ".join(keys[:most]) + (f" and {len(keys) - most} more" if len(keys) > most else "")


def _under(key: str, prefix: str | None) -> bool:
    return prefix is not None and (key == prefix or key.startswith(f"{prefix}."))
