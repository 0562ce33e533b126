"""docs/results.md: what `zoo compare` and `zoo select` print on two real data sets, with the commands.

    python scripts/results.py          needs the folder ../shared of real weights and data beside the checkout

Run it on a machine that does nothing else: the latencies are measured.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "results.md"
WEIGHTS, DATA = "../shared/weights", "../shared/data"
IMAGES = [
    "tf:mobilenet_v1_0.25_224",
    "tf:mobilenet_v1_0.75_224",
    f"hf:{WEIGHTS}/hf/mobilenet_v1_0.75_224",
    f"torch:squeezenet1_0@{WEIGHTS}/torch/squeezenet1_0-converted-from-deepcompression.pth",
    f"torch:squeezenet1_1@{WEIGHTS}/torch/squeezenet1_1-converted-from-caffe-fp16.pth",
]
TEXTS = ["hf:all-minilm-l6-v2,depth=all", "tf:all-minilm-l6-v2,depth=all"]
DEPTHS = [f"{framework}:all-minilm-l6-v2,depth={depth}" for framework in ("hf", "tf") for depth in (2, 4, 6)]
HEAD = """# Results on two real data sets

Written by `python scripts/results.py`, which runs the commands below from the root of the repository. `../shared`
holds real weights and data: `hymenoptera` (244 + 153 photographs of ants and bees) and `sst2` (6920 / 872 / 1821
sentences of film reviews). `ZOO_MIRROR` names its folder of official Keras files. Accuracies are of the ONNX file
whose cost stands beside them.
"""


def candidates(ids: list[str]) -> list[str]:
    """`--candidate ID` for each."""
    return [part for name in ids for part in ("--candidate", name)]


def commands(out: str) -> list[tuple[str, list[str]]]:
    """(heading, command) in the order of the page."""
    ants = f"{DATA}/hymenoptera"
    sst2 = f"{DATA}/sst2"
    return [
        ("hymenoptera: `zoo compare`", ["compare", *IMAGES, "--data", f"{ants}/train", "--on-error", "skip"]),
        (
            "hymenoptera: `zoo select` within 10 ms and 5 MB",
            ["select", f"{ants}/train", "--test", f"{ants}/val", "--on-error", "skip", "--max-latency", "10ms",
             "--max-size", "5MB", *candidates(IMAGES), "-o", f"{out}/ants-small"],
        ),
        (
            "hymenoptera: `zoo select` within 50 ms",
            ["select", f"{ants}/train", "--test", f"{ants}/val", "--on-error", "skip", "--max-latency", "50ms",
             *candidates(IMAGES), "-o", f"{out}/ants"],
        ),
        ("sst2: `zoo compare`", ["compare", *DEPTHS, "--data", f"{sst2}/dev.tsv"]),
        (
            "sst2: `zoo select` within 5 ms",
            ["select", f"{sst2}/train.tsv", "--validation", f"{sst2}/dev.tsv", "--test", f"{sst2}/test.tsv",
             "--max-latency", "5ms", *candidates(TEXTS), "-o", f"{out}/sst2"],
        ),
    ]  # fmt: skip


def run(arguments: list[str], out: str) -> str:
    """One section: the command as one would type it, and what it printed."""
    environment = {**os.environ, "ZOO_MIRROR": f"{WEIGHTS}/keras", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "zoo.cli", *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise SystemExit(f"zoo {shlex.join(arguments)} failed:\n{done.stderr}")
    shown = shlex.join(["zoo", *arguments]).replace(out, "runs")
    body = done.stdout.replace(out, "runs").strip()
    return f"```\nZOO_MIRROR={WEIGHTS}/keras {shown}\n```\n\n{body}\n"


def main() -> int:
    """Run everything, write the page."""
    if not (ROOT / DATA).is_dir():
        raise SystemExit(f"no folder {DATA} beside the checkout: nothing was run")
    with tempfile.TemporaryDirectory() as out:
        parts = []
        for title, arguments in commands(out):
            print(title, flush=True)
            parts.append(f"## {title}\n{run(arguments, out)}")
    from zoo.cost import machine

    facts = ", ".join(f"{name} {value}" for name, value in machine().items())
    PAGE.write_text("\n".join([HEAD, *parts, f"Machine: {facts}.\n"]), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
