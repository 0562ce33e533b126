"""Training a head on cached features against training it through the frozen network: the same in each framework.

Used by tests/torch, tests/tf and tests/hf, each on networks of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import zoo
from zoo.cards import Recipe
from zoo.engine import HEAD_BIAS, HEAD_WEIGHT, Array

ALIKE: dict[str, Any] = {
    "epochs": 5, "batch_size": 8, "schedule": "cosine", "warmup_epochs": 1.0, "label_smoothing": 0.1, "clip_norm": 0.5,
}  # fmt: skip
RECIPES = {
    "sgd": Recipe(optimizer="sgd", lr=0.005, momentum=0.9, weight_decay=0.01, **ALIKE),
    "adamw": Recipe(optimizer="adamw", lr=0.001, weight_decay=0.1, **ALIKE),
}


def photos(n: int, size: int, *, seed: int = 0) -> tuple[list[Array], list[str]]:
    """Large patches of colour, brighter for the second class.

    They must give features that differ: a network with fresh statistics, or fed with noise, gives nearly the
    same for all inputs; gradients are then rounding alone, of which Adam's division makes steps of full size.
    """
    rng, targets = np.random.default_rng(seed), np.arange(n) % 2
    coarse = [rng.integers(60 * t, 60 * t + 196, (4, 4, 3), dtype=np.uint8) for t in targets]
    pixels = [np.kron(c, np.ones((size // 4, size // 4, 1), np.uint8)) for c in coarse]
    return pixels, [("dark", "light")[t] for t in targets]


def texts(n: int) -> tuple[list[str], list[str]]:
    """Short and long ones of a few words, the first word in one class alone."""
    words = ("my", "parcel", "never", "came", "please", "pay", "it", "back")
    rng, targets = np.random.default_rng(0), np.arange(n) % 2
    found = [" ".join([("my", "please")[t], *rng.choice(words, rng.integers(1, 12))]) for t in targets]
    return found, [("late", "money")[t] for t in targets]


def check_the_same(
    make: Callable[[], zoo.Backbone], data: Any, held: Any, recipe: Recipe, cache: Path
) -> float:
    """Assert that head and losses agree, and that nothing else moved; the heads' distance by their norm."""
    states, losses = {}, {}
    for cached in (True, False):
        model = make()
        model.freeze()
        before = model.state()
        losses[cached] = model.fit(data, held, recipe, cached=cached, progress=False).losses
        states[cached] = model.state()
        moved = {k for k, v in states[cached].items() if not np.array_equal(v, before[k])}
        assert moved == {HEAD_WEIGHT, HEAD_BIAS}
        assert bool(list(cache.glob("features/*.npy"))), "the first went through the cache"
    distance = max(
        float(np.linalg.norm(states[True][k] - v) / np.linalg.norm(v))
        for k, v in states[False].items()
        if k in (HEAD_WEIGHT, HEAD_BIAS)
    )
    wanted = states[False][HEAD_WEIGHT]
    assert np.linalg.norm(wanted - before[HEAD_WEIGHT]) > 1e-3 * np.linalg.norm(wanted), "it must have moved"
    assert distance <= 1e-5, distance
    np.testing.assert_allclose(losses[True], losses[False], rtol=1e-4, atol=1e-5)
    return distance
