"""What the benchmarks share: interleaved rounds, tables in Markdown, and their place in RESULTS.md."""

from __future__ import annotations

import importlib.metadata
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from zoo.cost import machine
from zoo.executor import THREAD_SETTINGS as THREAD_SETTINGS

RESULTS = Path(__file__).resolve().parent / "RESULTS.md"
_TITLE = "# Measured\n\nEach section is written by the script it names, on the machine it names.\n"


@dataclass(frozen=True)
class Times:
    """Seconds of one contender, a value a round."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def spread(self) -> str:
        """Fastest and slowest, as text."""
        return f"{min(self.seconds):.2f}-{max(self.seconds):.2f}"


def timed(run: Callable[[], object]) -> Callable[[], float]:
    """`run`, returning its seconds."""

    def measured() -> float:
        started = time.perf_counter()
        run()
        return time.perf_counter() - started

    return measured


def interleave(contenders: Mapping[str, Callable[[], float]], *, rounds: int) -> dict[str, Times]:
    """Call each in turn, A B C A B C; each returns its seconds. A round before the first warms up."""
    found: dict[str, list[float]] = {name: [] for name in contenders}
    for index in range(rounds + 1):
        for name, run in contenders.items():
            seconds = run()
            if index:
                found[name].append(seconds)
        print(f"round {index} of {rounds}", flush=True)
    return {name: Times(tuple(values)) for name, values in found.items()}


def ratio(ours: Times, theirs: Times) -> tuple[float, str]:
    """Median of the rounds' ratios ours / theirs, and its range: noise common to a round cancels."""
    pairs = [a / b for a, b in zip(ours.seconds, theirs.seconds, strict=True)]
    return statistics.median(pairs), f"{min(pairs):.2f}-{max(pairs):.2f}"


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table; the first column is text, the others are aligned to the right."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def machine_line(*packages: str) -> str:
    """CPU, cores, system and the versions that shape the figures, in one line."""
    facts = machine()
    versions = [f"python {facts['python']}", *(f"{p} {importlib.metadata.version(p)}" for p in packages)]
    return f"{facts['cpu']}, {facts['cores']} cores, {facts['platform']}; {', '.join(versions)}."


def record(section: str, text: str) -> None:
    """Put `text` into RESULTS.md as `section`, in the place of what that section held before."""
    begin, end = f"<!-- {section}: begin -->", f"<!-- {section}: end -->"
    whole = RESULTS.read_text(encoding="utf-8") if RESULTS.exists() else _TITLE
    block = f"{begin}\n{text.strip()}\n{end}\n"
    if begin in whole:
        before, _, rest = whole.partition(begin)
        whole = before + block + rest.partition(end)[2].lstrip("\n")
    else:
        whole += "\n" + block
    RESULTS.write_text(whole, encoding="utf-8")


def make_photos(
    folder: Path, *, classes: int, each: int, sides: tuple[int, int], seed: int = 0, darker: int = 0
) -> Path:
    """folder/class<k>/<i>.jpg: photographs-like JPEGs (smooth colours plus grain), sides in pixels, seeded.

    darker: grey levels by which each class is darker than the one before it, on the mean, overlapping it: something
    that can be learned, and not wholly. 0: nothing can.
    """
    rng = np.random.default_rng(seed)
    for number in range(classes):
        target = folder / f"class{number}"
        target.mkdir(parents=True, exist_ok=True)
        for index in range(each):
            height, width = (int(side) for side in rng.integers(*sides, size=2))
            brightest = 256 - 2 * darker * number - rng.integers(3 * darker + 1)
            coarse = rng.integers(0, brightest, (12, 16, 3)).astype(np.uint8)
            smooth = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))
            grain = rng.integers(-12, 13, (height, width, 1))
            pixels = np.clip(smooth.astype(np.int16) + grain, 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(target / f"{index}.jpg", quality=88)
    return folder
