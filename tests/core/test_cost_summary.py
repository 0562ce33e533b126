"""Figures from rounds: percentiles and their bounds, paired medians, the bootstrap over rounds, ties, warnings."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from zoo.cards import Cost
from zoo.cost.energy import counter
from zoo.cost.percentiles import CONFIDENCE, needed, percentile, upper_bound
from zoo.cost.precision import precision
from zoo.cost.summary import Round, least_disturbed, runs_needed, summed_up, undisturbed, warning, with_ties


def rounds_of(times: np.ndarray, waited: np.ndarray | None = None) -> list[Round]:
    """times: [rounds, runs] of one model; waited: share of each round."""
    shares = np.zeros(len(times)) if waited is None else waited
    return [
        Round(list(t), [float(w * t.sum()), *[0.0] * (len(t) - 1)])
        for t, w in zip(times, shares, strict=True)
    ]


def costs(*names: str, batch_size: int = 1) -> list[Cost]:
    return [Cost(id=name, batch_size=batch_size) for name in names]


# --- percentiles and their bounds
@pytest.mark.parametrize(("percent", "runs"), [(50, 11), (90, 64), (99, 662)])
def test_runs_needed_are_mlperfs(percent: int, runs: int) -> None:
    """LoadGen says 'Need to process at least 64 queries' for p90, 662 for p99."""
    assert needed(percent) == runs
    values = list(range(runs))
    assert percentile(values[1:], percent) is None and upper_bound(values[1:], percent) is None
    assert upper_bound(values, percent) == runs - 1  # the slowest


def test_the_bound_is_loadgens() -> None:
    """A published log: of 2048 queries it 'Would discard 172 highest latency queries' for p90."""
    assert upper_bound(list(range(2048)), 90) == 2048 - 1 - 172


@pytest.mark.parametrize(("percent", "count"), [(50, 12), (90, 64), (90, 333), (99, 700)])
def test_the_bound_against_exact_binomials(percent: int, count: int) -> None:
    """Fractions instead of logarithms of gamma functions."""
    share = percent / 100
    at_most, over = 0.0, 0
    for t in range(count):
        at_most += math.comb(count, t) * (1 - share) ** t * share ** (count - t)
        if at_most > 1 - CONFIDENCE:
            break
        over = t
    assert over >= 1 and upper_bound(list(range(count)), percent) == count - over


@pytest.mark.parametrize("law", ["normal", "lognormal", "pareto", "mixture"])
def test_the_bound_covers_as_often_as_it_says(law: str) -> None:
    """1000 trials of 200 runs, against the quantile of the law itself; the benchmark makes 10,000."""
    rng = np.random.default_rng(0)
    draws = {
        "normal": lambda n: rng.normal(10, 1, n),
        "lognormal": lambda n: rng.lognormal(0, 1.5, n),
        "pareto": lambda n: 1 + rng.pareto(1.1, n),
        "mixture": lambda n: np.where(rng.random(n) < 0.88, rng.normal(1, 0.1, n), rng.normal(20, 5, n)),
    }[law]
    truth = float(np.quantile(draws(2_000_000), 0.9))
    covered = np.mean([(upper_bound(list(draws(200)), 90) or 0.0) >= truth for _ in range(1000)])
    assert covered >= CONFIDENCE - 3 * math.sqrt(CONFIDENCE * (1 - CONFIDENCE) / 1000)


# --- p50
def test_figures_of_one_model() -> None:
    times = np.array([[1.0, 2.0, 3.0], [2.0, 2.0, 4.0], [1.0, 3.0, 5.0], [9.0, 1.0, 7.0]])
    (cost,) = summed_up(costs("m", batch_size=4), [rounds_of(times)])
    assert cost.latency_p50_ms == pytest.approx(math.sqrt(2 * 3))  # medians 2, 2, 3, 7, on logarithms
    assert cost.latency_p50_low_ms is None and cost.latency_p50_high_ms is None  # of four rounds
    assert (cost.latency_p90_ms, cost.latency_p99_ms, cost.samples) == (None, None, 12)
    assert cost.throughput_per_s == pytest.approx(4 * 12 / 0.040)
    assert cost.spread == pytest.approx((7 - 2) / 2.5)
    assert runs_needed(cost) == {90: 64, 99: 662}


def test_too_few_runs_leave_p50_blank() -> None:
    (cost,) = summed_up(costs("m"), [rounds_of(np.ones((5, 2)))])
    assert cost.latency_p50_ms is None and runs_needed(cost) == {50: 11, 90: 64, 99: 662}


def test_a_drifting_machine_does_not_change_the_order() -> None:
    """Each round has a speed of its own, up to 4 times; b is 3 % slower than a in every one."""
    rng = np.random.default_rng(0)
    wrong = 0
    for _ in range(20):
        drift = rng.uniform(1, 4, (2, 30, 1)).mean(axis=0)
        noise = rng.normal(1, 0.02, (3, 30, 8))
        models = [rounds_of(drift * noise[i] * scale) for i, scale in enumerate((1.0, 1.03, 2.0))]
        a, b, c = (cost.latency_p50_ms for cost in summed_up(costs("a", "b", "c"), models))
        assert a and b and c
        wrong += not a < b < c
        assert c / a == pytest.approx(2.0, rel=0.02)
    assert wrong == 0


def test_models_are_compared_within_rounds() -> None:
    """The clock falls by 15 % half way, and others had b's core until then: b is 3 % faster than a all the same."""
    clock = np.repeat([1.0, 1.15], 15)[:, None] * np.ones((30, 4))
    busy = np.repeat([0.5, 0.0], 15)
    b = 0.97 * clock
    b[:15] *= 10
    models = [rounds_of(clock), rounds_of(b, busy), rounds_of(2 * clock), rounds_of(3 * clock)]
    p50 = [cost.latency_p50_ms or 0 for cost in summed_up(costs("a", "b", "c", "d"), models)]
    assert p50[1] / p50[0] == pytest.approx(0.97, rel=0.005)


