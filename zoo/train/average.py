"""An exponential moving average of a network's state, which often judges better than the last step does."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from zoo.engine import Array


class Average:
    """Polyak & Juditsky 1992, with a decay that starts low: min(decay, (1 + n) / (10 + n)) at update n.

    So a short run is no average of its first weights (TensorFlow's ExponentialMovingAverage does the same).
    Floating values are averaged, running statistics too; whole numbers and buffers that hold infinities
    (attention masks) are taken as they are.
    """

    def __init__(self, decay: float, state: Mapping[str, Array], updates: int = 0) -> None:
        self.decay, self.updates = decay, updates
        self.values = {name: np.array(value) for name, value in state.items()}
        self._averaged = {
            name
            for name, value in self.values.items()
            if np.issubdtype(value.dtype, np.floating) and np.isfinite(value).all()
        }

    def update(self, state: Mapping[str, Array]) -> None:
        """Move towards `state`, which is not kept."""
        self.updates += 1
        share = np.float32(1 - min(self.decay, (1 + self.updates) / (10 + self.updates)))
        for name, value in state.items():
            if name in self._averaged:
                self.values[name] += (value - self.values[name]) * share
            else:
                self.values[name] = np.array(value)

    def state(self) -> dict[str, Array]:
        """Copies."""
        return {name: value.copy() for name, value in self.values.items()}
