"""Keras weight files: found, judged before they are opened, loaded so that no code can run.

Only arrays are read: of a `.keras` archive the weights, never the configuration that Keras would execute.
"""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import h5py

from zoo import reads
from zoo.cards import WeightsCard
from zoo.errors import InputError, UnsafeWeightsError, WeightsCorruptError
from zoo.files import atomic_file
from zoo.weights import mirrored, unavailable
from zoo_tf import partial_files
from zoo_tf.start import keras

LABELS = "imagenet_class_index.json"
LABELS_URL = "https://storage.googleapis.com/download.tensorflow.org/data/imagenet_class_index.json"
HDF5, ZIP = b"\x89HDF\r\n\x1a\n", b"PK"
Build = Callable[[int | None], keras.Model]
"""Makes the native model for so many classes; None: without its top."""


def keras_cache() -> Path:
    """Where Keras keeps what it downloaded."""
    return Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras") / "models"


def official(cards: Sequence[WeightsCard]) -> tuple[Path, bool]:
    """The first of these files in the mirror, else the first one from Keras (its cache or its server), else
    another one from its cache. Also says whether it was downloaded now. Raises WeightsUnavailableError,
    WeightsCorruptError for a file in the mirror that is not what its digest says."""
    for card in cards:
        reads.note(keras_cache() / (card.file or ""))
    for card in cards:
        if card.file and (path := mirrored(card.file, sha256=card.sha256)):
            _check_md5(path, card)
            return path, False
    for card in cards[:1]:
        if card.file and (keras_cache() / card.file).exists():
            return keras_cache() / card.file, False
    try:
        return download(cards[0].file or "", cards[0].url or "", digest=cards[0].sha256 or cards[0].md5), True
    except Exception as error:  # Keras raises a bare Exception for a failed download
        for card in cards:
            if card.file and (keras_cache() / card.file).exists():
                return keras_cache() / card.file, False
        raise unavailable(cards[0].file or "", cards[0].url, error) from error


def _check_md5(path: Path, card: WeightsCard) -> None:
    """Keras gives this digest alone for most of its files."""
    if card.md5 is None or card.sha256 is not None:
        return
    with path.open("rb") as file:
        found = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if found != card.md5:
        raise WeightsCorruptError(
            f"{path} is not the official {card.file}: its MD5 is {found}, the official one {card.md5}. "
            "Copy the file again; it was not loaded."
        )


def download(file: str, url: str, *, digest: str | None = None) -> Path:
    """Through Keras's own loader into its cache; a file appears there only when it is whole.

    digest: a whole SHA-256 or MD5, which Keras checks; the first digits of one are passed over.
    """
    target = keras_cache() / file
    whole = digest if digest and len(digest) in (32, 64) else None
    with atomic_file(target) as temporary:
        temporary.unlink()  # get_file takes what is there for the finished download
        keras.utils.get_file(
            temporary.name, url, cache_dir=str(temporary.parent), cache_subdir="", file_hash=whole
        )
    return target


def imagenet_labels(*, may_download: bool) -> tuple[str, ...] | None:
    """The 1000 names in order, from the mirror or Keras's cache, or None where they are not in reach."""
    path = mirrored(LABELS) or keras_cache() / LABELS
    reads.note(path)
    if not path.exists() and may_download:
        try:
            path = download(LABELS, LABELS_URL)
        except Exception:  # noqa: BLE001 - names are a comfort: the model works without
            return None
    if not path.exists():
        return None
    table = json.loads(path.read_text(encoding="utf-8"))
    return tuple(table[str(index)][1] for index in range(len(table)))


def load_into(path: Path, build: Build, *, classes: int, partial: bool = False) -> tuple[keras.Model, bool]:
    """A native model with the file's weights, and whether it has a top.

    partial: a file that lacks some of the network's weights is taken; they stay as built, a warning names them.
    Raises UnsafeWeightsError, WeightsCorruptError (says which layer differs), InputError.
    """
    judge(path)
    if path.suffix == ".keras" or path.name.endswith(".weights.h5"):
        return _load_saved(path, build, classes, partial)
    return _load_legacy(path, build, partial)


def judge(path: Path) -> None:
    """Look at a file's bytes before any loader does. Raises what `load_into` raises."""
    reads.note(path)
    if not path.is_file():
        raise InputError(f"no weight file {path}: give the path of a .h5, .weights.h5 or .keras file")
    with path.open("rb") as file:
        start = file.read(8)
    if start.startswith(ZIP):
        _judge_archive(path)
    elif start[:1] == b"\x80":
        raise UnsafeWeightsError(
            f"{path} is a Python pickle, not Keras weights: loading it could run any code. It was not "
            "loaded. Ask for a .h5, .weights.h5 or .keras file."
        )
    elif start != HDF5:
        raise WeightsCorruptError(
            f"{path} is no HDF5 file and no .keras archive: it was cut off, or is something else. "
            "Download it again."
        )


