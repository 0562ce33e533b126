"""Keras weight files that lack some of a network's weights: which ones, and loading what there is.

A file and a model are compared weight by weight under one name each, in the file's own terms: of `.weights.h5`
and `.keras` the path inside, of older `.h5` files the layer's name and the weight's place in it. A gap is offered
only where it is one: nothing misshapen, nothing foreign, and most of the network there.
"""

from __future__ import annotations

import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from zoo.engine import Array
from zoo.errors import WeightsCorruptError
from zoo_tf.network import layer_names, to_snake_case
from zoo_tf.start import keras

SHOWN = 20
Wanted = Mapping[str, tuple[str, Any]]
"""Name in the file -> (name to show, variable)."""


@dataclass(frozen=True)
class Gap:
    """What a file has for a model, and what it lacks. values: (variable, its value)."""

    model: keras.Model
    values: tuple[tuple[Any, Array], ...]
    missing: tuple[str, ...]

    def fill(self, path: Path, *, partial: bool) -> None:
        """Load what is there, with a warning that names the rest. Raises WeightsCorruptError unless `partial`."""
        names = ", ".join(self.missing[:SHOWN])
        names += f" and {len(self.missing) - SHOWN} more" if len(self.missing) > SHOWN else ""
        if not partial:
            raise WeightsCorruptError(
                f"{path} lacks {len(self.missing)} of this network's weights: {names}. "
                "--partial (partial=True) goes on, with those at random."
            )
        for variable, value in self.values:
            variable.assign(value)
        for layer in self.model.layers:
            if isinstance(layer, keras.layers.Normalization):
                layer.finalize_state()  # it computes with constants made from its variables
        warnings.warn(f"{path} lacks weights, which stay random: {names}", UserWarning, stacklevel=5)


def of_saved(path: Path, model: keras.Model) -> Gap | None:
    """The gap of a `.weights.h5` or `.keras` file, or None where it is no such thing."""
    try:
        if path.suffix == ".keras":
            with zipfile.ZipFile(path) as archive, archive.open("model.weights.h5") as inner:
                return _of_saved(inner, model)
        with path.open("rb") as plain:
            return _of_saved(plain, model)
    except (OSError, KeyError, RuntimeError):
        return None


def _of_saved(stream: Any, model: keras.Model) -> Gap | None:
    found: dict[str, Array] = {}

    def visit(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset) and not name.startswith(("optimizer", "_operations")):
            found[name] = np.asarray(item)

    with h5py.File(stream, "r") as file:
        file.visititems(visit)
    return _gap(model, dict(_saved(model)), found)


def of_legacy(path: Path, model: keras.Model) -> Gap | None:
    """The gap of an older `.h5` file, or None where it is no such thing, or where nameless layers (Keras calls
    them conv2d_5 by a counter of the process) do not tell which ones are missing."""
    with h5py.File(path, "r") as file:
        layers = {name: [np.asarray(array) for array in arrays] for name, arrays in legacy_layers(file)}
    names = {lasting: model.get_layer(layer) for layer, lasting in layer_names(model).items()}
    nameless = {
        name
        for name, layer in names.items()
        if layer.weights and re.fullmatch(rf"{to_snake_case(type(layer).__name__)}_\d+", name)
    }
    wanted = {
        f"{name}/{index}": (f"{name}/{variable.name}", variable)
        for name, layer in names.items()
        for index, variable in enumerate(legacy_weights(layer))
    }
    renamed = _lasting(list(layers), {re.sub(r"_\d+$", "", name) for name in nameless})
    if nameless - set(renamed.values()):
        return None
    found = {f"{renamed[n]}/{i}": array for n, arrays in layers.items() for i, array in enumerate(arrays)}
    return _gap(model, wanted, found)


def _lasting(names: list[str], bases: set[str]) -> dict[str, str]:
    """The file's names -> with nameless layers counted from 0 within the file."""
    counts: dict[str, int] = {}
    renamed = {}
    for name in names:
        base = re.sub(r"_\d+$", "", name)
        if base in bases:
            renamed[name] = f"{base}_{counts.setdefault(base, 0)}"
            counts[base] += 1
        else:
            renamed[name] = name
    return renamed


def _gap(model: keras.Model, wanted: Wanted, found: Mapping[str, Array]) -> Gap | None:
    missing = [shown for name, (shown, _) in wanted.items() if name not in found]
    there = {name: variable for name, (_, variable) in wanted.items() if name in found}
    fits = all(tuple(variable.shape) == found[name].shape for name, variable in there.items())
    if not missing or not fits or len(missing) > len(wanted) / 2 or found.keys() - wanted.keys():
        return None
    return Gap(model, tuple((variable, found[name]) for name, variable in there.items()), tuple(missing))


def _saved(model: keras.Model, prefix: str = "") -> Iterator[tuple[str, tuple[str, Any]]]:
    """Keras 3's paths: layers by class, numbered within the model, and a layer's variables in its own order."""
    counts: dict[str, int] = {}
    names = layer_names(model)
    for layer in model.layers:
        kind = to_snake_case(type(layer).__name__)
        number = counts[kind] = counts.get(kind, -1) + 1
        path = f"{prefix}layers/{kind}" + (f"_{number}" if number else "")
        if isinstance(layer, keras.Model):
            yield from _saved(layer, f"{path}/")
            continue
        for index, variable in enumerate(legacy_weights(layer)):
            yield f"{path}/vars/{index}", (f"{names[layer.name]}/{variable.name}", variable)
        for variable in layer.non_trainable_variables:
            if variable.name == "seed_generator_state":
                yield f"{path}/seed_generator/vars/0", (f"{names[layer.name]}/seed", variable)


# --- older files
def legacy_weights(layer: keras.Layer) -> list[Any]:
    """A layer's weights in the order of the older files, and of Keras 3's within a layer."""
    return [*layer.trainable_weights, *layer.non_trainable_weights]


def legacy_layers(file: h5py.File) -> Iterator[tuple[str, list[h5py.Dataset]]]:
    """Layers with weights, in the file's order."""
    inside = "layer_names" not in file.attrs and "layer_names0" not in file.attrs and "model_weights" in file
    group = file["model_weights"] if inside else file
    for name in _texts(group.attrs, "layer_names"):
        if weights := _texts(group[name].attrs, "weight_names"):
            yield name, [group[name][weight] for weight in weights]


def _texts(attributes: Mapping[str, Any], name: str) -> list[str]:
    """Names; Keras splits a list that HDF5 has no room for into name0, name1, ..."""
    if name in attributes:
        values = list(attributes[name])
    else:
        values = []
        while f"{name}{len(values)}" in attributes:
            values.append(attributes[f"{name}{len(values)}"])
        if not values:
            raise KeyError(f"no {name} in the file")
        values = [value for part in values for value in part]
    return [value.decode() if isinstance(value, bytes) else str(value) for value in values]
