"""Which learning rate? A short training whose rate rises from far too low to far too high (Smith 2017).

The loss falls where the rate is large enough to learn, and rises where it is too large. Suggested is the rate
at which it falls most steeply; a tenth of the rate with the lowest loss is the other common rule. Afterwards the
weights are what they were, bit for bit, and the next training starts as if nothing had been.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from zoo import plots
from zoo.cards import Recipe
from zoo.data import Dataset, epoch_order
from zoo.engine import Array, Batch, Engine
from zoo.errors import DataError, InputError, TrainingError
from zoo.train.features import FeatureCache, backbone_graph, backbone_key, features_of
from zoo.train.learner import HeadLearner, Learner
from zoo.train.loop import soft_targets
from zoo.train.schedule import class_weights
from zoo.train.training import check_examples, check_head, network_learner, on_features, with_tokenizer

SMOOTHING, SIDE = 0.9, 0.8
"""Of the past that the running mean keeps, for stopping; and of each side in the curve that is judged."""
DIVERGED = 4.0
"""Times the lowest smoothed loss at which the search ends: beyond it nothing is learned (as in fastai)."""
WINDOW = 1.0
"""Decades over which the slope is taken: batches differ, and of two neighbouring steps one is always luckier."""
FEWEST_STEPS = 20


@dataclass(frozen=True)
class RateSearch:
    """rates, losses, smoothed: one a step, rates rising evenly on a logarithmic scale. Smoothed by the steps
    before and after: a mean of those before alone lags, and would suggest rates several times too high.

    steepest: the rate at which the smoothed loss falls fastest.  lowest_tenth: a tenth of the rate with the
    lowest smoothed loss.  stopped: why before the highest rate, or None.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    smoothed: tuple[float, ...]
    steepest: float
    lowest_tenth: float
    stopped: str | None = None

    @property
    def suggestion(self) -> float:
        """What to give as `Recipe.lr`: the steepest point."""
        return self.steepest

    def plot(self, path: str | Path | None = None) -> Any:
        """A plotly Figure; with `path` also as HTML. Raises FrameworkMissingError without plotly."""
        faint, line = {"mode": "lines", "opacity": 0.35}, {"mode": "lines"}
        series: list[plots.Series] = [
            ("loss", self.rates, self.losses, faint),
            ("smoothed", self.rates, self.smoothed, line),
        ]
        for name, rate in (("steepest", self.steepest), ("lowest / 10", self.lowest_tenth)):
            height = float(np.interp(math.log(rate), np.log(self.rates), self.smoothed))
            mark = {"mode": "markers", "marker": {"size": 11}}
            series.append((f"{name}: {rate:.2g}", [rate], [height], mark))
        figure = plots.curves("Learning-rate search", [("loss", series)], x="learning rate", log_x=True)
        if path is not None:
            plots.save(figure, Path(path))
        return figure


def find_lr(
    engine: Engine,
    train: Dataset,
    recipe: Recipe,
    *,
    steps: int = 100,
    lowest: float = 1e-7,
    highest: float = 10.0,
    cache: FeatureCache | None = None,
    model_id: str = "",
    versions: Mapping[str, str] | None = None,
) -> RateSearch:
    """Search over what is trainable, with the recipe's optimizer, batches and seed; its schedule is not used.

    cache: search with a linear head on a frozen backbone's cached features, as `fit` trains it.
    Raises InputError, DataError, HeadMissingError, TrainingError (the loss falls at no rate).
    """
    _check_range(steps, lowest, highest)
    check_head(engine, len(train.classes))
    check_examples(train, recipe)
    given = engine.preprocess
    engine.preprocess = with_tokenizer(given, train, None)
    rates = [float(rate) for rate in np.geomspace(lowest, highest, steps)]
    try:
        learner = _learner(engine, train, recipe, cache, model_id, versions or {})
        return search(learner, recipe, train.targets, len(train.classes), rates, engine.trainable)
    finally:
        engine.preprocess = given


def _check_range(steps: int, lowest: float, highest: float) -> None:
    if steps < FEWEST_STEPS:
        raise InputError(f"steps {steps}: at least {FEWEST_STEPS}, a curve needs points")
    if not 0 < lowest < highest < math.inf:
        raise InputError(f"rates from {lowest:g} to {highest:g}: above 0, the lowest first")


def _learner(
    engine: Engine,
    train: Dataset,
    recipe: Recipe,
    cache: FeatureCache | None,
    model_id: str,
    versions: Mapping[str, str],
) -> Learner:
    """A head on features, of the engine's values but not the engine's own; or the engine."""
    if cache is None or not on_features(engine, engine.trainable, recipe):
        return network_learner(engine, train, None, recipe)
    key = backbone_key(engine, engine.preprocess, versions)
    graph = functools.partial(backbone_graph, engine, key, model_id=model_id, versions=versions)
    head = engine.head()
    assert head is not None
    return HeadLearner(features_of(graph, engine.feature_dim, key, train, cache), *head)


