"""What travels inside the ONNX file beside the network, so that it can be used and checked on its own.

Five entries of the model's metadata_props, all JSON with sorted keys and no dates: two exports of the same
weights are the same bytes.

    zoo.preprocess   from a photograph or text to the input arrays
    zoo.labels       class names in the order of the logits (absent where they are unknown)
    zoo.provenance   id, framework, exporter, versions, weights_sha256, opset, parity figures
    zoo.golden       an input and the outputs that belong to it, for `verify`
    zoo.calibration  temperature, reject threshold and their figures (absent where it was not calibrated)
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx
from onnx import numpy_helper

from zoo.calibration import Calibration, calibration_from_dict, calibration_to_dict
from zoo.cards import Preprocess, preprocess_from_dict, preprocess_to_dict
from zoo.errors import InputError, ModelFileError
from zoo.graph.session import tensors

PREPROCESS, LABELS, PROVENANCE, GOLDEN = "zoo.preprocess", "zoo.labels", "zoo.provenance", "zoo.golden"
CALIBRATION = "zoo.calibration"


@dataclass(frozen=True)
class Metadata:
    """The five entries; None or empty where the file has none."""

    preprocess: Preprocess | None = None
    labels: tuple[str, ...] | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)
    golden: Mapping[str, Any] | None = None
    calibration: Calibration | None = None


def read(model: onnx.ModelProto, path: Path) -> Metadata:
    """The entries of a model. Raises ModelFileError where one is there and cannot be read."""
    entries = {entry.key: entry.value for entry in model.metadata_props}
    try:
        values = {
            key: json.loads(entries[key])
            for key in (PREPROCESS, LABELS, PROVENANCE, GOLDEN, CALIBRATION)
            if key in entries
        }
        preprocess = preprocess_from_dict(values[PREPROCESS]) if PREPROCESS in values else None
    except (json.JSONDecodeError, InputError, AttributeError) as error:
        raise ModelFileError(
            f"{path}: its Backbone Zoo metadata cannot be read ({error}). Export the model again."
        ) from error
    labels = values.get(LABELS)
    golden, calibration = values.get(GOLDEN), values.get(CALIBRATION)
    dicts = isinstance(golden, dict | None) and isinstance(calibration, dict | None)
    if not isinstance(labels, list | None) or not dicts:
        raise ModelFileError(f"{path}: its Backbone Zoo metadata has another shape. Export the model again.")
    return Metadata(
        preprocess,
        tuple(map(str, labels)) if labels else None,
        values.get(PROVENANCE, {}),
        golden,
        calibration and calibration_from_dict(calibration, str(path)),
    )


def write(model: onnx.ModelProto, metadata: Metadata) -> None:
    """Set the entries; those of others stay. The weights' digest is taken anew and put into the provenance."""
    provenance = {**metadata.provenance, "weights_sha256": weights_sha256(model)}
    values: dict[str, Any] = {
        PREPROCESS: metadata.preprocess and preprocess_to_dict(metadata.preprocess),
        LABELS: metadata.labels and list(metadata.labels),
        PROVENANCE: provenance,
        GOLDEN: metadata.golden,
        CALIBRATION: metadata.calibration and calibration_to_dict(metadata.calibration),
    }
    kept = {entry.key: entry.value for entry in model.metadata_props if entry.key not in values}
    kept |= {key: _json(value) for key, value in values.items() if value is not None}
    onnx.helper.set_model_props(model, dict(sorted(kept.items())))


def _json(value: object) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def weights_sha256(model: onnx.ModelProto) -> str:
    """Digest of every constant in the graph: type, shape and bytes, in the order of the graph."""
    digest = hashlib.sha256()
    for tensor in tensors(model):
        array = numpy_helper.to_array(tensor)
        digest.update(f"{tensor.data_type} {array.shape};".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def with_provenance(metadata: Metadata, changes: Mapping[str, Any]) -> Metadata:
    """The same metadata with entries of the provenance replaced."""
    return dataclasses.replace(metadata, provenance={**metadata.provenance, **changes})
