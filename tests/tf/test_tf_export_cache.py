"""Keras's exports in the cache: every file that was read is noted, and bytes are stable."""

from __future__ import annotations

from pathlib import Path

import pytest
from opened import bytes_of, export_of

import zoo

NAME = "tf:mobilenet_v1_0.25_224"


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one file of random weights."""
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "weights"
    folder.mkdir()
    zoo.get(f"{NAME}@none").module.save_weights(folder / "own.weights.h5")
    return folder


def test_files_that_an_export_rests_on(weights: Path, tmp_path: Path) -> None:
    model = f"{NAME}@{weights / 'own.weights.h5'}"
    assert export_of(model, weights, tmp_path / "a.onnx")["made"]
    assert not export_of(model, weights, tmp_path / "b.onnx")["made"]
    zoo.get(f"{NAME}@none", seed=1).module.save_weights(weights / "own.weights.h5", overwrite=True)
    assert export_of(model, weights, tmp_path / "c.onnx")["made"]


def test_bytes_do_not_depend_on_threads(tmp_path: Path) -> None:
    first, second = (bytes_of("tf", f"{NAME}@none", tmp_path, threads=n) for n in (1, 2))
    assert first == second
