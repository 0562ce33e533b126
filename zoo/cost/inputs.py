"""What a graph is fed when it is measured or counted: shapes made concrete, arrays drawn from them.

Shared by the meter's child process (which may import nothing but onnxruntime and numpy) and the graph's facts, so
that a figure and the MACs beside it are of the same input. What an axis means is taken from the file (its metadata,
its symbols, the ranks of images and texts); where that says nothing it is asked for, not guessed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from zoo.cost.given import DTYPES, GivenInput, parse_inputs
from zoo.errors import InputError, ModelFileError

DEFAULT_SIZE = 224
METADATA_KEY = "zoo.preprocess"
LARGEST_FEED_BYTES = 4_000_000_000
"""All inputs of one run together: 256 images of 3 x 1024 x 1024 floats are 3.2 GB."""
_NAMES = {f"tensor({ort})": name for name, ort in DTYPES.items()}


@dataclass(frozen=True)
class InputSpec:
    """One input of a graph. type: as ONNX Runtime writes it ("tensor(float)"); dims: None where dynamic.

    symbols: what the file calls each dynamic axis, "" where it has no name: one name is one number in all inputs.
    """

    name: str
    type: str
    dims: tuple[int | None, ...]
    symbols: tuple[str, ...] = ()

    def symbol(self, axis: int) -> str:
        """The name of a dynamic axis, or ""."""
        return self.symbols[axis] if axis < len(self.symbols) else ""

    def __str__(self) -> str:
        dims = "x".join("?" if d is None else str(d) for d in self.dims)
        return f"{self.name} ({dims or 'no axes declared,'} {_NAMES.get(self.type, self.type)})"


@dataclass(frozen=True)
class Feed:
    """Concrete shapes for a graph's inputs; sequence_length: tokens in it, None where it takes no sequence.

    values: what an input is filled with, where somebody said it.  guessed: the inputs with an axis that neither the
    file nor anybody gave a size: 224 pixels, `sequence_length` tokens.
    """

    shapes: Mapping[str, tuple[int, ...]]
    sequence_length: int | None
    values: Mapping[str, float] = field(default_factory=dict)
    guessed: tuple[str, ...] = ()


def concrete_feed(
    specs: Sequence[InputSpec],
    preprocess_json: str | None,
    *,
    batch_size: int,
    sequence_length: int,
    size: int | None = None,
    inputs: Sequence[str] = (),
) -> Feed:
    """Set the batch, the length and the size where they are dynamic.

    preprocess_json: the file's metadata under METADATA_KEY, if any: gives an image's size and a text's
    longest length.  inputs: "name:shape:dtype" of inputs whose shapes are known better (see `parse_inputs`); a name
    that the graph lacks is passed over.
    Raises ModelFileError where the graph fixes another batch (or another size), where the meaning of an axis is not
    known, and where the shapes are too large to be fed; InputError where `inputs` contradict the graph.
    """
    for spec in specs:
        _dtype(spec)  # raises where no array can be made up
    given = {k: v for k, v in parse_inputs(inputs).items() if any(spec.name == k for spec in specs)}
    shaper = _Shaper(specs, _read_preprocess(preprocess_json), batch_size, sequence_length, size)
    shapes = {spec.name: shaper.fixed_by(spec, given[spec.name]) for spec in specs if spec.name in given}
    shapes |= {spec.name: shaper.shape(spec) for spec in specs if spec.name not in given}
    if shaper.unknown:
        raise ModelFileError(_ask(shaper.unknown))
    _check_batch_is_used(specs, given, batch_size)
    _check_bytes(specs, shapes)
    lengths = [shapes[s.name][1] for s in specs if _is_sequence(s) and s.dims[0] in (None, batch_size)]
    values = {name: one.value for name, one in given.items() if one.value is not None}
    ordered = {spec.name: shapes[spec.name] for spec in specs}
    return Feed(ordered, max(lengths, default=None), values, tuple(dict.fromkeys(shaper.guessed)))


class _Shaper:
    """Sizes for the axes of one graph's inputs, and what it could not tell."""

    def __init__(
        self,
        specs: Sequence[InputSpec],
        known: Mapping[str, int],
        batch_size: int,
        length: int,
        size: int | None,
    ) -> None:
        self.batch_size, self.size = batch_size, size
        self.length = min(length, int(known.get("max_length", length)))
        self.height = size or int(known.get("height", DEFAULT_SIZE))
        self.width = size or int(known.get("width", DEFAULT_SIZE))
        self.sized = size is not None or "height" in known
        self.leading = _leading(specs)
        self.symbols: dict[str, int] = {}
        if self.leading is not None and (name := self.leading.symbol(0)):
            self.symbols[name] = batch_size
        self.unknown: list[InputSpec] = []
        self.guessed: list[str] = []

    def fixed_by(self, spec: InputSpec, given: GivenInput) -> tuple[int, ...]:
        """The shape that somebody gave; its named axes hold for the other inputs too."""
        shape = given.at(self.batch_size)
        if wrong := _contradiction(spec, given, shape):
            raise InputError(f"--input {given}: {wrong}")
        for axis in range(len(spec.dims)):
            if name := spec.symbol(axis):
                self.symbols[name] = shape[axis]
        return shape

    def shape(self, spec: InputSpec) -> tuple[int, ...]:
        """The shape by rank, names and defaults; notes in `unknown` what cannot be told."""
        if len(spec.dims) == 4:
            _check_size(spec, _image(spec.dims, self.height, self.width), self.size)
        self._check_batch(spec)
        if not spec.dims:
            self.unknown.append(spec)
        found = [dim if dim is not None else self._axis(spec, axis) for axis, dim in enumerate(spec.dims)]
        if None in found:
            self.unknown.append(spec)
            return ()
        dims = tuple(dim for dim in found if dim is not None)
        for axis in range(len(dims)):
            if name := spec.symbol(axis):
                self.symbols.setdefault(name, dims[axis])
        return dims

    def _axis(self, spec: InputSpec, axis: int) -> int | None:
        """The size of a dynamic axis; None: its meaning is not known."""
        if (name := spec.symbol(axis)) in self.symbols:
            return self.symbols[name]
        if axis == 0:
            return self.batch_size
        if spec.dims[0] not in (None, self.batch_size):
            return None  # its first axis is no batch, so neither is the second a length
        if len(spec.dims) == 4:
            if not self.sized:
                self.guessed.append(spec.name)
            return _image(spec.dims, self.height, self.width)[axis]
        if axis == 1 and _is_sequence(spec):
            self.guessed.append(spec.name)
            return self.length
        return None

    def _check_batch(self, spec: InputSpec) -> None:
        """Raise ModelFileError where the graph fixes another batch; a state's first axis is none."""
        first = spec.dims[0] if spec.dims else None
        if spec is self.leading and first not in (None, self.batch_size):
            raise ModelFileError(
                f"this graph takes batches of {first} only (input {spec.name!r}), not {self.batch_size}: "
                f"measure it with batch size {first}, or export it with a dynamic batch."
            )


