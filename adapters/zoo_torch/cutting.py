"""Depth as a variant of one set of weights: features after every stage in one pass, and networks cut short.

Two kinds. Convolution nets (and pyramids of transformers) have STAGES, as their papers draw them: depth d < n is
the global average of the map that stage d hands on, n the network's own features. Plain transformers have one
list of LAYERS: depth d is the first d of them followed by the network's own norm and pooling. Both are found
with hooks, so this file knows no architecture: `staged` and `layered` give an Anatomy its depths, `shorten`
cuts a module for real.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from zoo.errors import InputError
from zoo_torch.anatomy import Anatomy, Tensors, call, features_of, modes


class _ReachedError(Exception):
    """Ends a forward pass at a stage; carries what the stage gave."""

    def __init__(self, output: Any) -> None:
        super().__init__("a stage was reached whose pass was not begun by zoo_torch.cutting")
        self.output = output


def staged(anatomy: Anatomy, stages: Sequence[str], *, channels_last: bool = False) -> Anatomy:
    """The same with depths 1..len(stages)+1; stages: paths of the modules whose outputs are the maps.

    Their maps are [N, C, H, W], with `channels_last` [N, H, W, C], or tokens [N, L, C].
    """
    return dataclasses.replace(
        anatomy,
        stages=tuple(stages),
        channels_last=channels_last,
        layers=None,
        depths=tuple(range(1, len(stages) + 2)),
        cut=functools.partial(_through_stages, anatomy, tuple(stages), channels_last),
    )


def layered(module: nn.Module, anatomy: Anatomy, path: str) -> Anatomy:
    """The same with depths 1..n for the n layers of the ModuleList or Sequential at `path`."""
    count = len(_list_at(module, path))
    return dataclasses.replace(
        anatomy,
        stages=(),
        layers=path,
        depths=tuple(range(1, count + 1)),
        cut=functools.partial(_through_layers, anatomy, path),
    )


def shorten(module: nn.Module, anatomy: Anatomy, depth: int, tensors: Tensors) -> Anatomy:
    """Cut the module in place after `depth`; returns how the rest is read. What never runs is gone.

    tensors: an example batch of one, to see what runs. At the full depth nothing happens.
    Raises InputError for a depth that there is not.
    """
    if depth not in anatomy.depths:
        there = (
            f"has depths {anatomy.depths[0]} to {anatomy.depths[-1]}" if anatomy.depths else "cannot be cut"
        )
        raise InputError(f"depth {depth} is not there: this network {there}")
    if depth == anatomy.depths[-1]:
        return anatomy
    if anatomy.layers is not None:
        layers = _list_at(module, anatomy.layers)
        for name in [name for name, _ in layers.named_children()][depth:]:
            delattr(layers, name)  # `del layers[depth:]` would rename what stays in a Sequential
        return layered(module, _present(module, anatomy), anatomy.layers)
    return _end_at_stage(module, anatomy, depth, tensors)


def pooled(output: Any, channels_last: bool) -> Tensor:
    """A stage's output as [N, C]: the mean over its positions. Tuples: their first tensor."""
    while not isinstance(output, Tensor):
        output = getattr(output, "last_hidden_state", None) if hasattr(output, "keys") else output[0]
    if output.ndim == 4:
        return output.mean(dim=(1, 2) if channels_last else (2, 3))
    return output.mean(dim=1) if output.ndim == 3 else output


# --- stages
def _through_stages(
    anatomy: Anatomy,
    stages: tuple[str, ...],
    channels_last: bool,
    module: nn.Module,
    tensors: Tensors,
    depths: Sequence[int],
) -> list[Tensor]:
    """[N, C_d] for each depth, in one pass that goes no further than the deepest."""
    seen: dict[int, Tensor] = {}
    deepest = max(depths)

    def note(depth: int) -> Any:
        def hook(_: nn.Module, __: Any, output: Any) -> None:
            seen[depth] = pooled(output, channels_last)  # at once: the next part may work in place
            if depth == deepest:
                raise _ReachedError(output)

        return hook

    with contextlib.ExitStack() as stack:
        for depth, path in enumerate(stages, 1):
            handle = module.get_submodule(path).register_forward_hook(note(depth))
            stack.callback(handle.remove)
        with contextlib.suppress(_ReachedError):
            seen[len(stages) + 1] = features_of(module, anatomy, tensors)
    return [seen[depth] for depth in depths]


