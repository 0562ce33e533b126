"""Export: the form of the file, and that nothing which is broken, stale or too large gets through."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from zoo.engine import Array, Batch
from zoo.errors import ExportError, ExportMismatchError
from zoo.graph import OPSET, OnnxModel, export_engine, verify
from zoo.graph.parity import Yardstick
from zoo.graph.samples import parity_batches
from zoo.testing.toy import ToyEngine

Edit = Callable[[onnx.ModelProto], None]


class EditedEngine(ToyEngine):
    """Writes the toy's graph, changed as a bad (or odd) exporter would have written it."""

    edit: Edit

    def export_onnx(self, path: Path, *, opset: int, depths: Sequence[int] = ()) -> str:
        exporter = super().export_onnx(path, opset=opset, depths=depths)
        model = onnx.load(path)
        self.edit(model)
        onnx.save(model, path)
        return exporter


def edited(edit: Edit, kind: str = "image", **options: object) -> EditedEngine:
    engine = EditedEngine(kind, **options)  # type: ignore[arg-type]
    engine.edit = edit
    return engine


def export(engine: ToyEngine, path: Path, **options: object) -> OnnxModel:
    return export_engine(engine, path, model_id="toy:it", versions={"toy": "1"}, **options)  # type: ignore[arg-type]


def initialiser(model: onnx.ModelProto, name: str) -> onnx.TensorProto:
    return next(tensor for tensor in model.graph.initializer if tensor.name == name)


# --- the form
@pytest.mark.parametrize("kind", ["image", "text"])
def test_graph_has_the_promised_form(kind: str, tmp_path: Path) -> None:
    engine = ToyEngine(kind)  # type: ignore[arg-type]
    engine.labels = ("red", "green", "blue")
    model = export(engine, tmp_path / "m.onnx")
    proto = onnx.load(model.path)
    shapes = {
        v.name: [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim]
        for v in (*proto.graph.input, *proto.graph.output)
    }
    axes = {
        "images": ["batch", 3, 8, 8],
        "input_ids": ["batch", "length"],
        "attention_mask": ["batch", "length"],
    }
    assert shapes == {n: axes[n] for n in engine.inputs} | {"logits": ["batch", 3], "features": ["batch", 16]}
    head = proto.graph.node[-1]
    assert (head.op_type, list(head.input)) == ("Gemm", ["features", "head.weight", "head.bias"])
    weight, bias = engine.head() or (np.empty(0), np.empty(0))
    assert np.array_equal(numpy_helper.to_array(initialiser(proto, "head.weight")), weight)
    assert np.array_equal(numpy_helper.to_array(initialiser(proto, "head.bias")), bias)
    assert (model.labels, model.num_classes, model.feature_dim) == (("red", "green", "blue"), 3, 16)
    assert (model.id, model.inputs, model.preprocess) == ("toy:it", engine.inputs, engine.preprocess)


def test_metadata_says_where_the_file_is_from(tmp_path: Path) -> None:
    path = export(ToyEngine(), tmp_path / "m.onnx").path
    # As a stranger reads it: from ONNX Runtime's own view of the file.
    values = onnxruntime.InferenceSession(path).get_modelmeta().custom_metadata_map
    found = json.loads(values["zoo.provenance"])
    assert (found["id"], found["framework"], found["exporter"], found["opset"]) == (
        "toy:it",
        "toy",
        "toy",
        OPSET,
    )
    assert found["versions"]["toy"] == "1" and found["versions"]["onnxruntime"] == onnxruntime.__version__
    assert len(found["weights_sha256"]) == 64
    assert 0 < found["parity"]["features"]["error_of_spread"] < 1e-4
    assert set(json.loads(values["zoo.golden"])["outputs"]) == {"logits", "features"}


@pytest.mark.parametrize("kind", ["image", "text"])
def test_any_batch_size_and_length_gives_the_engines_logits(kind: str, tmp_path: Path) -> None:
    engine = ToyEngine(kind)  # type: ignore[arg-type]
    model = export(engine, tmp_path / "m.onnx")
    for seed in (5, 6):
        for batch in parity_batches(engine.preprocess, engine.inputs, seed=seed):
            bigger = {name: np.concatenate([value] * 4)[:7] for name, value in batch.items()}
            np.testing.assert_allclose(model.logits(bigger), engine.logits(bigger), rtol=1e-4, atol=1e-6)


