"""Exporting the thirteen systems: ours, whole and checked, beside each framework's own default exporter.

ours: `zoo export` from a loaded model, with an empty cache: exporter, the project's form, ONNX Runtime's and
onnx.checker's verdict, metadata. parity: the part of it that runs the framework and the file beside each other.
default: torch.onnx.export as it comes (dynamo) for PyTorch and Hugging Face, keras.Model.export(format="onnx") for
TensorFlow, on the native module, without any check. torchscript, dynamo: each exporter as our ladder calls it (batch
and length dynamic), without its check: the rule is to try the faster one first, if its file runs no slower, and the
other where ONNX Runtime does not get the module's outputs from the file.

Each export is a process of its own, the model built beforehand, contenders in turn, nothing warmed up: nobody exports
twice in a process. run: the file at batch 1 in ONNX Runtime, median of 15, files in turn, spinning off.

Then `zoo bench`'s own step from names to files, for all systems, three times in fresh processes: cold, again, and
again with a package more installed. How many exporters ran and how many frameworks were started is counted.

    python benchmarks/meter_export.py [--systems torch:resnet50 ...] [--rounds 1] [--threads N] [--record] [--check]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import onnxruntime
from common import THREAD_SETTINGS, machine_line, record, table
from systems import RANDOM

PACKAGES = ("torch", "transformers", "tensorflow", "keras", "tf2onnx", "onnx", "onnxscript", "onnxruntime")
DIFFER: list[str] = []
"""Systems whose exports in different processes were not the same bytes."""
LIMIT_S, RUNS, TOKENS = 900, 15, 32


# --- in a process of its own
def child(contender: str, system: str, path: Path) -> dict[str, Any]:
    """One export; seconds without importing and building."""
    from zoo import backbone

    model = backbone.get(f"{system}@none")
    if contender == "ours":
        return ours(model, path)
    write = torch_export if not system.startswith("tf:") else keras_export
    call = write(model, path, contender)
    started = time.perf_counter()
    call()
    return {"seconds": time.perf_counter() - started, "parity": 0.0, "exporter": contender}


def ours(model: Any, path: Path) -> dict[str, Any]:
    """`Backbone.export`, with the seconds inside the comparisons with the framework taken apart."""
    from zoo.graph import export as graph_export

    places = [(graph_export, "check_engine")]
    if model.id.framework == "tf":
        from zoo_tf import export as keras_ladder

        places.append((keras_ladder, "check"))
    else:
        from zoo_torch import export as torch_ladder

        places.append((torch_ladder, "_probe"))
    spent = [0.0]

    def timed(function: Any) -> Any:
        def run(*args: Any, **options: Any) -> Any:
            started = time.perf_counter()
            try:
                return function(*args, **options)
            finally:
                spent[0] += time.perf_counter() - started

        return run

    for module, name in places:
        setattr(module, name, timed(getattr(module, name)))
    started = time.perf_counter()
    found = model.export(path)
    seconds = time.perf_counter() - started
    same = hashlib.sha256(path.read_bytes()).hexdigest()
    exporter = found.provenance["exporter"]
    return {"seconds": seconds, "parity": spent[0], "exporter": exporter, "sha256": same}


def torch_export(model: Any, path: Path, contender: str) -> Any:
    """torch's exporter on the native module as it comes; or one rung of our ladder, without its check."""
    import torch

    engine, module = model.engine, model.module.eval()
    if contender != "default":
        return rung(engine, path, contender)
    if engine.inputs == ("images",):
        example = torch.zeros(1, 3, model.preprocess.height, model.preprocess.width)
        return lambda: torch.onnx.export(module, (example,), str(path))
    texts = {name: torch.ones(1, TOKENS, dtype=torch.int64) for name in engine.inputs}
    return lambda: torch.onnx.export(module, (), str(path), kwargs=texts)


def rung(engine: Any, path: Path, name: str) -> Any:
    """The exporter `name` as our ladder calls it: dynamic batch and length, operators that ONNX has."""
    import torch

    from zoo.graph import OPSET
    from zoo_torch import export as ladder

    graph = ladder.Graph(engine.module, engine._outputs(()), engine.inputs)
    example = ladder.example_inputs(engine.inputs, engine.preprocess, batch=2, length=8)
    outputs = ["features", "logits"][
        : len(engine._outputs(())(dict(zip(engine.inputs, example, strict=True))))
    ]

    def write() -> None:
        with torch.no_grad(), ladder._quiet(), ladder.plain_operators(graph.module):
            ladder.RUNGS[name](graph, example, path, outputs, OPSET)

    return write


