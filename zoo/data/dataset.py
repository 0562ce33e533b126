"""The one shape that every data source ends in: inputs, integer targets and the names of the classes."""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import re
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal, TypeAlias

import numpy as np
from PIL import Image

from zoo.data.digests import DIGEST_BYTES, digest, file_digests
from zoo.engine import Array
from zoo.errors import BadFilesError, DataError

Kind: TypeAlias = Literal["image", "text"]

MAX_NAMED_LABELS = 10


@dataclass(frozen=True, eq=False)
class EncodedImage:
    """A photograph that lies in a table: the bytes of its file, not decoded before they are needed.

    name: what messages call it ("pets.parquet row 3").  open: the bytes as a file that can be read.
    """

    name: str
    open: Callable[[], IO[bytes]]

    def __str__(self) -> str:
        return self.name


Input: TypeAlias = str | Path | Image.Image | Array | EncodedImage
"""A text, a path to a photograph, a photograph's bytes, a PIL image, or pixels: uint8 [H, W], [H, W, 1],
[H, W, 3] or [H, W, 4].
"""


@dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled inputs.

    targets: int64 [N], positions in `classes`.  source: where it came from, for reports.
    bad: (file or row, reason) of everything that was left out with on_error="skip".
    """

    kind: Kind
    inputs: Sequence[Input]
    targets: Array
    classes: tuple[str, ...]
    source: str = ""
    bad: tuple[tuple[str, str], ...] = ()

    def __len__(self) -> int:
        return len(self.inputs)

    def subset(self, indices: Iterable[int] | Array) -> Dataset:
        """The inputs at `indices`, in that order, with the same classes and the same report of bad files."""
        chosen = np.asarray(list(indices), dtype=np.int64)
        inputs = [self.inputs[i] for i in chosen]
        return dataclasses.replace(self, inputs=inputs, targets=self.targets[chosen])

    def digests(self) -> Array:
        """uint8 [N, 16]: what each input contains, wherever it lies and whatever it is labelled.

        Raises BadFilesError where a file has gone.
        """
        return input_digests(self.inputs)

    def fingerprint(self) -> str:
        """64 hex digits of what is in it: the inputs' content, their order, their labels and the classes.

        Names of files do not count, so a moved folder keeps its fingerprint. Raises BadFilesError where a
        file has gone.
        """
        found = hashlib.sha256(repr((self.kind, self.classes, len(self))).encode())
        found.update(np.ascontiguousarray(self.targets, dtype=np.int64).tobytes())
        found.update(self.digests().tobytes())
        return found.hexdigest()


def input_digests(inputs: Sequence[Input]) -> Array:
    """uint8 [N, 16]; see `Dataset.digests`."""
    files = iter(file_digests([item for item in inputs if isinstance(item, Path)]))
    found = [next(files) if isinstance(item, Path) else digest(content(item)) for item in inputs]
    return np.frombuffer(b"".join(found), np.uint8).reshape(-1, DIGEST_BYTES)


def content(item: str | Image.Image | Array | EncodedImage) -> bytes:
    """What identifies one input, as bytes."""
    if isinstance(item, str):
        return item.encode("utf-8", "surrogatepass")
    if isinstance(item, EncodedImage):
        with item.open() as file:
            return file.read()
    if isinstance(item, Image.Image):
        # Opening the file fills `item.info`; what shapes the pixels is the mode, the palette and the rotation.
        palette = bytes(item.getpalette() or b"") if item.mode == "P" else b""
        facts = repr((item.mode, item.size, item.getexif().get(0x0112))).encode()
        return facts + palette + item.tobytes()
    return repr((item.shape, item.dtype.str)).encode() + np.ascontiguousarray(item).tobytes()


# --- labels
def class_order(labels: Iterable[str]) -> tuple[str, ...]:
    """Distinct labels sorted by name, or by number where all of them are integers."""
    distinct = set(labels)
    if all(re.fullmatch(r"[+-]?[0-9]+", label) for label in distinct):
        return tuple(sorted(distinct, key=lambda label: (int(label), label)))
    return tuple(sorted(distinct))


def encode_labels(
    labels: Sequence[str], classes: Sequence[str] | None, source: str
) -> tuple[Array, tuple[str, ...]]:
    """Targets int64 [N] and the classes. Raises DataError: no rows, one class, a label not in `classes`."""
    if not labels:
        raise DataError(f"{source} holds no usable example. Give data with examples of at least two classes.")
    names = tuple(classes) if classes is not None else class_order(labels)
    if len(set(names)) != len(names):
        raise DataError(f"classes= names a class twice: {', '.join(names)}")
    position = {name: i for i, name in enumerate(names)}
    if unknown := sorted(set(labels) - set(names)):
        raise DataError(_unknown_labels(unknown, names, source))
    if len(names) < 2:
        raise DataError(
            f"{source} has one class only ({names[0]!r}): a classifier needs at least two. "
            "Add examples of another class, or check that the right folder or label column was given."
        )
    return np.array([position[label] for label in labels], dtype=np.int64), names


def _unknown_labels(unknown: Sequence[str], names: Sequence[str], source: str) -> str:
    near = difflib.get_close_matches(unknown[0], names, n=1)
    guess = f" Did you mean {near[0]!r} for {unknown[0]!r}?" if near else ""
    return (
        f"{source} has labels that the model does not know: {listing(unknown)}; "
        f"its classes are {listing(names)}.{guess} Rename those labels, or train with them."
    )


def listing(names: Sequence[Hashable]) -> str:
    """Names in quotes, the first ten, and how many more."""
    shown = ", ".join(repr(name) for name in names[:MAX_NAMED_LABELS])
    more = len(names) - MAX_NAMED_LABELS
    return f"{shown} and {more} more" if more > 0 else shown


def bad_files_error(
    bad: Sequence[tuple[str, str]], total: int, source: str, *, unit: str = "files"
) -> BadFilesError:
    """The one wording for data with files (or rows) that cannot be used: lists all of them and the cure."""
    lines = "\n".join(f"  {name}: {reason}" for name, reason in bad)
    return BadFilesError(
        f"{len(bad)} of {total} {unit} in {source} cannot be used:\n{lines}\n"
        "Mend or remove them, or leave them out with --on-error skip (on_error='skip').",
        bad,
    )
