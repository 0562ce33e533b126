"""How any image classifier of transformers is read: units, head, depths, and other sizes than its own.

Where its units are is found by running it once: a plain transformer's layers hand on as many tokens as they got,
a convolution net (or a pyramid of transformers) has stages, which end where the map becomes smaller.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from zoo.engine import Array
from zoo.errors import InputError
from zoo_torch.anatomy import Anatomy, Tensors, around, modes
from zoo_torch.cutting import layered, staged
from zoo_torch.engine import to_array

# Layers of the list that make one unit of the paper: a depthwise and a pointwise convolution (Howard et al. 2017).
LAYERS_A_UNIT = {"mobilenet_v1": 2}
# Sizes that are tried to tell somebody which ones a network takes.
TRIED = (32, 48, 64, 96, 112, 128, 160, 192, 224, 256, 288, 320, 384, 448, 512)


def anatomy_of(module: Any, size: tuple[int, int]) -> Anatomy:
    """How a classifier with one Linear head is read. size: (height, width) of its input in pixels."""
    heads = linears_of(module)
    path, units = _units(module)
    before, after = around(module, path, leave_out=heads[-1])
    step = LAYERS_A_UNIT.get(module.config.model_type, 1)
    blocks = {f"unit.{i // step}": tuple(units[i : i + step]) for i in range(0, len(units), step)}
    last = list(blocks)[-1]
    blocks[last] = (*blocks[last], *(name for name in after if name not in heads))
    before = tuple(name for name in before if name not in heads)
    blocks = {"stem": before, **blocks} if before else blocks
    if len(heads) == 1:
        linear = module.get_submodule(heads[0])
        anatomy = Anatomy(int(linear.in_features), blocks, head=heads[0])
    else:
        width = sum(module.get_submodule(name).in_features for name in heads)
        anatomy = Anatomy(width, blocks, features=functools.partial(_inputs_of, tuple(heads)))
    return _with_depths(module, anatomy, path, units, size)


# --- heads
def linears_of(module: Any) -> list[str]:
    """Paths of the Linears that give the classes; two where a distilled network averages them.

    Raises InputError where there is none.
    """
    found = [
        name
        for name, part in module.named_modules()
        if isinstance(part, nn.Linear)
        and part.out_features == module.config.num_labels
        and any(
            word in name.rpartition("vision_model.")[2] for word in ("classifier", "head", "fc", "logits")
        )
    ]
    if not found:
        raise InputError(f"the head of a {type(module).__name__} is no Linear: the zoo cannot read it yet")
    pair = len(found) > 1 and any("dist" in name for name in found)
    return found[-2:] if pair else found[-1:]


def _inputs_of(heads: Sequence[str], module: Any, tensors: Tensors) -> Tensor:
    """What goes into each of the heads, side by side: [N, D1 + D2]."""
    seen: list[Tensor] = []
    hooks = [
        module.get_submodule(name).register_forward_hook(lambda _, args, __: seen.append(args[0]))
        for name in heads
    ]
    try:
        module(tensors["images"])
    finally:
        for hook in hooks:
            hook.remove()
    return torch.cat(seen, dim=1)


def averaged_head(module: Any) -> tuple[Array, Array] | None:
    """The one Linear (weight [C, D], bias [C]) that equals the mean of two (Touvron et al. 2020), or None."""
    heads = [module.get_submodule(name) for name in linears_of(module)]
    if len(heads) == 1:
        return None
    weight = np.concatenate([to_array(head.weight) for head in heads], axis=1) / len(heads)
    return weight.astype(np.float32), sum(to_array(head.bias) for head in heads) / np.float32(len(heads))


def take_off_heads(module: Any) -> None:
    """Two heads that are averaged become the engine's one."""
    for name in linears_of(module):
        module.set_submodule(name, _Passing(module.get_submodule(name)))