def search(
    learner: Learner,
    recipe: Recipe,
    targets: Array,
    num_classes: int,
    rates: list[float],
    trainable: Sequence[str] = (),
) -> RateSearch:
    """One step at each rate until the loss explodes; the learner's state is put back, however it ends."""
    if not len(targets):
        raise DataError("cannot search for a rate on no examples at all: give a data set that holds some")
    table, before = soft_targets(num_classes, recipe.label_smoothing), learner.state()
    weights = class_weights(recipe, targets, num_classes)
    losses: list[float] = []
    stopped = None
    try:
        learner.start(recipe, trainable)
        with np.errstate(over="ignore", invalid="ignore"):  # rates that are too high are what it tries
            for rate, (index, batch) in zip(rates, _endless(learner, recipe, len(targets)), strict=False):
                counts = None if weights is None else weights[targets[index]]
                losses.append(float(learner.step(batch, table[targets[index]], rate, counts)))
                if stopped := _exploded(losses, rate):
                    break
    finally:
        learner.load_state(before)
        learner.release(trainable)
    finite = losses if math.isfinite(losses[-1]) else losses[:-1]
    return _judged(rates[: len(finite)], finite, stopped)


def _endless(learner: Learner, recipe: Recipe, examples: int) -> Iterator[tuple[Array, Batch]]:
    epoch = 0
    while True:
        order = epoch_order(examples, seed=recipe.seed, epoch=epoch)
        yield from learner.batches(order, recipe.batch_size, epoch)
        epoch += 1


def _exploded(losses: list[float], rate: float) -> str | None:
    if not math.isfinite(losses[-1]):
        return f"the loss became {losses[-1]} at a rate of {rate:.2g}"
    means = plots.smoothed(losses, SMOOTHING)
    if len(losses) > FEWEST_STEPS and means[-1] > DIVERGED * min(means):
        return f"the loss rose to {DIVERGED:g} times its lowest at a rate of {rate:.2g}"
    return None


def _centred(losses: list[float]) -> Array:
    """Geometric means over both sides: one exploding step must not lift those before it."""
    logs = np.log(np.maximum(losses, np.finfo(np.float32).tiny)).tolist()
    back = plots.smoothed(logs[::-1], SIDE)[::-1]
    curve: Array = np.exp((np.array(plots.smoothed(logs, SIDE)) + back) / 2)
    return curve


def _judged(rates: list[float], losses: list[float], stopped: str | None) -> RateSearch:
    """Raises TrainingError where the loss falls nowhere by more than its batches differ."""
    means = _centred(losses) if losses else np.zeros(0)
    x = np.log10(rates)
    low = int(np.argmin(means)) if len(means) else 0
    if low < 2 or not _fall(losses[: low + 1], means[: low + 1], x[: low + 1]):
        shown = f"{rates[0]:.2g} and {rates[-1]:.2g}" if rates else "the two rates"
        raise TrainingError(
            f"the loss falls clearly at no rate between {shown}{f' ({stopped})' if stopped else ''}: begin lower "
            "(lowest=, --lowest); a head that is trained already learns nothing more (replace_head gives a fresh "
            "one); else look at data and optimizer. The weights are as they were."
        )
    steepest = _steepest(x[: low + 1], means[: low + 1])
    curve = tuple(means.tolist())
    return RateSearch(tuple(rates), tuple(losses), curve, 10**steepest, rates[low] / 10, stopped)


def _fall(losses: list[float], means: Array, x: Array) -> bool:
    """Whether the curve falls from its first decade by more than a deviation of single losses, as logarithms."""
    logs = np.log(np.maximum(losses, np.finfo(np.float32).tiny))
    start = float(logs[x - x[0] <= WINDOW].mean())
    return bool(start - np.log(means[-1]) > max(float(np.std(logs - np.log(means))), 0.01))


def _steepest(x: Array, y: Array) -> float:
    """Where the line fitted to the points within half a decade falls most, as log10 of the rate."""
    near = np.abs(x[:, None] - x) <= WINDOW / 2 + 1e-9
    counts = near.sum(axis=1)
    x0, y0 = near @ x / counts, near @ y / counts
    slopes = (near @ (x * y) / counts - x0 * y0) / np.maximum(near @ (x * x) / counts - x0**2, 1e-12)
    # At the ends a line rests on half the points: only those with a full side count, where there are any.
    whole = (x - x[0] >= WINDOW / 2) & (x[-1] - x >= WINDOW / 2)
    return float(x[np.argmin(np.where(whole, slopes, np.inf) if whole.any() else slopes)])
