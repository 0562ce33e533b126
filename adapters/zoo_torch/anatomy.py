"""How one native module is read: which parts are its blocks, where its features are, where its head sits.

The engine knows modules only through this description, so a new family is a new Anatomy and nothing else.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from zoo.engine import HEAD
from zoo.errors import InputError

Tensors: TypeAlias = Mapping[str, Tensor]


@dataclass(frozen=True)
class Anatomy:
    """One architecture.

    feature_dim: D, the width of the features.
    blocks: name -> prefixes of the state keys that belong to it (the longest prefix wins).
    head: path of the last Linear; features are its input. None: they come from `features`.
    features: (module, tensors) -> [N, D].
    native_head: prefix of a head that is not linear on the features; its logits are the module's output.
    native_also: further prefixes of that head.
    put_head: (module, Linear) -> path, where that head makes room for a Linear inside the module. Neither
    `head` nor `put_head`: the engine holds the Linear beside the module.
    cut: (module, tensors, depths) -> features [N, D] after each depth;  depths: those that there are.
    stages: paths of the modules whose outputs are the maps of depths 1..n-1, for networks cut at stages;
    channels_last: those maps are [N, H, W, C].  layers: path of the list of layers, for networks cut there.
    `zoo_torch.cutting` sets these five and reads them: `staged`, `layered`, `shorten`.
    """

    feature_dim: int
    blocks: Mapping[str, tuple[str, ...]]
    head: str | None = None
    features: Callable[[nn.Module, Tensors], Tensor] | None = None
    native_head: str | None = None
    native_also: tuple[str, ...] = ()
    put_head: Callable[[nn.Module, nn.Linear], str] | None = None
    cut: Callable[[nn.Module, Tensors, Sequence[int]], list[Tensor]] | None = None
    depths: tuple[int, ...] = field(default=())
    stages: tuple[str, ...] = ()
    channels_last: bool = False
    layers: str | None = None


def call(module: nn.Module, tensors: Tensors) -> Any:
    """Run a module: images by position, texts by name."""
    return module(tensors["images"]) if "images" in tensors else module(**tensors)


def through_head(module: nn.Module, path: str, tensors: Tensors) -> tuple[Tensor, Tensor]:
    """What goes into the submodule `path` during a forward pass, and what comes out: [N, D], [N, C]."""
    seen: list[tuple[Tensor, Tensor]] = []
    handle = module.get_submodule(path).register_forward_hook(
        lambda _, args, output: seen.append((args[0], output))
    )
    try:
        call(module, tensors)
    finally:
        handle.remove()
    if not seen:
        raise InputError(f"the head {path!r} did not run in the forward pass; name the last Linear that does")
    return seen[-1]


def features_of(module: nn.Module, anatomy: Anatomy, tensors: Tensors) -> Tensor:
    """[N, D] of a module whose head is where the anatomy says, or taken off."""
    if anatomy.features is not None:
        return anatomy.features(module, tensors)
    return through_head(module, anatomy.head or "", tensors)[0]


@contextlib.contextmanager
def modes(module: nn.Module, training: Callable[[str], bool]) -> Iterator[None]:
    """Inside, every submodule is in training mode where `training(name)` says so; afterwards as it was."""
    before = [(part, part.training) for part in module.modules()]
    for name, part in module.named_modules():
        part.training = training(name)
    try:
        yield
    finally:
        for part, flag in before:
            part.training = flag


@contextlib.contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Inside, torch's generators start from `seed`; afterwards they are as they were.

    The generators are set one by one: torch.manual_seed would also reseed devices that are not forked.
    """
    devices = [device.index or 0] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.random.default_generator.manual_seed(seed)
        for index in devices:
            torch.cuda.default_generators[index].manual_seed(seed)
        yield


class Owners:
    """Who owns which state key and submodule: one of the blocks, the head, or the rest between them."""

    def __init__(self, anatomy: Anatomy, head: str | None) -> None:
        self._prefixes = {prefix: name for name, ps in anatomy.blocks.items() for prefix in ps}
        self._last = list(anatomy.blocks)[-1] if anatomy.blocks else ""
        for prefix in (head, anatomy.native_head, *anatomy.native_also):
            if prefix is not None:
                self._prefixes[prefix] = HEAD

    def of(self, name: str) -> str | None:
        """The owner of a state key or submodule, by its longest known prefix; None: the rest."""
        parts = name.split(".")
        for end in range(len(parts), 0, -1):
            if owner := self._prefixes.get(".".join(parts[:end])):
                return owner
        return None

    def mode_of(self, name: str) -> str:
        """Whose mode a submodule follows: the rest (dropout before the head, containers) the last block's."""
        return self.of(name) or self._last


def around(
    module: nn.Module, path: str, *, leave_out: str | None = None
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of the parts (and loose parameters) that stand before and after the list of layers at `path`."""
    before: list[str] = []
    after: list[str] = []
    side, holders = before, {"", *(path[:i] for i, letter in enumerate(path) if letter == ".")}
    for name, part in module.named_modules():
        if name == path:
            side = after
        elif name in holders:
            before += [f"{name}.{p}".lstrip(".") for p, _ in part.named_parameters(recurse=False)]
        elif name.rpartition(".")[0] in holders and name != leave_out:
            side.append(name)
    return tuple(before), tuple(after)


def default_blocks(module: nn.Module, head: str) -> dict[str, tuple[str, ...]]:
    """Top-level children (or parameters of the root) that hold more than the head, in their order."""
    keys = [key for key in module.state_dict() if key != head and not key.startswith(f"{head}.")]
    names = dict.fromkeys(key.partition(".")[0] for key in keys)
    return {name: (name,) for name in names}


def check_blocks(module: nn.Module, anatomy: Anatomy) -> None:
    """Raise InputError unless every parameter and buffer is in exactly one block or in the head."""
    owners = Owners(anatomy, anatomy.head)
    if orphans := [key for key in module.state_dict() if owners.of(key) is None]:
        raise InputError(
            f"{len(orphans)} parameters or buffers are in no block: {', '.join(orphans[:5])}. "
            "Give blocks= names whose submodules cover the whole backbone."
        )
    shared: dict[int, str] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        owner = owners.of(name) or ""
        if shared.setdefault(id(parameter), owner) != owner:
            raise InputError(
                f"the parameter {name} is shared by the blocks {shared[id(parameter)]} and {owner}: "
                "put both into one block with blocks="
            )
