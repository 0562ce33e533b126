"""From what a person names (a saved run, an ONNX file, an id) to the object that answers; and presets for
ONNX files that do not say how their input is prepared.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.cards import Preprocess, preprocess_from_dict
from zoo.data.presets import PRESETS
from zoo.errors import InputError, ModelFileError

if TYPE_CHECKING:
    from zoo.backbone import Backbone
    from zoo.graph import OnnxModel


def open_model(
    name: str, *, preprocess: str | None = None, threads: int | None = None
) -> Backbone | OnnxModel:
    """An OnnxModel for a file, a Backbone for a saved run or an id. Only the latter import a framework."""
    path = Path(name)
    if not is_onnx(path):
        if preprocess is not None:
            raise InputError(f"--preprocess is for ONNX files; {name} knows how its inputs are prepared")
        return open_backbone(name)
    from zoo.graph import OnnxModel

    chosen = None if preprocess is None else preprocess_option(preprocess, path)
    return OnnxModel(path, preprocess=chosen, threads=threads)


def is_onnx(path: Path) -> bool:
    """Whether the name is meant as an ONNX file."""
    return path.suffix.lower() == ".onnx"


def open_backbone(name: str, *, partial: bool = False) -> Backbone:
    """A Backbone from a saved run's folder or an id; imports its framework.

    partial: take weights that lack some of the network's keys (a saved run never does).
    """
    from zoo import backbone

    path = Path(name)
    if (path / "zoo.json").is_file():
        return backbone.load(path)
    if ":" not in name and path.is_dir():
        raise ModelFileError(
            f"{name} is no saved run: it has no zoo.json. `zoo train ... -o {name}` writes one; a framework's "
            f"own folder of weights is named like torch:{name}, tf:{name} or hf:{name}."
        )
    if ":" not in name and ("/" in name or path.suffix):
        raise ModelFileError(f"there is no run and no file {name}: check the path; `zoo list` shows ids")
    return backbone.get(name, partial=partial)


def preprocess_option(text: str, path: Path) -> Preprocess:
    """tf, torch or caffe (with `:299` for another size than the graph says), or a JSON file."""
    name, _, size = text.partition(":")
    if name in PRESETS and (not size or size.isdigit()):
        pixels = int(size) if size else _graph_size(path)
        return PRESETS[name] if pixels is None else PRESETS[name].at_size(pixels)
    file = Path(text)
    if not file.is_file():
        raise InputError(
            f"--preprocess {text}: {', '.join(PRESETS)} (with a size if the graph has none: torch:299), "
            "or a JSON file that describes it"
        )
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{file} is no JSON: {error}") from error
    if not isinstance(values, dict):
        raise InputError(f"{file}: a JSON object with the fields of ImagePreprocess or TextPreprocess")
    defaults = {} if values.get("kind") != "image" else dataclasses.asdict(PRESETS["torch"])
    return preprocess_from_dict({**defaults, **values})


def _graph_size(path: Path) -> int | None:
    """The fixed height of the graph's image input (NCHW), or None where it is free."""
    from zoo.graph.session import load_proto

    for graph_input in load_proto(path).graph.input:
        dimensions = graph_input.type.tensor_type.shape.dim
        if len(dimensions) == 4:
            sizes = [d.dim_value for d in dimensions[1:]]
            spatial = sizes[:2] if sizes[-1] == 3 else sizes[1:]
            return spatial[0] or None
    return None
