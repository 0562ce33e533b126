"""New heads and depths cut from a file, without the framework it came from; and what `verify` notices."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from zoo.engine import draw_head
from zoo.errors import ExportMismatchError, InputError, ModelFileError
from zoo.graph import OnnxModel, cut_depth, export_engine, metadata, surgery, verify
from zoo.graph.samples import parity_batches
from zoo.testing.toy import ToyEngine


def make(path: Path, engine: ToyEngine | None = None, depths: tuple[int, ...] = ()) -> OnnxModel:
    return export_engine(engine or ToyEngine(), path, model_id="toy:it", versions={}, depths=depths)


def edit_tensor(path: Path, name: str, change: float) -> None:
    """Change one weight of a file and nothing else, as a broken disk or a meddler would."""
    model = onnx.load(path)
    tensor = next(t for t in model.graph.initializer if t.name == name)
    values = numpy_helper.to_array(tensor).copy()
    values.reshape(-1)[0] += np.float32(change)
    tensor.CopyFrom(numpy_helper.from_array(values, name))
    onnx.save(model, path)


# --- heads
@pytest.mark.parametrize("num_classes", [None, 3])
def test_with_head_equals_the_engine_with_that_head(num_classes: int | None, tmp_path: Path) -> None:
    engine = ToyEngine(num_classes=num_classes)
    weight, bias = draw_head(16, 5, 9)
    model = make(tmp_path / "m.onnx", engine).with_head(
        weight, bias, labels="abcde", path=tmp_path / "n.onnx"
    )
    engine.set_head(weight, bias)
    for batch in parity_batches(engine.preprocess, engine.inputs, seed=3):
        np.testing.assert_allclose(model.logits(batch), engine.logits(batch), rtol=1e-4, atol=1e-6)
    assert (model.labels, model.num_classes, model.id) == (("a", "b", "c", "d", "e"), 5, "toy:it")
    assert set(verify(model.path)) == {"logits", "features"}
    assert set(model.provenance["parity"]) == {"logits", "features"}
    assert len([n for n in onnx.load(model.path).graph.node if n.name == "head"]) == 1


def test_with_head_of_an_export_equals_exporting_with_that_head(tmp_path: Path) -> None:
    engine = ToyEngine()
    weight, bias = draw_head(16, 5, 9)
    fitted = make(tmp_path / "m.onnx", engine).with_head(weight, bias, path=tmp_path / "n.onnx")
    engine.set_head(weight, bias)
    direct = make(tmp_path / "d.onnx", engine)
    assert fitted.provenance["weights_sha256"] == direct.provenance["weights_sha256"]
    assert (
        metadata.read(onnx.load(fitted.path), fitted.path).golden
        == metadata.read(onnx.load(direct.path), direct.path).golden
    )


def test_with_head_without_a_path_goes_into_the_cache_by_content(tmp_path: Path) -> None:
    model = make(tmp_path / "m.onnx")
    weight, bias = draw_head(16, 2, 0)
    first, again = model.with_head(weight, bias), model.with_head(weight, bias)
    other = model.with_head(weight, bias, labels=("x", "y"))
    assert first.path == again.path != other.path
    assert first.path.parent.name == "heads" and first.labels == ("0", "1")
    assert [p.name for p in tmp_path.iterdir()] == ["m.onnx"]


def test_heads_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    model = make(tmp_path / "m.onnx")
    weight, bias = draw_head(16, 5, 0)
    with pytest.raises(InputError, match=r"a head for 16 features .* given were \[16, 5\] and \[5\]"):
        model.with_head(weight.T, bias)
    with pytest.raises(InputError, match="2 labels for a head of 5 classes"):
        model.with_head(weight, bias, labels=("a", "b"))
    with pytest.raises(ModelFileError, match=r"no output 'features' to put a head on: cut it at one depth"):
        make(tmp_path / "d.onnx", depths=(1, 2)).with_head(weight, bias)


# --- depths
@pytest.mark.parametrize("kind", ["image", "text"])
def test_a_cut_file_gives_what_the_whole_gives_at_that_depth(kind: str, tmp_path: Path) -> None:
    engine = ToyEngine(kind, depth=3)  # type: ignore[arg-type]
    whole = make(tmp_path / "m.onnx", engine, (1, 2, 3))
    for depth in whole.depths:
        part = cut_depth(whole, depth, tmp_path / f"{depth}.onnx")
        for batch in parity_batches(engine.preprocess, engine.inputs, seed=2):
            (right,) = whole.run(batch, [f"features_{depth}"])
            assert np.array_equal(part.run(batch, ["features"])[0], right)
        assert (part.id, part.depths, part.preprocess) == (f"toy:it,depth={depth}", (), engine.preprocess)
        assert part.provenance["cut_from"] == {"id": "toy:it", "error_of_spread": 0.0}
        assert list(verify(part.path)) == ["features"]
    names = {t.name for t in onnx.load(tmp_path / "1.onnx").graph.initializer}
    assert "block1.weight" in names and "block2.weight" not in names
    assert (tmp_path / "1.onnx").stat().st_size < (tmp_path / "3.onnx").stat().st_size


def test_a_cut_file_takes_a_head(tmp_path: Path) -> None:
    part = cut_depth(make(tmp_path / "m.onnx", depths=(1, 2)), 1, tmp_path / "1.onnx")
    model = part.with_head(*draw_head(16, 4, 0), path=tmp_path / "h.onnx")
    assert model.id == "toy:it,depth=1" and model.num_classes == 4


def test_a_depth_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be cut at depth 7; depths in it: 1, 2"):
        cut_depth(make(tmp_path / "m.onnx", depths=(1, 2)), 7, tmp_path / "7.onnx")
    with pytest.raises(InputError, match="depths in it: none: export it with depths"):
        cut_depth(make(tmp_path / "n.onnx"), 1, tmp_path / "7.onnx")
    assert not (tmp_path / "7.onnx").exists()


def test_a_whole_that_was_changed_is_not_cut(tmp_path: Path) -> None:
    whole = make(tmp_path / "m.onnx", depths=(1, 2))
    edit_tensor(whole.path, "block1.bias", 3.0)
    with pytest.raises(ExportMismatchError, match="no longer computes"):
        cut_depth(whole, 1, tmp_path / "1.onnx")


# --- verify
def test_verify_gives_the_errors_by_output(tmp_path: Path) -> None:
    figures = verify(make(tmp_path / "m.onnx").path)
    assert set(figures) == {"logits", "features"} and max(figures.values()) < 1e-4


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("block1.bias", 3.0, "no longer computes what it did when it was exported: .* differs by"),
        ("head.bias", 0.5, "logits differs by 0.5 on its golden input"),
        ("block1.bias", 1e-6, "its weights were changed after the export .* though its outputs agree"),
    ],
)
def test_verify_notices_changed_weights(name: str, change: float, message: str, tmp_path: Path) -> None:
    path = make(tmp_path / "m.onnx").path
    edit_tensor(path, name, change)
    with pytest.raises(ExportMismatchError, match=message):
        verify(path)


def test_verify_needs_a_golden_pair(tmp_path: Path) -> None:
    path = make(tmp_path / "m.onnx").path
    model = onnx.load(path)
    stored = metadata.read(model, path)
    del model.metadata_props[:]
    metadata.write(model, dataclasses.replace(stored, golden=None))
    onnx.save(model, path)
    with pytest.raises(ModelFileError, match="holds no golden input and output"):
        verify(path)
    for golden in (
        {},
        {"input": {"kind": "image", "pixels": "00"}, "outputs": {}},
        {"input": {}, "outputs": {}},
    ):
        metadata.write(model, dataclasses.replace(stored, golden=golden))
        onnx.save(model, path)
        with pytest.raises(ModelFileError, match="its golden pair cannot be run"):
            verify(path)


# --- surgery
def branching() -> onnx.ModelProto:
    """An If whose branch captures a tensor and an initialiser from outside, and a node nobody needs."""
    out = helper.make_tensor_value_info("picked", TensorProto.FLOAT, None)
    then = helper.make_graph([helper.make_node("Add", ["x", "held"], ["picked"])], "then", [], [out])
    other = helper.make_graph([helper.make_node("Identity", ["doubled"], ["picked"])], "else", [], [out])
    nodes = [
        helper.make_node("Add", ["x", "x"], ["doubled"]),
        helper.make_node("Neg", ["x"], ["unused"]),
        helper.make_node("If", ["flag"], ["features"], then_branch=then, else_branch=other),
    ]
    tensors = {"flag": np.array(True), "held": np.float32(1), "spare": np.float32(2)}
    graph = helper.make_graph(
        nodes,
        "branching",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2])],
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", 2])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in tensors.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def test_pruning_keeps_what_subgraphs_capture() -> None:
    model = branching()
    surgery.prune(model)
    assert [node.op_type for node in model.graph.node] == ["Add", "If"]
    assert {tensor.name for tensor in model.graph.initializer} == {"flag", "held"}
    onnx.checker.check_model(model, full_check=True)


def test_renaming_reaches_into_subgraphs() -> None:
    model = branching()
    surgery.rename(model, {"x": "images", "held": "head.weight"})
    onnx.checker.check_model(model, full_check=True)
    assert model.graph.input[0].name == "images"
