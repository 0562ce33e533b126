"""fp16 and int8 forms of a float32 graph, made by ONNX Runtime's own converters (onnxruntime.quantization and
onnxruntime.transformers.float16; both come with onnxruntime).

What they leave to the caller is decided here: which operators, which layers stay in float, and what of the result
is ballast. Everything takes a ModelProto and gives a new one; nothing is written but temporary files.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import string
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from zoo.engine import Array
from zoo.errors import ExportError
from zoo.graph.surgery import FEATURES, LOGITS, names, prune, reads

WEIGHTED: Mapping[str, int] = {"Conv": 1, "ConvTranspose": 1, "Gemm": 1, "MatMul": 1, "Gather": 0}
"""Operators that hold weights, and which of their inputs those are."""
CARRIED = (
    "Relu", "Clip", "LeakyRelu", "MaxPool", "AveragePool", "GlobalAveragePool", "Concat", "Pad", "Resize",
    "Split", "Slice", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze",
)  # fmt: skip
"""Operators between them that have 8-bit kernels or only move values: in float each would cost two conversions."""
HALF_STAYS_FLOAT = (
    "LayerNormalization", "InstanceNormalization", "GroupNormalization", "Softmax", "LogSoftmax", "ReduceSum",
    "ReduceMean", "Pow", "Exp",
)  # fmt: skip
"""What torch.autocast computes in float32 too: sums, powers and exponentials leave fp16's range first."""
REDUCED = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "MatMulInteger", "ConvInteger",
           "QLinearConv", "QLinearMatMul", "MatMulNBits")  # fmt: skip
PREPARED = "onnx.quant.pre_process"


# --- what a graph is made of
def reduced_precision(model: onnx.ModelProto) -> str | None:
    """What makes it no float32 graph ("DequantizeLinear nodes", "float16 weights"), or None."""
    found = next((node.op_type for node in model.graph.node if node.op_type in REDUCED), None)
    if found:
        return f"{found} nodes"
    types = {TensorProto.FLOAT16: "float16 weights", TensorProto.BFLOAT16: "bfloat16 weights"}
    return next((types[t.data_type] for t in model.graph.initializer if t.data_type in types), None)


def layers(model: onnx.ModelProto) -> dict[str, int]:
    """Names of the nodes that hold float weights of two axes or more, in order, and the bytes of those."""
    weights = {
        tensor.name: 4 * int(np.prod(tensor.dims))
        for tensor in model.graph.initializer
        if tensor.data_type == TensorProto.FLOAT and len(tensor.dims) > 1
    }
    found = {}
    for node in model.graph.node:
        index = WEIGHTED.get(node.op_type)
        if index is not None and len(node.input) > index and node.input[index] in weights:
            found[node.name] = weights[node.input[index]]
    return found


def conv_share(model: onnx.ModelProto) -> float:
    """The part of the layers' weights that convolutions hold, 0 to 1."""
    held, kinds = layers(model), {node.name: node.op_type for node in model.graph.node}
    convs = sum(size for name, size in held.items() if kinds[name].startswith("Conv"))
    return convs / max(1, sum(held.values()))


def name_nodes(model: onnx.ModelProto) -> None:
    """Give every node a name of its own: the converters know layers by name, and exporters need not give any."""
    taken: set[str] = set()
    for number, node in enumerate(model.graph.node):
        if not node.name or node.name in taken:
            node.name = f"{node.op_type}_{number}"
        while node.name in taken:
            node.name += "_"
        taken.add(node.name)


