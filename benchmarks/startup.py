"""How long a user waits before anything happens: `import zoo` and `zoo list` over a bare interpreter.

Whole processes, interleaved, beside `import timm` and `import keras`. Promised: 0.25 s for the import,
0.6 s for the list, and no framework loaded by either.

    python benchmarks/startup.py [--rounds 7] [--record] [--check]
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from common import interleave, machine_line, record, table

BARE = "bare interpreter"
TARGETS_S = {"import zoo": 0.25, "zoo list": 0.6}
FRAMEWORKS = ("torch", "tensorflow", "keras", "timm", "transformers", "keras_hub")


def commands() -> dict[str, list[str]]:
    """What is run, by name; a framework that is not installed is left out."""
    found = {
        BARE: [sys.executable, "-c", "pass"],
        "import zoo": [sys.executable, "-c", "import zoo"],
        "zoo list": [str(Path(sys.executable).parent / "zoo"), "list"],
    }
    for name in ("timm", "keras"):
        if importlib.util.find_spec(name):
            found[f"import {name}"] = [sys.executable, "-c", f"import {name}"]
    return found


def seconds(command: Sequence[str]) -> float:
    """Wall clock of one whole process."""
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - started


def frameworks_loaded(command: Sequence[str]) -> list[str]:
    """Frameworks among the modules that the process imports, as Python's own import log tells."""
    environment = {**os.environ, "PYTHONPROFILEIMPORTTIME": "1"}
    log = subprocess.run(command, check=True, env=environment, capture_output=True, text=True).stderr
    modules = {line.rpartition("|")[2].strip() for line in log.splitlines()}
    return [name for name in FRAMEWORKS if name in modules]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--record", action="store_true", help="write the section of RESULTS.md")
    parser.add_argument("--check", action="store_true", help="exit 1 where a promise is missed")
    options = parser.parse_args()
    run = commands()
    times = interleave(
        {name: (lambda command=command: seconds(command)) for name, command in run.items()},
        rounds=options.rounds,
    )
    rows, missed = [], False
    for name, taken in times.items():
        over = taken.median - times[BARE].median
        loaded = frameworks_loaded(run[name]) if name in TARGETS_S else []
        bad = name in TARGETS_S and (over > TARGETS_S[name] or bool(loaded))
        missed |= bad
        target = f"{TARGETS_S[name]:.2f}" + (" MISSED" if bad else "") if name in TARGETS_S else ""
        none = "none" if name in TARGETS_S else ""
        rows.append(
            [name, f"{taken.median:.3f}", taken.spread, f"{over:.3f}", target, ", ".join(loaded) or none]
        )
    header = ["whole process", "median s", "range s", "over bare s", "promised s", "frameworks loaded"]
    packages = [name for name in ("timm", "keras") if f"import {name}" in run]
    text = (
        f"## Start-up\n`python benchmarks/startup.py --rounds {options.rounds} --record`: "
        f"{options.rounds} interleaved rounds after one to warm up.\n"
        f"{machine_line(*packages)}\n\n{table(header, rows)}"
    )
    print(text)
    if options.record:
        record("startup", text)
    return int(missed and options.check)


if __name__ == "__main__":
    sys.exit(main())
