"""Keras to ONNX on a ladder, quietly: the first rung whose file computes what Keras computes.

1. The walker writes Keras's own graph, without tracing; it refuses what it does not know.
2. tf2onnx on TensorFlow's trace, with only the passes that pay. For images those that remove layout changes;
   for text none: the full set takes ten times as long as the rest for a graph that ONNX Runtime runs as fast.
3. tf2onnx with TensorFlow's grappler and every pass, for what the second leaves invalid.

Each file is run in ONNX Runtime on a batch that no exporter has seen, beside Keras itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

from zoo.cards import ImagePreprocess
from zoo.engine import Batch
from zoo.errors import ExportError
from zoo_tf import tracing, walker
from zoo_tf.network import IMAGES, Network
from zoo_tf.start import captured_stderr, keras

PROBES, PROBE_LENGTH, PROBE_IDS = 3, 7, 16
OF_SPREAD, OF_MAGNITUDE = 1e-3, 64 * float(np.finfo(np.float32).eps)
"""A file is right when it is off by no more than this of the outputs' range over the probes, and what
float32 sums in another order may differ by."""


def export_onnx(network: Network, path: Path, *, opset: int, depths: Sequence[int] = ()) -> str:
    """Write the graph from the project's inputs to features; returns the rung that did it.

    Raises ExportError with what each rung said.
    """
    names = [f"features_{d}" for d in depths] or ["features"]
    tensors = [network.taps[d] for d in depths] or [network.backbone.outputs[0]]
    model = keras.Model(network.backbone.inputs, tensors)
    reasons = []
    for rung, write in _rungs(model, network, opset=opset, names=names).items():
        with captured_stderr() as log:
            try:
                write(path)
                check(path, model, network, names)
            except Exception as error:  # noqa: BLE001 - whatever a converter raises, the next rung is tried
                path.unlink(missing_ok=True)
                reasons.append(f"{rung}: {type(error).__name__}: {error} {_last_lines(log())}".strip())
                continue
        return rung
    raise ExportError("no exporter could write this model as ONNX. " + " | ".join(r[:600] for r in reasons))


def _rungs(
    model: keras.Model, network: Network, *, opset: int, names: Sequence[str]
) -> dict[str, Callable[[Path], Any]]:
    def walked(path: Path) -> None:
        walker.export(model, path, opset=opset, inputs=network.inputs, outputs=names)

    def traced(grappler: bool, passes: Sequence[str]) -> Callable[[Path], None]:
        def write(path: Path) -> None:
            found = tracing.trace(
                model, network, opset=opset, outputs=names, grappler=grappler, passes=passes
            )
            onnx.save(found, str(path))

        return write

    few = tracing.LAYOUT_PASSES if network.inputs == IMAGES else ()
    return {
        "walker": walked,
        "tf2onnx": traced(False, few),
        "tf2onnx with grappler": traced(True, tracing.ALL_PASSES),
    }


def check(path: Path, model: keras.Model, network: Network, names: Sequence[str]) -> None:
    """Run the file beside Keras. Raises ExportError with the figures where they differ."""
    batch = probe(network)
    native = [
        a.transpose(0, 2, 3, 1) if network.inputs == IMAGES else a.astype(np.int32) for a in batch.values()
    ]
    right = [np.asarray(t) for t in keras.tree.flatten(model(native, training=False))]
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    found = session.run(list(names), dict(batch))
    for name, got, want in zip(names, found, right, strict=True):
        _compare(name, np.asarray(got, np.float64), want.astype(np.float64))


def probe(network: Network) -> Batch:
    """Images of very different brightness, or texts of different lengths; the ids are in every vocabulary."""
    rng, preprocess = np.random.default_rng(0), network.preprocess
    if isinstance(preprocess, ImagePreprocess):
        fixed = network.backbone.inputs[0].shape[1:3]
        height, width = (a or b for a, b in zip(fixed, (preprocess.height, preprocess.width), strict=True))
        noise = rng.normal(size=(PROBES, 3, height, width))
        light = np.linspace(-1, 1, PROBES).reshape(-1, 1, 1, 1)
        return {"images": ((noise + light) * rng.uniform(0.2, 1.5, light.shape)).astype(np.float32)}
    length = min(PROBE_LENGTH, preprocess.max_length)
    mask = (np.arange(length) < np.linspace(length, 1, PROBES).astype(int)[:, None]).astype(np.int64)
    ids = np.where(mask, rng.integers(0, PROBE_IDS, mask.shape), preprocess.pad_id)
    arrays = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
    return {name: arrays[name] for name in network.inputs}


def _compare(name: str, found: Any, right: Any) -> None:
    if found.shape != right.shape:
        raise ExportError(f"{name} has the shape {found.shape} in ONNX Runtime, {right.shape} in Keras")
    error = np.abs(found - right).max()
    spread, magnitude = np.ptp(right, axis=0).max(), np.abs(right).max()
    if not error <= OF_SPREAD * spread + OF_MAGNITUDE * magnitude:
        raise ExportError(
            f"{name} differs by {error:.3g} between ONNX Runtime and Keras (range over the probes "
            f"{spread:.3g}, magnitude {magnitude:.3g})"
        )


def _last_lines(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return f"[{' / '.join(lines[-2:])}]" if lines else ""
