"""What the training loop trains: a whole network through its engine, or a head alone on cached features.

One loop over both, so that order, batches, schedule, early stopping, checkpoints and resuming are the same.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import SupportsFloat, TypeAlias

import numpy as np

from zoo.cards import Preprocess, Recipe
from zoo.data import Input, batches
from zoo.engine import HEAD, HEAD_BIAS, HEAD_WEIGHT, Array, Batch, Engine
from zoo.train.metrics import log_softmax
from zoo.train.optim import Optimizer

Source: TypeAlias = Callable[[Array, int], Iterator[tuple[Array, Batch]]]
"""(order int64 [N], batch size) -> (indices, batch), the last, partial batch included."""


class Learner(ABC):
    """state: everything that training may change and that best weights are restored from, copies."""

    @abstractmethod
    def batches(self, order: Array, batch_size: int) -> Iterator[tuple[Array, Batch]]:
        """Training examples in this order: their indices, and the arrays."""

    @abstractmethod
    def start(self, recipe: Recipe) -> None:
        """A fresh optimizer."""

    @abstractmethod
    def step(self, batch: Batch, targets: Array, lr: float) -> SupportsFloat:
        """One step on soft targets float32 [N, C]; the loss before it, perhaps not computed yet."""

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


def preprocessed(inputs: Sequence[Input], preprocess: Preprocess) -> Source:
    """Decode and preprocess in threads ahead of the network, again in each epoch."""
    return lambda order, size: batches(inputs, preprocess, batch_size=size, order=order)


class NetworkLearner(Learner):
    """A network trained through its engine's own steps."""

    def __init__(
        self, engine: Engine, train: Source, validation: Source | None = None, *, validation_size: int = 0
    ) -> None:
        self.engine, self._train = engine, train
        self._validation, self._validation_size = validation, validation_size

    def batches(self, order: Array, batch_size: int) -> Iterator[tuple[Array, Batch]]:
        """From the source."""
        return self._train(order, batch_size)

    def start(self, recipe: Recipe) -> None:
        """Over what is trainable now."""
        self._batch_size, self._names = recipe.batch_size, (*self.engine.trainable, HEAD)
        self.engine.start_training(recipe)

    def step(self, batch: Batch, targets: Array, lr: float) -> SupportsFloat:
        """One rate for every trainable block and the head."""
        return self.engine.train_step(batch, targets, lr=dict.fromkeys(self._names, lr))

    def validation_logits(self) -> Array | None:
        """In inference mode."""
        if self._validation is None:
            return None
        order = np.arange(self._validation_size)
        return np.concatenate([self.engine.logits(b) for _, b in self._validation(order, self._batch_size)])

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

    def batches(self, order: Array, batch_size: int) -> Iterator[tuple[Array, Batch]]:
        """Rows of the features."""
        for start in range(0, len(order), batch_size):
            index = order[start : start + batch_size]
            yield index, {"features": self._features[index]}

    def start(self, recipe: Recipe) -> None:
        """In numpy."""
        self._optimizer = Optimizer(recipe)

    def step(self, batch: Batch, targets: Array, lr: float) -> float:
        """Mean cross-entropy; its gradient by the logits is (p - t) / N where the rows of t sum to 1."""
        features = batch["features"]
        log_p = log_softmax(self._logits(features))
        slope = ((np.exp(log_p) - targets) / len(targets)).astype(np.float32)
        gradients = {HEAD_WEIGHT: slope.T @ features, HEAD_BIAS: slope.sum(axis=0)}
        self._optimizer.update(self.values, gradients, dict.fromkeys(self.values, lr))
        return float(-(targets * log_p).sum(axis=1).mean())

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

    def training_state(self) -> dict[str, Array]:
        """The optimizer's."""
        return self._optimizer.state()

    def load_training_state(self, state: Mapping[str, Array]) -> None:
        """Into the optimizer."""
        self._optimizer.load_state(state)
