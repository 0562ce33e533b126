"""A framework that is not installed is a skip with its reason, and a failure where ZOO_REQUIRE names it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
BLOCKER = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("tensorflow", "keras", "keras_hub"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocker())
"""


@pytest.mark.parametrize(("require", "code"), [("", 0), ("torch,hf", 0), ("torch,tf,hf", 2)])
def test_a_missing_framework(tmp_path: Path, require: str, code: int) -> None:
    (tmp_path / "sitecustomize.py").write_text(BLOCKER)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "ZOO_REQUIRE": require}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "tests/tf"],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == code, done.stdout
    if code:
        assert "No module named 'tensorflow'" in done.stdout or "No module named 'keras'" in done.stdout
    else:
        assert "skipped tests/tf: no module tensorflow (pip install 'backbone-zoo[tf]')" in done.stdout
