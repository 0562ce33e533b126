"""Using files: ours, somebody else's, and what is no model at all."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from zoo import data
from zoo.cards import ImagePreprocess, TextPreprocess
from zoo.engine import Array
from zoo.errors import HeadMissingError, InputError, ModelFileError
from zoo.graph import OnnxModel, export_engine
from zoo.testing.toy import IMAGE, TEXT, ToyEngine

TEXTS = [
    "late",
    "my parcel never came and nobody at all answers the telephone",
    "refund please",
    "the blue one is broken again",
    "hello",
    "where is my parcel",
    "please send the other one to my old address",
]


def make(path: Path, engine: ToyEngine) -> OnnxModel:
    return export_engine(engine, path, model_id="toy:it", versions={})


def text_engine() -> ToyEngine:
    engine = ToyEngine("text")
    tokenizer = data.train_tokenizer(TEXTS, vocab_size=120)
    engine.preprocess = dataclasses.replace(TEXT, tokenizer=tokenizer)
    return engine


def photographs(count: int, size: int = 20) -> list[Array]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (size, size + i, 3), dtype=np.uint8) for i in range(count)]


def softmax(logits: Array) -> Array:
    powers = np.exp(logits.astype(np.float64))
    return powers / powers.sum(1, keepdims=True)


# --- ours
def test_predict_is_the_engines_softmax_for_every_batch_size(tmp_path: Path) -> None:
    engine = ToyEngine()
    model, images = make(tmp_path / "m.onnx", engine), photographs(7)
    right = softmax(engine.logits(data.prepare(images, engine.preprocess)))
    for batch_size in (1, 3, 32):
        found = model.predict(images, batch_size=batch_size)
        assert found.dtype == np.float32 and np.allclose(found.sum(1), 1, atol=1e-6)
        np.testing.assert_allclose(found, right, rtol=1e-4)
    features = model.features(images, batch_size=2)
    np.testing.assert_allclose(features, engine.features(data.prepare(images, IMAGE)), rtol=1e-4, atol=1e-5)


def test_texts_of_mixed_length_come_back_in_their_order(tmp_path: Path) -> None:
    engine = text_engine()
    model = make(tmp_path / "m.onnx", engine)
    alone = np.concatenate([softmax(engine.logits(data.prepare([t], engine.preprocess))) for t in TEXTS])
    assert np.ptp(alone, axis=0).min() > 1e-3  # the texts can be told apart
    np.testing.assert_allclose(model.predict(TEXTS, batch_size=3), alone, rtol=1e-4)


def test_texts_of_like_length_share_a_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, lengths = make(tmp_path / "m.onnx", text_engine()), []
    run = OnnxModel.run
    monkeypatch.setattr(
        OnnxModel, "run", lambda self, b, o: lengths.append(b["input_ids"].shape[1]) or run(self, b, o)
    )
    model.predict(TEXTS, batch_size=2)
    assert lengths == sorted(lengths, reverse=True) and lengths[-1] < lengths[0]


def test_features_by_depth_come_from_one_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = ToyEngine(depth=3)
    model = export_engine(engine, tmp_path / "m.onnx", model_id="toy:it", versions={}, depths=(1, 2, 3))
    calls: list[int] = []
    run = OnnxModel.run
    monkeypatch.setattr(OnnxModel, "run", lambda self, b, o: calls.append(len(o)) or run(self, b, o))
    found = model.features_by_depth(photographs(5), batch_size=3)
    assert calls == [3, 3] and list(found) == [1, 2, 3]
    right = engine.features(data.prepare(photographs(5), IMAGE))
    np.testing.assert_allclose(found[3], right, rtol=1e-4, atol=1e-5)
    with pytest.raises(ModelFileError, match=r"it has depths \(1, 2, 3\): use features_by_depth"):
        model.features(photographs(1))


def test_opening_makes_no_session(tmp_path: Path) -> None:
    model = OnnxModel(make(tmp_path / "m.onnx", ToyEngine()).path, threads=1)
    assert "session" not in vars(model)
    model.predict(photographs(1))
    assert model.session.get_session_options().intra_op_num_threads == 1


def test_predict_without_a_head_names_replace_head(tmp_path: Path) -> None:
    model = make(tmp_path / "m.onnx", ToyEngine(num_classes=None))
    with pytest.raises(HeadMissingError, match=r"replace_head\(num_classes\)"):
        model.predict(photographs(1))


def test_another_preprocess_than_the_files_is_refused(tmp_path: Path) -> None:
    path = make(tmp_path / "m.onnx", ToyEngine()).path
    assert OnnxModel(path, preprocess=IMAGE).preprocess == IMAGE
    with pytest.raises(ModelFileError, match="another preprocess was given"):
        OnnxModel(path, preprocess=ImagePreprocess(9, 9))


# --- somebody else's
def stranger(path: Path, *, shape: list[Any], last: str = "", kind: int = TensorProto.FLOAT) -> Array:
    """A linear classifier of 4 classes over the flattened image, with another's names; gives its weight."""
    weight = np.random.default_rng(0).normal(0, 0.1, (192, 4)).astype(np.float32)
    nodes = [
        helper.make_node("Cast", ["pixels_in"], ["as_float"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["as_float"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["scores"]),
    ]
    if last:
        nodes.append(helper.make_node(last, ["scores"], ["chances"]))
    name = "chances" if last else "scores"
    graph = helper.make_graph(
        nodes,
        "strange",
        [helper.make_tensor_value_info("pixels_in", kind, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [shape[0], 4])],
        [numpy_helper.from_array(weight, "w")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return weight


@pytest.mark.parametrize(
    ("shape", "last"),
    [
        (["n", 3, 8, 8], ""),
        ([1, 3, 8, 8], ""),
        ([2, 3, 8, 8], "Softmax"),
        (["n", 8, 8, 3], ""),
        ([None, 3, None, None], "Softmax"),
    ],
)
def test_a_strangers_file_is_usable_with_a_preprocess(shape: list[Any], last: str, tmp_path: Path) -> None:
    weight = stranger(tmp_path / "s.onnx", shape=shape, last=last)
    model = OnnxModel(tmp_path / "s.onnx", preprocess=IMAGE)
    assert (model.labels, model.id, model.inputs) == (("0", "1", "2", "3"), "s", ("images",))
    images = data.prepare(photographs(5), IMAGE)["images"]
    flat = images.transpose(0, 2, 3, 1) if shape[-1] == 3 else images
    right = softmax(flat.reshape(5, -1) @ weight)
    np.testing.assert_allclose(model.predict(photographs(5)), right, rtol=1e-4)
    assert model.predict(photographs(5), batch_size=2).shape == (5, 4)


def test_a_strangers_file_without_a_preprocess_asks_for_one(tmp_path: Path) -> None:
    stranger(tmp_path / "s.onnx", shape=["n", 3, 8, 8])
    with pytest.raises(
        ModelFileError, match=r"Backbone Zoo did not write it. Say so with --preprocess torch"
    ):
        OnnxModel(tmp_path / "s.onnx")
    model = OnnxModel(tmp_path / "s.onnx", preprocess=IMAGE)
    with pytest.raises(ModelFileError, match="has no output 'features'"):
        model.features(photographs(1))
    with pytest.raises(ModelFileError, match="was not exported by Backbone Zoo"):
        model.with_head(np.ones((2, 16)), np.ones(2))


def test_a_strangers_file_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    stranger(tmp_path / "u8.onnx", shape=["n", 3, 8, 8], kind=TensorProto.UINT8)
    stranger(tmp_path / "flat.onnx", shape=["n", 192])
    with pytest.raises(ModelFileError, match="not float32"):
        OnnxModel(tmp_path / "u8.onnx", preprocess=IMAGE)
    with pytest.raises(ModelFileError, match=r"takes pixels_in \['\?', 192\]: no image model"):
        OnnxModel(tmp_path / "flat.onnx", preprocess=IMAGE)
    with pytest.raises(ModelFileError, match="the preprocess makes input_ids, attention_mask"):
        OnnxModel(tmp_path / "flat.onnx", preprocess=TextPreprocess())
    stranger(tmp_path / "ok.onnx", shape=["n", 3, 8, 8])
    with pytest.raises(ModelFileError, match=r"'\?', 3, 8, 8\]; the preprocess makes 9 x 9 pixels"):
        OnnxModel(tmp_path / "ok.onnx", preprocess=IMAGE.at_size(9))
    stranger(tmp_path / "odd.onnx", shape=["n", 3, 9, 9])
    with pytest.raises(ModelFileError, match=r"ONNX Runtime does not take .*odd\.onnx"):
        OnnxModel(tmp_path / "odd.onnx", preprocess=IMAGE.at_size(9)).predict(photographs(1))


def test_a_run_that_fails_says_why(tmp_path: Path) -> None:
    model = make(tmp_path / "m.onnx", text_engine())
    batch = {"input_ids": np.full((1, 2), 999), "attention_mask": np.ones((1, 2), np.int64)}
    with pytest.raises(ModelFileError, match=r"m\.onnx fails when it is run: .*out of data bounds"):
        model.logits(batch)


def test_int32_ids_are_served(tmp_path: Path) -> None:
    path = make(tmp_path / "m.onnx", text_engine()).path
    right = OnnxModel(path).predict(TEXTS)
    model = onnx.load(path)
    for value in model.graph.input:
        value.type.tensor_type.elem_type = TensorProto.INT32
    onnx.save(model, path)
    np.testing.assert_allclose(OnnxModel(path).predict(TEXTS), right, rtol=1e-6)


# --- no model, or a dangerous one
@pytest.mark.parametrize("content", [b"", b"\x80\x04\x95.", b"not a model", b"\0" * 100])
def test_what_is_no_onnx_model_is_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(content)
    with pytest.raises(ModelFileError, match=r"x\.onnx is not an ONNX model, or was cut off"):
        OnnxModel(tmp_path / "x.onnx")


def test_a_truncated_file_is_named(tmp_path: Path) -> None:
    path = make(tmp_path / "m.onnx", ToyEngine()).path
    for share in (0.3, 0.95):
        (tmp_path / "t.onnx").write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
        with pytest.raises(ModelFileError, match=r"t\.onnx"):
            OnnxModel(tmp_path / "t.onnx")


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"there is no file .*m\.onnx"):
        OnnxModel(tmp_path / "m.onnx")
    with pytest.raises(ModelFileError, match=r"is a folder: give the \.onnx file in it"):
        OnnxModel(tmp_path)


def with_external(path: Path, location: str) -> None:
    model = onnx.load(path)
    tensor = next(t for t in model.graph.initializer if t.name == "stem.bias")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    path.write_bytes(model.SerializeToString())


def test_weights_outside_the_folder_are_refused(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"\0" * 64)
    path = make(tmp_path / "in" / "m.onnx", ToyEngine()).path
    (path.parent / "link").symlink_to(tmp_path / "secret")
    clean = path.read_bytes()
    for location in ("../secret", str(tmp_path / "secret"), "link"):
        path.write_bytes(clean)
        with_external(path, location)
        with pytest.raises(ModelFileError, match="outside its own folder: refused"):
            OnnxModel(path)
    path.write_bytes(clean)
    with_external(path, "gone.bin")
    with pytest.raises(ModelFileError, match=r"gone\.bin, and that file is missing"):
        OnnxModel(path)


def test_metadata_that_was_changed_is_named(tmp_path: Path) -> None:
    path = make(tmp_path / "m.onnx", ToyEngine()).path
    for key, value, message in (
        ("zoo.preprocess", "{", "metadata cannot be read"),
        ("zoo.preprocess", '{"kind": "sound"}', "metadata cannot be read"),
        ("zoo.labels", '"abc"', "metadata has another shape"),
        ("zoo.labels", '["a", "b"]', "names 2 classes and computes 3"),
    ):
        model = onnx.load(path)
        props = {entry.key: entry.value for entry in model.metadata_props} | {key: value}
        helper.set_model_props(model, props)
        onnx.save(model, tmp_path / "n.onnx")
        with pytest.raises(ModelFileError, match=message):
            OnnxModel(tmp_path / "n.onnx")


def test_a_threads_argument_below_one_is_refused(tmp_path: Path) -> None:
    path = make(tmp_path / "m.onnx", ToyEngine()).path
    with pytest.raises(InputError, match="threads 0: must be 1 or more"):
        OnnxModel(path, threads=0)