def keras_export(model: Any, path: Path, contender: str) -> Any:
    """Keras's own exporter; it refuses a model that was never called."""
    module = model.module
    module(
        [
            np.zeros([2, *t.shape[1:-1], t.shape[-1]] if len(t.shape) > 2 else [2, TOKENS], t.dtype)
            for t in module.inputs
        ]
    )
    return lambda: module.export(str(path), format="onnx", verbose=False)


def bench_files(systems: Sequence[str]) -> dict[str, Any]:
    """From names to files as `zoo bench` does, counting."""
    from zoo.choose import bench
    from zoo.executor import local

    workers: list[str] = []
    made: list[bool] = []

    class Counted(local.Worker):
        def __init__(self, name: str, **options: Any) -> None:
            workers.append(name)
            super().__init__(name, **options)

        def call(self, *args: Any, **options: Any) -> Any:
            found = super().call(*args, **options)
            made.append(bool(found["made"]))
            return found

    local.Worker = Counted  # type: ignore[misc]
    with tempfile.TemporaryDirectory() as work:
        started = time.perf_counter()
        found = bench.files([f"{s}@none" for s in systems], Path(work), say=lambda _: None)
        seconds = time.perf_counter() - started
        failed = [f"{name}: {path}" for name, path in found if not isinstance(path, Path)]
    return {"seconds": seconds, "workers": len(workers), "exports": sum(made), "failed": failed}


