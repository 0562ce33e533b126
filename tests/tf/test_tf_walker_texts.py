"""KerasHub's encoders through the walker, beside Keras: texts of any length with padding, and images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras_hub
import numpy as np
import onnx
import pytest
import tf_models

from zoo.testing.helpers import error, run_graph
from zoo_tf import walker
from zoo_tf.network import seeded
from zoo_tf.start import keras
from zoo_tf.walker.lowerings import LOWERINGS

hub = keras_hub.models
SMALL: dict[str, Any] = {"num_layers": 2, "num_heads": 2, "hidden_dim": 16, "intermediate_dim": 32}
TEXT: dict[str, Any] = {"vocabulary_size": 60, **SMALL}
SHORT: dict[str, Any] = {**TEXT, "max_sequence_length": 24}
SIDE = (48, 48, 3)

ENCODERS: dict[str, Callable[[], Any]] = {
    "bert": lambda: hub.BertBackbone(**SHORT),
    "albert": lambda: hub.AlbertBackbone(**SHORT, embedding_dim=8),
    "distil_bert": lambda: hub.DistilBertBackbone(**SHORT),
    "roberta": lambda: hub.RobertaBackbone(**SHORT),
    "xlm_roberta": lambda: hub.XLMRobertaBackbone(**SHORT),
    "deberta_v3": lambda: hub.DebertaV3Backbone(**SHORT, bucket_size=4),
}


IMAGES: dict[str, Callable[[], Any]] = {
    "vit": lambda: hub.ViTBackbone(
        image_shape=SIDE, patch_size=16, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=32
    ),
    "deit": lambda: hub.DeiTBackbone(image_shape=SIDE, patch_size=16, **SMALL),
    "hgnetv2": lambda: hub.HGNetV2Backbone(
        depths=[1, 1],
        embedding_size=8,
        hidden_sizes=[16, 24],
        stem_channels=[3, 8, 8],
        hidden_act="relu",
        use_learnable_affine_block=True,
        stackwise_stage_filters=[[8, 8, 16, 1, 3, 3], [16, 8, 24, 1, 3, 3]],
        apply_downsample=[False, True],
        use_lightweight_conv_block=[False, True],
        image_shape=SIDE,
    ),
}


def inputs_of(names: list[str], batch: int, length: int) -> dict[str, Any]:
    rng = np.random.default_rng(length)
    mask = (np.arange(length) < np.linspace(length, 1, batch).astype(int)[:, None]).astype(np.int64)
    ids = rng.integers(1, 60, (batch, length)) * mask
    arrays = {"token_ids": ids, "padding_mask": mask, "segment_ids": rng.integers(0, 2, ids.shape)}
    return {name: arrays[name] for name in names}


@pytest.mark.parametrize("family", ENCODERS)
def test_encoders_for_any_batch_and_length(family: str, tmp_path: Path) -> None:
    with seeded(0):
        backbone = tf_models.enlivened(ENCODERS[family]())
    names, path = list(backbone.input), tmp_path / "a.onnx"
    output = backbone.output["sequence_output"] if isinstance(backbone.output, dict) else backbone.output
    model = keras.Model([backbone.input[name] for name in names], output)
    walker.export(model, path, opset=18, inputs=names, outputs=["hidden"])
    for batch, length in ((3, 7), (1, 24), (2, 1)):
        arrays = inputs_of(names, batch, length)
        want = np.asarray(model([a.astype(np.int32) for a in arrays.values()], training=False))
        np.testing.assert_allclose(run_graph(path, arrays)["hidden"], want, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", IMAGES)
def test_image_networks(family: str, tmp_path: Path) -> None:
    with seeded(0):
        backbone = tf_models.enlivened(IMAGES[family]())
    output = backbone.output
    model = keras.Model(backbone.inputs[0], [*output.values()][-1] if isinstance(output, dict) else output)
    walker.export(model, tmp_path / "a.onnx", opset=18, inputs=["images"], outputs=["map"])
    x = np.random.default_rng(0).normal(size=(3, *SIDE)).astype(np.float32)
    found = run_graph(tmp_path / "a.onnx", {"images": x.transpose(0, 3, 1, 2)})["map"]
    want = np.asarray(model(x, training=False))
    np.testing.assert_allclose(found, want, atol=1e-5 * np.abs(want).max(), rtol=1e-5)


def test_through_the_ladder_with_all_depths(tmp_path: Path) -> None:
    """The first rung takes it; the mask and its bias are computed once for all layers."""
    engine = tf_models.load(tf_models.bert_folder(tmp_path / "bert"))
    path = tmp_path / "a.onnx"
    assert engine.export_onnx(path, opset=18, depths=engine.depths) == "walker"
    proto = onnx.load(path)
    kinds = Counter(node.op_type for node in proto.graph.node)
    assert kinds["LayerNormalization"] == 5 and kinds["Expand"] == 0 and kinds["Cast"] <= 4
    dims = [d.dim_param for d in proto.graph.input[0].type.tensor_type.shape.dim]
    assert dims == ["batch", "length"]
    batch = {
        "input_ids": np.array([[3, 4, 5, 6, 7], [8, 9, 0, 0, 0]]),
        "attention_mask": np.array([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]]),
    }
    batch = {name: batch.get(name, np.zeros((2, 5), np.int64)) for name in engine.inputs}
    found = run_graph(path, batch)
    assert error(found[f"features_{engine.depths[-1]}"], engine.features(batch)) < 1e-4


def test_the_names_of_kerashub_that_the_table_holds() -> None:
    names = [key for key in LOWERINGS if isinstance(key, str)]
    for name in names:
        module, _, kind = name.rpartition(".")
        assert hasattr(__import__(module, fromlist=[kind]), kind), name
    assert len(names) >= 8
