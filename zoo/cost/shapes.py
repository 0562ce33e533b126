"""Shape and type of every tensor that the graph's figures need, found as cheaply as the graph allows.

onnx's own inference comes first. Where exporters compute shapes in the graph (a Slice up to the length, a
Range), those few integers are computed apart and inference goes on. What is then unknown, because it depends
on values, is learned by running the whole graph once: nothing is guessed and nothing is missed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import onnx
import onnx.inliner
import onnx.shape_inference
import onnxruntime

from zoo.engine import Array
from zoo.errors import ModelFileError

Shape: TypeAlias = tuple[int, ...]
Shapes: TypeAlias = dict[str, Shape]


class Tensor(NamedTuple):
    """One tensor of a graph at concrete inputs. itemsize: bytes an element; 0 where the type is not known."""

    shape: Shape
    itemsize: int

    @property
    def bytes(self) -> int:
        """What it takes."""
        return math.prod(self.shape) * self.itemsize


_SMALL = 4096  # elements; larger tensors hold weights, not shapes, and inference need not carry them
_FOLDINGS = 8  # each uncovers shapes for the next; BERT needs one


def find_tensors(
    path: Path,
    model: onnx.ModelProto,
    needed: Iterable[str],
    feed: Mapping[str, Array],
    *,
    run: bool = True,
) -> dict[str, Tensor]:
    """Tensors by name, those of `needed` among them, for inputs like `feed`. model: of `path`, inlined.

    run: where inference ends short of some, run the graph once.  Raises ModelFileError where one cannot be found
    even so (with run=False: where inference alone does not find it).
    """
    wanted = set(needed)
    light = _light(model, feed)
    found = _inferred(light)
    for _ in range(_FOLDINGS):
        if found.keys() >= wanted or not _fold(light, found):
            break
        found |= _inferred(light)
    found |= {t.name: Tensor(tuple(t.dims), itemsize(t.data_type)) for t in model.graph.initializer}
    if unknown := sorted(wanted - found.keys()):
        if not run:
            raise ModelFileError(f"the shapes of {', '.join(unknown[:3])} are not inferred")
        found |= _run_for_tensors(path, unknown, feed)
    return found


def itemsize(data_type: int) -> int:
    """Bytes an element of an onnx data type; 0 where it has no fixed size. 4-bit types are taken as one byte."""
    if data_type in (onnx.TensorProto.UNDEFINED, onnx.TensorProto.STRING):
        return 0
    return int(onnx.helper.tensor_dtype_to_np_dtype(data_type).itemsize)


def _light(model: onnx.ModelProto, feed: Mapping[str, Array]) -> onnx.ModelProto:
    """A copy with concrete inputs and with large weights as mere inputs (protobuf ends at 2 GB)."""
    graph = model.graph
    kept = [t for t in graph.initializer if math.prod(t.dims) <= _SMALL and not t.external_data]
    names = {t.name for t in kept}
    large = [
        onnx.helper.make_tensor_value_info(t.name, t.data_type, list(t.dims))
        for t in graph.initializer
        if t.name not in names
    ]
    fed = [
        onnx.helper.make_tensor_value_info(v.name, v.type.tensor_type.elem_type, feed[v.name].shape)
        for v in graph.input
        if v.name in feed
    ]
    # Old value_info holds symbols ("batch") that would stand in the way of the numbers; so do the outputs'.
    outputs = [onnx.ValueInfoProto(name=value.name) for value in graph.output]
    light = onnx.helper.make_graph(graph.node, graph.name, [*fed, *large], outputs, kept)
    light.sparse_initializer.extend(graph.sparse_initializer)
    return onnx.helper.make_model(light, opset_imports=model.opset_import, ir_version=model.ir_version)


def _inferred(light: onnx.ModelProto) -> dict[str, Tensor]:
    """Every tensor whose shape onnx can infer; small initialisers included."""
    found = {t.name: Tensor(tuple(t.dims), itemsize(t.data_type)) for t in light.graph.initializer}
    known = onnx.shape_inference.infer_shapes(light, data_prop=True)
    for value in (*known.graph.value_info, *known.graph.output, *known.graph.input):
        kind = value.type.tensor_type
        if kind.HasField("shape") and all(d.HasField("dim_value") for d in kind.shape.dim):
            shape = tuple(d.dim_value for d in kind.shape.dim)
            found[value.name] = Tensor(shape, itemsize(kind.elem_type))
    return found


def _fold(light: onnx.ModelProto, found: Mapping[str, Tensor]) -> bool:
    """Put numbers in the place of nodes that depend on known shapes and small constants; False: none did."""
    graph = light.graph
    constants = [
        onnx.numpy_helper.from_array(_shape_value(node, found[node.input[0]].shape), node.output[0])
        for node in graph.node
        if node.op_type == "Shape" and node.input[0] in found
    ]
    known = {tensor.name for tensor in (*graph.initializer, *constants)}
    folded: list[onnx.NodeProto] = []
    for node in graph.node:
        if node.output[0] not in known and _foldable(node, known) and not _large(node, found):
            folded.append(node)
            known.update(name for name in node.output if name)
    values = _evaluate(light, folded, constants)
    constants += [
        onnx.numpy_helper.from_array(value, name) for name, value in values.items() if value.size <= _SMALL
    ]
    replaced = {tensor.name for tensor in constants}
    kept = [node for node in graph.node if not replaced.issuperset(n for n in node.output if n)]
    progress = len(kept) < len(graph.node)
    del graph.node[:]
    graph.node.extend(kept)
    graph.initializer.extend(constants)
    return progress


def _shape_value(node: onnx.NodeProto, shape: Shape) -> Array:
    """What a Shape node gives: int64, from `start` to `end` of its input's shape."""
    limits = {a.name: a.i for a in node.attribute}
    return np.array(shape[limits.get("start", 0) : limits.get("end")], np.int64)


