"""The door to Hugging Face: the entry point `hf` of the group zoo.adapters."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
import safetensors
import tokenizers
import torch
import transformers

from zoo import weights as zoo_weights
from zoo.cards import ImagePreprocess, Preprocess, TextPreprocess
from zoo.engine import Adapter, LoadRequest
from zoo.errors import InputError, ModelFileError, UnknownModelError
from zoo_hf import images
from zoo_torch import folders, texts
from zoo_torch.engine import TorchEngine

# Radford et al. 2019, the smallest model, and Wang et al. 2020 as sentence-transformers trained it: their
# config.json on the hub, in full.
GPT2 = texts.Published(
    "openai-community/gpt2",
    {
        "model_type": "gpt2",
        "vocab_size": 50257,
        "n_positions": 1024,
        "n_embd": 768,
        "n_layer": 12,
        "n_head": 12,
        "activation_function": "gelu_new",
        "resid_pdrop": 0.1,
        "embd_pdrop": 0.1,
        "attn_pdrop": 0.1,
        "layer_norm_epsilon": 1e-5,
        "initializer_range": 0.02,
        "bos_token_id": 50256,
        "eos_token_id": 50256,
    },
)
MINILM = texts.Published(
    "sentence-transformers/all-MiniLM-L6-v2",
    {
        **texts.BERT_BASE.config,
        "hidden_size": 384,
        "num_hidden_layers": 6,
        "intermediate_size": 1536,
    },
)
PUBLISHED = {"bert": texts.BERT_BASE, "gpt2": GPT2, "all-minilm-l6-v2": MINILM}


class HuggingFaceAdapter(Adapter):
    """Checkpoints by catalogue name, hub id or local folder."""

    framework = "hf"

    def load(self, request: LoadRequest) -> TorchEngine:
        if (published := PUBLISHED.get(request.name)) is not None:
            return texts.load(request, published)
        folder = self._folder(request)
        config = folders.read_config(folder)
        if type(config) in images.CLASSES and (folder / "preprocessor_config.json").is_file():
            return images.from_folder(folder, request)
        if not hasattr(config, "vocab_size"):
            raise InputError(
                f"{request.name} is a {config.model_type}: neither a text nor an image classifier"
            )
        return texts.from_folder(folder, request)

    def _folder(self, request: LoadRequest) -> Path:
        """The folder that a name or `weights` means; a hub id is downloaded. Raises UnknownModelError."""
        if request.weights not in (texts.DEFAULT, texts.RANDOM):
            raise UnknownModelError(
                f"{request.name} has no weights {request.weights!r}: 'default' for those in it, or 'none'"
            )
        path = Path(request.name).expanduser()
        if path.is_dir():
            return path
        parts = request.name.split("/")
        if path.is_absolute() or request.name.startswith(".") or len(parts) != 2:
            raise UnknownModelError(
                f"no folder {request.name}: give a local folder, or a hub id such as org/name"
            )
        return zoo_weights.mirrored(request.name) or folders.snapshot(request.name)

    def rebuild(self, architecture: Mapping[str, Any], preprocess: Preprocess) -> TorchEngine:
        kind = architecture.get("kind")
        if kind == "transformers-text" and isinstance(preprocess, TextPreprocess):
            return texts.rebuild(architecture, preprocess)
        if kind == "transformers-image" and isinstance(preprocess, ImagePreprocess):
            return images.rebuild(architecture, preprocess)
        raise ModelFileError(f"the hf adapter knows no architecture of kind {kind!r}: update backbone-zoo")

    def versions(self) -> dict[str, str]:
        packages = (torch, transformers, tokenizers, safetensors, onnx)
        return {package.__name__: str(package.__version__) for package in packages}


ADAPTER = HuggingFaceAdapter()
