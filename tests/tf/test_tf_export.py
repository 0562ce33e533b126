"""Keras to ONNX: what the graph computes at any size, how it looks, and what happens when it cannot be."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import tf_models

from zoo.errors import ExportError
from zoo.testing.helpers import error, run_graph
from zoo_tf import walker
from zoo_tf.engine import KerasEngine
from zoo_tf.export import export_onnx
from zoo_tf.images import block_rule
from zoo_tf.network import IMAGES, build_network, seeded
from zoo_tf.start import captured_stderr, keras, tf

OPSET = 18


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def no_walker(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ladder without its first rung."""

    def refuse(*_args: object, **_options: object) -> None:
        raise ExportError("not today")

    monkeypatch.setattr("zoo_tf.walker.export", refuse)


def test_an_image_graph_takes_nchw_with_one_transpose(tmp_path: Path, no_walker: None) -> None:
    engine, path = tf_models.cut("mobilenet_v2", "block_2_add"), tmp_path / "a.onnx"
    assert engine.export_onnx(path, opset=OPSET) == "tf2onnx"
    proto = onnx.load(path)
    assert sum(node.op_type == "Transpose" for node in proto.graph.node) == 1
    (images,) = proto.graph.input
    dims = [d.dim_param or d.dim_value for d in images.type.tensor_type.shape.dim]
    assert dims == ["batch", 3, 32, 32] and proto.opset_import[0].version == OPSET
    x = np.random.default_rng(0).normal(size=(7, 3, 32, 32)).astype(np.float32)
    assert error(run_graph(path, {"images": x})["features"], engine.features({"images": x})) < 1e-4


def test_two_exports_of_one_network_are_the_same_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_walker: None
) -> None:
    """Whatever was built and traced between: Keras's and tf2onnx's counters leave no trace."""
    for count, name in ((1, "a.onnx"), (995, "b.onnx")):  # "x__999" sorts after "x__1000"
        monkeypatch.setattr("tf2onnx.utils.INTERNAL_NAME", count)
        tf_models.wrapped().export_onnx(tmp_path / name, opset=OPSET)
    assert digest(tmp_path / "a.onnx") == digest(tmp_path / "b.onnx")


def test_a_file_that_computes_something_else_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first rung writes another network's weights, or gives a map for the features: the next one runs."""
    engine, right = tf_models.wrapped(), walker.export
    other = tf_models.own_model(seed=4)
    other = keras.Model(other.inputs, other.layers[-2].output)
    for wrong in (other, keras.Model(other.inputs, other.layers[1].output)):

        def write(_model: object, path: Path, wrong: keras.Model = wrong, **options: Any) -> object:
            return right(wrong, path, **options)

        monkeypatch.setattr("zoo_tf.walker.export", write)
        assert engine.export_onnx(tmp_path / "a.onnx", opset=OPSET) == "tf2onnx"
        x = np.random.default_rng(0).normal(size=(3, 3, 12, 12)).astype(np.float32)
        found = run_graph(tmp_path / "a.onnx", {"images": x})["features"]
        assert error(found, engine.features({"images": x})) < 1e-4


def own_network(layer: keras.layers.Layer) -> KerasEngine:
    with seeded(0):
        inputs = keras.Input((8, 8, 3))
        x = keras.layers.Conv2D(8, 3, padding="same", name="first")(inputs)
        features = keras.layers.GlobalAveragePooling2D(name="average")(layer(x))
        model = keras.Model(inputs, features)
    rule = block_rule(())
    preprocess = tf_models.wrapped().preprocess
    return KerasEngine(
        build_network(model, inputs=IMAGES, rule=rule, preprocess=preprocess, architecture=None)
    )


def test_grouped_convolutions_and_exact_gelu(tmp_path: Path, no_walker: None) -> None:
    """The first sits in a function that tf2onnx cannot read, the second has no operator in ONNX."""
    x = np.random.default_rng(0).normal(size=(3, 3, 8, 8)).astype(np.float32)
    for layer in (
        keras.layers.Conv2D(8, 3, groups=4, name="grouped"),
        keras.layers.Conv2D(4, 1, activation="gelu", name="gelu"),
    ):
        engine, path = own_network(layer), tmp_path / f"{layer.name}.onnx"
        assert engine.export_onnx(path, opset=OPSET) == "tf2onnx"
        assert error(run_graph(path, {"images": x})["features"], engine.features({"images": x})) < 1e-4
    assert not tf.config.functions_run_eagerly()


@keras.saving.register_keras_serializable("tests")
class Sorted(keras.layers.Layer):
    """An operation that has no form in ONNX."""

    def call(self, x):
        return tf.math.bessel_i0(x)


def test_what_no_rung_can_write_is_an_error_that_names_it(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    engine = own_network(Sorted(name="bessel"))
    with pytest.raises(
        ExportError, match=r"(?s)walker: .*'bessel'.*tf2onnx: .*BesselI0.*tf2onnx with grappler: "
    ):
        export_onnx(engine.network, tmp_path / "a.onnx", opset=OPSET)
    assert not (tmp_path / "a.onnx").exists()
    assert capfd.readouterr().err == "", "converters must be quiet"


def test_the_last_rung_takes_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_walker: None) -> None:
    """With the second one's passes broken; the result is the same network."""
    monkeypatch.setattr("zoo_tf.tracing.LAYOUT_PASSES", ("no such pass",))
    engine, path = tf_models.wrapped(), tmp_path / "a.onnx"
    assert engine.export_onnx(path, opset=OPSET) == "tf2onnx with grappler"
    x = np.random.default_rng(0).normal(size=(3, 3, 12, 12)).astype(np.float32)
    assert error(run_graph(path, {"images": x})["features"], engine.features({"images": x})) < 1e-4


def test_captured_stderr_holds_what_c_writes_and_gives_the_descriptor_back(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with captured_stderr() as read:
        os.write(2, b"from below\n")
        assert read() == "from below\n"
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "after\n"
