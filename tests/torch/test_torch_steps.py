"""How a step is computed (micro batches, bfloat16, memory layout) and that it is the same step all the same."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch_models import small

from zoo.cards import ImagePreprocess, Recipe
from zoo.engine import HEAD, Array, Batch
from zoo.errors import TrainingError
from zoo.graph import export_engine
from zoo_torch import training
from zoo_torch.adapter import ADAPTER
from zoo_torch.anatomy import seeded
from zoo_torch.engine import TorchEngine
from zoo_torch.layout import CHANNELS_LAST, NCHW, image_tensor, layout_of

CPU = torch.device("cpu")
SGD = Recipe(optimizer="sgd", lr=0.05, momentum=0.9, clip_norm=0.5, seed=4)


class Plain(nn.Module):
    """Convolutions without batch norm, and dropout where it is asked for."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.Dropout(dropout))
        self.body = nn.Sequential(nn.Conv2d(8, 12, 3), nn.ReLU())
        self.fc = nn.Linear(12, 3)

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.fc(self.body(self.stem(images)).mean(dim=(2, 3)))
        return out


def plain(dropout: float = 0.0) -> TorchEngine:
    with seeded(0, CPU):
        module = Plain(dropout)
    return ADAPTER.wrap(module, preprocess=ImagePreprocess(12, 12), head="fc", blocks=None)


def data(n: int) -> tuple[Batch, Array]:
    rng = np.random.default_rng(n)
    images = rng.standard_normal((n, 3, 12, 12), dtype=np.float32)
    return {"images": images}, np.eye(3, dtype=np.float32)[rng.integers(0, 3, n)]


def steps(engine: TorchEngine, recipe: Recipe, batch: Batch, targets: Array, count: int = 3) -> list[float]:
    engine.start_training(recipe)
    lr = dict.fromkeys((*engine.trainable, HEAD), recipe.lr)
    return [float(engine.train_step(batch, targets, lr=lr)) for _ in range(count)]


# --- micro batches
@pytest.mark.parametrize("size", [1, 3, 5])
def test_micro_batches_train_all_blocks_as_the_whole_batch_does(size: int) -> None:
    whole, parts = plain(), plain()
    batch, targets = data(7)
    seen: list[int] = []
    parts.module.stem.register_forward_hook(lambda _, args, out: seen.append(len(args[0])))
    parted = dataclasses.replace(SGD, micro_batch_size=size)
    assert steps(parts, parted, batch, targets) == pytest.approx(steps(whole, SGD, batch, targets), rel=1e-6)
    for key, value in whole.state().items():
        np.testing.assert_allclose(parts.state()[key], value, rtol=1e-5, atol=1e-6)
    assert max(seen) == size and sum(seen) == 3 * 7, "what is in memory at a time is one micro batch"


def test_micro_batches_that_hold_the_whole_batch_change_no_bit() -> None:
    losses = [
        steps(plain(0.4), dataclasses.replace(SGD, micro_batch_size=size), *data(6)) for size in (None, 6, 32)
    ]
    assert losses[0] == losses[1] == losses[2]


def test_each_micro_batch_draws_dropout_of_its_own() -> None:
    """Twice the same images: with one mask for both parts the loss would be that of either half."""
    batch, targets = data(2)
    twice = {"images": np.concatenate([batch["images"]] * 2)}, np.concatenate([targets] * 2)
    parted = dataclasses.replace(SGD, micro_batch_size=2)
    half, both = steps(plain(0.5), SGD, batch, targets, 1), steps(plain(0.5), parted, *twice, 1)
    assert half != pytest.approx(both, rel=1e-6)
    assert both == steps(plain(0.5), parted, *twice, 1)


# --- memory layout
def test_convolutions_lie_channels_last_and_transformers_do_not() -> None:
    """By network and device alone; weights taken out are plain arrays, and put back they lie as before."""
    convolutional = plain()
    assert convolutional.layout == CHANNELS_LAST and layout_of(small("vit")[0], CPU) == NCHW
    assert layout_of(convolutional.module, torch.device("meta")) == NCHW
    state = convolutional.state()
    assert all(value.flags.c_contiguous for value in state.values())
    convolutional.load_state({key: value + 1 for key, value in state.items()})
    weight = convolutional.module.stem[2].weight
    assert weight.is_contiguous(memory_format=torch.channels_last) and not weight.is_contiguous()
    np.testing.assert_array_equal(weight.detach().numpy(), state["stem.2.weight"] + 1)


