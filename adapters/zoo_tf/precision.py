"""What a step is computed in, and what its bits depend on.

bfloat16 is for the length of a trace: Keras's mixed policy put on a network's layers, and put back.

The networks are built in float32 and stay so: what infers and exports never sees the policy, and the walker, which
refuses mixed precision, finds none.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Sequence

from zoo.errors import TrainingError
from zoo.recipe import Precision
from zoo_tf.start import config, keras, tf

MIXED, FLOAT32 = "mixed_bfloat16", "float32"


@contextlib.contextmanager
def computing_in(precision: Precision, layers: Sequence[keras.Layer]) -> Iterator[None]:
    """Inside, with "bf16", these layers and those within them compute in bfloat16; variables stay float32.

    Layers of another policy than float32 keep theirs.
    """
    if precision == "fp32":
        yield
        return
    every = {id(part): part for layer in layers for part in layer._flatten_layers()}.values()
    chosen = [(part, part.dtype_policy) for part in every if part.dtype_policy.name == FLOAT32]
    try:
        for part, _ in chosen:
            part.dtype_policy = MIXED
        yield
    finally:
        for part, policy in chosen:
            part.dtype_policy = policy


def numerics() -> dict[str, str]:
    """What TensorFlow's bits depend on in this process."""
    given = tf.config.threading
    threads = {
        "threads": (given.get_intra_op_parallelism_threads(), "TF_NUM_INTRAOP_THREADS"),
        "inter-op threads": (given.get_inter_op_parallelism_threads(), "TF_NUM_INTEROP_THREADS"),
    }
    chosen = {
        name: str(number or os.environ.get(key) or os.cpu_count()) for name, (number, key) in threads.items()
    }
    return {
        **chosen,
        "deterministic operations": str(bool(config.is_op_determinism_enabled())),
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
    }


@contextlib.contextmanager
def explained(precision: Precision) -> Iterator[None]:
    """Inside, an operation without a bfloat16 form, found while tracing or running, is a TrainingError."""
    try:
        yield
    except (TypeError, ValueError, tf.errors.OpError) as error:
        plain = re.sub(
            r"\x1b\[[0-9;]*m", "", str(error)
        )  # Keras writes in bold, below a traceback of its own
        said = [line.strip() for line in plain.splitlines() if "bfloat16" in line.lower()]
        if precision == "fp32" or not said:
            raise
        raise TrainingError(
            f"this network cannot be trained in bfloat16: {said[0]}. precision='fp32' trains it."
        ) from error
