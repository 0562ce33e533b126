"""Opening ONNX files: one place where a bad file becomes a clear error and ONNX Runtime is kept quiet."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnxruntime.capi import onnxruntime_pybind11_state as _ort

from zoo.engine import Array
from zoo.errors import ModelFileError

# ONNX Runtime's exceptions have no common base but Exception.
ORT_ERRORS: tuple[type[Exception], ...] = (
    _ort.EngineError,
    _ort.EPFail,
    _ort.Fail,
    _ort.InvalidArgument,
    _ort.InvalidGraph,
    _ort.InvalidProtobuf,
    _ort.NoModel,
    _ort.NoSuchFile,
    _ort.NotFound,
    _ort.NotImplemented,
    _ort.RuntimeException,
    RuntimeError,
    ValueError,
)
FATAL_ONLY = 4


def available_threads() -> int:
    """The cores that this process may use: fewer than the machine has inside a container or under taskset."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def open_session(
    model: Path | bytes, *, threads: int | None = None, optimised: bool = True
) -> onnxruntime.InferenceSession:
    """A CPU session with `threads` intra-op threads (None: the cores available), printing nothing.

    optimised: False runs the graph node by node as it stands.

    Raises one of ORT_ERRORS: the caller knows what the file is to the user.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or available_threads()
    options.inter_op_num_threads = 1
    options.log_severity_level = FATAL_ONLY
    if not optimised:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    source = model if isinstance(model, bytes) else str(model)
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def run_session(
    session: onnxruntime.InferenceSession, outputs: Sequence[str], feed: Mapping[str, Array]
) -> list[Array]:
    """Run and give the named outputs in their order. Raises one of ORT_ERRORS.

    A graph that takes uint8 pixels gets them from a batch of floats that are whole numbers (`zoo.graph.pixels`).
    """
    feed = dict(feed)
    for given in session.get_inputs():
        values = feed.get(given.name)
        if given.type == "tensor(uint8)" and values is not None and values.dtype != np.uint8:
            feed[given.name] = as_pixels(values)
    return list(session.run(list(outputs), feed))


def as_pixels(values: Array) -> Array:
    """From float32 [N, 3, H, W] of whole numbers 0 to 255 to uint8 [N, H, W, 3]."""
    return np.ascontiguousarray(np.clip(np.rint(values), 0, 255).astype(np.uint8).transpose(0, 2, 3, 1))


def load_proto(path: Path, *, external_data: bool = False) -> onnx.ModelProto:
    """Parse a file. Raises ModelFileError for what is no ONNX model or points outside its own folder."""
    path = Path(path)
    if path.is_dir():
        raise ModelFileError(f"{path} is a folder: give the .onnx file in it")
    try:
        model = onnx.load(path, load_external_data=False)
    except FileNotFoundError as error:
        raise ModelFileError(f"there is no file {path}: check the name") from error
    except (DecodeError, OSError, ValueError) as error:
        raise ModelFileError(_no_model(path, str(error))) from error
    if not model.graph.output:
        raise ModelFileError(_no_model(path, "it holds no graph"))
    refuse_outside(model, path)
    if external_data:
        onnx.load_external_data_for_model(model, str(path.parent))
    return model


def _no_model(path: Path, reason: str) -> str:
    return (
        f"{path} is not an ONNX model, or was cut off while it was copied ({reason.strip()[:160]}). "
        "Copy it again, or export the model anew with `zoo export`."
    )


def refuse_outside(model: onnx.ModelProto, path: Path) -> None:
    """Raise ModelFileError where a tensor's data lies outside the file's folder: it would be read."""
    folder = path.parent.resolve()
    for file in external_files(model, path):
        if not file.resolve().is_relative_to(folder):
            raise ModelFileError(
                f"{path} keeps weights in {file}, outside its own folder: refused, it would read any file "
                "of this machine. Put the data file beside the model and export it again."
            )
        if not file.is_file():
            raise ModelFileError(
                f"{path} keeps weights in {file.name}, and that file is missing: copy it beside the model"
            )


def external_files(model: onnx.ModelProto, path: Path) -> list[Path]:
    """The files beside `path` that hold tensors of the model, as they are named in it."""
    names = {e.value for t in tensors(model) for e in t.external_data if e.key == "location"}
    return [path.parent / name for name in sorted(names)]


def tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every constant tensor: initialisers and those in attributes, subgraphs and functions too, in order."""
    yield from _graph_tensors(model.graph)
    for function in model.functions:
        for node in function.node:
            yield from _node_tensors(node)


def _graph_tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        yield from _node_tensors(node)


def _node_tensors(node: onnx.NodeProto) -> Iterator[onnx.TensorProto]:
    for attribute in node.attribute:
        if attribute.HasField("t"):
            yield attribute.t
        if attribute.HasField("sparse_tensor"):
            yield from (attribute.sparse_tensor.values, attribute.sparse_tensor.indices)
        yield from attribute.tensors
        for graph in ([attribute.g] if attribute.HasField("g") else []) + list(attribute.graphs):
            yield from _graph_tensors(graph)
