"""A training step of torch's engine with its weights channels last against the same with contiguous weights, by family.

The rule in `zoo_torch.layout` (more convolutions than linear layers) rests on these figures. Both engines have the
same random weights and are fed as `fit` feeds them, photographs lying channels last; steps are interleaved, all
blocks train, SGD with momentum.

    python benchmarks/layout.py [--rounds 9] [--batch 8] [--threads N] [--only NAME] [--record]
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable

import numpy as np
from common import Times, interleave, machine_line, ratio, record, table

import zoo
from zoo.cards import Recipe
from zoo.engine import HEAD

CLASSES, RATE = 10, 0.001
MODELS = {
    "resnet50": 224,
    "vgg11": 224,
    "densenet121": 224,
    "inception_v3": 299,
    "mobilenet_v2": 224,
    "efficientnet_b0": 224,
    "squeezenet1_1": 224,
    "convnext_tiny": 224,
    "vit_b_16": 224,
}


def stepping(name: str, size: int, batch: int, *, last: bool) -> Callable[[], float]:
    """Seconds of a step, in one layout or the other."""
    from torch import channels_last, contiguous_format

    from zoo_torch.layout import CHANNELS_LAST, NCHW

    engine = zoo.get(f"torch:{name}@none", num_classes=CLASSES).engine
    engine.layout = CHANNELS_LAST if last else NCHW  # type: ignore[attr-defined]
    engine.module.to(memory_format=channels_last if last else contiguous_format)
    engine.start_training(Recipe(optimizer="sgd", lr=RATE, momentum=0.9))
    rng = np.random.default_rng(0)
    images = rng.standard_normal((batch, size, size, 3), dtype=np.float32).transpose(0, 3, 1, 2)
    targets = np.eye(CLASSES, dtype=np.float32)[rng.integers(0, CLASSES, batch)]
    lr = dict.fromkeys((*engine.trainable, HEAD), RATE)

    def step() -> float:
        started = time.perf_counter()
        float(engine.train_step({"images": images}, targets, lr=lr))
        return time.perf_counter() - started

    return step


def row(name: str, times: dict[str, Times], chosen: str) -> list[str]:
    """One family: seconds, ratio, and what the rule says."""
    factor, span = ratio(times["last"], times["plain"])
    seconds = (f"{t.median:.3f} ({t.spread})" for t in (times["last"], times["plain"]))
    return [name, *seconds, f"{factor:.2f} ({span})", chosen]


def measure(name: str, size: int, rounds: int, batch: int) -> list[str]:
    """The row of one family."""
    chosen = zoo.get(f"torch:{name}@none").engine.layout  # type: ignore[attr-defined]
    contenders = {
        kind: stepping(name, size, batch, last=last) for kind, last in (("last", True), ("plain", False))
    }
    return row(name, interleave(contenders, rounds=rounds), chosen)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--only", choices=list(MODELS))
    parser.add_argument("--record", action="store_true", help="write the section into RESULTS.md")
    given = parser.parse_args()
    import torch

    torch.set_num_threads(given.threads)
    names = [given.only] if given.only else list(MODELS)
    rows = [measure(name, MODELS[name], given.rounds, given.batch) for name in names]
    header = ["model", "channels last, s a step", "contiguous", "ratio", "the rule chooses"]
    text = (
        f"## Memory layout in torch\n\n`python benchmarks/layout.py`: batch {given.batch}, threads: "
        f"{given.threads}, {given.rounds} rounds, every block trains; median (fastest-slowest), the ratio is "
        f"the median of the rounds' own.\n\n{table(header, rows)}\n\n{machine_line('torch', 'torchvision')}"
    )
    print(text)
    if given.record:
        record("layout", text)


if __name__ == "__main__":
    main()
