"""How a network's numbers lie in memory: channels last where convolutions are most of the work.

On a CPU torch's convolutions are then faster (benchmarks/layout.py has the figures by family), and photographs,
which are decoded channels last, need no copy. What a network computes is the same up to rounding, so the layout
must never depend on a timing: it is a function of network and device alone, and a resumed run has it again.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from zoo.engine import Array

NCHW, CHANNELS_LAST = "contiguous", "channels_last"


def layout_of(module: nn.Module, device: torch.device) -> str:
    """CHANNELS_LAST on a CPU for a network with more convolutions than linear layers, else NCHW.

    Transformers have one convolution, for their patches, and would only pay for it.
    """
    parts = list(module.modules())
    convolutions = sum(isinstance(part, nn.Conv2d) for part in parts)
    linear = sum(isinstance(part, nn.Linear) for part in parts)
    return CHANNELS_LAST if device.type == "cpu" and convolutions > linear else NCHW


def arrange(module: nn.Module, layout: str) -> nn.Module:
    """The module, its weights [O, I, H, W] in this layout."""
    return module.to(memory_format=torch.channels_last) if layout == CHANNELS_LAST else module


def image_tensor(images: Array, layout: str) -> Tensor:
    """float32 [N, C, H, W] in this layout; without a copy where the array lies so already."""
    hwc = images.transpose(0, 2, 3, 1)
    if layout == CHANNELS_LAST and hwc.flags.c_contiguous and hwc.flags.writeable:
        return torch.from_numpy(hwc).permute(0, 3, 1, 2)
    tensor = torch.from_numpy(np.require(images, requirements=["C", "W"]))
    return tensor.contiguous(memory_format=torch.channels_last) if layout == CHANNELS_LAST else tensor


def like(value: Array, parameter: Tensor) -> Tensor:
    """A copy of the array on the parameter's device, laid out as the parameter where it has its shape."""
    given = torch.from_numpy(np.array(value))
    if given.shape != parameter.shape:
        return given.to(parameter.device)
    return torch.empty_like(parameter, dtype=given.dtype, requires_grad=False).copy_(given)
