"""Activation functions: as a layer's argument, as layers, and as keras.ops."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from zoo_tf.start import keras
from zoo_tf.walker.lowerings.elementwise import binary
from zoo_tf.walker.values import Layout, RefusedError, Value, axis_in
from zoo_tf.walker.walk import Walk

nn = keras.src.ops.nn


def linear(walk: Walk, x: Value) -> Value:
    return x


def relu(walk: Walk, x: Value) -> Value:
    return walk.graph.same("Relu", x)


def relu6(walk: Walk, x: Value) -> Value:
    return clip(walk, x, 0.0, 6.0)


def clip(walk: Walk, x: Value, low: float, high: float) -> Value:
    limits = [walk.graph.constant(np.float32(value)) for value in (low, high)]
    return walk.graph.same("Clip", x, *limits)


def sigmoid(walk: Walk, x: Value) -> Value:
    return walk.graph.same("Sigmoid", x)


def tanh(walk: Walk, x: Value) -> Value:
    return walk.graph.same("Tanh", x)


def exponential(walk: Walk, x: Value) -> Value:
    return walk.graph.same("Exp", x)


def softplus(walk: Walk, x: Value) -> Value:
    return walk.graph.same("Softplus", x)


def softsign(walk: Walk, x: Value) -> Value:
    return walk.graph.same("Softsign", x)


def hard_sigmoid(walk: Walk, x: Value) -> Value:
    """Keras's is relu6(x + 3) / 6; ONNX's default slope is another."""
    return walk.graph.same("HardSigmoid", x, attributes={"alpha": 1 / 6, "beta": 0.5})


def hard_silu(walk: Walk, x: Value) -> Value:
    return walk.graph.same("HardSwish", x)


def silu(walk: Walk, x: Value) -> Value:
    return walk.graph.same("Mul", x, sigmoid(walk, x))


def elu(walk: Walk, x: Value, alpha: float = 1.0) -> Value:
    return walk.graph.same("Elu", x, attributes={"alpha": float(alpha)})


def selu(walk: Walk, x: Value) -> Value:
    return walk.graph.same("Selu", x)


def leaky_relu(walk: Walk, x: Value, slope: float = 0.2) -> Value:
    return walk.graph.same("LeakyRelu", x, attributes={"alpha": float(slope)})


def softmax(walk: Walk, x: Value, axis: Any = -1) -> Value:
    """Over one axis, or over the last ones taken together."""
    if isinstance(axis, list | tuple):
        if len(axis) != 1:
            raise RefusedError(f"a softmax over the axes {axis} at once")
        axis = axis[0]
    x = walk.graph.keras_order(x) if x.layout is Layout.FLAT else x
    return walk.graph.same("Softmax", x, attributes={"axis": axis_in(x, axis)})


def gelu(walk: Walk, x: Value) -> Value:
    """x (1 + erf(x / sqrt 2)) / 2, in the order that ONNX Runtime fuses (Hendrycks & Gimpel 2016)."""
    error = walk.graph.same("Erf", binary(walk, "Div", x, np.float32(math.sqrt(2))))
    whole = walk.graph.same("Mul", x, binary(walk, "Add", error, np.float32(1)))
    return binary(walk, "Mul", whole, np.float32(0.5))


def gelu_tanh(walk: Walk, x: Value) -> Value:
    """x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2, in the order that ONNX Runtime fuses."""
    cube = binary(walk, "Pow", x, np.float32(3))
    inner = walk.graph.same("Add", x, binary(walk, "Mul", cube, np.float32(0.044715)))
    bent = tanh(walk, binary(walk, "Mul", inner, np.float32(math.sqrt(2 / math.pi))))
    return walk.graph.same(
        "Mul", binary(walk, "Mul", x, np.float32(0.5)), binary(walk, "Add", bent, np.float32(1))
    )


# --- layers
def activation_layer(walk: Walk, layer: Any, x: Value) -> Value:
    return walk.activation(layer.activation, x)


def relu_layer(walk: Walk, layer: Any, x: Value) -> Value:
    if layer.threshold:
        raise RefusedError(f"threshold={layer.threshold}")
    slope, highest = float(layer.negative_slope), layer.max_value
    if slope:
        if highest is not None:
            raise RefusedError("a slope and a maximum together")
        return leaky_relu(walk, x, slope)
    return relu(walk, x) if highest is None else clip(walk, x, 0.0, float(highest))


def leaky_relu_layer(walk: Walk, layer: Any, x: Value) -> Value:
    return leaky_relu(walk, x, layer.negative_slope)


def elu_layer(walk: Walk, layer: Any, x: Value) -> Value:
    return elu(walk, x, layer.alpha)


def prelu_layer(walk: Walk, layer: Any, x: Value) -> Value:
    x = walk.graph.keras_order(x)
    return walk.graph.same("PRelu", x, walk.graph.constant(layer.alpha))


def softmax_layer(walk: Walk, layer: Any, x: Value, mask: Value | None = None) -> Value:
    """A mask takes 1e9 from what it hides, as Keras does: a text of padding alone stays finite."""
    if mask is not None:
        hidden = binary(walk, "Sub", np.float32(1), walk.graph.cast(mask, "float32"))
        x = binary(walk, "Add", x, binary(walk, "Mul", hidden, np.float32(-1e9)))
    return softmax(walk, x, layer.axis)


# --- keras.ops
def gelu_op(walk: Walk, op: Any, x: Value) -> Value:
    return gelu_tanh(walk, x) if op.approximate else gelu(walk, x)


def leaky_relu_op(walk: Walk, op: Any, x: Value) -> Value:
    return leaky_relu(walk, x, op.negative_slope)


def softmax_op(walk: Walk, op: Any, x: Value) -> Value:
    return softmax(walk, x, op.axis)


def _op(function: Any) -> Any:
    """The same for a keras.ops operation, which comes as an object without settings."""

    def lowering(walk: Walk, op: Any, x: Value) -> Any:
        return function(walk, x)

    return lowering


FUNCTIONS = {
    keras.activations.linear: linear,
    keras.activations.relu: relu,
    keras.activations.relu6: relu6,
    keras.activations.sigmoid: sigmoid,
    keras.activations.tanh: tanh,
    keras.activations.exponential: exponential,
    keras.activations.softplus: softplus,
    keras.activations.softsign: softsign,
    keras.activations.hard_sigmoid: hard_sigmoid,
    keras.activations.hard_silu: hard_silu,
    keras.activations.silu: silu,
    keras.activations.elu: elu,
    keras.activations.selu: selu,
    keras.activations.leaky_relu: leaky_relu,
    keras.activations.softmax: softmax,
    keras.activations.gelu: gelu,
}
"""By the function itself: its name may be somebody else's."""

LOWERINGS: dict[Any, Any] = {
    **FUNCTIONS,
    keras.layers.Activation: activation_layer,
    keras.layers.ReLU: relu_layer,
    keras.layers.LeakyReLU: leaky_relu_layer,
    keras.layers.ELU: elu_layer,
    keras.layers.PReLU: prelu_layer,
    keras.layers.Softmax: softmax_layer,
    nn.Relu: _op(relu),
    nn.Relu6: _op(relu6),
    nn.Sigmoid: _op(sigmoid),
    nn.Silu: _op(silu),
    nn.Softplus: _op(softplus),
    nn.HardSigmoid: _op(hard_sigmoid),
    nn.HardSilu: _op(hard_silu),
    nn.Gelu: gelu_op,
    nn.LeakyRelu: leaky_relu_op,
    nn.Softmax: softmax_op,
}
