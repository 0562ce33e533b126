"""torchvision's classifiers for the catalogue, from the metadata that torchvision ships with each set of weights.

Multiply-accumulates are torchvision's own figures (its `_ops`, of the builder's default weights); parameters are
counted on the network that the zoo loads, so without the auxiliary classifiers that only training reads.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

FRAMEWORK, SOURCE = "torch", "torchvision"
MEBIBYTE = 2**20  # the unit of torchvision's `_file_size`, given to three decimals
# The licence that torchvision's metadata links to; all other weights state none.
SWAG = "https://github.com/facebookresearch/SWAG/blob/main/LICENSE"
LICENCES = {SWAG: "cc-by-nc-4.0"}

STAGES = "depth=k: the mean over the map after stage k of the paper's"
# Beginning of the builder's name -> (family, paper, what is different from the same name elsewhere).
FAMILIES: dict[str, tuple[str, str, str]] = {
    "alexnet": (
        "alexnet",
        "https://arxiv.org/abs/1404.5997",
        "The one-column AlexNet of 2014. Features are the input of the last Linear (4,096). "
        f"{STAGES} three poolings.",
    ),
    "convnext": (
        "convnext",
        "https://arxiv.org/abs/2201.03545",
        f"GELU is exact (erf), LayerNorm eps 1e-6. {STAGES} four.",
    ),
    "densenet": (
        "densenet",
        "https://arxiv.org/abs/1608.06993",
        f"BatchNorm eps 1e-5; symmetric padding. {STAGES} four dense blocks, before its transition.",
    ),
    "efficientnet_b": (
        "efficientnet",
        "https://arxiv.org/abs/1905.11946",
        f"Symmetric padding, where TensorFlow's 'same' is asymmetric. {STAGES} seven.",
    ),
    "efficientnet_v2": (
        "efficientnet_v2",
        "https://arxiv.org/abs/2104.00298",
        f"Symmetric padding, where TensorFlow's 'same' is asymmetric; BatchNorm eps 1e-3. {STAGES}.",
    ),
    "googlenet": (
        "googlenet",
        "https://arxiv.org/abs/1409.4842",
        "Ported from TensorFlow: BatchNorm eps 1e-3; its 5x5 convolutions are 3x3; pixels go to -1..1 inside "
        f"the network. Without its auxiliary classifiers. {STAGES} three resolutions.",
    ),
    "inception": (
        "inception_v3",
        "https://arxiv.org/abs/1512.00567",
        "Ported from TensorFlow: BatchNorm eps 1e-3; pixels go to -1..1 inside the network. Without its "
        f"auxiliary classifier (3,326,696 of the published 27,161,264 parameters). {STAGES} three resolutions.",
    ),
    "maxvit": (
        "maxvit",
        "https://arxiv.org/abs/2204.01697",
        f"Inputs are multiples of 224 pixels. {STAGES} four.",
    ),
    "mnasnet": ("mnasnet", "https://arxiv.org/abs/1807.11626", f"BatchNorm momentum 3e-4. {STAGES} six."),
    "mobilenet_v2": (
        "mobilenet_v2",
        "https://arxiv.org/abs/1801.04381",
        "Symmetric padding, where TensorFlow's 'same' is asymmetric; BatchNorm eps 1e-5. "
        f"{STAGES} seven rows of bottlenecks.",
    ),
    "mobilenet_v3": (
        "mobilenet_v3",
        "https://arxiv.org/abs/1905.02244",
        "Symmetric padding, where TensorFlow's 'same' is asymmetric; BatchNorm eps 1e-3; features are after the "
        f"classifier's first Linear. {STAGES} widths.",
    ),
    "regnet": ("regnet", "https://arxiv.org/abs/2003.13678", f"{STAGES} four."),
    "resnet": (
        "resnet",
        "https://arxiv.org/abs/1512.03385",
        "From 50 layers on v1.5: the stride is in the 3x3 convolution (the paper's and Keras's v1: in the first "
        f"1x1). {STAGES} four.",
    ),
    "resnext": ("resnext", "https://arxiv.org/abs/1611.05431", f"{STAGES} four."),
    "shufflenet": ("shufflenet_v2", "https://arxiv.org/abs/1807.11164", f"{STAGES} three."),
    "squeezenet": (
        "squeezenet",
        "https://arxiv.org/abs/1602.07360",
        "Its own head is a convolution before the pooling, so not linear on the features. "
        f"{STAGES} three resolutions.",
    ),
    "swin": (
        "swin",
        "https://arxiv.org/abs/2103.14030",
        f"Takes other sizes by padding its windows. GELU is exact (erf). {STAGES} four.",
    ),
    "swin_v2": (
        "swin_v2",
        "https://arxiv.org/abs/2111.09883",
        f"Takes other sizes by padding its windows. GELU is exact (erf). {STAGES} four.",
    ),
    "vgg": (
        "vgg",
        "https://arxiv.org/abs/1409.1556",
        f"Features are the input of the last Linear (4,096). {STAGES} five poolings.",
    ),
    "vit": (
        "vit",
        "https://arxiv.org/abs/2010.11929",
        "GELU is exact (erf), LayerNorm eps 1e-6; other sizes by interpolated positions. "
        "depth=k: the first k layers, then its own norm.",
    ),
    "wide_resnet": (
        "wide_resnet",
        "https://arxiv.org/abs/1605.07146",
        f"The stride is in the 3x3 convolution. {STAGES} four.",
    ),
}
BATCH_NORMED_VGG = "With BatchNorm, which the paper's has not. "


def cards() -> Iterator[dict[str, Any]]:
    """A card for each of torchvision's builders of classifiers."""
    import torchvision

    for name in torchvision.models.list_models(module=torchvision.models):
        beginning = max((known for known in FAMILIES if name.startswith(known)), key=len)
        family, paper, note = FAMILIES[beginning]
        tags = torchvision.models.get_model_weights(name)
        default = tags.DEFAULT
        params, depths = measured(name, crop(default))
        yield {
            "framework": FRAMEWORK,
            "name": name,
            "task": "image-classification",
            "family": family,
            "source": SOURCE,
            "params": params,
            "macs_g": default.meta["_ops"],
            "size": crop(default),
            "paper": paper,
            "depths": depths,
            "weights": [weights(entry, crop(default)) for entry in [default, *others(tags)]],
            "note": (BATCH_NORMED_VGG if name.endswith("_bn") else "") + note,
        }


