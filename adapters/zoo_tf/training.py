"""One training step in one traced graph: forward with a mode for each block, backward, update."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from zoo.cards import Recipe
from zoo.engine import HEAD, HEAD_BIAS, HEAD_WEIGHT, Array
from zoo.errors import TrainingError
from zoo_tf.network import Network, seed_variables, take, variable_keys
from zoo_tf.optimizers import TorchOptimizer
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
        self._traced = tf.function(self._step, input_signature=self._signature())

    def step(
        self, tensors: Sequence[Array], targets: Array, weights: Array | None, lr: Mapping[str, float]
    ) -> Any:
        """One step; tensors in the native layout. Returns the loss before it, a scalar tensor."""
        count = len(targets)
        if weights is None:
            weights = np.ones(count, np.float32)
        numbers = self.optimizer.numbers(lr, self._steps + 1)
        loss = self._traced(
            list(tensors),
            np.asarray(targets, np.float32),
            np.asarray(weights, np.float32),
            numbers,
            self._draw_seeds(),
        )
        self._steps += 1
        return loss

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

    def _draw_seeds(self) -> Array:
        """int64 [generators, 2], a function of (recipe.seed, step) alone."""
        sequence = np.random.SeedSequence([self._recipe.seed, self._steps])
        numbers = sequence.generate_state(2 * len(self._seeds)) if self._seeds else np.zeros(0)
        return (numbers.astype(np.int64) & 0x7FFFFFFF).reshape(-1, 2)

    def _step(self, tensors: Any, targets: Any, weights: Any, numbers: Any, seeds: Any) -> Any:
        """Traced. Cross-entropy weighted by sample: sum(w * loss) / sum(w), torch's."""
        for index, variable in enumerate(self._seeds):
            variable.assign(seeds[index])
        variables = list(self.optimizer.variables.values())
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(variables)
            features = take(
                self._network.backbone, tensors, lambda layer: self._block_of.get(layer) in self._training
            )
            logits = self._head(_single(features))
            losses = tf.nn.softmax_cross_entropy_with_logits(labels=targets, logits=logits)
            loss = tf.reduce_sum(losses * weights) / tf.reduce_sum(weights)
        self.optimizer.apply(tape.gradient(loss, variables), numbers)
        return loss


def _single(value: Any) -> Any:
    return value[0] if isinstance(value, list | tuple) else value
