"""Training in two processes by torchrun: the same losses as in one, at the same global batch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from two_processes import BATCH, EXAMPLES, RECIPE, trained

import zoo

pytestmark = pytest.mark.torch


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for i in range(EXAMPLES):
        pixels = np.clip(rng.normal((200, 40, 40) if i % 2 else (40, 40, 200), 40, (64, 64, 3)), 0, 255)
        (folder / f"class{i % 2}").mkdir(exist_ok=True)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"class{i % 2}" / f"{i}.png")
    return folder


def torchrun(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    script = Path(__file__).with_name("two_processes.py")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", script]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [*command, *arguments], env=environment, capture_output=True, text=True, timeout=300, check=False
    )


def test_two_processes_train_as_one_does(photos: Path, tmp_path: Path) -> None:
    """Shards of 3 and 2, and a last batch that leaves one process without an example."""
    done = torchrun(tmp_path, photos)
    assert done.returncode == 0, done.stderr
    (first, again), other = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    one = trained(photos, None)
    assert len(first["losses"]) == RECIPE.epochs * -(-EXAMPLES // BATCH)
    assert first["losses"] == pytest.approx(one["losses"], rel=1e-5)
    assert first["held"] == pytest.approx(one["held"], rel=1e-5)
    assert first["weights"] == pytest.approx(one["weights"], rel=1e-4, abs=1e-4)
    assert [first, again] == other, "the processes came to other weights"
    assert again == first, "resumed from its second epoch it went another way"
    assert zoo.load(tmp_path / "run").num_classes == 2


def test_where_one_process_fails_the_other_does_not_hang(photos: Path, tmp_path: Path) -> None:
    done = torchrun(tmp_path, photos, "fail")
    assert done.returncode != 0 and "this process fails" in done.stderr
    assert not list(tmp_path.glob("*.json"))