class _Passing(nn.Module):
    """Stands where a Linear was: gives zeros of its shape, so that what follows still runs."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.out_features, self.in_features = linear.out_features, linear.in_features

    def forward(self, x: Tensor) -> Tensor:
        return x[..., : self.out_features]


# --- units and depths
def _units(module: Any) -> tuple[str, list[str]]:
    """The path of the list of units, and the units' own: the outermost list that is as long as the config says.

    Otherwise the longest one that is not inside another.
    """
    config = getattr(module.config, "vision_config", module.config)
    counts = (getattr(config, "num_hidden_layers", None), len(_depths(module)) or None)
    found: dict[str, int] = {}
    for name, part in module.named_modules():
        inside = any(name.startswith(f"{path}.") for path in found)
        several = isinstance(part, nn.ModuleList | nn.Sequential) and len(part) > 1
        if several and not inside and next(part.parameters(), None) is not None:
            found[name] = len(part)
    right = [name for name, length in found.items() if length in counts]
    if not found:
        raise InputError(f"the zoo cannot read the layers of a {type(module).__name__} yet")
    path = right[0] if right else max(found, key=lambda name: found[name])
    return path, [f"{path}.{name}" for name, _ in module.get_submodule(path).named_children()]


def _depths(module: Any) -> list[int]:
    """Units of each stage, as the config states them; [] where it states none."""
    stated = getattr(module.config, "depths", None) or getattr(module.config, "depth", None)
    return list(stated) if isinstance(stated, list | tuple) else []


def _with_depths(
    module: Any, anatomy: Anatomy, path: str, units: list[str], size: tuple[int, int]
) -> Anatomy:
    """Layers where each hands on as many tokens as it got, else the stages; none where neither can be seen."""
    shapes = _shapes(module, units, size)
    if len(shapes) < len(units) or not all(shapes.values()):
        return anatomy
    if len(set(shapes.values())) == 1 and len(next(iter(shapes.values()))) == 1:
        return layered(module, anatomy, path)
    places = list(shapes.values())
    if len(units) == len(_depths(module)):  # each unit is a stage, as the config counts them
        return staged(anatomy, units[:-1])
    ends = [unit for unit, here, after in zip(units, places, places[1:], strict=False) if here != after]
    return staged(anatomy, ends) if ends else anatomy


def _shapes(module: Any, units: list[str], size: tuple[int, int]) -> dict[str, tuple[int, ...]]:
    """For each unit that runs: the positions of what it gives, (H, W) or (tokens,); () where it cannot be seen."""
    found: dict[str, tuple[int, ...]] = {}

    def note(unit: str, _: nn.Module, __: Any, output: Any) -> None:
        while isinstance(output, tuple | list) and output:
            output = output[0]
        output = getattr(output, "last_hidden_state", output)
        shape = tuple(output.shape) if isinstance(output, Tensor) else ()
        found[unit] = shape[2:] if len(shape) == 4 else shape[1:2]

    hooks = [module.get_submodule(u).register_forward_hook(functools.partial(note, u)) for u in units]
    try:
        run(module, size)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def headless(module: Any, anatomy: Anatomy) -> Anatomy:
    """A cut network as it is read: its own head, which was trained on the whole one, is gone."""
    if anatomy.head is None or anatomy.layers is None:
        return anatomy
    module.set_submodule(anatomy.head, nn.Identity())
    return layered(module, dataclasses.replace(anatomy, head=None, features=_logits), anatomy.layers)


def _logits(module: Any, tensors: Tensors) -> Tensor:
    """What a classifier whose head is taken off gives: that head's input, [N, D]."""
    found: Tensor = module(tensors["images"]).logits
    return found


# --- sizes
def run(module: Any, size: tuple[int, int]) -> None:
    """One image of grey through the network, in inference mode."""
    with torch.no_grad(), modes(module, lambda _: False):
        module(torch.zeros(1, 3, *size))


def fit_to(module: Any, size: tuple[int, int], name: str) -> None:
    """Let the network take inputs of `size`: position embeddings are interpolated as the framework does it.

    Raises InputError saying which sizes it takes where it does not take this one.
    """
    config = getattr(module.config, "vision_config", module.config)
    own = getattr(config, "image_size", None)
    if own not in (None, size[0], list(size), size) and "interpolate_pos_encoding" in _arguments(module):
        module.forward = functools.partial(module.forward, interpolate_pos_encoding=True)
    if (reason := _refusal(module, size)) is None:
        return
    takes = [pixels for pixels in TRIED if _refusal(module, (pixels, pixels)) is None]
    told = (
        f"Of those tried it takes {', '.join(map(str, takes))}; the smallest is {takes[0]}."
        if takes
        else "Give its own size."
    )
    raise InputError(f"{name} takes no {size[0]} x {size[1]} pixels ({reason}). {told}")


def _arguments(module: Any) -> Any:
    return inspect.signature(module.forward).parameters


def _refusal(module: Any, size: tuple[int, int]) -> str | None:
    """Why the network takes no such input, or None."""
    try:
        run(module, size)
    except (RuntimeError, ValueError, IndexError, AssertionError, TypeError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        return textwrap.shorten(first, 120, placeholder=" ...")
    return None
