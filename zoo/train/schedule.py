"""What the learning rate is at a step and what trains in an epoch, so that every framework is told the same.

In float64, functions of the recipe and the position alone: a resumed run needs no state of them.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from zoo.cards import Recipe
from zoo.engine import HEAD, Array
from zoo.errors import InputError

RISE, START, END = 0.3, 25.0, 1e4
"""one_cycle: share of the steps that rise, lr / first rate, first / last rate: torch's OneCycleLR defaults."""


def steps_per_epoch(examples: int, batch_size: int) -> int:
    """Batches in an epoch; the last, partial one counts."""
    return -(-examples // batch_size)


def rate(recipe: Recipe, step: int, steps_in_epoch: int) -> float:
    """The head's rate at step 0, 1, ...: `head_lr` while the head trains alone, then the schedule.

    The schedule has the remaining steps: linear warm-up that reaches `lr` at its last step, then constant
    or cosine, which falls to 0 as torch's CosineAnnealingLR stepped once a step does (Loshchilov & Hutter
    2017, without restarts); or one_cycle, as torch's OneCycleLR (Smith & Topin 2018; the rate alone, the
    momentum stays).
    """
    head = recipe.head_epochs * steps_in_epoch
    if step < head:
        return recipe.lr if recipe.head_lr is None else recipe.head_lr
    step, total = step - head, recipe.epochs * steps_in_epoch - head
    if recipe.schedule == "one_cycle":
        return _one_cycle(recipe.lr, step, total)
    warm = round(recipe.warmup_epochs * steps_in_epoch)
    if step < warm:
        return recipe.lr * (step + 1) / warm
    if recipe.schedule == "constant":
        return recipe.lr
    done = (step - warm) / max(1, total - warm)
    return recipe.lr * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def _one_cycle(lr: float, step: int, total: int) -> float:
    first, top = lr / START, RISE * total - 1
    if step <= top:
        return _cosine(first, lr, step / top)
    return _cosine(lr, first / END, (step - top) / max(total - 1 - top, 1e-9))


def _cosine(start: float, end: float, done: float) -> float:
    return end + (start - end) / 2 * (1 + math.cos(math.pi * min(1.0, done)))


def block_rates(recipe: Recipe, lr: float, blocks: Sequence[str], trained: Sequence[str]) -> dict[str, float]:
    """A rate for the head and each trained block: lr * layer_decay ** (distance from the head).

    blocks: all of the backbone's, stem first; the last is at distance 1 (as in timm's layer decay).
    """
    distance = {name: len(blocks) - i for i, name in enumerate(blocks)}
    return {HEAD: lr, **{name: lr * recipe.layer_decay ** distance[name] for name in trained}}


@dataclass(frozen=True)
class Phase:
    """A stretch of epochs in which the same blocks train. index: from 0; a new one has a new optimizer."""

    index: int
    blocks: tuple[str, ...]

    def recipe(self, recipe: Recipe) -> Recipe:
        """What the engine is started with: a seed of the phase's own, as its steps count from 0 again."""
        if self.index == 0:
            return recipe
        seed = int(np.random.SeedSequence([recipe.seed, self.index]).generate_state(1)[0])
        return dataclasses.replace(recipe, seed=seed)


def phase(recipe: Recipe, epoch: int, blocks: Sequence[str]) -> Phase:
    """What trains in epoch 0, 1, ... of a run that trains `blocks` in the end, stem first."""
    counts = [_training(recipe, e, len(blocks)) for e in range(epoch + 1)]
    index = sum(a != b for a, b in itertools.pairwise(counts))
    return Phase(index, tuple(blocks[len(blocks) - counts[-1] :]))


def _training(recipe: Recipe, epoch: int, most: int) -> int:
    """How many blocks train, counted from the last one."""
    if epoch < recipe.head_epochs:
        return 0
    if recipe.unfreeze_every is None:
        return most
    return min(most, 1 + (epoch - recipe.head_epochs) // recipe.unfreeze_every)


def class_weights(recipe: Recipe, targets: Array, num_classes: int) -> Array | None:
    """float32 [C]: what an example of each class counts in the mean loss; None: all the same.

    "balanced" is scikit-learn's N / (C * n_c).  Raises InputError where there is not a number a class.
    """
    given = recipe.class_weights
    if given is None:
        return None
    if given == "balanced":
        counts = np.bincount(targets, minlength=num_classes)
        return (len(targets) / (num_classes * np.maximum(counts, 1))).astype(np.float32)
    if len(given) != num_classes:
        raise InputError(
            f"class_weights has {len(given)} numbers and the data {num_classes} classes: give one for each, in "
            "the order of the classes, or 'balanced'"
        )
    return np.asarray(given, np.float32)
