"""Opening data: image folders, tables of text, pairs of arrays. Whatever cannot be used is named, never dropped."""

from __future__ import annotations

import dataclasses
import difflib
import numbers
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal, TypeAlias, cast

import numpy as np
from PIL import Image

from zoo.data.dataset import Dataset, Input, Kind, bad_files_error, encode_labels, listing
from zoo.data.images import file_problem
from zoo.data.tables import SUFFIXES as TABLE_SUFFIXES
from zoo.data.tables import label_text, read_examples
from zoo.errors import BadFilesError, DataError, InputError

Data: TypeAlias = str | Path | Dataset | tuple[object, object]
OnError: TypeAlias = Literal["fail", "skip"]
Bad: TypeAlias = list[tuple[str, str]]

# Formats that are refused are in it too: such a file is meant as a photograph and gets named.
# fmt: off
IMAGE_SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".dib", ".tif", ".tiff",
    ".gif", ".heic", ".heif", ".avif", ".jp2",
)
# fmt: on
HIDDEN_NAMES = ("thumbs.db", "desktop.ini", "__macosx", "@eadir", "$recycle.bin")
PART_NAMES = ("train", "training", "val", "valid", "validation", "dev", "test", "testing")
CHECK_THREADS = 8  # hides the latency of network disks; on a local one a check takes 0.05 ms


def open_data(
    data: Data,
    *,
    kind: Kind | None = None,
    text: str | None = None,
    label: str | None = None,
    classes: Sequence[str] | None = None,
    on_error: OnError = "fail",
) -> Dataset:
    """A folder of class folders, a CSV/TSV/JSONL file, a Dataset, or a pair (inputs, labels).

    kind: needed only for a pair whose inputs could be both.  text, label: column names of a table.
    classes: the order of the labels (validation data takes the training data's); None: sorted.
    on_error: "fail" raises BadFilesError listing ALL files or rows that cannot be used; "skip" leaves them
    out and keeps them in `Dataset.bad`. Raises DataError for empty data, one class, an unknown label.
    """
    if on_error not in ("fail", "skip"):
        raise InputError(f"on_error={on_error!r}: 'fail' or 'skip'")
    if isinstance(data, Dataset):
        return _reordered(data, classes)
    if isinstance(data, tuple):
        if len(data) != 2:
            raise DataError(f"data is a tuple of {len(data)}: give a pair (inputs, labels)")
        return _open_pair(data[0], data[1], kind, classes, on_error)
    if not isinstance(data, str | Path):
        raise DataError(
            f"data is a {type(data).__name__}: give a folder, a table, or a pair (inputs, labels)"
        )
    path = _existing(Path(data).expanduser())
    if path.is_dir():
        if kind == "text":
            raise DataError(f"{path} is a folder: texts come as a {_or(TABLE_SUFFIXES)} file or as arrays")
        return _open_folder(path, classes, on_error)
    if kind == "image" or path.suffix.lower() not in TABLE_SUFFIXES:
        raise DataError(
            f"{path} is no data set: give a folder with one folder of photographs for each class, "
            f"or a {_or(TABLE_SUFFIXES)} file of texts and labels"
        )
    return _open_table(path, text, label, classes, on_error)


def _or(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"


def _existing(path: Path) -> Path:
    if path.exists():
        return path
    siblings = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.name, siblings, n=1)
    guess = f" Did you mean {path.parent / near[0]}?" if near else ""
    raise DataError(f"no such file or folder: {path}.{guess} Paths count from {Path.cwd()}.")


def _reordered(data: Dataset, classes: Sequence[str] | None) -> Dataset:
    if classes is None or tuple(classes) == data.classes:
        return data
    labels = [data.classes[target] for target in data.targets]
    targets, names = encode_labels(labels, classes, data.source or "the data set")
    return dataclasses.replace(data, targets=targets, classes=names)


# --- image folders
def _hidden(name: str) -> bool:
    return name.startswith(".") or name.lower() in HIDDEN_NAMES


def _entries(folder: Path) -> list[Path]:
    """What is in a folder, by name, hidden things passed over."""
    try:
        return sorted(entry for entry in folder.iterdir() if not _hidden(entry.name))
    except OSError as error:
        raise DataError(
            f"cannot read the folder {folder}: {error.strerror}. Check its permissions."
        ) from error