# --- the parent
def in_process(arguments: Sequence[str], threads: int, environment: Mapping[str, str]) -> dict[str, Any]:
    """The last line that the child printed, or {"failed": the last line of its complaint}."""
    env = {**os.environ, **dict.fromkeys(THREAD_SETTINGS, str(threads)), **environment}
    command = [sys.executable, __file__, "--child", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=env, timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        return {"failed": f"not done in {LIMIT_S} s"}
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not lines:
        said = [line for line in done.stderr.splitlines() if line.strip()] or ["no word"]
        return {"failed": next((s for s in said[::-1] if "Error" in s), said[-1])[:160]}
    found: dict[str, Any] = json.loads(lines[-1])
    return found


def contenders(system: str) -> list[str]:
    """Ours first, the framework's default, and of PyTorch's exporters both as our ladder calls them."""
    return ["ours", "default"] if system.startswith("tf:") else ["ours", "default", "torchscript", "dynamo"]


def runs(files: Mapping[str, Path]) -> dict[str, float | None]:
    """Milliseconds at batch 1; None for a file that ONNX Runtime does not run."""
    sessions, taken = {}, {}
    for name, path in files.items():
        try:
            sessions[name] = session = opened(path)
            feed = {given.name: example(given) for given in session.get_inputs()}
            session.run(None, feed)
            taken[name] = (session, feed, [])
        except Exception:
            continue
    for _ in range(RUNS):
        for session, feed, seconds in taken.values():
            started = time.perf_counter()
            session.run(None, feed)
            seconds.append(time.perf_counter() - started)
    return {name: median(taken[name][2]) * 1e3 if name in taken else None for name in files}


def opened(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = os.cpu_count() or 1, 4
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def example(given: Any) -> Any:
    """One input; a text of TOKENS tokens."""
    shape = [
        side if isinstance(side, int) else (1 if i == 0 else TOKENS) for i, side in enumerate(given.shape)
    ]
    if "float" in given.type:
        return np.random.default_rng(0).normal(size=shape).astype(np.float32)
    return np.ones(shape, np.int32 if "int32" in given.type else np.int64)


def measure(system: str, rounds: int, threads: int) -> list[list[object]]:
    """A row a contender: seconds, of these parity, the file's run, and how it stands to ours."""
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in contenders(system)}
    with tempfile.TemporaryDirectory() as work:
        for number in range(rounds):
            for name in found:
                path = Path(work) / name / "model.onnx"
                path.parent.mkdir(exist_ok=True)
                cache = {"ZOO_CACHE": str(Path(work) / f"cache{number}")}
                found[name].append(in_process([name, system, str(path)], threads, cache))
                print(f"{system} {name} {found[name][-1]}", flush=True)
        good = {n: Path(work) / n / "model.onnx" for n, f in found.items() if "seconds" in f[-1]}
        speed = runs(good)
    if len({answer.get("sha256") for answer in found["ours"]}) > 1:
        print(f"{system}: two exports differ in their bytes", flush=True)
        DIFFER.append(system)
    return [row(system, name, answers, found["ours"], speed) for name, answers in found.items()]


def row(
    system: str,
    name: str,
    answers: Sequence[Mapping[str, Any]],
    ours: Sequence[Mapping[str, Any]],
    speed: Mapping[str, float | None],
) -> list[object]:
    """The cells of one contender."""
    if any("failed" in answer for answer in answers):
        return [
            f"{system}, {name}",
            f"fails: {next(a['failed'] for a in answers if 'failed' in a)}",
            *[""] * 5,
        ]
    seconds = [float(answer["seconds"]) for answer in answers]
    parity = median(float(answer["parity"]) for answer in answers)
    exporter = f", by {answers[0]['exporter']}" if name == "ours" else ""
    span = f"{min(seconds):.1f}-{max(seconds):.1f}"
    run = speed.get(name)
    against = [a["seconds"] / o["seconds"] for a, o in zip(answers, ours, strict=True) if "seconds" in o]
    return [
        f"{system}, {name}{exporter}", f"{median(seconds):.2f}", span,
        f"{parity:.2f}" if name == "ours" else "none", f"{median(seconds) - parity:.2f}",
        f"{median(against):.2f}" if against else "", "does not run" if run is None else f"{run:.1f}",
    ]  # fmt: skip


def again(systems: Sequence[str], threads: int) -> list[list[object]]:
    """`zoo bench`'s exports: cold, again, and with one more package."""
    rows: list[list[object]] = []
    with tempfile.TemporaryDirectory() as work:
        site = Path(work) / "site"
        (site / "somebodys-1.0.dist-info").mkdir(parents=True)
        paths = os.environ.get("PYTHONPATH", "")
        for case, extra in (("cold", ""), ("again", ""), ("again, one more package installed", str(site))):
            env = {"ZOO_CACHE": str(Path(work) / "cache"), "PYTHONPATH": f"{paths}:{extra}".strip(":")}
            found = in_process(["bench", *systems], threads, env)
            print(case, found, flush=True)
            failed = found.get("failed") or ""
            rows.append([case, found.get("exports", ""), found.get("workers", ""),
                         f"{found.get('seconds', float('nan')):.1f}", failed])  # fmt: skip
    return rows


def report(
    rows: Sequence[Sequence[object]], counted: Sequence[Sequence[object]], given: argparse.Namespace
) -> str:
    """The section of RESULTS.md."""
    head = [
        "system, exporter",
        "export s",
        "range",
        "of which parity",
        "without parity",
        "times ours",
        "run ms",
    ]
    return (
        f"## Exports\n`python benchmarks/meter_export.py --rounds {given.rounds} --record`: each in a process of its "
        f"own, {given.threads} threads, in turn, {given.rounds} round(s); random weights. Ours is checked by "
        "onnx.checker, ONNX Runtime and against the framework; the others' files are not. Bytes that differ between "
        f"two rounds of ours: {', '.join(DIFFER) or 'none' if given.rounds > 1 else 'not tried in one round'}.\n"
        f"{machine_line(*PACKAGES)}\n\n{table(head, rows)}\n\nFrom {len(given.systems)} names to files, as `zoo bench` "
        f"does it, in fresh processes:\n\n"
        + table(["run", "exporters run", "frameworks started", "seconds", "failed"], counted)
    )


def main() -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--systems", nargs="+", default=RANDOM, metavar="ID")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--only", choices=("times", "again"), help="one half of it")
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    parser.add_argument("--record", action="store_true", help="write the section of RESULTS.md")
    parser.add_argument("--check", action="store_true", help="exit 1 where a second run exports something")
    given = parser.parse_args()
    if given.child:
        task, *rest = given.child
        print(json.dumps(bench_files(rest) if task == "bench" else child(task, rest[0], Path(rest[1]))))
        return 0
    rows = (
        []
        if given.only == "again"
        else [r for s in given.systems for r in measure(s, given.rounds, given.threads)]
    )
    counted = [] if given.only == "times" else again(given.systems, given.threads)
    text = report(rows, counted, given)
    print(text)
    if given.record:
        record("meter-export", text)
    wrong = any(r[1] != 0 for r in counted[1:]) or any(r[2] != 0 for r in counted[1:2])
    return int(wrong and given.check)


if __name__ == "__main__":
    sys.exit(main())
