"""Writing Keras networks as ONNX: the walker alone and as `zoo export` runs it, tf2onnx, and keras.Model.export.

"walker and check" is the first rung of the ladder whole: the walk, then the file run beside Keras.

Each export runs in a process of its own, as a user's would, with the model built beforehand; the contenders
take turns. Then ONNX Runtime runs all the files of one network in turn in one process, thread spinning off
(spinning threads of one session take the cores from the next). Files whose outputs differ are not compared.

    python benchmarks/export.py [--models InceptionV3 ...] [--rounds 3] [--record] [--check]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from common import Times, interleave, machine_line, ratio, record, table

WANTED = {"InceptionV3": 3.0, "NASNetMobile": 2.0, "MobileNetV2": 0.6}
"""Seconds promised for the walker."""
CONTENDERS = ("walker", "walker and check", "tf2onnx", "keras.Model.export")
BATCH, RUNS = 4, 20
SAME_SPEED = 1.1  # of the fastest other file: what counts as the same within the noise

CHILD = """
import os, sys, time
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
contender, name, path = sys.argv[1:4]
from pathlib import Path
import numpy as np
from zoo.cards import ImagePreprocess
from zoo_tf import export, tracing, walker
from zoo_tf.network import IMAGES, Network, seeded
from zoo_tf.start import keras
with seeded(0):
    model = getattr(keras.applications, name)(weights=None, classifier_activation=None)
side = model.inputs[0].shape[1] or 224
network = Network(model, IMAGES, {}, ImagePreprocess(side, side), None)
model(np.zeros((1, side, side, 3), np.float32))  # keras.Model.export refuses a model that was never called
started = time.perf_counter()
if contender == "walker":
    walker.export(model, Path(path), opset=18, inputs=["images"], outputs=["logits"])
elif contender == "walker and check":
    assert export.export_onnx(network, Path(path), opset=18) == "walker"
elif contender == "tf2onnx":
    import onnx
    found = tracing.trace(
        model, network, opset=18, outputs=["logits"], grappler=False, passes=tracing.LAYOUT_PASSES
    )
    onnx.save(found, path)
else:
    model.export(path, format="onnx", verbose=False)
print("seconds", time.perf_counter() - started)
"""


def exporting(contender: str, name: str, path: Path) -> Callable[[], float]:
    """One export in a fresh process; its seconds, without imports and the building of the model."""

    def seconds() -> float:
        command = [sys.executable, "-c", CHILD, contender, name, str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        lines = [line for line in done.stdout.splitlines() if line.startswith("seconds ")]
        if done.returncode or not lines or not path.exists():
            raise SystemExit(f"{contender} of {name} failed:\n{done.stderr[-2000:]}")
        return float(lines[-1].split()[1])

    return seconds


def running(files: dict[str, Path], *, rounds: int) -> dict[str, Times]:
    """Milliseconds a batch in ONNX Runtime, the median of RUNS in each round."""
    sessions = {name: _session(path) for name, path in files.items()}
    batches = {name: _batch(session) for name, session in sessions.items()}
    answers = [session.run(None, batches[name])[0] for name, session in sessions.items()]
    for answer in answers[1:]:
        scale = np.abs(answers[0]).max()
        if not np.abs(answer - answers[0]).max() <= 1e-3 * scale:
            raise SystemExit("the files compute different things: nothing to compare")

    def timed(name: str) -> Callable[[], float]:
        def median() -> float:
            taken = []
            for _ in range(RUNS):
                started = time.perf_counter()
                sessions[name].run(None, batches[name])
                taken.append((time.perf_counter() - started) * 1e3)
            return float(np.median(taken))

        return median

    return interleave({name: timed(name) for name in files}, rounds=rounds)


def _session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = os.cpu_count() or 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _batch(session: onnxruntime.InferenceSession) -> dict[str, np.ndarray]:
    """The same photographs-like numbers in the layout that the file takes."""
    (given,) = session.get_inputs()
    first, last = given.shape[1], given.shape[3]
    side = int(given.shape[2])
    x = np.random.default_rng(0).normal(size=(BATCH, 3, side, side)).astype(np.float32)
    return {given.name: x if first == 3 and last != 3 else np.ascontiguousarray(x.transpose(0, 2, 3, 1))}


def measure(name: str, contenders: Sequence[str], *, rounds: int) -> tuple[list[list[object]], bool]:
    """Rows of the table for one network, and whether it keeps what was promised."""
    with tempfile.TemporaryDirectory() as folder:
        files = {c: Path(folder) / f"{i}.onnx" for i, c in enumerate(contenders)}
        times = interleave({c: exporting(c, name, path) for c, path in files.items()}, rounds=rounds)
        speed = running(files, rounds=max(3, rounds))
        turned = {c: _transposes(path) for c, path in files.items()}
    rows: list[list[object]] = []
    for contender in contenders:
        seconds = times[contender]
        relative, span = ratio(speed[contender], speed["walker"])
        rows.append(
            [
                f"{name}, {contender}",
                f"{seconds.median:.2f}",
                seconds.spread,
                turned[contender],
                f"{speed[contender].median:.1f}",
                f"{relative:.2f} ({span})",
            ]
        )
    others = [_no_slower(speed["walker"], speed[c]) for c in contenders if not c.startswith("walker")]
    kept = times["walker"].median <= WANTED.get(name, float("inf")) and all(others)
    return rows, kept


def _no_slower(ours: Times, theirs: Times) -> bool:
    """Within the noise: by the median of the rounds' ratios, or because it was the faster one in some round."""
    fastest = min(a / b for a, b in zip(ours.seconds, theirs.seconds, strict=True))
    return ratio(ours, theirs)[0] <= SAME_SPEED or fastest <= 1


def _transposes(path: Path) -> int:
    return sum(node.op_type == "Transpose" for node in onnx.load(path, load_external_data=False).graph.node)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--models", nargs="+", default=list(WANTED), metavar="NAME", help="of keras.applications"
    )
    parser.add_argument("--contenders", nargs="+", default=list(CONTENDERS), choices=CONTENDERS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--record", action="store_true", help="write the section of RESULTS.md")
    parser.add_argument("--check", action="store_true", help="exit 1 where a promise is not kept")
    options = parser.parse_args()
    contenders = ["walker", *(c for c in options.contenders if c != "walker")]
    rows, missed = [], []
    for name in options.models:
        found, kept = measure(name, contenders, rounds=options.rounds)
        rows += found
        missed += [] if kept else [name]
    promises = ", ".join(f"{name} {seconds} s" for name, seconds in WANTED.items())
    text = (
        f"## Export from Keras\n`python benchmarks/export.py --rounds {options.rounds} --record`: "
        f"{options.rounds} interleaved rounds, "
        f"each export in a process of its own, the model built beforehand; ONNX Runtime on batches of {BATCH} at "
        f"the network's own size, all files of a network in turn, thread spinning off. Promised: {promises}, and "
        f"no slower in ONNX Runtime than {SAME_SPEED} of the others' files"
        f"{f' (MISSED: {json.dumps(missed)})' if missed else ''}.\n"
        f"{machine_line('tensorflow', 'keras', 'tf2onnx', 'onnx', 'onnxruntime')}\n\n"
        + table(
            ["network, exporter", "export s", "range", "Transposes", "run ms", "run / walker's file (range)"],
            rows,
        )
    )
    print(text)
    if options.record:
        record("export", text)
    return int(bool(missed) and options.check)


if __name__ == "__main__":
    sys.exit(main())
