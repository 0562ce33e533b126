"""Parquet files and Hugging Face datasets: tables whose columns say what they hold.

Read by `datasets`, which keeps the rows in Arrow files on disk: photographs stay encoded there until a batch
wants them. Class names are those of the ClassLabel column, in its order. Nothing of a data set is run.
"""

from __future__ import annotations

import contextlib
import functools
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

from zoo.data import tables
from zoo.data.dataset import EncodedImage, Input, Kind, listing
from zoo.data.tables import LABEL_NAMES, Table, did_you_mean
from zoo.errors import DataError, FrameworkMissingError

HUB = "hf:"
PARQUET = (".parquet", ".pq")
SAVED = ("dataset_dict.json", "state.json")
IMAGE_NAMES = ("image", "img", "photo", "picture", "file", "path", "image_path", "filename", "file_name")


@dataclass(frozen=True, eq=False)
class LoadedSplit:
    """A split that is loaded already.  source: its name in messages and reports."""

    data: HfDataset
    source: str


class HfDataset(Protocol):
    """What is used of a `datasets.Dataset`."""

    features: Any
    column_names: list[str]

    def __len__(self) -> int: ...
    def __getitem__(self, key: Any) -> Any: ...
    def select_columns(self, names: list[str]) -> Any: ...
    def with_format(self, name: str) -> Any: ...


# --- loading
def is_typed(data: object) -> bool:
    """Whether this is for this module: a Parquet file, a folder of `save_to_disk` or of Parquet files, an id
    `hf:org/name`, or an object of `datasets`.
    """
    if not isinstance(data, str | Path):
        return type(data).__module__.partition(".")[0] == "datasets"
    if str(data).startswith(HUB):
        return True
    path = Path(data).expanduser()
    if path.is_dir():
        return any((path / name).is_file() for name in SAVED) or _holds_parquet(path)
    return path.suffix.lower() in PARQUET and path.is_file()


def _holds_parquet(folder: Path) -> bool:
    """Parquet files in it or one folder below (the Hub's `data/train-00000-of-00001.parquet`)."""
    return any(file.suffix.lower() in PARQUET for level in ("*", "*/*") for file in folder.glob(level))


def load(data: object) -> Mapping[str, HfDataset]:
    """The splits by name; {"": it} for a data set without splits, or with one only.

    Raises DataError (not there, not readable, several configurations), FrameworkMissingError.
    """
    library = _library()
    with _quiet(library):
        loaded = _loaded(library, data)
    if isinstance(loaded, library.IterableDataset | library.IterableDatasetDict):
        raise DataError("a data set that streams has no length and no order: load it without streaming=True")
    if not isinstance(loaded, Mapping):
        return {"": loaded}
    return dict(loaded) if len(loaded) != 1 else {"": next(iter(loaded.values()))}


def is_labelled(data: HfDataset) -> bool:
    """False where every label of the only ClassLabel column is missing, as in the test split of a contest."""
    classes = [name for name, feature in data.features.items() if _type_of(feature) == "class"]
    if len(classes) != 1:
        return True
    return any(value not in (None, -1) for value in data.select_columns(classes)[:][classes[0]])


def _library() -> Any:
    try:
        import datasets  # type: ignore[import-untyped, unused-ignore]
    except ModuleNotFoundError as error:
        if error.name not in ("datasets", "pyarrow"):
            raise
        raise FrameworkMissingError(
            f"Parquet files and Hugging Face datasets are read by `datasets`, which is not installed (no module "
            f"{error.name!r}): pip install 'backbone-zoo[train]'"
        ) from error
    return datasets


@contextlib.contextmanager
def _quiet(library: Any) -> Iterator[None]:
    """Without progress bars and log lines: what goes wrong is in our own message."""
    shown, level = not library.utils.are_progress_bars_disabled(), library.logging.get_verbosity()
    library.disable_progress_bars()
    library.logging.set_verbosity(library.logging.CRITICAL)
    try:
        yield
    finally:
        library.logging.set_verbosity(level)
        if shown:
            library.enable_progress_bars()