# --- conversions
def prepared(model: onnx.ModelProto) -> onnx.ModelProto:
    """As onnxruntime.quantization wants it: constants and batch norms folded, shapes inferred, nodes named."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with _quiet(), tempfile.TemporaryDirectory(prefix="zoo-quantize-") as folder:
        source, path = Path(folder) / "source.onnx", Path(folder) / "prepared.onnx"
        source.write_bytes(model.SerializeToString())  # from memory it would move the weights out of `model`
        # Symbolic inference needs sympy; onnx's own finds what convolutions need.
        quant_pre_process(str(source), str(path), skip_symbolic_shape=True)
        found: onnx.ModelProto = onnx.load(path)
    name_nodes(found)
    return found


def static(
    model: onnx.ModelProto,
    batches: Iterable[Mapping[str, Array]],
    *,
    ranges: Path,
    keep: Collection[str] = (),
    only: Collection[str] = (),
    reduce_range: bool = False,
) -> onnx.ModelProto:
    """QDQ int8: uint8 activations at the ranges seen in `batches`, int8 weights per channel.

    model: from `prepared`.  ranges: a file of the activations' ranges; where it is there `batches` are not run.
    keep: layers that stay in float.  only: the layers that do not, where given.  reduce_range: 7-bit weights.
    """
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    kinds = {node.op_type for node in model.graph.node}
    # Residual streams of transformers hold outliers that 8 bits for the whole tensor do not (Bondarenko et al. 2021).
    joined = () if "LayerNormalization" in kinds else ("Add",)
    stays = [*keep, *_tail(model), *(n.name for n in model.graph.node if n.name.startswith("uint8_input"))]
    if only:
        stays += [node.name for node in model.graph.node if node.name not in only]
    with _quiet(), tempfile.TemporaryDirectory(prefix="zoo-quantize-") as folder:
        path = Path(folder) / "static.onnx"
        quantize_static(
            onnx.ModelProto.FromString(model.SerializeToString()),  # it moves the weights into a file
            path,
            _Reader(batches),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            reduce_range=reduce_range,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=[*WEIGHTED, *CARRIED, *joined],
            nodes_to_exclude=stays,
            calibration_cache_path=ranges,
            # Logits of 256 steps would tie; a product of two activations gains nothing where both are converted.
            extra_options={"MatMulConstBOnly": True, "OpTypesToExcludeOutputQuantization": ["Gemm"]},
        )
        return _slim(onnx.load(path), model)


def dynamic(
    model: onnx.ModelProto,
    *,
    keep: Collection[str] = (),
    only: Collection[str] = (),
    reduce_range: bool = False,
) -> onnx.ModelProto:
    """int8 weights (per channel) of MatMul and Gemm, whose activations are quantised as they come; embeddings too.

    model: from `prepared`. keep, only, reduce_range: as in `static`.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with _quiet(), tempfile.TemporaryDirectory(prefix="zoo-quantize-") as folder:
        path = Path(folder) / "dynamic.onnx"
        quantize_dynamic(
            _gemms_as_matmuls(model),
            path,
            op_types_to_quantize=["MatMul", "Gather"],
            per_channel=True,
            reduce_range=reduce_range,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=list(keep),
            nodes_to_quantize=list(only),
        )
        return _slim(onnx.load(path), model)


def half(model: onnx.ModelProto, *, keep: Collection[str] = ()) -> onnx.ModelProto:
    """fp16 weights and arithmetic; inputs and outputs stay float32. keep: nodes that stay in float32."""
    from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    name_nodes(copy)
    with _quiet():
        found: onnx.ModelProto = convert_float_to_float16(
            copy,
            keep_io_types=True,
            op_block_list=[*DEFAULT_OP_BLOCK_LIST, *HALF_STAYS_FLOAT],
            node_block_list=list(keep),
        )
    del found.graph.value_info[:]
    return _sorted(found)


class _Reader:
    """Calibration batches as onnxruntime.quantization asks for them."""

    def __init__(self, batches: Iterable[Mapping[str, Array]]) -> None:
        self._batches = iter(batches)

    def get_next(self) -> dict[str, Array] | None:
        found = next(self._batches, None)
        return None if found is None else dict(found)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The converters warn of every tensor they pass over; what they cannot do they raise."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    except (AssertionError, AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ExportError(
            f"onnxruntime's converter does not take this graph ({type(error).__name__}: {str(error)[:300]}). "
            "Choose another precision, or keep the layer that it names in float (--keep)."
        ) from error
    finally:
        logging.disable(before)


def _tail(model: onnx.ModelProto) -> list[str]:
    """Nodes between the last layer and `features` (a mean, a flattening): heads are fitted on float features."""
    makers = {name: node for node in model.graph.node for name in node.output}
    found: list[str] = []
    waiting = [name for name in names(model.graph.output) if name.startswith(FEATURES)]
    while waiting:
        node = makers.get(waiting.pop())
        if node is None or node.op_type in WEIGHTED or node.op_type in ("Relu", "Clip", "Concat", "Add"):
            continue
        found.append(node.name)
        waiting += [node.input[0]] if node.input else []
    return found


