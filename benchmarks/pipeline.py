"""Photographs read for training: ours beside torchvision's ImageFolder + DataLoader, and hidden behind a step.

Images a second: the same JPEG files (500 x 375 and about as large) to normalised batches of 224 px, by ours in
threads and by a DataLoader with as many workers (started once and kept, which leaves its start-up out): once as
for evaluation (shorter side 256, centre 224) and once as for training (random resized crop and mirrored).
Hidden: full training steps of resnet50 fed from files, augmented, against the same steps on one batch that
stays in memory; 1.00 means that reading costs nothing. Everything shares the cores, so it can't be free.

    python benchmarks/pipeline.py [--workers 2] [--photos 256] [--rounds 7] [--only throughput|hidden] [--record]
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from common import Times, interleave, machine_line, make_photos, ratio, record, table, timed

import zoo
from zoo.cards import ImagePreprocess, Recipe
from zoo.data import augmentation, batches, open_data

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PREPROCESS = ImagePreprocess(224, 224, mean=MEAN, std=STD)
BATCH, TARGET = 32, 1.0
STEP_BATCH, STEPS, CLASSES = 16, 6, 2


def used_up(stream: Iterable[object]) -> int:
    """Take every batch and do nothing with it; how many."""
    return sum(1 for _ in stream)


# --- images a second
def ours(folder: Path, workers: int, *, train: bool) -> Callable[[], object]:
    """An epoch of our batches."""
    data, changed = open_data(folder), augmentation("light" if train else "none", PREPROCESS, seed=0)
    return lambda: used_up(
        batches(data.inputs, PREPROCESS, batch_size=BATCH, augmentation=changed, threads=workers)
    )


def theirs(folder: Path, workers: int, *, train: bool) -> Callable[[], object]:
    """An epoch of torchvision's, with its usual transforms on Pillow images."""
    import torch
    from torchvision import datasets, transforms

    spatial = (
        [transforms.RandomResizedCrop(224), transforms.RandomHorizontalFlip()]
        if train
        else [transforms.Resize(256), transforms.CenterCrop(224)]
    )
    chain = transforms.Compose([*spatial, transforms.ToTensor(), transforms.Normalize(MEAN, STD)])
    loader = torch.utils.data.DataLoader(
        datasets.ImageFolder(folder, chain), BATCH, num_workers=workers, persistent_workers=True
    )
    return lambda: used_up(loader)


def check_same_pixels(folder: Path) -> None:
    """Exit where the two sides would not read the same batch: then there is nothing to compare."""
    import torch
    from torchvision import datasets, transforms

    chain = transforms.Compose(
        [
            transforms.Resize(256),
            transforms.CenterCrop(224),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )
    files = datasets.ImageFolder(folder, chain)
    images = torch.stack([files[i][0] for i in range(4)]).numpy()
    _, batch = next(iter(batches(open_data(folder).inputs[:4], PREPROCESS, batch_size=4)))
    if not np.allclose(batch["images"], images, atol=1e-5):
        raise SystemExit("ours and torchvision's batches differ: nothing to compare")


def throughput(folder: Path, workers: int, rounds: int) -> dict[str, dict[str, Times]]:
    """Seconds of an epoch by task and side."""
    check_same_pixels(folder)
    found = {}
    for task, train in (("evaluation", False), ("training", True)):
        sides = {
            "ours": timed(ours(folder, workers, train=train)),
            "theirs": timed(theirs(folder, workers, train=train)),
        }
        found[task] = interleave(sides, rounds=rounds)
    return found


def throughput_table(found: dict[str, dict[str, Times]], photos: int) -> str:
    """Images a second, and how many times theirs ours are."""
    rows = []
    for task, times in found.items():
        rates = [f"{photos / times[side].median:.0f}" for side in ("ours", "theirs")]
        factor, span = ratio(times["theirs"], times["ours"])
        rows.append([task, *rates, f"{factor:.2f} ({span})"])
    return table(["as for", "ours, images/s", "DataLoader, images/s", "ours / DataLoader"], rows)


# --- hidden behind the step
def hidden(folder: Path, workers: int, rounds: int) -> dict[str, Times]:
    """Seconds of some training steps of resnet50: fed from files, and on a batch in memory."""
    engine = zoo.get("torch:resnet50@none", num_classes=CLASSES).engine
    engine.set_trainable(engine.blocks)
    engine.start_training(Recipe(optimizer="sgd", lr=1e-3, batch_size=STEP_BATCH))
    rates = dict.fromkeys((*engine.trainable, zoo.engine.HEAD), 1e-3)
    data = open_data(folder)
    changed = augmentation("light", PREPROCESS, seed=0)
    order = np.arange(STEP_BATCH * STEPS) % len(data)
    targets = np.eye(CLASSES, dtype=np.float32)[data.targets]

    def stream() -> Iterable[tuple[np.ndarray, zoo.engine.Batch]]:
        return batches(
            data.inputs, PREPROCESS, batch_size=STEP_BATCH, order=order, augmentation=changed, threads=workers
        )

    kept = next(iter(stream()))

    def steps(given: Iterable[tuple[np.ndarray, zoo.engine.Batch]]) -> None:
        for index, batch in given:
            float(engine.train_step(batch, targets[index], lr=rates))

    sides = {"files": timed(lambda: steps(stream())), "memory": timed(lambda: steps([kept] * STEPS))}
    return interleave(sides, rounds=rounds)


def hidden_table(times: dict[str, Times]) -> str:
    """Milliseconds a step, and their ratio."""
    factor, span = ratio(times["files"], times["memory"])
    each = [f"{times[side].median / STEPS * 1e3:.0f}" for side in ("files", "memory")]
    header = ["resnet50, 224 px, all blocks", "from files, ms a step", "from memory", "files / memory"]
    return table(header, [[f"batch {STEP_BATCH}", *each, f"{factor:.3f} ({span})"]])


def main() -> int:
    """Print the tables; with --check exit 1 where DataLoader is faster."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--photos", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", choices=["throughput", "hidden"])
    parser.add_argument("--record", action="store_true", help="write the section into RESULTS.md")
    parser.add_argument("--check", action="store_true", help="exit 1 where DataLoader is faster")
    given = parser.parse_args()
    parts, found = [], {}
    with tempfile.TemporaryDirectory() as name:
        folder = make_photos(Path(name), classes=CLASSES, each=given.photos // CLASSES, sides=(375, 501))
        if given.only != "hidden":
            found = throughput(folder, given.workers, given.rounds)
            parts.append(throughput_table(found, given.photos // CLASSES * CLASSES))
        if given.only != "throughput":
            parts.append(hidden_table(hidden(folder, given.workers, given.rounds)))
    text = (
        f"## Input pipeline\n\n`python benchmarks/pipeline.py`: {given.photos} JPEGs of 375 to 500 pixels a side, "
        f"{given.workers} threads (ours) and workers (DataLoader, kept between epochs), batch {BATCH}, "
        f"{given.rounds} interleaved rounds; ratios are the median of the rounds' own (range). "
        f"Target: at least {TARGET} of DataLoader.\n\n"
        + "\n\n".join(parts)
        + f"\n\n{machine_line('torch', 'torchvision', 'pillow', 'numpy')}"
    )
    print(text)
    if given.record:
        record("pipeline", text)
    slower = [task for task, times in found.items() if ratio(times["theirs"], times["ours"])[0] < TARGET]
    return int(given.check and bool(slower))


if __name__ == "__main__":
    sys.exit(main())
