"""Current folders that many of these tests stand in, as a user would."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from errors_table import photographs

from zoo.testing import toy


@pytest.fixture
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder whose caches and record of figures are its own."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setenv("ZOO_CACHE", "cache")
    return work


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder: photos of two classes; beside it the toy framework."""
    work = tmp_path / "work"
    photographs(work / "photos")
    monkeypatch.chdir(work)
    with toy.installed(tmp_path / "site"):
        yield work
