"""What measuring on a device takes: the core install in a fresh environment, what it pulls in, and that it works.

A new virtual environment, `pip install` of this checkout without any extra (a wheel is built first), the packages that
came with it and their sizes on disk, the seconds from nothing, and then, with nothing but that: `zoo bench` of a small
ONNX file to JSON, which must hold a latency, and no torch, tensorflow or scikit-learn to be found.

    python benchmarks/meter_install.py [--record]
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

from common import machine_line, record, table

from zoo.cost.reference import write_reference

ROOT = Path(__file__).resolve().parent.parent
ABSENT = ("torch", "tensorflow", "keras", "transformers", "sklearn", "pandas", "plotly")
LIST = """
import importlib.metadata as m, json
found = {}
for d in m.distributions():
    files = [d.locate_file(f) for f in d.files or ()]
    found[d.name] = (d.version, sum(f.stat().st_size for f in files if f.is_file()))
print(json.dumps(found))
"""
SHARE_SHOWN = 0.005  # of the whole; smaller packages are summed up in a line


def call(*command: str | Path) -> str:
    """What a command prints; it must end well. This checkout is not to be found by it: the wheel is what is tried."""
    bare = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [*map(str, command)], capture_output=True, text=True, check=False, env=bare, cwd="/"
    )
    if done.returncode:
        raise SystemExit(f"{command[:4]}...: exit code {done.returncode}\n{done.stderr[-2000:]}")
    return done.stdout


def size_of(folder: Path) -> int:
    """Bytes of all files in it, links not followed."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def installed(scratch: Path) -> tuple[Path, float, int]:
    """A fresh environment with the core in it: its Python, the seconds that took, the bytes that it grew by."""
    wheels = scratch / "wheels"
    call(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", wheels, ROOT)
    (wheel,) = wheels.glob("backbone_zoo-*.whl")
    home = scratch / "venv"
    venv.create(home, with_pip=True)
    python = home / "bin" / "python"
    before = size_of(home)
    started = time.perf_counter()
    call(python, "-m", "pip", "install", "--quiet", "--no-cache-dir", "--disable-pip-version-check", wheel)
    return python, time.perf_counter() - started, size_of(home) - before


def works(python: Path, scratch: Path) -> dict[str, object]:
    """The first cost of `zoo bench model.onnx --json` in that environment. Raises SystemExit where it has none."""
    model = write_reference(scratch / "model.onnx")
    zoo = python.with_name("zoo")
    costs = json.loads(call(zoo, "bench", model, "--json", "--min-seconds", "0.3"))
    (cost,) = costs["costs"] if isinstance(costs, dict) else costs
    check = f"import importlib.util as u; print([n for n in {ABSENT!r} if u.find_spec(n)])"
    if (there := call(python, "-c", check).strip()) != "[]" or not cost["latency_p50_ms"]:
        raise SystemExit(f"not as it should be: installed {there}, p50 {cost['latency_p50_ms']}")
    return dict(cost)


def report(found: dict[str, tuple[str, int]], seconds: float, grown: int, cost: dict[str, object]) -> str:
    """The section of RESULTS.md."""
    rest = {name: value for name, value in found.items() if name.lower() not in ("pip", "setuptools")}
    whole = sum(size for _, size in rest.values())
    ordered = sorted(rest.items(), key=lambda item: -item[1][1])
    shown = [(name, version, size) for name, (version, size) in ordered if size >= SHARE_SHOWN * whole]
    small = [name for name, (_, size) in ordered if size < SHARE_SHOWN * whole]
    rows = [[name, version, f"{size / 1e6:.1f}"] for name, version, size in shown]
    left = sum(rest[name][1] for name in small)
    rows.append([f"{len(small)} smaller: {', '.join(sorted(small, key=str.lower))}", "", f"{left / 1e6:.1f}"])
    rows.append(["all, byte-compiled", "", f"{grown / 1e6:.1f}"])
    text = (
        f"## The core install: measuring where you deploy\n\n`python benchmarks/meter_install.py`: `pip install "
        f"backbone-zoo` in a fresh environment, without pip's cache: {len(rest)} packages, {grown / 1e6:.0f} MB on "
        f"disk, {seconds:.0f} s from this package index. None of {', '.join(ABSENT)} comes with it. There `zoo bench "
        f"model.onnx --json` then measured a p50 of {cost['latency_p50_ms']:.3g} ms."
    )
    return f"{text}\n\n{table(['package', 'version', 'MB'], rows)}\n\n{machine_line('pip')}"


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--record", action="store_true", help="write the section into RESULTS.md")
    given = parser.parse_args()
    if importlib.util.find_spec("pip") is None:
        raise SystemExit("this Python has no pip: use the one of the project's environment")
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        python, seconds, grown = installed(scratch)
        found = json.loads(call(python, "-c", LIST))
        cost = works(python, scratch)
    text = report(found, seconds, grown, cost)
    print(text)
    if given.record:
        record("meter install", text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
