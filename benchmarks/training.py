"""An epoch of our training loop against a hand-written PyTorch loop and against Keras's own `fit`.

Full fine-tuning of the same network on the same preprocessed arrays in memory, same batches, SGD with momentum.
Ours is all that an epoch of `fit` does: schedule, soft targets, losses fetched, a copy of the weights checked
for NaN and kept as the last good ones. Each framework runs in a process of its own, epochs interleaved there.

    python benchmarks/training.py [--rounds 9] [--images 128] [--threads N] [--only CASE] [--record] [--check]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator

import numpy as np
from common import THREAD_SETTINGS, Times, interleave, machine_line, ratio, record, table, timed

import zoo
from zoo.cards import Recipe
from zoo.engine import Array, Batch, Engine
from zoo.train.learner import NetworkLearner
from zoo.train.loop import Loop, Plan
from zoo.train.progress import TrainingBar

BATCH, CLASSES, RATE, MOMENTUM, TARGET = 32, 10, 0.01, 0.9, 1.03
MODELS = {
    "resnet18": ("torch:resnet18@none", 64),
    "mobilenet_v2": ("torch:mobilenet_v2@none", 96),
    "keras": ("tf:mobilenet_v2@none", 96),
}
THEIRS = {"torch": "plain PyTorch loop", "tf": "Keras fit"}
PACKAGES = {"torch": ("torch", "torchvision"), "tf": ("tensorflow", "keras")}


def arrays(count: int, size: int) -> tuple[Array, Array]:
    """float32 NCHW, lying channels last as decoded photographs do, and int64 targets."""
    rng = np.random.default_rng(0)
    images = rng.normal(size=(count, size, size, 3)).astype(np.float32).transpose(0, 3, 1, 2)
    return images, rng.integers(0, CLASSES, count)


def our_epochs(engine: Engine, images: Array, targets: Array, epochs: int) -> Callable[[], None]:
    """Epochs of the loop that `fit` runs, one a call."""

    def source(order: Array, size: int, _epoch: int) -> Iterator[tuple[Array, Batch]]:
        for start in range(0, len(order), size):
            index = order[start : start + size]
            yield index, {"images": images[index]}

    recipe = Recipe(optimizer="sgd", lr=RATE, momentum=MOMENTUM, epochs=epochs, batch_size=BATCH)
    loop = Loop(NetworkLearner(engine, source), recipe, Plan(targets, CLASSES, engine.blocks))
    loop.begin(None)
    bar = TrainingBar(1, shown=False)
    return lambda: loop.epoch(bar)


def plain_torch_epochs(name: str, images: Array, targets: Array) -> Callable[[], None]:
    """What a PyTorch user writes, without a DataLoader's cost; images as ToTensor leaves them, NCHW."""
    import torch
    import torchvision

    images = np.ascontiguousarray(images)
    model = getattr(torchvision.models, name)(num_classes=CLASSES).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE, momentum=MOMENTUM)

    def epoch() -> None:
        order, total = np.random.default_rng(0).permutation(len(images)), 0.0
        for start in range(0, len(order), BATCH):
            index = order[start : start + BATCH]
            loss = torch.nn.functional.cross_entropy(
                model(torch.from_numpy(images[index])), torch.from_numpy(targets[index])
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()

    return epoch


def keras_epochs(images: Array, targets: Array) -> Callable[[], None]:
    """Keras's own training loop on its own layout."""
    import keras

    native = np.ascontiguousarray(images.transpose(0, 2, 3, 1))
    base = keras.applications.MobileNetV2(
        weights=None, include_top=False, pooling="avg", input_shape=native.shape[1:]
    )
    model = keras.Sequential([base, keras.layers.Dense(CLASSES)])
    model.compile(
        optimizer=keras.optimizers.SGD(RATE, momentum=MOMENTUM),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    return lambda: model.fit(native, targets, batch_size=BATCH, epochs=1, verbose=0) and None


def measure(case: str, rounds: int, count: int) -> dict[str, Times]:
    """Seconds of an epoch, ours and theirs, in this process."""
    name, size = MODELS[case]
    images, targets = arrays(count, size)
    engine = zoo.get(name, num_classes=CLASSES, size=size).engine
    plain = name.startswith("torch:")
    contenders = {
        "ours": timed(our_epochs(engine, images, targets, rounds + 1)),
        "theirs": timed(
            plain_torch_epochs(case, images, targets) if plain else keras_epochs(images, targets)
        ),
    }
    before = engine.state()
    found = interleave(contenders, rounds=rounds)
    if still := [
        name for name, value in engine.state().items() if value.ndim > 1 and (value == before[name]).all()
    ]:
        raise SystemExit(f"{still[0]} did not train: a frozen network would be compared with a trained one")
    return found


def in_process(case: str, rounds: int, count: int, threads: int) -> dict[str, Times]:
    """`measure` in a process of its own, with so many threads for both sides."""
    command = [
        sys.executable,
        __file__,
        "--worker",
        case,
        "--rounds",
        str(rounds),
        "--images",
        str(count),
    ]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"} | dict.fromkeys(THREAD_SETTINGS, str(threads))
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    seconds: dict[str, list[float]] = json.loads(done.stdout.splitlines()[-1])
    return {name: Times(tuple(values)) for name, values in seconds.items()}


def report(found: dict[str, dict[str, Times]], count: int, threads: int) -> str:
    """The section of RESULTS.md."""
    rows = []
    frameworks = {case: MODELS[case][0].partition(":")[0] for case in found}
    for case, times in found.items():
        name, size = MODELS[case]
        factor, span = ratio(times["ours"], times["theirs"])
        ours, theirs = (f"{t.median:.2f} ({t.spread})" for t in (times["ours"], times["theirs"]))
        rows.append([f"{name}, {size} px", THEIRS[frameworks[case]], ours, theirs, f"{factor:.3f} ({span})"])
    header = ["model", "against", "ours, s an epoch", "theirs", "ours / theirs"]
    used = [package for framework in sorted(set(frameworks.values())) for package in PACKAGES[framework]]
    text = (
        f"## Training\n\n`python benchmarks/training.py`: {count} images in memory, batch {BATCH}, threads: {threads}, "
        "every block trains; median (fastest-slowest), the ratio is the median of the rounds' own. "
        f"Target: at most {TARGET}."
    )
    return f"{text}\n\n{table(header, rows)}\n\n{machine_line(*used)}"


def main() -> int:
    """Print the table; with --check exit 1 where a ratio is above the target."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--only", choices=list(MODELS))
    parser.add_argument("--worker", choices=list(MODELS), help=argparse.SUPPRESS)
    parser.add_argument("--record", action="store_true", help="write the section into RESULTS.md")
    parser.add_argument("--check", action="store_true", help="fail where the target is missed")
    given = parser.parse_args()
    if given.worker:
        times = measure(given.worker, given.rounds, given.images)
        print(json.dumps({name: value.seconds for name, value in times.items()}))
        return 0
    cases = [given.only] if given.only else list(MODELS)
    found = {case: in_process(case, given.rounds, given.images, given.threads) for case in cases}
    text = report(found, given.images, given.threads)
    print(text)
    if given.record:
        record("training", text)
    missed = [name for name, times in found.items() if ratio(times["ours"], times["theirs"])[0] > TARGET]
    return int(given.check and bool(missed))


if __name__ == "__main__":
    sys.exit(main())
