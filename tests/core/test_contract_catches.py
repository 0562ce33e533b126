"""The contract has teeth: each deliberately broken engine fails the test that names its fault."""

from __future__ import annotations

import dataclasses
import inspect
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from zoo.cards import Recipe
from zoo.engine import HEAD, Array, Batch, micro_batches
from zoo.errors import ZooError
from zoo.testing import Case, ModelContract
from zoo.testing.toy import ToyEngine, _bfloat16, installed


class FreezeForgetsStatistics(ToyEngine):
    """The classic: weights are frozen, batch norm's running mean keeps moving."""

    def train_step(self, batch: Batch, targets: Array, **named: Any) -> float:
        loss = super().train_step(batch, targets, **named)
        self._values["stem.mean"] = self._values["stem.mean"] + np.float32(1e-3)
        return loss


class FreezeFreezesHead(ToyEngine):
    def train_step(self, batch: Batch, targets: Array, *, lr: Mapping[str, float], **named: Any) -> float:
        frozen = self.trainable != self.blocks
        return super().train_step(batch, targets, lr={**lr, HEAD: 0.0} if frozen else lr, **named)


class FreezeIsAllOrNothing(ToyEngine):
    def set_trainable(self, blocks: Collection[str]) -> None:
        super().set_trainable(self.blocks if blocks else ())


class UnfreezeLeavesStatisticsStill(ToyEngine):
    """As after `.eval()` that nobody took back."""

    stuck = False

    def set_trainable(self, blocks: Collection[str]) -> None:
        self.stuck = self.stuck or not blocks
        super().set_trainable(blocks)

    def _statistics(self, block: str, z: Array, *, training: bool) -> tuple[Array, Array]:
        return super()._statistics(block, z, training=training and not self.stuck)


class PredictsInTrainMode(ToyEngine):
    def _statistics(self, block: str, z: Array, *, training: bool) -> tuple[Array, Array]:
        return z.mean(0), z.var(0)


class PredictingMovesStatistics(ToyEngine):
    def features(self, batch: Batch) -> Array:
        self._values["stem.mean"] = self._values["stem.mean"] * np.float32(0.99)
        return super().features(batch)


class StateIsAView(ToyEngine):
    def state(self) -> dict[str, Array]:
        return dict(self._values)


class SaveDropsStatistics(ToyEngine):
    def state(self) -> dict[str, Array]:
        return {k: v * 0 if k.endswith(".mean") else v for k, v in super().state().items()}


class LoadTakesWhatFits(ToyEngine):
    """strict=False."""

    def load_state(self, state: Mapping[str, Array]) -> None:
        mine = {k: v for k, v in state.items() if k in self._values and self._values[k].shape == v.shape}
        super().load_state({**self._values, **mine})


class HeadIgnoresSeed(ToyEngine):
    def reset_head(self, num_classes: int, *, seed: int) -> None:
        super().reset_head(num_classes, seed=int(np.random.default_rng().integers(1 << 30)))


class HeadHasAnActivation(ToyEngine):
    """Keras's softmax tops."""

    def logits(self, batch: Batch) -> Array:
        logits = super().logits(batch)
        return np.exp(logits) / np.exp(logits).sum(1, keepdims=True)


class BlockLeftOut(ToyEngine):
    def block_of(self) -> dict[str, str]:
        return {k: "head" if k.startswith("stem.gamma") else v for k, v in super().block_of().items()}


class PaddingLeaks(ToyEngine):
    """A mean over all positions instead of over the tokens."""

    def _rows(self, batch: Batch) -> Array:
        counts = super()._rows(batch) * batch["attention_mask"].sum(1, keepdims=True)
        return counts / batch["input_ids"].shape[1]


class RatesIgnored(ToyEngine):
    def train_step(self, batch: Batch, targets: Array, *, lr: Mapping[str, float], **named: Any) -> float:
        return super().train_step(batch, targets, lr=dict.fromkeys(lr, lr[HEAD]), **named)


class DropoutInFrozenBlocks(ToyEngine):
    stepping = False

    def train_step(self, batch: Batch, targets: Array, **named: Any) -> float:
        self.stepping = True
        loss = super().train_step(batch, targets, **named)
        self.stepping = False
        return loss

    def _dropout(self, block: str, shape: tuple[int, ...], *, training: bool, step: int) -> Array:
        return super()._dropout(block, shape, training=training or self.stepping, step=step)


class DropoutFromOneStream(ToyEngine):
    """Seeded once and then drawn from: a resumed run gets the first masks again."""

    def start_training(self, recipe: Recipe) -> None:
        super().start_training(recipe)
        self.stream = np.random.default_rng(recipe.seed)

    def _dropout(self, block: str, shape: tuple[int, ...], *, training: bool, step: int) -> Array:
        return (self.stream.random(shape) > 0.2) / 0.8 if training else np.ones(shape)


