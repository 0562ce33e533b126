"""How any text network of transformers is read: its units, its pooling, its own head, where it can be cut.

Two readings. "backbone": hidden states [N, L, D], pooled: the folder's own pooling, else the mean over the
tokens for encoders and the last token before the padding for decoders. The pooler that some checkpoints carry
is left out: on MiniLM it is the worse feature by far, and some hold none, so transformers would make one up.
"classifier": what a ForSequenceClassification checkpoint holds, features being the input of its last Linear.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from transformers.modeling_layers import GenericForSequenceClassification

from zoo.errors import InputError
from zoo_torch.anatomy import Anatomy, Tensors, through_head

Compute = Callable[[Any, Tensors], Tensor]
TEXT_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
# What the classification classes call the last Linear of their own, or the part that holds it.
SCORES = ("score", "classifier", "logits_proj", "classification_head", "sequence_summary")
# Their depth cannot be changed by leaving layers out: units of several layers that are not alike, two streams in
# one, one layer that several places share.
UNCUT = ("funnel", "reformer", "zamba", "zamba2")
# They compute nothing without a layer.
AT_LEAST_ONE = ("deberta-v2", "longformer")


# --- pooling: hidden states [N, L, D] and mask [N, L] to [N, D]
def _mean(hidden: Tensor, mask: Tensor) -> Tensor:
    share = mask.unsqueeze(-1).to(hidden.dtype)
    return (hidden * share).sum(dim=1) / share.sum(dim=1).clamp(min=1)


def _first(hidden: Tensor, mask: Tensor) -> Tensor:
    return hidden[:, 0]


def last_token(hidden: Tensor, mask: Tensor) -> Tensor:
    """The last token before the padding, [N, D]."""
    index = (mask.sum(dim=1) - 1).clamp(min=0)
    return hidden.gather(1, index.view(-1, 1, 1).expand(-1, 1, hidden.shape[-1])).squeeze(1)


def _max(hidden: Tensor, mask: Tensor) -> Tensor:
    return hidden.masked_fill(mask.unsqueeze(-1) == 0, torch.finfo(hidden.dtype).min).amax(dim=1)


POOLINGS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mean": _mean,
    "cls": _first,
    "lasttoken": last_token,
    "max": _max,
}


def is_decoder(config: Any) -> bool:
    """Whether each token sees only those before it: it has a head for the next token, none for masked ones."""
    if config.is_encoder_decoder:
        return False
    causal = type(config) in transformers.MODEL_FOR_CAUSAL_LM_MAPPING or issubclass(
        transformers.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING.get(type(config), nn.Module),
        GenericForSequenceClassification,
    )
    return causal and type(config) not in transformers.MODEL_FOR_MASKED_LM_MAPPING


# --- where the layers are
@dataclass(frozen=True)
class Layers:
    """The repeating units of a module.

    units: for each, the paths of the submodules that make it.  lists: paths of the lists that hold them.
    depth: how many the network runs through, or None where it cannot be cut.  least: the smallest cut.
    """

    units: tuple[tuple[str, ...], ...]
    lists: tuple[str, ...]
    depth: int | None
    least: int = 0


def layers_of(module: Any) -> Layers:
    """Find them: the outermost lists as long as the config says, else the outermost lists that there are."""
    count = getattr(module.config.get_text_config(), "num_hidden_layers", None)
    if count == 0:
        return Layers((), (), 0)
    every = _outermost(module)
    lists = [path for path in every if len(module.get_submodule(path)) == count] if count else []
    holders = {path.rpartition(".")[0] for path in lists}
    if len(holders) == 1:  # several lists in one place (XLM): their i-th entries make the i-th unit
        units = tuple(tuple(f"{path}.{i}" for path in lists) for i in range(count))
        kind = module.config.model_type
        return Layers(units, tuple(lists), None if kind in UNCUT else count, int(kind in AT_LEAST_ONE))
    chosen = lists or every
    units = tuple((f"{path}.{i}",) for path in chosen for i in range(len(module.get_submodule(path))))
    # Lan et al. 2020: one layer, run through again and again.
    shared = module.config.model_type == "albert" and module.config.num_hidden_groups == 1
    return Layers(units, tuple(chosen), count if shared else None)


def _outermost(module: nn.Module) -> list[str]:
    found: list[str] = []
    for name, part in module.named_modules():
        inside = any(name.startswith(f"{path}.") for path in found)
        seeing = any(word in name for word in ("vision", "visual"))  # it does not run for a text
        if isinstance(part, nn.ModuleList) and len(part) and not inside and not seeing:
            found.append(name)
    return found


def blocks_of(module: Any, layers: Layers, leave_out: str | None) -> dict[str, tuple[str, ...]]:
    """Embeddings, then the units, each with what stands between it and the next one."""
    if not layers.units and layers.depth is None:
        raise InputError(f"the zoo cannot read the layers of a {type(module).__name__} yet")
    names = _names(layers)
    blocks: dict[str, list[str]] = {
        "embeddings": [],
        **_units_apart(module, dict(zip(names, layers.units, strict=True))),
    }
    lists = dict.fromkeys(layers.lists)
    parents = {path[:i] for path in layers.lists for i, c in enumerate(path) if c == "."} | {""}
    owner, seen = "embeddings", set[int]()
    for name, part in module.named_modules():
        if name in lists:
            mine = [i for i, unit in enumerate(layers.units) if any(p.startswith(f"{name}.") for p in unit)]
            owner = names[mine[-1]]
        elif name in parents:
            loose = [f"{name}.{key}".lstrip(".") for key, _ in part.named_parameters(recurse=False)]
            loose += [f"{name}.{key}".lstrip(".") for key, _ in part.named_buffers(recurse=False)]
            blocks["embeddings"] += loose
        elif name.rpartition(".")[0] in parents and name != leave_out:
            # A table that encoder and decoder share belongs where it was met first.
            again = any(id(parameter) in seen for parameter in part.parameters())
            blocks["embeddings" if again else owner].append(name)
            if owner == "embeddings":
                seen |= {id(parameter) for parameter in part.parameters()}
    return {name: tuple(prefixes) for name, prefixes in blocks.items() if prefixes}


def _units_apart(module: Any, units: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """The units' paths; a part that an earlier unit has too (Zamba's attention) stands with that one only."""
    owner: dict[int, str] = {}
    found: dict[str, list[str]] = {name: [] for name in units}
    for name, paths in units.items():
        for path in paths:
            part = module.get_submodule(path)
            again = any(id(parameter) in owner for parameter in part.parameters())
            loose = [
                key for key, _ in [*part.named_parameters(recurse=False), *part.named_buffers(recurse=False)]
            ]
            pieces = [*loose, *(key for key, _ in part.named_children())] if again else []
            for piece in [f"{path}.{key}" for key in pieces] or [path]:
                ids = [
                    id(p) for key, p in module.named_parameters(remove_duplicate=False) if _within(key, piece)
                ]
                found[next((owner[i] for i in ids if i in owner), name)].append(piece)
                owner.update({i: name for i in ids if i not in owner})
    return found


def _within(key: str, path: str) -> bool:
    return key == path or key.startswith(f"{path}.")


def _names(layers: Layers) -> list[str]:
    """`layer.0`, ...: the list's own name; with its holder's where two stacks have lists of one name."""
    if len({unit[0].rpartition(".")[0] for unit in layers.units}) == 1:
        kind = layers.units[0][0].split(".")[-2] if len(layers.units[0]) == 1 else "unit"
        return [f"{kind}.{i}" for i in range(len(layers.units))]
    return [unit[0] for unit in layers.units]


# --- the two readings
def accepted(module: Any) -> tuple[str, ...]:
    """The names of a text batch that the module's forward takes."""
    names = inspect.signature(module.forward).parameters
    return tuple(name for name in TEXT_INPUTS if name in names)


