"""What `zoo tune` compares: which part of the network trains, by which optimizer, at which learning rate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from zoo.cards import Recipe
from zoo.errors import InputError
from zoo.recipe import OptimizerName, one_of

Part = Literal["head", "last", "all"]
PARTS: tuple[Part, ...] = get_args(Part)
OPTIMIZERS: tuple[OptimizerName, ...] = get_args(OptimizerName)
WORDS: Mapping[str, str] = {
    "head": "the head alone",
    "last": "the last third of the blocks",
    "all": "all layers",
}
OPTIMIZER_WORDS: Mapping[str, str] = {"sgd": "SGD", "adam": "Adam", "adamw": "AdamW"}
# Pretrained weights move by less than a new head may: each has the range in which it is commonly tuned.
RATES: Mapping[tuple[bool, bool], tuple[float, ...]] = {
    # (head alone, SGD)
    (True, True): (1e-2, 1e-1, 1.0),
    (True, False): (1e-3, 1e-2, 1e-1),
    (False, True): (1e-3, 1e-2, 1e-1),
    (False, False): (3e-5, 3e-4, 3e-3),
}
DECAY: Mapping[str, float] = {"sgd": 0.0, "adam": 0.0, "adamw": 0.01}
"""AdamW without decay would be Adam; 0.01 is torch's own."""
WARMUP = 0.1
HEAD_EPOCHS = 10
"""Times as many epochs for the head alone: on features that one pass gives they cost next to nothing, and a head that
is not done learning by the end would lose to deeper training for that reason alone."""


@dataclass(frozen=True)
class Arm:
    """One setting."""

    part: Part
    optimizer: OptimizerName
    lr: float

    @property
    def key(self) -> str:
        """Such as "all/adamw/0.0003"."""
        return f"{self.part}/{self.optimizer}/{self.lr:g}"

    @property
    def stratum(self) -> str:
        """Arms that differ in the learning rate alone."""
        return f"{self.part}/{self.optimizer}"

    def recipe(self, *, epochs: int, batch_size: int, seed: int) -> Recipe:
        """Cosine to 0 after a tenth of linear warm-up; the last weights stay. The head: HEAD_EPOCHS x epochs."""
        epochs *= HEAD_EPOCHS if self.part == "head" else 1
        return Recipe(
            optimizer=self.optimizer, lr=self.lr, weight_decay=DECAY[self.optimizer], epochs=epochs,
            batch_size=batch_size, schedule="cosine", warmup_epochs=WARMUP * epochs, seed=seed, keep="last",
        )  # fmt: skip


def make_arms(parts: Sequence[str], optimizers: Sequence[str], rates: Sequence[float] | None) -> list[Arm]:
    """Every combination. rates: for all of them; None: RATES, by part and optimizer. Raises InputError."""
    _known("part", parts, PARTS)
    _known("optimizer", optimizers, OPTIMIZERS)
    if wrong := [rate for rate in rates or () if not rate > 0]:
        raise InputError(f"learning rate {wrong[0]:g}: must be above 0")
    if rates is not None and not rates:
        raise InputError("no learning rate to try: give one or more above 0")
    return [
        Arm(part, optimizer, rate)
        for part in PARTS
        for optimizer in OPTIMIZERS
        if part in parts and optimizer in optimizers
        for rate in sorted(set(rates or RATES[part == "head", optimizer == "sgd"]))
    ]


def _known(what: str, given: Sequence[str], known: Sequence[str]) -> None:
    for name in given:
        if name not in known:
            raise InputError(f"{what} {name!r}: {one_of(tuple(known))}")
    if not given:
        raise InputError(f"no {what} to compare: {one_of(tuple(known))}")


def trained_blocks(part: str, blocks: int) -> int:
    """How many of the last blocks train: none, about the last third (1 at the least), or all."""
    return {"head": 0, "last": max(1, round(blocks / 3)), "all": blocks}[part]
