"""The part of the contract on how a step may be computed: in micro batches, in bfloat16, and still one step."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from zoo.cards import Recipe
from zoo.engine import HEAD
from zoo.testing.helpers import Case, softmax_loss, targets_for

STEPS, LR, TOLERANCE = 3, 0.05, 1e-5
WHOLE = Recipe(optimizer="sgd", lr=LR, momentum=0.9, weight_decay=0.01)


class TrainingContract:
    """`ModelContract` has it."""

    @pytest.mark.parametrize("clip_norm", [None, 0.05])
    def test_micro_batches_add_up(self, case: Case, clip_norm: float | None) -> None:
        """In parts of 4 and 2, the parts of unequal weight, the head goes as with all six at once.

        The backbone is frozen: batch norm that trains sees the parts, and may.
        """
        whole, parts = case.engine(), case.engine()
        batch, targets = case.batch(whole), targets_for(6, 3)
        weights = np.array([1, 0.5, 2, 1, 3, 0], np.float32)
        recipe = dataclasses.replace(WHOLE, clip_norm=clip_norm)
        small = dataclasses.replace(recipe, micro_batch_size=4)
        want = softmax_loss(whole.logits(batch), targets, weights)
        for engine, chosen in ((whole, recipe), (parts, small)):
            engine.set_trainable(())
            engine.start_training(chosen)
            losses = [
                float(engine.train_step(batch, targets, lr={HEAD: LR}, weights=weights)) for _ in range(STEPS)
            ]
            assert losses[0] == pytest.approx(want, rel=1e-4), "the loss is not the whole batch's"
        for got, wish in zip(parts.head() or (), whole.head() or (), strict=True):
            assert np.abs(got - wish).max() <= TOLERANCE * np.abs(wish).max()