def _walk(folder: Path, above: frozenset[str] = frozenset()) -> Iterator[Path]:
    """Every file below a folder, by name. Links are followed; a link to a folder above it is not."""
    real = os.path.realpath(folder)
    if real in above:
        return
    for entry in _entries(folder):
        if entry.is_dir():
            yield from _walk(entry, above | {real})
        else:
            yield entry


def _open_folder(root: Path, classes: Sequence[str] | None, on_error: OnError) -> Dataset:
    entries = _entries(root)
    folders = [entry for entry in entries if entry.is_dir()]
    _refuse_parts(root, folders)
    if not folders:
        raise DataError(
            f"{root} holds no class folders"
            + (": it is empty" if not entries else "")
            + ". Give a folder with one folder of photographs for each class: "
            f"{root.name}/cats/1.jpg, {root.name}/dogs/2.jpg"
        )
    above = frozenset({os.path.realpath(root)})
    files = [(file, folder.name) for folder in folders for file in _walk(folder, above)]
    # A photograph beside the class folders has no label; other files there (a README) are in no class.
    stray = [entry for entry in entries if entry not in folders and entry.suffix.lower() in IMAGE_SUFFIXES]
    bad: Bad = [(str(file), "lies outside the class folders, so it has no label") for file in stray]
    problems = check_files([file for file, _ in files])
    bad += [(str(file), why) for (file, _), why in zip(files, problems, strict=True) if why]
    _report(bad, len(files) + len(stray), str(root), on_error, "files")
    good = [pair for pair, why in zip(files, problems, strict=True) if not why]
    labels = [name for _, name in good]
    hollow = sorted({folder.name for folder in folders} - set(labels))
    if hollow and good and classes is None:
        raise DataError(
            f"{root}: no usable photograph in {listing(hollow)}. Put some in, or remove the folder."
        )
    targets, names = encode_labels(labels, classes, str(root))
    return Dataset("image", [file for file, _ in good], targets, names, str(root), tuple(bad))


def _refuse_parts(root: Path, folders: Sequence[Path]) -> None:
    """train/ and val/ are no classes: say which folder to give."""
    if not folders or any(folder.name.lower() not in PART_NAMES for folder in folders):
        return
    if any(entry.is_dir() for folder in folders for entry in _entries(folder)):
        parts = _or([str(f) for f in folders]) if len(folders) > 1 else str(folders[0])
        raise DataError(
            f"{root} holds parts of a data set ({', '.join(f.name for f in folders)}), not classes. "
            f"Give one of them: {parts}."
        )


def check_files(paths: Sequence[Path]) -> list[str | None]:
    """Why each file is no usable photograph, or None."""
    with ThreadPoolExecutor(CHECK_THREADS, thread_name_prefix="zoo-check") as pool:
        return list(pool.map(file_problem, paths))


def _report(bad: Bad, total: int, source: str, on_error: OnError, unit: str) -> None:
    if bad and on_error == "fail":
        raise bad_files_error(bad, total, source, unit=unit)


# --- tables
def _open_table(
    path: Path, text: str | None, label: str | None, classes: Sequence[str] | None, on_error: OnError
) -> Dataset:
    found = read_examples(path, text=text, label=label)
    _report(list(found.bad), found.total, str(path), on_error, "rows")
    source = f"{path} (text: {found.columns[0]}, label: {found.columns[1]})"
    targets, names = encode_labels(found.labels, classes, source)
    return Dataset("text", list(found.texts), targets, names, source, found.bad)


# --- pairs of arrays
def _open_pair(
    inputs: object, labels: object, kind: Kind | None, classes: Sequence[str] | None, on_error: OnError
) -> Dataset:
    items, answers = _items(inputs, "inputs"), _items(labels, "labels")
    if len(items) != len(answers):
        raise DataError(f"{len(items)} inputs and {len(answers)} labels: give one label for each input")
    found = kind or _kind(items)
    bad: Bad = []
    good: list[Input] = []
    names: list[str] = []
    for i, (item, why) in enumerate(zip(*_checked(items, found), strict=True)):
        why = why or _pair_label_problem(answers[i])
        if why:
            bad.append((str(item) if isinstance(item, Path) else f"input {i}", why))
            continue
        good.append(item)
        names.append(label_text(answers[i]))
    _report(bad, len(items), "the given arrays", on_error, "inputs")
    targets, order = encode_labels(names, classes, "the given data")
    return Dataset(found, good, targets, order, "arrays", tuple(bad))


