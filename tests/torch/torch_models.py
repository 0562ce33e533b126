"""Networks of torchvision's own classes, smaller than any that it publishes: the real code, in milliseconds."""

from __future__ import annotations

import torch
import torchvision
from torch import nn

from zoo_torch.families import FAMILIES, Family


def small(kind: str) -> tuple[nn.Module, Family]:
    """Networks of torchvision's classes, smaller than any that it publishes."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        if kind == "vgg":
            layers = [nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
            layers += [nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
            with torch.device("meta"):  # its own classifier has 120 million parameters
                vgg = torchvision.models.VGG(nn.Sequential(*layers), num_classes=4, init_weights=False)
            for i, width in ((0, 4 * 7 * 7), (3, 16)):
                vgg.classifier[i] = nn.Linear(width, 16)
            vgg.classifier[6] = nn.Linear(16, 4)
            return vgg.eval(), FAMILIES["vgg"]
        if kind == "densenet":
            return torchvision.models.DenseNet(8, (2, 2, 2, 2), 8, num_classes=4).eval(), FAMILIES["densenet"]
        vit = torchvision.models.VisionTransformer(32, 8, 3, 2, 16, 32, num_classes=4).eval()
        nn.init.normal_(vit.heads.head.weight)
        return vit, FAMILIES["vit"]
