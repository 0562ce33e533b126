"""Where a table's costs come from: measured here, or given from another device; never both in one column."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from zoo.cards import Cost
from zoo.choose.device import DeviceCosts
from zoo.choose.past_costs import kept_note, machine_text, threads_text
from zoo.cost import kept_or_measured
from zoo.cost.store import now

RECENT_S = 600.0
"""Figures of the last ten minutes are this session's: a second look with another budget measures nothing anew."""


@dataclass(frozen=True)
class Costs:
    """by_id: at batch 1.  missing: why an id has none.  notes: how they came about, a line each."""

    by_id: Mapping[str, Cost] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Costing:
    """threads, fresh: of `zoo.benchmark`. given: another device's costs in the place of measuring here."""

    threads: int | None
    fresh: bool
    given: DeviceCosts | None
    say: Callable[[str], None]

    @property
    def recent_s(self) -> float:
        """How old a figure may be that stands without the reference model."""
        return 0.0 if self.fresh else RECENT_S

    def of(self, artefacts: Sequence[tuple[str, Path]], *, tokens: int) -> Costs:
        """Costs of these files, given as (id, path), at `tokens` tokens. Raises InputError where none has any."""
        if not artefacts:
            return Costs()
        if self.given is not None:
            return _given(self.given, artefacts, tokens)
        started = now()
        costs = kept_or_measured(
            artefacts, threads=self.threads, sequence_length=tokens, fresh=self.fresh, recent_s=self.recent_s,
            progress=self.say,
        )  # fmt: skip
        return Costs({cost.id: cost for cost in costs}, {}, (_measured_note(costs), *_kept(costs, started)))

    def again(self, name: str, path: Path, *, tokens: int) -> Cost:
        """Of one file, measured now, unless these very bytes were in the last minutes."""
        found = kept_or_measured(
            [(name, path)], threads=self.threads, sequence_length=tokens, fresh=True, recent_s=self.recent_s,
            progress=self.say,
        )  # fmt: skip
        return found[0]


def _given(given: DeviceCosts, artefacts: Sequence[tuple[str, Path]], tokens: int) -> Costs:
    found = {name: given.of(name, path) for name, path in artefacts}
    costs = {name: cost for name, (cost, _) in found.items()}
    given.check(costs)
    missing = {name: why for name, (cost, why) in found.items() if cost is None}
    warned = [why for cost, why in found.values() if cost is not None and why]
    lengths = [text for text in (given.lengths(tokens),) if text]
    by_id = {name: cost for name, cost in costs.items() if cost is not None}
    return Costs(by_id, missing, (given.note(), *warned, *lengths))


def _measured_note(costs: Sequence[Cost]) -> str:
    return f"Costs measured on this machine: {machine_text(costs[0])}; {threads_text(costs[0])}."


def _kept(costs: Sequence[Cost], started: str) -> tuple[str, ...]:
    text = kept_note(costs, started)
    return (text,) if text else ()
