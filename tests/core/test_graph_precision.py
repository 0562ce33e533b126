"""Variants: that each is what it says, computes nearly what its parent does, and can be used as its parent can."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from errors_table import photographs
from onnx import TensorProto, numpy_helper
from small_networks import PIXELS, PREPROCESS, WIDTH, convnet

from zoo.engine import draw_head
from zoo.errors import ExportMismatchError, InputError, ModelFileError
from zoo.files import sha256_file
from zoo.graph import (
    OnnxModel,
    Settings,
    explain_loss,
    export_engine,
    judge_variant,
    verify,
    write_predict_script,
)
from zoo.graph.calibrating import calibration_set
from zoo.graph.samples import parity_batches
from zoo.testing.toy import ToyEngine


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    photographs(tmp_path / "photos")
    return tmp_path / "photos"


def weights(path: Path) -> dict[str, onnx.TensorProto]:
    return {tensor.name: tensor for tensor in onnx.load(path).graph.initializer}


def kinds(path: Path) -> list[str]:
    return [node.op_type for node in onnx.load(path).graph.node]


def text_model(path: Path) -> OnnxModel:
    engine = ToyEngine("text", num_classes=3)
    return export_engine(engine, path, model_id="toy:text", versions={})


# --- int8, static
def test_static_int8_is_qdq_per_channel_and_near_its_parent(tmp_path: Path, photos: Path) -> None:
    parent = convnet(tmp_path / "m.onnx")
    model = parent.quantize("int8-static", tmp_path / "q.onnx", calibrate=photos)
    found, ops = weights(model.path), kinds(model.path)
    assert "QuantizeLinear" in ops and "Relu" not in ops  # relu's range is the quantised one
    held = [t for t in found.values() if t.data_type == TensorProto.INT8 and len(t.dims) == 4]
    assert len(held) == 3
    scales = [t for t in found.values() if t.data_type == TensorProto.FLOAT and list(t.dims) == [WIDTH]]
    assert len(scales) >= 3  # one scale a channel
    assert found["head.weight"].data_type == TensorProto.FLOAT
    for batch in parity_batches(parent.preprocess, parent.inputs, seed=5):
        right = parent.run(batch, ["features"])[0]
        error = np.abs(model.run(batch, ["features"])[0] - right).max()
        assert 0 < error < 0.03 * right.max()
    assert (model.predict(str(photos)).argmax(1) == parent.predict(str(photos)).argmax(1)).all()


def test_a_variant_keeps_what_its_parent_said_and_says_what_it_is(tmp_path: Path, photos: Path) -> None:
    parent = convnet(tmp_path / "m.onnx")
    model = parent.quantize("int8-static", tmp_path / "q.onnx", calibrate=photos, keep=["first"])
    assert (model.labels, model.preprocess, model.id) == (parent.labels, parent.preprocess, parent.id)
    said = model.provenance
    assert said["precision"] == "int8-static" and said["kept"] == ["first"]
    assert said["parent_sha256"] == sha256_file(parent.path)
    assert said["calibrated_on"]["examples"] == 16 and len(said["calibrated_on"]["fingerprint"]) == 64
    assert 0 < said["parity"]["features"]["error_of_spread"] < 0.5
    assert max(verify(model.path).values()) < 1e-6
    assert weights(model.path)["first.weight"].data_type == TensorProto.FLOAT


def test_verify_notices_a_changed_int8_weight(tmp_path: Path, photos: Path) -> None:
    path = convnet(tmp_path / "m.onnx").quantize("int8-static", tmp_path / "q.onnx", calibrate=photos).path
    model = onnx.load(path)
    tensor = next(t for t in model.graph.initializer if t.data_type == TensorProto.INT8 and len(t.dims) == 4)
    values = numpy_helper.to_array(tensor).copy()
    values.reshape(-1)[0] += 1 if values.reshape(-1)[0] < 100 else -1
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    onnx.save(model, path)
    with pytest.raises(ExportMismatchError):
        verify(path)


@pytest.mark.parametrize("precision", ["fp16", "int8-static"])
def test_a_variant_takes_a_new_head(precision: str, tmp_path: Path, photos: Path) -> None:
    calibrate = photos if precision == "int8-static" else None
    model = convnet(tmp_path / "m.onnx").quantize(precision, tmp_path / "q.onnx", calibrate=calibrate)  # type: ignore[arg-type]
    weight, bias = draw_head(WIDTH, 5, 0)
    fitted = model.with_head(weight, bias, path=tmp_path / "h.onnx")
    assert fitted.num_classes == 5 and fitted.provenance["precision"] == precision
    batch = parity_batches(model.preprocess, model.inputs)[1]
    np.testing.assert_allclose(
        fitted.logits(batch), model.run(batch, ["features"])[0] @ weight.T + bias, rtol=1e-4, atol=1e-5
    )
    verify(fitted.path)


def test_the_same_examples_give_the_same_file(tmp_path: Path, photos: Path) -> None:
    parent = convnet(tmp_path / "m.onnx")
    files = [
        parent.quantize("int8-static", tmp_path / f"{i}.onnx", calibrate=photos).path.read_bytes()
        for i in (1, 2)
    ]
    assert files[0] == files[1]


def test_a_large_head_is_quantised_too(tmp_path: Path) -> None:
    parent = text_model(tmp_path / "m.onnx").with_head(*draw_head(16, 4000, 0), path=tmp_path / "h.onnx")
    model = parent.quantize("int8-dynamic", tmp_path / "q.onnx")
    assert model.path.stat().st_size < 0.4 * parent.path.stat().st_size
    assert "head.weight" not in weights(model.path) and model.num_classes == 4000
    model.with_head(*draw_head(16, 3, 0), path=tmp_path / "n.onnx")


# --- int8, dynamic
def test_dynamic_int8_quantises_products_and_embeddings(tmp_path: Path) -> None:
    parent = text_model(tmp_path / "m.onnx")
    model = parent.quantize("int8-dynamic", tmp_path / "q.onnx")
    ops = kinds(model.path)
    assert "MatMulInteger" in ops and "DynamicQuantizeLinear" in ops
    table = next(t for t in onnx.load(parent.path).graph.initializer if t.name == "stem.weight")
    eight = [t for t in weights(model.path).values() if t.data_type in (TensorProto.INT8, TensorProto.UINT8)]
    assert list(table.dims) in [list(t.dims) for t in eight]  # the embedding table
    for batch in parity_batches(parent.preprocess, parent.inputs, seed=5):
        right = parent.run(batch, ["features"])[0]
        error = np.abs(model.run(batch, ["features"])[0] - right).max()
        assert 0 < error < 0.05 * np.abs(right).max()
    verify(model.path)


def test_a_kept_layer_stays_float_in_dynamic_int8(tmp_path: Path) -> None:
    parent = text_model(tmp_path / "m.onnx")
    names = [n.name or f"{n.op_type}_{i}" for i, n in enumerate(onnx.load(parent.path).graph.node)]
    layer = next(name for name in names if name.startswith("Gemm"))
    model = parent.quantize("int8-dynamic", tmp_path / "q.onnx", keep=[layer])
    assert kinds(model.path).count("MatMulInteger") == (
        kinds(parent.quantize("int8-dynamic", tmp_path / "all.onnx").path).count("MatMulInteger") - 1
    )


# --- fp16
def test_fp16_keeps_float32_at_its_borders(tmp_path: Path) -> None:
    parent = convnet(tmp_path / "m.onnx")
    model = parent.quantize("fp16", tmp_path / "h.onnx")
    proto = onnx.load(model.path)
    assert {v.type.tensor_type.elem_type for v in (*proto.graph.input, *proto.graph.output)} == {
        TensorProto.FLOAT
    }
    assert weights(model.path)["last.weight"].data_type == TensorProto.FLOAT16
    assert model.provenance["parity"]["features"]["error_of_spread"] < 0.005
    verify(model.path)


def test_fp16_that_overflows_is_refused_by_the_node(tmp_path: Path) -> None:
    parent = convnet(tmp_path / "m.onnx", gain=1e5)
    with pytest.raises(
        ExportMismatchError, match=r"overflows in fp16: values of 'first.*' reach .*ends at 65504"
    ):
        parent.quantize("fp16", tmp_path / "h.onnx")
    assert not (tmp_path / "h.onnx").exists()


# --- uint8 input
@pytest.mark.parametrize("channels", ["RGB", "BGR"])
def test_uint8_input_gives_what_the_parent_gives(channels: str, tmp_path: Path, photos: Path) -> None:
    parent = convnet(
        tmp_path / "m.onnx",
        preprocess=dataclasses.replace(PREPROCESS, channels=channels),  # type: ignore[arg-type]
    )
    model = parent.quantize("fp32", tmp_path / "u.onnx", uint8_input=True)
    (given,) = model.session.get_inputs()
    assert (given.type, given.shape[1:]) == ("tensor(uint8)", [PIXELS, PIXELS, 3])
    np.testing.assert_allclose(model.predict(str(photos)), parent.predict(str(photos)), atol=1e-6)
    pixels = np.full((1, PIXELS, PIXELS, 3), (200, 40, 40), np.uint8)  # RGB, whatever the parent's order
    (direct,) = model.session.run(["logits"], {"images": pixels})
    np.testing.assert_allclose(
        np.exp(direct[0]) / np.exp(direct[0]).sum(), parent.predict(pixels[0])[0], atol=1e-5
    )
    verify(model.path)


def test_uint8_input_and_int8_together(tmp_path: Path, photos: Path) -> None:
    parent = convnet(tmp_path / "m.onnx")
    plain = parent.quantize("int8-static", tmp_path / "q.onnx", calibrate=photos)
    model = parent.quantize("int8-static", tmp_path / "u.onnx", calibrate=photos, uint8_input=True)
    np.testing.assert_allclose(model.predict(str(photos)), plain.predict(str(photos)), atol=0.02)
    assert model.provenance["input"] == "uint8 [N, H, W, 3], RGB"
    (cost,) = model.benchmark(threads=1)
    assert cost.error is None and cost.latency_p50_ms


def test_predict_script_feeds_pixels(tmp_path: Path, photos: Path) -> None:
    model = convnet(tmp_path / "m.onnx").quantize("fp32", tmp_path / "model.onnx", uint8_input=True)
    script = write_predict_script(tmp_path)
    done = subprocess.run(
        [sys.executable, script, photos / "bees" / "0.png"], capture_output=True, text=True, check=True
    )
    name, probability = done.stdout.splitlines()[0].split("\t")[1:]
    assert name == "bees"
    assert float(probability) == pytest.approx(model.predict(photos / "bees" / "0.png")[0, 1], abs=1e-4)


# --- what it costs
@pytest.mark.parametrize("pixels", [False, True])
def test_a_loss_is_traced_to_its_layer_and_keeping_it_brings_it_back(
    pixels: bool, tmp_path: Path, photos: Path
) -> None:
    parent = convnet(tmp_path / "m.onnx", loud=20000.0)
    settings, found = Settings("int8-static", uint8_input=pixels), calibration_set(photos, "image")
    variant = parent.quantize("int8-static", tmp_path / "q.onnx", calibrate=photos, uint8_input=pixels)
    report = judge_variant(parent, variant, photos)
    assert (report.n, report.parent_accuracy) == (16, 1.0) and report.gap < -0.2
    assert report.gap_low < report.gap < report.gap_high and report.agreement == report.accuracy
    report = explain_loss(report, parent, settings, photos, found)
    assert report.layers[0].layers == ("last",) and report.keep == ("last",)
    assert {name for cost in report.layers for name in cost.layers} == {"first", "middle", "last"}
    kept = parent.quantize("int8-static", tmp_path / "k.onnx", calibrate=photos, keep=report.keep)
    assert judge_variant(parent, kept, photos).accuracy == report.kept_accuracy == 1.0


def test_no_loss_no_search(tmp_path: Path, photos: Path) -> None:
    parent = convnet(tmp_path / "m.onnx")
    report = judge_variant(parent, parent.quantize("fp16", tmp_path / "h.onnx"), photos)
    assert report.gap == 0 and report.agreement == 1 and 0.4 < report.size_ratio < 1
    assert explain_loss(report, parent, Settings("fp16"), photos) is report


# --- refused
def test_what_makes_no_variant_is_refused(tmp_path: Path, photos: Path) -> None:
    parent = convnet(tmp_path / "m.onnx")
    with pytest.raises(InputError, match="precision 'int4': fp32, fp16, int8-dynamic, int8-static"):
        parent.quantize("int4", tmp_path / "q.onnx")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="fp32 is what the file has"):
        parent.quantize("fp32", tmp_path / "q.onnx")
    with pytest.raises(InputError, match="fp16 finds no ranges on examples"):
        parent.quantize("fp16", tmp_path / "q.onnx", calibrate=photos)
    half = parent.quantize("fp16", tmp_path / "h.onnx")
    with pytest.raises(ModelFileError, match=r"no float32 file .it holds float16 weights"):
        half.quantize("int8-static", tmp_path / "q.onnx", calibrate=photos)
    assert not (tmp_path / "q.onnx").exists()
