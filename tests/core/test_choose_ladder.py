"""Who leaves at the probe, how many labels would tell two apart, and the rule among very many."""

from __future__ import annotations

import numpy as np
import pytest

from zoo.cards import Cost
from zoo.choose.evidence import Evidence, paired_interval
from zoo.choose.ladder import cheap_scores, climb
from zoo.choose.logme import logme
from zoo.choose.need import labels_for, labels_for_means
from zoo.choose.objectives import LogLoss, MeanCost
from zoo.choose.ridge import ridge_evidence
from zoo.choose.rule import _cheapest_first, _latency, _noise, judge
from zoo.choose.spectrum import decompose
from zoo.data import folds
from zoo.probability import softmax

Array = np.ndarray


def correlated(accuracies: dict[str, float], n: int, seed: int = 0) -> dict[str, Evidence]:
    """Candidates that err on much the same examples, each right on the share of them that it is given."""
    rng = np.random.default_rng(seed)
    common = rng.random(n)
    found = {}
    for name, accuracy in accuracies.items():
        hard = np.where(rng.random(n) < 0.8, common, rng.random(n))
        found[name] = Evidence(hard <= np.quantile(hard, accuracy))
    return found


def costs(**latencies: float) -> dict[str, Cost]:
    return {name: Cost(name, latency_p50_ms=ms, file_bytes=10) for name, ms in latencies.items()}


# --- the ladder
def test_who_is_surely_worse_by_more_than_the_margin_leaves() -> None:
    found = correlated({"best": 0.9, "near": 0.88, "far": 0.8, "unsure": 0.845}, 500)
    result = climb(found, margin=0.03)
    for name in ("near", "far", "unsure"):
        low, _ = paired_interval(found["best"].correct, found[name].correct)
        assert (name in result.leave) == (low > 0.03), name
    assert result.leader == "best"
    assert result.stay == ("best", "near", "unsure")
    assert result.leave["far"].startswith("10.0 points below best (95 % interval")
    assert "by the probe: more than the 3.0 points that fine-tuning may make up" in result.leave["far"]
    assert not climb(found, margin=0.2).leave


def test_few_examples_make_nobody_leave() -> None:
    assert not climb(correlated({"a": 0.9, "b": 0.8}, 40), margin=0.03).leave


def test_logme_orders_equals_and_nothing_else() -> None:
    same = correlated({"a": 0.8}, 100)["a"]
    found = {"a": same, "b": same, "c": same, "best": correlated({"best": 0.9}, 100)["best"]}
    assert climb(found, margin=0.2, tie_break={"a": -0.7, "b": -0.5, "best": -9.0}).stay == (
        "best",
        "b",
        "a",
        "c",
    )
    assert climb(found, margin=0.2).stay == ("best", "a", "b", "c")


def test_other_objectives_have_their_own_leader() -> None:
    rng = np.random.default_rng(0)
    targets = rng.integers(0, 2, 400)
    logits = 2 * np.eye(2)[targets] + rng.normal(size=(400, 2))
    calm, sure = softmax(logits), softmax(20 * logits)
    better = Evidence.of(sure, targets)
    better.correct[np.flatnonzero(~better.correct)[0]] = True
    found = {"calm": Evidence.of(calm, targets), "sure": better}
    assert climb(found).leader == "sure"
    result = climb(found, margin=0.02, objective=LogLoss(), targets=targets)
    assert result.leader == "calm"
    assert result.leave["sure"].startswith("log loss")
    assert "above that of calm" in result.leave["sure"]


