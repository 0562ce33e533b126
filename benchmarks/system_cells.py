"""The twelve operations of `make systems`, run inside a worker process for one system.

Each returns {"shown": text, "value": figure, ...}; EXPECTED says what the figure must be.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from zoo import backbone, process
from zoo.backbone import Backbone
from zoo.cards import Budget, Recipe, TextPreprocess
from zoo.choose import benchmark, select
from zoo.data import Dataset, open_data, prepare, train_tokenizer

CELLS = (
    "load", "preprocess", "freeze", "partial freeze", "head swap", "SGD step", "Adam step", "predict",
    "save/load", "ONNX parity", "bench", "select",
)  # fmt: skip

MOST_STEPS = 6

EXPECTED: dict[str, Callable[[dict[str, Any]], bool]] = {
    "load": lambda cell: cell["value"] > 1e6,
    "preprocess": lambda cell: cell["value"] == 0.0 and cell["finite"],
    "freeze": lambda cell: cell["value"] == 0.0 and cell["head"] > 0,
    "partial freeze": lambda cell: cell["value"] == 0.0 and cell["moved"] > 0,
    "head swap": lambda cell: cell["value"] == 0.0 and cell["classes"] == 7,
    "SGD step": lambda cell: cell["value"] < cell["before"],
    "Adam step": lambda cell: cell["value"] < cell["before"],
    "predict": lambda cell: cell["value"] < 1e-5,
    "save/load": lambda cell: cell["value"] == 0.0,
    "ONNX parity": lambda cell: cell["value"] < 1e-3,
    "bench": lambda cell: cell["value"] > 0,
    "select": lambda cell: 0.0 <= cell["value"] <= 1.0 and cell["chosen"],
}


class System:
    """One system with a small data set: 4 examples a step."""

    def __init__(self, name: str, data: str, folder: str) -> None:
        self.name, self.folder = name, Path(folder)
        self.data: Dataset = open_data(data)
        self.path = data
        self.model: Backbone
        self.untrained: list[float] = []  # losses of MOST_STEPS steps at a rate of 0

    def batch(self) -> tuple[Any, Any]:
        """Four examples, two of each class, with one-hot targets."""
        rows = [0, 1, len(self.data) - 2, len(self.data) - 1]
        batch = prepare([self.data.inputs[row] for row in rows], self.model.preprocess)
        return batch, np.eye(2, dtype=np.float32)[self.data.targets[rows]]

    def steps(self, count: int, recipe: Recipe, *, lr: float | None = None) -> list[float]:
        """Losses of a few steps on one batch, dropout off where frozen only; at `lr` instead of the recipe's."""
        engine = self.model.engine
        engine.start_training(recipe)
        batch, targets = self.batch()
        rates = dict.fromkeys((*engine.trainable, "head"), recipe.lr if lr is None else lr)
        return [float(engine.train_step(batch, targets, lr=rates)) for _ in range(count)]

    def drift(self, before: dict[str, Any], blocks: set[str]) -> float:
        """Largest change of any value in these blocks since `before`."""
        now, owner = self.model.state(), self.model.engine.block_of()
        changes = [np.abs(now[k] - before[k]).max() for k in now if owner[k] in blocks and now[k].size]
        return float(max(changes, default=0.0))


def load(system: System) -> dict[str, Any]:
    """zoo.get at full size; texts without a tokenizer get a WordPiece of their own."""
    started = time.perf_counter()
    system.model = backbone.get(system.name, num_classes=2)
    plain = system.model.preprocess
    if isinstance(plain, TextPreprocess) and plain.tokenizer is None:
        texts = [str(text) for text in system.data.inputs]
        system.model.preprocess = replace(plain, tokenizer=train_tokenizer(texts, vocab_size=2000))
    seconds = time.perf_counter() - started
    params = sum(v.size for v in system.model.state().values())
    return {"shown": f"{params / 1e6:.1f} M, {seconds:.1f} s", "value": params}


def preprocess(system: System) -> dict[str, Any]:
    """Real files to a batch, twice the same."""
    first, again = system.batch()[0], system.batch()[0]
    gap = max(float(np.abs(first[k] - again[k]).max()) for k in first)
    main = next(iter(first.values()))
    finite = all(np.isfinite(v).all() for v in first.values())
    return {"shown": f"{list(main.shape)} {main.dtype}", "value": gap, "finite": bool(finite)}


def freeze(system: System) -> dict[str, Any]:
    """Frozen whole: after training nothing of the backbone moved, the head did."""
    system.model.freeze()
    before = system.model.state()
    system.steps(2, Recipe(optimizer="sgd", lr=1e-2))
    still = system.drift(before, set(system.model.blocks))
    head = system.drift(before, {"head"})
    return {"shown": f"drift {still:g}, head {head:.1e}", "value": still, "head": head}


def partial_freeze(system: System) -> dict[str, Any]:
    """The first half of the blocks frozen: those stay, the rest moves."""
    count = len(system.model.blocks) // 2
    system.model.unfreeze()
    system.model.freeze(upto=count)
    before = system.model.state()
    system.steps(2, Recipe(optimizer="sgd", lr=1e-3))
    still = system.drift(before, set(system.model.blocks[:count]))
    moved = system.drift(before, set(system.model.blocks[count:]))
    return {"shown": f"{count} blocks: {still:g}, rest {moved:.1e}", "value": still, "moved": moved}


