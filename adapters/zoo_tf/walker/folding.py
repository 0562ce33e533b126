"""What the finished graph can do without: written by ONNX names, so that a layer's aliases count as one.

A BatchNormalization after a convolution goes into its weights, zero padding into its `pads` (into a
convolution only: a maximum over padded zeros, or a mean that counts them, is another number), an Expand that
the next addition would do anyway is dropped, and nodes that nothing reads go.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import numpy as np
import onnx
from onnx import helper

from zoo_tf.walker.graph import Graph

BROADCASTING = ("Add", "Sub", "Mul", "Div")


def fold(graph: Graph, *, keep: Iterable[str]) -> None:
    """Change `graph.nodes` in place; `keep` names the outputs."""
    work = _Fold(graph)
    for node in graph.nodes:
        work.visit(node)
    live, kept = set(keep), []
    for node in reversed(graph.nodes):
        if any(name in live for name in node.output):
            kept.append(node)
            live.update(node.input)
    graph.nodes = kept[::-1]
    _name_ends(graph, set(keep))


class _Fold:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.makers = {name: node for node in graph.nodes for name in node.output}
        self.readers = Counter(name for node in graph.nodes for name in node.input)
        self.renamed: dict[str, str] = {}

    def visit(self, node: onnx.NodeProto) -> None:
        """Fold what feeds this node into it, or it into what feeds it."""
        for index, name in enumerate(node.input):
            node.input[index] = self.renamed.get(name, name)
        before = self.makers.get(node.input[0]) if node.input else None
        if node.op_type in BROADCASTING:
            self._drop_expand(node)
        elif before is None:
            return
        elif node.op_type == "BatchNormalization" and before.op_type == "Conv":
            self._into_convolution(node, before)
        elif node.op_type == "Conv" and before.op_type == "Pad":
            self._padding(node, before)

    def _into_convolution(self, norm: onnx.NodeProto, conv: onnx.NodeProto) -> None:
        """w' = w g / sqrt(v + eps), b' = (b - m) g / sqrt(v + eps) + beta; vectors in float64."""
        if self.readers[conv.output[0]] != 1:
            return
        gamma, beta, mean, variance = (self._exact(name) for name in norm.input[1:])
        scale = gamma / np.sqrt(variance + _attribute(norm, "epsilon").f)
        kernel = self.graph.weights[conv.input[1]]
        bias = self._exact(conv.input[2]) if len(conv.input) > 2 else 0.0
        scaled = kernel * scale.astype(np.float32).reshape(-1, *[1] * (kernel.ndim - 1))
        names = [self.graph.constant(array) for array in (scaled, (bias - mean) * scale + beta)]
        source = conv.input[0]
        del conv.input[:]
        conv.input.extend([source, *names])
        self.renamed[norm.output[0]] = conv.output[0]
        self.readers[conv.output[0]] = self.readers[norm.output[0]]

    def _padding(self, conv: onnx.NodeProto, pad: onnx.NodeProto) -> None:
        """Zeros around height and width become the convolution's own."""
        around, filling = (self.graph.weights[name] for name in pad.input[1:3])
        rank = len(around) // 2
        inner = not around[:2].any() and not around[rank : rank + 2].any()
        if _attribute(conv, "auto_pad") is not None or filling != 0 or not inner:
            return
        pads = np.concatenate([around[2:rank], around[rank + 2 :]])
        if (own := _attribute(conv, "pads")) is not None:
            pads = pads + np.array(own.ints)
            conv.attribute.remove(own)
        conv.attribute.append(helper.make_attribute("pads", pads.tolist()))
        self.readers[pad.output[0]] -= 1
        conv.input[0] = pad.input[0]

    def _drop_expand(self, node: onnx.NodeProto) -> None:
        """Add(a, Expand(b, Shape(a))) is Add(a, b)."""
        for index, other in ((0, 1), (1, 0)):
            expand = self.makers.get(node.input[index])
            shape = (
                self.makers.get(expand.input[1])
                if expand is not None and expand.op_type == "Expand"
                else None
            )
            if shape is not None and shape.op_type == "Shape" and shape.input[0] == node.input[other]:
                assert expand is not None
                node.input[index] = expand.input[0]

    def _exact(self, name: str) -> np.ndarray:
        return self.graph.weights[name].astype(np.float64)


def _name_ends(graph: Graph, ends: set[str]) -> None:
    """Identity(x) -> output becomes x called like the output, where x is made by a node and is no output yet."""
    makers = {name: node for node in graph.nodes for name in node.output}
    renamed: dict[str, str] = {}
    for node in graph.nodes:
        source = node.input[0] if node.op_type == "Identity" else ""
        if node.output[0] in ends and source in makers and source not in ends | renamed.keys():
            renamed[source] = node.output[0]
    nodes = [
        n for n in graph.nodes if not (n.op_type == "Identity" and renamed.get(n.input[0]) == n.output[0])
    ]
    for node in nodes:
        for field in (node.input, node.output):
            for index, name in enumerate(field):
                field[index] = renamed.get(name, name)
    graph.nodes = nodes


def _attribute(node: onnx.NodeProto, name: str) -> onnx.AttributeProto | None:
    return next((a for a in node.attribute if a.name == name), None)
