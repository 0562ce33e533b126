"""The learning rate at a step, in float64, so that every framework is told the same number."""

from __future__ import annotations

import math

from zoo.cards import Recipe


def steps_per_epoch(examples: int, batch_size: int) -> int:
    """Batches in an epoch; the last, partial one counts."""
    return -(-examples // batch_size)


def rate(recipe: Recipe, step: int, steps_in_epoch: int) -> float:
    """Rate of step 0, 1, ...: linear warm-up that reaches `lr` at its last step, then constant or cosine.

    Cosine falls from `lr` to 0 over what is left of the run, as torch's CosineAnnealingLR stepped once a
    step does (Loshchilov & Hutter 2017, without restarts).
    """
    warm = round(recipe.warmup_epochs * steps_in_epoch)
    if step < warm:
        return recipe.lr * (step + 1) / warm
    if recipe.schedule == "constant":
        return recipe.lr
    done = (step - warm) / max(1, recipe.epochs * steps_in_epoch - warm)
    return recipe.lr * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
