"""Activation bytes from the graph beside the memory that ONNX Runtime takes for one run, on graphs that others made.

The files are onnx's own test models (onnx/backend/test/data/light): real architectures, whose weights are filled in
here, so that they are there before the run. ONNX Runtime executes each graph as the file has it (no fusion, no arena,
one thread), in a process of its own: the high-water mark of the first run less the resident size before it, from /proc,
the input added. glibc is told to give every larger block back, else what loading freed would hide what the run takes.

    python benchmarks/meter_activations.py [--record]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from common import machine_line, record, table

CHILD = """
import re, sys, numpy as np, onnxruntime as ort
def status(field):
    return int(re.search(field + r":\\s+(\\d+) kB", open("/proc/self/status").read())[1]) * 1024
options = ort.SessionOptions()
options.intra_op_num_threads = 1
options.log_severity_level = 4
options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
options.enable_cpu_mem_arena = options.enable_mem_pattern = False
session = ort.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
value = session.get_inputs()[0]
feed = {value.name: np.zeros(value.shape, np.float32)}
open("/proc/self/clear_refs", "w").write("5")
before = status("VmRSS")
session.run(None, feed)
print(status("VmHWM") - before + feed[value.name].nbytes)
"""


def measured(path: Path) -> int:
    """Bytes that the first run added, the input's included."""
    env = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "16384", "MALLOC_TRIM_THRESHOLD_": "16384"}
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(path)], capture_output=True, text=True, check=True, env=env
    )
    return int(done.stdout)


def filled(path: Path, into: Path) -> Path:
    """The same graph with its weights held as tensors."""
    import onnx

    model = onnx.load(str(path))
    held = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    kept = []
    for node in model.graph.node:
        if node.op_type == "ConstantOfShape" and node.input[0] in held:
            value = onnx.numpy_helper.to_array(node.attribute[0].t)
            array = np.full(held[node.input[0]].tolist(), value.item(), value.dtype)
            model.graph.initializer.append(onnx.numpy_helper.from_array(array, node.output[0]))
        else:
            kept.append(node)
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in kept]
    del model.graph.node[:]
    model.graph.node.extend(copies)
    model.ir_version = max(4, model.ir_version)  # older files list every tensor among the inputs
    onnx.save(model, str(into / path.name))
    return into / path.name


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--record", action="store_true", help="write the section into RESULTS.md")
    given = parser.parse_args()
    import onnx.backend.test

    from zoo.cost.facts import describe

    rows = []
    for path in sorted((Path(onnx.backend.test.__file__).parent / "data" / "light").glob("*.onnx")):
        with tempfile.TemporaryDirectory(prefix="zoo-activations-") as folder:
            file = filled(path, Path(folder))
            live, taken = describe(str(file), 128)["activation_bytes"]["1"], measured(file)
        rows.append([path.stem, f"{live / 1e6:.1f}", f"{taken / 1e6:.1f}", f"{taken / live:.2f}"])
        print(rows[-1], file=sys.stderr, flush=True)
    header = ["model", "from the graph, MB", "taken by the run, MB", "ratio"]
    text = (
        "## Activations\n\n`python benchmarks/meter_activations.py`: activations that live at once, batch 1.\n\n"
        f"{table(header, rows)}\n\n{machine_line('onnx', 'onnxruntime')}"
    )
    print(text)
    if given.record:
        record("meter-activations", text)


if __name__ == "__main__":
    main()
