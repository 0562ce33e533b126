"""Variants of one ONNX file: fp16, int8 with ranges found at run time or on calibration data, uint8 input.

A variant is a whole file: it keeps labels, preprocess and provenance (its parent's SHA-256, what it was calibrated
on), has a golden pair of its own, and its head is float32 where the parent's was one Gemm, so that `with_head` fits.
"""

from __future__ import annotations

import dataclasses
import difflib
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, numpy_helper

from zoo.cards import PRECISIONS as PRECISIONS
from zoo.cards import Precision as Precision
from zoo.cards import Preprocess
from zoo.data import Input, batches
from zoo.engine import HEAD_BIAS, HEAD_WEIGHT, Array, Batch
from zoo.errors import ExportMismatchError, InputError, ModelFileError
from zoo.files import sha256_file
from zoo.graph import metadata, pixels, quantizing, samples, surgery
from zoo.graph.metadata import Metadata
from zoo.graph.parity import Yardstick, largest_error
from zoo.graph.sealing import accepted, seal
from zoo.graph.session import as_pixels, load_proto, open_session, run_session
from zoo.graph.surgery import FEATURES, LOGITS

SMALL_HEAD = 0.1
"""A head stays float32 up to this share of the weights: it costs little, and the last layer is the one to keep."""
MOSTLY = 0.5
BATCH = 4
LARGEST_HALF = 65504.0
MASK = 1e30
"""Attention masks are filled with float32's lowest number; at fp16's lowest they mask as well."""


@dataclass(frozen=True)
class CalibrationSet:
    """What activations' ranges are found on. fingerprint: of the inputs' content, in order."""

    inputs: Sequence[Input]
    source: str
    fingerprint: str


@dataclass(frozen=True)
class Settings:
    """What a variant is to be. keep: layers that stay in float.

    uint8_input: the graph takes RGB pixels, uint8 [N, H, W, 3], and normalises them itself.
    reduce_range: weights of 7 bits, for x86 CPUs without VNNI, whose 8-bit products saturate.
    """

    precision: Precision = "fp32"
    keep: tuple[str, ...] = ()
    uint8_input: bool = False
    reduce_range: bool = False

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise InputError(f"precision {self.precision!r}: {', '.join(PRECISIONS)}")
        if self.precision == "fp32" and not self.uint8_input:
            raise InputError(
                f"fp32 is what the file has: give another precision ({', '.join(PRECISIONS[1:])}) or uint8 input"
            )


@dataclass(frozen=True)
class Parent:
    """A float32 file made ready: `model` without its small head, which is kept apart as (weight, bias)."""

    path: Path
    stored: Metadata
    preprocess: Preprocess
    model: onnx.ModelProto
    head: tuple[Array, Array] | None

    @property
    def layers(self) -> dict[str, int]:
        """Names of the layers that can be kept in float, and the bytes of their float32 weights."""
        return quantizing.layers(self.model)


def write_variant(
    source: Path, settings: Settings, path: Path, calibration: CalibrationSet | None = None
) -> None:
    """Write `source` in another precision as `path`; see `OnnxModel.quantize`.

    Raises InputError (what was asked for does not fit the graph), ModelFileError (no float32 file of ours),
    ExportError, ExportMismatchError (infinite or not a number), StorageError. Nothing is written then.
    """
    if (settings.precision == "int8-static") != (calibration is not None):
        raise InputError(_calibration_words(settings.precision))
    parent = open_parent(source, settings)
    with tempfile.TemporaryDirectory(prefix="zoo-quantize-") as folder:
        model = converted(parent, settings, calibration, Path(folder) / "ranges.json")
    session = accepted(model)
    figures = _against(parent, session, settings)
    said: dict[str, Any] = {
        "precision": settings.precision,
        "parent_sha256": sha256_file(source),
        "parity": figures,
        "versions": {
            **parent.stored.provenance.get("versions", {}),
            "onnxruntime": onnxruntime.__version__,
        },
    }
    if settings.keep:
        said["kept"] = list(settings.keep)
    if settings.uint8_input:
        said["input"] = "uint8 [N, H, W, 3], RGB"
    if calibration is not None:
        said["calibrated_on"] = {"examples": len(calibration.inputs), "fingerprint": calibration.fingerprint}
    stored = dataclasses.replace(parent.stored, preprocess=parent.preprocess, calibration=None)
    if settings.precision == "fp32":  # the same outputs: a calibration of them still holds
        stored = dataclasses.replace(stored, calibration=parent.stored.calibration)
    seal(model, metadata.with_provenance(stored, said), session, path)


