"""Budgets as people write them, and which limit a candidate breaks."""

from __future__ import annotations

import pytest

from zoo.cards import Budget, Cost
from zoo.choose.limits import describe, excesses, parse_limit
from zoo.errors import InputError


@pytest.mark.parametrize(
    ("text", "unit", "value"),
    [
        ("5ms", "ms", 5.0),
        ("5", "ms", 5.0),
        ("0.02s", "ms", 20.0),
        ("250us", "ms", 0.25),
        ("80MB", "MB", 80.0),
        ("80 mb", "MB", 80.0),
        ("1.5GB", "MB", 1500.0),
        ("1MiB", "MB", 1.048576),
        ("1G", "G", 1.0),
        ("300M", "G", 0.3),
        ("1e9", "G", 1.0),
        ("10M", "M", 10.0),
        ("10000000", "M", 10.0),
        ("10min", "s", 600.0),
        ("1.5h", "s", 5400.0),
        ("90", "s", 90.0),
    ],
)
def test_units(text: str, unit: str, value: float) -> None:
    assert parse_limit(text, unit) == pytest.approx(value)


@pytest.mark.parametrize("text", ["20 parsecs", "", "fast", "5 MS ms", "ms"])
def test_what_is_no_limit_names_the_units(text: str) -> None:
    with pytest.raises(InputError, match="us, ms, s"):
        parse_limit(text, "ms")


@pytest.mark.parametrize("text", ["0", "0ms", "-5ms", "-0.0s", "1e-400ms"])
def test_a_limit_of_nothing_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="must be above 0"):
        parse_limit(text, "ms")


def test_megabytes_and_milliseconds_are_not_mixed_up() -> None:
    with pytest.raises(InputError, match="KB, MB, GB"):
        parse_limit("5ms", "MB")


def test_the_worst_limit_comes_first() -> None:
    cost = Cost("x", latency_p50_ms=30.0, file_bytes=60_000_000, macs=10**9, params=5 * 10**6)
    broken = excesses(cost, Budget(latency_ms=20, size_mb=10, macs_g=2, params_m=5))
    assert [excess.limit for excess in broken] == ["size", "latency p50"]
    assert str(broken[0]) == "size 60 MB > 10 MB"


def test_a_limit_is_reached_not_broken_at_equality() -> None:
    assert excesses(Cost("x", latency_p50_ms=20.0), Budget(latency_ms=20)) == []


def test_a_figure_that_was_not_measured_breaks_its_limit() -> None:
    assert [e.limit for e in excesses(Cost("x", latency_p50_ms=1.0), Budget(memory_mb=9))] == ["memory"]


def test_p90_is_held_against_p90() -> None:
    cost = Cost("x", latency_p50_ms=5.0, latency_p90_ms=9.0)
    assert excesses(cost, Budget(latency_ms=8)) == []
    assert [e.limit for e in excesses(cost, Budget(latency_ms=8, latency_percentile=90))] == ["latency p90"]


def test_describe() -> None:
    assert describe(Budget()) == "no limit"
    assert describe(Budget(download_mb=500, licence="mit")) == "download <= 500 MB, licence mit"
    assert describe(Budget(latency_ms=5, size_mb=80)) == "latency p50 <= 5 ms, size <= 80 MB"


@pytest.mark.parametrize("values", [{"latency_ms": 0}, {"size_mb": -1}, {"latency_percentile": 99}])
def test_budgets_that_make_no_sense(values: dict[str, float]) -> None:
    with pytest.raises(InputError):
        Budget(**values)  # type: ignore[arg-type]
