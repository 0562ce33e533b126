"""How many bytes of activations live at once while a graph runs, from the graph alone.

The nodes run in the order of the file (which ONNX requires to be a topological one), one at a time, each tensor
living from the node that makes it to the last that reads it, as in Liberis and Lane 2019, "Neural networks on
microcontrollers". Two liberties that runtimes take are taken here: a view (Reshape, Flatten, ...) is its input, and
an element-by-element operator writes over an input of the same size that nobody reads afterwards. A runtime that
fuses more needs less; one that pads, aligns or keeps workspaces for its kernels needs more. Weights, and what is
computed from weights alone, are no activations.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx

from zoo.cost.reading import all_graphs
from zoo.cost.shapes import Tensor
from zoo.errors import ModelFileError

VIEWS = {"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Dropout"}
_BINARY = {"Add", "Sub", "Mul", "Div", "Min", "Max", "Pow", "Where", "And", "Or", "PRelu", "Mod"}
_UNARY = {
    "Relu", "LeakyRelu", "Clip", "Sigmoid", "HardSigmoid", "HardSwish", "Swish", "Tanh", "Elu", "Selu", "Celu", "Gelu",
    "FastGelu", "QuickGelu", "BiasGelu", "Mish", "Softplus", "Softsign", "ThresholdedRelu", "Erf", "Exp", "Log",
    "Sqrt", "Reciprocal", "Neg", "Abs", "Floor", "Ceil", "Round", "Sign", "Sin", "Cos", "Not", "Cast",
    "BatchNormalization", "QuantizeLinear", "DequantizeLinear",
}  # fmt: skip
IN_PLACE = _BINARY | _UNARY
_SOURCES = ("Random", "Bernoulli", "Multinomial")  # of nothing but weights, and yet no constants


def activation_tensors(model: onnx.ModelProto) -> set[str]:
    """The tensors whose sizes `activation_bytes` needs. Raises ModelFileError for control flow: what lives inside a
    loop or a branch depends on values."""
    if inner := list(all_graphs(model.graph))[1:]:
        raise ModelFileError(f"activations of a graph with control flow ({inner[0].name}) are not counted")
    constant = constants(model)
    named = {name for node in model.graph.node for name in (*node.input, *node.output) if name}
    return (named | {value.name for value in model.graph.input}) - constant


def constants(model: onnx.ModelProto) -> set[str]:
    """Weights, and what is computed from them alone: made once, when the graph is loaded."""
    known = {tensor.name for tensor in model.graph.initializer}
    known |= {tensor.values.name for tensor in model.graph.sparse_initializer}
    for node in model.graph.node:
        if all(name in known for name in node.input if name) and not node.op_type.startswith(_SOURCES):
            known.update(name for name in node.output if name)
    return known


def activation_bytes(model: onnx.ModelProto, tensors: Mapping[str, Tensor]) -> int:
    """The most bytes that live at once; `tensors` holds those of `activation_tensors`. The inputs are the caller's
    and live throughout, the outputs to the end.

    Raises ModelFileError where a tensor has no fixed size (strings, sequences).
    """
    return _Run(model, tensors).peak()


class _Run:
    """One run of the graph in which only sizes move."""

    def __init__(self, model: onnx.ModelProto, tensors: Mapping[str, Tensor]) -> None:
        self.graph, self.tensors = model.graph, tensors
        self.constant = constants(model)
        self.nodes = [n for n in self.graph.node if not self.constant.issuperset(o for o in n.output if o)]
        self.home = _homes(self.nodes, self.constant)
        self.inputs = {value.name for value in self.graph.input} - self.constant
        self.pinned = self.inputs | {self._home(value.name) for value in self.graph.output}
        self.last = {self._home(name): i for i, node in enumerate(self.nodes) for name in node.input}

    def peak(self) -> int:
        """Walk through the nodes."""
        live = {name: self._bytes(name) for name in self.inputs}
        now = highest = sum(live.values())
        for index, node in enumerate(self.nodes):
            taken = self._taken_over(node, index, live)
            if taken is not None:
                now -= live.pop(taken)
            for name in node.output:
                if name and self._home(name) == name and name not in self.constant:
                    live[name] = self._bytes(name)
                    now += live[name]
            highest = max(highest, now)
            for name in {self._home(name) for name in (*node.input, *node.output)} & live.keys():
                if self.last.get(name, index) <= index and name not in self.pinned:
                    now -= live.pop(name)
        return highest

    def _home(self, name: str) -> str:
        return self.home.get(name, name)

    def _taken_over(self, node: onnx.NodeProto, index: int, live: Mapping[str, int]) -> str | None:
        """The dying input whose place this node's output takes, if it may."""
        if node.op_type not in IN_PLACE or self._home(node.output[0]) in self.inputs:
            return None
        for name in map(self._home, node.input):
            dying = name in live and name not in self.pinned and self.last[name] == index
            if dying and live[name] == self._bytes(node.output[0]):
                return name
        return None

    def _bytes(self, name: str) -> int:
        tensor = self.tensors[name]
        if not tensor.itemsize:
            raise ModelFileError(f"the tensor {name!r} has no fixed size")
        return tensor.bytes


def _homes(nodes: Sequence[onnx.NodeProto], constant: set[str]) -> dict[str, str]:
    """Views by name: the tensor whose bytes they are."""
    home: dict[str, str] = {}
    for node in nodes:
        if node.op_type in VIEWS and node.input[0] not in constant:
            home[node.output[0]] = home.get(node.input[0], node.input[0])
    return home
