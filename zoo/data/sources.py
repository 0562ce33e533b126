"""Opening data: image folders, tables, Hugging Face datasets, pairs of arrays. Whatever cannot be used is named,
never dropped.
"""

from __future__ import annotations

import dataclasses
import difflib
import numbers
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, TypeAlias, cast

import numpy as np
from PIL import Image

from zoo.data import typed_tables
from zoo.data.dataset import Dataset, EncodedImage, Input, Kind, bad_files_error, encode_labels, listing
from zoo.data.images import encoded_problem, file_problem
from zoo.data.tables import SUFFIXES as TABLE_SUFFIXES
from zoo.data.tables import Table, column_of, examples, label_text, read_table
from zoo.data.targets import refuse_matrix, refuse_other_targets
from zoo.data.threads import in_threads
from zoo.data.typed_tables import LoadedSplit
from zoo.errors import DataError, InputError

Data: TypeAlias = str | Path | Dataset | LoadedSplit | typed_tables.HfDataset | tuple[object, object]
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


def open_data(
    data: Data,
    *,
    kind: Kind | None = None,
    text: str | None = None,
    label: str | None = None,
    classes: Sequence[str] | None = None,
    on_error: OnError = "fail",
) -> Dataset:
    """A folder of class folders, a CSV/TSV/JSONL/Parquet file, a Hugging Face dataset (a folder, `hf:org/name`,
    an object of `datasets`), a Dataset, or a pair (inputs, labels). One data set: `find_parts` finds train,
    validation and test in what holds several.

    kind: needed only for a pair whose inputs could be both.  text, label: column names of a table.
    classes: the order of the labels (validation data takes the training data's); None: sorted.
    on_error: "fail" raises BadFilesError listing ALL files or rows that cannot be used; "skip" leaves them
    out and keeps them in `Dataset.bad`. Raises DataError for empty data, one class, an unknown label,
    several labels an example, labels that are decimal numbers.
    """
    if on_error not in ("fail", "skip"):
        raise InputError(f"on_error={on_error!r}: 'fail' or 'skip'")
    if isinstance(data, Dataset):
        return _reordered(data, classes)
    if isinstance(data, tuple):
        return _open_pair(data, kind, classes, on_error)
    if isinstance(data, LoadedSplit) or typed_tables.is_typed(data):
        return _open_typed(_only_split(data), kind, text, label, classes, on_error)
    if not isinstance(data, str | Path):
        raise DataError(
            f"data is a {type(data).__name__}: give a folder, a table, or a pair (inputs, labels)"
        )
    path = existing(Path(data).expanduser())
    if path.is_dir():
        if kind == "text":
            raise DataError(f"{path} is a folder: texts come as a {_or(TABLE_SUFFIXES)} file or as arrays")
        return _open_folder(path, classes, on_error)
    if path.suffix.lower() not in TABLE_SUFFIXES:
        raise DataError(
            f"{path} is no data set: give a folder with one folder of photographs for each class, "
            f"or a {_or((*TABLE_SUFFIXES, *typed_tables.PARQUET[:1]))} file of texts and labels"
        )
    return _open_table(path, kind, text, label, classes, on_error)


def _or(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"


def existing(path: Path) -> Path:
    """The path. Raises DataError, with a near name, where nothing is there."""
    if path.exists():
        return path
    siblings = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.name, siblings, n=1)
    guess = f" Did you mean {path.parent / near[0]}?" if near else ""
    hub = len(path.parts) == 2 and not path.suffix and not path.parent.exists()
    guess += f" If you mean the data set of the Hugging Face Hub, write hf:{path.as_posix()}." if hub else ""
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


def walk(folder: Path, above: frozenset[str] = frozenset()) -> Iterator[Path]:
    """Every file below a folder, by name. Links are followed; a link to a folder above it is not."""
    real = os.path.realpath(folder)
    if real in above:
        return
    for entry in _entries(folder):
        if entry.is_dir():
            yield from walk(entry, above | {real})
        else:
            yield entry