def _calibration_words(precision: Precision) -> str:
    if precision == "int8-static":
        return (
            "int8-static needs examples to find the activations' ranges on: give calibration data (--calibrate "
            "DATA, some dozens of inputs like those to come), or take int8-dynamic for a text network"
        )
    return f"{precision} finds no ranges on examples: leave the calibration data out, or take int8-static"


# --- before
def refuse_unfit(source: Path) -> None:
    """Raise ModelFileError for what no variant is made of, before anything is computed with it."""
    model = load_proto(source)
    _checked(model, metadata.read(model, source), source)


def _checked(model: onnx.ModelProto, stored: Metadata, source: Path) -> Preprocess:
    if reduced := quantizing.reduced_precision(model):
        raise ModelFileError(
            f"{source} is no float32 file (it holds {reduced}): give the file that it was made from"
        )
    if stored.preprocess is None:
        raise ModelFileError(
            f"{source} was not exported by Backbone Zoo (no metadata), so its variant could not be checked: export "
            "the model with `zoo export` first"
        )
    return stored.preprocess


def open_parent(source: Path, settings: Settings) -> Parent:
    """Read and check a float32 file of ours and bring it into the form that is converted."""
    model = load_proto(source, external_data=True)
    stored = metadata.read(model, source)
    preprocess = _checked(model, stored, source)
    if settings.uint8_input:
        preprocess = pixels.add_uint8_input(model, preprocess, source)
    head = _take_head(model)
    if settings.precision.startswith("int8"):
        model = quantizing.prepared(model)
    else:
        quantizing.name_nodes(model)
    parent = Parent(source, stored, preprocess, model, head)
    _check_layers(parent, settings)
    if settings.precision == "fp16":
        _refuse_overflow(parent)
    return parent


def _take_head(model: onnx.ModelProto) -> tuple[Array, Array] | None:
    """Cut the head off and give it, where it is one Gemm on `features` and small beside the rest."""
    held = {t.name: t for t in model.graph.initializer if t.name in (HEAD_WEIGHT, HEAD_BIAS)}
    outputs = surgery.names(model.graph.output)
    if len(held) < 2 or LOGITS not in outputs or FEATURES not in outputs:
        return None
    whole = sum(4 * int(np.prod(t.dims)) for t in model.graph.initializer if t.data_type == TensorProto.FLOAT)
    if 4 * int(np.prod(held[HEAD_WEIGHT].dims)) > SMALL_HEAD * whole:
        return None
    weight, bias = (numpy_helper.to_array(held[name]).copy() for name in (HEAD_WEIGHT, HEAD_BIAS))
    surgery.keep_outputs(model, [FEATURES])
    return weight, bias


def _check_layers(parent: Parent, settings: Settings) -> None:
    nodes = [node.name for node in parent.model.graph.node]
    known = nodes if settings.precision == "fp16" else list(parent.layers)
    for name in settings.keep:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=3, cutoff=0.3) or known[:3]
            raise InputError(f"{parent.path} has no layer {name!r} to keep in float; near: {', '.join(near)}")
    if settings.precision == "int8-dynamic" and (share := quantizing.conv_share(parent.model)) > MOSTLY:
        raise InputError(
            f"int8-dynamic suits networks of matrix products; in {parent.path} convolutions hold {share:.0%} of "
            "the weights, and ONNX Runtime's dynamic int8 convolution is slower than its float32 one. Take "
            "int8-static with --calibrate DATA."
        )


