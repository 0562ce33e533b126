"""keras.applications for the parity sweep: every class at the smallest size that it takes.

Of the widths and sizes of the MobileNets, which differ in numbers only, one small member each; with `--all` all.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

FRAMEWORK = "tf"
UPSTREAM: dict[str, str] = {}
SIZES = {"xception": 71, "inception_v3": 75, "inception_resnet_v2": 75}
RESIDUAL = 0.1
SMALLEST = 64
"""At 32 pixels most networks end in a map of one pixel, which hides errors of padding."""


def items(every: bool) -> list[str]:
    """All architectures; one member of each MobileNet, unless `every`."""
    from zoo_tf.applications import APPLICATIONS

    small = ("mobilenet_v1_0.25_128", "mobilenet_v2_0.35_96", "mobilenet_v3_small_0.75_224")
    extra = ("mobilenet_v3_large", "mobilenet_v3_large_minimalistic_1.0_224", "mobilenet_v3_small")
    chosen = {*small, *extra, "mobilenet_v1", "mobilenet_v2"}
    return [name for name in APPLICATIONS if every or not name.startswith("mobilenet") or name in chosen]


def prepare(item: str, folder: Path) -> tuple[str, dict[str, Any]]:
    """Random weights at a small size; EfficientNets with calm residual branches."""
    size = SIZES.get(item, SMALLEST)
    weights = str(_calm(item, folder, size)) if item.startswith("efficientnet") else None
    return f"tf:{item},size={size}", {"weights": weights}


def _calm(item: str, folder: Path, size: int) -> Path:
    """A file of random weights whose residual branches end in a small gamma.

    At 1 the many units double a difference again and again: with EfficientNetV2-M a change of the image by one
    rounding (2^-22) moves Keras's own features by 0.32 of their spread.
    """
    from zoo_tf import images
    from zoo_tf.applications import APPLICATIONS
    from zoo_tf.network import seeded

    with seeded(0):
        model = images.build(APPLICATIONS[item], size=size)
    for layer in model.layers:
        if layer.name.endswith("project_bn"):
            layer.gamma.assign(layer.gamma * RESIDUAL)
    path = folder / "calm.weights.h5"
    model.save_weights(str(path))
    return path