def _gemms_as_matmuls(model: onnx.ModelProto) -> onnx.ModelProto:
    """MatMul and Add for each Gemm with constant weights and no scaling, under the Gemm's name: dynamic
    quantisation knows no Gemm, and its own replacement forgets the names that `keep` needs."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    held = {tensor.name: tensor for tensor in copy.graph.initializer}
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        given = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        plain = given.get("alpha", 1) == 1 and given.get("beta", 1) == 1 and not given.get("transA", 0)
        if node.op_type != "Gemm" or not plain or node.input[1] not in held:
            nodes.append(node)
            continue
        weight = node.input[1]
        if given.get("transB", 0):
            turned = np.ascontiguousarray(numpy_helper.to_array(held[weight]).T)
            weight = f"{node.name}.weight_turned"
            copy.graph.initializer.append(numpy_helper.from_array(turned, weight))
        product = f"{node.name}.product" if len(node.input) > 2 else node.output[0]
        nodes.append(onnx.helper.make_node("MatMul", [node.input[0], weight], [product], name=node.name))
        if len(node.input) > 2:
            added = [product, node.input[2]]
            nodes.append(onnx.helper.make_node("Add", added, [node.output[0]], name=f"{node.name}.bias"))
    del copy.graph.node[:]
    copy.graph.node.extend(nodes)
    prune(copy)
    return copy


# --- ballast
def _slim(model: onnx.ModelProto, before: onnx.ModelProto) -> onnx.ModelProto:
    """Without inferred shapes, zero points that say zero, equal constants twice, and long names of new tensors.

    A quarter of a small network's int8 file is such; ONNX Runtime fuses the same integer kernels without it.
    """
    graph = model.graph
    del graph.value_info[:]
    held = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "DequantizeLinear" and len(node.input) == 3 and node.input[0] in held:
            zero = held.get(node.input[2])
            signed = held[node.input[0]].data_type in (TensorProto.INT8, TensorProto.INT32)
            if signed and zero is not None and not numpy_helper.to_array(zero).any():
                del node.input[2]
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            node.name = ""
    _share(graph, held)
    prune(model)
    kept = {tensor.name for tensor in before.graph.initializer}
    kept |= {name for node in before.graph.node for name in node.output}
    kept |= {*names(graph.input), *names(graph.output), LOGITS, FEATURES}
    _shorten(graph, kept)
    used = {node.domain or "" for node in graph.node}
    for entry in [e for e in model.opset_import if e.domain not in ("", *used)]:
        model.opset_import.remove(entry)
    return model


def _share(graph: onnx.GraphProto, held: Mapping[str, onnx.TensorProto]) -> None:
    """One constant for all that are equal: most zero points and many scales are."""
    first: dict[tuple[Any, ...], str] = {}
    same = {}
    for name, tensor in held.items():
        if int(np.prod(tensor.dims)) <= 4:
            key = (tensor.data_type, tuple(tensor.dims), numpy_helper.to_array(tensor).tobytes())
            same[name] = first.setdefault(key, name)
    for node in graph.node:
        node.input[:] = [same.get(name, name) for name in node.input]


def _shorten(graph: onnx.GraphProto, kept: Collection[str]) -> None:
    """Names of one or two letters for new tensors: each stands in the file three times."""
    letters = string.ascii_letters + string.digits
    fresh = (
        "".join(part) for length in itertools.count(1) for part in itertools.product(letters, repeat=length)
    )
    short: dict[str, str] = {}

    def of(name: str) -> str:
        if not name or name in kept:
            return name
        if name not in short:
            short[name] = next(text for text in fresh if text not in kept)
        return short[name]

    for node in graph.node:
        node.input[:] = [of(name) for name in node.input]
        node.output[:] = [of(name) for name in node.output]
    for tensor in graph.initializer:
        tensor.name = of(tensor.name)


def _sorted(model: onnx.ModelProto) -> onnx.ModelProto:
    """Nodes in an order in which each comes after what it reads: the fp16 converter appends its casts."""
    graph = model.graph
    made = {name for node in graph.node for name in node.output if name}
    waiting: Sequence[onnx.NodeProto] = list(graph.node)
    done: set[str] = set()
    ordered: list[onnx.NodeProto] = []
    while waiting:
        ready = [n for n in waiting if all(name in done or name not in made for name in reads(n))]
        if not ready:
            raise ExportError("the fp16 graph has a cycle: keep the last layer in float (--keep)")
        ordered += ready
        done |= {name for node in ready for name in node.output}
        taken = {id(node) for node in ready}
        waiting = [node for node in waiting if id(node) not in taken]
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in ordered]
    del graph.node[:]
    graph.node.extend(copies)
    return model
