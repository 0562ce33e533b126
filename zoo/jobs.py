"""What a framework's worker process does on request: load a backbone and write its ONNX graph.

The main process imports no framework; it calls these by name through `zoo.process.Worker`, with JSON in
and JSON out.
"""

from __future__ import annotations

import dataclasses
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from zoo import backbone, reads, registry
from zoo.cards import ModelId
from zoo.errors import WeightsUnavailableError
from zoo.graph import kept
from zoo.train.exports import Export, backbone_key, can_be_cached, write

RANDOM = "random weights: the pretrained ones cannot be reached, and cost does not depend on them"


def export(
    model: str,
    path: str,
    depths: list[int] | None = None,
    num_classes: int | None = None,
    random_if_unreachable: bool = False,
) -> dict[str, Any]:
    """Load `model` (an id, or a saved run's folder) and write its graph to `path`, from the cache where it is there.

    depths: units to cut at, [] for every one the network has, None for one uncut graph.
    num_classes: a fresh head instead of the checkpoint's own. random_if_unreachable: take random weights
    where the pretrained ones cannot be reached, and say so under "note".
    Gives what to do with the file, and for the cache: "kept", its name there or None; "made", whether an exporter
    ran; "reads", what loading rested on (`zoo.reads`), None where that is not known; "said", the cache's warnings.
    """
    with reads.noted() as found, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = _export(model, Path(path), depths, num_classes, random_if_unreachable)
    told = registry.adapter(ModelId.parse(result["id"]).framework).notes_reads and not result["note"]
    said = [str(warning.message) for warning in caught if issubclass(warning.category, kept.CacheWarning)]
    return {**result, "path": path, "reads": found if told else None, "said": said}


def _export(
    model: str, path: Path, depths: list[int] | None, num_classes: int | None, random_if_unreachable: bool
) -> dict[str, Any]:
    cuts: tuple[int, ...] = ()
    if (Path(model) / "zoo.json").is_file():
        reads.note(model)
        loaded, note = backbone.load(model), ""
    else:
        loaded, note = _get(registry.resolve(model), num_classes, random_if_unreachable)
        cuts = () if depths is None else tuple(depths or loaded.engine.depths)
    if loaded.calibration is not None:  # it is written into a file of its own
        loaded.export(path)
        done = Export(None, made=False)
    else:
        done = write(
            loaded.engine, path, model_id=str(loaded.id), versions=loaded.versions(), depths=cuts, link=True
        )
    name = done.cached.name if done.cached is not None else None
    answer: dict[str, Any] = {
        "depths": list(cuts),
        "note": note,
        "id": str(loaded.id),
        "kept": name,
        "made": done.made,
    }
    return {**answer, **_features(loaded)}


def save_with_head(model: str, head: str, labels: list[str], folder: str) -> None:
    """Load `model` (an id, or a saved run's folder), put a head on it and write what `zoo.load` reads to `folder`.

    head: an .npz file with weight float32 [C, D] and bias float32 [C].
    """
    saved = (Path(model) / "zoo.json").is_file()
    loaded = backbone.load(model) if saved else backbone.get(model, num_classes=len(labels))
    loaded.replace_head(len(labels), labels=labels)
    with np.load(head) as values:
        loaded.engine.set_head(values["weight"], values["bias"])
    loaded.engine.labels = tuple(labels)
    loaded.save(folder)


def _features(model: backbone.Backbone) -> dict[str, Any]:
    """features_key: what cached features of the whole backbone go by, the same as in training; or None."""
    engine = model.engine
    known = can_be_cached(engine)
    return {"features_key": backbone_key(engine, engine.preprocess, model.versions()) if known else None}


def _get(
    model: ModelId, num_classes: int | None, random_if_unreachable: bool
) -> tuple[backbone.Backbone, str]:
    try:
        return backbone.get(str(model), num_classes=num_classes), ""
    except WeightsUnavailableError:
        if not random_if_unreachable:
            raise
    random = dataclasses.replace(model, weights="none")
    return backbone.get(str(random), num_classes=num_classes), RANDOM
