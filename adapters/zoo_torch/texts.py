"""Text backbones of transformers: how they are read, cut in depth, pooled, made and filled.

Features are one vector a text: the folder's own pooling, else the mean over the tokens for encoders, and the
last token before the padding for decoders. The pooler that some checkpoints carry is left out: on MiniLM it
is the worse feature by far, and some checkpoints hold none, so transformers would make one up.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from torch import Tensor, nn

from zoo import model_folder
from zoo import weights as zoo_weights
from zoo.cards import TextPreprocess
from zoo.engine import LoadRequest
from zoo.errors import InputError, UnknownModelError, WeightsCorruptError
from zoo.packaged import packaged
from zoo_torch import folders
from zoo_torch.anatomy import Anatomy, Tensors, around, seeded
from zoo_torch.checkpoints import fill, read_weights
from zoo_torch.engine import NO_HEAD, TorchEngine

DEFAULT, RANDOM = "default", "none"


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


# --- pooling: hidden states [N, L, D] and mask [N, L] to [N, D]
def _mean(hidden: Tensor, mask: Tensor) -> Tensor:
    share = mask.unsqueeze(-1).to(hidden.dtype)
    return (hidden * share).sum(dim=1) / share.sum(dim=1).clamp(min=1)


def _first(hidden: Tensor, mask: Tensor) -> Tensor:
    return hidden[:, 0]


def _last(hidden: Tensor, mask: Tensor) -> Tensor:
    index = (mask.sum(dim=1) - 1).clamp(min=0)
    return hidden.gather(1, index.view(-1, 1, 1).expand(-1, 1, hidden.shape[-1])).squeeze(1)


def _max(hidden: Tensor, mask: Tensor) -> Tensor:
    return hidden.masked_fill(mask.unsqueeze(-1) == 0, torch.finfo(hidden.dtype).min).amax(dim=1)


POOLINGS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mean": _mean,
    "cls": _first,
    "lasttoken": _last,
    "max": _max,
}
# Where a network can be cut: what still runs after its last layer ("" nothing).
AFTER_LAYERS = {
    **dict.fromkeys(("bert", "roberta", "xlm-roberta", "camembert", "distilbert", "electra", "mpnet"), ""),
    "gpt2": "ln_f",
}
DECODERS = ("gpt2",)


def pooling_of(folder: Path | None, config: Any) -> str:
    """The folder's own pooling (sentence-transformers' 1_Pooling), else the kind of network decides."""
    stated = model_folder.read_json(folder / "1_Pooling" / "config.json") if folder else {}
    if not stated:
        return "lasttoken" if config.model_type in DECODERS else "mean"
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


# --- reading a module
def anatomy_of(module: Any, pooling: str) -> Anatomy:
    """How a transformers text backbone is read."""
    path, count = _layers(module), int(module.config.num_hidden_layers)
    before, after = around(module, path)
    unit = path.rpartition(".")[2]
    blocks = {"embeddings": before, **{f"{unit}.{i}": (f"{path}.{i}",) for i in range(count)}}
    last = list(blocks)[-1]
    blocks[last] = (*blocks[last], *after)
    known = module.config.model_type in AFTER_LAYERS
    pool = POOLINGS[pooling]
    return Anatomy(
        int(module.config.hidden_size),
        blocks,
        features=functools.partial(_features, pool),
        cut=functools.partial(_cut, pool, path) if known else None,
        depths=tuple(range(count + 1)) if known else (),
    )


def _layers(module: Any) -> str:
    """The path of the list of repeating units."""
    count = module.config.num_hidden_layers
    for name, part in module.named_modules():
        if isinstance(part, nn.ModuleList) and len(part) == count:
            return name
    raise InputError(f"the zoo cannot read the layers of a {type(module).__name__} yet")


def _features(pool: Callable[[Tensor, Tensor], Tensor], module: Any, tensors: Tensors) -> Tensor:
    return pool(module(**tensors).last_hidden_state, tensors["attention_mask"])


def _cut(
    pool: Callable[[Tensor, Tensor], Tensor],
    path: str,
    module: Any,
    tensors: Tensors,
    depths: Sequence[int],
) -> list[Tensor]:
    """Features after each depth in one pass: what the network cut there (num_hidden_layers=d) computes."""
    layers = module.get_submodule(path)
    states: dict[int, Tensor] = {}
    finish = AFTER_LAYERS[module.config.model_type]
    hooks = [_note_output(layer, states, i) for i, layer in enumerate(layers, 1)]
    if len(layers):
        hooks.append(_note_input(layers[0], states))
    try:
        last = module(**tensors).last_hidden_state
    finally:
        for hook in hooks:
            hook.remove()
    if finish:
        states = {
            depth: module.get_submodule(finish)(state) for depth, state in states.items() if depth in depths
        }
    states[len(layers)] = last
    return [pool(states[depth], tensors["attention_mask"]) for depth in depths]


def _note_output(layer: nn.Module, states: dict[int, Tensor], depth: int) -> Any:
    def note(_: nn.Module, __: Any, output: Any) -> None:
        states[depth] = output[0] if isinstance(output, tuple) else output

    return layer.register_forward_hook(note)


def _note_input(layer: nn.Module, states: dict[int, Tensor]) -> Any:
    def note(_: nn.Module, args: Any, named: Any) -> None:
        states[0] = args[0] if args else named["hidden_states"]

    return layer.register_forward_pre_hook(note, with_kwargs=True)


# --- making
def load(request: LoadRequest, published: Published) -> TorchEngine:
    """A published checkpoint by its catalogue name. Raises as `Adapter.load` says."""
    if request.weights == RANDOM:
        return _make(request, _config(published), None)
    if request.weights == DEFAULT:
        return from_folder(find(request.name, published), request)
    path = Path(request.weights).expanduser()
    if not path.exists():
        raise UnknownModelError(
            f"{request.name} has no weights {request.weights!r}: 'default' ({published.repo}), 'none' for "
            "random ones, or a file or folder that exists"
        )
    if path.is_dir():
        found = folders.read_config(path).model_type
        if found != published.config["model_type"]:
            raise WeightsCorruptError(f"{path} holds a {found}, not a {published.config['model_type']}")
        return from_folder(path, request)
    return _make(request, _config(published), None, tensors=read_weights(path))


def find(name: str, published: Published) -> Path:
    """The folder of a checkpoint: in the mirror, in an installed package, or from the hub."""
    for place in (published.repo, published.repo.rpartition("/")[2]):
        if (folder := zoo_weights.mirrored(place)) is not None:
            return folder
    return packaged(name) or folders.snapshot(published.repo)


def from_folder(folder: Path, request: LoadRequest) -> TorchEngine:
    """A text backbone from a local folder; with weights "none" its config only, random."""
    config = folders.read_config(folder)
    return _make(request, config, folder, random=request.weights == RANDOM)


def rebuild(architecture: Mapping[str, Any], preprocess: TextPreprocess) -> TorchEngine:
    """The network that `TorchEngine.architecture` described, its values still to be loaded."""
    config = _config_from(architecture["config"])
    engine = _engine(_random(config, 0), architecture["pooling"], preprocess)
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
) -> TorchEngine:
    if request.size is not None:
        raise InputError(f"size= is for images: {request.name} reads texts")
    _check_depth(config, request)
    if hasattr(config, "use_cache"):
        config.use_cache = False  # a cache of keys and values is for generating text
    if folder is None or random:
        module = _random(config, request.seed)
    else:
        module = folders.pretrained(_class(config), folder, config, _options(config))
    if tensors is not None:
        fill(module, _own_part(module, tensors))
    if request.depth is not None:
        _truncate(module, request.depth)
    pooling, preprocess = pooling_of(folder, config), preprocess_of(folder, config)
    engine = _engine(module, pooling, preprocess, device=request.device)
    if request.num_classes is not None:
        engine.reset_head(request.num_classes, seed=request.seed)
    return engine


def _check_depth(config: Any, request: LoadRequest) -> None:
    full = int(config.num_hidden_layers)
    if request.depth is None:
        return
    if config.model_type not in AFTER_LAYERS:
        raise InputError(f"the zoo cannot cut a {config.model_type} in depth yet")
    if not 0 <= request.depth <= full:
        raise InputError(f"{request.name} has depths 0 to {full}, not {request.depth}")


def _truncate(module: Any, depth: int) -> None:
    """Keep the first `depth` layers. Cut after filling, so that random weights are the whole network's too."""
    del module.get_submodule(_layers(module))[depth:]
    module.config.num_hidden_layers = depth


