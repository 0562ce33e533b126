"""What the training loop trains: a whole network through its engine, or a head alone on cached features.

One loop over both, so that order, batches, schedule, early stopping, checkpoints and resuming are the same.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import SupportsFloat, TypeAlias

import numpy as np
import PIL

from zoo.cards import Preprocess, Recipe
from zoo.data import Input, augmentation, batches
from zoo.engine import HEAD_BIAS, HEAD_WEIGHT, Array, Batch, Engine
from zoo.recipe import Augment
from zoo.train.metrics import log_softmax
from zoo.train.optim import Optimizer
from zoo.train.schedule import block_rates

Source: TypeAlias = Callable[[Array, int, int], Iterator[tuple[Array, Batch]]]
"""(order int64 [N], batch size, epoch from 0) -> (indices, batch), the last, partial batch included."""


class Learner(ABC):
    """state: everything that training may change and that best weights are restored from, copies."""

    @abstractmethod
    def batches(self, order: Array, batch_size: int, epoch: int) -> Iterator[tuple[Array, Batch]]:
        """Training examples in this order: their indices, and the arrays (augmented for this epoch)."""

    @abstractmethod
    def start(self, recipe: Recipe, trainable: Sequence[str]) -> None:
        """A fresh optimizer over these blocks and the head; the others are frozen."""

    @abstractmethod
    def step(self, batch: Batch, targets: Array, lr: float, weights: Array | None = None) -> SupportsFloat:
        """One step on soft targets float32 [N, C]; the loss before it, perhaps not computed yet.

        weights: float32 [N], for the weighted mean; None: all 1.
        """

    @abstractmethod
    def release(self, trainable: Sequence[str]) -> None:
        """Training is over, however it ended: these blocks count as trainable again."""

    def numerics(self) -> dict[str, str]:
        """What the bits of the result depend on beside the recipe: threads, device, versions."""
        return {"numpy": np.__version__, "pillow": PIL.__version__}

    @abstractmethod
    def validation_logits(self) -> Array | None:
        """float32 [M, C] of the validation data in its own order, or None without any."""

    @abstractmethod
    def state(self) -> dict[str, Array]: ...
    @abstractmethod
    def load_state(self, state: Mapping[str, Array]) -> None: ...
    @abstractmethod
    def training_state(self) -> dict[str, Array]: ...
    @abstractmethod
    def load_training_state(self, state: Mapping[str, Array]) -> None: ...


def preprocessed(
    inputs: Sequence[Input], preprocess: Preprocess, *, augment: Augment = "none", seed: int = 0
) -> Source:
    """Decode, augment and preprocess in threads ahead of the network, again in each epoch."""

    def source(order: Array, size: int, epoch: int) -> Iterator[tuple[Array, Batch]]:
        changed = augmentation(augment, preprocess, seed=seed, epoch=epoch)
        return batches(inputs, preprocess, batch_size=size, order=order, augmentation=changed)

    return source


class NetworkLearner(Learner):
    """A network trained through its engine's own steps."""

    def __init__(
        self, engine: Engine, train: Source, validation: Source | None = None, *, validation_size: int = 0
    ) -> None:
        self.engine, self._train = engine, train
        self._validation, self._validation_size = validation, validation_size

    def batches(self, order: Array, batch_size: int, epoch: int) -> Iterator[tuple[Array, Batch]]:
        """From the source."""
        return self._train(order, batch_size, epoch)

    def start(self, recipe: Recipe, trainable: Sequence[str]) -> None:
        """In the engine."""
        self._recipe = recipe
        self.engine.set_trainable(trainable)
        self.engine.start_training(recipe)

    def step(self, batch: Batch, targets: Array, lr: float, weights: Array | None = None) -> SupportsFloat:
        """A rate for every trainable block and the head."""
        rates = block_rates(self._recipe, lr, self.engine.blocks, self.engine.trainable)
        return self.engine.train_step(batch, targets, lr=rates, weights=weights)

    def release(self, trainable: Sequence[str]) -> None:
        """Where the last phase trained other blocks; the optimizer is gone then."""
        if tuple(trainable) != self.engine.trainable:
            self.engine.set_trainable(trainable)

    def numerics(self) -> dict[str, str]:
        """The engine's too."""
        return super().numerics() | self.engine.numerics()

    def validation_logits(self) -> Array | None:
        """In inference mode."""
        if self._validation is None:
            return None
        order = np.arange(self._validation_size)
        return np.concatenate(
            [self.engine.logits(b) for _, b in self._validation(order, self._recipe.batch_size, 0)]
        )

    def state(self) -> dict[str, Array]:
        """The engine's."""
        return self.engine.state()

    def load_state(self, state: Mapping[str, Array]) -> None:
        """Into the engine."""
        self.engine.load_state(state)

    def training_state(self) -> dict[str, Array]:
        """The engine's."""
        return self.engine.training_state()

    def load_training_state(self, state: Mapping[str, Array]) -> None:
        """Into the engine."""
        self.engine.load_training_state(state)