def test_the_interval_is_over_rounds_not_over_runs() -> None:
    """Rounds that differ by 10 % among themselves, their runs by nothing: more runs do not make it surer."""
    rng = np.random.default_rng(0)
    speeds = rng.normal(1, 0.1, (20, 1))
    few, many = (summed_up(costs("m"), [rounds_of(np.repeat(speeds, n, axis=1))])[0] for n in (3, 300))
    for cost in (few, many):
        assert cost.latency_p50_ms and cost.latency_p50_low_ms and cost.latency_p50_high_ms
        assert 0.02 < (cost.latency_p50_high_ms - cost.latency_p50_low_ms) / cost.latency_p50_ms < 0.3
    assert few.latency_p50_low_ms == pytest.approx(many.latency_p50_low_ms)


def test_the_interval_covers_the_truth() -> None:
    """95 % nominal; blocks of neighbours and 30 rounds: 90 % at least of 300 trials on independent rounds."""
    rng = np.random.default_rng(1)
    covered = 0
    for trial in range(300):
        (cost,) = summed_up(costs("m"), [rounds_of(rng.lognormal(0, 0.1, (30, 1)))], seed=trial)
        assert cost.latency_p50_low_ms and cost.latency_p50_high_ms
        covered += cost.latency_p50_low_ms <= 1.0 <= cost.latency_p50_high_ms
    assert covered >= 270


# --- other processes
def test_p50_is_of_the_runs_that_were_left_alone() -> None:
    """In half of the rounds threads waited; there two runs of three took ten times as long."""
    times = np.ones((20, 9))
    times[::2, :6] = 10.0
    waited = np.where(np.arange(20) % 2, 0.0, 0.5)
    rounds = [rounds_of(times, waited)]
    kept = least_disturbed(rounds, 10)
    assert kept == list(range(1, 20, 2)) and undisturbed(rounds) == 10
    (cost,) = summed_up(costs("m"), rounds, kept)
    assert cost.latency_p50_ms == cost.latency_p90_ms == cost.latency_p90_high_ms == 1.0
    (whole,) = summed_up(costs("m"), rounds)
    assert whole.latency_p50_ms == 1.0 and whole.latency_p90_ms == 10.0  # the tail is with the others' part


