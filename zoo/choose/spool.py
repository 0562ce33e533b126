"""A data set as files that a worker process can read: its inputs by path, what is in memory written out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

from zoo.data import Dataset, Input
from zoo.data.dataset import EncodedImage
from zoo.engine import Array
from zoo.errors import DataError
from zoo.files import atomic_file

ORIENTATION = 0x0112
AS_PNG = ("1", "L", "LA", "P", "RGB", "RGBA", "I", "I;16")


def write(data: Dataset, folder: Path, name: str) -> Path:
    """`folder`/`name`.json, and photographs that lie in memory beside it. Raises StorageError, DataError."""
    inputs = [_written(item, folder / name, number) for number, item in enumerate(data.inputs)]
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
        inputs = [Path(str(item)) for item in inputs]
    targets = np.array(values["targets"], np.int64)
    return Dataset(values["kind"], inputs, targets, tuple(values["classes"]), values["source"])


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
