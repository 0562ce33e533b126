"""A reader's desk: the folder in which a page's code runs, with photographs, a table and a mirror of weights."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared"
LIMIT_S = 300

# Files under their official names; random where the real ones are not at hand. They stand in for the network.
STAND_INS = """
import sys
from pathlib import Path
from zoo import registry
from zoo_tf import images

folder = Path(sys.argv[1])
for name in ("mobilenet_v2", "mobilenet_v1_0.25_224", "mobilenet_v1_0.75_224"):
    files = [weights.file for weights in registry.card(registry.resolve(f"tf:{name}")).weights]
    if not any((folder / file).exists() for file in files):
        images.build(images.APPLICATIONS[name], size=224).save(folder / files[0])
"""


def fill_mirror(folder: Path) -> None:
    """Real official weights where they are at hand, stand-ins for the rest."""
    folder.mkdir()
    for path in sorted((SHARED / "weights" / "keras").glob("*")):
        (folder / path.name).symlink_to(path)
    command = [sys.executable, "-c", STAND_INS, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


def fill_photos(folder: Path) -> None:
    """folder/{train,val}/{ants,bees}: real ones where they are at hand, else two textures."""
    rng = np.random.default_rng(0)
    for part, count in (("train", 12), ("val", 6)):
        for number, name in enumerate(("ants", "bees")):
            target = folder / part / name
            target.mkdir(parents=True)
            real = sorted((SHARED / "data" / "hymenoptera" / part / name).glob("*.jpg"))[:count]
            for path in real:
                shutil.copy(path, target)
            for index in range(count - len(real)):
                coarse = rng.integers(0, 90, (6, 8, 3)) + 140 * (np.arange(3) == number)
                Image.fromarray(coarse.astype(np.uint8)).resize((300, 240)).save(target / f"{index}.jpg")


def run(language: str, code: str, folder: Path) -> str:
    """Run one block in `folder` and give its output, which is also the failure's message."""
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "ZOO_MIRROR": str(folder / "mirror"),
        "ZOO_CACHE": str(folder / "cache"),
        "HF_HUB_OFFLINE": "1",
    }
    command = (
        [sys.executable, "-c", code] if language == "python" else ["bash", "-euo", "pipefail", "-c", code]
    )
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=LIMIT_S, check=False
    )
    said = f"{done.stdout[-1500:]}\n{done.stderr[-3000:]}"
    assert done.returncode == 0, f"{language} block failed:\n{code}\n{said}"
    return done.stdout
