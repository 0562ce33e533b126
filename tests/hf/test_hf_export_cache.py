"""Hugging Face folders in the export cache: every file that was read is noted, and bytes are stable."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import transformers
from hf_folders import add_tokenizer
from opened import bytes_of, export_of
from test_hf_classifiers import SMALL


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small BERT with a pooling of its own."""
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    place = tmp_path / "bert"
    transformers.BertModel(transformers.BertConfig(**SMALL)).save_pretrained(place)
    add_tokenizer(place)
    return place


def test_files_that_an_export_rests_on(folder: Path, tmp_path: Path) -> None:
    assert export_of(f"hf:{folder}", folder, tmp_path / "a.onnx")["made"]
    assert not export_of(f"hf:{folder}", folder, tmp_path / "b.onnx")["made"]
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_cls_token": True}))
    assert export_of(f"hf:{folder}", folder, tmp_path / "c.onnx")["made"], "another pooling is another graph"


def test_bytes_do_not_depend_on_threads(folder: Path, tmp_path: Path) -> None:
    first, second = (bytes_of("hf", f"hf:{folder}", tmp_path, threads=n) for n in (1, 2))
    assert first == second