@pytest.mark.parametrize("folded", [True, False])
def test_both_cheap_scores_from_one_decomposition(folded: bool) -> None:
    rng = np.random.default_rng(0)
    targets = rng.permutation(np.arange(60) % 2)
    features = rng.normal(size=(60, 8)) + targets[:, None]
    splits = folds(targets, 4, seed=0) if folded else [(np.arange(40), np.arange(40, 60))]
    found = cheap_scores(features, targets, splits, np.arange(60) // 2)
    alone = ridge_evidence(features, targets, splits, np.arange(60) // 2)
    np.testing.assert_array_equal(found.evidence.probabilities, alone.probabilities)
    fitted = np.arange(60 if folded else 40)
    assert found.logme == logme(decompose(features[fitted]), targets[fitted])
    assert len(found.evidence.correct) == (60 if folded else 20)


# --- the rule with other objectives
def test_the_rule_takes_an_objective() -> None:
    """Equal accuracy; one candidate's errors are the dear ones."""
    targets = np.repeat([0, 1], 200)
    cheap, dear = targets.copy(), targets.copy()
    cheap[:20], dear[-20:] = 1, 0  # answers 1 for 0; answers 0 for 1
    found = {
        name: Evidence.of(np.eye(2)[answers], targets) for name, answers in (("cheap", cheap), ("dear", dear))
    }
    price = MeanCost(np.array([[0.0, 1.0], [10.0, 0.0]]))
    assert judge(found, costs(cheap=2, dear=1), tolerance=0.01).order == ("dear", "cheap")
    verdict = judge(found, costs(cheap=2, dear=1), tolerance=0.01, objective=price, targets=targets)
    assert verdict.order == ("cheap", "dear")
    assert verdict.reasons["dear"].startswith("mean cost 0.45 above that of cheap (95 % interval")
    wide = judge(found, costs(cheap=2, dear=1), tolerance=0.05, objective=price, targets=targets)
    assert wide.tied == {"cheap"}  # 0.45 is within 0.05 of 10, and yet the interval excludes 0


# --- too little data
def test_labels_against_published_and_simulated() -> None:
    """powerandsamplesize.com's example of Connor's formula: p10 0.05, p01 0.45, 23 pairs."""
    assert labels_for(0.5, 0.4) == 23
    rng = np.random.default_rng(0)
    discordance, difference = 0.1, 0.03
    n = labels_for(discordance, difference)
    cells = [(discordance + difference) / 2, (discordance - difference) / 2, 1 - discordance]
    b, c, _ = rng.multinomial(n, cells, size=4000).T
    power = float(((b - c) ** 2 > 1.96**2 * (b + c)).mean())
    assert power == pytest.approx(0.8, abs=0.025)
    assert labels_for(0.001, 0.01) == labels_for(0.01, 0.01)


def test_labels_for_means_by_simulation() -> None:
    rng = np.random.default_rng(0)
    n = labels_for_means(1.5, 0.2)
    means = 0.2 + 1.5 * rng.normal(size=(4000, n)).mean(axis=1)
    assert float((means > 1.96 * 1.5 / n**0.5).mean()) == pytest.approx(0.8, abs=0.025)


def test_a_tie_for_want_of_data_says_how_many_labels() -> None:
    found = correlated({"a": 0.851, "b": 0.85}, 200)
    verdict = judge(found, costs(a=9, b=1), tolerance=0.01)
    assert verdict.order == ("b", "a")
    assert verdict.need is not None
    low, high = paired_interval(found["a"].correct, found["b"].correct)
    said = verdict.need.sentence()
    assert said.startswith("Too little data to tell b from a, which may be anything from ")
    assert f"{-100 * low:.1f} points worse to {100 * high:.1f} points better" in said
    assert "a difference of 1.0 points would show on about" in said
    share = (int((found["a"].correct != found["b"].correct).sum()) + 1) / 202
    assert verdict.need.labels == labels_for(share, 0.01) > 1000
    assert verdict.need.examples == 200


def test_a_twin_does_not_hide_the_rival_that_is_uncertain() -> None:
    found = correlated({"a": 0.85, "c": 0.85}, 200)
    found["b"] = found["a"]
    verdict = judge(found, costs(a=1, b=2, c=3), tolerance=0.01)
    assert verdict.tied == {"a", "b", "c"}
    assert verdict.need is not None
    assert (verdict.need.pick, verdict.need.rival) == ("a", "c")


def test_enough_data_says_nothing() -> None:
    """Ten thousand examples, nested errors: the gap of 0.3 points is known to a tenth of a point."""
    correct = np.arange(10_000) < 9000
    other = np.arange(10_000) < 9000
    other[0], correct[9500] = False, False
    found = {"a": Evidence(correct), "b": Evidence(other)}
    verdict = judge(found, costs(a=9, b=1), tolerance=0.01)
    assert verdict.tied == {"a", "b"}
    assert verdict.need is None


def test_the_clearly_better_one_needs_nothing() -> None:
    assert judge(correlated({"a": 0.9, "b": 0.7}, 500), costs(a=9, b=1), tolerance=0.01).need is None


def test_a_cheaper_one_that_was_not_shown_to_be_worse_is_a_rival() -> None:
    found = correlated({"a": 0.9, "b": 0.85}, 60)
    verdict = judge(found, costs(a=9, b=1), tolerance=0.01)
    assert verdict.tied == {"a"}
    assert verdict.need is not None
    assert (verdict.need.pick, verdict.need.rival) == ("a", "b")
    assert verdict.need.difference == pytest.approx(0.05)
    assert judge(found, costs(a=1, b=9), tolerance=0.01).need is None


def test_twins_with_no_tolerance_are_never_told_apart() -> None:
    same = correlated({"a": 0.8}, 100)["a"]
    assert judge({"a": same, "b": same}, costs(a=2, b=1), tolerance=0.0).need is None


# --- very many candidates
def slowly(names: list[str], table: dict[str, Cost]) -> list[str]:
    """The rule's words, one after the other: quadratic."""
    left, order = set(names), []
    while left:
        fastest = min(left, key=lambda name: (_latency(table[name]), name))
        limit = _latency(table[fastest]) * (1 + _noise(table[fastest]))
        equal = [name for name in left if _latency(table[name]) <= limit]
        order.append(min(equal, key=lambda name: (table[name].file_bytes or 0, name)))
        left.remove(order[-1])
    return order


@pytest.mark.parametrize("seed", range(5))
def test_the_order_by_cost_is_that_of_the_rules_words(seed: int) -> None:
    """Latencies that chain, intervals of unequal width, equal sizes, one without a latency."""
    rng = np.random.default_rng(seed)
    table = {}
    for number in range(120):
        middle = float(rng.uniform(1, 3))
        width = float(rng.choice([0.0, 0.02, 0.3]) * middle)
        name = f"m{number}"
        table[name] = Cost(
            name, latency_p50_ms=None if number == 60 else middle, latency_p50_low_ms=middle - width,
            latency_p50_high_ms=middle + width, file_bytes=int(rng.integers(1, 20)),
        )  # fmt: skip
    assert _cheapest_first(list(table), table) == slowly(list(table), table)
