"""What somebody says of a graph's input, `--input name:shape:dtype=value`, where the file does not say it.

numpy only: the meter's child process reads it too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from zoo.errors import InputError

DTYPES = {
    "float32": "float",
    "float16": "float16",
    "float64": "double",
    "int64": "int64",
    "int32": "int32",
    "int16": "int16",
    "int8": "int8",
    "uint64": "uint64",
    "uint32": "uint32",
    "uint16": "uint16",
    "uint8": "uint8",
    "bool": "bool",
}
"""numpy's name of a type: ONNX Runtime's."""
BATCH, SCALAR = "N", "scalar"
FORM = "name:shape:dtype, such as images:Nx3x224x224:float32 (N: the batch) or rate:scalar:int64=16000"


@dataclass(frozen=True)
class GivenInput:
    """One input as somebody gave it. shape: None where the batch goes; dtype None: the graph's own;
    value: what it is filled with, None: drawn."""

    name: str
    shape: tuple[int | None, ...]
    dtype: str | None = None
    value: float | None = None

    def at(self, batch_size: int) -> tuple[int, ...]:
        """The shape at that batch size."""
        return tuple(batch_size if dim is None else dim for dim in self.shape)

    def __str__(self) -> str:
        dims = "x".join(BATCH if dim is None else str(dim) for dim in self.shape)
        end = "" if self.value is None else f"={self.value:g}"
        return f"{self.name}:{dims or SCALAR}" + (f":{self.dtype}" if self.dtype else "") + end


def parse_inputs(texts: Sequence[str]) -> dict[str, GivenInput]:
    """Read "name:shape:dtype=value" texts: shape is numbers and N with x or commas between, or `scalar`; dtype and
    value may be left out; a name may hold colons. Raises InputError."""
    found: dict[str, GivenInput] = {}
    for text in texts:
        one = _parse(text)
        if one.name in found:
            raise InputError(f"--input {text!r}: {one.name!r} is given twice")
        found[one.name] = one
    return found


def _parse(text: str) -> GivenInput:
    head, _, last = text.rpartition(":")
    last, equals, filling = last.partition("=")
    dtype: str | None = None
    if last in DTYPES:
        dtype = last
        head, _, last = head.rpartition(":")
    shape = _shape(last) if last or dtype else None
    value = _number(filling) if equals else None
    if not head or shape is None or (equals and value is None):
        raise InputError(f"cannot read --input {text!r}: write {FORM}; dtypes are {', '.join(DTYPES)}")
    return GivenInput(head, shape, dtype, value)


def _shape(text: str) -> tuple[int | None, ...] | None:
    """() for a scalar; None where it cannot be read."""
    if text in ("", SCALAR):
        return ()
    parts = [part.strip() for part in text.replace(",", "x").split("x")]
    if not all(part == BATCH or (part.isdecimal() and int(part) > 0) for part in parts):
        return None
    return tuple(None if part == BATCH else int(part) for part in parts)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def libraries(paths: Sequence[Path | str]) -> tuple[str, ...]:
    """Whole paths of libraries of operators. Raises InputError where one is no file."""
    for path in paths:
        if not Path(path).is_file():
            raise InputError(
                f"--custom-ops {path}: no such file; give the library that holds the operators (.so)"
            )
    return tuple(str(Path(path).resolve()) for path in paths)
