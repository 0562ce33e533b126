"""Where the frameworks compute differently, in figures: padding of strided convolutions, BatchNorm's defaults.

Needs a folder of transformers' MobileNet v1 with real weights and a folder of photographs:

    python benchmarks/differences.py --weights FOLDER --photos FOLDER [--record]

Padding: TensorFlow's 'same' pads a strided convolution by (0, 1) where torch's `padding=1` pads by (1, 1). The same
weights are run both ways on the same pixels (transformers' `tf_padding`). BatchNorm: what is left of the statistics of
the pretraining after n steps is (1 - momentum) ** n by torch's momentum, and epsilon's part of the deviation.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from common import machine_line, record, table

import zoo
from zoo.data import batches, open_inputs

STEPS = (1, 10, 100)
BATCHNORM = {"torch": (0.1, 1e-5), "Keras": (0.01, 1e-3), "transformers' MobileNet v1": (0.9997, 1e-3)}


def padding(weights: Path, photos: Path) -> tuple[int, float, float]:
    """Photographs, share with the same top-1, and the logits' median change relative to their spread."""
    import torch

    model = zoo.get(f"hf:{weights}")
    inputs = open_inputs(
        sorted(p for p in photos.rglob("*") if p.suffix.lower() in (".jpg", ".jpeg", ".png")), kind="image"
    )
    images = np.concatenate([b["images"] for _, b in batches(inputs, model.preprocess, batch_size=25)])
    found = []
    for theirs in (True, False):
        model.module.config.tf_padding = theirs
        for layer in model.module.modules():
            if hasattr(layer, "config"):
                layer.config.tf_padding = theirs
            if isinstance(layer, torch.nn.Conv2d):
                layer.padding = (0, 0) if theirs else tuple(k // 2 for k in layer.kernel_size)
        found.append(model.engine.logits({"images": images}))
    change = np.abs(found[1] - found[0]).max(axis=1) / found[0].std(axis=0).mean()
    same = float((found[0].argmax(1) == found[1].argmax(1)).mean())
    return len(images), same, float(np.median(change))


def report(weights: Path, photos: Path) -> str:
    """The section of RESULTS.md."""
    count, same, change = padding(weights, photos)
    rows = [
        [name, momentum, *(f"{(1 - momentum) ** n:.2g}" for n in STEPS), eps]
        for name, (momentum, eps) in BATCHNORM.items()
    ]
    header = [
        "BatchNorm's defaults",
        "momentum (torch's)",
        *(f"left after {n} steps" for n in STEPS),
        "epsilon",
    ]
    text = (
        "## Where the frameworks differ\n\n`python benchmarks/differences.py`: MobileNet v1 with TensorFlow's padding "
        f"of strided convolutions and with torch's, the same real weights, {count} photographs: the largest change of "
        f"a photograph's logits is {change:.2f} of their spread (median), the top-1 is the same for {same:.0%}."
    )
    return f"{text}\n\n{table(header, rows)}\n\n{machine_line('torch', 'transformers')}"


def main() -> int:
    """Print the section."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--record", action="store_true", help="write the section into RESULTS.md")
    given = parser.parse_args()
    text = report(given.weights, given.photos)
    print(text)
    if given.record:
        record("differences", text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
