"""The outsider's adapter of examples/plugin, built and installed as an outsider would, then put to work.

Everything runs in new processes that know the plug-in only by the folder pip installed it into.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PLUGIN = Path(__file__).resolve().parents[2] / "examples" / "plugin"

# The user's whole road: train on photographs, save, export, and predict with the file alone.
JOB = """
import sys
from pathlib import Path
import numpy as np
from PIL import Image
import zoo

folder, rng = Path(sys.argv[1]), np.random.default_rng(0)
for name, colour in {"sunset": (200, 90, 60), "forest": (60, 150, 70), "sea": (50, 90, 190)}.items():
    (folder / "photos" / name).mkdir(parents=True)
    for i in range(12):
        pixels = np.clip(rng.normal(colour, 40, (20, 24, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / "photos" / name / f"{i}.png")

model = zoo.get("colours")
model.replace_head(3)
model.freeze()
history = model.fit(folder / "photos", recipe=zoo.Recipe(lr=0.05, epochs=20))
accuracy = model.evaluate(folder / "photos")["accuracy"]
model.save(folder / "run")
exported = zoo.load(folder / "run").export(folder / "colours.onnx")
same = np.abs(exported.predict(folder / "photos") - model.predict(folder / "photos")).max()
print(f"falls={history.losses[-1] < history.losses[0]} accuracy={accuracy:.2f} same={same < 1e-5}")
print(f"labels={exported.labels} id={exported.id}")
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The plug-in, built by its own build backend and installed by pip without network."""
    copy = tmp_path_factory.mktemp("source") / "plugin"
    shutil.copytree(PLUGIN, copy, ignore=shutil.ignore_patterns("__pycache__"))
    target = tmp_path_factory.mktemp("site")
    options = ["--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "install", *options, "--target", str(target), str(copy)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return target


def run(site: Path, *arguments: str, cwd: Path) -> str:
    """Python with the plug-in on its path; fails with what it printed."""
    done = subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, "PYTHONPATH": str(site)},
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_it_passes_the_public_contract(site: Path, tmp_path: Path) -> None:
    """Its own test file, from outside of this repository."""
    shutil.copytree(PLUGIN / "tests", tmp_path / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    printed = run(site, "-m", "pytest", "-p", "no:cacheprovider", "-rs", "tests", cwd=tmp_path)
    passed, skipped = (int(n) for n in re.findall(r"(\d+) passed, (\d+) skipped", printed)[0])
    assert passed > 20
    reasons = sorted(re.findall(r"SKIPPED .*: (.*)", printed))
    assert reasons == ["images are not padded", "this network cannot be cut"] and skipped == 2


def test_it_is_listed_without_being_imported(site: Path, tmp_path: Path) -> None:
    ids = "[card.id for card in zoo.list_models('*', framework='tinycolor')]"
    code = f"import sys, zoo; print({ids}, 'zoo_tinycolor' in sys.modules)"
    assert run(site, "-c", code, cwd=tmp_path) == "['tinycolor:histogram8'] False\n"


def test_it_does_the_whole_job(site: Path, tmp_path: Path) -> None:
    printed = run(site, "-c", JOB, str(tmp_path), cwd=tmp_path)
    assert "falls=True accuracy=1.00 same=True" in printed
    assert "labels=('forest', 'sea', 'sunset') id=tinycolor:histogram8" in printed
