"""The torch adapter keeps the public contract: torchvision families, a text encoder, somebody's own module."""

from __future__ import annotations

import copy
import functools
import tempfile
from pathlib import Path

import torch
import transformers
from torch import nn
from torch_models import small

from zoo.cards import ImagePreprocess
from zoo.engine import LoadRequest
from zoo.testing import Case, ModelContract
from zoo_torch import texts
from zoo_torch.adapter import ADAPTER
from zoo_torch.anatomy import seeded
from zoo_torch.engine import TorchEngine


@functools.cache
def _made(name: str, size: int, depth: int | None) -> TorchEngine:
    return ADAPTER.load(LoadRequest(name, weights="none", size=size, depth=depth))


def image(name: str, size: int, depth: int | None = None) -> TorchEngine:
    """A copy: drawing the weights takes longer than most of the tests."""
    return copy.deepcopy(_made(name, size, depth))


def thin(kind: str, size: int) -> TorchEngine:
    """A small member of a family whose published ones are large."""
    module, family = small(kind)
    return TorchEngine(module, family.read(module), preprocess=ImagePreprocess(size, size))


def bert(depth: int | None = None) -> TorchEngine:
    """A BERT of the published architecture, small."""
    config = transformers.BertConfig(
        vocab_size=90,
        hidden_size=24,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=48,
        max_position_embeddings=40,
    )
    with tempfile.TemporaryDirectory() as folder:
        config.save_pretrained(folder)
        return texts.from_folder(Path(folder), LoadRequest("bert", weights="none", depth=depth))


def wrapped() -> TorchEngine:
    """Somebody's network: batch norm, a dropout that belongs to no block, a head that is not the last op."""
    with seeded(3, torch.device("cpu")):
        module = nn.Sequential()
        module.add_module("conv", nn.Conv2d(3, 6, 3, stride=2))
        module.add_module("norm", nn.BatchNorm2d(6))
        module.add_module("pool", nn.Sequential(nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten()))
        module.add_module("mix", nn.Linear(24, 16))
        module.add_module("drop", nn.Dropout(0.4))
        module.add_module("fc", nn.Linear(16, 4))
        module.add_module("softmax", nn.Softmax(dim=1))
    return ADAPTER.wrap(module, preprocess=ImagePreprocess(12, 12), head="fc", blocks=None)


class TestTorch(ModelContract):
    cases = (
        Case("torch:resnet18", functools.partial(image, "resnet18", 32)),
        Case("torch:squeezenet1_1", functools.partial(image, "squeezenet1_1", 64)),
        Case(
            "torch:shufflenet_v2_x0_5",
            functools.partial(image, "shufflenet_v2_x0_5", 32),
            at_depth=functools.partial(image, "shufflenet_v2_x0_5", 32),
        ),
        Case("torch:inception_v3,depth=1", functools.partial(image, "inception_v3", 75, 1)),
        Case("torch:vgg", functools.partial(thin, "vgg", 12)),
        Case("torch:densenet", functools.partial(thin, "densenet", 32)),
        Case("torch:vit", functools.partial(thin, "vit", 32)),
        Case("torch:bert", bert, at_depth=bert),
        Case("torch:wrapped", wrapped),
    )
