"""One checkpoint in two frameworks: what KerasHub's converters make of a folder is what torch computes from it.

The folders are small and random, written by transformers and timm in a process of their own.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tf_models
import tf_torch_folders
from present import missing

from zoo.errors import InputError
from zoo_tf.engine import KerasEngine

pytestmark = [
    pytest.mark.tf,
    pytest.mark.skipif(bool(missing("torch") or missing("hf")), reason="needs the extras torch and hf"),
]
CONVERTED = [name for name in (*tf_torch_folders.TEXTS, *tf_torch_folders.PICTURES) if name != "Esm"]
# One of each of KerasHub's converters from timm; the others of a family differ in widths and repeats.
TIMM = ["resnet18", "mobilenetv3_small_050"]
SLOW = [
    "densenet121",
    "cspresnet50",
    "cspresnext50",
    "cspdarknet53",
    "efficientnet_b0",
    "vgg11",
    "resnetv2_50",
]
REFUSED = ["Esm", "hgnetv2_b0"]
HEADLESS = "hgnetv2_b0/headless"
slow = pytest.mark.skipif(not os.environ.get("ZOO_SLOW"), reason="large networks: ZOO_SLOW=1 runs them")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of all checkpoints."""
    folder = tmp_path_factory.mktemp("torch")
    names = [*CONVERTED, *TIMM, *(SLOW if os.environ.get("ZOO_SLOW") else []), *REFUSED, HEADLESS]
    script = str(Path(tf_torch_folders.__file__))
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, script, str(folder), *names], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def difference(found: np.ndarray, wanted: np.ndarray) -> float:
    """The largest difference, in units of how far the outputs lie apart over the inputs."""
    return float(np.abs(found - wanted).max() / np.ptp(wanted, axis=0).max())


def compared(folder: Path) -> tuple[KerasEngine, dict[str, float]]:
    """The engine, and by how much its logits and features differ from torch's."""
    engine = tf_models.load(folder)
    batch = dict(np.load(folder / "reference.npz"))
    wanted = {name: batch.pop(name) for name in ("logits", "features") if name in batch}
    found = {name: getattr(engine, name) for name in wanted if name == "features" or engine.num_classes}
    return engine, {name: difference(function(batch), wanted[name]) for name, function in found.items()}


@pytest.mark.parametrize("name", CONVERTED)
def test_transformers_folders(name: str, written: Path) -> None:
    """Logits with the checkpoint's own head; texts of different lengths in one batch."""
    engine, errors = compared(written / name)
    assert engine.num_classes == 3 and errors["logits"] < 1e-5, errors


@pytest.mark.parametrize("name", [*TIMM, *(pytest.param(name, marks=slow) for name in SLOW)])
def test_timm_folders(name: str, written: Path) -> None:
    """Logits and features. A difference of 1e-3 is far below any of kind: a wrong epsilon gives more."""
    engine, errors = compared(written / name)
    assert engine.num_classes == 3 and set(errors) == {"logits", "features"}
    assert max(errors.values()) < (1e-3 if name in SLOW else 1e-4), errors


def test_hgnetv2_without_its_head(written: Path) -> None:
    """The backbone is timm's; only the head, which KerasHub computes in another order, is not."""
    _, errors = compared(written / HEADLESS.replace("/", "-"))
    assert errors["features"] < 1e-3, errors


@pytest.mark.parametrize(
    ("name", "says"), [("Esm", "masks .* Use hf:"), ("hgnetv2_b0", "before the average.* Use torch:")]
)
def test_what_kerashub_computes_otherwise_is_refused(name: str, says: str, written: Path) -> None:
    with pytest.raises(InputError, match=says):
        tf_models.load(written / name)
