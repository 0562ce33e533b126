"""One trajectory: 200 steps through PyTorch's engine, TensorFlow's and the core's numpy, on the same features.

Each engine's own uncached `train_step` trains a linear head on an identity network, so that nothing but the step
differs: order, schedule, rates, smoothing and class weights are the core's; the loss, its gradient, clipping and the
optimizer's formula are the framework's. A process for each framework.

    python benchmarks/trajectory.py [--steps 200] [--record]

Promised: losses within 1e-5 relative plus 1e-6 absolute, head weights within 1e-5 of their norm.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from common import machine_line, record, table

import zoo
from zoo.cards import ImagePreprocess, Recipe
from zoo.engine import HEAD_BIAS, HEAD_WEIGHT, Array, Batch, draw_head
from zoo.train.learner import HeadLearner, Learner, NetworkLearner
from zoo.train.loop import Plan, run

CLASSES, EXAMPLES, BATCH, SHAPE = 4, 200, 32, (3, 4, 4)
COMMON = Recipe(
    batch_size=BATCH, schedule="cosine", warmup_epochs=1.0, label_smoothing=0.1, weight_decay=0.01, clip_norm=0.3,
    seed=3,
)  # fmt: skip
RECIPES = {
    "SGD with momentum": dataclasses.replace(COMMON, optimizer="sgd", lr=0.1, momentum=0.9),
    "Adam": dataclasses.replace(COMMON, optimizer="adam", lr=0.01),
    "AdamW": dataclasses.replace(COMMON, optimizer="adamw", lr=0.01, weight_decay=0.05),
}
SIDES = ("numpy", "torch", "tf")
LOSS_RELATIVE, LOSS_ABSOLUTE, WEIGHTS = 1e-5, 1e-6, 1e-5


def data() -> tuple[Array, Array]:
    """float32 [N, 3, 4, 4] and int64 targets: classes that overlap, so that the loss stays well above 0."""
    rng = np.random.default_rng(0)
    targets = rng.integers(0, CLASSES, EXAMPLES)
    centres = rng.normal(size=(CLASSES, *SHAPE))
    return (centres[targets] + 6 * rng.normal(size=(EXAMPLES, *SHAPE))).astype(np.float32), targets


def network(side: str) -> Any:
    """The identity with a linear head, in torch's or TensorFlow's engine."""
    preprocess = ImagePreprocess(SHAPE[1], SHAPE[2], resize="exact", resize_to=SHAPE[1:])
    if side == "torch":
        import torch

        module: Any = torch.nn.Sequential()
        module.add_module("flat", torch.nn.Flatten())
        module.add_module("head", torch.nn.Linear(int(np.prod(SHAPE)), CLASSES))
        return zoo.wrap(module, preprocess=preprocess, head="head", blocks={"flat": ["flat"]}).engine
    import keras

    layers = keras.layers
    inputs = keras.Input((*SHAPE[1:], SHAPE[0]))
    flat = layers.Flatten(name="flat")(layers.Permute((3, 1, 2), name="first")(inputs))  # the order of NCHW
    model = keras.Model(inputs, layers.Dense(CLASSES, name="head")(flat))
    return zoo.wrap(model, preprocess=preprocess, head="head").engine


def learner(side: str, images: Array) -> Learner:
    """Starts from the same head everywhere."""
    weight, bias = draw_head(int(np.prod(SHAPE)), CLASSES, 7)
    if side == "numpy":
        return HeadLearner(images.reshape(len(images), -1), weight, bias)
    engine = network(side)
    engine.set_trainable(())
    engine.set_head(weight, bias)

    def source(order: Array, size: int, _epoch: int) -> Iterator[tuple[Array, Batch]]:
        for start in range(0, len(order), size):
            index = order[start : start + size]
            yield index, {"images": images[index]}

    return NetworkLearner(engine, source)


def trajectories(side: str, steps: int, path: Path) -> None:
    """Train with each recipe and write losses [S] and the head."""
    images, targets = data()
    found = {}
    for name, recipe in RECIPES.items():
        epochs = -(-steps // -(-EXAMPLES // BATCH))
        one = learner(side, images)
        history = run(one, dataclasses.replace(recipe, epochs=epochs), Plan(targets, CLASSES, ()))
        state = one.state()
        head = np.concatenate([state[HEAD_WEIGHT].ravel(), state[HEAD_BIAS]])
        found |= {f"{name}/losses": np.array(history.losses)[:steps], f"{name}/head": head}
    np.savez(path, **found)


def measure(steps: int) -> dict[str, dict[str, Array]]:
    """side -> name -> array, each side in a process of its own."""
    found = {}
    with tempfile.TemporaryDirectory() as scratch:
        for side in SIDES:
            path = Path(scratch) / f"{side}.npz"
            command = [sys.executable, __file__, "--worker", side, "--steps", str(steps), "--path", str(path)]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
            with np.load(path) as arrays:
                found[side] = dict(arrays)
    return found


def distances(found: dict[str, dict[str, Array]]) -> list[dict[str, Any]]:
    """For each optimizer and pair of sides: the worst loss, in units of its tolerance's two parts, and the head's."""
    rows = []
    for name, (one, other) in itertools.product(RECIPES, itertools.combinations(SIDES, 2)):
        a, b = found[one][f"{name}/losses"], found[other][f"{name}/losses"]
        head, like = found[one][f"{name}/head"], found[other][f"{name}/head"]
        rows.append(
            {
                "optimizer": name,
                "pair": f"{one}, {other}",
                "steps": len(a),
                "fell": f"{b[0]:.2f} to {b[-1]:.2f}",
                "loss": float((np.abs(a - b) / np.abs(b)).max()),
                "holds": bool((np.abs(a - b) <= LOSS_RELATIVE * np.abs(b) + LOSS_ABSOLUTE).all()),
                "head": float(np.linalg.norm(head - like) / np.linalg.norm(like)),
            }
        )
    return rows


def report(rows: list[dict[str, Any]]) -> str:
    """The section of RESULTS.md."""
    cells = [
        [f"{r['optimizer']}: {r['pair']}", r["steps"], r["fell"], f"{r['loss']:.1e}", f"{r['head']:.1e}"]
        for r in rows
    ]
    text = (
        "## One trajectory\n\n`python benchmarks/trajectory.py`: a head through each engine's own `train_step`, cosine "
        "with warm-up, smoothing, decay and clipping on. Promised: losses within 1e-5 relative plus 1e-6 absolute, "
        "head weights within 1e-5 of their norm."
    )
    header = ["optimizer and pair", "steps", "loss", "losses apart, relative", "head apart, of its norm"]
    return f"{text}\n\n{table(header, cells)}\n\n{machine_line('torch', 'tensorflow', 'keras', 'numpy')}"


def main() -> int:
    """Exit 1 where a promise is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--worker", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--path", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--record", action="store_true", help="write the section into RESULTS.md")
    given = parser.parse_args()
    if given.worker:
        trajectories(given.worker, given.steps, given.path)
        return 0
    rows = distances(measure(given.steps))
    text = report(rows)
    print(json.dumps(rows) if given.json else text)
    if given.record:
        record("trajectory", text)
    return int(not all(row["holds"] and row["head"] <= WEIGHTS for row in rows))


if __name__ == "__main__":
    sys.exit(main())