def _loaded(library: Any, data: object) -> Any:
    if not isinstance(data, str | Path):
        return data
    if str(data).startswith(HUB):
        return _from_hub(library, str(data).removeprefix(HUB))
    path = Path(data).expanduser()
    try:
        if path.is_file():
            return library.Dataset.from_parquet(str(path))
        if any((path / name).is_file() for name in SAVED):
            return library.load_from_disk(str(path))
        return library.load_dataset(str(path))
    except (OSError, ValueError, library.exceptions.DatasetsError) as error:
        raise DataError(
            f"cannot read {path}: {_first_line(error)}. Check that the files are whole: copy or save them again."
        ) from error


def _from_hub(library: Any, text: str) -> Any:
    """`org/name[,config=NAME]`."""
    name, _, option = text.partition(",")
    key, _, config = option.partition("=")
    if option and (key.strip() != "config" or not config.strip()):
        raise DataError(f"cannot read {option!r} in {HUB}{text}: write {HUB}org/name[,config=NAME]")
    try:
        return library.load_dataset(name.strip(), config.strip() or None)
    except (library.exceptions.DatasetsError, OSError) as error:  # no such id, no network, a gated one
        raise DataError(
            f"cannot get the data set {name} from the Hugging Face Hub: {_first_line(error)}. Check its name and "
            "the network; without network save it once elsewhere (load_dataset(...).save_to_disk(FOLDER)) and "
            "give the folder."
        ) from error
    except ValueError as error:  # its configurations are listed in the message
        raise DataError(
            f"{HUB}{name}: {_first_line(error)} Say which with {HUB}{name},config=NAME."
        ) from error
    except RuntimeError as error:  # a script of its own, which `datasets` no longer runs
        raise DataError(
            f"{HUB}{name} cannot be used: {_first_line(error)}. Nothing of it was run."
        ) from error


def _first_line(error: BaseException) -> str:
    cause = error.__cause__ or error
    text = next((line for line in str(cause).splitlines() if line.strip()), type(cause).__name__)
    return text.strip().rstrip(".")


# --- columns
def _type_of(feature: object) -> str:
    """ "class", "image", "bytes" (an image as bytes, or as a struct with them), or the type's own name."""
    name = type(feature).__name__
    if name == "ClassLabel":
        return "class"
    if name == "Image":
        return "image"
    if isinstance(feature, Mapping):
        return "bytes" if "bytes" in feature and set(feature) <= {"bytes", "path"} else "struct"
    if name in ("List", "LargeList", "Sequence"):
        return "list"
    dtype = str(getattr(feature, "dtype", name))
    return "bytes" if dtype in ("binary", "large_binary") else dtype


@dataclass(frozen=True)
class LabelledImages:
    """inputs: photographs.  labels: names or numbers, None where missing.  classes: as the data set names them.
    label: the column of the labels, for messages.
    """

    inputs: list[Input]
    labels: list[object]
    classes: tuple[str, ...] | None
    label: str


def read_images(data: HfDataset, source: str, *, label: str | None) -> LabelledImages:
    """Photographs and labels, unchecked. Raises DataError where no column holds them."""
    types = {name: _type_of(feature) for name, feature in data.features.items()}
    column = _image_column(types, source)
    chosen = label or _label_column(types, source)
    if chosen not in types:
        raise DataError(
            f"{source} has no column {chosen!r}. {_columns(types)}{did_you_mean(chosen, list(types))}"
        )
    labels = list(_named(data, chosen))
    inputs = _photographs(data, column, source)
    return LabelledImages(inputs, labels, _class_names(data, chosen), f"{source}, {chosen!r}")


def kind_of(data: HfDataset, source: str, *, kind: Kind | None, text: str | None) -> Kind:
    """What its examples are: photographs where a column holds some, else texts."""
    types = [_type_of(feature) for feature in data.features.values()]
    found: Kind = "image" if {"image", "bytes"} & set(types) and text is None else "text"
    texts = any("string" in name for name in types)
    if kind is not None and kind != found and not (kind == "text" and texts):
        raise DataError(f"{source} holds {found}s, and the model reads {kind}s. Give data of its kind.")
    return kind or found