def head_swap(system: System) -> dict[str, Any]:
    """Seven classes instead of two: the backbone is untouched."""
    before = system.model.state()
    system.model.replace_head(7, seed=1)
    classes = int(system.model.engine.logits(system.batch()[0]).shape[1])
    still = system.drift(before, set(system.model.blocks))
    system.model.replace_head(2, seed=0)
    return {"shown": f"{classes} classes, drift {still:g}", "value": still, "classes": classes}


def _falls(system: System, recipe: Recipe, *, steps: int) -> dict[str, Any]:
    """On one batch the last of these steps meets a lower loss than the same step at a rate of 0.

    Dropout is a function of (seed, step), so both meet the same masks: from step to step masks alone moved
    VGG-16's loss by 0.03, more than a few steps teach it.
    Networks with BatchNorm train whole: below a frozen block random weights meet statistics that are not
    theirs, and activations explode. Transformers train their last block and the head: all of 12 random
    layers need a warm-up that a few steps do not give.
    """
    kept = system.model.state()
    system.model.freeze()
    system.model.unfreeze(last=None if system.model.kind == "image" else 1)
    if not system.untrained:
        system.untrained = system.steps(MOST_STEPS, recipe, lr=0.0)
        system.model.engine.load_state(kept)
    before = system.untrained[steps - 1]
    after = system.steps(steps, recipe)[-1]
    system.model.engine.load_state(kept)
    return {"shown": f"loss {before:.3f} {after - before:+.1e}", "value": after, "before": before}


def sgd_step(system: System) -> dict[str, Any]:
    """One short step along the gradient, then the loss: a longer one overshoots in deep networks at random."""
    return _falls(system, Recipe(optimizer="sgd", lr=1e-4, clip_norm=1.0), steps=2)


def adam_step(system: System) -> dict[str, Any]:
    """Adam: five steps, then the loss."""
    return _falls(system, Recipe(optimizer="adam", lr=1e-4), steps=MOST_STEPS)


def predict(system: System) -> dict[str, Any]:
    """Probabilities for real inputs: rows sum to 1."""
    found = system.model.predict(list(system.data.inputs[:4]))
    gap = float(np.abs(found.sum(axis=1) - 1).max())
    return {"shown": f"{list(found.shape)}, sum 1 +- {gap:.0e}", "value": gap}


def save_load(system: System) -> dict[str, Any]:
    """Saved and loaded again: the same logits to the bit."""
    batch = system.batch()[0]
    before = system.model.engine.logits(batch)
    system.model.save(system.folder / "run")
    again = backbone.load(system.folder / "run").engine.logits(batch)
    gap = float(np.abs(before - again).max())
    return {"shown": f"logits differ by {gap:g}", "value": gap}


def relative(native: Any, ours: Any) -> float:
    """Largest difference over the outputs' spread across inputs; 1e-3 is where `zoo.graph` draws the line.

    float32's own noise, 64 units in the last place of the magnitude, counts as agreement there and here.
    """
    spread = float(np.ptp(native, axis=0).max())
    noise = 64 * 2.0**-23 * float(np.abs(native).max())
    return float(np.abs(native - ours).max()) / (spread + noise / 1e-3)


def onnx_parity(system: System) -> dict[str, Any]:
    """Exported: logits and features of ONNX Runtime against the native model on real inputs."""
    started = time.perf_counter()
    onnx = system.model.export(system.folder / "model.onnx")
    seconds = time.perf_counter() - started
    rows = [0, 1, 2, len(system.data) - 1]
    batch = prepare([system.data.inputs[row] for row in rows], system.model.preprocess)
    files = [str(system.data.inputs[row]) for row in rows]
    pairs = [
        (system.model.engine.logits(batch), onnx.logits(batch)),
        (system.model.features(files), onnx.features(files)),
    ]
    error = max(relative(native, ours) for native, ours in pairs)
    exporter = str(onnx.provenance.get("exporter", "?"))
    return {"shown": f"{error:.0e} {exporter} {seconds:.0f} s", "value": error, "exporter": exporter}


def bench(system: System) -> dict[str, Any]:
    """The meter on the exported file."""
    cost = benchmark(system.folder / "model.onnx", sequence_length=32)[0]
    if cost.error or cost.latency_p50_ms is None or cost.macs is None or cost.peak_memory_mb is None:
        return {"shown": f"no figures: {cost.error}", "value": 0.0}
    shown = f"{cost.latency_p50_ms:.1f} ms, {cost.macs / 1e9:.2f} G, {cost.peak_memory_mb:.0f} MB"
    return {"shown": shown, "value": cost.latency_p50_ms}


def select_cell(system: System) -> dict[str, Any]:
    """zoo.select with this one candidate: chosen, and evaluated on the held-out part."""
    candidate = str(system.folder / "run")
    found = select(
        system.path,
        budget=Budget(latency_ms=60_000),
        candidates=[candidate],
        folds=3,
        out=system.folder / "pick",
    )
    accuracy = float(found.test["accuracy"])
    return {
        "shown": f"test {accuracy:.2f} of {found.test['n']}",
        "value": accuracy,
        "chosen": bool(found.best),
    }


STEPS: dict[str, Callable[[System], dict[str, Any]]] = dict(
    zip(
        CELLS,
        (
            load, preprocess, freeze, partial_freeze, head_swap, sgd_step, adam_step, predict, save_load,
            onnx_parity, bench, select_cell,
        ),
        strict=True,
    )
)  # fmt: skip


def run(system: str, data: str, folder: str) -> None:
    """Run every cell in order and report each as it comes."""
    state = System(system, data, folder)
    for name, step in STEPS.items():
        process.report({name: step(state)})
