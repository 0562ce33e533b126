"""The part of the contract on steps that a longer training needs: in micro batches, in bfloat16, in phases."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from zoo.cards import Recipe
from zoo.engine import HEAD, HEAD_WEIGHT, Array
from zoo.errors import InputError
from zoo.testing.helpers import Case, changed, softmax_loss, targets_for, train

STEPS, LR, TOLERANCE = 3, 0.05, 1e-5
ADAM = Recipe(optimizer="adam", lr=0.01, weight_decay=0.01)
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

    def test_bfloat16_is_for_the_step_alone(self, case: Case) -> None:
        """It is used and resumes to the bit; weights and inference stay float32. Or it is refused."""
        plain, mixed, again, fresh = (case.engine() for _ in range(4))
        batch, bf16 = case.batch(plain), dataclasses.replace(WHOLE, precision="bf16", clip_norm=1.0)
        want = train(plain, batch, recipe=dataclasses.replace(bf16, precision="fp32"), steps=1)
        before = mixed.state()
        try:
            mixed.start_training(bf16)
        except InputError as error:
            assert "bf16" in str(error)
            return
        losses = train(mixed, batch, recipe=bf16, steps=1, start=False)
        assert losses[0] == pytest.approx(want[0], rel=0.05) and losses != want, "computed in float32"
        state, slots = mixed.state(), mixed.training_state()
        assert {k: v.dtype for k, v in state.items()} == {k: v.dtype for k, v in before.items()}
        assert not _all_bfloat16(state[HEAD_WEIGHT]), "weights were rounded to bfloat16"
        again.load_state(state)
        again.start_training(bf16)
        again.load_training_state(slots)
        for engine in (mixed, again):
            train(engine, batch, recipe=bf16, steps=2, start=False)
        assert not changed(mixed.state(), again.state()), "a resumed run went another way"
        fresh.load_state(mixed.state())
        assert fresh.logits(batch).tobytes() == mixed.logits(batch).tobytes(), "inference in bfloat16"

    def test_other_weights_are_looked_through(self, case: Case) -> None:
        """Weights that are put in, judged and taken out again between two steps (an average) leave no trace."""
        plain, looked = case.engine(), case.engine()
        batch = case.batch(plain)
        for engine in (plain, looked):
            train(engine, batch, recipe=ADAM, steps=2)
        state = looked.state()
        looked.load_state({k: v * v.dtype.type(0.5) if v.dtype.kind == "f" else v for k, v in state.items()})
        assert changed({"": looked.logits(batch)}, {"": plain.logits(batch)}), (
            "other weights, the same logits"
        )
        looked.load_state(state)
        for engine in (plain, looked):
            train(engine, batch, recipe=ADAM, steps=2, start=False)
        assert not changed(plain.state(), looked.state()), "the look left a trace in the weights"
        assert not changed(plain.training_state(), looked.training_state()), "or in the optimizer"

    def test_a_phase_starts_anew(self, case: Case) -> None:
        """The head first, then all: the second phase goes as in an engine that has just been given the weights."""
        phased, fresh = case.engine(), case.engine(seed=9)
        batch, second = case.batch(phased), dataclasses.replace(ADAM, seed=5)
        phased.set_trainable(())
        train(phased, batch, recipe=ADAM, steps=2)
        fresh.load_state(phased.state())
        for engine in (phased, fresh):
            engine.set_trainable(engine.blocks)
            train(engine, batch, recipe=second, steps=2)
        assert not changed(phased.state(), fresh.state()), "the phase before is still in the optimizer"

    def test_numerics_are_text_and_stay(self, case: Case) -> None:
        """Names and values that a checkpoint keeps; training does not change them."""
        engine = case.engine()
        before = engine.numerics()
        assert all(isinstance(part, str) for pair in before.items() for part in pair)
        train(engine, case.batch(engine), steps=1)
        assert engine.numerics() == before == case.engine().numerics()


def _all_bfloat16(values: Array) -> bool:
    """Whether every float32 is one whose last 16 bits are 0."""
    return not (np.ascontiguousarray(values).view(np.uint32) & 0xFFFF).any()
