"""torch.optim's update formulas on TensorFlow variables, so that equal settings are equal training.

Keras's own optimizers add epsilon before the bias correction, compute that in float32 and keep the
learning rate inside the momentum: equal settings end up to 6 % apart in the weights. Formulas: the
algorithm boxes of torch.optim.SGD, Adam, AdamW and torch.nn.utils.clip_grad_norm_. What changes from step
to step (rates, corrections) is computed in float64 here and enters the graph as numbers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from zoo.cards import Recipe
from zoo.engine import Array
from zoo.errors import TrainingError
from zoo_tf.start import tf

SLOTS = {"sgd": ("momentum",), "adam": ("mean", "square"), "adamw": ("mean", "square")}
RATE, KEEP, ROOT = 0, 1, 2  # columns of `numbers`


class TorchOptimizer:
    """Slots and updates for named variables, each in a group that has a rate of its own."""

    def __init__(self, recipe: Recipe, variables: Mapping[str, Any], groups: Sequence[str]) -> None:
        """variables: key -> tf.Variable.  groups: one for each variable, in the same order."""
        self.recipe = recipe
        self.variables = dict(variables)
        self.groups = list(dict.fromkeys(groups))
        self._row = [self.groups.index(group) for group in groups]
        self.slots = {
            slot: {key: tf.Variable(tf.zeros_like(v), trainable=False) for key, v in variables.items()}
            for slot in SLOTS[recipe.optimizer]
        }

    def numbers(self, lr: Mapping[str, float], step: int) -> Array:
        """float32 [groups, 3] for step 1, 2, ...: rate, factor of decoupled decay, root of correction 2."""
        if missing := [group for group in self.groups if group not in lr]:
            raise TrainingError(
                f"no learning rate for {', '.join(missing)}: lr must name every trained block"
            )
        beta_1, beta_2 = self.recipe.betas
        adam = self.recipe.optimizer != "sgd"
        first = 1 - beta_1**step if adam else 1.0
        root = math.sqrt(1 - beta_2**step) if adam else 1.0
        decay = self.recipe.weight_decay
        rows = [(lr[group] / first, 1 - lr[group] * decay, root) for group in self.groups]
        return np.asarray(rows, np.float64).astype(np.float32)

    def apply(self, gradients: Sequence[Any], numbers: Any) -> None:
        """One update; to be traced. gradients: in the order of the variables; None counts as zero."""
        dense = [
            tf.zeros_like(v) if g is None else tf.convert_to_tensor(g)
            for g, v in zip(gradients, self.variables.values(), strict=True)
        ]
        update = self._sgd if self.recipe.optimizer == "sgd" else self._adam
        for row, key, gradient in zip(self._row, self.variables, self._clipped(dense), strict=True):
            update(key, gradient, numbers[row])

    def _clipped(self, gradients: list[Any]) -> list[Any]:
        if self.recipe.clip_norm is None:
            return gradients
        total = tf.norm(tf.stack([tf.norm(g) for g in gradients]))
        factor = tf.minimum(self.recipe.clip_norm / (total + 1e-6), 1.0)
        return [g * factor for g in gradients]

    def _with_decay(self, key: str, gradient: Any) -> Any:
        """Decay as L2, torch's for SGD and Adam."""
        decay = self.recipe.weight_decay
        return gradient + decay * self.variables[key] if decay else gradient

    def _sgd(self, key: str, gradient: Any, numbers: Any) -> None:
        step = self._with_decay(key, gradient)
        if self.recipe.momentum:
            step = self.slots["momentum"][key].assign(
                self.slots["momentum"][key] * self.recipe.momentum + step
            )
        self.variables[key].assign_sub(step * numbers[RATE])

    def _adam(self, key: str, gradient: Any, numbers: Any) -> None:
        beta_1, beta_2 = self.recipe.betas
        variable, mean, square = self.variables[key], self.slots["mean"][key], self.slots["square"][key]
        if self.recipe.optimizer == "adamw":
            if self.recipe.weight_decay:
                variable.assign(variable * numbers[KEEP])
        else:
            gradient = self._with_decay(key, gradient)
        m = mean.assign(mean + (gradient - mean) * (1 - beta_1))
        v = square.assign(square * beta_2 + gradient * gradient * (1 - beta_2))
        variable.assign_sub(numbers[RATE] * m / (tf.sqrt(v) / numbers[ROOT] + self.recipe.eps))

    def state(self) -> dict[str, Array]:
        """Copies of the slots, as "<slot>.<key>"."""
        return {
            f"{slot}.{key}": np.array(variable.numpy())
            for slot, variables in self.slots.items()
            for key, variable in variables.items()
        }

    def load_state(self, state: Mapping[str, Array]) -> None:
        """Take back `state`. Raises TrainingError where keys or shapes are of another run."""
        own = {f"{slot}.{key}": v for slot, vs in self.slots.items() for key, v in vs.items()}
        wrong = sorted(own.keys() ^ state.keys())
        wrong += [k for k in own.keys() & state.keys() if tuple(own[k].shape) != state[k].shape]
        if wrong:
            raise TrainingError(
                f"the optimizer's state is of another run: {', '.join(wrong[:5])} do not fit. "
                "Resume with the same recipe, model and frozen blocks, or start anew."
            )
        for key, variable in own.items():
            variable.assign(state[key])
