"""Training runs of the truth table: a head on kept features, or a whole network through its engine's own steps.

The same loop, recipes and rates as `zoo tune`; only decoding is left out, as each photograph is kept decoded at the
network's size: the oracle is made cheaper by that, never dearer.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from select_space import Network, Split, Task

from zoo import backbone
from zoo.cards import Recipe, TextPreprocess
from zoo.choose import trial
from zoo.choose.arms import Arm
from zoo.data import batches
from zoo.engine import Array, Batch
from zoo.errors import DivergedError
from zoo.probability import cross_entropy
from zoo.train import fit_head
from zoo.train.learner import NetworkLearner, Source, preprocessed
from zoo.train.loop import Plan, run

BATCH = 32


def key(arm: Arm, epochs: int, seed: int, split: int) -> str:
    """What a run goes by in its journal."""
    return f"{arm.key}/epochs {epochs}/seed {seed}/split {split}"


def head_run(features: Array, targets: Array, split: Split, recipe: Recipe, classes: int) -> dict[str, Any]:
    """Train a head on the training part. features: float32 [N, D] of the pool."""
    started, cpu = time.perf_counter(), time.process_time()
    try:
        weight, bias, _ = fit_head(features[split.train], targets[split.train], recipe, num_classes=classes)
    except DivergedError as error:
        return {
            "failed": str(error),
            "seconds": time.perf_counter() - started,
            "cpu": time.process_time() - cpu,
        }
    held = features[split.validation] @ weight.T + bias
    seconds = {"seconds": time.perf_counter() - started, "cpu": time.process_time() - cpu}
    return judged(held, features[split.test] @ weight.T + bias, targets, split) | seconds


def judged(validation: Array, test: Array, targets: Array, split: Split) -> dict[str, Any]:
    """Logits [M, C] of both parts as what the table keeps: the loss, and which examples came out right."""
    return {
        "validation_loss": cross_entropy(validation, targets[split.validation]),
        "validation": bits(validation.argmax(axis=1) == targets[split.validation]),
        "test": bits(test.argmax(axis=1) == targets[split.test]),
    }


def bits(right: Array) -> str:
    """bool [M] as "0110"."""
    return "".join("1" if one else "0" for one in right)


@dataclass
class Whole:
    """A network in this process, put back before each run, and the pool as it reads it."""

    bench: trial.Bench
    targets: Array
    source_of: Callable[[Array], Source]
    device: str = "cpu"

    @classmethod
    def load(cls, network: Network, task: Task, device: str) -> Whole:
        """Load the network and prepare the pool."""
        data = task.data
        model = backbone.get(network.taught_as or network.id, num_classes=len(data.classes), device=device)
        bench = trial.Bench(model, data, data, model.state(), Path(), taught=False)
        if isinstance(model.preprocess, TextPreprocess):
            texts, preprocess = data.inputs, model.preprocess
            return cls(
                bench, data.targets, lambda rows: preprocessed([texts[i] for i in rows], preprocess), device
            )
        images = np.concatenate(
            [batch["images"] for _, batch in batches(data.inputs, model.preprocess, batch_size=64)]
        )
        return cls(bench, data.targets, lambda rows: _in_memory(images, rows), device)

    def run(self, split: Split, recipe: Recipe) -> dict[str, Any]:
        """Train all layers; seconds hold training and validation, not the test, which no choice pays for."""
        blocks = self.bench.model.blocks
        engine = self.bench.fresh(len(blocks), recipe.seed).engine
        learner = NetworkLearner(engine, self.source_of(split.train))
        plan = Plan(self.targets[split.train], len(self.bench.train.classes), engine.trainable)
        started, cpu = time.perf_counter(), time.process_time()
        try:
            run(learner, recipe, plan)
            validation = self._logits(split.validation)
        except DivergedError as error:
            failed: dict[str, Any] = {"failed": str(error)}
        else:
            failed = {}
        seconds = {"seconds": time.perf_counter() - started, "cpu": time.process_time() - cpu}
        seconds |= {"device": self.device} if self.device != "cpu" else {}
        if failed:
            return failed | seconds
        return judged(validation, self._logits(split.test), self.targets, split) | seconds

    def _logits(self, rows: Array) -> Array:
        source = self.source_of(rows)
        found = [self.bench.model.engine.logits(batch) for _, batch in source(np.arange(len(rows)), BATCH, 0)]
        return np.concatenate(found)


def _in_memory(images: Array, rows: Array) -> Source:
    def source(order: Array, size: int, epoch: int) -> Iterator[tuple[Array, Batch]]:
        for start in range(0, len(order), size):
            index = order[start : start + size]
            yield index, {"images": images[rows[index]]}

    return source
