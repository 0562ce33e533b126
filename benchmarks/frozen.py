"""Ten epochs of head-only training: ours, cold and warm, against the plain frozen PyTorch loop and the bare pass.

plain: what a PyTorch user writes: torchvision's ImageFolder and DataLoader, the backbone frozen and in eval mode, run
through again in every epoch. One epoch is timed and counted ten times, as each is the same work.
bare: each photograph decoded once and run through the exported backbone in ONNX Runtime, and nothing else: the limit.
cold: `Backbone.fit` for ten epochs with an empty cache: export, check, features, training, all of it.
warm: the same command again, with the features in the cache.

Each is a process of its own with the same number of threads, rounds interleaved; importing and loading the model are
not counted, for anybody. Accuracy: ten whole epochs of both on fewer photographs, judged on others.

    python benchmarks/frozen.py [--photos 512] [--rounds 3] [--threads N] [--only resnet50|mobilenet_v2] [--record]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from common import THREAD_SETTINGS, Times, interleave, machine_line, make_photos, ratio, record, table

import zoo
from zoo.cards import Recipe
from zoo.data import epoch_order, open_data

MODELS, CONTENDERS = ("mobilenet_v2", "resnet50"), ("plain", "bare", "cold", "warm")
CLASSES, EPOCHS, BATCH, RATE = 4, 10, 32, 0.005
RECIPE = Recipe(optimizer="sgd", lr=RATE, momentum=0.9, epochs=EPOCHS, batch_size=BATCH)
COLD, WARM, LIMIT = 15, 100, 1.1
DARKER = 20  # grey levels between classes where accuracy is judged: something to learn


def plain_parts(
    name: str, folder: Path, workers: int, weights: str = "none"
) -> tuple[Any, Any, Callable[[], None]]:
    """The network, its loader's dataset and a function that trains the head for an epoch."""
    import torch
    from torchvision import datasets, models, transforms

    torch.manual_seed(0)
    network = getattr(models, name)(weights=None)
    network.load_state_dict(zoo.get(f"torch:{name}@{weights}").module.state_dict())
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    head = torch.nn.Linear(2048 if name == "resnet50" else 1280, CLASSES)
    if name == "resnet50":
        network.fc = head
    else:
        network.classifier[1] = head
    network.eval()
    chain = transforms.Compose(
        [
            transforms.Resize(232),  # as the official weights of both models state, and so ours
            transforms.CenterCrop(224),
            transforms.ToTensor(),
            transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )
    data = datasets.ImageFolder(folder, chain)
    loader = torch.utils.data.DataLoader(
        data, BATCH, shuffle=True, num_workers=workers, persistent_workers=True
    )
    optimizer = torch.optim.SGD(head.parameters(), lr=RATE, momentum=0.9)

    def epoch() -> None:
        for images, targets in loader:
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(network(images), targets).backward()
            optimizer.step()

    return network, data, epoch


def plain(name: str, folder: Path, threads: int) -> float:
    """Seconds of ten epochs, from the second one's: the first starts the workers."""
    _, _, epoch = plain_parts(name, folder, threads)
    epoch()
    started = time.perf_counter()
    epoch()
    return EPOCHS * (time.perf_counter() - started)


def bare(name: str, folder: Path, threads: int) -> float:
    """Seconds of one pass of the exported backbone over the photographs."""
    data = open_data(folder)
    with tempfile.TemporaryDirectory() as scratch:
        model = zoo.get(f"torch:{name}@none").export(Path(scratch) / "model.onnx")
        model.features(data.inputs[:BATCH])
        started = time.perf_counter()
        model.features(data.inputs)
        return time.perf_counter() - started


def fitted(name: str, folder: Path, threads: int) -> float:
    """Seconds of `fit`; cold or warm as the cache is that ZOO_CACHE names."""
    model = zoo.get(f"torch:{name}@none", num_classes=CLASSES)
    model.freeze()
    started = time.perf_counter()
    model.fit(folder, recipe=RECIPE, progress=False)
    return time.perf_counter() - started


def settled(name: str, folder: Path, path: Path) -> None:
    """Random weights whose BatchNorm statistics are those of the photographs: with statistics of 0 and 1 the features
    of a random network hardly differ from one photograph to the next, and nobody's head learns anything.
    """
    import torch

    network, data, _ = plain_parts(name, folder, 1)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # the mean of all batches
    network.train()
    with torch.no_grad():
        for images, _ in torch.utils.data.DataLoader(data, BATCH, shuffle=True):
            network(images)
    whole = zoo.get(f"torch:{name}@none").module
    kept = {key: value for key, value in network.state_dict().items() if "num_batches" not in key}
    head = {key: value for key, value in whole.state_dict().items() if key.startswith(("fc.", "classifier."))}
    torch.save(whole.state_dict() | kept | head, path)


def accuracies(name: str, train: Path, test: Path, threads: int) -> dict[str, float]:
    """Of ten whole epochs from the same head in the same order: ours and the plain loop's, on the test photographs."""
    import torch

    with tempfile.TemporaryDirectory() as scratch:
        weights = Path(scratch) / f"{name}.pth"
        settled(name, train, weights)
        model = zoo.get(f"torch:{name}@{weights}", num_classes=CLASSES)
        network, data, _ = plain_parts(name, train, 1, str(weights))
    head = network.fc if name == "resnet50" else network.classifier[1]
    with torch.no_grad():
        for parameter, value in zip(head.parameters(), model.engine.head() or (), strict=True):
            parameter.copy_(torch.from_numpy(value))
    model.freeze()
    model.fit(train, recipe=RECIPE, progress=False)
    optimizer = torch.optim.SGD(head.parameters(), lr=RATE, momentum=0.9)
    for epoch in range(EPOCHS):
        for batch in torch.from_numpy(epoch_order(len(data), seed=RECIPE.seed, epoch=epoch)).split(BATCH):
            images, targets = zip(*(data[i] for i in batch.tolist()), strict=True)
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(network(torch.stack(images)), torch.tensor(targets)).backward()
            optimizer.step()
    held = type(data)(test, data.transform)
    with torch.no_grad():
        right = [int(network(image[None]).argmax()) == target for image, target in held]
    return {"ours": model.evaluate(test)["accuracy"], "plain": float(np.mean(right))}


def in_process(task: str, name: str, photos: Path, cache: Path, threads: int) -> Any:
    """One contender, once, in a process of its own."""
    command = [sys.executable, __file__, "--worker", task, "--only", name, "--folder", str(photos)]
    environment = {**os.environ, "ZOO_CACHE": str(cache), "ZOO_DATA_THREADS": str(threads)}
    environment |= dict.fromkeys(THREAD_SETTINGS, str(threads))
    command += ["--threads", str(threads)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    return json.loads(done.stdout.splitlines()[-1])


def measure(name: str, photos: Path, scratch: Path, rounds: int, threads: int) -> dict[str, Times]:
    """Seconds of each contender; a cold one has a cache of its own, which the warm one after it finds full."""
    caches: Iterator[Path] = (scratch / f"{name}-{i}" for i in range(1000))
    current = [scratch / f"{name}-first"]

    def contender(task: str) -> Callable[[], float]:
        def run() -> float:
            if task == "cold":
                current[0] = next(caches)
            return float(in_process(task, name, photos, current[0], threads))

        return run

    return interleave({task: contender(task) for task in CONTENDERS}, rounds=rounds)


def report(
    found: dict[str, dict[str, Times]], accuracy: dict[str, dict[str, float]], photos: int, threads: int
) -> str:
    """The section of RESULTS.md."""
    rows = []
    for name, times in found.items():
        cold, _ = ratio(times["plain"], times["cold"])
        warm, _ = ratio(times["plain"], times["warm"])
        limit, span = ratio(times["cold"], times["bare"])
        seconds = [f"{times[task].median:.2f} ({times[task].spread})" for task in CONTENDERS]
        both = f"{accuracy[name]['ours']:.3f}, {accuracy[name]['plain']:.3f}"
        rows.append([name, *seconds, f"{cold:.1f}x", f"{warm:.0f}x", f"{limit:.2f} ({span})", both])
    header = ["model, 224 px", "plain, s", "bare pass", "cold", "warm", "plain / cold", "plain / warm",
              "cold / bare", "accuracy: ours, plain"]  # fmt: skip
    text = (
        f"## Frozen training\n\n`python benchmarks/frozen.py`: {EPOCHS} epochs of the head, {photos} JPEGs, batch "
        f"{BATCH}, threads and decoding workers: {threads}; median (fastest-slowest). Aimed at: {COLD}x cold, "
        f"{WARM}x warm, cold / bare {LIMIT}; what cold takes beyond the bare pass is the export and its check, paid "
        "once a backbone: another data set finds the graph in the cache. Accuracy on other photographs (of classes "
        "that differ in brightness, and overlap), after training on a quarter as many from the same head in "
        "the same order, the random network's statistics settled on them."
    )
    return f"{text}\n\n{table(header, rows)}\n\n{machine_line('torch', 'torchvision', 'onnxruntime')}"


def work(given: argparse.Namespace) -> int:
    """In a process of its own: print seconds, or accuracies."""
    tasks = {"plain": plain, "bare": bare, "cold": fitted, "warm": fitted}
    if given.worker == "accuracy":
        found: Any = accuracies(given.only, given.folder / "few", given.folder / "test", given.threads)
    else:
        found = tasks[given.worker](given.only, given.folder, given.threads)
    print(json.dumps(found))
    return 0


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--photos", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--only", choices=MODELS)
    parser.add_argument("--worker", choices=[*CONTENDERS, "accuracy"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--record", action="store_true", help="write the section into RESULTS.md")
    given = parser.parse_args()
    if given.worker:
        return work(given)
    with tempfile.TemporaryDirectory() as scratch:
        root, each = Path(scratch), given.photos // CLASSES
        make_photos(root / "photos", classes=CLASSES, each=each, sides=(375, 501))
        for seed, part in enumerate(("few", "test"), 1):
            make_photos(
                root / "split" / part,
                classes=CLASSES, each=each // 4, sides=(375, 501), seed=seed, darker=DARKER,
            )  # fmt: skip
        names = [given.only] if given.only else list(MODELS)
        found = {n: measure(n, root / "photos", root / "caches", given.rounds, given.threads) for n in names}
        accuracy = {
            n: in_process("accuracy", n, root / "split", root / "cache", given.threads) for n in names
        }
    text = report(found, accuracy, given.photos, given.threads)
    print(text)
    if given.record:
        record("frozen", text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
