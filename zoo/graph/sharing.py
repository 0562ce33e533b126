"""One computation, one set of nodes: a trace that runs the trunk for the features and again for the logits writes
it down twice (SqueezeNet's own head reads the maps). ONNX Runtime joins such twins when it loads the file; a count of
its MACs, of its activations, and other runtimes do not.
"""

from __future__ import annotations

from collections.abc import Mapping

import onnx

from zoo.graph.surgery import prune, subgraphs

_DRAWN = ("Random", "Bernoulli", "Multinomial", "Dropout")


def share(model: onnx.ModelProto) -> None:
    """Let the readers of a node that repeats an earlier one read the earlier one, and drop it where it is no output."""
    graph = model.graph
    same: dict[str, str] = {}
    first: dict[tuple[object, ...], onnx.NodeProto] = {}
    for node in graph.node:
        _read_instead(node, same)
        if subgraphs(node) or node.op_type.startswith(_DRAWN):
            continue
        earlier = first.setdefault(_what(node), node)
        if earlier is not node:
            same.update(zip(node.output, earlier.output, strict=True))
    if same:
        prune(model)


def _what(node: onnx.NodeProto) -> tuple[object, ...]:
    """Equal for nodes that compute the same."""
    attributes = sorted(attribute.SerializeToString(deterministic=True) for attribute in node.attribute)
    given = tuple(bool(name) for name in node.output)
    return (node.domain, node.op_type, tuple(node.input), given, *attributes)


def _read_instead(node: onnx.NodeProto, same: Mapping[str, str]) -> None:
    node.input[:] = [same.get(name, name) for name in node.input]
    for graph in subgraphs(node):
        for inner in graph.node:
            _read_instead(inner, same)
        for value in graph.output:
            value.name = same.get(value.name, value.name)
