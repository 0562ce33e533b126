"""Budgets as people write them (`20ms`, `50MB`, `1G`), and what breaks them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from zoo.cards import Budget, Cost
from zoo.errors import InputError

# What one of each unit is worth, in the unit that the budget is kept in.
UNITS: dict[str, dict[str, float]] = {
    "ms": {"us": 1e-3, "ms": 1.0, "s": 1e3, "": 1.0},
    "MB": {"B": 1e-6, "KB": 1e-3, "MB": 1.0, "GB": 1e3, "KIB": 2**10 / 1e6, "MIB": 2**20 / 1e6,
           "GIB": 2**30 / 1e6, "": 1.0},
    "G": {"K": 1e-6, "M": 1e-3, "G": 1.0, "T": 1e3, "": 1e-9},
    "M": {"K": 1e-3, "M": 1.0, "G": 1e3, "B": 1e3, "": 1e-6},
    "s": {"s": 1.0, "sec": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "": 1.0},
}  # fmt: skip
SHOWN = {
    "ms": "us, ms, s", "MB": "KB, MB, GB, KiB, MiB, GiB", "G": "K, M, G, T", "M": "K, M, G", "s": "s, min, h",
}  # fmt: skip
LEAST_MS = 0.002
"""ONNX Runtime takes longer to run a graph of one node: 3.4 us on a core of an AMD EPYC."""


def check_within(seconds: float | None) -> float | None:
    """The time for a whole selection as it was given. Raises InputError: 0 or less."""
    if seconds is not None and not seconds > 0:
        raise InputError(f"within {seconds:g} s: a time above 0, such as 10min")
    return seconds


def parse_limit(text: str, unit: str) -> float:
    """Read a limit into `unit`: "ms", "MB" (10^6 bytes), "G" (10^9 MACs), "M" (10^6 parameters) or "s".

    A bare number is milliseconds, MB, a plain count, or seconds. Raises InputError naming the units that exist, and
    for what is not above 0.
    """
    match = re.fullmatch(r"\s*(-?[0-9]*\.?[0-9]+(?:[eE][+-]?[0-9]+)?)\s*([A-Za-z]*)\s*", text)
    table = UNITS[unit]
    written = match.group(2) if match else ""
    key = written.lower() if unit in ("ms", "s") else written.upper()
    if not match or key not in table:
        raise InputError(
            f"cannot read the limit {text!r}: write a number and one of {SHOWN[unit]}, like 20{unit}"
        )
    value = float(match.group(1)) * table[key]
    if not value > 0:
        raise InputError(f"the limit {text!r}: it must be above 0; leave it out for no limit")
    return value


def check_budget(budget: Budget) -> None:
    """What no model can meet, or contradicts itself, is said before anything is done. Raises InputError."""
    if budget.latency_ms is not None and budget.latency_ms < LEAST_MS:
        raise InputError(
            f"latency <= {1000 * budget.latency_ms:g} us: ONNX Runtime takes more than {1000 * LEAST_MS:g} us "
            "for a graph of one node, so no model can meet it. Did you mean ms?"
        )
    if budget.latency_percentile != 50 and budget.latency_ms is None:
        raise InputError(
            f"latency_percentile={budget.latency_percentile} without a limit on latency: give one, such as 20ms"
        )


@dataclass(frozen=True)
class Excess:
    """One limit that a candidate breaks: its name, what was measured, what is allowed (in `unit`)."""

    limit: str
    value: float
    allowed: float
    unit: str

    @property
    def ratio(self) -> float:
        """How many times the limit it takes."""
        return self.value / self.allowed

    def __str__(self) -> str:
        return f"{self.limit} {self.value:.3g} {self.unit} > {self.allowed:.3g} {self.unit}"


def excesses(cost: Cost, budget: Budget) -> list[Excess]:
    """The limits that `cost` breaks, the worst first. A figure that was not measured breaks its limit."""
    latency = cost.latency_p50_ms if budget.latency_percentile == 50 else cost.latency_p90_ms
    pairs = [
        (f"latency p{budget.latency_percentile}", latency, budget.latency_ms, "ms"),
        ("size", cost.size_mb, budget.size_mb, "MB"),
        ("memory", cost.peak_memory_mb, budget.memory_mb, "MB"),
        ("MACs", None if cost.macs is None else cost.macs / 1e9, budget.macs_g, "G"),
        ("params", None if cost.params is None else cost.params / 1e6, budget.params_m, "M"),
    ]
    broken = [
        Excess(name, float("inf") if value is None else value, allowed, unit)
        for name, value, allowed, unit in pairs
        if allowed is not None and (value is None or value > allowed)
    ]
    return sorted(broken, key=lambda excess: -excess.ratio)


def describe(budget: Budget) -> str:
    """The budget in one line."""
    parts = [
        (budget.latency_ms, f"latency p{budget.latency_percentile}", "ms"),
        (budget.size_mb, "size", "MB"),
        (budget.memory_mb, "memory", "MB"),
        (budget.macs_g, "MACs", "G"),
        (budget.params_m, "params", "M"),
        (budget.download_mb, "download", "MB"),
    ]
    licence = [f"licence {budget.licence}"] if budget.licence else []
    limits = [f"{name} <= {value:g} {unit}" for value, name, unit in parts if value]
    return ", ".join([*limits, *licence]) or "no limit"
