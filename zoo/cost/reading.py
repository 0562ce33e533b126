"""Reading anybody's ONNX file without running it: the graph, its inputs, its metadata, the files beside it.

What is wrong with a file is said here in words that help, before ONNX Runtime says it in its own.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import onnx
import onnx.inliner

from zoo.cost.inputs import InputSpec
from zoo.errors import ModelFileError

_POINTER = b"version https://git-lfs"
_PAGE = (b"<!doctype", b"<html", b"<?xml")


def read_graph(path: Path) -> onnx.ModelProto:
    """The file without its external weights, local functions inlined. Raises ModelFileError."""
    try:
        model = onnx.load(str(path), load_external_data=False)
    except OSError as error:
        raise ModelFileError(f"cannot read {path}: {error.strerror or error}. Check the path.") from error
    except Exception as error:  # protobuf's DecodeError has no public, stable home
        raise ModelFileError(_no_model(path, str(error))) from error
    if not model.graph.node:
        raise ModelFileError(_no_model(path, "it holds no graph, or an empty one"))
    return onnx.inliner.inline_local_functions(model) if model.functions else model


def _no_model(path: Path, reason: str) -> str:
    """What the file is instead, as far as its first bytes tell."""
    with path.open("rb") as file:
        start = file.read(64).lstrip().lower()
    if start.startswith(_POINTER):
        return f"{path} is not an ONNX file: it is a Git LFS pointer. Fetch the real file: git lfs pull."
    if start.startswith(_PAGE):
        return f"{path} is not an ONNX file: it is a web page. Download the file itself again."
    if not start:
        return f"{path} is not an ONNX file: it is empty. Copy or export it again."
    return (
        f"{path} is not an ONNX file, or was cut off while it was copied ({reason.strip()[:160]}). "
        "Copy it again, or export the model anew."
    )


def input_specs(model: onnx.ModelProto) -> list[InputSpec]:
    """The graph's inputs without those that are initialisers, as ONNX Runtime would list them."""
    weights = {tensor.name for tensor in model.graph.initializer}
    return [input_spec(value) for value in model.graph.input if value.name not in weights]


def input_spec(value: onnx.ValueInfoProto) -> InputSpec:
    """One input or output."""
    if not value.type.HasField("tensor_type"):
        return InputSpec(value.name, str(value.type.WhichOneof("value")).removesuffix("_type"), ())
    kind = value.type.tensor_type
    text = onnx.TensorProto.DataType.Name(kind.elem_type).lower()
    dims = tuple(d.dim_value if d.dim_value > 0 else None for d in kind.shape.dim)
    return InputSpec(value.name, f"tensor({text})", dims, tuple(d.dim_param for d in kind.shape.dim))


def metadata(model: onnx.ModelProto) -> dict[str, str]:
    """What the file says of itself."""
    return {entry.key: entry.value for entry in model.metadata_props}


def external_files(model: onnx.ModelProto, path: Path) -> list[Path]:
    """The files beside the graph that hold its large weights.

    Raises ModelFileError where one is missing, or lies outside the graph's folder: it would be read.
    """
    tensors = list(_tensors(model.graph))
    names = sorted({e.value for t in tensors for e in t.external_data if e.key == "location"})
    for name in names:
        # By the name alone: Hugging Face's cache keeps model and data as links into one folder of blobs.
        if Path(name).is_absolute() or os.path.normpath(name).startswith(os.pardir):
            raise ModelFileError(
                f"{path} keeps weights in {name}, outside its own folder: refused, it would read any file of this "
                "machine. Put the data file beside the model and export it again."
            )
    if missing := [name for name in names if not (path.parent / name).is_file()]:
        raise ModelFileError(
            f"{path} keeps weights in {', '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} missing: "
            "copy it beside the model, under that name."
        )
    return [path.parent / name for name in names]


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    for part in all_graphs(graph):
        yield from part.initializer
        for node in part.node:
            yield from (attribute.t for attribute in node.attribute if attribute.HasField("t"))


def all_graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """The graph and those inside its control flow (If, Loop, Scan), at every depth."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            inner = [attribute.g] if attribute.type == onnx.AttributeProto.GRAPH else list(attribute.graphs)
            for part in inner:
                yield from all_graphs(part)


def all_nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Its nodes and those inside its control flow."""
    for part in all_graphs(graph):
        yield from part.node