class ResumeForgetsSlots(ToyEngine):
    def load_training_state(self, state: Mapping[str, Array]) -> None:
        super().load_training_state({"steps": state["steps"]})


class WeightsDividedByCount(ToyEngine):
    """Keras's sum_over_batch_size: sum(w * loss) / N."""

    def train_step(
        self, batch: Batch, targets: Array, *, lr: Mapping[str, float], weights: Array | None = None
    ) -> float:
        share = 1.0 if weights is None else float(weights.mean())
        return super().train_step(batch, targets * np.float32(share), lr=lr, weights=weights)


class HardTargets(ToyEngine):
    def train_step(self, batch: Batch, targets: Array, **named: Any) -> float:
        hard = np.eye(targets.shape[1], dtype=np.float32)[targets.argmax(1)]
        return super().train_step(batch, hard, **named)


class DecayIsCoupled(ToyEngine):
    """AdamW with L2 decay, which is Adam's: torch and Keras do not mean the same by it."""

    def start_training(self, recipe: Recipe) -> None:
        super().start_training(recipe)
        if recipe.optimizer == "adamw":
            self._optimizer.recipe = dataclasses.replace(recipe, optimizer="adam")


class NothingIsClipped(ToyEngine):
    def start_training(self, recipe: Recipe) -> None:
        super().start_training(dataclasses.replace(recipe, clip_norm=None))


class MicroBatchesWeighAlike(ToyEngine):
    """The mean of the parts' means, as loops divide by the number of accumulation steps."""

    def gradients(self, batch: Batch, targets: Array, *, shares: Array) -> Any:
        return super().gradients(batch, targets, shares=shares / shares.sum() / 2)


class EachMicroBatchSteps(ToyEngine):
    """An optimizer step for every part."""

    def train_step(
        self, batch: Batch, targets: Array, *, weights: Array | None = None, **named: Any
    ) -> float:
        size = self._optimizer.recipe.micro_batch_size
        parts = micro_batches(batch, targets, weights, size)
        return sum(super(EachMicroBatchSteps, self).train_step(b, t, weights=w, **named) for b, t, w in parts)


class PrecisionIgnored(ToyEngine):
    def start_training(self, recipe: Recipe) -> None:
        super().start_training(dataclasses.replace(recipe, precision="fp32"))


class WeightsInBfloat16(ToyEngine):
    """`model.to(bfloat16)`: small steps are lost."""

    def train_step(self, batch: Batch, targets: Array, **named: Any) -> float:
        loss = super().train_step(batch, targets, **named)
        if self._optimizer.recipe.precision == "bf16":
            self._values = {k: _bfloat16(v).astype(np.float32) for k, v in self._values.items()}
        return loss


class InferenceInBfloat16(ToyEngine):
    """A policy that nobody put back."""

    mixed = False

    def start_training(self, recipe: Recipe) -> None:
        self.mixed = recipe.precision == "bf16"
        super().start_training(recipe)

    def features(self, batch: Batch) -> Array:
        features = super().features(batch)
        return _bfloat16(features).astype(np.float32) if self.mixed else features

    def logits(self, batch: Batch) -> Array:
        logits = super().logits(batch)
        return _bfloat16(logits).astype(np.float32) if self.mixed else logits


class LoadingForgetsSlots(ToyEngine):
    def load_state(self, state: Mapping[str, Array]) -> None:
        super().load_state(state)
        self._optimizer.slots.clear()


class PhaseKeepsTheOptimizer(ToyEngine):
    begun = False

    def start_training(self, recipe: Recipe) -> None:
        before = self._optimizer.state() if self.begun else None
        super().start_training(recipe)
        self.begun = True
        if before is not None:
            self._optimizer.load_state(before)


class NumericsOfTheMoment(ToyEngine):
    def numerics(self) -> dict[str, str]:
        return {"seconds": str(time.perf_counter())}


class GradientGoesUp(ToyEngine):
    def train_step(self, batch: Batch, targets: Array, *, lr: Mapping[str, float], **named: Any) -> float:
        return super().train_step(batch, targets, lr={k: -v for k, v in lr.items()}, **named)


class SeedsTheGlobalGenerator(ToyEngine):
    def start_training(self, recipe: Recipe) -> None:
        np.random.seed(recipe.seed)
        super().start_training(recipe)


class DrawsFromTheClock(ToyEngine):
    def _dropout(self, block: str, shape: tuple[int, ...], *, training: bool, step: int) -> Array:
        return (np.random.default_rng().random(shape) > 0.2) / 0.8 if training else np.ones(shape)


