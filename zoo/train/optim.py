"""torch.optim's update formulas in numpy, so that a head trained here is the head that PyTorch would train.

Formulas: torch.optim.SGD (momentum, no dampening, L2 decay), Adam (Kingma & Ba 2015, L2 decay), AdamW
(Loshchilov & Hutter 2019, decoupled decay). Values and slots are float32; what depends on the step alone
(bias corrections, step sizes) is float64, as in torch: Keras computes it in float32 and drifts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from zoo.cards import Recipe
from zoo.engine import Array


def clip(gradients: Mapping[str, Array], clip_norm: float | None) -> dict[str, Array]:
    """torch.nn.utils.clip_grad_norm_: all scaled by clip_norm / (global norm + 1e-6), never up."""
    if clip_norm is None:
        return dict(gradients)
    norm = math.sqrt(sum(float(np.square(g, dtype=np.float64).sum()) for g in gradients.values()))
    factor = np.float32(min(1.0, clip_norm / (norm + 1e-6)))
    return {key: gradient * factor for key, gradient in gradients.items()}


class Optimizer:
    """One recipe's optimizer over named float32 arrays; slots appear with the first update, as in torch."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe, self.steps = recipe, 0
        self.slots: dict[str, Array] = {}

    def update(
        self, values: Mapping[str, Array], gradients: Mapping[str, Array], rates: Mapping[str, float]
    ) -> None:
        """Move `values` in place by their gradients, each at its own rate; clips by the global norm first."""
        self.steps += 1
        rule = self._sgd if self.recipe.optimizer == "sgd" else self._adam
        for key, gradient in clip(gradients, self.recipe.clip_norm).items():
            rule(key, values[key], gradient.astype(np.float32, copy=False), rates[key])

    def _sgd(self, key: str, value: Array, gradient: Array, lr: float) -> None:
        slope = self._with_l2(value, gradient)
        if self.recipe.momentum:
            # A slot of zeros gives the gradient itself at the first step, which is what torch starts from.
            slot = self._slot(f"momentum.{key}", value)
            slot *= np.float32(self.recipe.momentum)
            slot += slope
            slope = slot
        value -= np.float32(lr) * slope

    def _adam(self, key: str, value: Array, gradient: Array, lr: float) -> None:
        beta1, beta2 = self.recipe.betas
        if self.recipe.optimizer == "adamw":
            value *= np.float32(1 - lr * self.recipe.weight_decay)
        else:
            gradient = self._with_l2(value, gradient)
        mean, square = self._slot(f"mean.{key}", value), self._slot(f"square.{key}", value)
        mean += (gradient - mean) * np.float32(1 - beta1)
        square *= np.float32(beta2)
        square += np.float32(1 - beta2) * gradient * gradient
        size = lr / (1 - beta1**self.steps)
        root = np.sqrt(square) / np.float32(math.sqrt(1 - beta2**self.steps))
        value -= np.float32(size) * (mean / (root + np.float32(self.recipe.eps)))

    def _with_l2(self, value: Array, gradient: Array) -> Array:
        decay = self.recipe.weight_decay
        return gradient + np.float32(decay) * value if decay else gradient

    def _slot(self, name: str, like: Array) -> Array:
        return self.slots.setdefault(name, np.zeros_like(like))

    def state(self) -> dict[str, Array]:
        """Copies of the step counter and the slots."""
        return {"steps": np.array(self.steps), **{name: slot.copy() for name, slot in self.slots.items()}}

    def load_state(self, state: Mapping[str, Array]) -> None:
        """Take back what `state` gave."""
        self.steps = int(state["steps"])
        self.slots = {name: np.array(slot) for name, slot in state.items() if name != "steps"}
