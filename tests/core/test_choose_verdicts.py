"""What `zoo tune` and `zoo curve` conclude, from cases whose truth is known: promotions, intervals, words, fits."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import nnls
from scipy.stats import norm
from scipy.stats import t as student

from zoo.choose.arms import Arm, make_arms, trained_blocks
from zoo.choose.curving import analyse
from zoo.choose.distance import Distance
from zoo.choose.finals import choose_finalists, pick, verdicts
from zoo.choose.halving import Rung, Score, promote, rungs
from zoo.choose.labels import make_sizes
from zoo.choose.paired import Gap, Verdict, compare, kind_of, paired_gap
from zoo.choose.power_law import EXPONENTS, fit
from zoo.choose.subsets import limited, nested_order
from zoo.choose.tuning import ArmRow, predicted
from zoo.engine import Array
from zoo.errors import DataError, InputError


# --- halving
def test_rungs_keep_a_third_and_give_it_three_times_the_epochs() -> None:
    assert rungs(27, 9, 9) == [Rung(3, 9), Rung(9, 9)]
    assert [rung.epochs for rung in rungs(81, 1, 27)] == [1, 3, 9, 27]
    assert [rung.keep for rung in rungs(81, 1, 27)] == [27, 9, 3, 1]


def test_no_rung_that_would_send_nobody_home() -> None:
    assert rungs(3, 3, 100) == [Rung(100, 3)]
    assert rungs(27, 9, 1) == [Rung(1, 9)]


def test_each_stratum_keeps_its_best_and_the_rest_go_by_score() -> None:
    scores = {"a1": (0.9, 0), "a2": (0.8, 0), "a3": (0.7, 0), "b1": (0.1, -2), "b2": (0.1, -1)}
    kept = promote({k: Score(*v) for k, v in scores.items()}, {k: k[0] for k in scores}, 3)
    assert kept == ["a1", "a2", "b2"]


def test_the_more_accurate_goes_on_and_of_equals_the_lower_loss() -> None:
    """A network that learnt nothing has a lower loss than an accurate one that is too sure of itself."""
    scores = {"sure": Score(accuracy=0.8, minus_loss=-0.9), "nothing": Score(accuracy=0.5, minus_loss=-0.69)}
    assert promote(scores, dict.fromkeys(scores, "x"), 1) == ["sure"]
    scores |= {"calm": Score(accuracy=0.8, minus_loss=-0.5)}
    assert promote(scores, dict.fromkeys(scores, "x"), 1) == ["calm"]


def test_a_failed_setting_never_goes_on() -> None:
    scores = {"a": None, "b": Score(0.1, -3.0), "c": None}
    assert promote(scores, {"a": "x", "b": "y", "c": "z"}, 3) == ["b"]


# --- arms
def test_arms_are_every_combination_and_rates_are_checked() -> None:
    arms = make_arms(("head", "all"), ("sgd", "adamw"), (0.1, 0.01, 0.1))
    assert [arm.key for arm in arms][:3] == ["head/sgd/0.01", "head/sgd/0.1", "head/adamw/0.01"]
    assert len(arms) == 8
    recipe = arms[-1].recipe(epochs=10, batch_size=8, seed=3)
    assert (recipe.optimizer, recipe.weight_decay, recipe.schedule, recipe.seed) == (
        "adamw",
        0.01,
        "cosine",
        3,
    )
    with pytest.raises(InputError, match="learning rate -1: must be above 0"):
        make_arms(("head",), ("sgd",), (0.1, -1.0))
    with pytest.raises(InputError, match="part 'tail': head, last or all"):
        make_arms(("tail",), ("sgd",), None)


def test_the_last_blocks_are_about_a_third() -> None:
    assert [trained_blocks("last", n) for n in (1, 2, 3, 5, 9, 14)] == [1, 1, 1, 2, 3, 5]
    assert (trained_blocks("head", 9), trained_blocks("all", 9)) == (0, 9)


# --- finalists
def scored(values: dict[str, float]) -> tuple[list[Arm], dict[str, Score | None]]:
    arms = make_arms(("head", "last", "all"), ("sgd", "adam"), (0.1,))
    return arms, {arm.key: Score(values[arm.stratum], 0.0) for arm in arms if arm.stratum in values}


def test_finalists_are_the_best_of_each_part_and_of_each_optimizer_in_the_leading_one() -> None:
    arms, scores = scored(
        {"head/sgd": 0.7, "head/adam": 0.8, "last/sgd": 0.6, "all/sgd": 0.9, "all/adam": 0.5}
    )
    found = choose_finalists(arms, scores)
    assert [arm.stratum for arm in found.arms] == ["head/adam", "last/sgd", "all/sgd", "all/adam"]
    asked = [(a.stratum, b.stratum) for a, b in found.questions()]
    assert asked == [
        ("last/sgd", "head/adam"), ("all/sgd", "head/adam"), ("all/sgd", "last/sgd"), ("all/adam", "all/sgd"),
    ]  # fmt: skip


def judged(rng: np.random.Generator, share: float, seeds: int = 5, examples: int = 400) -> Array:
    return rng.random((seeds, examples)) < share


def test_among_those_that_tie_with_the_best_the_one_that_trains_least_is_picked() -> None:
    arms, scores = scored({"head/sgd": 0.9, "last/sgd": 0.8, "all/sgd": 0.7})
    finalists = choose_finalists(arms, scores)
    good = judged(np.random.default_rng(0), 0.9)
    bad = judged(np.random.default_rng(1), 0.5)
    nearly = good.copy()
    nearly[:, 0] = ~nearly[:, 0]
    head, last, every = finalists.arms
    rows = [ArmRow(arm, blocks, (float(c.mean()),), s) for arm, blocks, c, s in
            ((head, 0, bad, 1.0), (last, 3, nearly, 5.0), (every, 9, good, 9.0))]  # fmt: skip
    correct = {head: bad, last: nearly, every: good}
    assert pick(rows, correct, 0.01) == last
    assert pick(rows, {every: good, head: bad}, 0.01) == every
    other = Arm("all", "adam", 1e-3)
    rows.append(ArmRow(other, 9, (float(nearly.mean()),), 2.0))
    assert pick(rows, {every: good, other: nearly}, 0.01) == every, "seconds within a part are noise"
    said = [v.sentence() for v in verdicts(finalists, rows, correct, 0.01)]
    assert said[1].startswith("All layers beats the head alone by ")
    assert said[1].endswith("for 9 times the time.")
    assert said[2].startswith("A tie: all layers against the last third of the blocks")


# --- intervals and words
def simulated(rng: np.random.Generator, seeds: int, examples: int, noise: float) -> tuple[Array, Array]:
    """Two arms whose true gap is 0: difficulty by example and luck by seed, both shared by none."""
    difficulty = rng.normal(0.8, 1.2, (2, 1, examples))
    luck = rng.normal(0, noise, (2, seeds, 1))
    chance = 1 / (1 + np.exp(-(difficulty + luck)))
    found = rng.random((2, seeds, examples)) < chance
    return found[0], found[1]


@pytest.mark.parametrize(("seeds", "noise"), [(3, 0.0), (5, 0.3), (5, 1.0)])
def test_the_interval_covers_the_truth_about_95_times_in_100(seeds: int, noise: float) -> None:
    rng = np.random.default_rng(7)
    held = [paired_gap(*simulated(rng, seeds, 100, noise)) for _ in range(400)]
    assert 0.93 <= np.mean([gap.low <= 0 <= gap.high for gap in held]) <= 0.995


def test_examples_alone_would_be_too_narrow_an_interval() -> None:
    """The reason for the formula: with luck by seed in play, a bootstrap over examples covers far less."""
    rng = np.random.default_rng(7)
    covered = 0
    for _ in range(200):
        a, b = simulated(rng, 5, 100, 1.0)
        columns = (a.astype(float) - b).mean(axis=0)
        error = columns.std(ddof=1) / np.sqrt(len(columns))
        covered += abs(columns.mean()) <= 1.96 * error
    assert covered / 200 < 0.85


def test_luck_by_seed_and_by_example_each_alone_give_students_interval() -> None:
    """The formula's two ends, where the textbook's is known: t on S - 1, and on M - 1, degrees of freedom."""
    won = np.array([9, 6, 7, 4])[:, None] > np.arange(10)[None, :]  # shares of .9, .6, .7, .4 a seed
    rows = np.repeat(won, 4000, axis=1)[:, np.random.default_rng(0).permutation(40000)]
    found = paired_gap(rows, np.zeros_like(rows))
    shares = won.mean(axis=1)
    half = student.ppf(0.975, 3) * shares.std(ddof=1) / 2
    assert found.high - found.value == pytest.approx(half, rel=0.02)
    columns = np.tile(np.random.default_rng(1).random(200) < 0.3, (4, 1))
    found = paired_gap(columns, np.zeros_like(columns))
    half = student.ppf(0.975, 199) * columns[0].std(ddof=1) / np.sqrt(200)
    assert found.high - found.value == pytest.approx(half, rel=1e-6)


def test_runs_that_agree_on_everything_leave_room_for_doubt() -> None:
    same = np.ones((3, 20), bool)
    gap = paired_gap(same, same)
    assert gap.value == 0
    assert gap.low < -0.04 and gap.high > 0.04


@pytest.mark.parametrize(
    ("gap", "kind"),
    [
        (Gap(0.021, 0.008, 0.033), "better"),
        (Gap(-0.021, -0.033, -0.008), "worse"),
        (Gap(0.004, -0.01, 0.018), "tie"),
        (Gap(0.015, -0.002, 0.029), "undecided"),  # holds 0, but the gap is above the tolerance
        (Gap(0.004, -0.05, 0.058), "undecided"),  # a small gap, but the interval is wide
    ],
)
def test_a_tie_needs_a_small_gap_an_interval_with_0_and_no_great_width(gap: Gap, kind: str) -> None:
    assert kind_of(gap, 0.01) == kind


def test_the_verdict_in_words() -> None:
    won = Verdict("?", "all layers", "the head", Gap(0.021, 0.008, 0.033), "better", 9.0)
    assert won.sentence() == (
        "All layers beats the head by 2.1 points, 95 % interval 0.8 to 3.3, for 9 times the time."
    )
    lost = Verdict("?", "all layers", "the head", Gap(-0.021, -0.033, -0.008), "worse", 4.0)
    assert lost.sentence() == (
        "The head beats all layers by 2.1 points, 95 % interval 0.8 to 3.3, for 0.25 times the time."
    )
    tie = Verdict("?", "Adam", "SGD", Gap(0.003, -0.006, 0.012), "tie")
    assert tie.sentence() == "A tie: Adam against SGD, 0.3 points, 95 % interval -0.6 to 1.2."
    unclear = Verdict("?", "all layers", "the head", Gap(0.02, -0.01, 0.05), "undecided", 12.0)
    assert unclear.sentence() == (
        "Undecided: all layers against the head, 2.0 points, 95 % interval -1.0 to 5.0: more seeds or more examples "
        "to judge on would narrow it; all layers: 12 times the time of the head."
    )


@pytest.mark.parametrize(
    ("value", "kind", "held"),
    [(0.1, "tie", True), (0.1, "worse", True), (0.1, "better", False), (0.9, "better", True), (0.9, "tie", False),
     (0.1, "undecided", None)],
)  # fmt: skip
def test_whether_the_rule_of_thumb_held(value: float, kind: str, held: bool | None) -> None:
    verdict = Verdict("?", "all layers", "the head alone", Gap(0, 0, 0), kind)  # type: ignore[arg-type]
    assert predicted(Distance(value, "word pieces", value, 1.0, 10), [verdict]) is held


def test_no_verdict_on_what_was_not_compared() -> None:
    assert predicted(Distance(0.1, "probe", 0.1, 1.0, 10), []) is None
    rng = np.random.default_rng(0)
    found = compare("?", ("Adam", "SGD"), (judged(rng, 0.9), judged(rng, 0.5)), tolerance=0.01)
    assert (found.kind, predicted(Distance(0.1, "probe", 0.1, 1.0, 10), [found])) == ("better", None)


# --- subsets
def test_subsets_are_nested_and_stratified() -> None:
    targets = np.repeat([0, 1, 2], [300, 90, 10])
    order = nested_order(targets, seed=3)
    assert sorted(order) == list(range(400))
    assert np.bincount(targets[order[:6]]).tolist() == [2, 2, 2]
    for size in (40, 100, 200):
        assert (
            np.abs(
                np.bincount(targets[order[:size]], minlength=3) - size * np.array([0.75, 0.225, 0.025])
            ).max()
            <= 3
        )
    assert not np.array_equal(order, nested_order(targets, seed=4))
    assert np.array_equal(order, nested_order(targets, seed=3))


def test_a_limit_keeps_the_proportions_and_has_a_least() -> None:
    targets = np.repeat([0, 1], [80, 20])
    assert np.bincount(targets[limited(targets, 50, seed=0)]).tolist() in ([40, 10], [39, 11], [41, 9])
    assert len(limited(targets, None, seed=0)) == 100
    with pytest.raises(InputError, match="limit 7: 2 classes need 8"):
        limited(targets, 7, seed=0)


def test_sizes_double_and_too_few_examples_are_refused() -> None:
    assert make_sizes(6920, 2) == [216, 432, 865, 1730, 3460, 6920]
    with pytest.raises(
        DataError, match=r"30 training examples of 2 classes make 2 of the three sizes .* 32 are"
    ):
        make_sizes(30, 2)


# --- the curve
def test_a_fit_recovers_what_made_the_errors() -> None:
    sizes = [100, 200, 400, 800, 1600, 3200]
    errors = 0.05 + 0.8 * np.array(sizes, float) ** -0.5
    found = fit(sizes, errors[None], np.ones(6)).one(0)
    assert (found.a, found.c) == (pytest.approx(0.05, abs=1e-6), 0.5)
    assert found.error(6400) == pytest.approx(0.05 + 0.8 * 6400**-0.5)


def test_no_curve_of_the_family_fits_better() -> None:
    """Against a solver of non-negative least squares, at every exponent."""
    rng = np.random.default_rng(0)
    sizes, weights = [10, 20, 40, 80, 160], np.array([1.0, 2, 3, 4, 5])
    errors = rng.uniform(0, 0.5, (20, 5)) * np.array([2, 1.5, 1, 0.5, 0.2])
    found, root = fit(sizes, errors, weights), np.sqrt(weights)
    for row in range(20):
        curve = found.one(row)
        loss = (weights * (errors[row] - [curve.error(n) for n in sizes]) ** 2).sum()
        bases = [
            np.stack([np.ones(5), (np.array(sizes) / 160) ** -c], axis=1) * root[:, None] for c in EXPONENTS
        ]
        assert loss == pytest.approx(
            min(nnls(basis, root * errors[row])[1] ** 2 for basis in bases), rel=1e-6
        )


def test_a_flat_curve_is_flat_and_nothing_goes_below_0() -> None:
    rising = np.array([[0.1, 0.12, 0.15, 0.2]])
    found = fit([10, 20, 40, 80], rising, np.ones(4)).one(0)
    assert found.b == 0
    assert found.error(1e6) == pytest.approx(rising.mean())
    steep = fit([10, 20, 40, 80], np.array([[0.8, 0.4, 0.1, 0.001]]), np.ones(4)).one(0)
    assert steep.a == 0 and steep.error(1e9) >= 0


def correctness(rng: np.random.Generator, errors: Array, seeds: int = 5, examples: int = 2000) -> Array:
    """bool [S, K, M] with these chances of an error; an example is hard or easy at every size."""
    shared, own = rng.normal(size=(1, 1, examples)), rng.normal(size=(seeds, len(errors), examples))
    found: Array = 0.9**0.5 * shared + 0.1**0.5 * own >= norm.ppf(errors)[None, :, None]
    return found


def test_a_bigger_model_that_pays_more_than_labels() -> None:
    sizes = [100, 200, 400, 800, 1600]
    rng = np.random.default_rng(0)
    small = correctness(rng, 0.2 + 1.0 * np.array(sizes, float) ** -0.5)
    big = correctness(rng, 0.1 + 1.0 * np.array(sizes, float) ** -0.5)
    lines, levers = analyse(
        [("small", 10), ("big", 20)], sizes, np.stack([small, big]), tolerance=0.01, seed=0
    )
    truth = 1600**-0.5 - 3200**-0.5
    assert lines[0].doubling.low <= truth <= lines[0].doubling.high
    assert levers[0].replacing.value == pytest.approx(0.1, abs=0.02)
    assert levers[0].kind == "worse"
    assert levers[0].sentence().endswith("the bigger model pays more.")
    assert lines[0].foretold is not None
    assert lines[0].foretold.value == pytest.approx(0.225, abs=0.02)


def test_labels_that_pay_more_than_a_bigger_model() -> None:
    sizes = [50, 100, 200, 400]
    rng = np.random.default_rng(1)
    falling = correctness(rng, 4.0 * np.array(sizes, float) ** -0.6)
    _, levers = analyse(
        [("small", 10), ("big", 20)], sizes, np.stack([falling, falling]), tolerance=0.01, seed=0
    )
    assert levers[0].sentence().endswith("more labels pay more.")


def test_a_curve_whose_end_the_sizes_do_not_tell_says_so() -> None:
    sizes = [20, 40, 80]
    few = correctness(np.random.default_rng(2), np.array([0.3, 0.27, 0.25]), seeds=2, examples=60)
    lines, levers = analyse([("small", 10)], sizes, few[None], tolerance=0.01, seed=0)
    assert not lines[0].identified and not levers
    assert "these sizes do not tell where the curve ends" in lines[0].sentence()


def test_the_head_alone_has_ten_times_the_epochs() -> None:
    """On cached features; its warm-up is a tenth of them, as everybody's."""
    head, deep = (Arm(part, "sgd", 0.1).recipe(epochs=3, batch_size=8, seed=0) for part in ("head", "all"))
    assert (head.epochs, deep.epochs) == (30, 3) and head.warmup_epochs == pytest.approx(3)