def _leading(specs: Sequence[InputSpec]) -> InputSpec | None:
    """The input whose first axis is the batch: an image or ids, else one whose first axis is dynamic."""
    ranked = [spec for spec in specs if spec.dims]
    for wanted in (_is_image, _is_ids, lambda spec: spec.dims[0] is None):
        if found := [spec for spec in ranked if wanted(spec)]:
            return found[0]
    return ranked[0] if ranked else None


def _is_image(spec: InputSpec) -> bool:
    return len(spec.dims) == 4


def _is_ids(spec: InputSpec) -> bool:
    return len(spec.dims) == 2 and "int" in spec.type


def _is_sequence(spec: InputSpec) -> bool:
    """[N, L] ids and masks, or [N, L, D] vectors with a dynamic L and a known D."""
    if len(spec.dims) == 2:
        return "int" in spec.type or (spec.dims[1] is None and ("mask" in spec.name or "bool" in spec.type))
    return len(spec.dims) == 3 and spec.dims[1] is None and spec.dims[2] is not None


def _image(dims: tuple[int | None, ...], height: int, width: int) -> tuple[int, int, int, int]:
    """NCHW, unless the last axis alone looks like channels."""
    if dims[3] in (1, 3, 4) and dims[1] not in (1, 3, 4):
        return 1, height, width, 3
    return 1, 3, height, width


# --- what cannot be
def _ask(specs: Iterable[InputSpec]) -> str:
    listed = list(specs)
    options = " ".join(_template(spec) for spec in listed)
    return (
        f"what these inputs mean is not known here: {', '.join(map(str, listed))}. Say how they are fed: {options}, "
        "with a number for each ? (N is the batch) and a shape for `scalar` where it has one; =VALUE fills it with one "
        'value. In Python: inputs=["name:shape:dtype"].'
    )


