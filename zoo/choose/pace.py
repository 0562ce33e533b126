"""How fast this machine computes, from the record of what was measured on it: for plans, and for what cannot fit."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass, field

from zoo.cards import Cost
from zoo.cost import machine, usable_cores
from zoo.cost.store import Store

MS_PER_GMAC = 20.0
"""Milliseconds for 10^9 multiply-accumulates where nothing was measured: of ResNets on two cores of an AMD EPYC."""
REFERENCE_GMACS = 0.118
"""Of the reference model that every session measures (`zoo.cost.reference`)."""
CEILING = 2.0
"""No model is expected to compute faster than so many times the fastest that was measured."""


@dataclass
class Pace:
    """p50_ms: by id without its weights, the latest.  rates: ms for 10^9 MACs, by family ("" for all)."""

    p50_ms: dict[str, float] = field(default_factory=dict)
    rates: dict[str, list[float]] = field(default_factory=dict)

    @classmethod
    def here(cls, threads: int | None = None) -> Pace:
        """Of this machine's record at so many threads; empty where nothing was measured."""
        pace = cls()
        kept = Store().latest(machine(), threads=threads or usable_cores())
        for one in kept:
            if one.reference_ms:
                pace.rates.setdefault("", []).append(one.reference_ms / REFERENCE_GMACS)
                break
        for one in reversed(kept):
            pace.learn(one.cost)
        return pace

    @property
    def known(self) -> bool:
        """Whether anything was measured."""
        return bool(self.rates)

    def learn(self, cost: Cost, families: Iterable[str] = ()) -> None:
        """Take in a measurement at batch 1, for these families too."""
        if cost.latency_p50_ms is None:
            return
        self.p50_ms[bare(cost.id)] = cost.latency_p50_ms
        if cost.macs:
            for family in ("", *families):
                self.rates.setdefault(family, []).append(cost.latency_p50_ms / (cost.macs / 1e9))

    def expected_ms(self, macs_g: float, family: str = "") -> float:
        """The median of a family's pace, or of all that was measured, or MS_PER_GMAC; rough."""
        rates = self.rates.get(family) or self.rates.get("") or [MS_PER_GMAC]
        return macs_g * statistics.median(rates)

    def least_ms(self, macs_g: float) -> float:
        """What it takes even at CEILING times the best pace seen; 0 where nothing was seen."""
        return macs_g * min(self.rates[""]) / CEILING if self.rates.get("") else 0.0


def bare(name: str) -> str:
    """An id without its weights, on which cost does not depend; a cut or resized model keeps its options."""
    head, comma, options = name.partition(",")
    return head.partition("@")[0] + comma + options
