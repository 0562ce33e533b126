"""`zoo select --task ...` without data: the best by what publishers say that is within the budget by measurement here.

Nothing is known of the user's data, so the figures of quality are others', on ImageNet-1K; cost is measured, with
random weights, on which it does not depend, so that nothing is downloaded. Measured first is what promises most: the
highest published accuracy among those whose MACs, at this machine's pace, should fit. It ends when no model that is
better by publication is left that could fit, or when the count or the time is up, and then it says so.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from zoo.cards import IMAGE_TASK, Budget, Cost
from zoo.catalogue import TASKS, Entry
from zoo.choose.bench import benchmark
from zoo.choose.catalogue_limits import STAGE, check_limits
from zoo.choose.device import Source, device_costs
from zoo.choose.limits import describe, excesses
from zoo.choose.pace import CEILING, Pace, bare
from zoo.choose.past_costs import machine_text, threads_text
from zoo.choose.promising import counted, network_of, promising, row_of, top1_of
from zoo.choose.rows import Row
from zoo.choose.selection import Selection
from zoo.errors import InputError, NothingFitsError, WorkerError

MOST, EACH_S, SHOWN = 12, 15, 5
"""Networks that are measured, unless told otherwise; about how many seconds each takes; a plan's first ones."""
CAPPED = ("latency_ms", "size_mb", "memory_mb", "macs_g", "params_m")
MEASURED = "measured cost"


def select_without_data(
    task: str,
    *,
    budget: Budget,
    candidates: Sequence[str] | None = None,
    costs: Source | None = None,
    most: int = MOST,
    within_s: float | None = None,
    threads: int | None = None,
    offline: bool = False,
    progress: Callable[[str], None] | None = None,
) -> Selection:
    """The model of the highest published ImageNet-1K top-1 whose cost, measured here, is within the budget.

    candidates: as for `zoo.select`; None: every entry of the catalogue.  costs: another device's in the place of
    measuring; only models with a figure there count.  most: networks to measure; within_s: seconds to go on.
    In the rows accuracy is None; what is published is in details["published"].
    Raises InputError (text, no limit), NothingFitsError, WorkerError where nothing could be measured.
    """
    _check(task, budget, most, offline=offline)
    found, rows = promising(candidates, budget, offline=offline)
    run = _Search(found, budget, Pace.here(threads), threads, progress or (lambda text: None))
    if costs is not None:
        run.given(costs)
    else:
        run.go(most, within_s)
    return run.answer(rows, {"task": IMAGE_TASK, "data": None, "offline": offline, "most": most})


def plan_without_data(
    task: str,
    *,
    budget: Budget,
    candidates: Sequence[str] | None = None,
    most: int = MOST,
    threads: int | None = None,
    offline: bool = False,
) -> list[str]:
    """What `select_without_data` would do, a line each; nothing is measured. Raises what it raises before that."""
    _check(task, budget, most, offline=offline)
    found, rows = promising(candidates, budget, offline=offline)
    run = _Search(found, budget, Pace.here(threads), threads, lambda text: None)
    order = run.first(SHOWN)
    lines = [
        f"{network_of(entry)}: top-1 {entry.top1:.2f} % by its publisher, about {run.expected(entry):.3g} ms to expect"
        for entry in order
    ]
    return [
        f"{len(found)} candidates are left by their cards" + (f", {counted(rows)} are not." if rows else "."),
        f"Up to {most} networks are exported with random weights and measured, about {EACH_S} s each; nothing is "
        "downloaded. These first, until one fits:",
        *lines,
    ]


def _check(task: str, budget: Budget, most: int, *, offline: bool) -> None:
    if task not in TASKS:
        raise InputError(f"no task {task!r}: {IMAGE_TASK}, or give data")
    if TASKS[task] != IMAGE_TASK:
        raise InputError(
            f"{TASKS[task]} without data cannot be answered: publishers state figures of texts on another data set "
            "each, or none, so they do not compare. Give data: zoo select DATA"
        )
    if all(getattr(budget, name) is None for name in CAPPED):
        raise InputError(
            "without data and without a limit the answer is the head of `zoo list --sort top1`: give a limit, such as "
            "--max-latency 20ms"
        )
    if most < 1:
        raise InputError(f"most={most}: at least 1 network has to be measured")
    check_limits(budget, offline=offline)