def _items(values: object, name: str) -> list[object]:
    """A list from a list, tuple, array, or column of a data frame."""
    if isinstance(values, str | bytes | Path | Image.Image) or not hasattr(values, "__len__"):
        raise DataError(f"{name} is a single {type(values).__name__}: give a list or an array of them")
    if isinstance(values, np.ndarray) and values.ndim == 1:
        return cast(list[object], values.tolist())
    return list(cast(Sequence[object], values))


def _kind(items: Sequence[object]) -> Kind:
    """Strings are texts, unless all of them end like photographs; a missing one (None, NaN) does not count."""
    strings = [item for item in items if isinstance(item, str)]
    if not strings or any(isinstance(item, Path | Image.Image | np.ndarray) for item in items):
        return "image"
    return "image" if all(item.lower().endswith(IMAGE_SUFFIXES) for item in strings) else "text"


def _checked(items: Sequence[object], kind: Kind) -> tuple[list[Input], list[str | None]]:
    """Inputs in the types of `Input`, and why each cannot be used."""
    if kind == "text":
        problems: list[str | None] = [
            None if isinstance(item, str) and item.strip() else _no_text(item) for item in items
        ]
        return [cast(str, item) for item in items], problems
    found = [Path(item) if isinstance(item, str) else cast(Input, item) for item in items]
    paths = [item for item in found if isinstance(item, Path)]
    reasons = dict(zip(paths, check_files(paths), strict=True))
    return found, [reasons[x] if isinstance(x, Path) else _no_image(x) for x in found]


def _no_text(item: object) -> str:
    missing = item is None or isinstance(item, str) or (isinstance(item, float) and item != item)
    return "has an empty text" if missing else f"is a {type(item).__name__}, not a string"


def _no_image(item: object) -> str | None:
    if isinstance(item, Image.Image):
        return None
    if not isinstance(item, np.ndarray):
        return f"is a {type(item).__name__}, no path, PIL image or uint8 array"
    if (
        item.dtype != np.uint8
        or item.ndim not in (2, 3)
        or (item.ndim == 3 and item.shape[2] not in (1, 3, 4))
    ):
        return f"is an array of {item.dtype} {list(item.shape)}: uint8 [height, width, 3] is needed"
    return None


def _pair_label_problem(value: object) -> str | None:
    if isinstance(value, str | numbers.Integral | np.bool_):
        return "has no label" if isinstance(value, str) and not value.strip() else None
    if value is None or (isinstance(value, float) and value != value):
        return "has no label"
    return f"has the label {value!r}, a {type(value).__name__}: labels are integers or strings"


# --- inputs without labels
def open_inputs(inputs: object, *, kind: Kind) -> list[Input]:
    """What `predict` is given, as a list: a path to a file or folder, one input, or a list of inputs.

    Folders are searched for photographs, by name. For texts a string is a text, unless it names a table
    (its text column is read) or a .txt file (a text a line). Raises DataError, BadFilesError.
    """
    if kind == "text":
        return _text_inputs(inputs)
    if isinstance(inputs, str | Path):
        return _image_paths(_existing(Path(inputs).expanduser()))
    if isinstance(inputs, Image.Image) or (isinstance(inputs, np.ndarray) and inputs.ndim in (2, 3)):
        return [cast(Input, inputs)]
    found = [Path(item) if isinstance(item, str) else item for item in _items(inputs, "inputs")]
    bad = [(str(p), "no such file") for p in found if isinstance(p, Path) and not p.is_file()]
    bad += [
        (f"input {i}", why) for i, x in enumerate(found) if not isinstance(x, Path) and (why := _no_image(x))
    ]
    if bad:
        lines = "\n".join(f"  {name}: {reason}" for name, reason in bad)
        raise BadFilesError(f"{len(bad)} of {len(found)} inputs cannot be used:\n{lines}\nCheck them.", bad)
    return cast(list[Input], found)


def _image_paths(path: Path) -> list[Input]:
    if path.is_file():
        return [path]
    found: list[Input] = [file for file in _walk(path) if file.suffix.lower() in IMAGE_SUFFIXES]
    if not found:
        raise DataError(f"{path} holds no photographs ({', '.join(IMAGE_SUFFIXES)}). Give another folder.")
    return found


def _text_inputs(inputs: object) -> list[Input]:
    if isinstance(inputs, Path) or (isinstance(inputs, str) and _is_text_file(inputs)):
        path = _existing(Path(inputs).expanduser())
        return list(_text_lines(path))
    items = [inputs] if isinstance(inputs, str) else _items(inputs, "inputs")
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