def _columns(types: Mapping[str, str]) -> str:
    return "Its columns are " + ", ".join(f"{name!r} ({kind})" for name, kind in types.items()) + "."


def _image_column(types: Mapping[str, str], source: str) -> str:
    found = [name for name, kind in types.items() if kind == "image"]
    found = found or [name for name, kind in types.items() if kind == "bytes"]
    if len(found) > 1:
        found = [name for name in IMAGE_NAMES if name in found][:1] or found
    if len(found) != 1:
        raise DataError(
            f"{source} has several columns of photographs: {listing(found)}. Keep one: remove_columns(...) of "
            "`datasets` takes the others away."
        )
    return found[0]


def _label_column(types: Mapping[str, str], source: str) -> str:
    """The ClassLabel column, else one with a known name. Raises DataError listing what is there."""
    classes = [name for name, kind in types.items() if kind == "class"]
    among = classes or list(types)
    lower = {name.lower(): name for name in reversed(among)}
    named = next((lower[name] for name in LABEL_NAMES if name in lower), None)
    if len(classes) == 1 or named:
        return classes[0] if len(classes) == 1 else str(named)
    raise DataError(
        f"{source}: found no label column. {_columns(types)} Say which with label=NAME (--label NAME)."
    )


def _class_names(data: HfDataset, column: str) -> tuple[str, ...] | None:
    feature = data.features[column]
    return tuple(feature.names) if _type_of(feature) == "class" else None


# --- rows
def _photographs(data: HfDataset, column: str, source: str) -> list[Input]:
    """One EncodedImage (or Path) a row; nothing is read yet."""
    rows = data.select_columns([column]).with_format("arrow")
    name = Path(source.partition(" (")[0]).name
    return [EncodedImage(f"{name} row {i + 1}", functools.partial(_open, rows, i)) for i in range(len(data))]


def _open(rows: Any, index: int) -> IO[bytes]:
    """The photograph's bytes, or its file where the row only has a path. An empty cell is an empty file."""
    cell = rows[index].column(0)[0]
    if hasattr(cell, "keys"):
        fields = dict(cell.items()) if cell.is_valid else {}
        content, path = fields.get("bytes"), fields.get("path")
        if (content is None or not content.is_valid) and path is not None and path.is_valid:
            return Path(str(path.as_py())).open("rb")
        cell = content
    if cell is None or not cell.is_valid:
        return io.BytesIO()
    return io.BytesIO(cell.as_buffer())


def text_table(data: HfDataset, source: str) -> Table:
    """The columns that can hold texts and labels, classes by their names, as `zoo.data.tables` reads them."""
    types = {name: _type_of(feature) for name, feature in data.features.items()}
    kept = [name for name, kind in types.items() if kind not in ("image", "bytes", "struct")]
    columns = [_named(data, name) for name in kept]
    rows = tuple((i + 1, cells) for i, cells in enumerate(zip(*columns, strict=True)))
    return Table(Path(source), tuple(kept), rows, header=True, unit="row")


def _named(data: HfDataset, column: str) -> Sequence[object]:
    values: Sequence[object] = data.select_columns([column])[:][column]
    names = _class_names(data, column)
    if names is None:
        return values
    return [None if value in (None, -1) else names[int(str(value))] for value in values]


def text_columns(
    data: HfDataset, source: str, label: str | None
) -> tuple[str | None, tuple[str, ...] | None]:
    """(label column, its class names) for texts: given, or the ClassLabel column; (None, None) where unsaid."""
    types = {name: _type_of(feature) for name, feature in data.features.items()}
    classes = [name for name, kind in types.items() if kind == "class"]
    chosen = label or (_label_column(types, source) if classes else None)
    return chosen, _class_names(data, chosen) if chosen in types and chosen is not None else None


def read_texts(
    data: HfDataset, source: str, *, text: str | None, label: str | None
) -> tuple[tables.Examples, tuple[str, ...] | None]:
    """Texts, labels as class names, and the class names in their order where the data set states them."""
    chosen, names = text_columns(data, source, label)
    return tables.examples(text_table(data, source), text=text, label=chosen), names