def _judge_archive(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            config = archive.read("config.json").decode("utf-8") if "config.json" in names else ""
    except (zipfile.BadZipFile, UnicodeDecodeError, OSError) as error:
        raise WeightsCorruptError(f"{path} is cut off or damaged: {error}. Download it again.") from error
    if any(name.endswith((".pkl", ".pickle")) for name in names):
        raise UnsafeWeightsError(
            f"{path} holds a Python pickle: loading it could run code. It was not loaded."
        )
    if "__lambda__" in config or '"Lambda"' in config:
        raise UnsafeWeightsError(
            f"{path} holds a Lambda layer: code of its author's, which Keras would run. It was not loaded. "
            "Save the model's weights alone (save_weights, .weights.h5) and give that file."
        )
    if "model.weights.h5" not in names:
        raise WeightsCorruptError(f"{path} holds no model.weights.h5: it is no whole .keras file.")


def _load_saved(path: Path, build: Build, classes: int, partial: bool) -> tuple[keras.Model, bool]:
    """Keras 3's own formats, with a top of `classes` classes or without one."""
    reasons, gaps = [], []
    for count in (classes, None):
        try:
            model = build(count)
        except InputError:
            if count is None:
                raise
            continue  # a size that does without the top only
        try:
            model.load_weights(str(path))
            return model, count is not None
        except (ValueError, KeyError, OSError, RuntimeError, TypeError) as error:
            reasons.append(" ".join(str(error).split())[:300])
            cause = error
        if (gap := partial_files.of_saved(path, model)) is not None:
            gaps.append((len(gap.missing), count is None, gap, model))
    if gaps:
        _, plain, gap, model = min(gaps, key=lambda found: found[:2])
        gap.fill(path, partial=partial)
        return model, not plain
    raise WeightsCorruptError(
        f"{path} does not fit this network: with its top: {reasons[0]}; without: {reasons[-1]}"
    ) from cause


def _load_legacy(path: Path, build: Build, partial: bool) -> tuple[keras.Model, bool]:
    """The HDF5 files of keras.applications: layers in order, compared before Keras reads them."""
    try:
        with h5py.File(path, "r") as file:
            found = _layers_of_file(file)
    except (OSError, KeyError, RuntimeError) as error:
        raise WeightsCorruptError(f"{path} is cut off or damaged: {error}. Download it again.") from error
    top = _has_top(found)
    model = build(found[-1][1][-1][-1] if top else None)
    try:
        _compare(path, found, _layers_of_model(model))
        model.load_weights(str(path))
    except WeightsCorruptError:
        if (gap := partial_files.of_legacy(path, model)) is None:
            raise
        gap.fill(path, partial=partial)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise WeightsCorruptError(f"{path} is cut off or damaged: {error}. Download it again.") from error
    return model, top


Layers = list[tuple[str, list[tuple[int, ...]]]]


def _has_top(layers: Layers) -> bool:
    """Whether the file ends in a classifier: a Dense, or a 1 x 1 convolution with a bias."""
    shapes = layers[-1][1] if layers else []
    if len(shapes) != 2 or len(shapes[1]) != 1:
        return False
    return len(shapes[0]) == 2 or (len(shapes[0]) == 4 and shapes[0][:2] == (1, 1))


def _layers_of_file(file: h5py.File) -> Layers:
    return [
        (name, [tuple(array.shape) for array in arrays]) for name, arrays in partial_files.legacy_layers(file)
    ]


def _layers_of_model(model: keras.Model) -> Layers:
    return [
        (layer.name, [tuple(v.shape) for v in partial_files.legacy_weights(layer)])
        for layer in model.layers
        if layer.weights
    ]


def _compare(path: Path, found: Layers, wanted: Layers) -> None:
    for (name, shapes), (own, own_shapes) in zip(found, wanted, strict=False):
        # Keras itself transposes nothing: the shapes of its files are those of its variables, in order.
        if shapes != own_shapes:
            raise WeightsCorruptError(
                f"{path} belongs to another network: its layer {name} holds {shapes}, "
                f"this network's layer {own} takes {own_shapes}."
            )
    if len(found) != len(wanted):
        raise WeightsCorruptError(
            f"{path} belongs to another network: it holds {len(found)} layers, this one has {len(wanted)}."
        )