def test_slow_runs_of_a_quiet_machine_count() -> None:
    """A model that is slow in every other run is so by itself: nothing is left out."""
    times = np.tile([1.0, 1.0, 3.0, 3.0, 3.0], (20, 1))
    (cost,) = summed_up(costs("m"), [rounds_of(times)])
    assert cost.latency_p50_ms == pytest.approx(3.0)


def test_all_models_keep_the_same_rounds() -> None:
    calm, busy = np.zeros(4), np.array([0.0, 0.9, 0.0, 0.0])
    rounds = [rounds_of(np.ones((4, 3)), calm), rounds_of(np.ones((4, 3)), busy)]
    assert least_disturbed(rounds, 3) == [0, 2, 3]


# --- ties and warnings
def test_ties_are_overlapping_intervals_at_one_batch_size() -> None:
    def cost(name: str, low: float | None, high: float | None, batch_size: int = 1) -> Cost:
        return Cost(name, batch_size, latency_p50_low_ms=low, latency_p50_high_ms=high)

    given = [
        cost("a", 1.0, 1.2),
        cost("b", 1.2, 1.3),
        cost("c", 1.25, 1.4),
        cost("a", 1.0, 1.2, 8),
        cost("d", None, None),
    ]
    assert [c.ties for c in with_ties(given)] == [("b",), ("a", "c"), ("b",), (), ()]


def test_a_noisy_machine_is_said_so() -> None:
    narrow = Cost("m", latency_p50_ms=10.0, latency_p50_low_ms=9.9, latency_p50_high_ms=10.1)
    wide = Cost("m", latency_p50_ms=10.0, latency_p50_low_ms=9.0, latency_p50_high_ms=11.0)
    assert warning(narrow, alone=12, kept=12, done=20) is None
    assert "p50 is known to 10% either way" in (warning(wide, alone=12, kept=12, done=12) or "")
    assert "other processes took the cores in 30 of 36 rounds" in (
        warning(narrow, alone=6, kept=12, done=36) or ""
    )
    assert "no round was left alone" in (warning(narrow, alone=0, kept=12, done=36) or "")
    assert "the hypervisor kept cores" in (warning(narrow, alone=12, kept=12, done=12, stolen=0.1) or "")


# --- precision, energy
def test_precision_is_what_nearly_all_weights_are_held_in() -> None:
    from onnx import TensorProto

    float32, float16, int8 = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT8
    assert precision([((9, 1), float32)]) == "float32"
    assert precision([((95, 1), int8), ((5, 1), float32)]) == "int8"
    assert precision([((50, 1), float16), ((50, 1), float32)]) == "mixed"
    assert precision([]) is None


def test_energy_is_of_one_run_or_unknown() -> None:
    """The run before the first timed one is in the counter, so it is in the divisor."""
    known = [Round([1.0] * 4, [0.0] * 4, energy_mj=10.0) for _ in range(3)]
    assert summed_up(costs("m"), [known])[0].energy_mj == pytest.approx(10 / 5)
    known[1].energy_mj = None
    assert summed_up(costs("m"), [known])[0].energy_mj is None


def test_energy_is_read_by_zeus_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No machine of ours has the counters: its documented interface stands in, two packages, one with DRAM."""
    assert counter("CPUExecutionProvider") is None
    (tmp_path / "zeus" / "device").mkdir(parents=True)
    (tmp_path / "zeus" / "device" / "cpu.py").write_text(
        "from types import SimpleNamespace as S\n"
        "class Packages:\n"
        "    def __len__(self): return 2\n"
        "    def get_total_energy_consumption(self, i): return S(cpu_mj=10.0, dram_mj=[None, 2.5][i])\n"
        "get_cpus = Packages\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    read = counter("CPUExecutionProvider")
    assert read is not None and read() == 22.5
