"""Whether the file computes what the model computes, and whether it still does.

An absolute tolerance says nothing: random networks give logits from 1e-9 to 1e12, and a random ResNet-50
gives nearly the same logits for every image. So an error counts relative to the spread, the most that any
output changes from input to input: what the network has to say lies in that range.

    tolerance = 1e-3 * spread + 64 * 2^-23 * magnitude

The second term is what float32 sums in another order may differ by; it decides only where a network's
outputs hardly depend on its input.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from zoo.cards import Preprocess
from zoo.engine import Array, Batch, Engine
from zoo.errors import ExportMismatchError, ModelFileError
from zoo.graph import metadata, samples
from zoo.graph.session import ORT_ERRORS, load_proto, open_session, run_session
from zoo.graph.surgery import LOGITS, names

OF_SPREAD = 1e-3
OF_MAGNITUDE = 64 * float(np.finfo(np.float32).eps)
OF_HALF = 4 * float(np.finfo(np.float16).eps)
KEPT = 8
UNREADABLE: tuple[type[Exception], ...] = (KeyError, TypeError, IndexError, *ORT_ERRORS)


@dataclass(frozen=True)
class Yardstick:
    """What an output's errors are measured by: see the head of this file. All in the output's own unit."""

    spread: float
    magnitude: float

    @classmethod
    def of(cls, values: Array) -> Yardstick:
        """values: the right outputs [rows, dimensions], rows from different inputs."""
        flat = values.reshape(len(values), -1).astype(np.float64)
        return cls(float(np.ptp(flat, axis=0).max()), float(np.abs(flat).max()))

    @property
    def tolerance(self) -> float:
        """The largest error that passes."""
        return OF_SPREAD * self.spread + OF_MAGNITUDE * self.magnitude

    def figures(self, error: float, *, measured: bool = False) -> dict[str, float]:
        """An error as provenance keeps it: at most so much, with the spread; and over the spread (or the floor).

        measured: the error to two digits, where it is one of precision and not of a framework's rounding.
        """
        kept = rounded if measured else _at_most
        base = max(self.spread, OF_MAGNITUDE * self.magnitude, float(np.finfo(np.float32).tiny))
        return {
            "error": kept(error),
            "spread": rounded(self.spread),
            "error_of_spread": kept(error / base),
        }


def largest_error(found: Array, right: Array) -> float:
    """max |found - right|; infinite where a value is not finite or the shapes differ."""
    if found.shape != right.shape or not (np.isfinite(found).all() and np.isfinite(right).all()):
        return float("inf")
    return float(np.abs(found.astype(np.float64) - right.astype(np.float64)).max(initial=0.0))


def check_engine(
    engine: Engine, session: onnxruntime.InferenceSession, output: str, *, seed: int = 0
) -> dict[str, dict[str, float]]:
    """Compare the file with the engine on two batches; figures by output: error, spread, error over spread.

    output: the name under which the file gives `engine.features`.
    Raises ExportMismatchError with the figures of the worst case.
    """
    batches = samples.parity_batches(engine.preprocess, engine.inputs, seed=seed)
    if engine.num_classes is not None and LOGITS in names(session.get_outputs()):
        pairs = [engine.outputs(batch) for batch in batches]
        right = {output: [pair[0] for pair in pairs], LOGITS: [p[1] for p in pairs if p[1] is not None]}
    else:
        right = {output: [engine.features(batch) for batch in batches]}
    found = [_run(session, list(right), batch) for batch in batches]
    return {
        name: _compare(name, [row[i] for row in found], values, batches)
        for i, (name, values) in enumerate(right.items())
    }


def _run(session: onnxruntime.InferenceSession, outputs: Sequence[str], batch: Batch) -> list[Array]:
    try:
        return run_session(session, outputs, batch)
    except ORT_ERRORS as error:
        raise ExportMismatchError(
            f"the exported file fails on a {_shape(batch)}: {str(error).strip()[:300]}. "
            "The exporter has probably fixed the size of its example batch in the graph."
        ) from error


def _compare(
    name: str, found: Sequence[Array], right: Sequence[Array], batches: Sequence[Batch]
) -> dict[str, float]:
    measure = Yardstick.of(np.concatenate(right))
    errors = [largest_error(a, b) for a, b in zip(found, right, strict=True)]
    worst = int(np.argmax(errors))
    if not errors[worst] <= measure.tolerance:
        raise ExportMismatchError(
            f"the exported file does not compute what the model computes: {name} on a "
            f"{_shape(batches[worst])} differs by {errors[worst]:.3g}, allowed is {measure.tolerance:.3g} "
            f"(the outputs spread over {measure.spread:.3g} across inputs, their magnitude is "
            f"{measure.magnitude:.3g}; errors by batch: {', '.join(f'{e:.3g}' for e in errors)}). "
            "Was the model in training mode, or changed after the graph was traced? The file was not kept."
        )
    return measure.figures(errors[worst])


def _shape(batch: Batch) -> str:
    """'batch of 3 texts of length 11', as the errors say it."""
    if "images" in batch:
        return "batch of {} images of {} x {}".format(*(batch["images"].shape[i] for i in (0, 2, 3)))
    count, length = batch["input_ids"].shape
    return f"batch of {count} texts of length {length}"


def rounded(value: float) -> float:
    """Two digits: more would be noise, and would make two exports of one model different files."""
    return float(f"{value:.1e}")


def _at_most(error: float) -> float:
    """The next power of ten: how a framework rounds depends on its threads, and the file's bytes should not."""
    return float(f"1e{math.ceil(math.log10(error))}") if 0 < error < math.inf else error