def test_two_exports_are_the_same_bytes(tmp_path: Path) -> None:
    first, second = (export(ToyEngine(), tmp_path / name).path for name in ("a.onnx", "b.onnx"))
    assert first.read_bytes() == second.read_bytes()


def test_without_a_head_there_are_features_only(tmp_path: Path) -> None:
    model = export(ToyEngine(num_classes=None), tmp_path / "m.onnx")
    assert [o.name for o in onnx.load(model.path).graph.output] == ["features"]
    assert model.num_classes is None and model.labels is None


def test_depths_are_outputs_of_one_graph(tmp_path: Path) -> None:
    engine = ToyEngine(depth=3)
    model = export(engine, tmp_path / "m.onnx", depths=(1, 3))
    assert [o.name for o in onnx.load(model.path).graph.output] == ["features_1", "features_3"]
    assert model.depths == (1, 3) and model.num_classes is None


def test_the_full_depth_is_checked_even_where_it_is_not_asked_for(tmp_path: Path) -> None:
    model = export(ToyEngine(depth=3), tmp_path / "m.onnx", depths=(1,))
    assert model.depths == (1,) and "features_3" in model.provenance["parity"]
    assert not any("block2" in t.name for t in onnx.load(model.path).graph.initializer)
    with pytest.raises(ExportMismatchError, match="features_3"):
        export(edited(make_stale("block3.bias"), depth=3), tmp_path / "n.onnx", depths=(1,))


# --- odd, but right
def test_odd_names_of_an_exporter_are_put_right(tmp_path: Path) -> None:
    def odd(model: onnx.ModelProto) -> None:
        graph = model.graph
        graph.input[0].name = graph.node[0].input[0] = "keras_tensor_20"
        first = graph.node[0]
        first.output[0] = "logits"  # an inner tensor that bears a name of ours
        graph.node[1].input[0] = "logits"
        graph.output[0].name = graph.node[-1].output[0] = "Identity:0"
        initialiser(model, "block1.bias").name = "head.weight"
        for node in graph.node:
            node.input[:] = ["head.weight" if name == "block1.bias" else name for name in node.input]
        graph.initializer.append(numpy_helper.from_array(np.ones(10**5, np.float32), "never used"))

        # What the exporter saw of its own example batch of 2.
        seen = helper.make_tensor_value_info("linear_1", TensorProto.FLOAT, [2, 16])
        graph.value_info.append(seen)

    model = export(edited(odd), tmp_path / "m.onnx")
    assert not onnx.load(model.path).graph.value_info
    assert model.inputs == ("images",)
    assert "never used" not in {t.name for t in onnx.load(model.path).graph.initializer}
    verify(model.path)


class CurvedHeadEngine(EditedEngine):
    """A checkpoint's own head that is not linear on the features: it comes with the raw graph."""

    def head(self) -> tuple[Array, Array] | None:
        return None

    def logits(self, batch: Batch) -> Array:
        return np.tanh(self.features(batch))


def curved(scale: float) -> CurvedHeadEngine:
    def add_logits(model: onnx.ModelProto) -> None:
        model.graph.initializer.append(numpy_helper.from_array(np.float32(scale), "scale"))
        model.graph.node.append(helper.make_node("Mul", ["features", "scale"], ["scaled"]))
        model.graph.node.append(helper.make_node("Tanh", ["scaled"], ["logits"]))
        model.graph.output.append(helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 16]))

    engine = CurvedHeadEngine(num_classes=16)
    engine.edit = add_logits
    return engine


def test_a_head_that_is_not_linear_is_kept_and_compared(tmp_path: Path) -> None:
    model = export(curved(1.0), tmp_path / "m.onnx")
    assert "logits" in model.provenance["parity"] and model.num_classes == 16
    with pytest.raises(ExportMismatchError, match="logits on a batch of"):
        export(curved(1.01), tmp_path / "n.onnx")


