"""The door to PyTorch: the entry point `torch` of the group zoo.adapters."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

import onnx
import torch
import torchvision
import transformers
from torch import nn

from zoo.cards import ImagePreprocess, Preprocess, TextPreprocess
from zoo.engine import Adapter, LoadRequest
from zoo.errors import InputError, ModelFileError
from zoo_torch import texts, timm_models, vision
from zoo_torch.anatomy import Anatomy, default_blocks
from zoo_torch.engine import TorchEngine

PUBLISHED = {"bert": texts.BERT_BASE}


class TorchAdapter(Adapter):
    """torchvision's classifiers, BERT, and any nn.Module that ends in a Linear."""

    framework = "torch"
    notes_reads = True

    def load(self, request: LoadRequest) -> TorchEngine:
        if (published := PUBLISHED.get(request.name)) is not None:
            return texts.load(request, published)
        if request.name.startswith(timm_models.PREFIX):
            return timm_models.load(request)
        return vision.load(request)

    def rebuild(self, architecture: Mapping[str, Any], preprocess: Preprocess) -> TorchEngine:
        kind = architecture.get("kind")
        if kind == "torchvision" and isinstance(preprocess, ImagePreprocess):
            return vision.rebuild(architecture, preprocess)
        if kind == timm_models.KIND and isinstance(preprocess, ImagePreprocess):
            return timm_models.rebuild(architecture, preprocess)
        if kind == "transformers-text" and isinstance(preprocess, TextPreprocess):
            return texts.rebuild(architecture, preprocess)
        raise ModelFileError(f"the torch adapter knows no architecture of kind {kind!r}: update backbone-zoo")

    def owns(self, module: object) -> bool:
        return isinstance(module, nn.Module)

    def wrap(
        self, module: Any, *, preprocess: Preprocess, head: str, blocks: Mapping[str, Sequence[str]] | None
    ) -> TorchEngine:
        linear = _linear(module, head)
        chosen = {k: tuple(v) for k, v in blocks.items()} if blocks else default_blocks(module, head)
        odd = {
            str(p.dtype) for p in module.parameters() if p.is_floating_point() and p.dtype != torch.float32
        }
        if odd:
            raise InputError(f"this module holds {', '.join(odd)}: call module.float() before zoo.wrap")
        return TorchEngine(module, Anatomy(linear.in_features, chosen, head=head), preprocess=preprocess)

    def versions(self) -> dict[str, str]:
        packages = (torch, torchvision, transformers, onnx)
        return {package.__name__: str(package.__version__) for package in packages}


def _linear(module: nn.Module, head: str) -> nn.Linear:
    """The submodule `head`. Raises InputError naming the Linears that there are."""
    linears = {name: part for name, part in module.named_modules() if isinstance(part, nn.Linear)}
    if head not in linears:
        near = difflib.get_close_matches(head, linears, n=3, cutoff=0.3) or list(linears)[-3:]
        raise InputError(f"no Linear {head!r} in this module: did you mean {', '.join(near) or 'none'}?")
    return linears[head]


ADAPTER = TorchAdapter()
