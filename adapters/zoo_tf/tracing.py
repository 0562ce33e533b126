"""Keras to ONNX by tf2onnx, which reads TensorFlow's trace of a network.

tf2onnx only logs an operation that it cannot convert, so its result is looked at; and it numbers by counters
of the process, so its names are made anew.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import onnx
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2
from tf2onnx import optimizer, tf_loader, tfonnx
from tf2onnx import utils as tf2onnx_utils

from zoo.errors import ExportError
from zoo_tf.network import IMAGES, Network
from zoo_tf.start import keras, tf

LAYOUT_PASSES = ("optimize_transpose", "fold_constants", "remove_identity", "remove_back_to_back")
ALL_PASSES = tuple(optimizer._get_optimizers())


def trace(
    model: keras.Model,
    network: Network,
    *,
    opset: int,
    outputs: Sequence[str],
    grappler: bool,
    passes: Sequence[str],
) -> onnx.ModelProto:
    """`model`, whose inputs are the network's, with its outputs called `outputs`.

    grappler: TensorFlow's own optimizer first.  passes: of tf2onnx's, by name.
    Raises ExportError for operators that ONNX has not, and whatever tf2onnx raises.
    """
    found = _convert(model, network, opset=opset, grappler=grappler, passes=passes)
    proto = _tidy(found, inputs=network.inputs, outputs=outputs)
    _refuse_foreign_operators(proto)
    return proto


def _convert(
    model: keras.Model, network: Network, *, opset: int, grappler: bool, passes: Sequence[str]
) -> onnx.ModelProto:
    frozen = _freeze(model, network)
    definition = frozen.graph.as_graph_def(add_shapes=True)
    inputs, outputs = [t.name for t in frozen.inputs], [t.name for t in frozen.outputs]
    with tf.device("/CPU:0"), tf.Graph().as_default() as graph:
        if grappler:
            definition = tf_loader.tf_optimize(inputs, outputs, definition)
        tf.import_graph_def(definition, name="")
        found = tfonnx.process_tf_graph(
            graph,
            opset=opset,
            input_names=inputs,
            output_names=outputs,
            inputs_as_nchw=inputs if network.inputs == IMAGES else [],
            custom_op_handlers={"Erfc": (_erfc, [])},
        )
    chosen = {name: optimizer._get_optimizers()[name] for name in passes}
    if chosen:
        found = optimizer.optimize_graph(found, catch_errors=False, optimizers=chosen)
    return found.make_model("backbone zoo")


def _freeze(model: keras.Model, network: Network) -> Any:
    """Concrete function whose weights are constants; int64 ids are cast to Keras's int32 inside."""

    def run(*tensors: Any) -> list[Any]:
        cast = [tf.cast(t, i.dtype) for t, i in zip(tensors, model.inputs, strict=True)]
        return tf.nest.flatten(model(cast, training=False))

    kinds = [tf.float32 if network.inputs == IMAGES else tf.int64 for _ in model.inputs]
    signature = [
        tf.TensorSpec([None, *t.shape[1:]], kind, name=name)
        for t, kind, name in zip(model.inputs, kinds, network.inputs, strict=True)
    ]
    with _inlined_functions():
        traced = tf.function(run, input_signature=signature).get_concrete_function()
    return convert_variables_to_constants_v2(traced, lower_control_flow=False, aggressive_inlining=True)


@contextmanager
def _inlined_functions() -> Iterator[None]:
    """While tracing, a tf.function inside the model becomes part of the graph: Keras wraps grouped
    convolutions in one with jit_compile=True, which tf2onnx cannot read."""
    before = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(before)


def _erfc(context: Any, node: Any, name: str, _args: Any) -> None:
    """1 - Erf(x): ONNX has no Erfc, which exact GELU is made of."""
    (source,), (target,) = node.input, node.output
    shapes, kinds = [context.get_shape(target)], [context.get_dtype(target)]
    one = context.make_const(tf2onnx_utils.make_name("one"), np.array(1, np.float32)).output[0]
    context.remove_node(node.name)
    erf = context.make_node("Erf", [source], shapes=shapes, dtypes=kinds).output[0]
    context.make_node("Sub", [one, erf], outputs=[target], shapes=shapes, dtypes=kinds, name=name)


def _tidy(proto: onnx.ModelProto, *, inputs: Sequence[str], outputs: Sequence[str]) -> onnx.ModelProto:
    """The project's names for inputs, outputs and open dimensions; numbers in graph order for the rest.

    tf2onnx and Keras number by counters of the process, so two exports of one model would differ.
    """
    graph = proto.graph
    # tf2onnx keeps the order of outputs; inputs carry the names that the signature gave them.
    by_name = {value.name.split(":")[0]: value.name for value in graph.input}
    names = {by_name[name]: name for name in inputs if name in by_name}
    ends = {value.name: name for value, name in zip(graph.output, outputs, strict=True)}
    if not any(a.HasField("g") or a.graphs for node in graph.node for a in node.attribute):
        _sort(graph)
        names |= {tensor.name: f"weight_{i}" for i, tensor in enumerate(graph.initializer)}
        made = [name for node in graph.node for name in node.output if name]
        names |= {name: f"value_{i}" for i, name in enumerate(made)}
        for index, node in enumerate(graph.node):
            node.name = f"{node.op_type}_{index}"
    _rename(graph, names | ends)
    del graph.value_info[:]
    _name_dimensions(graph.input, ("batch", None) if "images" in inputs else ("batch", "length"))
    _name_dimensions(graph.output, ("batch", None))
    return proto


def _sort(graph: onnx.GraphProto) -> None:
    """Nodes as the outputs need them, weights as the nodes do: tf2onnx's own order goes by its counters."""
    makers = {name: index for index, node in enumerate(graph.node) for name in node.output}
    order: dict[int, None] = {}
    waiting = [makers[value.name] for value in reversed(graph.output) if value.name in makers]
    while waiting:
        index = waiting[-1]
        needs = [makers[name] for name in graph.node[index].input if name in makers]
        if missing := [need for need in needs if need not in order]:
            waiting.extend(reversed(missing))
        else:
            order[waiting.pop()] = None
    nodes = [copy.deepcopy(graph.node[index]) for index in order]
    rank = {name: i for i, name in enumerate(dict.fromkeys(n for node in nodes for n in node.input))}
    weights = sorted((t for t in graph.initializer if t.name in rank), key=lambda t: rank[t.name])
    weights = [copy.deepcopy(tensor) for tensor in weights]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend(weights)


def _rename(graph: onnx.GraphProto, names: dict[str, str]) -> None:
    for node in graph.node:
        for field in (node.input, node.output):
            for index, name in enumerate(field):
                field[index] = names.get(name, name)
    for values in (graph.input, graph.output, graph.initializer):
        for value in values:
            value.name = names.get(value.name, value.name)


def _name_dimensions(values: Any, names: Sequence[str | None]) -> None:
    for value in values:
        for dimension, name in zip(value.type.tensor_type.shape.dim, names, strict=False):
            if name is not None:
                dimension.dim_param = name


def _refuse_foreign_operators(proto: onnx.ModelProto) -> None:
    """Raises ExportError for operators that tf2onnx left as they were in TensorFlow."""
    version = next(o.version for o in proto.opset_import if o.domain in ("", "ai.onnx"))
    known: Callable[[str], bool] = lambda name: onnx.defs.has(name, version)  # noqa: E731
    foreign = sorted({n.op_type for n in proto.graph.node if n.domain or not known(n.op_type)})
    if foreign:
        raise ExportError(f"no ONNX form of {', '.join(foreign)}")
    onnx.checker.check_model(proto)
