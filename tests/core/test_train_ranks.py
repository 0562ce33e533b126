"""Who does what when several processes train one model: shards, the stand-in, and what they must agree on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from errors_table import fails, photographs

from zoo.cards import Recipe
from zoo.engine import Array, Batch
from zoo.errors import InputError
from zoo.testing import toy
from zoo.train.ranks import RankLearner, Ranks, check_agreement, join, ranks_of


class Counting(toy.ToyEngine):
    """Keeps the last step's weights."""

    weights: Any = None

    def train_step(self, batch: Batch, targets: Array, *, weights: Any = None, **_: Any) -> float:
        self.weights = weights
        return 0.0


@pytest.mark.parametrize("count", [1, 2, 5, 7])
@pytest.mark.parametrize("world", [1, 2, 3])
def test_shards_are_contiguous_and_hold_all(count: int, world: int) -> None:
    shards = [Ranks(rank, world).shard(np.arange(count)) for rank in range(world)]
    assert np.concatenate(shards).tolist() == list(range(count))
    assert len(shards[0]) - len(shards[-1]) in (0, 1)


def test_ranks_are_what_torchrun_says() -> None:
    assert ranks_of({}) == ranks_of({"RANK": "1"}) == Ranks(0, 1) and Ranks(0, 1).alone
    assert ranks_of({"RANK": "1", "WORLD_SIZE": "2"}) == Ranks(1, 2)
    assert not Ranks(1, 2).first and not Ranks(0, 2).alone
    for rank, world in (("2", "2"), ("x", "2"), ("-1", "2"), ("0", "")):
        with pytest.raises(InputError, match="unset them to train in one process"):
            ranks_of({"RANK": rank, "WORLD_SIZE": world})


@pytest.mark.parametrize(("batch_size", "sizes"), [(5, [[3, 3, 1], [2, 2, 0]]), (1, [[1] * 11, [0] * 11])])
def test_every_rank_makes_every_step(batch_size: int, sizes: list[list[int]]) -> None:
    """Where it has no example it decodes one, and the step weighs it 0."""

    def source(order: Array, size: int, epoch: int) -> Iterator[tuple[Array, Batch]]:
        for start in range(0, len(order), size):
            index = order[start : start + size]
            yield index, {"images": np.zeros((len(index), 3, 8, 8), np.float32)}

    order, seen = np.random.default_rng(0).permutation(11), list[list[Array]]()
    for rank, own in enumerate(sizes):
        engine = Counting()
        learner = RankLearner(engine, source, ranks=Ranks(rank, 2))
        learner.start(Recipe(batch_size=batch_size), engine.blocks)
        shards = []
        for index, batch in learner.batches(order, batch_size, 0):
            learner.step(batch, np.zeros((len(index), 3), np.float32), 0.1)
            idle = engine.weights is not None
            assert len(batch["images"]) == len(index) and (not idle or engine.weights.tolist() == [0])
            shards.append(index[:0] if idle else index)
        assert [len(shard) for shard in shards] == own
        seen.append(shards)
    together = [np.concatenate(parts) for parts in zip(*seen, strict=True)]
    assert np.concatenate(together).tolist() == order.tolist()


def test_processes_that_were_given_something_else_are_refused() -> None:
    class Second(toy.ToyEngine):
        other, joined = 0, (0, 1)

        def join(self, rank: int, world: int) -> None:
            self.joined = (rank, world)

        def add_up(self, array: Array) -> Array:
            return array * 2 + self.other

    engine = Second()
    join(engine, Ranks(0, 1))
    assert engine.joined == (0, 1)
    join(engine, Ranks(0, 2))
    check_agreement(engine, Ranks(0, 2), Recipe(), {"training data": "a"}, 3)
    assert engine.joined == (0, 2)
    engine.other = 1
    with pytest.raises(InputError, match="a run folder that they share"):
        check_agreement(engine, Ranks(0, 2), Recipe(), {"training data": "a"}, 3)


def test_a_framework_that_cannot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    photographs(tmp_path / "photos")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    arguments = ["train", "toy:tiny", "photos", "--freeze", "none", "-o", "runs/mine"]
    with toy.installed(tmp_path / "site"):
        fails(
            capsys, "Two processes for a framework that trains in one", arguments, code=2,
            says=["2 processes were started", "without torchrun"],
        )  # fmt: skip
        monkeypatch.setenv("RANK", "2")
        fails(
            capsys, "A rank that there is not", arguments, code=2, says=["RANK=2 and WORLD_SIZE=2"],
        )  # fmt: skip
    assert not Path("runs").exists()
