"""From the times of interleaved rounds to figures: p50 with its interval, tails with their bounds, ties, warnings.

Every round runs all models once, one after another, so within a round the machine is about the same for all. p50 is
therefore estimated in pairs (Tukey's median polish on logarithms): each model's median in a round is set against
how fast the machine was in that round, judged by all models; the model's p50 is the median over the rounds of
what is left, at the machine's median speed. With one model that is the median of its rounds' medians.
The interval resamples rounds, not runs: runs of one round share its disturbance. Rounds are drawn in blocks of
neighbours (circular block bootstrap, Politis and Romano 1992), because a slow spell lasts longer than a round.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from zoo.cards import Cost
from zoo.cost.percentiles import needed, percentile, upper_bound
from zoo.engine import Array

RESAMPLES = 1000
DISTURBED = 0.05
"""Share of a round in which a thread waited for a core, from which on the round counts as disturbed."""
STOLEN = 0.02
"""Share of the rounds' time in which the hypervisor ran something else, from which on it is said."""
WIDE = 0.10
"""Width of the 95 % interval over p50, from which on a machine is called too noisy."""
_FASTEST, _ALIKE = 0.01, 1.2
"""In a disturbed round the runs count that take at most 1.2 times the fastest 1 % of all: with a core less, or another
process's turn in between, a run takes far longer."""
_POLISHINGS = 3
_FOR_AN_INTERVAL = 6
"""Rounds: the range of fewer does not hold their median with 95 % (2 x 0.5^n)."""


@dataclass
class Round:
    """One model's part of a round.

    times: milliseconds of single runs.  waits: milliseconds that its threads were found to have waited for a core when
    each of them was over.  late_ms: of a wait that was not over with the last of them.
    energy_mj: of all that ran meanwhile, the run before the first of `times` included; None where it cannot be read.
    """

    times: Sequence[float]
    waits: Sequence[float]
    late_ms: float = 0.0
    energy_mj: float | None = None

    @property
    def waited(self) -> float:
        """Waiting, as a share of the time."""
        return (sum(self.waits) + self.late_ms) / sum(self.times)


def least_disturbed(rounds: Sequence[Sequence[Round]], wanted: int) -> list[int]:
    """Indices, ascending, of the `wanted` rounds that other processes disturbed least. rounds: [model][round]."""
    shares = [_disturbance(column) for column in zip(*rounds, strict=True)]
    return sorted(sorted(range(len(shares)), key=lambda i: shares[i])[:wanted])


def undisturbed(rounds: Sequence[Sequence[Round]]) -> int:
    """How many of the rounds were left alone. rounds: [model][round]."""
    return sum(_disturbance(column) < DISTURBED for column in zip(*rounds, strict=True))


def _disturbance(column: Sequence[Round]) -> float:
    """Of a whole round: the most that any model of it waited, so that all models keep the same rounds."""
    return max((one.waited for one in column), default=0.0)


def summed_up(
    costs: Sequence[Cost],
    rounds: Sequence[Sequence[Round]],
    kept: Sequence[int] | None = None,
    *,
    seed: int = 0,
) -> list[Cost]:
    """`costs` with the figures of their rounds, [model][round].

    p50 is of the runs that were left alone, in all rounds: all of an undisturbed round, the fast ones of another. The
    rest is of all runs of the `kept` rounds (None: of all): in the tail, other processes' part cannot be told from the
    model's. Throughput is inputs over the time of all runs.  seed: of the bootstrap.
    """
    kept = range(len(rounds[0])) if kept is None else kept
    medians = np.array([_medians(own) for own in rounds])
    middles = np.exp(_polished(medians))
    lows, highs = _interval(medians, seed)
    sure = (~np.isnan(medians)).sum(axis=1) >= _FOR_AN_INTERVAL
    return [
        _figures(cost, [own[i] for i in kept], (float(m), float(low), float(high)), bool(known))
        for cost, own, m, low, high, known in zip(costs, rounds, middles, lows, highs, sure, strict=True)
    ]


def _figures(cost: Cost, kept: Sequence[Round], p50: tuple[float, float, float], sure: bool) -> Cost:
    times = [time for one in kept for time in one.times]
    enough = len(times) >= needed(50)
    medians = [statistics.median(one.times) for one in kept]
    return dataclasses.replace(
        cost,
        latency_p50_ms=p50[0] if enough else None,
        latency_p50_low_ms=p50[1] if enough and sure else None,
        latency_p50_high_ms=p50[2] if enough and sure else None,
        latency_p90_ms=percentile(times, 90),
        latency_p90_high_ms=upper_bound(times, 90),
        latency_p99_ms=percentile(times, 99),
        latency_p99_high_ms=upper_bound(times, 99),
        energy_mj=_energy_mj(kept),
        throughput_per_s=cost.batch_size * len(times) / (sum(times) / 1e3),
        samples=len(times),
        spread=(max(medians) - min(medians)) / statistics.median(medians),
    )


