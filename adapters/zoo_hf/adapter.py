"""The door to Hugging Face: the entry point `hf` of the group zoo.adapters."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
import safetensors
import tokenizers
import torch
import transformers

from zoo import reads
from zoo import weights as zoo_weights
from zoo.cards import ImagePreprocess, Preprocess, TextPreprocess
from zoo.engine import Adapter, LoadRequest
from zoo.errors import InputError, ModelFileError, UnknownModelError
from zoo_hf import images, processors
from zoo_hf.published import PUBLISHED, STATED
from zoo_torch import folders, texts
from zoo_torch.engine import TorchEngine

# Their tokenizers are Python code only.
WITHOUT_VOCABULARY = {"canine": "characters by their code points", "perceiver": "bytes"}


def reads_texts(config: Any) -> bool:
    """Whether a network of this config takes token ids."""
    return hasattr(config.get_text_config(), "vocab_size") and type(config) in transformers.MODEL_MAPPING


class HuggingFaceAdapter(Adapter):
    """Checkpoints by catalogue name, hub id or local folder."""

    framework = "hf"
    notes_reads = True

    def load(self, request: LoadRequest) -> TorchEngine:
        if (published := PUBLISHED.get(request.name)) is not None:
            return texts.load(request, published)
        if request.weights == texts.RANDOM and (stated := STATED.get(request.name)) is not None:
            with tempfile.TemporaryDirectory(prefix="zoo-stated-") as work, reads.aside():
                for name, values in stated.items():
                    (Path(work) / name).write_text(json.dumps(values), encoding="utf-8")
                return self._read(Path(work), request)
        return self._read(self._folder(request), request)

    def _read(self, folder: Path, request: LoadRequest) -> TorchEngine:
        """The classifier or text network that a folder's config names."""
        config = folders.read_config(folder)
        photographs = type(config) in images.CLASSES
        if photographs and (not reads_texts(config) or (folder / processors.FILE).is_file()):
            return images.from_folder(folder, request)
        if config.model_type in WITHOUT_VOCABULARY:
            raise InputError(
                f"{request.name}: a {config.model_type} reads {WITHOUT_VOCABULARY[config.model_type]}, which no "
                "tokenizer.json can say; the zoo does not run it"
            )
        if not reads_texts(config):
            raise InputError(
                f"{request.name} is a {config.model_type}: neither a text nor an image classifier"
            )
        return texts.from_folder(folder, request)

    def _folder(self, request: LoadRequest) -> Path:
        """The folder that a name or `weights` means; a hub id is downloaded. Raises UnknownModelError."""
        if request.weights not in (*texts.OFFICIAL, texts.RANDOM):
            raise UnknownModelError(
                f"{request.name} has no weights {request.weights!r}: 'main' for those in it, or 'none'"
            )
        path = Path(request.name).expanduser()
        if path.is_dir():
            return path
        parts = request.name.split("/")
        if path.is_absolute() or request.name.startswith(".") or len(parts) != 2:
            raise UnknownModelError(
                f"no folder {request.name}: give a local folder, or a hub id such as org/name"
            )
        return zoo_weights.mirrored(request.name) or folders.snapshot(request.name, configured=True)

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