def _template(spec: InputSpec) -> str:
    """The option that would answer for this input, with gaps."""
    dims = "x".join("?" if d is None else str(d) for d in spec.dims)
    value = "" if spec.dims else "=VALUE"
    return f"--input {spec.name}:{dims or 'scalar'}:{_NAMES.get(spec.type, 'float32')}{value}"


def _contradiction(spec: InputSpec, given: GivenInput, shape: tuple[int, ...]) -> str:
    """Why a given input cannot be this one; "" where it can. A rank that the graph leaves open takes any."""
    wanted = _NAMES.get(spec.type)
    if given.dtype is not None and wanted is not None and given.dtype != wanted:
        return f"the graph takes {spec}, which is {wanted}"
    if not spec.dims:
        return ""
    if len(shape) != len(spec.dims):
        return f"the graph takes {spec}: {len(spec.dims)} axes, not {len(shape)}"
    if any(d not in (None, s) for d, s in zip(spec.dims, shape, strict=True)):
        return f"the graph takes {spec}"
    return ""


def _check_batch_is_used(
    specs: Sequence[InputSpec], given: Mapping[str, GivenInput], batch_size: int
) -> None:
    """A batch size beside shapes that leave no room for it would give a wrong throughput."""
    if batch_size == 1 or not specs or len(given) < len(specs):
        return
    if not any(None in one.shape or one.shape[:1] == (batch_size,) for one in given.values()):
        listed = ", ".join(map(str, given.values()))
        raise InputError(f"batch size {batch_size} has no axis in {listed}: write N where the batch goes")


def _check_bytes(specs: Sequence[InputSpec], shapes: Mapping[str, tuple[int, ...]]) -> None:
    sizes = {spec.name: math.prod(shapes[spec.name]) * _itemsize(spec) for spec in specs}
    if sum(sizes.values()) <= LARGEST_FEED_BYTES:
        return
    largest = max(sizes, key=lambda name: sizes[name])
    dims = "x".join(map(str, shapes[largest]))
    raise ModelFileError(
        f"the input {largest!r} would be {dims} and take {sizes[largest] / 1e9:.4g} GB; "
        f"{LARGEST_FEED_BYTES / 1e9:g} GB is the most that is fed. Take a smaller batch or shape, or export the "
        "model with the shape that it is used at."
    )


def _check_size(spec: InputSpec, wanted: tuple[int, ...], size: int | None) -> None:
    fixed = [(d, w) for d, w in zip(spec.dims[1:], wanted[1:], strict=True) if d not in (None, w)]
    if size is not None and any(w == size for _, w in fixed):
        raise ModelFileError(
            f"the input {spec.name!r} has the fixed shape {spec.dims}, not size {size}: export it at that size."
        )


def _read_preprocess(text: str | None) -> dict[str, int]:
    if not text:
        return {}
    try:
        values = json.loads(text)
    except ValueError as error:
        raise ModelFileError(f"the metadata {METADATA_KEY} of this file is not JSON: {error}") from error
    return {k: v for k, v in values.items() if k in ("height", "width", "max_length") and v}


# --- arrays
def draw(specs: Sequence[InputSpec], feed: Feed, *, seed: int = 0) -> dict[str, npt.NDArray[np.generic]]:
    """Arrays of those shapes: masks are ones, segments zeros, positions count up, ids are small tokens."""
    rng = np.random.default_rng(seed)
    return {spec.name: _array(spec, feed, rng) for spec in specs}


def _array(spec: InputSpec, feed: Feed, rng: np.random.Generator) -> npt.NDArray[np.generic]:
    dtype, shape = np.dtype(_dtype(spec)), feed.shapes[spec.name]
    if spec.name in feed.values:
        return np.full(shape, feed.values[spec.name], dtype)
    if dtype == np.float32:  # drawn as it is fed: a float64 copy would count in the peak of memory
        return rng.standard_normal(shape, dtype=np.float32)
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


def _itemsize(spec: InputSpec) -> int:
    return np.dtype(_dtype(spec)).itemsize


def _dtype(spec: InputSpec) -> str:
    if spec.type not in _NAMES:
        raise ModelFileError(
            f"the input {spec.name!r} is a {spec.type}: only tensors of numbers can be made up for a "
            "measurement. Export the model with numeric inputs."
        )
    return _NAMES[spec.type]