def test_external_data_of_an_exporter_is_taken_into_the_file(tmp_path: Path) -> None:
    class Split(ToyEngine):
        def export_onnx(self, path: Path, *, opset: int, depths: Sequence[int] = ()) -> str:
            super().export_onnx(path, opset=opset, depths=depths)
            onnx.save(onnx.load(path), path, save_as_external_data=True, location="w.bin", size_threshold=0)
            return "split"

    verify(export(Split(), tmp_path / "m.onnx").path)
    assert [p.name for p in tmp_path.iterdir()] == ["m.onnx"]


# --- wrong
def make_stale(name: str) -> Edit:
    def stale(model: onnx.ModelProto) -> None:
        """As if the statistics had moved after the graph was traced."""
        tensor = initialiser(model, name)
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) + np.float32(0.05), name))

    return stale


def test_a_stale_graph_is_refused_with_the_figures(tmp_path: Path) -> None:
    with pytest.raises(ExportMismatchError) as caught:
        export(edited(make_stale("block2.bias")), tmp_path / "m.onnx")
    text = str(caught.value)
    for part in (
        "features on a batch of",
        "images of 8 x 8",
        "differs by 0.0",
        "allowed is 0.0",
        "spread over",
    ):
        assert part in text
    assert list(tmp_path.iterdir()) == []


def test_a_stale_text_graph_names_the_length(tmp_path: Path) -> None:
    with pytest.raises(ExportMismatchError, match=r"batch of \d texts of length \d+"):
        export(edited(make_stale("block2.bias"), "text"), tmp_path / "m.onnx")


def test_without_parity_a_stale_graph_passes_and_says_so(tmp_path: Path) -> None:
    model = export(edited(make_stale("block2.bias")), tmp_path / "m.onnx", parity=False)
    assert model.provenance["parity"] is None


def test_a_mask_that_the_graph_ignores_is_noticed(tmp_path: Path) -> None:
    def ignore(model: onnx.ModelProto) -> None:
        """The mask is read, and every position counts all the same."""
        nodes = list(model.graph.node)
        cast = next(node for node in nodes if node.op_type == "Cast")
        cast.output[0] = "cast"
        zero = numpy_helper.from_array(np.float32(0), "zero")
        model.graph.initializer.append(zero)
        added = [
            helper.make_node("Mul", ["cast", "zero"], ["nothing"]),
            helper.make_node("Add", ["nothing", "one"], ["mask"]),
        ]
        del model.graph.node[:]
        model.graph.node.extend([cast, *added, *(n for n in nodes if n is not cast)])

    with pytest.raises(ExportMismatchError, match="batch of 3 texts"):
        export(edited(ignore, "text"), tmp_path / "m.onnx")


def test_a_batch_size_fixed_in_the_graph_is_refused(tmp_path: Path) -> None:
    def fix(model: onnx.ModelProto) -> None:
        flatten = model.graph.node[0]
        flatten.op_type = "Reshape"
        flatten.input.append("example shape")
        model.graph.initializer.append(numpy_helper.from_array(np.array([2, 192]), "example shape"))

    with pytest.raises(ExportMismatchError, match="fails on a batch of 1 images of 8 x 8"):
        export(edited(fix), tmp_path / "m.onnx")


def test_not_a_number_is_no_parity(tmp_path: Path) -> None:
    def poison(model: onnx.ModelProto) -> None:
        tensor = initialiser(model, "block2.bias")
        tensor.CopyFrom(numpy_helper.from_array(np.full(16, np.inf, np.float32), "block2.bias"))

    with pytest.raises(ExportMismatchError, match="differs by inf"):
        export(edited(poison), tmp_path / "m.onnx")


def test_what_the_checker_refuses_is_not_exported(tmp_path: Path) -> None:
    def unknown(model: onnx.ModelProto) -> None:
        model.graph.node[1].op_type = "Erfc"  # what tf2onnx leaves of an exact GELU

    with pytest.raises(ExportError, match=r"onnx\.checker refuses .*Erfc"):
        export(edited(unknown), tmp_path / "m.onnx")
    assert list(tmp_path.iterdir()) == []


def test_what_only_onnx_runtime_refuses_is_not_exported(tmp_path: Path) -> None:
    def foreign(model: onnx.ModelProto) -> None:
        model.graph.node[2].domain = "somebody.else"
        model.opset_import.append(helper.make_opsetid("somebody.else", 1))

    with pytest.raises(ExportError, match=r"ONNX Runtime does not take .*somebody\.else"):
        export(edited(foreign), tmp_path / "m.onnx")


