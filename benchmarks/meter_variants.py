"""fp16 and int8 variants of real networks: size, latency, and accuracy beside float32 on the same examples.

Image networks on hymenoptera (head fitted on its train photographs, judged on its val), MiniLM on sst2 (head fitted on
2000 training sentences, judged on test). Ranges of int8-static come from 128 training examples. Latency: our meter,
batch 1, all files in interleaved rounds. A variant that loses more than a point names the layers that cost it, and
what keeping them in float brings.

    python benchmarks/meter_variants.py [--only NAME] [--threads N] [--record]

Real weights and data are in ../shared; without that folder there is nothing to measure.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from common import machine_line, record, table

SHARED = Path(__file__).resolve().parent.parent.parent / "shared"
WEIGHTS, DATA = SHARED / "weights", SHARED / "data"
MODELS = {
    "MobileNet 0.25 (Keras)": "tf:mobilenet_v1_0.25_224",
    "MobileNet 0.75 (Keras)": "tf:mobilenet_v1_0.75_224",
    "MobileNet 0.75 (HF)": f"hf:{WEIGHTS}/hf/mobilenet_v1_0.75_224",
    "SqueezeNet 1.0": f"torch:squeezenet1_0@{WEIGHTS}/torch/squeezenet1_0-converted-from-deepcompression.pth",
    "SqueezeNet 1.1": f"torch:squeezenet1_1@{WEIGHTS}/torch/squeezenet1_1-converted-from-caffe-fp16.pth",
    "MiniLM": "hf:all-minilm-l6-v2",
}
TEXT = "MiniLM"
SENTENCES, LARGEST, WITHIN = 2000, 0.30, 0.01


def parts(text: bool) -> tuple[Any, Any]:
    """What heads are fitted and ranges found on, and what is judged on."""
    from zoo.data import open_data

    if not text:
        train = open_data(DATA / "hymenoptera" / "train", on_error="skip")
        return train, open_data(DATA / "hymenoptera" / "val", classes=train.classes)
    train = open_data(DATA / "sst2" / "train.tsv")
    test = open_data(DATA / "sst2" / "test.tsv", classes=train.classes)
    return train.subset(np.sort(np.random.default_rng(0).permutation(len(train))[:SENTENCES])), test


def prepare(name: str, folder: Path) -> None:
    """folder/fp32.onnx: the exported network with a head on it."""
    import zoo
    from zoo.choose.evidence import fit_linear_head

    train, _ = parts(name == TEXT)
    raw = zoo.get(MODELS[name]).export(folder / "raw.onnx")
    weight, bias = fit_linear_head(raw.features(train.inputs), train.targets, len(train.classes), seed=0)
    raw.with_head(weight, bias, labels=train.classes, path=folder / "fp32.onnx")


def in_process(name: str, folder: Path) -> None:
    """`prepare`, in a process of its own: one framework each."""
    environment = {**os.environ, "ZOO_MIRROR": str(WEIGHTS / "keras")}
    command = [sys.executable, __file__, "--worker", "--only", name, "--folder", str(folder)]
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def variants(text: bool) -> list[tuple[str, Any]]:
    """(what it is called, settings); ranges are found where the precision asks for them."""
    from zoo.graph import Settings

    second = Settings("int8-dynamic") if text else Settings("int8-static", uint8_input=True)
    called = "int8-dynamic" if text else "int8-static, uint8 input"
    return [("fp16", Settings("fp16")), ("int8-static", Settings("int8-static")), (called, second)]


def measure(name: str, folder: Path, threads: int) -> dict[str, dict[str, Any]]:
    """By variant, float32 first: its report and its cost."""
    from zoo.cost import measure as meter
    from zoo.graph import OnnxModel, explain_loss, judge_variant
    from zoo.graph.calibrating import calibration_set
    from zoo.graph.precision import write_variant

    text = name == TEXT
    train, judged = parts(text)
    parent = OnnxModel(folder / "fp32.onnx", threads=threads)
    found: dict[str, dict[str, Any]] = {"fp32": {"report": judge_variant(parent, parent, judged)}}
    for called, settings in variants(text):
        static = settings.precision == "int8-static"
        ranges = calibration_set(train, "text" if text else "image") if static else None
        path = folder / f"{called.replace(', ', '-').replace(' ', '-')}.onnx"
        write_variant(parent.path, settings, path, ranges)
        report = judge_variant(parent, OnnxModel(path, threads=threads), judged)
        # MiniLM's static form is here to show that it is the wrong one; its layers would take minutes.
        if not (text and static):
            report = explain_loss(report, parent, settings, judged, ranges)
        found[called] = {"report": report, "path": path}
        print(f"{name}, {called}: {report.accuracy:.3f}, float32 {report.parent_accuracy:.3f}", flush=True)
    files = [(called, row.get("path", parent.path)) for called, row in found.items()]
    for cost in meter(files, threads=threads):
        found[cost.id]["cost"] = cost
    return found


def row(name: str, called: str, found: dict[str, Any]) -> list[object]:
    """One line of the table."""
    report, cost = found["report"], found["cost"]
    latency = "failed" if cost.error else f"{cost.latency_p50_ms:.2f}"
    size = [f"{report.file_bytes / 1e6:.2f}", f"{report.size_ratio:.3f}"]
    if called == "fp32":
        return [name, called, *size, latency, f"{report.accuracy:.3f}", "", "", ""]
    gap = f"{100 * report.gap:+.1f} ({100 * report.gap_low:+.1f} to {100 * report.gap_high:+.1f})"
    return [
        name,
        called,
        *size,
        latency,
        f"{report.accuracy:.3f}",
        gap,
        f"{report.agreement:.3f}",
        cure(report),
    ]


def cure(report: Any) -> str:
    """The costliest layer and what keeping layers in float brings, where a point was lost."""
    if not report.layers:
        return ""
    first = ", ".join(report.layers[0].layers)
    if report.kept_accuracy is None:
        return f"{first}; keeping four does not help"
    kept = f"{len(report.keep)} layers kept: {report.kept_accuracy:.3f}, {report.kept_bytes / report.parent_bytes:.3f}"
    return f"{first}; {kept}"


def verdict(found: dict[str, dict[str, dict[str, Any]]]) -> str:
    """What of the figures aimed at is reached, and what is not."""
    short = []
    for name, rows in found.items():
        recommended = "int8-dynamic" if name == TEXT else "int8-static"
        report = rows[recommended]["report"]
        if report.size_ratio > LARGEST:
            short.append(f"{name}'s int8 file is {report.size_ratio:.3f} of its float32 one")
        if report.gap < -WITHIN - 1e-9:
            short.append(f"{name}'s {recommended} loses {-100 * report.gap:.1f} points ({cure(report)})")
    aims = f"Aimed at: int8 at most {LARGEST} of fp32, and within {100 * WITHIN:.0f} point of it or its layer named."
    return f"{aims} Falls short: {'; '.join(short) or 'nothing'}."


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--only", choices=MODELS)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--record", action="store_true", help="write the section into RESULTS.md")
    given = parser.parse_args()
    if given.worker:
        prepare(given.only, given.folder)
        return 0
    if not SHARED.is_dir():
        print(f"no real weights and data here: {SHARED} is missing", file=sys.stderr)
        return 1
    found = {}
    for name in [given.only] if given.only else list(MODELS):
        with tempfile.TemporaryDirectory() as scratch:
            in_process(name, Path(scratch))
            found[name] = measure(name, Path(scratch), given.threads)
    header = ["model", "variant", "MB", "of fp32", "p50 ms", "accuracy", "points (paired 95 %)", "same class",
              "costliest layer"]  # fmt: skip
    rows = [row(name, called, values) for name, all_ in found.items() for called, values in all_.items()]
    text = (
        "## Variants: fp16, int8, uint8 input\n\n`python benchmarks/meter_variants.py`: accuracy of image networks on "
        f"hymenoptera's 153 val photographs, of MiniLM on sst2's 1821 test sentences; batch 1, {given.threads} "
        f"threads. {verdict(found)}\n\n{table(header, rows)}\n\n{machine_line('onnx', 'onnxruntime')}"
    )
    print(text if given.record else f"{text}\n\nNot for the record: other work may have run beside this.")
    if given.record:
        record("meter_variants", text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
