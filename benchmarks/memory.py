"""A folder of 100,000 photographs against one of 1,000: memory and seconds until the first batches are there.

    python benchmarks/memory.py [--record]

Each size runs in a process of its own: open the folder (every header is read), fingerprint it (every content,
once), then prepare and run the first 320 photographs through a real network's graph as a frozen epoch does.
The photographs are 64 made ones, 20 KB or so each, linked into 100 class folders: links share a content, so
reading them comes from memory, and seconds are the least that such a folder takes. Peak memory is the process's
own high-water mark, less nothing. The promise: at most 200 MB more.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from common import machine_line, make_photos, record, table

LARGE, SMALL, CLASSES, PHOTOS = 100_000, 1_000, 100, 64
PROMISED_MB = 200
FIRST = 320
WORK = """
import itertools, json, resource, sys, time
from pathlib import Path
import numpy as np
from zoo.data import open_data
from zoo.graph import OnnxModel
graph, folder, first = sys.argv[1], sys.argv[2], int(sys.argv[3])
def mark(): return time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
model = OnnxModel(graph)
model.session
steps = [mark()]
data = open_data(folder); steps.append(mark())
data.fingerprint(); steps.append(mark())
data.fingerprint(); steps.append(mark())
chunks = list(itertools.islice(model.feature_chunks(data.inputs, size=32), first // 32)); steps.append(mark())
assert len(np.concatenate(chunks)) == first
print(json.dumps({"n": len(data), "seconds": [b[0] - a[0] for a, b in zip(steps, steps[1:])],
                  "peak_mb": [m for _, m in steps]}))
"""
GRAPH = """
import sys
import zoo
zoo.get("torch:mobilenet_v2@none", num_classes=100, size=96).export(sys.argv[1])
"""


def linked(folder: Path, photos: list[Path], count: int) -> Path:
    """`count` names in 100 class folders, links to the same few files."""
    for name in range(CLASSES):
        (folder / f"class{name:03}").mkdir(parents=True)
    for index, photo in zip(range(count), itertools.cycle(photos), strict=False):
        (folder / f"class{index % CLASSES:03}" / f"{index:06}.jpg").hardlink_to(photo)
    return folder


def measured(graph: Path, folder: Path, cache: Path) -> dict[str, list[float]]:
    """Seconds and peak megabytes of each step, in a process of its own with an empty cache."""
    done = subprocess.run(
        [sys.executable, "-c", WORK, str(graph), str(folder), str(FIRST)],
        env={**os.environ, "ZOO_CACHE": str(cache)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    found: dict[str, list[float]] = json.loads(done.stdout.splitlines()[-1])
    return found


def report(small: dict[str, list[float]], large: dict[str, list[float]]) -> str:
    """The table, and whether the promise holds."""
    steps = (
        f"open (headers of all {LARGE:,})",
        "fingerprint, first",
        "fingerprint, again",
        f"first {FIRST} features",
    )
    rows = [
        (
            step, f"{small['seconds'][i]:.2f}", f"{large['seconds'][i]:.2f}",
            f"{small['peak_mb'][i + 1]:.0f}", f"{large['peak_mb'][i + 1]:.0f}",
        )
        for i, step in enumerate(steps)
    ]  # fmt: skip
    header = ("after", f"{SMALL:,}: s", f"{LARGE:,}: s", f"{SMALL:,}: peak MB", f"{LARGE:,}: peak MB")
    more = large["peak_mb"][-1] - small["peak_mb"][-1]
    verdict = "holds" if more <= PROMISED_MB else "does NOT hold"
    return (
        f"{table(header, rows)}\n\n{LARGE:,} photographs take {more:.0f} MB more than {SMALL:,}; "
        f"promised: at most {PROMISED_MB}. It {verdict}."
    )


def main() -> None:
    """Make the folders, measure both, print (and keep) the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--record", action="store_true", help="write the table into RESULTS.md")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="zoo-memory-") as name:
        work = Path(name)
        photos = sorted(
            make_photos(work / "made", classes=8, each=PHOTOS // 8, sides=(160, 320)).rglob("*.jpg")
        )
        folders = [linked(work / str(count), photos, count) for count in (SMALL, LARGE)]
        graph = work / "model.onnx"
        subprocess.run([sys.executable, "-c", GRAPH, str(graph)], check=True)
        small, large = (measured(graph, folder, work / f"cache{i}") for i, folder in enumerate(folders))
    text = report(small, large)
    print(text)
    if asked.record:
        intro = "## Memory of a large folder\n\n`python benchmarks/memory.py --record`. "
        record("memory", f"{intro}{machine_line('onnxruntime', 'pillow')}\n\n{text}")


if __name__ == "__main__":
    main()