def others(tags: Any) -> list[Any]:
    """The entries that "default" does not load."""
    return [entry for entry in tags if entry is not tags.DEFAULT]


def crop(entry: Any) -> int:
    """Input pixels a side."""
    return int(entry.transforms().crop_size[0])


def weights(entry: Any, usual: int) -> dict[str, Any]:
    """The WeightsCard of one entry of torchvision's enum."""
    from zoo_torch import vision

    file = entry.url.rpartition("/")[2]
    found = {
        "tag": entry.name,
        "file": file,
        "url": entry.url,
        "sha256": file.rpartition(".")[0].rpartition("-")[2],
        "licence": LICENCES.get(entry.meta.get("license", ""), "unknown"),
        "source": entry.meta["recipe"],
        "bytes": round(entry.meta["_file_size"] * MEBIBYTE),
        "size": None if crop(entry) == usual else crop(entry),
        "preprocess": vision.preprocess_of(entry, None),
    }
    value = entry.meta["_metrics"]["ImageNet-1K"]["acc@1"]
    if not math.isnan(value):  # VGG's file without a classifier states none
        found |= {"metric": "acc@1", "dataset": "ImageNet-1K", "value": value}
    return found


def measured(name: str, size: int) -> tuple[int, tuple[int, ...]]:
    """Parameters and depths of the network that the zoo loads for an input of `size`."""
    import torch

    from zoo_torch import vision

    try:
        with torch.device("meta"):
            module, anatomy = vision.build(name, 1000, size=size)
    except NotImplementedError:  # RegNet computes its widths with tensors, so it needs real memory
        module, anatomy = vision.build(name, 1000, size=size)
    return sum(p.numel() for p in module.parameters()), anatomy.depths