# --- the conversion
def converted(
    parent: Parent,
    settings: Settings,
    calibration: CalibrationSet | None,
    ranges: Path,
    only: Sequence[str] = (),
) -> onnx.ModelProto:
    """The parent's graph in the wanted precision, its head on it. only: quantise these layers and no others."""
    keep, model = settings.keep, parent.model
    if settings.precision == "int8-static":
        assert calibration is not None
        found = quantizing.static(
            model,
            _feeds(parent, calibration),
            ranges=ranges,
            keep=keep,
            only=only,
            reduce_range=settings.reduce_range,
        )
    elif settings.precision == "int8-dynamic":
        found = quantizing.dynamic(model, keep=keep, only=only, reduce_range=settings.reduce_range)
    elif settings.precision == "fp16":
        found = quantizing.half(model, keep=keep)
    else:
        found = onnx.ModelProto()
        found.CopyFrom(model)
    if parent.head is not None:
        surgery.set_head(found, *parent.head)
    for entry in [e for e in found.metadata_props if e.key == quantizing.PREPARED]:
        found.metadata_props.remove(entry)
    return found


def _feeds(parent: Parent, calibration: CalibrationSet) -> Iterator[Batch]:
    inputs = {value.name: value for value in parent.model.graph.input}
    for _, batch in batches(calibration.inputs, parent.preprocess, batch_size=BATCH):
        yield {
            name: as_pixels(values) if pixels.takes_pixels(inputs[name]) else values
            for name, values in batch.items()
            if name in inputs
        }


# --- after
def _against(
    parent: Parent, session: onnxruntime.InferenceSession, settings: Settings
) -> dict[str, dict[str, float]]:
    """Figures of each output's difference from the parent on made-up inputs.

    Raises ExportMismatchError where a value is infinite or no number, and, for a change of the input alone, where
    the outputs differ by more than rounding.
    """
    before = open_session(parent.path, threads=1)
    outputs = surgery.names(session.get_outputs())
    assert parent.stored.preprocess is not None
    given = surgery.names(before.get_inputs())
    right = [run_session(before, outputs, b) for b in samples.parity_batches(parent.stored.preprocess, given)]
    found = [run_session(session, outputs, b) for b in samples.parity_batches(parent.preprocess, given)]
    figures = {}
    for index, name in enumerate(outputs):
        wanted = np.concatenate([row[index] for row in right])
        values = np.concatenate([row[index] for row in found])
        if not np.isfinite(values).all():
            raise ExportMismatchError(
                f"in {settings.precision} the output {name!r} of {parent.path} is infinite or not a number. Nothing "
                "was written: choose another precision."
            )
        measure, error = Yardstick.of(wanted), largest_error(values, wanted)
        if settings.precision == "fp32" and not error <= measure.tolerance:
            raise ExportMismatchError(
                f"with uint8 input the graph computes something else: {name} differs by {error:.3g}, allowed is "
                f"{measure.tolerance:.3g} (spread {measure.spread:.3g}). Nothing was written."
            )
        figures[name] = measure.figures(error, measured=True)
    return figures


def _refuse_overflow(parent: Parent) -> None:
    """Raise ExportMismatchError where a node's values leave fp16's range on made-up inputs.

    Looked for in the float32 graph: on a CPU, ONNX Runtime computes much of fp16 in float32, where nothing overflows
    that would on the device.
    """
    model = onnx.ModelProto()
    model.CopyFrom(onnx.shape_inference.infer_shapes(parent.model))
    floats = {v.name for v in model.graph.value_info if v.type.tensor_type.elem_type == TensorProto.FLOAT}
    made = {name: node.name for node in model.graph.node for name in node.output if name in floats}
    there = set(surgery.names(model.graph.output))
    for name in made.keys() - there:
        model.graph.output.append(onnx.helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    session = open_session(model.SerializeToString(), threads=1)
    batch = samples.parity_batches(parent.preprocess, surgery.names(session.get_inputs()))[1]
    values = dict(zip(made, run_session(session, list(made), batch), strict=True))
    values |= {t.name: numpy_helper.to_array(t) for t in model.graph.initializer if t.dims}
    for name, value in values.items():
        sizes = np.abs(value[np.isfinite(value)]) if value.dtype == np.float32 else np.zeros(0)
        largest = sizes[sizes < MASK].max(initial=0.0)
        if largest > LARGEST_HALF:
            raise ExportMismatchError(
                f"{parent.path} overflows in fp16: values of {made.get(name, name)!r} reach {largest:.2g} and fp16 "
                f"ends at {LARGEST_HALF:.0f}, so its outputs would be infinite or not a number. Nothing was "
                "written: take int8-static, or leave it in fp32."
            )