def _open_folder(root: Path, classes: Sequence[str] | None, on_error: OnError) -> Dataset:
    _refuse_parts(root)
    entries = _entries(root)
    folders = [entry for entry in entries if entry.is_dir()]
    if not folders:
        raise DataError(
            f"{root} holds no class folders"
            + (": it is empty" if not entries else "")
            + ". Give a folder with one folder of photographs for each class: "
            f"{root.name}/cats/1.jpg, {root.name}/dogs/2.jpg"
        )
    above = frozenset({os.path.realpath(root)})
    files = [(file, folder.name) for folder in folders for file in walk(folder, above)]
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


def part_entries(root: Path) -> list[Path]:
    """The parts in a folder: folders called train, val ... that hold folders or tables, or tables so called."""
    entries = _entries(root)
    named = [entry for entry in entries if _part_name(entry) in PART_NAMES]
    folders = [entry for entry in entries if entry.is_dir()]
    if folders and all(folder in named for folder in folders):  # else a class is called train
        inside = (entry for folder in folders for entry in _entries(folder))
        if any(entry.is_dir() or entry.suffix.lower() in TABLE_SUFFIXES for entry in inside):
            return folders
    tables = [entry for entry in named if entry.is_file() and entry.suffix.lower() in TABLE_SUFFIXES]
    return tables if len(tables) > 1 or not folders else []


def _part_name(entry: Path) -> str:
    return (entry.name if entry.is_dir() else entry.stem).lower()


def _refuse_parts(root: Path) -> None:
    """train/ and val/ are no classes: say which folder to give."""
    if parts := part_entries(root):
        listed = _or([str(part) for part in parts]) if len(parts) > 1 else str(parts[0])
        raise DataError(
            f"{root} holds parts of a data set ({', '.join(part.name for part in parts)}), not classes. "
            f"Give one of them: {listed}."
        )


def check_files(paths: Sequence[Path]) -> list[str | None]:
    """Why each file is no usable photograph, or None."""
    return in_threads(file_problem, paths)


def _report(bad: Bad, total: int, source: str, on_error: OnError, unit: str) -> None:
    if bad and on_error == "fail":
        raise bad_files_error(bad, total, source, unit=unit)


# --- tables
def _open_table(
    path: Path,
    kind: Kind | None,
    text: str | None,
    label: str | None,
    classes: Sequence[str] | None,
    on_error: OnError,
) -> Dataset:
    table = read_table(path, text=text, label=label)
    photographs = column_of(table, lambda cell: cell.lower().endswith(IMAGE_SUFFIXES))
    if kind == "image" and photographs is None:
        raise DataError(
            f"{path} names no photographs: give a folder with one folder of photographs for each class, or a "
            f"table with a column of their files ({', '.join(IMAGE_SUFFIXES[:2])}, ...) and one of their labels"
        )
    if photographs is not None and kind != "text" and text in (None, photographs):
        return _open_photographs(path, table, photographs, label, classes, on_error)
    found = examples(table, text=text, label=label)
    _report(list(found.bad), found.total, str(path), on_error, "rows")
    source = f"{path} (text: {found.columns[0]}, label: {found.columns[1]})"
    targets, names = encode_labels(found.labels, classes, source)
    return Dataset("text", list(found.texts), targets, names, source, found.bad)


def _open_photographs(
    path: Path,
    table: Table,
    column: str,
    label: str | None,
    classes: Sequence[str] | None,
    on_error: OnError,
) -> Dataset:
    """A table of photographs' files, which count from the table's own folder, and their labels."""
    found = examples(table, text=column, label=label)
    files = [path.parent / file.strip() for file in found.texts]
    problems = check_files(files)
    bad = [*found.bad, *((str(file), why) for file, why in zip(files, problems, strict=True) if why)]
    _report(bad, found.total, str(path), on_error, "rows")
    labels = [name for name, why in zip(found.labels, problems, strict=True) if not why]
    source = f"{path} (photographs: {column}, label: {found.columns[1]})"
    targets, names = encode_labels(labels, classes, source)
    good: list[Input] = [file for file, why in zip(files, problems, strict=True) if not why]
    return Dataset("image", good, targets, names, source, tuple(bad))


