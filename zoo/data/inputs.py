"""What `predict` is given: photographs or texts without labels, as a list."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
from PIL import Image

from zoo.data.dataset import Input, Kind, bad_files_error
from zoo.data.sources import IMAGE_SUFFIXES, existing, items_of, no_image, walk
from zoo.data.tables import SUFFIXES as TABLE_SUFFIXES
from zoo.data.tables import read_examples
from zoo.errors import BadFilesError, DataError


def open_inputs(inputs: object, *, kind: Kind) -> list[Input]:
    """What `predict` is given, as a list: a path to a file or folder, one input, or a list of inputs.

    Folders are searched for photographs, by name. For texts a string is a text, unless it names a table
    (its text column is read) or a .txt file (a text a line). Raises DataError, BadFilesError.
    """
    if kind == "text":
        return _text_inputs(inputs)
    if isinstance(inputs, str | Path):
        return _image_paths(existing(Path(inputs).expanduser()))
    if isinstance(inputs, Image.Image) or (isinstance(inputs, np.ndarray) and inputs.ndim in (2, 3)):
        return [cast(Input, inputs)]
    found = [Path(item) if isinstance(item, str) else item for item in items_of(inputs, "inputs")]
    bad = [(str(p), "no such file") for p in found if isinstance(p, Path) and not p.is_file()]
    bad += [
        (f"input {i}", why) for i, x in enumerate(found) if not isinstance(x, Path) and (why := no_image(x))
    ]
    if bad:
        lines = "\n".join(f"  {name}: {reason}" for name, reason in bad)
        raise BadFilesError(f"{len(bad)} of {len(found)} inputs cannot be used:\n{lines}\nCheck them.", bad)
    return cast(list[Input], found)


def _image_paths(path: Path) -> list[Input]:
    if path.is_file():
        return [path]
    found: list[Input] = [file for file in walk(path) if file.suffix.lower() in IMAGE_SUFFIXES]
    if not found:
        raise DataError(f"{path} holds no photographs ({', '.join(IMAGE_SUFFIXES)}). Give another folder.")
    return found


def _text_inputs(inputs: object) -> list[Input]:
    if isinstance(inputs, Path) or (isinstance(inputs, str) and _is_text_file(inputs)):
        path = existing(Path(inputs).expanduser())
        return list(_text_lines(path))
    items = [inputs] if isinstance(inputs, str) else items_of(inputs, "inputs")
    if bad := [i for i, item in enumerate(items) if not isinstance(item, str)]:
        raise DataError(
            f"input {bad[0]} is a {type(items[bad[0]]).__name__}, and this model takes texts: give strings"
        )
    return cast(list[Input], items)


def _is_text_file(text: str) -> bool:
    return text.lower().endswith((*TABLE_SUFFIXES, ".txt")) and "\n" not in text and Path(text).is_file()


def _text_lines(path: Path) -> Sequence[str]:
    if path.suffix.lower() in TABLE_SUFFIXES:
        found = read_examples(path, text=None, label=None, labelled=False)
        if found.bad:
            raise bad_files_error(found.bad, found.total, str(path), unit="rows")
        return found.texts
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"cannot read texts from {path}: {error}. Give a UTF-8 file with a text a line."
        ) from error
    return [line for line in lines if line.strip()]