def hidden_states(module: Any, tensors: Tensors) -> Tensor:
    """[N, L, D], after the network's own last norm."""
    states: Tensor = module(**{k: v for k, v in tensors.items() if k in accepted(module)}).last_hidden_state
    filled_up = module.training and states.shape[1] != tensors["attention_mask"].shape[1]  # a Reformer's
    return states[:, : tensors["attention_mask"].shape[1]] if filled_up else states


def backbone(module: Any, pooling: str) -> Anatomy:
    """How a network without a head is read."""
    layers, pool = layers_of(module), POOLINGS[pooling]

    def features(module: Any, tensors: Tensors) -> Tensor:
        return pool(hidden_states(module, tensors), tensors["attention_mask"])

    width = int(module.config.get_text_config().hidden_size)
    width *= 2 if module.config.model_type == "reformer" else 1  # it hands on both of its reversible streams
    return with_depths(Anatomy(width, blocks_of(module, layers, None), features=features), layers, features)


def classifier(module: Any) -> Anatomy:
    """How a network that ends in one Linear on one vector a text is read, that Linear being its head."""
    layers, head = layers_of(module), last_linear(module)
    width = int(module.get_submodule(head).in_features)
    anatomy = Anatomy(width, blocks_of(module, layers, head), head=head)

    def features(module: Any, tensors: Tensors) -> Tensor:
        return through_head(module, head, tensors)[0]

    return with_depths(anatomy, layers, features)


def last_linear(module: Any) -> str:
    """The path of a classifier's own last Linear. Raises InputError where it has none."""
    found = [
        name
        for name, part in module.named_modules()
        if isinstance(part, nn.Linear)
        and part.out_features == module.config.num_labels
        and name.partition(".")[0] in SCORES
    ]
    if not found:
        raise InputError(f"the head of a {type(module).__name__} is no Linear: the zoo cannot read it yet")
    return found[-1]


