"""torch's exports in the cache: what they rest on is all noted, changed weights are other graphs, bytes are stable."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from opened import bytes_of, export_of

import zoo

NAME = "torch:squeezenet1_1"


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one file of random weights."""
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "weights"
    folder.mkdir()
    torch.save(zoo.get(f"{NAME}@none").module.state_dict(), folder / "own.pth")
    return folder


def test_files_that_an_export_rests_on(weights: Path, tmp_path: Path) -> None:
    model = f"{NAME}@{weights / 'own.pth'}"
    assert export_of(model, weights, tmp_path / "a.onnx")["made"]
    shutil.copy(weights / "own.pth", tmp_path / "same.pth")
    (tmp_path / "same.pth").replace(weights / "own.pth")
    assert not export_of(model, weights, tmp_path / "b.onnx")["made"], "the same content"
    torch.save(zoo.get(f"{NAME}@none", seed=1).module.state_dict(), weights / "own.pth")
    assert export_of(model, weights, tmp_path / "c.onnx")["made"]
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
    assert (tmp_path / "a.onnx").read_bytes() != (tmp_path / "c.onnx").read_bytes()


def test_a_file_in_the_mirror_and_one_that_is_not(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    official = torch.hub.get_dir()
    monkeypatch.setenv("ZOO_MIRROR", str(weights))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    place = tmp_path / "home" / "hub" / "checkpoints" / "squeezenet1_1-b8a52dc0.pth"
    assert official != str(place.parent.parent)
    place.parent.mkdir(parents=True)
    (weights / "own.pth").replace(place)
    noted = export_of(NAME, place.parent, tmp_path / "a.onnx")["reads"]
    assert noted[str(weights / place.name)] is None, "it was looked for in the mirror first"


def test_bytes_do_not_depend_on_threads(tmp_path: Path) -> None:
    first, second = (bytes_of("torch", f"{NAME}@none", tmp_path, threads=n) for n in (1, 2))
    assert first == second
