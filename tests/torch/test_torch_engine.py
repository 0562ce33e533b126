"""TorchEngine against torch itself: the same network, the same loops, written out by hand."""

from __future__ import annotations

import copy
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from zoo.cards import ImagePreprocess, Recipe
from zoo.engine import HEAD, Array, LoadRequest
from zoo.errors import HeadMissingError, InputError, WeightsCorruptError
from zoo_torch import training
from zoo_torch.adapter import ADAPTER
from zoo_torch.anatomy import Anatomy, seeded
from zoo_torch.engine import TorchEngine

LR = 0.01


class Net(nn.Module):
    """Batch norm, dropout inside a block and before the head: all that freezing must stop."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU())
        self.body = nn.Sequential(nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8), nn.Dropout(0.3))
        self.drop = nn.Dropout(0.5)
        self.fc = nn.Linear(8, 3)

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.fc(self.drop(self.body(self.stem(images)).mean(dim=(2, 3))))
        return out


def wrap(module: nn.Module | None = None) -> TorchEngine:
    if module is None:
        with seeded(0, torch.device("cpu")):
            module = Net()
    return ADAPTER.wrap(module, preprocess=ImagePreprocess(12, 12), head="fc", blocks=None)


def data(n: int = 6) -> tuple[dict[str, Array], Array]:
    rng = np.random.default_rng(n)
    images = rng.standard_normal((n, 3, 12, 12), dtype=np.float32)
    return {"images": images}, np.eye(3, dtype=np.float32)[rng.integers(0, 3, n)]


OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "sgd": lambda p: torch.optim.SGD(p, lr=LR, momentum=0.9, weight_decay=0.02),
    "adam": lambda p: torch.optim.Adam(p, lr=LR, weight_decay=0.02),
    "adamw": lambda p: torch.optim.AdamW(p, lr=LR, weight_decay=0.02),
}


# --- training is torch's own
@pytest.mark.parametrize("clip", [None, 0.1])
@pytest.mark.parametrize("frozen_stem", [False, True])
@pytest.mark.parametrize("optimizer", list(OPTIMIZERS))
def test_steps_equal_a_loop_written_by_hand(optimizer: Any, frozen_stem: bool, clip: float | None) -> None:
    engine = wrap()
    native = copy.deepcopy(engine.module)
    batch, targets = data()
    engine.set_trainable(["body"] if frozen_stem else ["stem", "body"])
    recipe = Recipe(optimizer=optimizer, lr=LR, weight_decay=0.02, clip_norm=clip, seed=4)
    engine.start_training(recipe)
    if frozen_stem:
        native.stem.requires_grad_(False)
    chosen = [p for p in native.parameters() if p.requires_grad]
    own = OPTIMIZERS[optimizer](chosen)
    for step in range(3):
        loss = engine.train_step(batch, targets, lr=dict.fromkeys((*engine.trainable, HEAD), LR))
        native.train()
        native.stem.train(not frozen_stem)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(training.step_seed(4, step))
            logits = native(torch.from_numpy(batch["images"]))
        wanted = -(torch.from_numpy(targets) * logits.log_softmax(1)).sum(1).mean()
        own.zero_grad()
        wanted.backward()
        if clip is not None:
            nn.utils.clip_grad_norm_(chosen, clip)
        own.step()
        assert float(loss) == float(wanted)
    native.eval()
    for (key, got), want in zip(
        engine.module.state_dict().items(), native.state_dict().values(), strict=True
    ):
        assert torch.equal(got, want), key


def test_the_loss_is_torchs() -> None:
    rng = np.random.default_rng(0)
    logits = torch.from_numpy(rng.standard_normal((5, 4)))
    hard = torch.tensor([0, 3, 1, 1, 2])
    soft = torch.eye(4, dtype=logits.dtype)[hard] * 0.9 + 0.025
    smooth = nn.functional.cross_entropy(logits, hard, label_smoothing=0.1)
    assert float(training.cross_entropy(logits, soft, None)) == pytest.approx(float(smooth), rel=1e-6)
    weights = torch.tensor([1.0, 2, 0, 3, 1], dtype=logits.dtype)
    each = nn.functional.cross_entropy(logits, soft, reduction="none")
    got = float(training.cross_entropy(logits, soft, weights / 7))
    assert got == pytest.approx(float((each * weights).sum() / 7), rel=1e-6)


def test_dropout_depends_on_seed_and_step_alone() -> None:
    """And torch's global generator is where it was, whatever was called."""
    torch.manual_seed(5)
    before = torch.get_rng_state()
    losses = []
    for seed in (1, 1, 2):
        engine = wrap()
        engine.set_trainable(engine.blocks)
        engine.start_training(Recipe(seed=seed))
        batch, targets = data()
        none = dict.fromkeys((*engine.blocks, HEAD), 0.0)
        losses.append([float(engine.train_step(batch, targets, lr=none)) for _ in range(3)])
        engine.features(batch)
    assert losses[0] == losses[1] != losses[2]
    assert len(set(losses[0])) == 3, "every step draws its own dropout"
    ADAPTER.load(LoadRequest("squeezenet1_1", weights="none", num_classes=2))
    assert torch.equal(torch.get_rng_state(), before)