def test_missing_outputs_and_other_inputs_are_named(tmp_path: Path) -> None:
    def rename_mask(model: onnx.ModelProto) -> None:
        model.graph.input[1].name = "unk__398"
        next(n for n in model.graph.node if n.op_type == "Cast").input[0] = "unk__398"

    with pytest.raises(
        ExportError, match=r"takes input_ids, unk__398; the model takes input_ids, attention_mask"
    ):
        export(edited(rename_mask, "text"), tmp_path / "m.onnx")
    with pytest.raises(ExportError, match=r"no output features_2; it wrote features_1"):
        export(edited(lambda m: m.graph.output.pop() and None), tmp_path / "m.onnx", depths=(1, 2))


def test_an_exporter_that_writes_nothing_or_rubbish_is_told(tmp_path: Path) -> None:
    class Silent(ToyEngine):
        content: bytes | None = None

        def export_onnx(self, path: Path, *, opset: int, depths: Sequence[int] = ()) -> str:
            if self.content is not None:
                path.write_bytes(self.content)
            return "silent"

    engine = Silent()
    with pytest.raises(ExportError, match="silent ended without an error and wrote no file"):
        export(engine, tmp_path / "m.onnx")
    engine.content = b"Traceback (most recent call last):"
    with pytest.raises(ExportError, match="silent wrote no valid file"):
        export(engine, tmp_path / "m.onnx")


def test_more_than_two_gigabytes_is_refused_before_it_is_read(tmp_path: Path) -> None:
    class Large(ToyEngine):
        def export_onnx(self, path: Path, *, opset: int, depths: Sequence[int] = ()) -> str:
            super().export_onnx(path, opset=opset, depths=depths)
            onnx.save(onnx.load(path), path, save_as_external_data=True, location="w.bin", size_threshold=0)
            with path.with_name("w.bin").open("r+b") as file:
                file.truncate(3 * 10**9)  # sparse: takes no space
            return "large"

    with pytest.raises(ExportError, match=r"weights take 3\.0 GB; one ONNX file holds at most 2 GB"):
        export(Large(), tmp_path / "m.onnx")


FULL_DISK = """
import resource, sys
from pathlib import Path
from zoo.errors import StorageError
from zoo.graph import export_engine
from zoo.testing.toy import ToyEngine
path = Path(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
try:
    export_engine(ToyEngine(), path, model_id="toy:it", versions={})
except StorageError as error:
    print(error)
"""


@pytest.mark.parametrize("limit_bytes", [1000, 16_000])
def test_a_full_disk_leaves_nothing_behind(limit_bytes: int, tmp_path: Path) -> None:
    # The toy's raw graph is 15 kB, the finished file larger: the limit hits the one, then the other.
    size = export(ToyEngine(), tmp_path / "m.onnx").path.stat().st_size
    assert size > 16_000
    (tmp_path / "m.onnx").write_bytes(b"what was there before")
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path / "m.onnx"), str(limit_bytes)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert "Nothing half-written was left. Free some space" in done.stdout
    assert (f"cannot write {tmp_path / 'm.onnx'}" in done.stdout) == (limit_bytes > 1000)
    assert [p.name for p in tmp_path.iterdir()] == ["m.onnx"]
    assert (tmp_path / "m.onnx").read_bytes() == b"what was there before"


# --- the yardstick
@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e12])
def test_tolerance_follows_the_spread_not_the_scale(scale: float) -> None:
    rows = np.random.default_rng(0).normal(size=(4, 8)) * scale
    measure = Yardstick.of(rows)
    assert measure.tolerance == pytest.approx(1e-3 * measure.spread, rel=0.01)
    offset = Yardstick.of(1000 * scale + rows)  # like a random ResNet: every image gives nearly the same
    assert offset.tolerance < 1e-4 * 1000 * scale


def test_outputs_that_do_not_spread_are_held_to_float32_noise() -> None:
    measure = Yardstick.of(np.full((4, 3), 5.0))
    assert measure.tolerance == pytest.approx(64 * 2**-23 * 5.0)
    assert Yardstick.of(np.zeros((4, 3))).figures(0.0)["error_of_spread"] == 0.0
