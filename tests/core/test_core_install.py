"""Without scikit-learn: measuring ONNX files works, choosing says what to install."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from zoo.testing.toy import ToyEngine
from zoo.train import export

BLOCKER = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("sklearn", "threadpoolctl", "pandas", "torch", "tensorflow"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocker())
"""


@pytest.fixture
def bare(tmp_path: Path) -> dict[str, str]:
    """An environment in which only the core's own dependencies can be imported."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(BLOCKER)
    return {**os.environ, "PYTHONPATH": str(tmp_path / "site")}


def zoo(env: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "zoo.cli", *arguments]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)


def test_bench_and_list_work(bare: dict[str, str], tmp_path: Path) -> None:
    export(ToyEngine(), tmp_path / "toy.onnx", model_id="toy:tiny", versions={})
    done = zoo(bare, "bench", str(tmp_path / "toy.onnx"), "--min-seconds", "0.05", "--csv")
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 2
    assert "torch:resnet50" in zoo(bare, "list").stdout


def test_select_says_what_to_install(bare: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("text,label\n" + "".join(f"word {i},{'ab'[i % 2]}\n" for i in range(40)))
    done = zoo(bare, "select", str(tmp_path / "t.csv"))
    assert done.returncode == 4, done.stderr
    assert "needs scikit-learn, which is not installed" in done.stderr
    assert "pip install 'backbone-zoo[train]'" in done.stderr
