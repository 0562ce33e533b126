"""docs/tuning-results.md: what `zoo tune` and `zoo curve` print on two real data sets, with commands and plots.

    python scripts/tuning_results.py [NAME ...]     needs the folder ../shared of real weights and data beside it

The runs lie in runs/tuning and go on where they were stopped: a finished one is printed from its journal. NAME
runs some only; the page holds all that have an end. Some take an hour on two cores.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE, PLOTS, RUNS = ROOT / "docs" / "tuning-results.md", ROOT / "docs" / "tuning", Path("runs/tuning")
MIRROR = "../shared/weights/keras"
ANTS = ["../shared/data/hymenoptera", "--on-error", "skip"]
SST2 = ["../shared/data/sst2"]
MOBILENET = "tf:mobilenet_v1_0.25_224"
SQUEEZENET = "torch:squeezenet1_1@../shared/weights/torch/squeezenet1_1-converted-from-caffe-fp16.pth"
COMMANDS = {
    "tune-mobilenet": ["tune", MOBILENET, *ANTS, "--epochs", "6"],
    "tune-squeezenet": ["tune", SQUEEZENET, *ANTS, "--epochs", "3", "--seeds", "3"],
    "tune-minilm": [
        "tune",
        "hf:all-minilm-l6-v2,depth=4",
        *SST2,
        "--limit",
        "300",
        "--epochs",
        "3",
        "--seeds",
        "3",
    ],
    "curve-ants": ["curve", MOBILENET, SQUEEZENET, *ANTS],
    "curve-sst2": ["curve", "hf:all-minilm-l6-v2,depth=1", "hf:all-minilm-l6-v2,depth=4", *SST2],
}
TITLES = {
    "tune-mobilenet": "hymenoptera, Keras MobileNet 0.25: what to train",
    "tune-squeezenet": "hymenoptera, SqueezeNet 1.1: what to train",
    "tune-minilm": "sst2, MiniLM of depth 4, 300 labels: what to train",
    "curve-ants": "hymenoptera: labels or a bigger model",
    "curve-sst2": "sst2: labels or a deeper model",
}
HEAD = """# `zoo tune` and `zoo curve` on two real data sets

Written by `python scripts/tuning_results.py`, which runs these commands from the root of the repository with
`ZOO_MIRROR=../shared/weights/keras`. `hymenoptera` has 244 photographs to train on and 153 to be judged by,
`sst2` 6920 and 872 sentences. How to read it: [tuning.md](tuning.md). One thread each, on a machine of two cores
that had other work: seconds are to be compared within a table, and roughly at that.
"""


def run(name: str) -> str | None:
    """The command's output; None where it failed, which it says itself."""
    folder = RUNS / name
    command = [*COMMANDS[name], "--threads", "1", "-o", str(folder)]
    again = ["--resume"] if (ROOT / folder / "journal.jsonl").is_file() else []
    env = {**os.environ, "ZOO_MIRROR": MIRROR, "HF_HUB_OFFLINE": "1"}
    zoo = [sys.executable, "-m", "zoo.cli"]
    done = subprocess.run(
        [*zoo, *command, *again], cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        return None
    (ROOT / folder / "printed.txt").write_text(done.stdout, encoding="utf-8")
    return done.stdout


def section(name: str) -> str:
    """Heading, command, table, sentences and plot."""
    folder = ROOT / RUNS / name
    shutil.copy(folder / "plot.svg", PLOTS / f"{name}.svg")
    table, _, rest = (folder / "printed.txt").read_text(encoding="utf-8").partition("\n\n")
    said = rest.partition("\n\nWritten to")[0].strip().splitlines()
    command = shlex.join(["zoo", *COMMANDS[name], "--threads", "1", "-o", str(RUNS / name)])
    lines = "\n".join(f"- {line}" for line in said)
    return f"## {TITLES[name]}\n```\n{command}\n```\n\n{table}\n\n{lines}\n\n![{TITLES[name]}](tuning/{name}.svg)\n"


def main() -> int:
    """Run what is asked for; write the page."""
    asked = sys.argv[1:] or list(COMMANDS)
    failed = [name for name in asked if run(name) is None]
    PLOTS.mkdir(exist_ok=True)
    finished = [name for name in COMMANDS if (ROOT / RUNS / name / "printed.txt").is_file()]
    PAGE.write_text("\n".join([HEAD, *map(section, finished)]), encoding="utf-8")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