def _engine(
    module: Any, pooling: str, preprocess: TextPreprocess, *, device: str | None = None
) -> TorchEngine:
    own = next((a for a in (module.config.architectures or ()) if "ForSequenceClassification" in a), None)
    why = f"{NO_HEAD} (the zoo reads the backbone of a {own} only)" if own else NO_HEAD
    return TorchEngine(
        module,
        anatomy_of(module, pooling),
        preprocess=preprocess,
        architecture={
            "kind": "transformers-text",
            "config": folders.config_values(module.config),
            "pooling": pooling,
        },
        device=device,
        no_head=why,
    )


def preprocess_of(folder: Path | None, config: Any) -> TextPreprocess:
    """What the network reads, and by which tokenizer; without a folder there is none yet."""
    names = ("input_ids", "attention_mask", "token_type_ids")
    pad = getattr(config, "pad_token_id", None)
    pad = getattr(config, "eos_token_id", None) if pad is None else pad  # GPT-2 has no pad token
    pad = pad if isinstance(pad, int) and 0 <= pad < config.vocab_size else 0
    return TextPreprocess(
        tokenizer=folders.tokenizer_text(folder) if folder else None,
        max_length=folders.max_length(folder, config),
        pad_id=pad,
        vocab_size=int(config.vocab_size),
        inputs=names if getattr(config, "type_vocab_size", 0) > 1 else names[:2],
    )


def _config(published: Published) -> Any:
    return _config_from(published.config)


def _config_from(values: Mapping[str, Any]) -> Any:
    return transformers.CONFIG_MAPPING[values["model_type"]].from_dict(dict(values))


def _class(config: Any) -> Any:
    try:
        return transformers.MODEL_MAPPING[type(config)]
    except KeyError as error:
        raise InputError(f"transformers has no backbone for a {config.model_type}") from error


def _options(config: Any) -> dict[str, Any]:
    """Arguments of the class: no pooler, where it has one to leave out."""
    code = _class(config).__init__.__code__
    return {"add_pooling_layer": False} if "add_pooling_layer" in code.co_varnames else {}


def _random(config: Any, seed: int) -> Any:
    with seeded(seed, torch.device("cpu")):
        return _class(config)(config, **_options(config)).float()


def _own_part(module: Any, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The backbone's keys of a whole checkpoint: without its prefix, and without what is no part of it."""
    prefix = f"{module.base_model_prefix}."
    inner = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)} or dict(tensors)
    return {k: v for k, v in inner.items() if k.partition(".")[0] not in ("pooler", "cls", "lm_head")}
