"""What the contract's tests are written with: batches for any engine, short trainings, exact comparisons."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

from zoo.cards import ImagePreprocess, Recipe
from zoo.engine import HEAD, Array, Batch, Engine
from zoo.train.optim import Optimizer

SGD = Recipe(optimizer="sgd", lr=0.05, momentum=0.9)


@dataclass(frozen=True)
class Case:
    """One adapter x network that must keep the contract.

    id: "framework:anything"; saving and rebuilding are tried where that framework is installed.
    make: gives a new engine with the same values at each call: tiny, seeded, offline.
    at_depth: the engine that the adapter loads at this depth, values as `make`'s; for engines with `depths`.
    vocab_size: ids below it are drawn for text networks (default: the preprocess's).
    tolerance: of two ways to compute one thing (batch size, padding, ONNX), relative to the spread of the
    outputs across inputs.  lr: Adam's, for the test that the loss falls.
    xfail: test name -> reason. The test must fail then (strict): an exception is data, with its reason.
    """

    id: str
    make: Callable[[], Engine]
    at_depth: Callable[[int], Engine] | None = None
    vocab_size: int | None = None
    tolerance: float = 1e-4
    lr: float = 1e-2
    xfail: Mapping[str, str] = field(default_factory=dict)

    @property
    def framework(self) -> str:
        """The part of the id before the colon."""
        return self.id.partition(":")[0]

    def engine(self, num_classes: int = 3, *, seed: int = 0) -> Engine:
        """A new engine with a fresh head."""
        engine = self.make()
        engine.reset_head(num_classes, seed=seed)
        return engine

    def batch(self, engine: Engine, n: int = 6, *, seed: int = 0, length: int = 12) -> Batch:
        """Inputs of very different brightness, or texts of different lengths (the first has all tokens)."""
        rng = np.random.default_rng([seed, n])
        preprocess = engine.preprocess
        if isinstance(preprocess, ImagePreprocess):
            noise = rng.normal(size=(n, 3, preprocess.height, preprocess.width))
            images = noise * rng.uniform(0.2, 1.5, (n, 1, 1, 1)) + rng.normal(0, 1, (n, 3, 1, 1))
            return {"images": images.astype(np.float32)}
        length = min(length, preprocess.max_length)
        lengths = np.append(length, rng.integers(2, length + 1, n - 1))
        mask = (np.arange(length) < lengths[:, None]).astype(np.int64)
        vocabulary = self.vocab_size or preprocess.vocab_size
        ids = rng.integers(0, vocabulary - 1, (n, length))
        ids = np.where(mask == 1, ids + (ids >= preprocess.pad_id), preprocess.pad_id)
        arrays = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        return {name: arrays[name] for name in engine.inputs}


def targets_for(n: int, num_classes: int, *, seed: int = 0) -> Array:
    """One-hot float32 [N, C], every class present where n allows."""
    classes = np.random.default_rng([seed, n, num_classes]).permutation(np.arange(n) % num_classes)
    targets: Array = np.eye(num_classes, dtype=np.float32)[classes]
    return targets


def rows(batch: Batch, chosen: slice | list[int]) -> Batch:
    """Some samples of a batch."""
    return {name: array[chosen] for name, array in batch.items()}


def padded(batch: Batch, columns: int, pad_id: int) -> Batch:
    """A text batch with more padding on the right."""
    fill = {"input_ids": pad_id}
    return {
        name: np.pad(array, ((0, 0), (0, columns)), constant_values=fill.get(name, 0))
        for name, array in batch.items()
    }


def rates(engine: Engine, lr: float) -> dict[str, float]:
    """One rate for all that trains."""
    return dict.fromkeys([*engine.trainable, HEAD], lr)


def train(
    engine: Engine,
    batch: Batch,
    *,
    recipe: Recipe = SGD,
    steps: int = 3,
    lr: Mapping[str, float] | None = None,
    start: bool = True,
) -> list[float]:
    """The losses of some steps on one batch. start=False goes on with a training that has begun."""
    if start:
        engine.start_training(recipe)
    targets = targets_for(len(next(iter(batch.values()))), engine.num_classes or 0)
    chosen = rates(engine, recipe.lr) if lr is None else lr
    return [float(engine.train_step(batch, targets, lr=chosen)) for _ in range(steps)]


def changed(before: Mapping[str, Array], after: Mapping[str, Array]) -> set[str]:
    """Keys whose bits differ, or that only one of the two has."""
    both = before.keys() & after.keys()
    moved = {
        k for k in both if before[k].tobytes() != after[k].tobytes() or before[k].shape != after[k].shape
    }
    return moved | (before.keys() ^ after.keys())


def keys_of(engine: Engine, blocks: Collection[str]) -> set[str]:
    """Keys of `state()` that belong to these blocks (or "head")."""
    return {key for key, block in engine.block_of().items() if block in blocks}


def statistics(engine: Engine, batch: Batch) -> set[str]:
    """Keys that training moves by looking at data and not by a gradient: what a step at rate 0 changes.

    Trains: use an engine made for this.
    """
    before = engine.state()
    train(engine, batch, steps=1, lr=rates(engine, 0.0))
    return changed(before, engine.state())


def error(got: Array, want: Array, scale: Array | None = None) -> float:
    """Largest difference, relative to the spread across inputs of `scale` [N, D] (default: `want`), N > 1.

    Absolute figures say nothing: random networks give logits from 1e-9 to 1e12.
    """
    if got.shape != want.shape or not np.isfinite(got).all():
        return float("inf")
    scale = want if scale is None else scale
    spread = np.abs(scale.astype(np.float64) - scale.mean(0)).max()
    return float(np.abs(got.astype(np.float64) - want).max() / max(float(spread), 1e-30))


def softmax_loss(logits: Array, targets: Array, weights: Array | None = None) -> float:
    """Mean cross-entropy in float64, weighted: sum(w * loss) / sum(w)."""
    shifted = logits.astype(np.float64) - logits.max(1, keepdims=True)
    losses = -(targets * (shifted - np.log(np.exp(shifted).sum(1, keepdims=True)))).sum(1)
    return float(np.average(losses, weights=weights))


def train_head(
    features: Array, targets: Array, recipe: Recipe, *, weight: Array, bias: Array, steps: int
) -> tuple[Array, Array]:
    """The reference: a linear head on features [N, D] with zoo.train.optim's formulas; returns a new one."""
    values, optimizer = {"weight": weight.copy(), "bias": bias.copy()}, Optimizer(recipe)
    for _ in range(steps):
        logits = features.astype(np.float64) @ values["weight"].T + values["bias"]
        share = np.exp(logits - logits.max(1, keepdims=True))
        slope = (share / share.sum(1, keepdims=True) - targets) / len(targets)
        gradients = {"weight": slope.T @ features, "bias": slope.sum(0)}
        optimizer.update(values, gradients, dict.fromkeys(values, recipe.lr))
    return values["weight"], values["bias"]


def run_graph(path: Path, batch: Batch) -> dict[str, Array]:
    """Outputs by name of an ONNX file that onnx.checker has taken."""
    onnx.checker.check_model(path, full_check=True)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert [i.name for i in session.get_inputs()] == list(batch), (
        "the graph's inputs must be named as the engine's"
    )
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(batch)), strict=True))