def test_decoded_photographs_enter_the_network_without_a_copy() -> None:
    """A view of [N, H, W, C], as `zoo.data` gives; contiguous arrays give the same values, copied."""
    batch, _ = data(4)
    view = np.ascontiguousarray(batch["images"].transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    tensor = image_tensor(view, CHANNELS_LAST)
    assert tensor.data_ptr() == view.ctypes.data and tensor.is_contiguous(memory_format=torch.channels_last)
    engine = plain()
    np.testing.assert_array_equal(engine.features({"images": view}), engine.features(batch))
    assert engine._tensors({"images": view})["images"].data_ptr() == view.ctypes.data
    assert image_tensor(view, NCHW).is_contiguous()


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_resumed_run_has_its_slots_in_the_layout_of_the_weights(optimizer: str) -> None:
    recipe = dataclasses.replace(SGD, optimizer=optimizer)
    first, second = plain(), plain()
    steps(first, recipe, *data(6))
    slots = first.training_state()
    assert all(value.flags.c_contiguous for value in slots.values())
    second.load_state(first.state())
    second.start_training(recipe)
    second.load_training_state(slots)
    for engine in (first, second):
        assert engine._optimizer is not None
        held = engine._optimizer.state[engine.module.stem[2].weight]
        laid = [v for v in held.values() if isinstance(v, Tensor) and v.dim() == 4]
        assert laid and all(v.is_contiguous(memory_format=torch.channels_last) for v in laid)


# --- bfloat16
BF16 = dataclasses.replace(SGD, precision="bf16")


def test_bfloat16_trains_and_what_ships_is_float32(tmp_path: Path) -> None:
    """The loss falls, inside a step convolutions are bfloat16, and the export agrees with float32 inference."""
    engine, kinds = plain(), set[torch.dtype]()
    engine.module.body.register_forward_hook(lambda _, args, out: kinds.add(out.dtype))
    losses = steps(engine, BF16, *data(12), count=30)
    assert losses[-1] < 0.9 * losses[0] and kinds == {torch.bfloat16}
    assert all(value.dtype == np.float32 for value in engine.state().values())
    assert all(v.dtype == np.float32 for k, v in engine.training_state().items() if k != training.STEP)
    kinds.clear()
    assert engine.logits(data(4)[0]).dtype == np.float32 and kinds == {torch.float32}
    export_engine(engine, tmp_path / "model.onnx", model_id="torch:plain", versions={})


def test_an_operation_without_bfloat16_is_named() -> None:
    engine = plain()
    engine.module.body.register_forward_hook(
        lambda _, args, out: out + torch.linalg.det(out[..., :6, :6])[..., None, None]
    )
    assert steps(engine, SGD, *data(4), count=1)
    with pytest.raises(TrainingError, match=r"'BFloat16'.*precision='fp32' trains it"):
        steps(engine, BF16, *data(4), count=1)


def test_micro_batches_and_bfloat16_go_together() -> None:
    parts = dataclasses.replace(BF16, micro_batch_size=3)
    assert steps(plain(), parts, *data(7)) == pytest.approx(steps(plain(), BF16, *data(7)), rel=0.01)


# --- what bits depend on
def test_numerics_say_what_changes_bits() -> None:
    engine = plain()
    threads = torch.get_num_threads()
    said = engine.numerics()
    assert said["threads"] == str(threads) and said["layout"] == CHANNELS_LAST
    assert said["torch"] == torch.__version__ and said["device"].startswith("cpu (")
    torch.set_num_threads(threads + 1)
    torch.use_deterministic_algorithms(True)
    try:
        changed = {name for name, value in engine.numerics().items() if value != said[name]}
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(False)
    assert changed == {"threads", "deterministic algorithms"}
