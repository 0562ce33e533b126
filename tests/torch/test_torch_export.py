"""The ladder of exporters: each rung alone, and what happens when one writes a wrong file."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
import transformers
from torch import Tensor, nn

from zoo.cards import ImagePreprocess
from zoo.engine import Array, LoadRequest
from zoo.errors import ExportError, InputError
from zoo_torch import export, texts
from zoo_torch.adapter import ADAPTER
from zoo_torch.engine import TorchEngine


def tiny_bert() -> TorchEngine:
    config = transformers.BertConfig(
        vocab_size=90, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32
    )
    with tempfile.TemporaryDirectory() as folder:
        config.save_pretrained(folder)
        return texts.from_folder(Path(folder), LoadRequest("bert", weights="none"))


def words(n: int, length: int) -> dict[str, Array]:
    rng = np.random.default_rng(n)
    mask = (np.arange(length) < rng.integers(1, length + 1, (n, 1))).astype(np.int64)
    ids = rng.integers(0, 90, (n, length))
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}


def run(path: Path, feed: dict[str, Array]) -> list[Array]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    found: list[Array] = session.run(None, feed)
    return found


@pytest.mark.parametrize("rung", ["torchscript", "dynamo"])
def test_each_rung_alone_keeps_batch_and_length_dynamic(
    rung: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """One file, nothing printed, no generator touched, attention as it was."""
    engine, path = tiny_bert(), tmp_path / "model.onnx"
    monkeypatch.setattr(export, "RUNGS", {"torchscript": export.RUNGS[rung]})
    torch.manual_seed(1)
    random.seed(1)
    states = torch.get_rng_state(), random.getstate()
    attention = engine.module.config._attn_implementation
    engine.export_onnx(path, opset=18, depths=engine.depths)
    assert torch.equal(states[0], torch.get_rng_state()) and states[1] == random.getstate()
    assert engine.module.config._attn_implementation == attention
    assert [p.name for p in tmp_path.iterdir()] == ["model.onnx"]
    assert capfd.readouterr() == ("", "")
    for n, length in ((1, 3), (5, 20)):
        got = run(path, words(n, length))
        assert len(got) == 3
        assert np.abs(got[-1] - engine.features(words(n, length))).max() < 1e-5


def test_the_second_rung_runs_where_the_first_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("no such operator")

    monkeypatch.setitem(export.RUNGS, "torchscript", broken)
    engine = ADAPTER.load(LoadRequest("squeezenet1_1", weights="none", size=64, num_classes=2))
    assert engine.export_onnx(tmp_path / "model.onnx", opset=18) == "dynamo"
    monkeypatch.setitem(export.RUNGS, "dynamo", broken)
    with pytest.raises(
        ExportError, match="torchscript: RuntimeError: no such operator; dynamo: RuntimeError"
    ):
        engine.export_onnx(tmp_path / "model.onnx", opset=18)
    assert not (tmp_path / "model.onnx").exists()


class Baked(nn.Module):
    """TorchScript folds its batch size in as a constant."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 2)

    def forward(self, images: Tensor) -> Tensor:
        means = torch.stack([images[i].mean(dim=(1, 2)) for i in range(len(images))])
        out: Tensor = self.fc(means)
        return out


def test_a_file_with_a_constant_batch_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(export.RUNGS, "dynamo")
    monkeypatch.setitem(export.RUNGS, "dynamo", export.RUNGS["torchscript"])
    engine = ADAPTER.wrap(Baked(), preprocess=ImagePreprocess(8, 8), head="fc", blocks=None)
    with pytest.raises(ExportError, match="at another batch and length"):
        engine.export_onnx(tmp_path / "model.onnx", opset=18)


def test_a_probe_that_differs_does_not_count(tmp_path: Path) -> None:
    engine = tiny_bert()
    path = tmp_path / "model.onnx"
    engine.export_onnx(path, opset=18)
    with torch.no_grad():
        engine.module.embeddings.word_embeddings.weight.mul_(3)
    graph = export.Graph(engine.module, lambda t: (engine._features(t),), engine.inputs)
    with torch.no_grad(), pytest.raises(ExportError, match="features is off by"):
        export._probe(graph, path, engine.preprocess, engine.device)


def test_depths_that_are_not_there() -> None:
    with pytest.raises(InputError, match=r"cannot cut at depth 7: there are \[0, 1, 2\]"):
        tiny_bert().export_onnx(Path("never.onnx"), opset=18, depths=(7,))
