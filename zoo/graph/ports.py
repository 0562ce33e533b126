"""Which arrays of an ONNX file are what: plain for our own, found by shape for somebody else's.

Files in the wild call their input anything, put channels last, fix the batch at 1, take int32 ids, and
end in a softmax.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto

from zoo.cards import ImagePreprocess, Preprocess
from zoo.engine import Array, Batch
from zoo.errors import ModelFileError
from zoo.graph import surgery
from zoo.graph.pixels import leaves_pixels
from zoo.graph.surgery import FEATURES, IMAGES, LOGITS

TEXT_DTYPES: Mapping[int, type[np.generic]] = {TensorProto.INT64: np.int64, TensorProto.INT32: np.int32}


@dataclass(frozen=True)
class Ports:
    """How a batch goes into the graph and what comes out.

    inputs: name in a Batch -> (name in the graph, dtype).  channels_last: images go in as NHWC.
    fixed_batch: the only batch size that the graph takes, or None.  logits: the name of that output, or None.
    probabilities: that output has been through a softmax already.
    """

    inputs: Mapping[str, tuple[str, type[np.generic]]]
    channels_last: bool = False
    fixed_batch: int | None = None
    logits: str | None = None
    probabilities: bool = False
    num_classes: int | None = None
    feature_dim: int | None = None
    depths: tuple[int, ...] = ()

    def run(self, compute: Callable[[Mapping[str, Array]], list[Array]], batch: Batch) -> list[Array]:
        """Outputs of `compute` for a batch, in parts of `fixed_batch` where the graph takes no other."""
        feed = {self.inputs[k][0]: self._cast(k, v) for k, v in batch.items() if k in self.inputs}
        count = len(next(iter(feed.values())))
        if self.fixed_batch is None or count == 0:
            return compute(feed)
        size = self.fixed_batch
        rows = [np.minimum(np.arange(start, start + size), count - 1) for start in range(0, count, size)]
        parts = [compute({name: value[index] for name, value in feed.items()}) for index in rows]
        return [np.concatenate(values)[:count] for values in zip(*parts, strict=True)]

    def _cast(self, name: str, value: Array) -> Array:
        if name == IMAGES and self.channels_last:
            value = value.transpose(0, 2, 3, 1)
        if self.inputs[name][1] is np.uint8:
            value = np.clip(np.rint(value), 0, 255)
        return np.ascontiguousarray(value, dtype=self.inputs[name][1])

    def as_logits(self, values: Array) -> Array:
        """float32 logits of the file's output: the log of what is a probability already."""
        if not self.probabilities:
            return values
        return np.log(np.maximum(values, np.finfo(np.float32).tiny))


def find_ports(model: onnx.ModelProto, preprocess: Preprocess, path: Path, *, ours: bool) -> Ports:
    """Raises ModelFileError where the graph has no input that fits the preprocess."""
    outputs = {value.name: value for value in model.graph.output}
    logits = outputs.get(LOGITS) or (None if ours else _first_matrix(list(outputs.values())))
    depths = surgery.depths(model)
    features = outputs.get(surgery.depth_output(depths[-1]) if depths else FEATURES)
    held = {tensor.name for tensor in model.graph.initializer}
    given = [value for value in model.graph.input if value.name not in held]
    first = next(iter(given), None)
    channels_last = False
    if isinstance(preprocess, ImagePreprocess):
        first, channels_last = _image_input(given, preprocess, path)
    return Ports(
        inputs=_input_ports(given, preprocess, path),
        channels_last=channels_last,
        fixed_batch=_sizes(first)[0] if first is not None else None,
        logits=logits.name if logits is not None else None,
        probabilities=logits is not None and _made_by(model, logits.name) == "Softmax",
        num_classes=_sizes(logits)[-1] if logits is not None and _sizes(logits) else None,
        feature_dim=_sizes(features)[-1] if features is not None and _sizes(features) else None,
        depths=depths,
    )


def _sizes(value: onnx.ValueInfoProto) -> list[int | None]:
    """Declared sizes, None for any; empty where the rank is not declared."""
    return [dim.dim_value or None for dim in value.type.tensor_type.shape.dim]


def _first_matrix(outputs: Sequence[onnx.ValueInfoProto]) -> onnx.ValueInfoProto | None:
    """The first output of rank 2 that is not our features; failing that, one that declares no rank."""
    others = [v for v in outputs if v.name != FEATURES and not v.name.startswith(surgery.DEPTH_PREFIX)]
    matrices = [value for value in others if len(_sizes(value)) == 2]
    return next(iter(matrices or [value for value in others if not _sizes(value)]), None)


def _made_by(model: onnx.ModelProto, name: str) -> str:
    return next((node.op_type for node in model.graph.node if name in node.output), "")


def _image_input(
    given: Sequence[onnx.ValueInfoProto], preprocess: ImagePreprocess, path: Path
) -> tuple[onnx.ValueInfoProto, bool]:
    """The image input, and whether its channels come last. Raises ModelFileError where none fits."""
    found = [value for value in given if len(_sizes(value)) == 4]
    if len(given) != 1 or not found:
        raise ModelFileError(f"{path} takes {_listed(given)}: no image model (one array of four axes)")
    if found[0].type.tensor_type.elem_type not in (TensorProto.FLOAT, TensorProto.UINT8):
        raise ModelFileError(f"{path} takes {_listed(given)}, which is not float32: convert it to float32")
    if found[0].type.tensor_type.elem_type == TensorProto.UINT8 and not leaves_pixels(preprocess):
        raise ModelFileError(
            f"{path} takes {_listed(given)} as uint8, not float32: pixels as they are. Its preprocess must leave "
            "them so: scale 1, mean 0, std 1, RGB"
        )
    sizes = _sizes(found[0])
    channels_last = sizes[-1] == 3 and sizes[1] != 3
    declared = sizes[1:3] if channels_last else sizes[2:]
    made = [preprocess.height, preprocess.width]
    if any(a is not None and a != b for a, b in zip(declared, made, strict=True)):
        raise ModelFileError(
            f"{path} takes {_listed(given)}; the preprocess makes {made[0]} x {made[1]} pixels"
        )
    return found[0], channels_last


def _input_ports(
    given: Sequence[onnx.ValueInfoProto], preprocess: Preprocess, path: Path
) -> Mapping[str, tuple[str, type[np.generic]]]:
    if isinstance(preprocess, ImagePreprocess):
        pixels = given[0].type.tensor_type.elem_type == TensorProto.UINT8
        return {IMAGES: (given[0].name, np.uint8 if pixels else np.float32)}
    types = {value.name: value.type.tensor_type.elem_type for value in given}
    if not set(types) <= set(preprocess.inputs) or "input_ids" not in types:
        made = ", ".join(preprocess.inputs)
        raise ModelFileError(f"{path} takes {_listed(given)}; the preprocess makes {made}")
    if strange := [name for name in types if types[name] not in TEXT_DTYPES]:
        raise ModelFileError(f"{path}: its input {', '.join(strange)} is neither int64 nor int32")
    return {name: (name, TEXT_DTYPES[types[name]]) for name in preprocess.inputs if name in types}


def _listed(values: Sequence[onnx.ValueInfoProto]) -> str:
    return ", ".join(f"{v.name} {[d or '?' for d in _sizes(v)]}" for v in values) or "no input"
