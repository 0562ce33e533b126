"""The statistics of batch norm on the user's data, asked of PyTorch through training steps alone."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

import zoo
from zoo.choose import distance


def test_statistics_are_those_of_each_layers_inputs() -> None:
    """Against hooks on every batch norm, in training mode."""
    model = zoo.get("torch:resnet18", weights=None, num_classes=4, size=64)
    images = np.random.default_rng(0).normal(size=(8, 3, 64, 64)).astype(np.float32)
    before = model.state()
    keys = distance.pairs(model.engine)
    found = distance.statistics(model.engine, keys, [{"images": images}])
    assert all(np.array_equal(before[key], value) for key, value in model.state().items())

    seen: dict[str, torch.Tensor] = {}
    norms = {name: m for name, m in model.module.named_modules() if isinstance(m, nn.BatchNorm2d)}
    for name, module in norms.items():
        module.register_forward_pre_hook(lambda _, given, name=name: seen.update({name: given[0]}))
    model.module.train()(torch.from_numpy(images))
    assert len(norms) == len(keys) == 20
    for name, values in seen.items():
        mean, var = (next(k for k in found if k.endswith(f"{name}.running_{end}")) for end in ("mean", "var"))
        np.testing.assert_allclose(found[mean], values.mean((0, 2, 3)).detach(), atol=1e-4)
        np.testing.assert_allclose(found[var], values.var((0, 2, 3)).detach(), rtol=1e-3)
