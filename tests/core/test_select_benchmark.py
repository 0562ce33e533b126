"""What benchmarks/select_*.py make of a truth table, on a small one whose answers are known."""

from __future__ import annotations

import dataclasses
import functools
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from zoo.cards import Budget, Cost
from zoo.choose import journal
from zoo.data import Dataset

pytest.importorskip("sklearn")
BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SPLITS, EXAMPLES = 3, 120
NOISE = {"small": 3.0, "middle": 1.5, "large": 0.7}
SCRIPTS = ("space", "train", "prepare", "truth", "table", "strategies", "margin", "regret")


@pytest.fixture(scope="module")
def scripts() -> Iterator[SimpleNamespace]:
    """The modules, with three splits in the place of twenty."""
    names = [f"select_{name}" for name in SCRIPTS]
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        found = SimpleNamespace(**{name: __import__(f"select_{name}") for name in SCRIPTS})
        for name in names:
            if hasattr(sys.modules[name], "SPLITS"):
                patch.setattr(sys.modules[name], "SPLITS", SPLITS)
        yield found
    for name in [*names, "common"]:
        sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def task(scripts: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Three networks: of the middle one all layers are right on everything, of the others on half; heads trained."""

    @dataclasses.dataclass(frozen=True)
    class Toy(scripts.space.Task):  # type: ignore[name-defined,misc]
        at: Path = Path()

        @property
        def folder(self) -> Path:
            return self.at

        @functools.cached_property
        def data(self) -> Dataset:
            targets = np.arange(EXAMPLES) % 2
            return Dataset("text", [f"text {i}" for i in range(EXAMPLES)], targets, ("a", "b"), "toy")

    networks = tuple(scripts.space.Network(name, f"toy:{name}", 50.0) for name in NOISE)
    made = Toy("toy", 3, 1, networks, ("fp32",), at=tmp_path_factory.mktemp("select"))
    _write(scripts, made)
    scripts.truth.heads(made, range(SPLITS), (0, 1, 2))
    return made


def _write(scripts: SimpleNamespace, task: Any) -> None:
    """Features, costs and the runs of all layers, as select_prepare and a worker leave them."""
    rng, costs = np.random.default_rng(0), []
    for place, candidate in enumerate(task.candidates):
        noise = rng.normal(size=(EXAMPLES, 4)) * NOISE[candidate.label]
        values = (task.data.targets[:, None] + noise).astype(np.float32)
        path = scripts.prepare.features_path(task, candidate)
        path.parent.mkdir(exist_ok=True)
        np.savez(path, features=values, cpu=np.array(12.0), seconds=np.array(12.0))
        size = 10 ** (place + 6)
        costs.append(Cost(candidate.label, macs=size, file_bytes=size, latency_p50_ms=1.0 + place))
    (task.folder / "costs.json").write_text(json.dumps([dataclasses.asdict(cost) for cost in costs]))
    for network in task.networks:
        folder = scripts.truth.whole_folder(task, network)
        with journal.opened(folder, scripts.truth.question(task, network.label), resume=True) as kept:
            for number in range(SPLITS):
                for run in scripts.truth.whole_runs(task, number, (0,)):
                    kept.put(scripts.train.key(*run), _result(task, network.label, number, run[1]))


def _result(task: Any, label: str, split: int, epochs: int) -> dict[str, Any]:
    part = task.split(split)
    right = "1" if label == "middle" else "10"
    ones = {name: (right * 99)[: len(getattr(part, name))] for name in ("validation", "test")}
    return {**ones, "validation_loss": 0.1, "seconds": 1.0, "cpu": float(epochs)}


def _case(scripts: SimpleNamespace, task: Any, budget: Budget, split: int = 0) -> Any:
    table = scripts.table.Table(task)
    return scripts.strategies.Case(table, split, budget, scripts.table.probes(task, split, "validation"))


def test_the_oracle_takes_what_validates_best_and_pays_for_everything(
    scripts: SimpleNamespace, task: Any
) -> None:
    case = _case(scripts, task, Budget())
    pick = scripts.strategies.oracle(case)
    assert (pick.label, pick.test) == ("middle", 1.0)
    runs = sum(setting.cpu for setting in case.settings)
    known = EXAMPLES * 0.8  # 12 s the pass of all examples, three networks
    assert pick.cpu == pytest.approx(3 * 12.0 * known / EXAMPLES + runs)
    assert len(case.settings) == 3 * 2 * 6


def test_what_is_over_the_budget_takes_no_part(scripts: SimpleNamespace, task: Any) -> None:
    case = _case(scripts, task, Budget(latency_ms=1.5))
    assert [candidate.label for candidate in case.fitting] == ["small"]
    assert scripts.strategies.oracle(case).label == "small"
    assert scripts.strategies.largest(_case(scripts, task, Budget()), tuned=False).label == "large"


def test_random_search_with_all_the_time_is_the_oracle(scripts: SimpleNamespace, task: Any) -> None:
    case = _case(scripts, task, Budget())
    first, last = scripts.strategies.random_search(case, [0.0, 1e9])
    assert last == scripts.strategies.oracle(case).test
    assert first < last


def test_halving_among_the_survivors_finds_what_probes_cannot_see(
    scripts: SimpleNamespace, task: Any
) -> None:
    case = _case(scripts, task, Budget())
    probed = scripts.strategies.ours(case)
    tuned = scripts.strategies.ours_tuned(case, margin=1.0, near_by=1.0, most=3)
    assert probed.label == "large"
    assert (tuned.label, tuned.test) == ("middle", 1.0)
    # AdamW's three rates of each at 1 epoch, a third of them at 3
    assert tuned.cpu == pytest.approx(scripts.strategies.ladder(case, 1.0).cpu + 9 * 1.0 + 3 * 3.0)
    assert scripts.strategies.ours_tuned(case, margin=1.0, near_by=1.0, most=1).label == "large"


def test_the_margin_is_what_keeps_the_winner(scripts: SimpleNamespace, task: Any) -> None:
    """The winner is behind by a wide and sure gap in each split: at margin 0 it is lost wherever that is so."""
    cases = [[_case(scripts, task, Budget(), split)] for split in range(SPLITS)]
    margin = scripts.margin.margin_of(cases)
    lows = []
    for (case,) in cases:
        leader = max(case.probes, key=lambda name: (case.probes[name].cheap.accuracy, name))
        lows.append(scripts.strategies.gap_low(case.probes, leader, "middle"))
    assert margin.kept == pytest.approx(max(0.0, max(lows)))
    for (case,) in cases:
        assert "middle" in scripts.strategies.ladder(case, margin.kept).probed


def test_who_is_far_behind_by_the_cheap_score_is_not_probed(scripts: SimpleNamespace, task: Any) -> None:
    case = _case(scripts, task, Budget())
    few, everyone = scripts.strategies.ladder(case, 0.0), scripts.strategies.ladder(case, 1.0)
    assert "large" in few.probed and "small" not in few.probed and set(few.evidence) == set(NOISE)
    assert everyone.probed == set(NOISE) and few.cpu < everyone.cpu


def test_regret_is_the_oracles_test_accuracy_less_ours(scripts: SimpleNamespace, task: Any) -> None:
    cases = [[_case(scripts, task, Budget(), split)] for split in range(SPLITS)]
    lines, spent = scripts.regret.lines(cases, tuned=True)
    by_name = {line.name: line for line in lines}
    want = [1.0 - scripts.strategies.ours(row[0]).test for row in cases]
    assert by_name["zoo select: probes and its rule"].regret[:, 0] == pytest.approx(want)
    assert "zoo select: and halving of 3 networks" in by_name
    assert by_name["random search, 100 % of the oracle's time"].regret == pytest.approx(0.0)
    assert (spent.full > spent.cpu).all(), "one seed of three is there"


def test_an_interval_of_splits_that_overlap_is_wider_than_one_of_independent_ones(
    scripts: SimpleNamespace, task: Any
) -> None:
    """Nadeau & Bengio: the variance is that of the mean times 1 + S x tested / rest."""
    mean, low, high = scripts.regret.interval(np.array([0.0, 0.1, 0.2]), task)
    error = 0.1 * (1 / 3 + 24 / 96) ** 0.5
    assert mean == pytest.approx(0.1)
    assert (high - low) / 2 == pytest.approx(4.302652729911275 * error)  # t, 2 degrees of freedom


def test_the_whole_report_of_a_small_table(scripts: SimpleNamespace, task: Any) -> None:
    text = scripts.regret.report(task)
    assert "Reduced" in text  # one seed of three
    assert "zoo select: probes and its rule" in text and "Kendall's tau" in text
    assert "winner lost" in text


def test_an_oracle_of_heads_alone_looks_at_no_whole_network(scripts: SimpleNamespace, task: Any) -> None:
    table = scripts.table.Table(task, only_heads=True)
    assert table.splits == [0, 1, 2] and table.seeds(0) == (0, 1, 2)  # whole networks have one seed
    case = scripts.strategies.Case(table, 0, Budget(), scripts.table.probes(task, 0, "validation"))
    assert {setting.arm.part for setting in case.settings} == {"head"}
    assert scripts.strategies.oracle(case).label == "large"
    assert "heads alone" in scripts.regret.report(task, only_heads=True, most=2)


def test_heads_are_not_trained_twice_and_half_a_line_is_no_run(scripts: SimpleNamespace, task: Any) -> None:
    folder = scripts.truth.heads_folder(task, task.candidates[0])
    path = folder / journal.FILE
    before = path.read_bytes()
    scripts.truth.heads(task, [SPLITS - 1], (0, 1, 2))
    assert path.read_bytes() == before
    count = len(scripts.truth.read(folder))
    assert count == SPLITS * 3 * 6
    path.write_bytes(before[:-20])
    assert len(scripts.truth.read(folder)) == count - 1
    scripts.truth.heads(task, [SPLITS - 1], (0, 1, 2))  # the run that was cut short is trained again
    assert len(scripts.truth.read(folder)) == count
