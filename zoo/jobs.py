"""What a framework's worker process does on request: load a backbone and write its ONNX graph.

The main process imports no framework; it calls these by name through `zoo.process.Worker`, with JSON in
and JSON out.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from zoo import backbone, registry
from zoo.cards import ModelId
from zoo.errors import WeightsUnavailableError
from zoo.graph import export_engine
from zoo.train.features import backbone_key, can_be_cached

RANDOM = "random weights: the pretrained ones cannot be reached, and cost does not depend on them"


def export(
    model: str,
    path: str,
    depths: list[int] | None = None,
    num_classes: int | None = None,
    random_if_unreachable: bool = False,
) -> dict[str, Any]:
    """Load `model` (an id, or a saved run's folder) and write its graph to `path`.

    depths: units to cut at, [] for every one the network has, None for one uncut graph.
    num_classes: a fresh head instead of the checkpoint's own. random_if_unreachable: take random weights
    where the pretrained ones cannot be reached, and say so under "note".
    """
    if (Path(model) / "zoo.json").is_file():
        loaded, note = backbone.load(model), ""
        loaded.export(path)
        return {"path": path, "depths": [], "note": note, "id": str(loaded.id), **_features(loaded)}
    loaded, note = _get(registry.resolve(model), num_classes, random_if_unreachable)
    cuts = () if depths is None else tuple(depths or loaded.engine.depths)
    export_engine(loaded.engine, Path(path), model_id=str(loaded.id), versions=loaded.versions(), depths=cuts)
    return {"path": path, "depths": list(cuts), "note": note, "id": str(loaded.id), **_features(loaded)}


def _features(model: backbone.Backbone) -> dict[str, Any]:
    """features_key: what cached features of the whole backbone go by, the same as in training; or None."""
    engine = model.engine
    kept = can_be_cached(engine)
    return {"features_key": backbone_key(engine, engine.preprocess, model.versions()) if kept else None}


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
