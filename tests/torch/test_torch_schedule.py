"""The core's learning rates against torch's own schedulers."""

from __future__ import annotations

import pytest
import torch

from zoo.cards import Recipe
from zoo.train import rate


@pytest.mark.parametrize("total", [7, 10, 200])
def test_one_cycle_is_torchs(total: int) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    theirs = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.3, total_steps=total)
    want = []
    for _ in range(total):
        want.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if len(want) < total:
            theirs.step()
    recipe = Recipe(lr=0.3, schedule="one_cycle", epochs=1)
    assert [rate(recipe, step, total) for step in range(total)] == pytest.approx(want, rel=1e-9)


def test_cosine_is_torchs() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.3)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=50)
    want = []
    for _ in range(50):
        want.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        theirs.step()
    recipe = Recipe(lr=0.3, schedule="cosine", epochs=5)
    assert [rate(recipe, step, 10) for step in range(50)] == pytest.approx(want, rel=1e-9)
