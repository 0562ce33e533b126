"""`zoo select` killed (SIGKILL) at random moments and resumed, against the same selection never killed.

Every round is a run that is killed again and again, each time after a random while, until it comes to its end. What it
wrote must be what the run that was left alone wrote, but for seconds and the command, and no step may stand in its
journal twice. The toy framework by default (a run is a matter of seconds, so that the kills fall everywhere), its costs
given, since two measurements differ; --real takes MiniLM's depths in two frameworks on `examples/tickets.csv`.

    python benchmarks/select_kill.py [--rounds 5] [--kills 8] [--seed 0] [--real] [--record]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from common import machine_line, record, table
from PIL import Image

from zoo.testing.toy import installed

ROOT = Path(__file__).resolve().parent.parent
TOY = ["toy:tiny,depth=1", "toy:tiny,depth=2"]
REAL = [f"{framework}:all-minilm-l6-v2,depth={depth}" for framework in ("hf", "tf") for depth in (2, 3, 4)]


def photographs(folder: Path, count: int = 25) -> Path:
    """Noise, redder for one class."""
    rng = np.random.default_rng(0)
    for name, red in (("ants", 150), ("bees", 110)):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            pixels = rng.integers(0, 256, (16, 16, 3))
            pixels[..., 0] = np.clip(rng.normal(red, 60, (16, 16)), 0, 255)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{number}.png")
    return folder


def device(path: Path, names: list[str], precisions: list[str]) -> Path:
    """Costs by id, as `zoo bench --json` writes them: made up, for what is tried here is not the meter."""
    ids = [name + ("" if p == "fp32" else f",precision={p}") for name in names for p in precisions]
    costs = [
        {"id": name, "batch_size": 1, "threads": 1, "latency_p50_ms": 1.0 + n, "machine": {"cpu": "made up"}}
        for n, name in enumerate(ids)
    ]
    path.write_text(json.dumps(costs))
    return path


def command(folder: Path, *, real: bool) -> list[str]:
    """All but -o."""
    names, precisions = (REAL, ["fp32", "int8-dynamic"]) if real else (TOY, ["fp32", "fp16"])
    data = ROOT / "examples" / "tickets.csv" if real else photographs(folder / "photos")
    found = [sys.executable, "-m", "zoo.cli", "select", str(data), "--precision", ",".join(precisions)]
    found += [part for name in names for part in ("--candidate", name)]
    found += ["--costs", str(device(folder / "device.json", names, precisions)), "--folds", "3"]
    return found if real else [*found, "--within", "1h"]


def timeless(value: Any) -> Any:
    """Without what a clock wrote, and the command, which names the folder."""
    if isinstance(value, dict):
        return {k: timeless(v) for k, v in value.items() if k not in ("seconds", "command")}
    return [timeless(v) for v in value] if isinstance(value, list) else value


def run(arguments: list[str], environment: dict[str, str], *, kill_after_s: float | None = None) -> bool:
    """Whether it came to its end. Raises RuntimeError with its last words where it failed by itself."""
    child = subprocess.Popen(
        arguments, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    try:
        _, err = child.communicate(timeout=kill_after_s)
    except subprocess.TimeoutExpired:
        child.kill()
        child.communicate()
        return False
    if child.returncode:
        raise RuntimeError(f"a selection failed:\n{err[-2000:]}")
    return True


def one_round(
    whole: list[str], folder: Path, rng: random.Random, kills: int, alone_s: float
) -> tuple[int, list[str]]:
    """How often it was killed, and what is wrong with what it left."""
    environment = {**os.environ, "ZOO_CACHE": str(folder / "cache")}
    out, done, count = folder / "out", False, 0
    while not done:
        resume = ["--resume"] if (out / "journal.jsonl").exists() else []
        after = rng.uniform(0, alone_s) if count < kills else None
        done = run([*whole, "-o", str(out), *resume], environment, kill_after_s=after)
        count += not done
    lines = [json.loads(line) for line in (out / "journal.jsonl").read_text().splitlines()]
    twice = [str(key) for key, n in Counter(line.get("key") for line in lines).items() if n > 1]
    return count, [f"{key} twice" for key in twice]


def main() -> int:
    """Print the rounds; exit 1 where one ended otherwise."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--kills", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--real", action="store_true")
    parser.add_argument("--record", action="store_true")
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as scratch, installed(Path(scratch) / "site"):
        folder = Path(scratch)
        whole = command(folder, real=arguments.real)
        started = time.monotonic()
        run([*whole, "-o", str(folder / "alone")], {**os.environ, "ZOO_CACHE": str(folder / "cache")})
        alone_s = time.monotonic() - started
        right = timeless(json.loads((folder / "alone" / "selection.json").read_text()))
        rows, wrong = [], 0
        for number in range(arguments.rounds):
            place = folder / f"round{number}"
            count, problems = one_round(whole, place, rng, arguments.kills, alone_s)
            same = timeless(json.loads((place / "out" / "selection.json").read_text())) == right
            wrong += not same or bool(problems)
            rows.append((str(number + 1), str(count), "yes" if same else "NO", ", ".join(problems) or "none"))
    how = "`python benchmarks/select_kill.py --rounds 20 --record`: SIGKILL at random moments."
    text = f"## Selections killed and resumed\n\n{how}\n\n"
    text += table(("round", "kills", "same selection.json", "steps done twice"), rows)
    text += f"\n\nLeft alone, the run takes {alone_s:.1f} s. {machine_line()}"
    print(text)
    if arguments.record:
        record("Selections killed and resumed", text)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
