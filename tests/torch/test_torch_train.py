"""The core's training over a real framework: torch's own formulas, cached features, resuming, saving."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch

import zoo
from zoo.cards import Recipe
from zoo.engine import HEAD_BIAS, HEAD_WEIGHT, Array
from zoo.train.optim import Optimizer

pytestmark = pytest.mark.torch

RECIPES = {
    "sgd": Recipe(optimizer="sgd", lr=0.1, momentum=0.9, weight_decay=0.01),
    "plain sgd": Recipe(optimizer="sgd", lr=0.1, momentum=0.0),
    "adam": Recipe(optimizer="adam", lr=0.01, weight_decay=0.1),
    "adamw": Recipe(optimizer="adamw", lr=0.01, weight_decay=0.1, betas=(0.8, 0.99), eps=1e-6),
    "clipped": Recipe(optimizer="adamw", lr=0.01, clip_norm=0.5),
}


def torch_optimizer(recipe: Recipe, values: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(values, recipe.lr, recipe.momentum, weight_decay=recipe.weight_decay)
    kind = torch.optim.Adam if recipe.optimizer == "adam" else torch.optim.AdamW
    return kind(values, recipe.lr, recipe.betas, recipe.eps, weight_decay=recipe.weight_decay)


@pytest.mark.parametrize("name", list(RECIPES))
def test_numpy_optimizers_follow_torchs_own(name: str) -> None:
    recipe, rng = RECIPES[name], np.random.default_rng(0)
    ours = {"weight": rng.normal(size=(3, 8)).astype(np.float32), "bias": np.zeros(3, np.float32)}
    theirs = [torch.nn.Parameter(torch.from_numpy(v.copy())) for v in ours.values()]
    mine, reference = Optimizer(recipe), torch_optimizer(recipe, theirs)
    for step in range(100):
        lr = recipe.lr * (1 - step / 200)
        gradients = {k: rng.normal(size=v.shape).astype(np.float32) for k, v in ours.items()}
        for parameter, gradient in zip(theirs, gradients.values(), strict=True):
            parameter.grad = torch.from_numpy(gradient.copy())
        if recipe.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(theirs, recipe.clip_norm)
        reference.param_groups[0]["lr"] = lr
        reference.step()
        mine.update(ours, gradients, dict.fromkeys(ours, lr))
    for value, parameter in zip(ours.values(), theirs, strict=True):
        np.testing.assert_allclose(value, parameter.detach().numpy(), rtol=1e-5, atol=2e-6)


def photos(n: int = 24) -> tuple[list[Array], list[str]]:
    rng = np.random.default_rng(0)
    targets = np.arange(n) % 2
    pixels = [rng.integers(80 * t, 80 * t + 150, (64, 64, 3), dtype=np.uint8) for t in targets]
    return pixels, [("dark", "light")[t] for t in targets]


def resnet() -> zoo.Backbone:
    return zoo.get("torch:resnet18@none", num_classes=2, size=64)


def same(a: Mapping[str, Array], b: Mapping[str, Array]) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a)


def test_cached_features_give_the_head_of_the_frozen_network() -> None:
    recipe = Recipe(optimizer="sgd", lr=0.01, epochs=3, batch_size=8)
    heads = {}
    for cached in (True, False):
        model = resnet()
        before = model.state()
        model.freeze()
        model.fit(photos(), photos(8), recipe, cached=cached, progress=False)
        after = model.state()
        assert {k for k in after if not np.array_equal(after[k], before[k])} == {HEAD_WEIGHT, HEAD_BIAS}
        heads[cached] = after[HEAD_WEIGHT]
    assert np.linalg.norm(heads[True] - heads[False]) <= 1e-5 * np.linalg.norm(heads[False])


def test_fine_tuning_resumes_and_loads_to_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batch norm moves in the blocks that train; the others and their statistics stay."""
    recipe = Recipe(lr=1e-3, epochs=2, batch_size=8, schedule="cosine")
    whole, broken, resumed = resnet(), resnet(), resnet()
    before = whole.state()
    for model in (whole, broken):
        model.freeze(3)
    history = whole.fit(photos(), photos(8), recipe, progress=False)
    step, count = type(broken.engine).train_step, iter(range(100))

    def stopping(*args: object, **options: object) -> object:
        if next(count) == 4:
            raise RuntimeError("stopped by the test")
        return step(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(type(broken.engine), "train_step", stopping)
    with pytest.raises(RuntimeError):
        broken.fit(photos(), photos(8), recipe, run_dir=tmp_path, progress=False)
    monkeypatch.undo()
    again = resumed.fit(photos(), photos(8), recipe, run_dir=tmp_path, resume=True, progress=False)
    assert again.losses == history.losses
    assert same(resumed.state(), whole.state()) and same(zoo.load(tmp_path).state(), whole.state())
    owner = whole.engine.block_of()
    moved = {owner[k] for k, v in whole.state().items() if not np.array_equal(v, before[k])}
    assert moved == {*whole.blocks[3:], "head"}