# --- freezing
def test_a_frozen_backbone_runs_in_inference_mode_whole() -> None:
    """Also the dropout between the last block and the head, which belongs to no block."""
    engine = wrap()
    engine.set_trainable(())
    engine.start_training(Recipe())
    batch, targets = data()
    before = engine.state()
    want = training.cross_entropy(torch.from_numpy(engine.logits(batch)), torch.from_numpy(targets), None)
    assert float(engine.train_step(batch, targets, lr={HEAD: 0.1})) == float(want)
    moved = {key for key, value in engine.state().items() if not np.array_equal(value, before[key])}
    assert moved == {"head.weight", "head.bias"}


def test_modes_are_left_as_they_were() -> None:
    engine = wrap()
    engine.module.stem.train()
    batch, targets = data()
    engine.features(batch)
    engine.start_training(Recipe())
    engine.train_step(batch, targets, lr=dict.fromkeys((*engine.blocks, HEAD), LR))
    assert engine.module.stem.training and not engine.module.body.training


def test_what_its_author_froze_stays_frozen() -> None:
    with seeded(0, torch.device("cpu")):
        module = Net()
    module.stem[0].weight.requires_grad_(False)
    engine = wrap(module)
    engine.set_trainable(())
    engine.set_trainable(engine.blocks)
    assert [n for n, p in module.named_parameters() if not p.requires_grad] == ["stem.0.weight"]


# --- errors
def test_training_needs_a_start_and_every_rate() -> None:
    engine = wrap()
    batch, targets = data()
    with pytest.raises(InputError, match="start_training"):
        engine.train_step(batch, targets, lr={HEAD: LR})
    engine.start_training(Recipe())
    with pytest.raises(InputError, match="no rate for stem, body"):
        engine.train_step(batch, targets, lr={HEAD: LR})
    engine.set_trainable(())
    with pytest.raises(InputError, match="start_training"):
        engine.train_step(batch, targets, lr={HEAD: LR})


def test_training_state_of_other_blocks_is_refused() -> None:
    engine = wrap()
    batch, targets = data()
    engine.start_training(Recipe())
    engine.train_step(batch, targets, lr=dict.fromkeys((*engine.blocks, HEAD), LR))
    state = engine.training_state()
    engine.set_trainable(())
    engine.start_training(Recipe())
    with pytest.raises(WeightsCorruptError, match="does not train here"):
        engine.load_training_state(state)


def test_bad_arguments_name_the_cure() -> None:
    engine = wrap()
    with pytest.raises(InputError, match="no block tail: there are stem, body"):
        engine.set_trainable(["tail"])
    with pytest.raises(InputError, match=r"weight must be \[C, 8\]"):
        engine.set_head(np.zeros((2, 9), np.float32), np.zeros(2, np.float32))
    with pytest.raises(InputError, match="lacks images"):
        engine.features({"pictures": np.zeros((1, 3, 12, 12), np.float32)})
    with pytest.raises(InputError, match="device 'nowhere'"):
        ADAPTER.load(LoadRequest("squeezenet1_1", weights="none", device="nowhere"))


# --- wrapping
def test_wrap_refuses_what_it_cannot_read() -> None:
    preprocess = ImagePreprocess(12, 12)
    with pytest.raises(InputError, match="did you mean fc"):
        ADAPTER.wrap(Net(), preprocess=preprocess, head="fcc", blocks=None)
    with pytest.raises(InputError, match=r"in no block: body\.0\.weight"):
        ADAPTER.wrap(Net(), preprocess=preprocess, head="fc", blocks={"stem": ["stem"]})
    with pytest.raises(InputError, match=r"torch\.float64"):
        ADAPTER.wrap(Net().double(), preprocess=preprocess, head="fc", blocks=None)
    tied = Net()
    tied.body[0].bias = tied.stem[0].bias
    with pytest.raises(InputError, match="shared by the blocks stem and body"):
        ADAPTER.wrap(tied, preprocess=preprocess, head="fc", blocks=None)
    assert ADAPTER.owns(tied) and not ADAPTER.owns(object())


def test_a_module_without_a_head_says_so() -> None:
    anatomy = Anatomy(3, {"all": ("0",)}, features=lambda m, t: m(t["images"]).mean(dim=(2, 3)))
    engine = TorchEngine(nn.Sequential(nn.Conv2d(3, 3, 1)), anatomy, preprocess=ImagePreprocess(12, 12))
    batch, _ = data()
    assert engine.num_classes is None and engine.head() is None and engine.architecture() is None
    for refused in (lambda: engine.logits(batch), lambda: engine.start_training(Recipe())):
        with pytest.raises(HeadMissingError, match="replace_head"):
            refused()


# --- TensorFlow first
def test_triton_is_hidden_where_tensorflow_came_first() -> None:
    """A stand-in for TensorFlow: what the guard sees. Both real import orders are tried in tests/tf."""
    code = (
        "import importlib.machinery as m, sys, types, warnings; fake = types.ModuleType('tensorflow');"
        "fake.__spec__ = m.ModuleSpec('tensorflow', None); sys.modules['tensorflow'] = fake;"
        "warnings.simplefilter('ignore'); import zoo_torch.engine, torch; assert sys.modules['triton'] is None;"
        "torch.optim.Adam([torch.zeros(1, requires_grad=True)])"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
