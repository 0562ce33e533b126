"""The rule that picks: a tie needs both the interval and the gap; then cost, then size, then id."""

from __future__ import annotations

import numpy as np
import pytest

from zoo.cards import Cost
from zoo.choose.evidence import Evidence, paired_interval
from zoo.choose.rule import judge


def evidence(right: int, n: int, seed: int | None = None) -> Evidence:
    correct = np.zeros(n, dtype=bool)
    correct[:right] = True
    if seed is not None:
        np.random.default_rng(seed).shuffle(correct)
    return Evidence(correct)


def cost(name: str, ms: float, size: int = 10, spread: float = 0.0) -> Cost:
    return Cost(name, latency_p50_ms=ms, file_bytes=size, spread=spread)


def costs(**latencies: float) -> dict[str, Cost]:
    return {name: cost(name, ms) for name, ms in latencies.items()}


def test_the_clearly_better_wins_although_it_costs_more() -> None:
    verdict = judge(
        {"good": evidence(450, 500), "cheap": evidence(350, 500)}, costs(good=9, cheap=1), tolerance=0.01
    )
    assert verdict.order == ("good", "cheap")
    assert verdict.tied == {"good"}
    assert verdict.reasons["cheap"].startswith("20.0 points below good (95 % interval")


def test_among_equals_the_cheapest_wins() -> None:
    verdict = judge({"a": evidence(451, 500, 0), "b": evidence(450, 500, 1)}, costs(a=9, b=1), tolerance=0.01)
    assert verdict.order == ("b", "a")
    assert "costs more (9 ms against 1 ms)" in verdict.reasons["a"]


def test_an_interval_that_holds_0_is_no_tie_where_the_gap_is_large() -> None:
    """Twenty examples tell nothing apart, yet 15 points are no tie at one point of tolerance."""
    found = {"a": evidence(18, 20, 0), "b": evidence(15, 20, 1)}
    low, high = paired_interval(found["a"].correct, found["b"].correct)
    assert low < 0 < high
    assert judge(found, costs(a=9, b=1), tolerance=0.01).order == ("a", "b")
    assert judge(found, costs(a=9, b=1), tolerance=0.15).order == ("b", "a")


def test_a_small_gap_is_no_tie_where_the_interval_excludes_0() -> None:
    """Nested mistakes on many examples: half a point, always in the same direction."""
    found = {"a": evidence(9050, 10_000), "b": evidence(9000, 10_000)}
    assert paired_interval(found["a"].correct, found["b"].correct)[0] > 0
    assert judge(found, costs(a=9, b=1), tolerance=0.01).order == ("a", "b")


def test_latencies_within_the_noise_leave_it_to_size_then_id() -> None:
    same = evidence(90, 100)
    noisy = {"a": cost("a", 2.05, 30), "b": cost("b", 2.0, 30, spread=0.2), "c": cost("c", 2.1, 20)}
    assert judge(dict.fromkeys("abc", same), noisy, tolerance=0.01).order == ("c", "a", "b")
    calm = {name: cost(name, 2.0) for name in "cab"}
    assert judge(dict.fromkeys("cab", same), calm, tolerance=0.01).order == ("a", "b", "c")


def test_equal_weights_in_two_frameworks_are_one_quality() -> None:
    same = evidence(80, 100, 3)
    verdict = judge({"hf:m": same, "tf:m": same}, costs(**{"hf:m": 2.0, "tf:m": 1.5}), tolerance=0.0)
    assert verdict.tied == {"hf:m", "tf:m"}
    assert verdict.order[0] == "tf:m"


def test_paired_interval_against_its_definition() -> None:
    """30 only-a, 10 only-b of 200: half an observation in each cell (Agresti & Min 2005)."""
    a = np.array([1] * 30 + [0] * 10 + [1] * 160, dtype=bool)
    b = np.array([0] * 30 + [1] * 10 + [1] * 160, dtype=bool)
    gap, n = 20 / 202, 202
    error = 1.959964 * ((30.5 + 10.5 - 20**2 / n) ** 0.5) / n
    assert paired_interval(a, b) == pytest.approx((gap - error, gap + error))


def test_paired_interval_covers_the_truth() -> None:
    """Over 2,000 simulated pairs with a true difference of 3 points the 95 % interval holds it."""
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(2000):
        u = rng.random(300)
        v = rng.random(300)
        low, high = paired_interval(u < 0.85, np.where(v < 0.7, u, rng.random(300)) < 0.82)
        held += low <= 0.03 <= high
    assert held / 2000 > 0.95 - 3 * (0.05 * 0.95 / 2000) ** 0.5
