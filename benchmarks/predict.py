"""Predicting a folder of photographs against a bare ONNX Runtime loop over the same images and session options.

The bare loop decodes a batch with the same code, runs it, decodes the next. Ours must reach 0.9 of its
throughput (it decodes ahead in threads, so it should be above). For scale: the session alone, on arrays
decoded beforehand.

    python benchmarks/predict.py [--model torch:resnet18@none | --onnx FILE] [--photos 256] [--record] [--check]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from common import interleave, machine_line, make_photos, ratio, record, table

import zoo
from zoo.data import open_inputs, prepare

BATCH = 32
TARGET = 0.9


def export(model: str, path: Path) -> Path:
    """In a process of its own: a framework's threads would share the cores with the measurement."""
    code = f"import zoo; zoo.get({model!r}).export({str(path)!r})"
    subprocess.run([sys.executable, "-c", code], check=True, stderr=subprocess.DEVNULL)
    return path


def contenders(model: zoo.OnnxModel, folder: Path) -> dict[str, Callable[[], float]]:
    """Each returns its seconds for the whole folder."""
    items = open_inputs(folder, kind="image")
    chunks = [items[i : i + BATCH] for i in range(0, len(items), BATCH)]
    decoded = [dict(prepare(chunk, model.preprocess)) for chunk in chunks]
    session = model.session

    def ours() -> None:
        model.predict(folder, batch_size=BATCH)

    def bare() -> None:
        for chunk in chunks:
            session.run(["logits"], dict(prepare(chunk, model.preprocess)))

    def alone() -> None:
        for batch in decoded:
            session.run(["logits"], batch)

    expected = np.concatenate([session.run(["logits"], batch)[0] for batch in decoded])
    powers = np.exp(expected - expected.max(1, keepdims=True))
    if not np.allclose(model.predict(folder, batch_size=BATCH), powers / powers.sum(1, keepdims=True)):
        raise SystemExit("predict gives other probabilities than the bare loop: nothing to compare")
    return {"zoo predict": timed(ours), "bare loop": timed(bare), "session alone": timed(alone)}


def timed(run: Callable[[], None]) -> Callable[[], float]:
    def seconds() -> float:
        started = time.perf_counter()
        run()
        return time.perf_counter() - started

    return seconds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", default="torch:resnet18@none")
    parser.add_argument("--onnx", type=Path, help="an exported file instead of --model")
    parser.add_argument("--photos", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--record", action="store_true", help="write the section of RESULTS.md")
    parser.add_argument("--check", action="store_true", help="exit 1 below the promised ratio")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = make_photos(Path(name) / "photos", classes=1, each=options.photos, sides=(240, 900))
        model = zoo.OnnxModel(options.onnx or export(options.model, Path(name) / "model.onnx"))
        times = interleave(contenders(model, folder), rounds=options.rounds)
    rows = []
    for contender, taken in times.items():
        relative, span = ratio(times["bare loop"], taken)
        rows.append([contender, f"{options.photos / taken.median:.1f}", f"{relative:.2f}", span])
    reached, _ = ratio(times["bare loop"], times["zoo predict"])
    text = (
        f"## Predict\n`python benchmarks/predict.py --record`: {options.photos} JPEGs of 240 to 900 pixels "
        f"a side, {model.id}, batch {BATCH}, {options.rounds} interleaved rounds. Promised: at least "
        f"{TARGET} of the bare loop{'' if reached >= TARGET else ' (MISSED)'}.\n"
        f"{machine_line('onnxruntime', 'pillow')}\n\n"
        + table(["contender", "images/s", "throughput / bare loop", "range over rounds"], rows)
    )
    print(text)
    if options.record:
        record("predict", text)
    return int(reached < TARGET and options.check)


if __name__ == "__main__":
    sys.exit(main())
