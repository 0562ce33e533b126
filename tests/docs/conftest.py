"""The desk of each page; the mirror is filled once."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from docs_desk import ROOT, fill_mirror, fill_photos


@pytest.fixture(scope="session")
def mirror(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights") / "mirror"
    fill_mirror(folder)
    return folder


@pytest.fixture
def desk(tmp_path: Path, mirror: Path) -> Path:
    fill_photos(tmp_path / "photos")
    shutil.copy(next((tmp_path / "photos" / "val" / "ants").iterdir()), tmp_path / "ant.jpg")
    shutil.copy(ROOT / "examples" / "tickets.csv", tmp_path)
    (tmp_path / "mirror").symlink_to(mirror)
    return tmp_path