# --- the search
@dataclass
class _Search:
    """entries: the most accurate first.  costs: by network, as far as measured."""

    entries: list[Entry]
    budget: Budget
    pace: Pace
    threads: int | None
    say: Callable[[str], None]
    costs: dict[str, Cost] = field(default_factory=dict)
    source: str = ""
    ended: str = ""

    def given(self, costs: Source) -> None:
        """Take another device's figures, by the model's id without its weights."""
        device = device_costs(costs)
        by_model = {bare(cost.model or cost.id): cost for cost in device.costs}
        names = [network_of(entry) for entry in self.entries]
        device.check({name: by_model.get(bare(name)) for name in names})
        self.costs = {name: by_model[bare(name)] for name in names if bare(name) in by_model}
        self.source = device.note()

    def go(self, most: int, within_s: float | None) -> None:
        """Measure, the most promising first, until the answer cannot change or `most` or the time is reached."""
        started = time.monotonic()
        while (entry := self._next()) is not None:
            if len(self.costs) >= most:
                self.ended = f"{most} networks were measured, which is the limit"
                return
            if within_s is not None and time.monotonic() - started > within_s:
                self.ended = f"the {within_s:g} s were over"
                return
            name = network_of(entry)
            self.say(f"measure {name}: top-1 {entry.top1} % by its publisher")
            cost = benchmark([name], threads=self.threads, progress=self.say)[0]
            self.costs[name] = cost
            self.pace.learn(cost, [entry.card.family])

    def _next(self, passed: Collection[str] = ()) -> Entry | None:
        """Of those that are better than the best that fits and could fit: the best that should, else the cheapest."""
        best, limit = self.best(), self.budget.latency_ms or float("inf")
        left = [
            entry
            for entry in self.entries
            if (best is None or (entry.top1 or 0.0) > (best.top1 or 0.0))
            and network_of(entry) not in self.costs
            and network_of(entry) not in passed
            and self._least(entry) <= limit
        ]
        should = [entry for entry in left if self.expected(entry) <= limit]
        return should[0] if should else min(left, key=self.expected, default=None)

    def first(self, count: int) -> list[Entry]:
        """Which are measured first, as long as none fits."""
        found: list[Entry] = []
        while len(found) < count and (entry := self._next({network_of(e) for e in found})) is not None:
            found.append(entry)
        return found

    def best(self) -> Entry | None:
        """The most accurate by publication that is within the budget; of equal ones the fastest."""
        fitting = [entry for entry in self.entries if self._fits(entry)]
        return min(fitting, key=lambda e: (-(e.top1 or 0.0), self._p50(e), e.id), default=None)

    def expected(self, entry: Entry) -> float:
        """Milliseconds; infinite where no MACs are stated."""
        return self.pace.expected_ms(entry.macs_g, entry.card.family) if entry.macs_g else float("inf")

    def _least(self, entry: Entry) -> float:
        return self.pace.least_ms(entry.macs_g or 0.0)

    def _fits(self, entry: Entry) -> bool:
        cost = self.costs.get(network_of(entry))
        return cost is not None and not cost.error and not excesses(cost, self.budget)

    def _p50(self, entry: Entry) -> float:
        cost = self.costs.get(network_of(entry))
        return float("inf") if cost is None or cost.latency_p50_ms is None else cost.latency_p50_ms

    # --- the answer
    def answer(self, left_out: Sequence[Row], settings: Mapping[str, object]) -> Selection:
        """Raises NothingFitsError, WorkerError."""
        best = self.best()
        rows = [self._row(entry, best) for entry in self.entries]
        if best is None:
            raise self._nothing(rows)
        cost = self.costs[network_of(best)]
        rank = {"chosen": 0, "within": 1, "over budget": 2, "failed": 3}
        rows = sorted([*rows, *left_out], key=lambda r: (rank.get(r.status, 4), -(top1_of(r) or 0.0), r.id))
        notes = [self.source or f"Cost: {machine_text(cost)}; {threads_text(cost)}, random weights."]
        notes += [f"To be taken with care: {cost.warning}."] if cost.warning else []
        notes.append(f"Not measured: {counted(rows)}.")
        return Selection(
            best.id, self._why(best, cost), self.budget, tuple(rows), {**settings, "notes": notes}, cost
        )

    def _row(self, entry: Entry, best: Entry | None) -> Row:
        cost = self.costs.get(network_of(entry))
        if cost is None:
            return row_of(entry, "left out", self._why_not_measured(entry, best), None, STAGE)
        cost = replace(cost, id=entry.id)
        if cost.error:
            return row_of(entry, "failed", cost.error.splitlines()[0], cost, MEASURED)
        if broken := excesses(cost, self.budget):
            return row_of(entry, "over budget", ", ".join(map(str, broken)), cost, MEASURED)
        if best is not None and entry.id == best.id:
            return row_of(entry, "chosen", "the highest published top-1 within the budget", cost, "shipped")
        return row_of(entry, "within", "its published top-1 is not above the pick's", cost, MEASURED)

    def _why_not_measured(self, entry: Entry, best: Entry | None) -> str:
        if best is not None and (entry.top1 or 0.0) <= (best.top1 or 0.0):
            return "its published top-1 is not above the pick's"
        if self.budget.latency_ms is not None and self._least(entry) > self.budget.latency_ms:
            return f"too many MACs for the latency: {CEILING:g} times this machine's best pace would not do"
        return "no figure of this device" if self.source else f"{self.ended}; it might fit"

    def _why(self, best: Entry, cost: Cost) -> str:
        where = (best.weights.source if best.weights else None) or "its publisher"
        latency = "no p50" if cost.latency_p50_ms is None else f"p50 {cost.latency_p50_ms:.3g} ms"
        how = "by the given costs" if self.source else "measured here with random weights"
        lines = [
            f"By others' figures, not on your data: {best.id}, top-1 {best.top1:.2f} % on ImageNet-1K ({where}). "
            f"{latency} and {cost.size_mb or 0:.1f} MB, {how}, as published with its head: within "
            f"{describe(self.budget)}."
        ]
        open_ = [e for e in self.entries if self._might_be_better(e, best)]
        if open_:
            lines.append(
                f"Not certain: {self.ended}, and {len({network_of(e) for e in open_})} networks of a higher published "
                f"top-1 might fit, first {open_[0].id} ({open_[0].top1:.2f} %)."
            )
        lines.append(
            f"Which is best for you only your data tells: zoo select DATA --candidate '{best.id}' --candidate ..."
        )
        return " ".join(lines)

    def _might_be_better(self, entry: Entry, best: Entry) -> bool:
        limit = self.budget.latency_ms or float("inf")
        better = (entry.top1 or 0.0) > (best.top1 or 0.0)
        unknown = network_of(entry) not in self.costs and not self.source
        return better and unknown and self._least(entry) <= limit

    def _nothing(self, rows: Sequence[Row]) -> NothingFitsError | WorkerError:
        over = {
            row.id: excesses(row.cost, self.budget)[0]
            for row in rows
            if row.cost is not None and row.status == "over budget"
        }
        if not over and any(row.status == "failed" for row in rows):
            failed = "; ".join(f"{row.id}: {row.reason}" for row in rows if row.status == "failed")
            return WorkerError(f"none of the networks could be measured. {failed}")
        if not over:
            return NothingFitsError(f"nothing fits {describe(self.budget)}. {counted(rows)}.")
        nearest = min(over, key=lambda name: (over[name].ratio, name))
        worst = over[nearest]
        count = len({network_of(e) for e in self.entries} & set(self.costs))
        return NothingFitsError(
            f"none of {count} measured networks fits {describe(self.budget)}. The nearest is {nearest}: {worst}. "
            f"{self.ended + '. ' if self.ended else ''}Raise that limit, or measure more.",
            limit=worst.limit,
            nearest=nearest,
        )
