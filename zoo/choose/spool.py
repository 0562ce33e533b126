"""A data set as files that a worker process can read: its inputs by path, what is in memory written out.

Portable, the folder holds all of it, so that it can be sent to another machine.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from zoo.data import Dataset, Input
from zoo.data.dataset import EncodedImage
from zoo.engine import Array
from zoo.errors import DataError
from zoo.files import atomic_file, storage_error

ORIENTATION = 0x0112
PARTS = ("train", "judged")
AS_PNG = ("1", "L", "LA", "P", "RGB", "RGBA", "I", "I;16")


def names(parts: Sequence[str] = PARTS) -> tuple[str, ...]:
    """The files and folders in which these data sets lie."""
    return tuple(name for part in parts for name in (f"{part}.json", part))


def write(data: Dataset, folder: Path, name: str, *, portable: bool = False) -> Path:
    """`folder`/`name`.json, and photographs that lie in memory beside it. Raises StorageError, DataError.

    portable: photographs that are files are linked to in `folder`/`name`, and named by where they are in the folder.
    """
    inputs = [_written(item, folder / name, number) for number, item in enumerate(data.inputs)]
    if portable and data.kind == "image":
        inputs = [_linked(Path(path), folder, name, number) for number, path in enumerate(inputs)]
    values = {
        "kind": data.kind,
        "inputs": inputs,
        "targets": data.targets.tolist(),
        "classes": list(data.classes),
        "source": data.source,
    }
    path = folder / f"{name}.json"
    with atomic_file(path) as new:
        new.write_text(json.dumps(values), encoding="utf-8", errors="surrogatepass")
    return path


def read(path: Path) -> Dataset:
    """What `write` wrote."""
    values = json.loads(path.read_text(encoding="utf-8", errors="surrogatepass"))
    inputs: list[Input] = values["inputs"]
    if values["kind"] == "image":
        inputs = [path.parent / str(item) for item in inputs]  # one that is absolute stays what it is
    targets = np.array(values["targets"], np.int64)
    return Dataset(values["kind"], inputs, targets, tuple(values["classes"]), values["source"])


def _linked(path: Path, folder: Path, name: str, number: int) -> str:
    """Its place in the folder."""
    if path.is_relative_to(folder.absolute()):
        return path.relative_to(folder.absolute()).as_posix()
    link = folder / name / f"{number}{path.suffix.lower()}"
    try:
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(path)
    except OSError as error:
        raise storage_error(link, error) from error
    return link.relative_to(folder).as_posix()


def _written(item: Input, stem: Path, number: int) -> str:
    """The text itself, or an absolute path."""
    if isinstance(item, str):
        return item
    if isinstance(item, Path):
        return str(item.absolute())
    path = stem / f"{number}.png"
    if path.is_file():  # a resumed run's: it asks the same question about the same data
        return str(path.absolute())
    with atomic_file(path) as new:
        if isinstance(item, EncodedImage):
            with item.open() as file:
                new.write_bytes(file.read())  # whatever its format: readers go by content
        else:
            _save(item, new, number)
    return str(path.absolute())


def _save(item: Image.Image | Array, path: Path, number: int) -> None:
    if isinstance(item, Image.Image):
        if item.mode not in AS_PNG:
            raise DataError(f"image {number} has mode {item.mode}: convert it first, image.convert('RGB')")
        exif = Image.Exif()
        if (turned := item.getexif().get(ORIENTATION)) is not None:
            exif[ORIENTATION] = turned
        item.save(path, "PNG", exif=exif)
        return
    pixels = item[:, :, 0] if item.ndim == 3 and item.shape[2] == 1 else item
    Image.fromarray(pixels).save(path, "PNG")
