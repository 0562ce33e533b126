"""Each objective against its definition, its interval against a bootstrap, and the table of error costs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, f1_score, log_loss

from zoo.choose.error_costs import asked_objective, read_costs
from zoo.choose.evidence import Evidence
from zoo.choose.objectives import (
    ACCURACY,
    NAMED,
    Brier,
    LogLoss,
    MacroF1,
    MeanCost,
    Objective,
    scores,
)
from zoo.errors import InputError
from zoo.probability import paired_interval, softmax, wilson_interval

Array = np.ndarray
COSTS = np.array([[0.0, 1.0, 4.0], [2.0, -1.0, 1.0], [9.0, 3.0, 0.0]])
ALL = [*NAMED.values(), MeanCost(COSTS)]


def pair(n: int = 300, seed: int = 0) -> tuple[Array, Evidence, Evidence]:
    """Targets, a good candidate and a worse one that errs on much the same examples; unequal classes."""
    rng = np.random.default_rng(seed)
    targets = rng.choice(3, size=n, p=[0.6, 0.3, 0.1])
    hard = rng.normal(size=(n, 3))
    logits = 2.5 * np.eye(3)[targets] + hard
    other = 1.5 * np.eye(3)[targets] + hard + 0.5 * rng.normal(size=(n, 3))
    return targets, Evidence.of(softmax(logits), targets), Evidence.of(softmax(other), targets)


def drawn(found: Evidence, places: Array) -> Evidence:
    return Evidence(found.correct[places], found.probabilities[places])


def test_values_are_those_of_scikit_learn() -> None:
    targets, good, _ = pair()
    answers = good.probabilities.argmax(axis=1)
    assert ACCURACY.value(good) == (answers == targets).mean()
    assert MacroF1().value(good, targets) == pytest.approx(f1_score(targets, answers, average="macro"))
    assert LogLoss().value(good, targets) == pytest.approx(log_loss(targets, good.probabilities), rel=1e-5)
    brier = brier_score_loss(targets, good.probabilities, scale_by_half=False)
    assert Brier().value(good, targets) == pytest.approx(brier, rel=1e-5)
    cost = sum(COSTS[t, a] for t, a in zip(targets, answers, strict=True)) / len(targets)
    assert MeanCost(COSTS).value(good, targets) == pytest.approx(cost)
    assert MeanCost(COSTS).unit == 9


@pytest.mark.parametrize("objective", ALL, ids=lambda o: o.name)
def test_intervals_agree_with_the_bootstrap(objective: Objective) -> None:
    """Resampled 1,000 times, the values spread as the interval says; the difference of the pair likewise."""
    targets, good, bad = pair()
    rng = np.random.default_rng(1)
    values, gaps = [], []
    for _ in range(1000):
        places = rng.integers(0, len(targets), len(targets))
        first, second = drawn(good, places), drawn(bad, places)
        values.append(objective.value(first, targets[places]))
        gaps.append(values[-1] - objective.value(second, targets[places]))
    low, high = objective.interval(good, targets)
    assert low < objective.value(good, targets) < high
    assert (high - low) / 3.92 == pytest.approx(np.std(values), rel=0.12)
    gap = objective.gap(good, bad, targets)
    assert (gap.high - gap.low) / 3.92 == pytest.approx(np.std(gaps), rel=0.12)


@pytest.mark.parametrize("objective", ALL, ids=lambda o: o.name)
def test_the_better_one_has_the_gap_above_0(objective: Objective) -> None:
    targets, good, bad = pair()
    gap, back = objective.gap(good, bad, targets), objective.gap(bad, good, targets)
    assert 0 < gap.low < gap.value < gap.high
    assert (back.value, back.low, back.high) == pytest.approx((-gap.value, -gap.high, -gap.low))
    gains = objective.gains([good, bad], targets)
    assert gains[0] - gains[1] == pytest.approx(gap.value)
    assert objective.larger_is_better == (objective.value(good, targets) > objective.value(bad, targets))


@pytest.mark.parametrize("objective", ALL, ids=lambda o: o.name)
def test_many_at_once_are_each_by_itself(objective: Objective, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zoo.choose.objectives.CHUNK", 2)
    targets, good, bad = pair()
    others = [bad, good, pair(seed=1)[1], bad, good]
    found = objective.gaps(good, others, targets)
    for index, other in enumerate(others):
        assert found.at(index) == objective.gap(good, other, targets)
    assert found.at(1).value == 0


def test_accuracy_has_the_intervals_of_counts() -> None:
    targets, good, bad = pair()
    gap = ACCURACY.gap(good, bad)
    assert (gap.low, gap.high) == pytest.approx(paired_interval(good.correct, bad.correct))
    assert ACCURACY.interval(good) == wilson_interval(int(good.correct.sum()), len(targets))


def test_answers_alike_are_not_known_to_cost_alike() -> None:
    targets, good, _ = pair()
    gap = MeanCost(COSTS).gap(good, good, targets)
    assert gap.low < 0 < gap.high
    assert gap.value == 0


def test_a_probability_of_0_is_a_large_loss_not_an_infinite_one() -> None:
    found = Evidence.of(np.array([[1.0, 0.0], [1.0, 0.0]]), np.array([1, 0]))
    assert 40 < LogLoss().value(found, np.array([1, 0])) < 50


def test_macro_f1_leaves_out_a_class_that_does_not_occur() -> None:
    targets = np.array([0, 0, 1, 1])
    found = Evidence.of(np.eye(3)[[0, 1, 1, 1]], targets)
    assert MacroF1().value(found, targets) == pytest.approx((2 / 3 + 4 / 5) / 2)


def test_scores_of_all_objectives() -> None:
    targets, good, _ = pair()
    found = scores(good, targets, MeanCost(COSTS))
    assert list(found) == ["accuracy", "macro-f1", "log-loss", "calibration", "cost"]
    assert all(each["low"] < each["value"] < each["high"] for each in found.values())
    assert "cost" not in scores(good, targets)


# --- the file of error costs
def written(folder: Path, text: str, name: str = "costs.csv") -> Path:
    path = folder / name
    path.write_bytes(text.encode("utf-8"))
    return path


def test_costs_come_in_the_order_of_the_classes(tmp_path: Path) -> None:
    """As a spreadsheet writes it: a byte order mark, CRLF, a blank line, classes in another order."""
    text = "\ufefftrue,spam,ham\r\nham,5,0\r\nspam, -1 ,1.5\r\n\r\n"
    np.testing.assert_array_equal(read_costs(written(tmp_path, text), ("ham", "spam")), [[0, 5], [1.5, -1]])
    tabs = written(tmp_path, "\tham\tspam\nham\t0\t5\nspam\t1\t0\n", "costs.tsv")
    np.testing.assert_array_equal(read_costs(tabs, ("ham", "spam")), [[0, 5], [1, 0]])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is empty"),
        ("true,ham\nham,0\n", "columns lack spam"),
        ("true,ham,spam\nham,0,1\n", "rows lack spam"),
        ("true,ham,spam\nham,0,1\nspan,1,0\n", "rows name 'span', which is no class of the data: did you mean 'spam'?"),
        ("true,ham,spam,eggs\nham,0,1,1\nspam,1,0,1\n", "columns name 'eggs', which is no class of the data; its"),
        ("true,ham,spam,ham\nham,0,1,1\nspam,1,0,1\n", "columns name 'ham' twice"),
        ("true,ham,spam\nham,0,1\nspam,1\n", "the row 'spam' has 1 costs for 2 classes"),
        ("true,ham,spam\nham,0,much\nspam,1,0\n", "the cost of answering 'spam' for 'ham' is 'much', not a number"),
        ("true,ham,spam\nham,0,nan\nspam,1,0\n", "is 'nan', not a number"),
        ("true,ham,spam\nham,3,1\nspam,1,0\n", "answering 'spam' for 'ham' costs 1, less than the right answer, 3"),
        ("true,ham,spam\nham,0,0\nspam,0,0\n", "no error costs more than the right answer"),
    ],
)  # fmt: skip
def test_costs_that_cannot_be(tmp_path: Path, text: str, says: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(InputError, match=r"costs\.csv") as caught:
        read_costs(path, ("ham", "spam"))
    assert says in str(caught.value)


def test_costs_that_are_not_there(tmp_path: Path) -> None:
    for path in (tmp_path / "costs.csv", tmp_path):
        with pytest.raises(InputError, match="cannot be read as a table of error costs"):
            read_costs(path, ("ham", "spam"))


def test_objectives_as_asked_for(tmp_path: Path) -> None:
    for objective in NAMED.values():
        assert asked_objective(objective.name, None, ("ham", "spam")) is objective
    path = written(tmp_path, "true,ham,spam\nham,0,5\nspam,1,0\n")
    assert asked_objective("cost", path, ("ham", "spam")).unit == 5
