"""The walker's lowerings, each alone in a small network, beside Keras: outputs, layout changes, what is folded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import tf_models

from zoo.testing.helpers import run_graph
from zoo_tf import walker
from zoo_tf.network import seeded
from zoo_tf.start import keras

layers, ops = keras.layers, keras.ops
OPSET = 18


def model_of(
    make: Callable[[Any], Any], *, shape: Sequence[int | None] = (9, 10, 6), dtype: str = "float32"
) -> keras.Model:
    """`make` between an input and its outputs, with values unlike the initial ones."""
    with seeded(0):
        inputs = keras.Input(shape, dtype=dtype)
        return tf_models.enlivened(keras.Model(inputs, make(inputs)))


def agree(model: keras.Model, path: Path, *, sizes: Sequence[int] = ()) -> Counter[str]:
    """Export, run on a batch of 3 beside Keras; the file's operators. sizes: for open axes, in order."""
    outputs = [f"output_{i}" for i in range(len(model.outputs))]
    names = [f"input_{i}" for i in range(len(model.inputs))]
    proto = walker.export(model, path, opset=OPSET, inputs=names, outputs=outputs)
    assert proto.opset_import[0].version == OPSET
    rng, batch, native = np.random.default_rng(0), {}, []
    for name, tensor in zip(names, model.inputs, strict=True):
        left = list(sizes)
        shape = (3, *(left.pop(0) if size is None else size for size in tensor.shape[1:]))
        if tensor.dtype == "float32":
            x = rng.normal(size=shape).astype(np.float32)
            native.append(x)
            batch[name] = x.transpose(0, 3, 1, 2) if x.ndim == 4 else x
        else:
            ids = rng.integers(0, 5, shape)
            native.append(ids.astype(np.int32))
            batch[name] = ids
    wanted = [np.asarray(t) for t in keras.tree.flatten(model(native, training=False))]
    found = run_graph(path, batch)
    for name, want in zip(outputs, wanted, strict=True):
        assert found[name].shape == want.shape
        np.testing.assert_allclose(found[name], want, rtol=2e-5, atol=2e-5 * np.abs(want).max())
    return Counter(node.op_type for node in proto.graph.node)