# --- Parquet and Hugging Face datasets
def _only_split(data: object) -> LoadedSplit:
    if isinstance(data, LoadedSplit):
        return data
    source = str(data) if isinstance(data, str | Path) else "the given data"
    found = typed_tables.load(data)
    if len(found) > 1:
        raise DataError(
            f"{source} holds parts of a data set ({', '.join(found)}): give one of them, or give the whole to what "
            "uses its parts (train, evaluate, compare, select)"
        )
    return LoadedSplit(next(iter(found.values())), source)


def _open_typed(
    split: LoadedSplit,
    kind: Kind | None,
    text: str | None,
    label: str | None,
    classes: Sequence[str] | None,
    on_error: OnError,
) -> Dataset:
    data, source = split.data, split.source
    found = typed_tables.kind_of(data, source, kind=kind, text=text)
    if found == "image":
        read = typed_tables.read_images(data, source, label=label)
        return _dataset(
            "image", read.inputs, read.labels, classes or read.classes, source, on_error, read.label
        )
    texts, names = typed_tables.read_texts(data, source, text=text, label=label)
    _report(list(texts.bad), texts.total, source, on_error, "rows")
    source = f"{source} (text: {texts.columns[0]}, label: {texts.columns[1]})"
    targets, order = encode_labels(texts.labels, classes or names, source)
    return Dataset("text", list(texts.texts), targets, order, source, texts.bad)


# --- pairs of arrays
def _open_pair(
    pair: tuple[object, ...], kind: Kind | None, classes: Sequence[str] | None, on_error: OnError
) -> Dataset:
    if len(pair) != 2:
        raise DataError(f"data is a tuple of {len(pair)}: give a pair (inputs, labels)")
    inputs, labels = pair
    items, answers = items_of(inputs, "inputs"), items_of(labels, "labels")
    if len(items) != len(answers):
        raise DataError(f"{len(items)} inputs and {len(answers)} labels: give one label for each input")
    refuse_matrix(labels, "the given labels")
    found = kind or _kind(items)
    return _dataset(found, items, answers, classes, "arrays", on_error, "the given labels")


def _dataset(
    kind: Kind,
    items: Sequence[object],
    answers: Sequence[object],
    classes: Sequence[str] | None,
    source: str,
    on_error: OnError,
    where: str,
) -> Dataset:
    """What can be used of inputs and their labels.  where: what holds the labels, for messages."""
    refuse_other_targets(answers, where)
    bad: Bad = []
    good: list[Input] = []
    names: list[str] = []
    for i, (item, why) in enumerate(zip(*_checked(items, kind), strict=True)):
        why = why or _pair_label_problem(answers[i])
        if why:
            bad.append((str(item) if isinstance(item, Path | EncodedImage) else f"input {i}", why))
            continue
        good.append(item)
        names.append(label_text(answers[i]))
    given = source == "arrays"
    _report(bad, len(items), "the given arrays" if given else source, on_error, "inputs" if given else "rows")
    targets, order = encode_labels(names, classes, "the given data" if given else source)
    return Dataset(kind, good, targets, order, source, tuple(bad))


def items_of(values: object, name: str) -> list[object]:
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
    return found, in_threads(no_image, found)


def _no_text(item: object) -> str:
    missing = item is None or isinstance(item, str) or (isinstance(item, float) and item != item)
    return "has an empty text" if missing else f"is a {type(item).__name__}, not a string"


def no_image(item: object) -> str | None:
    """Why an item is no usable photograph, or None."""
    if isinstance(item, Image.Image):
        return None
    if isinstance(item, Path):
        return file_problem(item)
    if isinstance(item, EncodedImage):
        return encoded_problem(item)
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
