"""The same recipe, features and head give the same training in PyTorch and TensorFlow, a process each."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "trajectory.py"


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")
def test_torch_and_tensorflow_train_the_same_head_over_200_steps() -> None:
    """SGD with momentum, Adam, AdamW; smoothing, decay, clipping and a cosine schedule on."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--json"], capture_output=True, text=True, timeout=500, env=environment
    )
    assert done.returncode == 0, done.stderr[-2000:] or done.stdout
    rows = [row for row in json.loads(done.stdout) if row["pair"] == "torch, tf"]
    assert [row["optimizer"] for row in rows] == ["SGD with momentum", "Adam", "AdamW"]
    for row in rows:
        assert row["steps"] == 200 and row["holds"], row
        assert row["head"] <= 1e-5, row
