"""Several processes that train one network: torch's own process group and DistributedDataParallel."""

from __future__ import annotations

import atexit
import contextlib
from collections.abc import Callable, Iterable

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from zoo.engine import Array
from zoo.errors import InputError

Forward = Callable[[dict[str, Tensor]], Tensor]


class Group:
    """The processes that torchrun started, of which this is one."""

    def __init__(self, rank: int, world: int, device: torch.device) -> None:
        """Waits for the others. Raises InputError where they cannot be reached."""
        self.rank, self.world, self.device = rank, world, device
        if not dist.is_initialized():
            backend = "nccl" if device.type == "cuda" else "gloo"
            try:
                dist.init_process_group(backend, rank=rank, world_size=world)
            except (ValueError, RuntimeError) as error:
                raise InputError(
                    f"process {rank} of {world} cannot reach the others ({error}): start all of them by "
                    "torchrun, which sets MASTER_ADDR and MASTER_PORT, or unset RANK and WORLD_SIZE"
                ) from error
            atexit.register(_leave)

    def add_up(self, array: Array) -> Array:
        """The sum over the processes."""
        tensor = torch.from_numpy(np.array(array)).to(self.device)
        dist.all_reduce(tensor)
        total: Array = tensor.cpu().numpy()
        return total

    def mean(self, value: Tensor) -> Tensor:
        """Of a scalar, over the processes."""
        total = value.clone()
        dist.all_reduce(total)
        return total / self.world


def _leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


class Spread(nn.Module):
    """Gives logits by `forward`, and holds what trains, so that DistributedDataParallel sees it."""

    def __init__(self, parts: Iterable[nn.Module | None], forward: Forward) -> None:
        super().__init__()
        self.parts = nn.ModuleList([part for part in parts if part is not None])
        self._logits = forward

    def forward(self, tensors: dict[str, Tensor]) -> Tensor:
        """[n, C]."""
        return self._logits(tensors)


def spread(module: Spread, example: dict[str, Tensor]) -> nn.parallel.DistributedDataParallel:
    """The module whose backward averages gradients over the processes; the first one's values become everyone's.

    Buffers (batch norm's statistics) are taken from the first process before every step: they are those of its
    part. example: a batch, by which is seen whether all that trains has a part in the logits.
    """
    logits = module(example)
    reached = _reached(logits)
    unused = [p for p in module.parameters() if p.requires_grad and id(p) not in reached]
    return nn.parallel.DistributedDataParallel(module, find_unused_parameters=bool(unused))


def _reached(tensor: Tensor) -> set[int]:
    """Ids of the parameters that a backward pass from here would come to."""
    found, seen, waiting = set[int](), set[object](), [tensor.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if (variable := getattr(node, "variable", None)) is not None:
            found.add(id(variable))
        waiting += [following for following, _ in node.next_functions]
    return found


def synchronised(forward: object, *, last: bool) -> contextlib.AbstractContextManager[None]:
    """Inside, a backward pass of any micro batch but the last keeps its gradients to itself."""
    if isinstance(forward, nn.parallel.DistributedDataParallel) and not last:
        quiet: contextlib.AbstractContextManager[None] = forward.no_sync()
        return quiet
    return contextlib.nullcontext()