class HeadLearner(Learner):
    """A linear head on features float32 [N, D] (perhaps a memory map), trained in numpy.

    The same numbers as a frozen network's own steps give, up to rounding: features do not change.
    """

    def __init__(
        self, features: Array, weight: Array, bias: Array, *, validation: Array | None = None
    ) -> None:
        self.values = {HEAD_WEIGHT: np.array(weight, np.float32), HEAD_BIAS: np.array(bias, np.float32)}
        self._features, self._validation = features, validation

    def batches(self, order: Array, batch_size: int, epoch: int) -> Iterator[tuple[Array, Batch]]:
        """Rows of the features."""
        for start in range(0, len(order), batch_size):
            index = order[start : start + batch_size]
            yield index, {"features": self._features[index]}

    def start(self, recipe: Recipe, trainable: Sequence[str]) -> None:
        """In numpy; there is nothing but the head."""
        self._optimizer = Optimizer(recipe)

    def step(self, batch: Batch, targets: Array, lr: float, weights: Array | None = None) -> float:
        """Mean cross-entropy; its gradient by the logits is (p - t) / N where the rows of t sum to 1."""
        features = batch["features"]
        log_p = log_softmax(self._logits(features))
        share = np.ones(len(targets)) if weights is None else weights.astype(np.float64)
        share = share[:, None] / share.sum()
        slope = ((np.exp(log_p) - targets) * share).astype(np.float32)
        gradients = {HEAD_WEIGHT: slope.T @ features, HEAD_BIAS: slope.sum(axis=0)}
        self._optimizer.update(self.values, gradients, dict.fromkeys(self.values, lr))
        return float(-(targets * log_p * share).sum())

    def _logits(self, features: Array) -> Array:
        logits: Array = features @ self.values[HEAD_WEIGHT].T + self.values[HEAD_BIAS]
        return logits

    def validation_logits(self) -> Array | None:
        """Of the validation features."""
        return None if self._validation is None else self._logits(self._validation)

    def state(self) -> dict[str, Array]:
        """The head alone."""
        return {name: value.copy() for name, value in self.values.items()}

    def load_state(self, state: Mapping[str, Array]) -> None:
        """The head alone."""
        self.values = {name: np.array(state[name]) for name in self.values}

    def release(self, trainable: Sequence[str]) -> None:
        """Nothing was frozen for it."""

    def numerics(self) -> dict[str, str]:
        """Threads of numpy's matrix products as the environment sets them."""
        return super().numerics() | {"threads": os.environ.get("OMP_NUM_THREADS", "default")}

    def training_state(self) -> dict[str, Array]:
        """The optimizer's."""
        return self._optimizer.state()

    def load_training_state(self, state: Mapping[str, Array]) -> None:
        """Into the optimizer."""
        self._optimizer.load_state(state)
