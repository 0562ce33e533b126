"""Text networks of transformers as the zoo asks for them: by published name, by folder, with which weights.

`text_networks` makes them, `text_anatomy` says how they are read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import transformers
from torch import Tensor

from zoo import model_folder, reads
from zoo import weights as zoo_weights
from zoo.cards import TextPreprocess
from zoo.engine import LoadRequest
from zoo.errors import InputError, UnknownModelError, WeightsCorruptError
from zoo.packaged import packaged
from zoo_torch import folders, text_anatomy, text_networks
from zoo_torch.checkpoints import fill, read_weights
from zoo_torch.engine import NO_HEAD, TorchEngine
from zoo_torch.text_anatomy import POOLINGS
from zoo_torch.text_networks import TextNetwork

# "main" is the branch of a hub repository that its downloads take.
OFFICIAL, RANDOM = ("default", "main"), "none"
# Parts of a whole checkpoint that the backbone leaves out.
HEADS = ("pooler", "cls", "lm_head", "lm_loss")


@dataclass(frozen=True)
class Published:
    """A checkpoint by name: its hub id and its config in full (the class defaults are another model at times)."""

    repo: str
    config: Mapping[str, Any]


# Devlin et al. 2018, the base model, as its config.json on the hub states it.
BERT_BASE = Published(
    "google-bert/bert-base-uncased",
    {
        "model_type": "bert",
        "vocab_size": 30522,
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1,
        "max_position_embeddings": 512,
        "type_vocab_size": 2,
        "initializer_range": 0.02,
        "layer_norm_eps": 1e-12,
        "pad_token_id": 0,
    },
)


def pooling_of(folder: Path | None, config: Any) -> str:
    """The folder's own pooling (sentence-transformers' 1_Pooling), else the kind of network decides."""
    stated = model_folder.read_json(folder / "1_Pooling" / "config.json") if folder else {}
    if not stated:
        return "lasttoken" if text_anatomy.is_decoder(config) else "mean"
    modes = [stated["pooling_mode"]] if isinstance(stated.get("pooling_mode"), str) else []
    flags = {
        "pooling_mode_mean_tokens": "mean",
        "pooling_mode_cls_token": "cls",
        "pooling_mode_max_tokens": "max",
        "pooling_mode_lasttoken": "lasttoken",
        "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len",
        "pooling_mode_weightedmean_tokens": "weightedmean",
    }
    modes += [mode for flag, mode in flags.items() if stated.get(flag)]
    if len(modes) != 1 or modes[0] not in POOLINGS:
        raise InputError(
            f"{folder}/1_Pooling asks for {' + '.join(modes) or 'no pooling'}; known: {', '.join(POOLINGS)}"
        )
    return modes[0]


# --- making
def load(request: LoadRequest, published: Published) -> TorchEngine:
    """A published checkpoint by its catalogue name. Raises as `Adapter.load` says."""
    if request.weights == RANDOM:
        return _make(request, _config(published), None)
    if request.weights in OFFICIAL:
        return from_folder(find(request.name, published), request)
    path = Path(request.weights).expanduser()
    if not path.exists():
        raise UnknownModelError(
            f"{request.name} has no weights {request.weights!r}: 'main' ({published.repo}), 'none' for "
            "random ones, or a file or folder that exists"
        )
    if path.is_dir():
        found = folders.read_config(path).model_type
        if found != published.config["model_type"]:
            raise WeightsCorruptError(f"{path} holds a {found}, not a {published.config['model_type']}")
        return from_folder(path, request)
    reads.note(path.parent)  # for its tokenizer
    return _make(request, _config(published), None, tensors=read_weights(path), beside=path.parent)


def find(name: str, published: Published) -> Path:
    """The folder of a checkpoint: in the mirror, in an installed package, or from the hub."""
    for place in (published.repo, published.repo.rpartition("/")[2]):
        if (folder := zoo_weights.mirrored(place)) is not None:
            return folder
    return packaged(name) or folders.snapshot(published.repo)


def from_folder(folder: Path, request: LoadRequest) -> TorchEngine:
    """A text network from a local folder; with weights "none" its config only, random."""
    config = folders.read_config(folder)
    return _make(request, config, folder, random=request.weights == RANDOM)


def rebuild(architecture: Mapping[str, Any], preprocess: TextPreprocess) -> TorchEngine:
    """The network that `TorchEngine.architecture` described, its values still to be loaded."""
    config = _config_from(architecture["config"])
    reading = architecture.get("reading", "backbone")
    pooling, depth = architecture["pooling"], architecture.get("depth")
    network = text_networks.read(text_networks.random(config, reading, 0), reading, pooling, depth=depth)
    engine = _engine(network, architecture, preprocess)
    if (classes := architecture["classes"]) is not None:
        engine.set_head(np.zeros((classes, engine.feature_dim), np.float32), np.zeros(classes, np.float32))
    return engine


def _make(
    request: LoadRequest,
    config: Any,
    folder: Path | None,
    *,
    random: bool = False,
    tensors: Mapping[str, Tensor] | None = None,
    beside: Path | None = None,
) -> TorchEngine:
    """folder: where config and weights are.  tensors: weights instead, of a file that lies in `beside`."""
    if request.size is not None:
        raise InputError(f"size= is for images: {request.name} reads texts")
    reading = text_networks.reading_of(config) if folder else "backbone"
    if request.num_classes is None and request.depth is None:
        text_networks.check_task(config, request.name)
    for part in (config, config.get_text_config()):
        if hasattr(part, "use_cache"):
            part.use_cache = False  # a cache of keys and values is for generating text
    module = _module(request, config, reading, None if random else folder)
    if tensors is not None:
        fill(module, _own_part(module, tensors), partial=request.partial)
    pooling, home = pooling_of(folder, config), folder or beside
    preprocess = preprocess_of(home, config, module)
    if home is not None and not random:
        model_folder.checked_tokenizer(home, preprocess.tokenizer)
    architecture = {
        "kind": "transformers-text",
        "config": folders.config_values(config),  # of the whole network: it is cut again when it is rebuilt
        "pooling": pooling,
        "reading": reading,
        "depth": request.depth,
    }
    network = text_networks.read(module, reading, pooling, depth=request.depth)
    engine = _engine(network, architecture, preprocess, device=request.device)
    if request.num_classes is not None:
        engine.reset_head(request.num_classes, seed=request.seed)
    elif reading == "classifier" and engine.num_classes and not random:
        engine.labels = tuple(str(config.id2label[i]) for i in range(config.num_labels))
    return engine


def _module(request: LoadRequest, config: Any, reading: text_networks.Reading, folder: Path | None) -> Any:
    """With the folder's weights, or with random ones where there is none."""
    if folder is None:
        return text_networks.random(config, reading, request.seed)
    return text_networks.pretrained(
        config,
        reading,
        folder,
        seed=request.seed,
        partial=request.partial,
        new_head=request.num_classes is not None,
    )


