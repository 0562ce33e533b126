"""The options that make a Recipe, once for every command that trains."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

import typer

from zoo.cards import Recipe
from zoo.cli.merged import merged
from zoo.cli.options import Seed
from zoo.errors import InputError


class Optimizer(StrEnum):
    """torch.optim's formulas, in every framework."""

    SGD = "sgd"
    ADAM = "adam"
    ADAMW = "adamw"


class Schedule(StrEnum):
    """Of the learning rate, after the warm-up."""

    CONSTANT = "constant"
    COSINE = "cosine"
    ONE_CYCLE = "one_cycle"


class Augment(StrEnum):
    """What happens to training photographs."""

    NONE = "none"
    LIGHT = "light"
    STRONG = "strong"


class Keep(StrEnum):
    """Of the validation loss, or of the run."""

    BEST = "best"
    LAST = "last"


class Precision(StrEnum):
    """What the network computes in while it trains; the weights stay float32."""

    FP32 = "fp32"
    BF16 = "bf16"


def read_recipe(
    *,
    optimizer: Optimizer = Optimizer.ADAMW,
    lr: Annotated[float, typer.Option(help="Learning rate at its highest.")] = Recipe.lr,
    momentum: Annotated[float, typer.Option(help="Of SGD.")] = Recipe.momentum,
    weight_decay: float = Recipe.weight_decay,
    epochs: int = Recipe.epochs,
    batch_size: int = Recipe.batch_size,
    micro_batch_size: Annotated[
        int | None, typer.Option(help="Examples through the network at a time.")
    ] = None,
    schedule: Schedule = Schedule.CONSTANT,
    warmup_epochs: Annotated[float, typer.Option(help="Of linear warm-up.")] = Recipe.warmup_epochs,
    label_smoothing: float = Recipe.label_smoothing,
    clip_norm: Annotated[float | None, typer.Option(help="Largest global gradient norm.")] = None,
    layer_decay: Annotated[float, typer.Option(help="Rate of a block: this times the next one's.")] = 1.0,
    head_epochs: Annotated[int, typer.Option(help="First epochs, that train the head alone.")] = 0,
    head_lr: Annotated[float | None, typer.Option(help="Their rate (default: --lr).")] = None,
    unfreeze_every: Annotated[
        int | None, typer.Option(help="One block more trains every so many epochs.")
    ] = None,
    ema: Annotated[float | None, typer.Option(help="Decay of a moving average of the weights: .999.")] = None,
    class_weights: Annotated[
        str | None, typer.Option(help="balanced, or a number a class with commas between.")
    ] = None,
    precision: Precision = Precision.FP32,
    augment: Augment = Augment.NONE,
    keep: Annotated[
        Keep, typer.Option(help="Weights of the epoch with the best validation loss, or the last.")
    ] = (Keep.BEST),
    patience: Annotated[int | None, typer.Option(help="Epochs to wait for a better validation loss.")] = None,
    seed: Seed = 0,
) -> Recipe:
    """From the options to what trains. Raises InputError."""
    return Recipe(
        optimizer=optimizer.value, lr=lr, momentum=momentum, weight_decay=weight_decay, epochs=epochs,
        batch_size=batch_size, micro_batch_size=micro_batch_size, schedule=schedule.value,
        warmup_epochs=warmup_epochs, label_smoothing=label_smoothing, clip_norm=clip_norm,
        layer_decay=layer_decay, head_epochs=head_epochs, head_lr=head_lr, unfreeze_every=unfreeze_every,
        ema=ema, class_weights=_class_weights(class_weights), precision=precision.value, augment=augment.value,
        keep=keep.value, patience=patience, seed=seed,
    )  # fmt: skip


def _class_weights(text: str | None) -> Literal["balanced"] | tuple[float, ...] | None:
    if text is None:
        return None
    if text == "balanced":
        return "balanced"
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise InputError(
            f"cannot read --class-weights {text!r}: balanced, or a number for each class such as 1,2.5"
        ) from error


with_recipe = merged("recipe", read_recipe)
"""Gives a command the options of `read_recipe` in the place of its parameter `recipe`."""