def golden_pair(
    session: onnxruntime.InferenceSession,
    preprocess: Preprocess,
    other: onnxruntime.InferenceSession | None = None,
) -> dict[str, Any]:
    """A stored input and the first 8 values of each output for it. Raises one of ORT_ERRORS.

    other: of the same graph in reduced precision, computed another way (no kernels fused). Where a value falls
    between two of 256 steps is up to the kernel, so twice what those two differ by is allowed besides, and four
    units of fp16's last place.
    """
    inputs, outputs = names(session.get_inputs()), names(session.get_outputs())
    stored = samples.golden_input(preprocess)
    values = run_session(session, outputs, samples.golden_batch(stored, preprocess, inputs))
    spreads = [run_session(session, outputs, b) for b in samples.parity_batches(preprocess, inputs)]
    again = [run_session(s, outputs, samples.golden_batch(stored, preprocess, inputs)) for s in (other,) if s]
    pair: dict[str, Any] = {"input": stored, "outputs": {}}
    for i, name in enumerate(outputs):
        measure = Yardstick.of(np.concatenate([values[i], *(row[i] for row in spreads)]))
        coarse = sum(2 * largest_error(row[i], values[i]) + OF_HALF * measure.magnitude for row in again)
        pair["outputs"][name] = {
            "values": [[float(v) for v in row[:KEPT]] for row in values[i]],
            "spread": rounded(measure.spread),
            "tolerance": rounded(measure.tolerance + coarse),
        }
    return pair


def check_golden(
    session: onnxruntime.InferenceSession, pair: Mapping[str, Any], preprocess: Preprocess, path: Path
) -> dict[str, float]:
    """Run a golden pair's input again; error over spread by output.

    Raises ExportMismatchError with the figures, ModelFileError where the pair cannot be read.
    """
    try:
        batch = samples.golden_batch(pair["input"], preprocess, names(session.get_inputs()))
        wanted: dict[str, dict[str, Any]] = dict(pair["outputs"])
        found = run_session(session, list(wanted), batch)
        return {
            name: _recheck(path, name, values[:, :KEPT], wanted[name])
            for name, values in zip(wanted, found, strict=True)
        }
    except UNREADABLE as error:
        raise ModelFileError(
            f"{path}: its golden pair cannot be run ({str(error).strip()[:200]}). Export the model again."
        ) from error


def _recheck(path: Path, name: str, found: Array, wanted: Mapping[str, Any]) -> float:
    error = largest_error(found, np.array(wanted["values"], np.float64))
    if not error <= float(wanted["tolerance"]):
        raise ExportMismatchError(
            f"{path} no longer computes what it did when it was exported: {name} differs by {error:.3g} on "
            f"its golden input, allowed is {wanted['tolerance']:.3g} (spread {wanted['spread']:.3g}). "
            "The file was changed, or this machine's ONNX Runtime computes wrongly: export it again."
        )
    return error / max(float(wanted["spread"]), float(wanted["tolerance"]))


def verify(path: Path) -> dict[str, float]:
    """Run the golden pair of a file and check its weights' digest; error over spread by output.

    Raises ModelFileError where the file has none or is no ONNX model, ExportMismatchError where it computes
    something else than at export, or holds other weights.
    """
    path = Path(path)
    model = load_proto(path, external_data=True)
    stored = metadata.read(model, path)
    if stored.golden is None or stored.preprocess is None:
        raise ModelFileError(
            f"{path} holds no golden input and output: Backbone Zoo did not write it, or the metadata was "
            "removed. Only a file from `zoo export` or `zoo select` can be verified."
        )
    try:
        session = open_session(path, threads=1)
    except ORT_ERRORS as error:
        raise ModelFileError(f"ONNX Runtime does not take {path}: {str(error).strip()[:300]}") from error
    figures = check_golden(session, stored.golden, stored.preprocess, path)
    recorded, found = stored.provenance.get("weights_sha256"), metadata.weights_sha256(model)
    if recorded != found:
        raise ExportMismatchError(
            f"{path}: its weights were changed after the export (their SHA-256 begins with {found[:12]}, at "
            f"export it was {str(recorded)[:12]}), though its outputs agree on the golden input: {figures}. "
            "Export it again."
        )
    return figures
