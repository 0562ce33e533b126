"""What a variant costs in accuracy: beside its float32 parent on the same examples; and which layers cost it.

A layer's share is found by quantising it alone and looking at the logits (the debugging procedure of Nagel et al.
2021, A White Paper on Neural Network Quantization). That ranks layers; what keeping the first of them in float brings
is then measured on all examples, not derived.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime

from zoo.cards import ImagePreprocess
from zoo.data import Dataset, Kind, batches, find_parts, open_data
from zoo.data.sources import Data, OnError
from zoo.engine import Array, Batch
from zoo.graph import metadata, surgery
from zoo.graph.precision import CalibrationSet, Parent, Settings, converted, open_parent
from zoo.graph.runtime import OnnxModel
from zoo.graph.session import open_session, run_session
from zoo.graph.surgery import FEATURES, LOGITS
from zoo.probability import paired_interval

POINT = 0.01
"""More than this of accuracy lost, and the layers are looked at."""
GROUPS, EXAMPLES = 24, 64
"""Layers are tried one by one, or in so many groups of neighbours; on so many examples."""
SHOWN = 3
KEPT = (1, 2, 4)


@dataclass(frozen=True)
class LayerCost:
    """error: mean squared change of the logits with these layers alone quantised, over the logits' variance."""

    layers: tuple[str, ...]
    error: float
    weight_bytes: int


@dataclass(frozen=True)
class VariantReport:
    """A variant beside its parent. Accuracies are of the same n examples; low and high: 95 % interval of the gap.

    agreement: share of examples on which both give the same class.  layers: the costliest first, where more than a
    point was lost.  keep: layers that, kept in float, leave `kept_accuracy` in a file of `kept_bytes`: within a
    point, or the best that was found.
    """

    precision: str
    file_bytes: int
    parent_bytes: int
    n: int
    accuracy: float
    parent_accuracy: float
    gap_low: float
    gap_high: float
    agreement: float
    layers: tuple[LayerCost, ...] = ()
    keep: tuple[str, ...] = ()
    kept_accuracy: float | None = None
    kept_bytes: int | None = None

    @property
    def gap(self) -> float:
        """Accuracy of the variant less its parent's."""
        return self.accuracy - self.parent_accuracy

    @property
    def size_ratio(self) -> float:
        """The file's bytes over its parent's."""
        return self.file_bytes / self.parent_bytes


def judge_variant(
    parent: OnnxModel, variant: OnnxModel, data: Data, *, on_error: OnError = "fail"
) -> VariantReport:
    """Both on the same labelled examples (of data in parts, those to judge on).

    Raises DataError, BadFilesError, HeadMissingError.
    """
    opened = open_judged(parent, data, on_error)
    return _judged(parent, variant, opened, _classes(parent, opened))


def open_judged(model: OnnxModel, data: Data, on_error: OnError = "fail") -> Dataset:
    """The labelled examples to judge on, with the model's classes. Raises DataError, BadFilesError."""
    kind: Kind = "image" if isinstance(model.preprocess, ImagePreprocess) else "text"
    return open_data(find_parts(data).to_judge(), kind=kind, classes=model.labels, on_error=on_error)


def _classes(model: OnnxModel, data: Dataset) -> Array:
    found: Array = model.logits_of(data.inputs).argmax(axis=1)
    return found


def _judged(parent: OnnxModel, variant: OnnxModel, data: Dataset, before: Array) -> VariantReport:
    after = _classes(variant, data)
    right, was_right = after == data.targets, before == data.targets
    low, high = paired_interval(right, was_right)
    return VariantReport(
        precision=str(variant.provenance.get("precision", "fp32")),
        file_bytes=variant.path.stat().st_size,
        parent_bytes=parent.path.stat().st_size,
        n=len(data),
        accuracy=float(right.mean()),
        parent_accuracy=float(was_right.mean()),
        gap_low=low,
        gap_high=high,
        agreement=float((before == after).mean()),
    )


def explain_loss(
    report: VariantReport,
    parent: OnnxModel,
    settings: Settings,
    data: Data,
    calibration: CalibrationSet | None = None,
    *,
    on_error: OnError = "fail",
) -> VariantReport:
    """The report with the layers that cost it and what keeping them brings; as it is where no point was lost."""
    if report.gap >= -POINT or settings.precision == "fp32":
        return report
    opened = open_judged(parent, data, on_error)
    with tempfile.TemporaryDirectory(prefix="zoo-quantize-") as folder:
        ranges = Path(folder) / "ranges.json"
        made = open_parent(parent.path, settings)
        costs = layer_costs(made, settings, calibration, opened, ranges)
        report = dataclasses.replace(report, layers=tuple(costs))
        before, best = _classes(parent, opened), report
        for count in KEPT:
            keep = tuple(name for cost in costs[:count] for name in cost.layers)
            trial = dataclasses.replace(settings, keep=(*settings.keep, *keep))
            path = Path(folder) / "kept.onnx"
            model = converted(made, trial, calibration, ranges)
            metadata.write(model, dataclasses.replace(made.stored, preprocess=made.preprocess, golden=None))
            path.write_bytes(model.SerializeToString())
            found = _judged(parent, OnnxModel(path, threads=parent.threads), opened, before)
            if found.accuracy > (best.kept_accuracy or report.accuracy):
                best = dataclasses.replace(
                    report, keep=trial.keep, kept_accuracy=found.accuracy, kept_bytes=found.file_bytes
                )
            if found.gap >= -POINT:
                break
    return best


def layer_costs(
    parent: Parent, settings: Settings, calibration: CalibrationSet | None, data: Dataset, ranges: Path
) -> list[LayerCost]:
    """Each layer's (or group's) cost when it alone is converted, the largest first."""
    weights = {name: size for name, size in parent.layers.items() if name not in settings.keep}
    chosen = np.random.default_rng(0).permutation(len(data))[:EXAMPLES]
    feeds = [b for _, b in batches(data.subset(chosen).inputs, parent.preprocess, batch_size=8)]
    floats = converted(
        parent, dataclasses.replace(settings, precision="fp32", uint8_input=True), None, ranges
    )
    right = _outputs(open_session(floats.SerializeToString()), feeds)
    found = []
    for group in _grouped(list(weights)):
        if settings.precision == "fp16":
            others = dataclasses.replace(settings, keep=tuple(n for n in parent.layers if n not in group))
            model = converted(parent, others, None, ranges)
        else:
            model = converted(parent, settings, calibration, ranges, only=group)
        values = _outputs(open_session(model.SerializeToString()), feeds)
        error = float(((values - right) ** 2).mean() / max(float(right.var(axis=0).mean()), 1e-30))
        found.append(LayerCost(tuple(group), error, sum(weights[name] for name in group)))
    return sorted(found, key=lambda cost: -cost.error)


def _grouped(layers: Sequence[str]) -> Iterator[Sequence[str]]:
    size = -(-len(layers) // GROUPS)
    return (layers[start : start + size] for start in range(0, len(layers), size))


def _outputs(session: onnxruntime.InferenceSession, feeds: Sequence[Batch]) -> Array:
    names = surgery.names(session.get_outputs())
    given = set(surgery.names(session.get_inputs()))
    wanted = [LOGITS if LOGITS in names else FEATURES]
    rows = [run_session(session, wanted, {k: v for k, v in b.items() if k in given})[0] for b in feeds]
    return np.concatenate(rows)
