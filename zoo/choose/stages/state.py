"""One selection under way: what all stages read, and the rows, seconds and results that they leave."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from zoo.cards import Budget, Cost
from zoo.choose.candidates import Spread
from zoo.choose.costing import Costing
from zoo.choose.evidence import Evidence
from zoo.choose.journal import Journal
from zoo.choose.objectives import Objective
from zoo.choose.parts import Judged, Parts
from zoo.choose.results import Results
from zoo.choose.rows import Row
from zoo.choose.selection import Selection
from zoo.errors import WeightsUnavailableError, WorkerError, ZooError
from zoo.executor import Executor

Say = Callable[[str], None]
T = TypeVar("T")
_SECONDS = "seconds/"


ORDER = ("chosen", "tied", "within", "baseline", "over budget", "failed", "left out")
"""Of the rows in a table, by status; others after them."""


def _rank(status: str) -> int:
    return ORDER.index(status) if status in ORDER else len(ORDER)


@dataclass(frozen=True)
class Wanted:
    """What is asked for beside the data and the budget. within_s: seconds for all of it, None: no fine-tuning."""

    candidates: tuple[str, ...] | None
    spread: Spread
    aim: Objective
    tolerance: float
    folds: int
    seed: int
    within_s: float | None = None
    offline: bool = False


@dataclass
class State:
    """rows grow as results come, by id; each stage writes what is known so far, so that a stop loses nothing.

    folder: where results go, or None.  work: where graphs lie meanwhile; kept for a resumed run.
    settings: what `Selection.settings` will be.  bill: as `Selection.bill`.
    """

    parts: Parts
    budget: Budget
    wanted: Wanted
    folder: Path | None
    work: Path
    costing: Costing
    executor: Executor
    journal: Journal
    results: Results
    settings: dict[str, Any]
    say: Say
    started: float = field(default_factory=time.monotonic)
    rows: dict[str, Row] = field(default_factory=dict)
    bill: list[dict[str, Any]] = field(default_factory=list)
    saved: float = 0.0

    def __post_init__(self) -> None:
        earlier = self.journal.items(_SECONDS)
        self.earlier_s = float(sum(seconds for _, seconds in earlier))
        self.session = 1 + max((int(key.rpartition("/")[2]) for key, _ in earlier), default=0)
        wanted, parts = self.wanted, self.parts
        self.judged = Judged.of(
            parts.train, parts.validation, folds=wanted.folds, seed=wanted.seed, groups=parts.groups
        )

    # --- time
    def stage(self, name: str, entered: int, action: Callable[[], Sequence[T]]) -> Sequence[T]:
        """What a stage leaves of the so many that entered it; its seconds are kept, and the rows are written."""
        started = time.monotonic()
        left = action()
        self.spend(name, time.monotonic() - started)
        self.charge(name, entered, len(left))
        return left

    def spend(self, name: str, seconds: float) -> None:
        """Note the seconds of a stage that is done in this session."""
        self.journal.put(f"{_SECONDS}{name}/{self.session}", seconds)
        self.save()

    def charge(self, name: str, entered: int, left: int) -> None:
        """Put a stage on the bill."""
        self.bill.append({"stage": name, "candidates": entered, "left": left, "seconds": self.seconds[name]})

    @property
    def seconds(self) -> dict[str, float]:
        """By stage, of all sessions."""
        found: dict[str, float] = {}
        for key, seconds in self.journal.items(_SECONDS):
            name = key.rpartition("/")[0]
            found[name] = found.get(name, 0.0) + seconds
        return found

    @property
    def left_s(self) -> float | None:
        """Seconds that are left of `within_s`, those of earlier sessions counted; None without such a limit."""
        if self.wanted.within_s is None:
            return None
        return self.wanted.within_s - self.earlier_s - (time.monotonic() - self.started)

    # --- rows
    def lose(self, name: str, error: ZooError, stage: str) -> None:
        """A candidate that could not be loaded, exported, converted or measured."""
        status = "unreachable" if isinstance(error, WeightsUnavailableError) else "failed"
        reason = str(error).splitlines()[0] if not isinstance(error, WorkerError) else str(error)[:300]
        self.row(name, status, reason.replace("\n", " "), stage)

    def row(
        self, name: str, status: str, reason: str, stage: str, *, evidence: Evidence | None = None
    ) -> None:
        """Note how a candidate stands; its cost and details stay."""
        old = self.rows.get(name, Row(name, "", ""))
        new = old if evidence is None else evidence.row(name, status, reason, old.cost)
        self.rows[name] = dataclasses.replace(
            new, status=status, reason=reason, stage=stage, details=old.details
        )

    def cost(self, name: str, cost: Cost) -> None:
        """Note what a candidate costs."""
        self.rows[name] = dataclasses.replace(self.rows.get(name, Row(name, "", "")), cost=cost)

    def detail(self, name: str, key: str, value: Any) -> None:
        """Add to a row's details; value: JSON."""
        row = self.rows[name]
        self.rows[name] = dataclasses.replace(row, details={**row.details, key: value})

    def note(self, text: str) -> None:
        """A line for the end of the summary, once."""
        notes: list[str] = self.settings.setdefault("notes", [])
        if text not in notes:
            notes.append(text)

    def ordered(self) -> tuple[Row, ...]:
        """The chosen, those that tie, the rest by accuracy, baselines, then who left earlier."""
        return tuple(sorted(self.rows.values(), key=lambda r: (_rank(r.status), -(r.accuracy or 0.0), r.id)))

    def save(self, *, every_s: float = 0.0) -> None:
        """Write what is known by now, unless that was done less than every_s ago: it takes longer the more there is."""
        now = time.monotonic()
        if self.folder is not None and now - self.saved >= every_s:
            self.selection("", "not finished").write(self.folder)
            self.saved = now

    def selection(
        self,
        best: str,
        why: str,
        cost: Cost | None = None,
        test: Mapping[str, Any] | None = None,
        example: str = "",
    ) -> Selection:
        """What `zoo.select` gives back."""
        return Selection(
            best=best,
            why=why,
            budget=self.budget,
            rows=self.ordered(),
            settings=self.settings,
            cost=cost,
            test=test or {},
            seconds=self.seconds,
            folder=self.folder,
            example=example,
            bill=tuple(self.bill),
        )