def fill_up_in_training(module: Any) -> None:
    """Pad what a Reformer is trained on to the one length that it takes then: that of its axial positions.

    In inference it pads to whole chunks by itself (Kitaev et al. 2020, as transformers has it).
    """
    config = module.config
    chunk = math.lcm(config.local_attn_chunk_length or 1, config.lsh_attn_chunk_length or 1)
    whole = math.prod(config.axial_pos_shape) if config.axial_pos_embds else chunk

    def fill(module: nn.Module, args: Any, named: dict[str, Any]) -> tuple[Any, dict[str, Any]] | None:
        if not module.training:
            return None
        more = -named["input_ids"].shape[1] % whole
        pads = {"input_ids": config.pad_token_id, "attention_mask": 0}
        padded = {key: nn.functional.pad(named[key], (0, more), value=pad) for key, pad in pads.items()}
        return args, {**named, **padded}

    module.register_forward_pre_hook(fill, with_kwargs=True)


# --- depths
def with_depths(anatomy: Anatomy, layers: Layers, features: Compute) -> Anatomy:
    """The same with depths 0..n, where the network can be cut."""
    if layers.depth is None:
        return anatomy
    return Anatomy(
        anatomy.feature_dim,
        anatomy.blocks,
        head=anatomy.head,
        features=anatomy.features,
        cut=functools.partial(_cut, features, layers),
        depths=tuple(range(layers.least, layers.depth + 1)),
    )


def _cut(
    features: Compute, layers: Layers, module: Any, tensors: Tensors, depths: Sequence[int]
) -> list[Tensor]:
    """Features at each depth: what the network with num_hidden_layers=d computes, its norm and head included.

    The layers run once: at a smaller depth they hand out again what they gave. What stands before them runs
    again each time and has no influence, so a traced graph drops it.
    """
    assert layers.depth is not None
    given: dict[str, Any] = {}
    parts = [path for unit in layers.units for path in unit]
    with _instead(module, {path: functools.partial(_noted, given, path) for path in parts}):
        whole = features(module, tensors)
    found = []
    for depth in depths:
        if depth == layers.depth:
            found.append(whole)
            continue
        with shortened(module, layers, depth), _handing_out(module, layers, depth, given):
            found.append(features(module, tensors))
    return found


def _noted(given: dict[str, Any], path: str, forward: Any, *args: Any, **named: Any) -> Any:
    given[path] = forward(*args, **named)
    return given[path]


@contextlib.contextmanager
def _instead(module: Any, calls: Mapping[str, Any]) -> Iterator[None]:
    """Inside, parts run through these instead, which get the part's own forward first.

    No hooks: some networks call `layer.forward` itself.
    """
    parts = {path: module.get_submodule(path) for path in calls}
    for path, part in parts.items():
        part.forward = functools.partial(calls[path], part.forward)
    try:
        yield
    finally:
        for part in parts.values():
            del part.forward


def _handing_out(module: Any, layers: Layers, depth: int, given: Mapping[str, Any]) -> Any:
    """Inside, the units before `depth` compute nothing and give what they gave."""
    once = len(layers.units) == layers.depth and all(len(unit) == 1 for unit in layers.units)
    units = layers.units[:depth] if once else ()
    return _instead(module, {unit[0]: functools.partial(_give, given[unit[0]]) for unit in units})


def _give(output: Any, *_: Any, **__: Any) -> Any:
    return output


@contextlib.contextmanager
def shortened(module: Any, layers: Layers, depth: int) -> Iterator[None]:
    """Inside, the network has its first `depth` layers only."""
    lists = {path: module.get_submodule(path) for path in layers.lists}
    counters = _counters(module, layers)
    for path, whole in lists.items():
        if len(whole) == layers.depth:
            module.set_submodule(path, nn.ModuleList(list(whole)[:depth]))
    for holder, name in counters:
        setattr(holder, name, depth)
    try:
        yield
    finally:
        for path, whole in lists.items():
            module.set_submodule(path, whole)
        for holder, name in counters:
            setattr(holder, name, layers.depth)


def _counters(module: Any, layers: Layers) -> list[tuple[Any, str]]:
    """Where the network reads how many layers it has: its config, and attributes beside the lists."""
    found: list[tuple[Any, str]] = [(module.config.get_text_config(), "num_hidden_layers")]
    for path in layers.lists:
        holder = module.get_submodule(path.rpartition(".")[0])
        for name in ("n_layers", "n_layer", "num_layers", "num_hidden_layers"):
            if getattr(holder, name, None) == layers.depth:
                found.append((holder, name))
    return found


def truncate(module: Any, depth: int) -> None:
    """Keep the first `depth` layers for good."""
    layers = layers_of(module)
    for path in layers.lists:
        whole = module.get_submodule(path)
        if len(whole) == layers.depth:
            del whole[depth:]
    for holder, name in _counters(module, layers):
        setattr(holder, name, depth)
