"""`make systems`: the thirteen systems at full size x twelve operations, each cell from a run in this command.

A cell is a figure; one that misses its promise is marked FAIL with the figure, and the command exits 1. Each
system runs in a worker process of its own. Weights are random (no hub is needed); the last rows, where
their weights are at hand, are real ones.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from system_cells import CELLS, EXPECTED

from zoo import registry
from zoo.cards import IMAGE_TASK
from zoo.errors import ZooError
from zoo.packaged import packaged
from zoo.process import Worker

HERE = Path(__file__).resolve().parent
TICKETS = HERE.parent / "examples" / "tickets.csv"
RANDOM = [
    "torch:resnet50", "torch:vgg16", "torch:densenet121", "torch:inception_v3", "torch:bert",
    "tf:mobilenet_v2", "tf:inception_v3", "tf:nasnet_mobile", "tf:bert",
    "hf:bert", "hf:gpt2", "hf:roberta", "hf:xlnet",
]  # fmt: skip
REAL = ["hf:all-minilm-l6-v2", "tf:all-minilm-l6-v2"]
TIMEOUT_S = 1200.0
GRID_WIDTH = 236  # characters: a row a system, a cell on two lines at most


def make_photos(folder: Path, *, classes: int = 2, each: int = 20) -> Path:
    """A folder of small JPEGs, a hue and a texture to each class; seeded."""
    from PIL import Image

    rng = np.random.default_rng(0)
    for number in range(classes):
        target = folder / f"class{number}"
        target.mkdir(parents=True)
        for index in range(each):
            height, width = rng.integers(120, 320, 2)
            coarse = rng.integers(0, 90, (6, 8, 3))
            coarse[..., number] += 140
            image = Image.fromarray(coarse.astype(np.uint8)).resize((int(width), int(height)))
            image.save(target / f"{index}.jpg", quality=90)
    return folder


def make_texts(path: Path, *, classes: int = 2, each: int = 20) -> Path:
    """The first messages of the first classes of examples/tickets.csv."""
    with TICKETS.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    labels = sorted({row["label"] for row in rows})[:classes]
    chosen = [row for label in labels for row in [r for r in rows if r["label"] == label][:each]]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["text", "label"])
        writer.writeheader()
        writer.writerows(chosen)
    return path


def run(system: str, data: Path, folder: Path, console: Console) -> dict[str, Any]:
    """All cells of one system: name -> figure, or {"error": ...}."""
    cells: dict[str, Any] = {}

    def note(message: Any) -> None:
        cells.update(message)
        for name, value in message.items():
            console.print(f"  {system}: {name}: {value['shown']}", style="dim", soft_wrap=True)

    with Worker(system, env={"PYTHONPATH": str(HERE), "ZOO_CACHE": str(folder / "cache")}) as worker:
        try:
            worker.call(
                "system_cells:run",
                {"system": system, "data": str(data), "folder": str(folder)},
                timeout_s=TIMEOUT_S,
                on_progress=note,
            )
        except ZooError as error:
            missing = next((name for name in CELLS if name not in cells), CELLS[-1])
            cells[missing] = {"error": str(error)}
    return cells


def verdict(name: str, value: Any) -> tuple[bool, str]:
    """Whether a cell keeps its promise, and what is printed."""
    if value is None:
        return False, "FAIL not run"
    if isinstance(value, dict) and "error" in value:
        return False, "FAIL " + value["error"].splitlines()[0][:60]
    good = EXPECTED[name](value)
    text = value["shown"]
    return good, text if good else f"FAIL {text}"


def main() -> int:
    """Run, print the grid, exit 1 where a cell fails."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "systems", nargs="*", help="ids; default: the thirteen, and those with real weights here"
    )
    parser.add_argument("--json", type=Path, help="write the raw figures here")
    arguments = parser.parse_args()
    real = [name for name in REAL if packaged(name.partition(":")[2]) is not None]
    chosen = arguments.systems or [f"{name}@none" for name in RANDOM] + real
    console = Console(stderr=True)
    found: dict[str, dict[str, Any]] = {}
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="zoo-systems-") as work:
        photos = make_photos(Path(work) / "photos")
        texts = make_texts(Path(work) / "texts.csv")
        for number, system in enumerate(chosen):
            card = registry.card(registry.resolve(system))
            image = card is not None and card.task == IMAGE_TASK
            # Its files go before the next one's come: VGG-16 alone writes gigabytes.
            with tempfile.TemporaryDirectory(prefix=f"{number}-", dir=work) as folder:
                found[system] = run(system, photos if image else texts, Path(folder), console)
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1), encoding="utf-8")
    failures = show(found)
    cells = len(chosen) * len(CELLS)
    print(f"{cells - failures} of {cells} cells hold, {time.perf_counter() - started:.0f} s")
    return bool(failures)


def show(found: dict[str, dict[str, Any]]) -> int:
    """Print the grid, a row a system; returns the number of failures."""
    table = Table(title="systems x operations")
    for name in ("system", *CELLS):
        table.add_column(name, overflow="fold")
    failures = 0
    for system, values in found.items():
        cells = [verdict(name, values.get(name)) for name in CELLS]
        failures += sum(not good for good, _ in cells)
        table.add_row(system, *(text for _, text in cells))
    Console(width=GRID_WIDTH).print(table)
    return failures


if __name__ == "__main__":
    sys.exit(main())