def _large(node: onnx.NodeProto, found: Mapping[str, Tensor]) -> bool:
    """A constant made at run time (ConstantOfShape) may be of any size, and a large one is no shape."""
    return any(math.prod(found[name].shape) > _SMALL for name in node.output if name in found)


def _foldable(node: onnx.NodeProto, known: set[str]) -> bool:
    if node.domain not in ("", "ai.onnx") or node.op_type.startswith(("Random", "Bernoulli", "Multinomial")):
        return False
    if any(a.type == onnx.AttributeProto.GRAPH for a in node.attribute):
        return False
    if node.op_type == "Constant":
        return all(math.prod(a.t.dims) <= _SMALL for a in node.attribute if a.HasField("t"))
    return bool(node.input) and all(name in known for name in node.input if name)


def _evaluate(
    light: onnx.ModelProto, nodes: list[onnx.NodeProto], constants: list[onnx.TensorProto]
) -> dict[str, Array]:
    """The outputs of nodes that need constants only; none where ONNX Runtime does not run them."""
    names = [name for node in nodes for name in node.output if name]
    if not names:
        return {}
    outputs = [onnx.ValueInfoProto(name=name) for name in names]
    graph = onnx.helper.make_graph(nodes, "shapes", [], outputs, [*light.graph.initializer, *constants])
    model = onnx.helper.make_model(graph, opset_imports=light.opset_import, ir_version=light.ir_version)
    try:
        return dict(zip(names, _session(model).run(names, {}), strict=True))
    except Exception:  # noqa: BLE001  (its exceptions share no other base; the whole graph is run instead)
        return {}


def _run_for_tensors(path: Path, wanted: list[str], feed: Mapping[str, Array]) -> dict[str, Tensor]:
    """Run the graph once with `wanted` as further outputs, unoptimised so that they exist."""
    model = onnx.load(str(path), load_external_data=False)
    if model.functions:
        model = onnx.inliner.inline_local_functions(model)
    present = {value.name for value in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in wanted if name not in present)
    try:
        values = _session(model, path.resolve().parent).run(wanted, dict(feed))
        return {n: Tensor(tuple(v.shape), v.itemsize) for n, v in zip(wanted, values, strict=True)}
    except Exception as error:  # its exceptions share no other base
        raise ModelFileError(
            f"this graph cannot be counted: the shapes of {', '.join(wanted[:3])} in {path.name} are neither "
            f"inferred nor found by running it: {str(error).splitlines()[0][:300]}"
        ) from error


def _session(model: onnx.ModelProto, folder: Path | None = None) -> Any:
    """folder: where the model's external weights are."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    if folder is not None:
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder))
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
