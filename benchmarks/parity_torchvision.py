"""The parity sweep's torchvision: every classifier, random, at the smallest input that says something."""

from __future__ import annotations

from pathlib import Path
from typing import Any

FRAMEWORK = "torch"
# One ONNX file is one protobuf message, which ends at 2 GiB; the zoo ships one file a model.
TWO_GIB = (
    "over 2 GiB of weights in one ONNX file: https://github.com/onnx/onnx/blob/main/docs/ExternalData.md; "
    "cut in depth it exports"
)
UPSTREAM: dict[str, str] = {"regnet_y_128gf": TWO_GIB, "vit_h_14": TWO_GIB}
SIZE = 64
FADING = ("densenet", "efficientnet", "googlenet", "inception", "mnasnet", "mobilenet")
# Gamma of the last BatchNorm of a residual branch. At 1, forty random units double a difference of one rounding
# again and again: EfficientNetV2-S in float32 is then 2 % of the spread off its own float64, at .1 it is 2e-6.
RESIDUAL = 0.1
# MaxViT's windows fit no smaller input; Inception's valid convolutions end at 75; ViT takes whole patches.
SIZES = {"maxvit_t": 224, "inception_v3": 75, "vit_h_14": 56}


def items(every: bool) -> list[str]:
    """All of torchvision's classifiers."""
    import torchvision

    return list(torchvision.models.list_models(module=torchvision.models))


def prepare(item: str, folder: Path) -> tuple[str, dict[str, Any]]:
    """Random weights, drawn from a seed; where signals would fade on the way, with BatchNorm statistics that fit."""
    size = SIZES.get(item, SIZE)
    weights = str(_with_statistics(item, folder, size)) if item.startswith(FADING) else None
    return f"torch:{item}", {"weights": weights, "size": size}


def _with_statistics(item: str, folder: Path, size: int) -> Path:
    """A file of random weights whose BatchNorm statistics are those of the sweep's own images.

    Fresh statistics (mean 0, variance 1) let these deep, thin networks shrink every signal below float32's
    rounding: all images would look alike, and equal outputs would prove nothing.
    """
    import torch
    import torchvision

    from zoo.graph.samples import parity_batches
    from zoo_torch import vision

    module, _ = vision.build(item, 1000, seed=1)
    module.eval()  # but for the norms: stochastic depth would leave blocks out of the statistics, at random
    for part in module.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.train()
            part.momentum = None  # the plain average over the batches seen
        if getattr(part, "use_res_connect", False):
            norms = [inner for inner in part.modules() if isinstance(inner, torch.nn.BatchNorm2d)]
            torch.nn.init.constant_(norms[-1].weight, RESIDUAL)
    preprocess = vision.preprocess_of(torchvision.models.get_model_weights(item).DEFAULT, size)
    images = parity_batches(preprocess, ("images",))[-1]["images"]
    with torch.no_grad():
        module(torch.from_numpy(images))
    path = folder / "random.pth"
    torch.save(module.state_dict(), path)
    return path
