"""The last steps of every file that is written here: taken by ONNX Runtime, described, moved into place."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import onnx
import onnxruntime
from google.protobuf.message import EncodeError  # type: ignore[import-untyped]
from onnx.checker import ValidationError
from onnx.shape_inference import InferenceError

from zoo.errors import ExportError
from zoo.files import atomic_file
from zoo.graph import metadata, parity
from zoo.graph.metadata import Metadata
from zoo.graph.quantizing import reduced_precision
from zoo.graph.session import ORT_ERRORS, open_session, tensors

LARGEST_BYTES = 2**31 - 1


def accepted(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    """A session (one thread: figures that repeat) of a model that onnx.checker and ONNX Runtime take.

    Exporters log what they cannot convert and write the file all the same, so nothing counts as exported
    before this. Raises ExportError with the reason.
    """
    check_size(sum(len(tensor.raw_data) for tensor in tensors(model)))
    try:
        onnx.checker.check_model(model, full_check=True)
        return open_session(model.SerializeToString(), threads=1)
    except (ValidationError, InferenceError, EncodeError) as error:
        raise ExportError(f"onnx.checker refuses the exported graph: {_reason(error)}") from error
    except ORT_ERRORS as error:
        raise ExportError(f"ONNX Runtime does not take the exported graph: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:600]


def check_size(weights_bytes: int) -> None:
    """Raise ExportError for more than one ONNX file can hold."""
    if weights_bytes > LARGEST_BYTES:
        raise ExportError(
            f"the weights take {weights_bytes / 1e9:.1f} GB; one ONNX file holds at most 2 GB, and files with "
            "external data are not supported. Choose a smaller model or cut its depth."
        )


def _another_way(model: onnx.ModelProto) -> onnxruntime.InferenceSession | None:
    """A session that computes a graph of reduced precision without fused kernels; None for a float32 graph."""
    if reduced_precision(model) is None:
        return None
    return open_session(model.SerializeToString(), threads=1, optimised=False)


def seal(model: onnx.ModelProto, stored: Metadata, session: onnxruntime.InferenceSession, path: Path) -> None:
    """Add the golden pair and the metadata, and write atomically. session: of this very model.

    Raises ExportError where the model cannot be run, StorageError where the file cannot be written.
    """
    if stored.preprocess is None:
        raise ExportError("a graph without a preprocess cannot be written: nobody could feed it")
    try:
        golden = parity.golden_pair(session, stored.preprocess, _another_way(model))
    except ORT_ERRORS as error:
        raise ExportError(f"the exported graph fails when it is run: {_reason(error)}") from error
    metadata.write(model, dataclasses.replace(stored, golden=golden))
    content = model.SerializeToString(deterministic=True)
    with atomic_file(Path(path)) as temporary:
        temporary.write_bytes(content)
