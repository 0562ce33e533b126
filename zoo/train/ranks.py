"""Several processes that train one model on one global batch: who does what, and what must agree.

torchrun starts the processes and says in the environment which one this is. Each global batch's examples are cut
into contiguous shards, one a process; its engine adds gradients up over the processes, so every one of them
makes the same step. Only the first writes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import SupportsFloat

import numpy as np

from zoo.cards import Recipe, fingerprint
from zoo.engine import Array, Batch, Engine
from zoo.errors import InputError
from zoo.train.learner import NetworkLearner, Source

RANK, WORLD_SIZE = "RANK", "WORLD_SIZE"


@dataclass(frozen=True)
class Ranks:
    """This process is number `rank` of `world`."""

    rank: int = 0
    world: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    @property
    def alone(self) -> bool:
        """Whether there is no other."""
        return self.world == 1

    def shard(self, indices: Array) -> Array:
        """This process's part of a global batch: contiguous, the first ones larger by one; perhaps empty."""
        return np.array_split(indices, self.world)[self.rank]


def ranks_of(environment: Mapping[str, str]) -> Ranks:
    """What torchrun set, or a process alone. Raises InputError for numbers that cannot be."""
    given = environment.get(RANK), environment.get(WORLD_SIZE)
    if given[0] is None or given[1] is None:
        return Ranks()
    if not (given[0].isdigit() and given[1].isdigit() and int(given[0]) < int(given[1])):
        raise InputError(
            f"{RANK}={given[0]} and {WORLD_SIZE}={given[1]} in the environment: a rank is a number from 0 to "
            "the number of processes - 1. torchrun sets both; unset them to train in one process."
        )
    return Ranks(int(given[0]), int(given[1]))


def join(engine: Engine, ranks: Ranks) -> None:
    """Wait for the other processes, if there are any. Nobody writes into the run's folder before."""
    if not ranks.alone:
        engine.join(ranks.rank, ranks.world)


def check_agreement(engine: Engine, ranks: Ranks, *facts: object) -> None:
    """Raises InputError where the processes were given other data, recipes or checkpoints than this one."""
    own = int(fingerprint(list(facts))[:8], 16)
    total = int(engine.add_up(np.array(own, np.int64)))
    if total != own * ranks.world:
        raise InputError(
            "the processes do not train the same: data, model, recipe, and the checkpoint to go on from must be "
            "one and the same for all of them. On several machines give each the same data, and a run folder "
            "that they share."
        )


class RankLearner(NetworkLearner):
    """A network trained by this process and others, each on its shard of every batch.

    The engine has joined the others (`Engine.join`).
    """

    def __init__(
        self,
        engine: Engine,
        train: Source,
        validation: Source | None = None,
        *,
        validation_size: int = 0,
        ranks: Ranks,
    ) -> None:
        super().__init__(engine, train, validation, validation_size=validation_size)
        self._ranks, self._idle = ranks, False

    def start(self, recipe: Recipe, trainable: Sequence[str]) -> None:
        """From the first process's weights."""
        super().start(recipe, trainable)
        self._agree()

    def batches(self, order: Array, batch_size: int, epoch: int) -> Iterator[tuple[Array, Batch]]:
        """This process's shard of each global batch. An empty one is stood in for by an example of weight 0."""
        whole = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
        shards = [self._ranks.shard(indices) for indices in whole]
        filled = [shard if len(shard) else all_[:1] for shard, all_ in zip(shards, whole, strict=True)]
        decoded = self._train(np.concatenate(filled), len(filled[0]), epoch)
        for shard, (indices, batch) in zip(shards, decoded, strict=True):
            self._idle = not len(shard)
            yield indices, batch
        self._agree()

    def step(self, batch: Batch, targets: Array, lr: float, weights: Array | None = None) -> SupportsFloat:
        """The global batch's step and loss."""
        own = np.zeros(len(targets), np.float32) if self._idle else weights
        return super().step(batch, targets, lr, own)

    def validation_logits(self) -> Array | None:
        """All of them in every process, so that all stop at the same epoch; each computes its shard."""
        if self._validation is None:
            return None
        self._agree()
        mine = self._ranks.shard(np.arange(self._validation_size))
        logits = np.zeros((self._validation_size, self.engine.num_classes or 0), np.float32)
        for indices, batch in self._validation(mine, self._recipe.batch_size, 0):
            logits[indices] = self.engine.logits(batch)
        return self.engine.add_up(logits)

    def _agree(self) -> None:
        """Take the first process's state: batch norm's statistics are of each one's own shard.

        Every process comes here at the same points. `state()` itself asks nobody: only the first one writes.
        """
        first = self._ranks.first
        state = {
            key: self.engine.add_up(value if first else np.zeros_like(value))
            for key, value in self.engine.state().items()
        }
        if not first:
            self.engine.load_state(state)
