"""New files from one exported graph, without its framework: another head, only the first units, a calibration.

Both write whole files with a golden pair of their own, so each can be verified alone. Calibrating changes the
metadata alone.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

from zoo.calibration import Calibration
from zoo.cards import ModelId
from zoo.engine import Array
from zoo.errors import ExportMismatchError, InputError, ModelFileError
from zoo.files import atomic_file, cache_dir, sha256_file
from zoo.graph import metadata, samples, surgery
from zoo.graph.metadata import Metadata
from zoo.graph.parity import Yardstick, check_golden, largest_error, rounded
from zoo.graph.sealing import accepted, seal
from zoo.graph.session import load_proto, run_session
from zoo.graph.surgery import FEATURES, LOGITS


def write_head(
    source: Path, weight: Array, bias: Array, labels: Sequence[str] | None, path: Path | None
) -> Path:
    """`source` with logits = features @ weight.T + bias; see `OnnxModel.with_head`."""
    model, stored = _opened(source)
    if FEATURES not in surgery.names(model.graph.output):
        raise ModelFileError(
            f"{source} has no output {FEATURES!r} to put a head on"
            + (": cut it at one depth first (`cut_depth`)" if surgery.depths(model) else "")
        )
    weight, bias = _head_arrays(weight, bias, model, labels)
    surgery.set_head(model, weight, bias)
    session = accepted(model)
    figures = _check_head(session, weight, bias, stored)
    kept = {key: value for key, value in (stored.provenance.get("parity") or {}).items() if key != LOGITS}
    described = metadata.with_provenance(stored, {"parity": {**kept, LOGITS: figures}})
    # Another head is other logits: a calibration of the old ones does not hold for them.
    described = dataclasses.replace(described, labels=tuple(labels) if labels else None, calibration=None)
    path = path or _cached_head(source, weight, bias, labels)
    seal(model, described, session, path)
    return path


def write_headless(source: Path, path: Path) -> None:
    """`source` with `features` as its only output. Raises ModelFileError, ExportError, StorageError."""
    model, stored = _opened(source)
    if FEATURES not in surgery.names(model.graph.output):
        raise ModelFileError(f"{source} has no output {FEATURES!r}")
    surgery.keep_outputs(model, [FEATURES])
    session = accepted(model)
    seal(model, dataclasses.replace(stored, labels=None, calibration=None), session, path)


def write_calibration(source: Path, calibration: Calibration | None, path: Path) -> None:
    """`source` with this calibration in its metadata, as `path` (perhaps itself); the graph is not touched.

    Raises ModelFileError for a file that is not ours, StorageError.
    """
    model, stored = _opened(source)
    metadata.write(model, dataclasses.replace(stored, calibration=calibration))
    with atomic_file(path) as temporary:
        temporary.write_bytes(model.SerializeToString(deterministic=True))


def refuse_foreign(source: Path) -> None:
    """Raise ModelFileError for a file that Backbone Zoo did not write, before anything is computed with it."""
    _ours(source, metadata.read(load_proto(source), source))


def _opened(source: Path) -> tuple[onnx.ModelProto, Metadata]:
    model = load_proto(source, external_data=True)
    return model, _ours(source, metadata.read(model, source))


def _ours(source: Path, stored: Metadata) -> Metadata:
    if stored.preprocess is None:
        raise ModelFileError(
            f"{source} was not exported by Backbone Zoo (no metadata): it cannot be cut, calibrated or given a head"
        )
    return stored


def _head_arrays(
    weight: Array, bias: Array, model: onnx.ModelProto, labels: Sequence[str] | None
) -> tuple[Array, Array]:
    """float32 copies; raises InputError for shapes that do not fit the graph or each other."""
    weight, bias = np.array(weight, np.float32), np.array(bias, np.float32)
    (features,) = (value for value in model.graph.output if value.name == FEATURES)
    dim = features.type.tensor_type.shape.dim[-1].dim_value
    if weight.ndim != 2 or bias.shape != weight.shape[:1] or weight.shape[1] != dim:
        raise InputError(
            f"a head for {dim} features is a weight [classes, {dim}] and a bias [classes]; "
            f"given were {list(weight.shape)} and {list(bias.shape)}"
        )
    if labels is not None and len(labels) != len(bias):
        raise InputError(f"{len(labels)} labels for a head of {len(bias)} classes: give one for each")
    return weight, bias


def _check_head(
    session: onnxruntime.InferenceSession, weight: Array, bias: Array, stored: Metadata
) -> dict[str, float]:
    """The head's parity figures against float64 arithmetic on the graph's own features."""
    assert stored.preprocess is not None
    batches = samples.parity_batches(stored.preprocess, surgery.names(session.get_inputs()))
    rows = [run_session(session, [FEATURES, LOGITS], batch) for batch in batches]
    features, logits = (np.concatenate([row[i] for row in rows]) for i in (0, 1))
    right = features.astype(np.float64) @ weight.T.astype(np.float64) + bias
    measure, error = Yardstick.of(right), largest_error(logits, right)
    # Where the sum cancels, float32 is only as fine as the terms that cancelled.
    terms = np.abs(features).astype(np.float64) @ np.abs(weight.T) + np.abs(bias)
    allowed = measure.tolerance + Yardstick(0.0, float(terms.max())).tolerance
    if not error <= allowed:
        raise ExportMismatchError(
            f"the head in the graph does not compute features @ weight.T + bias: logits differ by "
            f"{error:.3g}, allowed is {allowed:.3g} (spread {measure.spread:.3g}). Nothing was written."
        )
    return measure.figures(error)


def _cached_head(source: Path, weight: Array, bias: Array, labels: Sequence[str] | None) -> Path:
    digest = hashlib.sha256(sha256_file(source).encode())
    for part in (weight.tobytes(), bias.tobytes(), "\0".join(labels or ()).encode()):
        digest.update(part)
    return cache_dir() / "heads" / f"{digest.hexdigest()[:32]}.onnx"


def write_cut(source: Path, depth: int, path: Path) -> None:
    """The graph up to one of its depths, as the single output "features"; see `cut_depth`."""
    model, stored = _opened(source)
    if depth not in (found := surgery.depths(model)):
        there = ", ".join(map(str, found)) or "none: export it with depths"
        raise InputError(f"{source} cannot be cut at depth {depth}; depths in it: {there}")
    name = surgery.depth_output(depth)
    surgery.keep_outputs(model, [name])
    surgery.rename(model, {name: FEATURES})
    session = accepted(model)
    whole_id = str(stored.provenance.get("id") or source.stem)
    changes = {
        "id": str(dataclasses.replace(ModelId.parse(whole_id), depth=depth)),
        "depth": depth,
        "cut_from": {"id": whole_id, **_check_cut(session, stored, name, path)},
    }
    stored = dataclasses.replace(stored, calibration=None)
    seal(model, metadata.with_provenance(stored, changes), session, path)


def _check_cut(
    session: onnxruntime.InferenceSession, stored: Metadata, name: str, path: Path
) -> dict[str, float]:
    """Compare with what the whole graph gave at that depth, which its golden pair holds."""
    golden = stored.golden or {}
    if stored.preprocess is None or not (values := golden.get("outputs", {}).get(name)):
        return {}
    pair = {**golden, "outputs": {FEATURES: values}}
    return {"error_of_spread": rounded(check_golden(session, pair, stored.preprocess, path)[FEATURES])}