def _energy_mj(kept: Sequence[Round]) -> float | None:
    """Of one run."""
    taken = [one.energy_mj for one in kept if one.energy_mj is not None]
    if len(taken) < len(kept):
        return None
    return sum(taken) / sum(len(one.times) + 1 for one in kept)


def _medians(own: Sequence[Round]) -> Array:
    """Log median of each round's runs that were left alone; NaN where there are none."""
    limit = _ALIKE * float(np.quantile([time for one in own for time in one.times], _FASTEST))
    alone = [[time for time in one.times if one.waited < DISTURBED or time <= limit] for one in own]
    return np.array([math.log(statistics.median(times)) if times else math.nan for times in alone])


def _polished(medians: Array) -> Array:
    """Log p50 of each model from log medians [..., models, rounds], at the middle speed of the machine."""
    if medians.shape[-2] == 1:  # the machine's speed cannot be told from its own
        return _median(medians, -1)
    level = np.zeros_like(medians[..., :1, :])
    for _ in range(_POLISHINGS):
        own = _median(medians - level, -1)[..., None]
        level = _median(medians - own, -2)[..., None, :]
        level -= _median(level, -1)[..., None]
    return _median(medians - level, -1)


def _median(values: Array, axis: int) -> Array:
    """Without the NaN; NaN where there is nothing else."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        found: Array = (
            np.nanmedian(values, axis=axis) if np.isnan(values).any() else np.median(values, axis=axis)
        )
    return found


def _interval(medians: Array, seed: int) -> tuple[Array, Array]:
    """95 % interval of each model's p50 in milliseconds; medians: log [models, rounds]."""
    count = medians.shape[1]
    block = max(1, round(count ** (1 / 3)))
    rng = np.random.default_rng(seed)
    starts = rng.integers(0, count, (RESAMPLES, -(-count // block)))
    drawn = (starts[:, :, None] + np.arange(block)).reshape(RESAMPLES, -1)[:, :count] % count
    resampled = _polished(np.moveaxis(medians[:, drawn], 1, 0))
    low, high = np.exp(np.nanpercentile(resampled, [2.5, 97.5], axis=0))
    return low, high


# --- what the figures can tell apart
def with_ties(costs: Sequence[Cost]) -> list[Cost]:
    """The same costs, each with the ids of those at its batch size whose p50 intervals overlap its own."""
    return [
        dataclasses.replace(cost, ties=tuple(other.id for other in costs if _tied(cost, other)))
        for cost in costs
    ]


def _tied(one: Cost, other: Cost) -> bool:
    if one.id == other.id or one.batch_size != other.batch_size:
        return False
    ends = (
        one.latency_p50_low_ms,
        one.latency_p50_high_ms,
        other.latency_p50_low_ms,
        other.latency_p50_high_ms,
    )
    if None in ends:
        return False
    low, high, other_low, other_high = (end or 0.0 for end in ends)
    return low <= other_high and other_low <= high


def warning(cost: Cost, *, alone: int, kept: int, done: int, stolen: float = 0.0) -> str | None:
    """Why this cost's figures are to be taken with care, or None.

    alone: of the rounds done, those undisturbed; kept: those that count.  stolen: the hypervisor's share of the time.
    """
    texts = []
    if alone < kept:
        texts.append(
            f"other processes took the cores in {done - alone} of {done} rounds: p50 is of the runs that were left "
            "alone, p90, p99 and throughput are with the others' part"
        )
    if alone == 0 and kept:
        texts.append("no round was left alone, so even p50 may be far too high: measure on a quieter machine")
    if stolen > STOLEN:
        texts.append(f"the hypervisor kept cores from this machine for {stolen:.0%} of the time")
    if cost.latency_p50_ms and cost.latency_p50_low_ms is None:
        texts.append(
            f"fewer than {_FOR_AN_INTERVAL} rounds had such runs, so p50 has no interval and no ties are known"
        )
    if cost.latency_p50_ms and cost.latency_p50_low_ms and cost.latency_p50_high_ms:
        half = (cost.latency_p50_high_ms - cost.latency_p50_low_ms) / cost.latency_p50_ms / 2
        if half > WIDE / 2:
            texts.append(
                f"p50 is known to {half:.0%} either way only: models that are closer cannot be told apart"
            )
    return "; ".join(texts) or None


def runs_needed(cost: Cost) -> Mapping[int, int]:
    """Percentiles of `cost` that are blank, and the runs each needs."""
    values = {50: cost.latency_p50_ms, 90: cost.latency_p90_ms, 99: cost.latency_p99_ms}
    return {percent: needed(percent) for percent, value in values.items() if value is None}
