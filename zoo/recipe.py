"""How to train: a frozen record that a checkpoint carries, checked when it is made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

from zoo.errors import InputError

OptimizerName = Literal["sgd", "adam", "adamw"]
Schedule = Literal["constant", "cosine", "one_cycle"]
Precision = Literal["fp32", "bf16"]
Augment = Literal["none", "light", "strong"]
Keep = Literal["best", "last"]


@dataclass(frozen=True)
class Recipe:
    """How to train. Formulas are torch.optim's in every framework.

    lr: at its highest.  schedule: "constant", "cosine" (to 0, Loshchilov & Hutter 2017) or "one_cycle" (up
    and down again, Smith & Topin 2018), after `warmup_epochs` of linear warm-up.  patience: stop after so
    many epochs without a better validation loss (None: never).  keep: the weights of the epoch with the lowest
    validation loss, where there is validation data, or the last epoch's: on a few dozen examples the loss picks
    early epochs by chance, and a schedule that falls to 0 ends well.  clip_norm: largest global gradient norm.
    label_smoothing: Szegedy et al. 2016.

    layer_decay: the head's rate is lr, the last block's lr * layer_decay, and so on down (1: the same for
    all; Clark et al. 2020).  head_epochs: the first so many epochs train the head alone, at head_lr (None:
    lr) without a schedule; the schedule has the rest (LP-FT, Kumar et al. 2022).  unfreeze_every: after
    them one block more trains every so many epochs, from the last one down (Howard & Ruder 2018; None: all).

    micro_batch_size: examples that go through the network at a time; their gradients add up to those of
    batch_size (None: all at once).  ema: decay of an exponential moving average of the weights, which is
    then what is validated and kept (None: the weights themselves).  class_weights: "balanced" (N / (C * n_c))
    or one number a class; the loss is the weighted mean.  precision: "bf16" computes in bfloat16 with
    float32 weights.  augment: what happens to training images (`zoo.data.augment`).
    """

    optimizer: OptimizerName = "adamw"
    lr: float = 1e-3
    momentum: float = 0.9
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    epochs: int = 10
    batch_size: int = 32
    schedule: Schedule = "constant"
    warmup_epochs: float = 0.0
    label_smoothing: float = 0.0
    clip_norm: float | None = None
    patience: int | None = None
    seed: int = 0
    layer_decay: float = 1.0
    head_epochs: int = 0
    head_lr: float | None = None
    unfreeze_every: int | None = None
    micro_batch_size: int | None = None
    ema: float | None = None
    class_weights: Literal["balanced"] | tuple[float, ...] | None = None
    precision: Precision = "fp32"
    augment: Augment = "none"
    keep: Keep = "best"

    def __post_init__(self) -> None:
        """Raises InputError naming every field that cannot be."""
        problems = [*self._wrong_names(), *self._wrong_numbers(), *self._wrong_together()]
        if problems:
            raise InputError("a recipe that cannot be trained: " + "; ".join(problems))

    def _wrong_names(self) -> list[str]:
        known = {
            "optimizer": OptimizerName,
            "schedule": Schedule,
            "precision": Precision,
            "augment": Augment,
            "keep": Keep,
        }
        return [
            f"{field} {getattr(self, field)!r}: {one_of(get_args(names))}"
            for field, names in known.items()
            if getattr(self, field) not in get_args(names)
        ]

    def _wrong_numbers(self) -> list[str]:
        weights = self.class_weights
        problems = [
            (not self.lr > 0, f"lr {self.lr}: must be above 0"),
            (self.epochs < 1, f"epochs {self.epochs}: must be 1 or more"),
            (self.batch_size < 1, f"batch_size {self.batch_size}: must be 1 or more"),
            (not 0 <= self.label_smoothing < 1, f"label_smoothing {self.label_smoothing}: in [0, 1)"),
            (not 0 <= self.momentum < 1, f"momentum {self.momentum}: in [0, 1)"),
            (not all(0 <= b < 1 for b in self.betas), f"betas {self.betas}: in [0, 1)"),
            (not self.eps > 0, f"eps {self.eps}: must be above 0"),
            (not self.weight_decay >= 0, f"weight_decay {self.weight_decay}: 0 or more"),
            (not self.warmup_epochs >= 0, f"warmup_epochs {self.warmup_epochs}: 0 or more"),
            (_below(self.patience, 1), f"patience {self.patience}: 1 or more, or None"),
            (self.clip_norm is not None and not self.clip_norm > 0, f"clip_norm {self.clip_norm}: above 0"),
            (not 0 < self.layer_decay <= 1, f"layer_decay {self.layer_decay}: in (0, 1]"),
            (self.head_epochs < 0, f"head_epochs {self.head_epochs}: 0 or more"),
            (self.head_lr is not None and not self.head_lr > 0, f"head_lr {self.head_lr}: above 0"),
            (_below(self.unfreeze_every, 1), f"unfreeze_every {self.unfreeze_every}: 1 or more, or None"),
            (_below(self.micro_batch_size, 1), f"micro_batch_size {self.micro_batch_size}: 1 or more"),
            (self.ema is not None and not 0 < self.ema < 1, f"ema {self.ema}: in (0, 1), or None"),
            (
                isinstance(weights, str) and weights != "balanced",
                f"class_weights {weights!r}: 'balanced', or one number a class",
            ),
            (
                isinstance(weights, tuple) and not all(w > 0 for w in weights),
                f"class_weights {weights}: each must be above 0",
            ),
        ]
        return [text for bad, text in problems if bad]

    def _wrong_together(self) -> list[str]:
        problems = [
            (
                self.head_epochs >= self.epochs > 0 and self.head_epochs > 0,
                f"head_epochs {self.head_epochs}: less than epochs ({self.epochs}), which count them",
            ),
            (
                self.head_lr is not None and self.head_epochs == 0,
                f"head_lr {self.head_lr}: is the rate of head_epochs, and there are none",
            ),
            (
                self.schedule == "one_cycle" and self.warmup_epochs > 0,
                f"warmup_epochs {self.warmup_epochs}: one_cycle warms up by itself, leave it 0",
            ),
        ]
        return [text for bad, text in problems if bad]


def one_of(names: tuple[Any, ...]) -> str:
    """ "a, b or c"."""
    *most, last = map(str, names)
    return f"{', '.join(most)} or {last}" if most else last


def recipe_from_dict(data: dict[str, Any]) -> Recipe:
    """From JSON: what `dataclasses.asdict` gave, with lists for tuples. Raises InputError, TypeError."""
    weights = data.get("class_weights")
    tuples: dict[str, Any] = {"betas": tuple(data["betas"])} if "betas" in data else {}
    if isinstance(weights, list):
        tuples["class_weights"] = tuple(weights)
    return Recipe(**{**data, **tuples})


def _below(value: int | None, least: int) -> bool:
    return value is not None and value < least
