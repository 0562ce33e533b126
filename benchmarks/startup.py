"""How long a user waits before anything happens: `import zoo`, `zoo list`, `zoo info`, whole processes.

Interleaved, beside a bare interpreter, `import timm` and `import keras`. Promised: 0.25 s for the import,
0.6 s for listing the whole catalogue in any form, on a terminal too, and for `zoo info`; no framework loaded.

    python benchmarks/startup.py [--rounds 7] [--record] [--check]
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import pty
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from common import interleave, machine_line, record, table

BARE = "bare interpreter"
TERMINAL = " (terminal)"
ZOO = {
    "zoo list": ["list"],
    "zoo list" + TERMINAL: ["list"],
    "zoo list --json": ["list", "--json"],
    "zoo list --max-params 5M --licence permissive --sort top1": [
        *("list", "--max-params", "5M", "--licence", "permissive", "--sort", "top1")
    ],
    "zoo info torch:resnet50": ["info", "torch:resnet50"],
    "zoo info --across resnet50": ["info", "--across", "resnet50"],
}
TARGETS_S = {"import zoo": 0.25, **dict.fromkeys(ZOO, 0.6)}
FRAMEWORKS = ("torch", "tensorflow", "keras", "timm", "transformers", "keras_hub")


def commands() -> dict[str, list[str]]:
    """What is run, by name; a framework that is not installed is left out."""
    found = {
        BARE: [sys.executable, "-c", "pass"],
        "import zoo": [sys.executable, "-c", "import zoo"],
    }
    program = str(Path(sys.executable).parent / "zoo")
    found |= {name: [program, *arguments] for name, arguments in ZOO.items()}
    for name in ("timm", "keras"):
        if importlib.util.find_spec(name):
            found[f"import {name}"] = [sys.executable, "-c", f"import {name}"]
    return found


def seconds(command: Sequence[str]) -> float:
    """Wall clock of one whole process."""
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - started


def terminal_seconds(command: Sequence[str]) -> float:
    """Wall clock of one whole process that writes to a pseudo-terminal of 120 columns, all of it read."""
    started = time.perf_counter()
    child, terminal = pty.fork()
    if child == 0:
        os.environ["COLUMNS"] = "120"
        os.execv(command[0], list(command))
    while True:
        try:
            if not os.read(terminal, 1 << 16):
                break
        except OSError:  # Linux's way to say that the other end is closed
            break
    if code := os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
        raise subprocess.CalledProcessError(code, list(command))
    os.close(terminal)
    return time.perf_counter() - started


def catalogue_line() -> str:
    """What is listed, counted."""
    from zoo import registry

    cards = [card for name in registry.frameworks() for card in registry.cards(name)]
    return f"The catalogue: {len(cards)} models, {sum(len(card.weights) for card in cards)} sets of weights."


def frameworks_loaded(command: Sequence[str]) -> list[str]:
    """Frameworks among the modules that the process imports, as Python's own import log tells."""
    environment = {**os.environ, "PYTHONPROFILEIMPORTTIME": "1"}
    log = subprocess.run(command, check=True, env=environment, capture_output=True, text=True).stderr
    modules = {line.rpartition("|")[2].strip() for line in log.splitlines()}
    return [name for name in FRAMEWORKS if name in modules]


def timer(name: str, command: Sequence[str]) -> Callable[[], float]:
    """What is interleaved: one run of a command, on a terminal where its name says so."""
    measure = terminal_seconds if name.endswith(TERMINAL) else seconds
    return lambda: measure(command)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--record", action="store_true", help="write the section of RESULTS.md")
    parser.add_argument("--check", action="store_true", help="exit 1 where a promise is missed")
    options = parser.parse_args()
    run = commands()
    times = interleave(
        {name: timer(name, command) for name, command in run.items()},
        rounds=options.rounds,
    )
    rows, missed = [], False
    for name, taken in times.items():
        loaded = frameworks_loaded(run[name]) if name in TARGETS_S else []
        bad = name in TARGETS_S and (taken.median > TARGETS_S[name] or bool(loaded))
        missed |= bad
        target = f"{TARGETS_S[name]:.2f}" + (" MISSED" if bad else "") if name in TARGETS_S else ""
        none = "none" if name in TARGETS_S else ""
        rows.append([name, f"{taken.median:.3f}", taken.spread, target, ", ".join(loaded) or none])
    header = ["whole process", "median s", "range s", "promised s", "frameworks loaded"]
    packages = [name for name in ("timm", "keras") if f"import {name}" in run]
    text = (
        f"## Start-up\n`python benchmarks/startup.py --rounds {options.rounds} --record`: "
        f"{options.rounds} interleaved rounds after one to warm up.\n"
        f"{machine_line(*packages)}\n{catalogue_line()}\n\n{table(header, rows)}"
    )
    print(text)
    if options.record:
        record("startup", text)
    return int(missed and options.check)


if __name__ == "__main__":
    sys.exit(main())