def _engine(
    network: TextNetwork,
    architecture: Mapping[str, Any],
    preprocess: TextPreprocess,
    *,
    device: str | None = None,
) -> TorchEngine:
    cut = architecture.get("reading") == "classifier" and not network.has_head
    engine = TorchEngine(
        network.module,
        network.anatomy,
        preprocess=preprocess,
        architecture={k: v for k, v in architecture.items() if k not in ("classes", "head")},
        device=device,
        no_head=f"{NO_HEAD} (a network cut in depth has none of its own)" if cut else NO_HEAD,
    )
    if network.head is not None:
        engine.set_head(*network.head)
    return engine


def preprocess_of(folder: Path | None, config: Any, module: Any) -> TextPreprocess:
    """What the network reads, and by which tokenizer; without a folder there is none yet."""
    text = config.get_text_config()
    pad = getattr(text, "pad_token_id", None)
    pad = getattr(text, "eos_token_id", None) if pad is None else pad  # GPT-2 has no pad token
    pad = pad if isinstance(pad, int) and 0 <= pad < text.vocab_size else 0
    return TextPreprocess(
        tokenizer=folders.tokenizer_text(folder) if folder else None,
        max_length=folders.max_length(folder, text),
        pad_id=pad,
        vocab_size=int(text.vocab_size),
        inputs=_inputs(text, module),
    )


def _inputs(config: Any, module: Any) -> tuple[str, ...]:
    """The arrays that the network takes; XLNet's segments (of the text, of <cls>) have no table of their own."""
    segments = getattr(config, "type_vocab_size", 0) > 1 or config.model_type == "xlnet"
    taken = text_anatomy.accepted(module)
    return tuple(n for n in taken if n != "token_type_ids" or segments) or text_anatomy.TEXT_INPUTS[:2]


def _config(published: Published) -> Any:
    return _config_from(published.config)


def _config_from(values: Mapping[str, Any]) -> Any:
    return transformers.CONFIG_MAPPING[values["model_type"]].from_dict(dict(values))


def _own_part(module: Any, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The backbone's keys of a whole checkpoint: without its prefix, and without what is no part of it."""
    prefix = f"{module.base_model_prefix}."
    inner = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)} or dict(tensors)
    return {k: v for k, v in inner.items() if k.partition(".")[0] not in HEADS}
