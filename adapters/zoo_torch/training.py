"""The optimizer of one training run: groups by block, the loss, and all that an exact resume needs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from zoo.cards import Recipe
from zoo.engine import Array, step_entropy
from zoo.errors import InputError, TrainingError, WeightsCorruptError
from zoo.recipe import Precision
from zoo_torch.layout import like

STEP = "step"


def make_optimizer(recipe: Recipe, groups: Mapping[str, list[nn.Parameter]]) -> torch.optim.Optimizer:
    """torch.optim's own, one parameter group for each block; rates are set before every step."""
    listed = [{"params": parameters, "block": block} for block, parameters in groups.items() if parameters]
    decay = recipe.weight_decay  # torch's AdamW has a default of its own: always say it
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(listed, lr=recipe.lr, momentum=recipe.momentum, weight_decay=decay)
    kind = torch.optim.Adam if recipe.optimizer == "adam" else torch.optim.AdamW
    return kind(listed, lr=recipe.lr, betas=recipe.betas, eps=recipe.eps, weight_decay=decay)


def set_rates(optimizer: torch.optim.Optimizer, lr: Mapping[str, float]) -> None:
    """A rate for each group. Raises InputError naming the blocks that `lr` leaves out."""
    if absent := [group["block"] for group in optimizer.param_groups if group["block"] not in lr]:
        raise InputError(
            f"lr has no rate for {', '.join(absent)}: give one for each trainable block and head"
        )
    for group in optimizer.param_groups:
        group["lr"] = float(lr[group["block"]])


def cross_entropy(logits: Tensor, targets: Tensor, shares: Tensor | None) -> Tensor:
    """Mean of -sum(targets * log softmax(logits)); with `shares` [N] their sum, so weighted. Logits [N, C]."""
    losses = -(targets * torch.log_softmax(logits, dim=1)).sum(dim=1)
    return losses.mean() if shares is None else (losses * shares).sum()


@contextlib.contextmanager
def computing_in(precision: Precision, device: torch.device) -> Iterator[None]:
    """Inside, "bf16" runs what torch's autocast lists in bfloat16; weights and gradients stay float32."""
    with contextlib.nullcontext() if precision == "fp32" else torch.autocast(device.type, torch.bfloat16):
        yield


@contextlib.contextmanager
def explained(precision: Precision, device: torch.device) -> Iterator[None]:
    """Inside, an operation that has no bfloat16 form on the device is a TrainingError that names it."""
    try:
        yield
    except RuntimeError as error:
        if precision == "fp32" or "bfloat16" not in str(error).lower():
            raise
        raise TrainingError(
            f"this network cannot be trained in bfloat16 on {device.type}: {error}. precision='fp32' trains it."
        ) from error


def step_seed(seed: int, step: int, micro_batch: int = 0, rank: int = 0) -> int:
    """63 bits from these numbers alone: neighbouring ones are unrelated; without the last two the step's own."""
    entropy = np.random.SeedSequence(step_entropy(seed, step, micro_batch, rank))
    return int(entropy.generate_state(1, np.uint64)[0] >> np.uint64(1))


@contextlib.contextmanager
def lone_values_by_running_statistics(module: nn.Module) -> Iterator[None]:
    """Inside, a BatchNorm that sees one value a channel (one image, a map of 1x1) takes its running statistics.

    One value has no variance, and torch refuses it; the last batch of an epoch may well be one image. The flag
    that a hook turns off is put back by `modes`.
    """

    def look(part: nn.Module, args: tuple[Tensor, ...]) -> None:
        if args and args[0].numel() == args[0].shape[1]:
            part.training = False

    with contextlib.ExitStack() as stack:
        for part in module.modules():
            if isinstance(part, nn.modules.batchnorm._BatchNorm) and part.training:
                stack.callback(part.register_forward_pre_hook(look).remove)
        yield


def numerics(device: torch.device) -> dict[str, str]:
    """What torch's bits depend on in this process."""
    kind = (
        torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else torch.backends.cpu.get_cpu_capability()
    )
    return {
        "device": f"{device} ({kind})",
        "threads": str(torch.get_num_threads()),
        "inter-op threads": str(torch.get_num_interop_threads()),
        "deterministic algorithms": str(torch.are_deterministic_algorithms_enabled()),
        "torch": torch.__version__,
    }


def slots(optimizer: torch.optim.Optimizer, names: Mapping[int, str]) -> dict[str, Array]:
    """Copies of the optimizer's slots as "slot/state key"; names: id(parameter) -> state key."""
    return {
        f"{slot}/{names[id(parameter)]}": value.detach().cpu().numpy().copy()
        for parameter, values in optimizer.state.items()
        for slot, value in values.items()
        if value is not None
    }


def load_slots(
    optimizer: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter], state: Mapping[str, Array]
) -> None:
    """Take back what `slots` gave. Raises WeightsCorruptError for slots of other parameters."""
    optimizer.state.clear()
    for key, value in state.items():
        slot, _, name = key.partition("/")
        if name not in parameters:
            raise WeightsCorruptError(
                f"the training state holds {key!r}, which does not train here: freeze the same blocks and "
                "call start_training with the same recipe before loading it"
            )
        parameter = parameters[name]
        # Adam counts its steps in a scalar that stays on the CPU whatever the parameter's device.
        counter = slot == STEP
        optimizer.state[parameter][slot] = (
            torch.from_numpy(np.array(value)) if counter else like(value, parameter)
        )