def stage_features(path: str, channels_last: bool, module: nn.Module, tensors: Tensors) -> Tensor:
    """[N, C]: the pass ends at the module `path`, whose map is averaged."""

    def hook(_: nn.Module, __: Any, output: Any) -> None:
        raise _ReachedError(output)

    handle = module.get_submodule(path).register_forward_hook(hook)
    try:
        call(module, tensors)
    except _ReachedError as reached:
        return pooled(reached.output, channels_last)
    finally:
        handle.remove()
    raise InputError(f"the stage {path!r} did not run in the forward pass")


def _end_at_stage(module: nn.Module, anatomy: Anatomy, depth: int, tensors: Tensors) -> Anatomy:
    path = anatomy.stages[depth - 1]
    compute = functools.partial(stage_features, path, anatomy.channels_last)
    with torch.no_grad(), modes(module, lambda _: False), _watched(module) as (entered, finished):
        width = compute(module, tensors).shape[1]
    _prune(module, entered, finished)
    ended = Anatomy(int(width), _present(module, anatomy).blocks, features=compute)
    return staged(ended, anatomy.stages[: depth - 1], channels_last=anatomy.channels_last)


@contextlib.contextmanager
def _watched(module: nn.Module) -> Iterator[tuple[set[nn.Module], set[nn.Module]]]:
    """Inside, the modules whose forward began, and those whose forward came to its end, are noted.

    always_call would also note what an exception ended, so the plain hooks are right.
    """
    entered: set[nn.Module] = set()
    finished: set[nn.Module] = set()
    with contextlib.ExitStack() as stack:
        for part in module.modules():
            begin = part.register_forward_pre_hook(lambda m, _: entered.add(m))
            # First, so that a stage notes itself before the hook that ends the pass.
            end = part.register_forward_hook(lambda m, *_: finished.add(m), prepend=True)
            stack.callback(begin.remove)
            stack.callback(end.remove)
        yield entered, finished


def _prune(module: nn.Module, entered: set[nn.Module], finished: set[nn.Module]) -> None:
    """Replace by Identity every part that did not run, below parts that were left half way.

    A part that came to its end keeps all of its own: it may read a child's weights without calling it, as
    nn.MultiheadAttention does.
    """
    if module in finished:
        return
    for name, child in list(module.named_children()):
        listed = isinstance(child, nn.ModuleList)  # never runs itself; code may count or index it
        if entered.isdisjoint(child.modules()) and not listed:
            setattr(module, name, nn.Identity())
        else:
            _prune(child, entered, finished)


def _present(module: nn.Module, anatomy: Anatomy) -> Anatomy:
    """The same without the blocks of which nothing is left."""
    keys = [f"{key}." for key in module.state_dict()]
    blocks = {
        name: prefixes
        for name, prefixes in anatomy.blocks.items()
        if any(key.startswith(f"{prefix}.") for key in keys for prefix in prefixes)
    }
    return dataclasses.replace(anatomy, blocks=blocks)


# --- layers
class _Given(nn.Module):
    """Stands for all layers: hands over what they gave."""

    def __init__(self, output: Any) -> None:
        super().__init__()
        self.output = output

    def forward(self, *_: Any, **__: Any) -> Any:
        return self.output


def _through_layers(
    anatomy: Anatomy, path: str, module: nn.Module, tensors: Tensors, depths: Sequence[int]
) -> list[Tensor]:
    """[N, D] for each depth: the layers run once, what stands after them once for each depth.

    What stands before them runs again each time and has no influence, so a traced graph drops it.
    """
    layers = _list_at(module, path)
    seen: dict[int, Any] = {}

    def note(depth: int) -> Any:
        def hook(_: nn.Module, __: Any, output: Any) -> None:
            seen[depth] = output

        return hook

    with contextlib.ExitStack() as stack:
        for depth, layer in enumerate(layers, 1):
            stack.callback(layer.register_forward_hook(note(depth)).remove)
        whole = features_of(module, anatomy, tensors)
    found = []
    for depth in depths:
        if depth == len(layers):
            found.append(whole)
            continue
        kind = nn.ModuleList if isinstance(layers, nn.ModuleList) else nn.Sequential
        given = _Given(seen[depth])
        try:
            module.set_submodule(path, kind([given]) if kind is nn.ModuleList else kind(given))
            found.append(features_of(module, anatomy, tensors))
        finally:
            module.set_submodule(path, layers)
    return found


def _list_at(module: nn.Module, path: str) -> Any:
    layers = module.get_submodule(path)
    if not isinstance(layers, nn.ModuleList | nn.Sequential):
        raise InputError(f"{path!r} is a {type(layers).__name__}, not a list of layers")
    return layers