class ExportsStaleStatistics(ToyEngine):
    def folded(self, block: str) -> tuple[Array, Array]:
        fresh = ToyEngine(self.kind)
        fresh._values = {
            k: fresh._values[k] if k.endswith((".mean", ".variance")) else v for k, v in self._values.items()
        }
        return fresh.folded(block)


class DepthsOfTheWrongBlocks(ToyEngine):
    def export_onnx(self, path: Path, *, opset: int, depths: Sequence[int] = ()) -> str:
        exporter = super().export_onnx(path, opset=opset, depths=depths)
        if depths:
            _swap_outputs(path, [f"features_{d}" for d in depths])
        return exporter


class FeaturesInFloat64(ToyEngine):
    def features(self, batch: Batch) -> Array:
        return super().features(batch).astype(np.float64)


def _swap_outputs(path: Path, names: list[str]) -> None:
    model = onnx.load(path)
    turned = dict(zip(names, reversed(names), strict=True))
    for node in model.graph.node:
        node.output[:] = [turned.get(name, name) for name in node.output]
    onnx.save(model, path)


FAULTS: dict[type[ToyEngine], str] = {
    FreezeForgetsStatistics: "test_freeze_keeps_backbone_bit_identical",
    FreezeFreezesHead: "test_freeze_keeps_backbone_bit_identical",
    FreezeIsAllOrNothing: "test_partial_freeze",
    UnfreezeLeavesStatisticsStill: "test_unfreeze_gives_back_what_was",
    PredictsInTrainMode: "test_inference_is_per_sample",
    PredictingMovesStatistics: "test_inference_changes_nothing",
    FeaturesInFloat64: "test_shapes_and_dtypes",
    PaddingLeaks: "test_padding_does_not_matter",
    BlockLeftOut: "test_blocks_cover_the_state",
    HeadIgnoresSeed: "test_reset_head",
    HeadHasAnActivation: "test_head_is_linear_on_features",
    GradientGoesUp: "test_loss_falls",
    DropoutInFrozenBlocks: "test_frozen_training_is_training_the_head",
    HardTargets: "test_frozen_training_is_training_the_head",
    DecayIsCoupled: "test_frozen_training_is_training_the_head",
    WeightsDividedByCount: "test_sample_weights",
    RatesIgnored: "test_a_rate_for_each_block",
    MicroBatchesWeighAlike: "test_micro_batches_add_up",
    EachMicroBatchSteps: "test_micro_batches_add_up",
    PrecisionIgnored: "test_bfloat16_is_for_the_step_alone",
    WeightsInBfloat16: "test_bfloat16_is_for_the_step_alone",
    InferenceInBfloat16: "test_bfloat16_is_for_the_step_alone",
    LoadingForgetsSlots: "test_other_weights_are_looked_through",
    PhaseKeepsTheOptimizer: "test_a_phase_starts_anew",
    NumericsOfTheMoment: "test_numerics_are_text_and_stay",
    NothingIsClipped: "test_clip_norm_is_global",
    DrawsFromTheClock: "test_same_seed_same_training",
    DropoutFromOneStream: "test_resume_is_bit_identical",
    ResumeForgetsSlots: "test_resume_is_bit_identical",
    SeedsTheGlobalGenerator: "test_global_randomness_is_untouched",
    StateIsAView: "test_state_is_a_copy",
    LoadTakesWhatFits: "test_load_state_refuses_another_network",
    SaveDropsStatistics: "test_save_load_round_trip",
    ExportsStaleStatistics: "test_onnx_parity",
    DepthsOfTheWrongBlocks: "test_depths_of_one_graph",
}
ARGUMENTS: dict[str, Any] = {"num_classes": 4, "optimizer": "adamw", "clip_norm": None}


@pytest.fixture(autouse=True, scope="module")
def _installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with installed(tmp_path_factory.mktemp("toy")):
        yield


@pytest.mark.parametrize(("broken", "test"), FAULTS.items(), ids=lambda p: getattr(p, "__name__", p))
def test_contract_catches(broken: type[ToyEngine], test: str, tmp_path: Path) -> None:
    """The healthy toy passes that very test, the broken one does not."""
    kind = "text" if broken is PaddingLeaks else "image"
    method = getattr(ModelContract(), test)
    given = {**ARGUMENTS, "tmp_path": tmp_path}
    wanted = {name: given[name] for name in inspect.signature(method).parameters if name != "case"}
    method(Case("toy:ok", lambda: ToyEngine(kind)), **wanted)
    with pytest.raises((AssertionError, pytest.fail.Exception, ZooError)):
        method(Case("toy:broken", lambda: broken(kind)), **wanted)


def test_every_test_of_the_contract_catches_something() -> None:
    """A test that no broken engine fails would prove nothing."""
    tests = {name for name in dir(ModelContract) if name.startswith("test_")}
    assert tests == set(FAULTS.values())
