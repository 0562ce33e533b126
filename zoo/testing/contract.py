"""The contract of `zoo.engine.Engine`, as tests. An adapter is right when every case passes.

    class TestMine(ModelContract):
        case = Case("mine:tiny", make=load_tiny)          # or: cases = (Case(...), Case(...))

Each test is named after the fault that it catches; tests/core/test_contract_catches.py proves that it does.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from zoo import registry
from zoo.cards import Recipe, TextPreprocess
from zoo.engine import HEAD, HEAD_BIAS, HEAD_WEIGHT, Array, Engine, draw_head
from zoo.errors import WeightsCorruptError
from zoo.graph import export_engine
from zoo.testing.helpers import (
    SGD,
    Case,
    changed,
    error,
    keys_of,
    padded,
    rates,
    rows,
    run_graph,
    softmax_loss,
    statistics,
    targets_for,
    train,
    train_head,
)
from zoo.testing.training_contract import TrainingContract
from zoo.train import load, save

OPSET = 18
OPTIMIZERS = {
    "sgd": Recipe(optimizer="sgd", lr=0.05, momentum=0.9, weight_decay=0.01),
    "adam": Recipe(optimizer="adam", lr=0.01, weight_decay=0.01),
    "adamw": Recipe(optimizer="adamw", lr=0.01, weight_decay=0.05),
    "clipped": Recipe(optimizer="sgd", lr=0.05, momentum=0.9, clip_norm=0.05),
}


class ModelContract(TrainingContract):
    """Subclass with `case` or `cases`."""

    case: ClassVar[Case | None] = None
    cases: ClassVar[tuple[Case, ...]] = ()

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """One test per case; `Case.xfail` becomes a strict xfail."""
        cases = self.cases or ((self.case,) if self.case else ())
        name = metafunc.function.__name__
        params = []
        for case in cases:
            if unknown := [test for test in case.xfail if not hasattr(self, test)]:
                raise ValueError(f"{case.id}: xfail names no test of the contract: {unknown}")
            reason = case.xfail.get(name)
            marks = [pytest.mark.xfail(reason=reason, strict=True)] if reason else []
            params.append(pytest.param(case, id=case.id, marks=marks))
        if "case" in metafunc.fixturenames:
            metafunc.parametrize("case", params)

    # --- inference
    def test_shapes_and_dtypes(self, case: Case) -> None:
        """float32 [N, D] and [N, C]; what the attributes say is so."""
        engine = case.engine(3)
        batch = case.batch(engine, 4)
        features, logits = engine.features(batch), engine.logits(batch)
        assert features.shape == (4, engine.feature_dim) and logits.shape == (4, 3)
        assert features.dtype == logits.dtype == np.float32
        assert np.isfinite(features).all() and np.isfinite(logits).all()
        assert engine.trainable == engine.blocks, "a new engine trains all of its blocks"
        assert not engine.depths or list(engine.depths) == sorted(set(engine.depths))

    def test_inference_changes_nothing(self, case: Case) -> None:
        """Not even a running statistic."""
        engine = case.engine()
        before, batch = engine.state(), case.batch(engine)
        first = engine.features(batch)
        engine.logits(batch)
        assert not changed(before, engine.state())
        assert np.array_equal(first, engine.features(batch)), "the same inputs gave other features"

    def test_inference_is_per_sample(self, case: Case) -> None:
        """The other samples of a batch have no influence, before training and after."""
        engine = case.engine()
        batch = case.batch(engine)
        for _ in range(2):
            together = engine.features(batch)
            alone = np.concatenate([engine.features(rows(batch, [i])) for i in range(len(together))])
            assert error(alone, together) <= case.tolerance
            train(engine, batch, steps=1)

    def test_padding_does_not_matter(self, case: Case) -> None:
        """A text has the same features in a longer batch."""
        engine = case.engine()
        if not isinstance(engine.preprocess, TextPreprocess):
            pytest.skip("images are not padded")
        batch = case.batch(engine, length=min(8, engine.preprocess.max_length - 3))
        wider = padded(batch, 3, engine.preprocess.pad_id)
        assert error(engine.features(wider), engine.features(batch)) <= case.tolerance

    # --- blocks
    def test_blocks_cover_the_state(self, case: Case) -> None:
        """Every key in one block or the head, no block without keys."""
        engine = case.engine()
        owner = engine.block_of()
        assert owner.keys() == engine.state().keys()
        assert set(owner.values()) == {*engine.blocks, HEAD}
        assert keys_of(engine, [HEAD]) == {HEAD_WEIGHT, HEAD_BIAS}

    # --- the head
    @pytest.mark.parametrize("num_classes", [2, 7])
    def test_reset_head(self, case: Case, num_classes: int) -> None:
        """`draw_head`'s values, so the same in every framework; the backbone stays."""
        engine = case.engine(3)
        before, batch = engine.state(), case.batch(engine, 3)
        features = engine.features(batch)
        engine.reset_head(num_classes, seed=5)
        assert engine.num_classes == num_classes and engine.logits(batch).shape == (3, num_classes)
        _same_head(engine, draw_head(engine.feature_dim, num_classes, 5))
        assert changed(before, engine.state()) == {HEAD_WEIGHT, HEAD_BIAS}
        assert np.array_equal(features, engine.features(batch))

    def test_head_is_linear_on_features(self, case: Case) -> None:
        """logits == features @ weight.T + bias, with no activation between."""
        engine = case.engine(4)
        batch = case.batch(engine)
        weight, bias = engine.head() or (np.zeros(0), np.zeros(0))
        assert error(engine.logits(batch), engine.features(batch) @ weight.T + bias) <= case.tolerance
        weight += 1
        assert changed({"w": weight}, {"w": (engine.head() or (weight,))[0]}), "head() is a view"

    # --- freezing
    def test_freeze_keeps_backbone_bit_identical(self, case: Case) -> None:
        """Weights and running statistics, while the head trains."""
        engine = case.engine()
        engine.set_trainable(())
        before = engine.state()
        train(engine, case.batch(engine), recipe=OPTIMIZERS["adamw"])
        moved = changed(before, engine.state())
        assert not moved - {HEAD_WEIGHT, HEAD_BIAS}, "a frozen weight or running statistic moved"
        assert moved == {HEAD_WEIGHT, HEAD_BIAS}, "the head did not train"
        assert engine.trainable == ()

    def test_partial_freeze(self, case: Case) -> None:
        """The first half of the blocks stays still, each of the others moves."""
        engine = case.engine()
        half = max(1, len(engine.blocks) // 2)
        still, free = engine.blocks[:half], engine.blocks[half:]
        engine.set_trainable(free)
        before = engine.state()
        train(engine, case.batch(engine), recipe=OPTIMIZERS["adam"])
        moved = changed(before, engine.state())
        assert not moved & keys_of(engine, still), "something in a frozen block moved"
        assert all(moved & keys_of(engine, [block]) for block in (*free, HEAD)), "a block did not train"
        assert engine.trainable == free

    def test_unfreeze_gives_back_what_was(self, case: Case) -> None:
        """Freezing and unfreezing leaves no trace: training goes as if it had never been."""
        never, again = case.engine(), case.engine()
        before = again.state()
        again.set_trainable(())
        train(again, case.batch(again), steps=1)
        again.load_state(before)
        again.set_trainable(again.blocks)
        assert again.trainable == again.blocks and not changed(before, again.state())
        for engine in (never, again):
            train(engine, case.batch(engine), steps=2)
        moved = changed(before, again.state())
        assert all(moved & keys_of(again, [block]) for block in again.blocks), "a block stayed frozen"
        assert not changed(never.state(), again.state()), "the frozen spell left a trace"

    # --- training
    def test_loss_falls(self, case: Case) -> None:
        """On a frozen backbone, where it must; each loss is the one before its step."""
        engine = case.engine()
        engine.set_trainable(())
        batch = case.batch(engine, 16)
        want = softmax_loss(engine.logits(batch), targets_for(16, 3))
        losses = train(engine, batch, recipe=Recipe(optimizer="adam", lr=case.lr), steps=20)
        assert losses[-1] < losses[0]
        assert losses[0] == pytest.approx(want, rel=1e-4)

    @pytest.mark.parametrize("optimizer", list(OPTIMIZERS))
    def test_frozen_training_is_training_the_head(self, case: Case, optimizer: str) -> None:
        """Through a frozen backbone the head goes as torch's formulas take it on `features`.

        Also with soft targets. So dropout, batch norm and the optimizer's formula are right, or this fails.
        """
        recipe, engine = OPTIMIZERS[optimizer], case.engine()
        engine.set_trainable(())
        batch = case.batch(engine)
        targets = targets_for(6, 3) * np.float32(0.8) + np.float32(0.2 / 3)
        weight, bias = engine.head() or (np.zeros(0), np.zeros(0))
        want = train_head(engine.features(batch), targets, recipe, weight=weight, bias=bias, steps=3)
        engine.start_training(recipe)
        for _ in range(3):
            engine.train_step(batch, targets, lr={HEAD: recipe.lr})
        _same_head(engine, want, tolerance=1e-5)

    def test_sample_weights(self, case: Case) -> None:
        """A sample of weight 0 has no influence: the step is the one without it."""
        few, all_six = case.engine(), case.engine()
        batch, targets = case.batch(few), targets_for(6, 3)
        weights = np.array([1, 0.5, 2, 1, 0, 0], np.float32)
        for engine, n in ((few, 4), (all_six, 6)):
            engine.set_trainable(())
            engine.start_training(SGD)
            part = rows(batch, slice(n))
            want = softmax_loss(engine.logits(part), targets[:n], weights[:n])
            loss = engine.train_step(part, targets[:n], lr={HEAD: 0.05}, weights=weights[:n])
            assert float(loss) == pytest.approx(want, rel=1e-4), "the loss is the weighted mean"
        _same_head(all_six, few.head(), tolerance=1e-5)

    def test_a_rate_for_each_block(self, case: Case) -> None:
        """Rate 0 leaves a block's weights (statistics are looked at, not learnt), the others move."""
        engine = case.engine()
        batch = case.batch(engine)
        looked_at = statistics(case.engine(), batch)
        still, before = engine.blocks[-1], engine.state()
        train(engine, batch, recipe=OPTIMIZERS["adamw"], lr=rates(engine, 0.01) | {still: 0.0})
        moved = changed(before, engine.state())
        assert not (moved & keys_of(engine, [still])) - looked_at, f"{still} moved at rate 0"
        assert all(moved & keys_of(engine, [block]) for block in (*engine.blocks[:-1], HEAD))

    def test_clip_norm_is_global(self, case: Case) -> None:
        """One SGD step at rate 1 goes exactly as far as the clipped norm over all that trains."""
        engine = case.engine()
        batch, before = case.batch(engine), engine.state()
        keys = sorted(before.keys() - statistics(case.engine(), batch))
        train(engine, batch, recipe=Recipe(optimizer="sgd", momentum=0.0, clip_norm=0.05), steps=1,
              lr=rates(engine, 1.0))  # fmt: skip
        after = engine.state()
        moved = [np.square(after[k].astype(np.float64) - before[k]).sum() for k in keys]
        assert np.sqrt(sum(moved)) == pytest.approx(0.05, rel=0.02)

    def test_same_seed_same_training(self, case: Case) -> None:
        """Bit for bit; another seed of the head gives another training."""
        states = []
        for seed in (0, 0, 1):
            engine = case.engine(seed=seed)
            train(engine, case.batch(engine), recipe=OPTIMIZERS["adamw"])
            states.append(engine.state())
        assert not changed(states[0], states[1])
        assert changed(states[0], states[2]) >= {HEAD_WEIGHT, HEAD_BIAS}

    @pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
    def test_resume_is_bit_identical(self, case: Case, optimizer: str) -> None:
        """state + training_state are all of it: slots, step counter, and dropout by (seed, step)."""
        recipe, first, second = OPTIMIZERS[optimizer], case.engine(), case.engine(seed=9)
        batch = case.batch(first)
        train(first, batch, recipe=recipe, steps=2)
        state, training = first.state(), first.training_state()
        assert all(isinstance(a, np.ndarray) and a.dtype.kind in "fiub" for a in training.values())
        train(first, batch, recipe=recipe, steps=2, start=False)
        second.load_state(state)
        second.start_training(recipe)
        second.load_training_state(training)
        train(second, batch, recipe=recipe, steps=2, start=False)
        assert not changed(first.state(), second.state()), "a resumed run went another way"
        assert not changed(first.training_state(), second.training_state())

    def test_global_randomness_is_untouched(self, case: Case, tmp_path: Path) -> None:
        """No call draws from or seeds the generators that belong to the user."""
        np.random.seed(7)
        random.seed(7)
        want = (np.random.get_state()[1].tobytes(), random.getstate())  # type: ignore[union-attr, index, unused-ignore]
        engine = case.engine()
        batch = case.batch(engine)
        engine.logits(batch)
        train(engine, batch, steps=1)
        engine.load_state(engine.state())
        engine.export_onnx(tmp_path / "model.onnx", opset=OPSET)
        got = (np.random.get_state()[1].tobytes(), random.getstate())  # type: ignore[union-attr, index, unused-ignore]
        assert got == want

    # --- state
    def test_state_is_a_copy(self, case: Case) -> None:
        """Neither does writing into it reach the engine, nor does training reach into it."""
        engine = case.engine()
        batch, held = case.batch(engine), engine.state()
        kept = {key: array.copy() for key, array in held.items()}
        train(engine, batch, steps=1)
        assert not changed(held, kept), "training wrote into a state that was taken before"
        engine.load_state(held)
        for array in (*held.values(), *engine.state().values()):
            if array.flags.writeable:
                array += 1
        assert not changed(engine.state(), kept), "writing into the state wrote into the engine"

    def test_load_state_refuses_another_network(self, case: Case) -> None:
        """Missing, extra and misshapen keys are named, and nothing is loaded."""
        engine = case.engine()
        good, key = engine.state(), next(iter(engine.state()))
        wrong: dict[str, dict[str, Array]] = {
            key: {k: v for k, v in good.items() if k != key},
            "no.such.key": {**good, "no.such.key": np.zeros(1, np.float32)},
            HEAD_WEIGHT: {**good, HEAD_WEIGHT: good[HEAD_WEIGHT][:, :-1]},
        }
        for name, state in wrong.items():
            with pytest.raises(WeightsCorruptError, match=name.replace(".", r"\.")):
                engine.load_state({k: v + 1 for k, v in state.items()})
            assert not changed(good, engine.state())

    def test_save_load_round_trip(self, case: Case, tmp_path: Path) -> None:
        """A saved folder is the whole network: the same logits, bit for bit, and the same freeze state."""
        engine = case.engine(5, seed=1)
        if engine.architecture() is None or case.framework not in registry.frameworks():
            pytest.skip(f"{case.id}: no architecture to rebuild from, or its adapter is not installed")
        batch = case.batch(engine)
        train(engine, batch, steps=1)
        engine.set_trainable(engine.blocks[1:])
        save(engine, tmp_path / "run", model_id=f"{case.framework}:contract")
        again, _ = load(tmp_path / "run")
        assert not changed(engine.state(), again.state())
        assert engine.logits(batch).tobytes() == again.logits(batch).tobytes()
        assert (again.blocks, again.depths, again.inputs) == (engine.blocks, engine.depths, engine.inputs)
        assert (again.trainable, again.preprocess) == (engine.trainable, engine.preprocess)

    # --- ONNX
    def test_onnx_parity(self, case: Case, tmp_path: Path) -> None:
        """The file that ships, at any batch size and length; after a step, so that stale values are seen."""
        engine = case.engine()
        batch = case.batch(engine, 5)
        train(engine, batch, steps=1)
        before, path = engine.state(), tmp_path / "model.onnx"
        export_engine(engine, path, model_id=f"{case.framework}:contract", versions={})
        assert not changed(before, engine.state()), "exporting changed the engine"
        want = {"features": engine.features(batch), "logits": engine.logits(batch)}
        text = isinstance(engine.preprocess, TextPreprocess) and engine.preprocess
        for inputs in [batch, padded(batch, 2, text.pad_id)] if text else [batch]:
            got = run_graph(path, inputs)
            assert all(error(got[name], want[name]) <= case.tolerance for name in want)
        alone = run_graph(path, rows(batch, [0]))
        assert all(error(alone[name], want[name][:1], want[name]) <= case.tolerance for name in want)
        train(engine, batch, steps=1, start=False)  # still trains after an export

    def test_depths_of_one_graph(self, case: Case, tmp_path: Path) -> None:
        """features_<d> for each depth in one graph; each is what the adapter loads at that depth."""
        engine = case.engine()
        if not engine.depths:
            pytest.skip("this network cannot be cut")
        engine.export_onnx(tmp_path / "model.onnx", opset=OPSET, depths=engine.depths)
        batch = case.batch(engine)
        got = run_graph(tmp_path / "model.onnx", batch)
        assert set(got) == {f"features_{depth}" for depth in engine.depths}
        assert error(got[f"features_{engine.depths[-1]}"], engine.features(batch)) <= case.tolerance
        if case.at_depth is None:
            return
        for depth in engine.depths:
            cut = case.at_depth(depth)
            assert error(got[f"features_{depth}"], cut.features(batch)) <= case.tolerance, f"depth {depth}"
            assert cut.depths[-1] == depth


def _same_head(engine: Engine, want: tuple[Array, Array] | None, tolerance: float = 0.0) -> None:
    """The head equals `want`, within `tolerance` of its largest value."""
    got = engine.head()
    assert got is not None and want is not None
    for have, wish in zip(got, want, strict=True):
        assert have.shape == wish.shape and have.dtype == np.float32
        assert np.abs(have - wish).max() <= tolerance * np.abs(wish).max()
