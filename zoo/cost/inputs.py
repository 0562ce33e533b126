"""What a graph is fed when it is measured or counted: shapes made concrete, arrays drawn from them.

Shared by the meter's child process (which may import nothing but onnxruntime and numpy) and the MAC counter,
so that a figure and the MACs beside it are of the same input.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zoo.errors import ModelFileError

DEFAULT_SIZE = 224
METADATA_KEY = "zoo.preprocess"
_DTYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(int64)": "int64",
    "tensor(int32)": "int32",
    "tensor(int8)": "int8",
    "tensor(uint8)": "uint8",
    "tensor(bool)": "bool",
}


@dataclass(frozen=True)
class InputSpec:
    """One input of a graph. type: as ONNX Runtime writes it ("tensor(float)"); dims: None where dynamic."""

    name: str
    type: str
    dims: tuple[int | None, ...]


@dataclass(frozen=True)
class Feed:
    """Concrete shapes for a graph's inputs; sequence_length: tokens in it, None where it takes no sequence."""

    shapes: Mapping[str, tuple[int, ...]]
    sequence_length: int | None


def concrete_feed(
    specs: Sequence[InputSpec],
    preprocess_json: str | None,
    *,
    batch_size: int,
    sequence_length: int,
    size: int | None = None,
) -> Feed:
    """Set the batch, the length and the size where they are dynamic.

    preprocess_json: the file's metadata under METADATA_KEY, if any: gives an image's size and a text's
    longest length.  Raises ModelFileError where the graph fixes another batch (or another size).
    """
    known = _read_preprocess(preprocess_json)
    length = min(sequence_length, int(known.get("max_length", sequence_length)))
    height = size or int(known.get("height", DEFAULT_SIZE))
    width = size or int(known.get("width", DEFAULT_SIZE))
    shapes, lengths = {}, set()
    for spec in specs:
        wanted: tuple[int, ...]
        if len(spec.dims) == 4:
            wanted = _image(spec.dims, height, width)
            _check_size(spec, wanted, size)
        else:
            wanted = (length,) * len(spec.dims)
        dims = [w if d is None else d for d, w in zip(spec.dims, wanted, strict=True)]
        if dims:
            dims[0] = _batch(spec, batch_size)
        if _is_sequence(spec):
            lengths.add(dims[1])
        shapes[spec.name] = tuple(dims)
    return Feed(shapes, max(lengths) if lengths else None)


def draw(specs: Sequence[InputSpec], feed: Feed, *, seed: int = 0) -> dict[str, npt.NDArray[np.generic]]:
    """Arrays of those shapes: masks are ones, segments zeros, positions count up, ids are small tokens."""
    rng = np.random.default_rng(seed)
    return {spec.name: _array(spec, feed.shapes[spec.name], rng) for spec in specs}


def _array(spec: InputSpec, shape: tuple[int, ...], rng: np.random.Generator) -> npt.NDArray[np.generic]:
    if spec.type not in _DTYPES:
        raise ModelFileError(
            f"the input {spec.name!r} is a {spec.type}: only tensors of numbers can be made up for a "
            "measurement. Export the model with numeric inputs."
        )
    dtype = np.dtype(_DTYPES[spec.type])
    if dtype.kind == "f":
        return rng.standard_normal(shape).astype(dtype)
    name = spec.name.lower()
    if dtype.kind == "b" or "mask" in name:
        return np.ones(shape, dtype)
    if "type" in name or "segment" in name:
        return np.zeros(shape, dtype)
    if "position" in name and shape:
        return np.broadcast_to(np.arange(shape[-1], dtype=dtype), shape).copy()
    return rng.integers(1, 10, shape).astype(dtype)  # every vocabulary has ten entries


def _read_preprocess(text: str | None) -> dict[str, int]:
    if not text:
        return {}
    try:
        values = json.loads(text)
    except ValueError as error:
        raise ModelFileError(f"the metadata {METADATA_KEY} of this file is not JSON: {error}") from error
    return {k: v for k, v in values.items() if k in ("height", "width", "max_length") and v}


def _image(dims: tuple[int | None, ...], height: int, width: int) -> tuple[int, int, int, int]:
    """NCHW, unless the last axis alone looks like channels."""
    if dims[3] in (1, 3, 4) and dims[1] not in (1, 3, 4):
        return 1, height, width, 3
    return 1, 3, height, width


def _check_size(spec: InputSpec, wanted: tuple[int, ...], size: int | None) -> None:
    fixed = [(d, w) for d, w in zip(spec.dims[1:], wanted[1:], strict=True) if d not in (None, w)]
    if size is not None and any(w == size for _, w in fixed):
        raise ModelFileError(
            f"the input {spec.name!r} has the fixed shape {spec.dims}, not size {size}: export it at that size."
        )


def _batch(spec: InputSpec, batch_size: int) -> int:
    fixed = spec.dims[0]
    if fixed not in (None, batch_size):
        raise ModelFileError(
            f"this graph takes batches of {fixed} only (input {spec.name!r}), not {batch_size}: "
            f"measure it with batch size {fixed}, or export it with a dynamic batch."
        )
    return batch_size


def _is_sequence(spec: InputSpec) -> bool:
    """[N, L] ids and masks, or [N, L, D] vectors with a dynamic L."""
    if len(spec.dims) == 2:
        return "int" in spec.type or spec.dims[1] is None
    return len(spec.dims) == 3 and spec.dims[1] is None