CONVOLUTIONS: dict[str, Callable[[Any], Any]] = {
    "valid": layers.Conv2D(4, 3),
    "same": layers.Conv2D(4, 3, padding="same", use_bias=False),
    "same, stride 2, even kernel": layers.Conv2D(4, (2, 3), strides=2, padding="same"),
    "dilated": layers.Conv2D(4, 3, dilation_rate=2, padding="same"),
    "grouped": layers.Conv2D(4, 3, groups=2),
    "depthwise": layers.DepthwiseConv2D(3, depth_multiplier=2, strides=2, padding="same"),
    "separable": layers.SeparableConv2D(5, 3, depth_multiplier=2, padding="same"),
    "activation": layers.Conv2D(4, 1, activation="relu6"),
    "dense on a map": lambda x: layers.Dense(5, activation="tanh")(layers.Conv2D(4, 1)(x)),
    "max pool": layers.MaxPooling2D(3, 2, padding="same"),
    "average pool": layers.AveragePooling2D(3, 2, padding="same"),
    "average": layers.GlobalAveragePooling2D(),
    "average, kept": layers.GlobalAveragePooling2D(keepdims=True),
    "maximum": layers.GlobalMaxPooling2D(),
    "batch norm": layers.BatchNormalization(scale=False, axis=3),
    "batch norm without centre": layers.BatchNormalization(center=False, epsilon=0.1),
    "layer norm": layers.LayerNormalization(epsilon=0.01),
    "group norm": layers.GroupNormalization(3),
    "padding": layers.ZeroPadding2D(((1, 2), (3, 4))),
    "cropping": layers.Cropping2D(((1, 0), (2, 3))),
    "upsampling": layers.UpSampling2D((2, 3)),
    "rescaling": layers.Rescaling([1.0, 2, 3, 4, 5, 6], offset=0.5),
    "permute": layers.Permute((3, 1, 2)),
    "reshape": layers.Reshape((90, 6)),
    "flatten": layers.Flatten(),
    "softmax": layers.Softmax(),
    "prelu": layers.PReLU("ones", shared_axes=[1, 2]),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_layers_on_maps(name: str, tmp_path: Path) -> None:
    """Height and width are odd and even, and unlike: a transposed axis would show."""
    agree(model_of(CONVOLUTIONS[name]), tmp_path / "a.onnx")


@pytest.mark.parametrize("kind", [layers.Conv2D, layers.MaxPooling2D, layers.AveragePooling2D])
def test_same_padding_on_maps_of_open_size(kind: Any, tmp_path: Path) -> None:
    """With a stride it depends on the size: on 9 pixels and on 10 alike."""
    layer = kind(4, 3, strides=2, padding="same") if kind is layers.Conv2D else kind(3, 2, padding="same")
    model = model_of(layer, shape=(None, None, 6))
    agree(model, tmp_path / "a.onnx", sizes=(9, 10))


@pytest.mark.parametrize("invert", [False, True])
def test_standardizing_uses_the_stored_mean(invert: bool, tmp_path: Path) -> None:
    values = {"mean": np.arange(6.0), "invert": invert}
    agree(model_of(layers.Normalization(variance=np.arange(1.0, 7.0), **values)), tmp_path / "a.onnx")
    agree(model_of(layers.Normalization(variance=np.zeros(6), **values)), tmp_path / "b.onnx")


ACTIVATIONS = ["relu", "relu6", "sigmoid", "tanh", "softplus", "softsign", "exponential", "hard_sigmoid"]
ACTIVATIONS += ["hard_silu", "silu", "elu", "selu", "leaky_relu", "gelu", "softmax", "linear", "log_sigmoid"]


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_functions(name: str, tmp_path: Path) -> None:
    if name == "log_sigmoid":  # not in the table: taken apart, and its operation is not known
        with pytest.raises(walker.RefusedError, match="LogSigmoid"):
            agree(model_of(layers.Activation(name)), tmp_path / "a.onnx")
        return
    agree(model_of(layers.Dense(7, activation=name), shape=(11,)), tmp_path / "a.onnx")


def test_activation_layers_and_functions_of_ones_own(tmp_path: Path) -> None:
    def make(x: Any) -> Any:
        x = layers.ReLU(max_value=3)(layers.LeakyReLU(0.1)(x))
        x = layers.Activation(lambda y: ops.tanh(y) * 2 + ops.gelu(y, approximate=True))(x)
        return layers.ELU(0.5)(layers.ReLU(negative_slope=0.2)(x))

    agree(model_of(make), tmp_path / "a.onnx")


def test_arithmetic_between_maps_vectors_and_numbers(tmp_path: Path) -> None:
    """keras.ops in the graph, constants on the channels, a gate [N, 1, 1, C]: no layout change."""

    def make(x: Any) -> Any:
        gate = layers.GlobalAveragePooling2D()(x)
        gate = layers.Reshape((1, 1, 6))(layers.Dense(6, "sigmoid")(gate))
        y = layers.Multiply()([x, gate]) + np.arange(6, dtype="float32")
        y = (y - 0.5) / (ops.abs(x) + 1.5) * 2.0
        return ops.maximum(y, ops.sqrt(ops.square(x))) - ops.minimum(x, 0.25)

    assert (
        agree(model_of(make), tmp_path / "a.onnx")["Transpose"] == 1
    )  # the output's, back into Keras's order


def test_reductions_slices_and_shapes(tmp_path: Path) -> None:
    def make(x: Any) -> Any:
        y = x[:, 1:-1, ::2, 2:] + ops.mean(x, axis=(1, 2), keepdims=True)[..., :4]
        y = ops.concatenate([y, ops.roll(y, (2, -1), axis=(1, 2))], axis=-1)
        parts = ops.split(ops.transpose(y, (0, 3, 1, 2)), 2, axis=1)
        y = ops.stack(parts, axis=1)[:, 0, :, None]
        y = ops.squeeze(y, 2) * ops.var(x) + ops.max(x, axis=-1)[:, None, :-2, :5]
        return ops.sum(ops.where(y > 0, y, y * 0.1), axis=1), ops.reshape(
            ops.pad(y, [[0, 0], [1, 0], [0, 0], [2, 3]]), (-1, 5, 70)
        )

    agree(model_of(make), tmp_path / "a.onnx")


def test_several_outputs_are_one_graph(tmp_path: Path) -> None:
    """Taps of a network; one of them is also what the next reads, and one is an input of nothing."""

    def make(x: Any) -> Any:
        a = layers.Conv2D(4, 3)(x)
        b = layers.BatchNormalization()(a)
        return [a, b, layers.GlobalAveragePooling2D()(layers.ReLU()(b)), b]

    assert agree(model_of(make), tmp_path / "a.onnx")["Conv"] == 1


# --- folding
def test_batch_norm_goes_into_the_convolution_that_only_it_reads(tmp_path: Path) -> None:
    def alone(x: Any) -> Any:
        x = layers.BatchNormalization()(layers.DepthwiseConv2D(3, use_bias=False)(x))
        return layers.GlobalAveragePooling2D()(layers.BatchNormalization()(layers.Conv2D(4, 3)(x)))

    def shared(x: Any) -> Any:
        x = layers.Dropout(0.3)(layers.Conv2D(4, 3)(x))  # the dropout is another name of the same value
        return layers.GlobalAveragePooling2D()(layers.BatchNormalization()(x) + x)

    assert agree(model_of(alone), tmp_path / "a.onnx")["BatchNormalization"] == 0
    assert agree(model_of(shared), tmp_path / "a.onnx")["BatchNormalization"] == 1


@pytest.mark.parametrize(
    ("behind", "folded"),
    [
        (layers.Conv2D(4, 3, strides=2), True),
        (layers.Conv2D(4, 3, padding="same"), True),
        (layers.MaxPooling2D(3, 2), False),
        (layers.AveragePooling2D(3, 2), False),
    ],
)
def test_zero_padding_goes_into_convolutions_only(behind: Any, folded: bool, tmp_path: Path) -> None:
    """Negative values before a maximum, and a mean that counts the zeros: folded, both would be wrong."""
    model = model_of(lambda x: behind(layers.ZeroPadding2D(((0, 1), (2, 1)))(x - 3.0)))
    assert agree(model, tmp_path / "a.onnx")["Pad"] == (not folded)


def test_a_flattened_map_turns_the_weights_behind_it(tmp_path: Path) -> None:
    def straight(x: Any) -> Any:
        x = layers.Flatten()(layers.Conv2D(4, 3, activation="relu")(x))
        return layers.Dense(5)(layers.Dense(6, activation="relu")(layers.Dropout(0.5)(x)))

    def through_a_norm(x: Any) -> Any:
        return layers.Dense(5)(layers.BatchNormalization()(layers.Flatten()(layers.Conv2D(4, 3)(x))))

    assert agree(model_of(straight), tmp_path / "a.onnx")["Transpose"] == 0
    assert agree(model_of(through_a_norm), tmp_path / "b.onnx")["Transpose"] == 1


def test_two_exports_are_the_same_bytes(tmp_path: Path) -> None:
    """Built twice: Keras numbers the second's layers on."""
    for name in ("a.onnx", "b.onnx"):
        model = model_of(CONVOLUTIONS["separable"])
        walker.export(model, tmp_path / name, opset=OPSET, inputs=["images"], outputs=["features"])
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


def test_inputs_are_channels_first_with_open_batch(tmp_path: Path) -> None:
    model = model_of(layers.Conv2D(4, 3), shape=(None, 10, 6))
    proto = walker.export(model, tmp_path / "a.onnx", opset=21, inputs=["images"], outputs=["map"])
    dims = [d.dim_param or d.dim_value for d in proto.graph.input[0].type.tensor_type.shape.dim]
    assert dims == ["batch", 6, "height", 10] and proto.opset_import[0].version == 21
    onnx.checker.check_model(str(tmp_path / "a.onnx"), full_check=True)


# --- models inside models, texts
def test_models_inside_models_and_layers_called_twice(tmp_path: Path) -> None:
    inner = keras.Sequential([layers.Input((9, 10, 6)), layers.Conv2D(6, 3, padding="same"), layers.ReLU()])
    functional = model_of(lambda x: inner(inner(x)) + x)

    def make(x: Any) -> Any:
        return layers.GlobalAveragePooling2D()(layers.Concatenate()([functional(x), x]))

    proto_weights = agree(model_of(make), tmp_path / "a.onnx")
    assert proto_weights["Conv"] == 2 and len(onnx.load(tmp_path / "a.onnx").graph.initializer) < 5


def test_attention_and_embeddings_on_texts_of_any_length(tmp_path: Path) -> None:
    def make(ids: Any) -> Any:
        x = layers.Embedding(11, 8)(ids)
        seen = ops.cast(ops.expand_dims(ids > 1, 1), "bool")
        y = layers.MultiHeadAttention(2, 4, value_dim=3)(x, x, attention_mask=seen)
        y = layers.LayerNormalization()(y + x)
        z = layers.MultiHeadAttention(2, 4, dropout=0.1)(y, x, use_causal_mask=True)
        return layers.EinsumDense("abc,cd->abd", output_shape=(None, 5), bias_axes="d")(z)

    for length in (1, 7):
        agree(model_of(make, shape=(None,), dtype="int32"), tmp_path / "a.onnx", sizes=(length,))


# --- refusals
@keras.saving.register_keras_serializable("tests")
class Doubled(layers.Conv2D):
    """Somebody's subclass of a layer that is known: its call does more."""

    def call(self, inputs: Any) -> Any:
        return super().call(inputs) * 2


class Overriding(keras.Model):
    """A functional model whose call is its author's own."""

    def call(self, inputs: Any, training: Any = None) -> Any:
        return super().call(inputs) * 2


REFUSALS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "a subclass": (Doubled(4, 3, name="mine"), "Doubled 'mine': the walker has nothing for this class"),
    "training": (lambda x: layers.BatchNormalization(name="bn")(x, training=True), "'bn': .*training=True"),
    "half": (layers.Conv2D(4, 3, dtype="mixed_float16", name="half"), "'half': it computes in mixed_float16"),
    "lambda": (layers.Lambda(lambda x: x * 2, name="code"), "'code': it holds Python code"),
    "norm": (layers.BatchNormalization(axis=1, name="high"), "'high': axis=1"),
    "lstm": (lambda x: layers.LSTM(3, name="memory")(layers.Reshape((90, 6))(x)), "LSTM 'memory'"),
    "bilinear": (layers.UpSampling2D(interpolation="bilinear", name="up"), "'up': interpolation='bilinear'"),
    "threshold": (layers.ReLU(threshold=1.0, name="late"), "'late': threshold=1"),
    "transposed": (layers.Conv2DTranspose(4, 3, name="up"), "ConvTranspose '.*': the walker has nothing"),
    "ranks": (
        lambda x: layers.Add(name="sum")([x, layers.GlobalAveragePooling2D()(x)]),
        "'sum': inputs of different rank",
    ),
    "causal": (
        lambda x: layers.Conv1D(4, 3, padding="causal", name="past")(layers.Reshape((90, 6))(x)),
        "'past': padding='causal'",
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_what_it_cannot_do_it_refuses_by_name(name: str, tmp_path: Path) -> None:
    make, pattern = REFUSALS[name]
    with pytest.raises(walker.RefusedError, match=pattern):
        agree(model_of(make), tmp_path / "a.onnx")
    assert not (tmp_path / "a.onnx").exists()


def test_models_that_are_more_than_their_graph_are_refused(tmp_path: Path) -> None:
    inputs = keras.Input((9, 10, 6))
    inner = Overriding(inputs, layers.Conv2D(3, 3)(inputs), name="own_call")
    with pytest.raises(walker.RefusedError, match="Overriding 'own_call'"):
        agree(model_of(inner), tmp_path / "a.onnx")
    masked = model_of(layers.Embedding(9, 4, mask_zero=True, name="words"), shape=(None,), dtype="int32")
    with pytest.raises(walker.RefusedError, match="'words': mask_zero=True"):
        agree(masked, tmp_path / "a.onnx", sizes=(5,))


def test_opsets_and_types_outside_the_range(tmp_path: Path) -> None:
    model = model_of(layers.Conv2D(4, 3))
    for opset in (17, 22):
        with pytest.raises(walker.RefusedError, match=f"opset {opset}: the walker writes 18 to 21"):
            walker.export(model, tmp_path / "a.onnx", opset=opset, inputs=["i"], outputs=["o"])
    with pytest.raises(walker.RefusedError, match="float16"):
        agree(model_of(layers.Conv2D(4, 3), dtype="float16"), tmp_path / "a.onnx")


# --- Keras's private names
def test_the_private_names_that_the_walk_reads() -> None:
    """If Keras renames one of these, this says which."""
    model = model_of(layers.Conv2D(4, 3))
    (node,) = [n for nodes in model._nodes_by_depth.values() for n in nodes if not n.is_input]
    given = node.arguments.fill_in({id(model.inputs[0]): "a value"})
    assert node.operation is model.layers[-1] and given == (("a value",), {})
    inner = keras.Sequential([layers.Input((3,)), layers.Dense(2)])
    assert hasattr(inner._functional, "_nodes_by_depth") and keras.src.models.functional.Functional.call
    layer = layers.MultiHeadAttention(2, 4)
    assert layer._use_gate is False and layer._sliding_window is None and layer._flatten_layers()
    assert isinstance(layer._inbound_nodes, list) and isinstance(layer._outbound_nodes, list)
    assert {type(op.operation).__name__ for op in (_recorded(lambda x: x + 1), _recorded(ops.tanh))} == {
        "Add",
        "Tanh",
    }


def _recorded(function: Callable[[Any], Any]) -> Any:
    return function(keras.KerasTensor((None, 3)))._keras_history


def test_taking_a_layer_apart_leaves_no_note_on_its_parts(tmp_path: Path) -> None:
    """A layer called once can say what its input was; called twice it cannot."""

    @keras.saving.register_keras_serializable("keras.tests")
    class Composite(layers.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.inner = layers.Dense(6)

        def call(self, x: Any) -> Any:
            return self.inner(x) * 2

    Composite.__module__ = "keras.tests"  # as if it were one of Keras's own
    composite = Composite()
    model = model_of(composite)
    before = len(composite.inner._inbound_nodes)
    agree(model, tmp_path / "a.onnx")
    assert len(composite.inner._inbound_nodes) == before
