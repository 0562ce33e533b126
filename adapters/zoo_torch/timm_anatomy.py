"""How any of timm's networks is read: head, blocks and depths, from what timm itself says of each.

No family has a case of its own here. timm tells the classifier (`get_classifier`), which parameters make up a
unit (`group_matcher`, written for layer-wise learning rates) and the maps of its stages (`feature_info`).
Heads come in five shapes: a Linear; a 1x1 convolution on the pooled map; a small network that ends in a Linear;
several of them that are averaged (distillation tokens, branches); and VOLO's, that is not linear at all.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from timm.models._manipulate import group_with_matcher
from torch import Tensor, nn

from zoo.engine import HEAD
from zoo.errors import InputError
from zoo_torch.anatomy import Anatomy, Tensors, call, modes
from zoo_torch.cutting import layered, staged

AUXILIARY = "aux_head"
# Classes whose maps are [N, H, W, C] and which do not say so in `output_fmt`.
CHANNELS_LAST = ("VOLO",)


@dataclass(frozen=True)
class Heads:
    """Where a network's classifiers sit.

    paths: of their last layers; several are averaged.  parts: of the whole classifiers as timm counts them.
    convolution: the last layer is a 1x1 convolution.  auxiliary: VOLO's second head, on the tokens, whose
    maximum is added: then the logits are not linear on the features.
    """

    paths: tuple[str, ...]
    width: int
    convolution: bool = False
    auxiliary: bool = False


def find_heads(module: Any) -> Heads:
    """The classifiers of a network made with classes. Raises InputError where timm gives it none."""
    names = {id(part): name for name, part in module.named_modules()}
    listed = list(_flat(module.get_classifier())) if hasattr(module, "get_classifier") else []
    found = [_last_layers(part, names.get(id(part), "")) for part in listed]
    ends = [end for layers in found for end in layers]
    if not ends or not all(found):
        raise InputError(
            f"timm's {type(module).__name__} takes no classifier: it gives a map of tokens to another model, no "
            "features of an image"
        )
    auxiliary = isinstance(getattr(module, AUXILIARY, None), nn.Module)
    widths = [layer.in_channels if isinstance(layer, nn.Conv2d) else layer.in_features for _, layer in ends]
    convolution = isinstance(ends[0][1], nn.Conv2d)
    return Heads(tuple(path for path, _ in ends), int(sum(widths)), convolution, auxiliary)


def _flat(given: Any) -> Iterator[nn.Module]:
    """The classifiers one by one, out of tuples and lists."""
    if isinstance(given, tuple | list | nn.ModuleList):
        for part in given:
            yield from _flat(part)
    elif isinstance(given, nn.Module):
        yield given


def _last_layers(part: nn.Module, path: str) -> list[tuple[str, Any]]:
    """The last Linear (or 1x1 convolution) inside a classifier, with its path, and those that stand beside it.

    Beside it stands a layer of the very same shape (RepViT's second head, for distillation): one before it would
    give what it takes.
    """
    layers = [
        (f"{path}.{name}".strip("."), layer)
        for name, layer in part.named_modules()
        if isinstance(layer, nn.Linear) or (isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1))
    ]
    shapes = [tuple(layer.weight.shape[:2]) for _, layer in layers]
    if not shapes or shapes[-1][0] == shapes[-1][1]:  # square: one before it and one beside it look alike
        return layers[-1:]
    return [layer for layer, shape in zip(layers, shapes, strict=True) if shape == shapes[-1]]


def read(module: Any) -> tuple[Anatomy, Heads]:
    """The anatomy of a network made with classes, and its heads. Looks at names and shapes only.

    Raises InputError for a network that takes no classifier.
    """
    heads = find_heads(module)
    blocks = find_blocks(module, (*heads.paths, AUXILIARY))
    if heads.auxiliary:
        anatomy = Anatomy(
            heads.width,
            blocks,
            features=functools.partial(_before, heads.paths),
            native_head=heads.paths[0],
            native_also=(AUXILIARY,),
            put_head=_in_place_of_two,
        )
    elif len(heads.paths) > 1:
        anatomy = Anatomy(heads.width, blocks, features=functools.partial(_before, heads.paths))
    else:
        anatomy = Anatomy(heads.width, blocks, head=heads.paths[0] + (".1" if heads.convolution else ""))
    return with_depths(module, anatomy), heads


# --- features and heads
def _before(paths: Sequence[str], module: nn.Module, tensors: Tensors) -> Tensor:
    """[N, D1 + D2 + ...]: what goes into each of several heads, side by side."""
    seen: dict[str, Tensor] = {}

    def note(path: str) -> Any:
        def hook(_: nn.Module, args: tuple[Tensor, ...]) -> None:
            seen[path] = args[0]

        return hook

    handles = [module.get_submodule(p).register_forward_pre_hook(note(p)) for p in paths]
    try:
        call(module, tensors)
    finally:
        for handle in handles:
            handle.remove()
    return torch.cat([seen[path] for path in paths], dim=1)


def _in_place_of_two(module: Any, linear: nn.Linear) -> str:
    setattr(module, AUXILIARY, None)
    module.head = linear
    return "head"


class _Removed(nn.Module):
    """Stands where one of several heads was: its input was noted, what it gives only has to be added up.

    No Identity: the inputs may differ in width, and CrossViT looks for one to go another way.
    """

    def forward(self, x: Tensor) -> Tensor:
        return x[..., :1]


def take_off(module: Any, heads: Heads) -> None:
    """Remove the classifiers: their inputs stay where the anatomy finds them."""
    for path in heads.paths:
        if heads.convolution:
            module.set_submodule(path, nn.Sequential(nn.Flatten(1), nn.Identity()))
        else:
            module.set_submodule(path, nn.Identity() if len(heads.paths) == 1 else _Removed())
    if heads.auxiliary:
        setattr(module, AUXILIARY, None)


def linear_of_convolution(module: nn.Module, path: str) -> None:
    """Put the same function as a Linear, behind a Flatten, in place of a 1x1 convolution on 1x1 maps."""
    conv: Any = module.get_submodule(path)
    linear = nn.Linear(
        conv.in_channels, conv.out_channels, bias=conv.bias is not None, device=conv.weight.device
    )
    linear.weight = nn.Parameter(conv.weight.detach().flatten(1))
    if conv.bias is not None:
        linear.bias = nn.Parameter(conv.bias.detach())
    module.set_submodule(path, nn.Sequential(nn.Flatten(1), linear))


def one_of_several(module: nn.Module, heads: Heads, images: Tensor) -> tuple[Any, Any]:
    """Weight [C, D1 + D2 + ...] and bias [C] of the one Linear that several added heads are.

    images: as many as there are heads. How much each counts (a half, a learned share) is seen in one pass in
    which image i gets ones from head i and zeros from the others.
    """
    layers: list[Any] = [module.get_submodule(path) for path in heads.paths]

    def mark(index: int) -> Any:
        def hook(_: nn.Module, __: Any, output: Tensor) -> Tensor:
            marked = torch.zeros_like(output)
            marked[index] = 1
            return marked

        return hook

    handles = [layer.register_forward_hook(mark(index)) for index, layer in enumerate(layers)]
    try:
        with torch.no_grad(), modes(module, lambda _: False):
            shares = module(images)[:, 0]
    finally:
        for handle in handles:
            handle.remove()
    pairs = list(zip(shares, layers, strict=True))
    weight = torch.cat([share * layer.weight.detach() for share, layer in pairs], dim=1)
    return weight.numpy(), sum(share * layer.bias.detach() for share, layer in pairs).numpy()


# --- blocks
def find_blocks(module: Any, heads: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Stem, then units in their order, from timm's grouping of parameters; all of the backbone's keys.

    A last group without a matrix (a final norm) belongs to the last unit.
    """
    left_out = tuple(f"{path}." for path in heads)
    state = {k: v for k, v in module.state_dict().items() if not k.startswith(left_out)}
    group = _with_the_first_user(module, _groups(module, state))
    order = sorted(set(group.values()))
    if len(order) > 2 and not any(v.ndim > 1 for k, v in state.items() if group[k] == order[-1]):
        group = {k: order[-2] if g == order[-1] else g for k, g in group.items()}
        order.pop()
    size = {k: v.numel() for k, v in state.items()}
    named: dict[str, tuple[str, ...]] = {}
    for g, paths in sorted(_prefixes(group).items()):
        largest = max(paths, key=lambda path: sum(size[k] for k in size if _under(k, (path,))))
        name = "stem" if g == order[0] and len(order) > 1 else largest
        named["neck" if name == HEAD else name] = tuple(paths)
    return named


def _groups(module: Any, state: Mapping[str, Tensor]) -> dict[str, int]:
    """key -> number of its unit, as timm groups them; else what two list indices tell apart."""
    matcher = getattr(module, "group_matcher", None)
    if matcher is not None:
        found = group_with_matcher(((k, k) for k in state), matcher(coarse=False), reverse=True)
        return {str(k): int(g) for k, g in found.items()}
    units = [_unit(key) for key in state]
    order = list(dict.fromkeys(units))
    # What stands between two lists (a downsampling before a stage's blocks) goes with what follows it.
    lists = [unit for unit in order if unit.rpartition(".")[2].isdigit()]
    for index in range(len(order) - 2, 0, -1):
        if order[index] not in lists or any(u.startswith(f"{order[index]}.") for u in order):
            units = [order[index + 1] if unit == order[index] else unit for unit in units]
            order[index] = order[index + 1]
    numbers = {unit: number for number, unit in enumerate(dict.fromkeys(order))}
    return {key: numbers[unit] for key, unit in zip(state, units, strict=True)}


def _with_the_first_user(module: Any, group: dict[str, int]) -> dict[str, int]:
    """A parameter that several units share (CoaT's position encodings) belongs to the first of them."""
    first: dict[int, int] = {}
    for key, parameter in module.named_parameters(remove_duplicate=False):
        if key in group:
            group[key] = first.setdefault(id(parameter), group[key])
    return group


def _unit(key: str) -> str:
    """The key up to its second list index ("stages.2.blocks.1"), or its first, or its first part."""
    parts = key.split(".")
    indices = [i for i, part in enumerate(parts) if part.isdigit()][:2]
    return ".".join(parts[: indices[-1] + 1] if indices else parts[:1])


def _prefixes(group: Mapping[str, int]) -> dict[int, list[str]]:
    """For each unit the shortest paths under which nothing of another unit lies."""
    under: dict[str, set[int]] = {}
    for key, g in group.items():
        parts = key.split(".")
        for end in range(1, len(parts) + 1):
            under.setdefault(".".join(parts[:end]), set()).add(g)
    found: dict[int, dict[str, None]] = {}
    for key, g in group.items():
        parts = key.split(".")
        path = next(p for p in (".".join(parts[:e]) for e in range(1, len(parts) + 1)) if len(under[p]) == 1)
        found.setdefault(g, {})[path] = None
    return {g: list(paths) for g, paths in found.items()}


# --- depths
def with_depths(module: Any, anatomy: Anatomy) -> Anatomy:
    """The same, cut at layers where all maps have one shape (plain transformers), else at stages."""
    info = [dict(entry) for entry in _feature_info(module)]
    paths = [str(entry["module"]) for entry in info]
    parts = dict(module.named_modules())
    if len(paths) < 2 or not set(paths) <= set(parts) or len(set(paths)) < len(paths):
        return anatomy
    if len({(entry["num_chs"], entry["reduction"]) for entry in info}) == 1:
        holder = paths[0].rpartition(".")[0]
        whole = isinstance(parts.get(holder), nn.ModuleList | nn.Sequential)
        if whole and paths == [f"{holder}.{i}" for i in range(len(parts[holder]))]:  # type: ignore[arg-type]
            return layered(module, anatomy, holder)
        return anatomy
    stem = {key for key in parts if _under(key, anatomy.blocks.get("stem", ()))}
    stages = [path for path in paths if path not in stem and _is_stage(parts[path])]
    last = type(module).__name__ in CHANNELS_LAST or str(getattr(module, "output_fmt", "")) == "NHWC"
    return staged(anatomy, stages[:-1], channels_last=last) if len(stages) > 1 else anatomy


def widths(module: Any, stages: Sequence[str]) -> list[int]:
    """Channels of the stages' maps, as timm states them."""
    stated = {entry["module"]: int(entry["num_chs"]) for entry in _feature_info(module)}
    return [stated[path] for path in stages]


def _is_stage(part: nn.Module) -> bool:
    """Whether a module holds weights and is called (a ModuleList never is)."""
    return not isinstance(part, nn.ModuleList) and any(True for _ in part.parameters())


def _feature_info(module: Any) -> list[dict[str, Any]]:
    info = getattr(module, "feature_info", None) or []
    return list(getattr(info, "info", info))


def _under(path: str, prefixes: Iterable[str]) -> bool:
    return any(path == p or path.startswith(f"{p}.") for p in prefixes)
