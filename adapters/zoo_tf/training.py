"""One training step in one traced graph: forward with a mode for each block, backward, update."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from zoo.cards import Recipe
from zoo.engine import HEAD, HEAD_BIAS, HEAD_WEIGHT, Array, micro_batches, step_entropy
from zoo.errors import TrainingError
from zoo_tf.network import Network, seed_variables, take, variable_keys
from zoo_tf.optimizers import TorchOptimizer
from zoo_tf.precision import computing_in, explained
from zoo_tf.start import keras, tf

STEP = "step"


class Trainer:
    """Optimizer, step counter and the traced step, for the blocks that train when it is made."""

    def __init__(
        self, network: Network, head: keras.layers.Dense, recipe: Recipe, trainable: Sequence[str]
    ) -> None:
        self._network, self._head, self._recipe = network, head, recipe
        self._training = frozenset(trainable)
        self._block_of = network.block_of_layer()
        self._seeds = seed_variables(network.backbone)
        self._steps = 0
        variables, groups = self._trained_variables()
        self.optimizer = TorchOptimizer(recipe, variables, groups)
        *inputs, numbers, seeds = self._signature()
        if recipe.micro_batch_size is None:
            self._traced = tf.function(self._step, input_signature=[*inputs, numbers, seeds])
            return
        self._sums = [tf.Variable(tf.zeros_like(v), trainable=False) for v in variables.values()]
        self._add = tf.function(self._add_gradients, input_signature=[*inputs, seeds])
        self._update = tf.function(self._apply_sums, input_signature=[numbers])

    def step(
        self, tensors: Sequence[Array], targets: Array, weights: Array | None, lr: Mapping[str, float]
    ) -> Any:
        """One step; tensors in the native layout. Returns the loss before it, a scalar tensor."""
        numbers = self.optimizer.numbers(lr, self._steps + 1)
        targets = np.asarray(targets, np.float32)
        with explained(self._recipe.precision):
            if self._recipe.micro_batch_size is None:
                given = np.asarray(np.ones(len(targets)) if weights is None else weights, np.float32)
                loss = self._traced(list(tensors), targets, given, numbers, self._draw_seeds())
            else:
                loss = self._add_up(tensors, targets, weights)
                self._update(numbers)
        self._steps += 1
        return loss

    def _add_up(self, tensors: Sequence[Array], targets: Array, weights: Array | None) -> Any:
        """The whole batch's loss; its gradient stands in the sums. Micro batches go one after the other."""
        named = dict(enumerate(tensors))
        parts = micro_batches(named, targets, weights, self._recipe.micro_batch_size)
        losses = [
            self._add(list(part.values()), wanted, shares.astype(np.float32), self._draw_seeds(index))
            for index, (part, wanted, shares) in enumerate(parts)
        ]
        return tf.add_n(losses)

    def state(self) -> dict[str, Array]:
        """Copies of the optimizer's slots and the number of steps done."""
        return {STEP: np.array(self._steps, np.int64), **self.optimizer.state()}

    def load_state(self, state: Mapping[str, Array]) -> None:
        """Take back `state`. Raises TrainingError."""
        if STEP not in state:
            raise TrainingError("the optimizer's state has no step counter: it is not a training state")
        self.optimizer.load_state({key: value for key, value in state.items() if key != STEP})
        self._steps = int(state[STEP])

    def _trained_variables(self) -> tuple[dict[str, Any], list[str]]:
        """Key -> tf.Variable of what trains, and the block of each."""
        found = {
            key: (variable.value, self._block_of[layer])
            for key, (layer, variable) in variable_keys(self._network.backbone).items()
            if variable.trainable and self._block_of[layer] in self._training
        }
        found[HEAD_WEIGHT] = (self._head.kernel.value, HEAD)
        found[HEAD_BIAS] = (self._head.bias.value, HEAD)
        return {key: v for key, (v, _) in found.items()}, [block for _, block in found.values()]

    def _signature(self) -> list[Any]:
        classes, groups = self._head.units, len(self.optimizer.groups)
        return [
            self._network.signature(),
            tf.TensorSpec([None, classes], tf.float32),
            tf.TensorSpec([None], tf.float32),
            tf.TensorSpec([groups, 3], tf.float32),
            tf.TensorSpec([len(self._seeds), 2], tf.int64),
        ]

    def _draw_seeds(self, micro_batch: int = 0) -> Array:
        """int64 [generators, 2], a function of (recipe.seed, step, micro batch) alone."""
        sequence = np.random.SeedSequence(step_entropy(self._recipe.seed, self._steps, micro_batch))
        numbers = sequence.generate_state(2 * len(self._seeds)) if self._seeds else np.zeros(0)
        return (numbers.astype(np.int64) & 0x7FFFFFFF).reshape(-1, 2)

    def _step(self, tensors: Any, targets: Any, weights: Any, numbers: Any, seeds: Any) -> Any:
        """Traced. Cross-entropy weighted by sample: sum(w * loss) / sum(w), torch's."""
        loss, gradients = self._gradients(tensors, targets, weights, tf.reduce_sum(weights), seeds)
        self.optimizer.apply(gradients, numbers)
        return loss

    def _add_gradients(self, tensors: Any, targets: Any, shares: Any, seeds: Any) -> Any:
        """Traced. Of one micro batch, added to the sums; returns its part of the loss."""
        loss, gradients = self._gradients(tensors, targets, shares, 1.0, seeds)
        for total, gradient in zip(self._sums, gradients, strict=True):
            if gradient is not None:
                total.assign_add(tf.convert_to_tensor(gradient))
        return loss

    def _apply_sums(self, numbers: Any) -> None:
        """Traced. The step itself; the sums are 0 again."""
        self.optimizer.apply([tf.identity(total) for total in self._sums], numbers)
        for total in self._sums:
            total.assign(tf.zeros_like(total))

    def _gradients(
        self, tensors: Any, targets: Any, weights: Any, total: Any, seeds: Any
    ) -> tuple[Any, list[Any]]:
        """Traced. sum(w * cross-entropy) / total, and its gradients in the order of the optimizer's variables."""
        for index, variable in enumerate(self._seeds):
            variable.assign(seeds[index])
        variables = list(self.optimizer.variables.values())
        layers = [self._network.backbone, self._head]
        with (
            computing_in(self._recipe.precision, layers),
            tf.GradientTape(watch_accessed_variables=False) as tape,
        ):
            tape.watch(variables)
            features = take(
                self._network.backbone, tensors, lambda layer: self._block_of.get(layer) in self._training
            )
            logits = tf.cast(self._head(_single(features)), tf.float32)
            losses = tf.nn.softmax_cross_entropy_with_logits(labels=targets, logits=logits)
            loss = tf.reduce_sum(losses * weights) / total
        return loss, tape.gradient(loss, variables)


def _single(value: Any) -> Any:
    return value[0] if isinstance(value, list | tuple) else value
