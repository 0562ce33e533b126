"""`zoo select` again with other budgets on the same data: the seconds of the command, from the shell to its answer.

The first run fills an empty cache; each other one is a process of its own with another limit, and picks another file.

    python benchmarks/select_again.py [--record]
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import machine_line, record, table

ROOT = Path(__file__).resolve().parent.parent
CANDIDATES = ["--candidate", "hf:all-minilm-l6-v2,depth=all", "--candidate", "tf:all-minilm-l6-v2,depth=all"]
FIRST = ["--max-latency", "50ms", "--max-size", "80MB"]
OTHERS = (["--max-size", "75MB"], ["--max-size", "65MB"], ["--max-latency", "50ms", "--max-size", "60MB"],
          ["--max-params", "20M"])  # fmt: skip
AIM_S = 5.0


def run(limits: list[str], out: Path | None, cache: Path) -> tuple[float, str]:
    """Seconds, and the pick."""
    data = str(ROOT / "examples" / "tickets.csv")
    command = [sys.executable, "-m", "zoo.cli", "select", data, *limits, *CANDIDATES]
    started = time.perf_counter()
    ended = subprocess.run(
        [*command, *([] if out is None else ["-o", str(out)])], check=True, capture_output=True, text=True,
        env={**os.environ, "ZOO_CACHE": str(cache), "COLUMNS": "200"},
    )  # fmt: skip
    pick = re.search(r"Ship (\S+?)[:,]? ", " ".join(ended.stdout.split()))
    return time.perf_counter() - started, pick[1] if pick else "?"


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--record", action="store_true", help="write the section into RESULTS.md")
    given = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory(prefix="zoo-again-") as folder:
        base = Path(folder)
        for number, limits in enumerate([FIRST, *OTHERS]):
            for out in (base / f"out{number}", None):
                if number == 0 and out is None:
                    continue
                seconds, pick = run(limits, out, base / "cache")
                rows.append([
                    " ".join(limits), "with `-o`" if out else "", pick, f"{seconds:.1f}",
                    "the first" if number == 0 else "yes" if seconds < AIM_S else "NO",
                ])  # fmt: skip
                print(rows[-1], flush=True)
                shutil.rmtree(base / f"out{number}", ignore_errors=True)
    text = "\n\n".join([
        "## Another budget on the same data",
        "`python benchmarks/select_again.py --record`: MiniLM's depths in two frameworks on `examples/tickets.csv`; "
        "whole commands, the interpreter's start included. With `-o` a framework is started, to write `model/`.",
        table(["limits", "", "pick", "s", f"under {AIM_S:.0f} s"], rows),
        machine_line("onnxruntime", "torch", "tensorflow"),
    ])  # fmt: skip
    print(text)
    if given.record:
        record("select again", text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
