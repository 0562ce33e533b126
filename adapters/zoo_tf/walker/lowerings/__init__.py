"""One function for each layer, activation function or keras.ops operation: the table of all of them.

A function takes the walk, the layer or operation, and its inputs as Keras called it; it gives a Value (or a
list). A lowering says no with `RefusedError`. To add one: write the function, put its class into its file's table.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from zoo_tf.walker.lowerings import (
    activations,
    attention,
    convolution,
    dense,
    disentangled,
    elementwise,
    hub,
    indexing,
    merging,
    normalization,
    pooling,
    reductions,
    shaping,
)

TABLES = (
    activations,
    attention,
    convolution,
    dense,
    disentangled,
    elementwise,
    hub,
    indexing,
    merging,
    normalization,
    pooling,
    reductions,
    shaping,
)

LOWERINGS: dict[Any, Callable[..., Any]] = {key: f for table in TABLES for key, f in table.LOWERINGS.items()}
