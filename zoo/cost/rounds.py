"""Timing: models that are alive together, each in a process of its own, run in short interleaved rounds.

A round runs every model for a few hundredths of a second, so that what the machine does meanwhile falls on all of them
alike. Rounds that other processes disturbed are repeated, up to three times as many in all; the least disturbed count.
A model that crashes, hangs or takes too much memory costs its own row: a Cost with `error`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import psutil

from zoo.cards import Cost
from zoo.cost.energy import Counter
from zoo.cost.memory_watch import MemoryWatch
from zoo.cost.summary import Round, least_disturbed, summed_up, undisturbed, warning
from zoo.errors import WorkerError, ZooError
from zoo.process import Worker

FEWEST, MOST = 12, 30
"""Rounds: with a run in each, what a median needs; more than the bootstrap gains from."""
REPEATS = 3
"""At most so many times the planned rounds, where other processes disturb them."""
SLICE_S = 0.02
"""A model's part of a round: shorter, and starting it (a message, a run to warm the caches) is most of it."""
_AT_MOST_PER_S = 800
"""Runs for each second of `min_seconds`: enough for a p99; a cheap model is done sooner."""
_SAID = 5

Progress: TypeAlias = Callable[[str], None]


@dataclass(frozen=True)
class Settings:
    """What is the same for all that are measured together; memory_limit_mb: of a process, None for no limit.

    beside: the id of one that is of interest only beside others; where none of those is well, it is not timed.
    """

    threads: int
    sequence_length: int
    min_seconds: float
    provider: str
    energy: Counter | None
    memory_limit_mb: float | None
    time_limit_s: float
    machine: Mapping[str, str]
    progress: Progress
    inputs: tuple[str, ...] = ()
    custom_ops: tuple[str, ...] = ()
    beside: str | None = None


@dataclass
class Job:
    """One artefact at one batch size on its way to a Cost.  run_ms: the fastest warm-up run."""

    path: Path
    cost: Cost
    worker: Worker | None = None
    run_ms: float = 0.0
    rounds: list[Round] = field(default_factory=list)

    @property
    def well(self) -> bool:
        return self.worker is not None and self.cost.error is None

    def fail(self, reason: str) -> None:
        """Keep what is known and why there is no more."""
        self.cost = dataclasses.replace(self.cost, error=reason)

    def __str__(self) -> str:
        return f"{self.cost.id} (batch {self.cost.batch_size})"


def environment(threads: int) -> dict[str, str]:
    """Thread pools that a session option does not reach."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    return dict.fromkeys(names, str(threads))


def measure_group(jobs: Sequence[Job], settings: Settings) -> None:
    """Measure them, interleaved; what cannot be measured gets an error. On Ctrl-C the figures so far are kept."""
    with contextlib.ExitStack() as stack:
        watch = stack.enter_context(MemoryWatch(settings.memory_limit_mb))
        for job in jobs:
            if not job.cost.error:
                worker = Worker(f"meter of {job.cost.id}", env=environment(settings.threads))
                job.worker = stack.enter_context(worker)
        group = _Group(jobs, settings, watch)
        try:
            group.prepare()
            group.run()
        except KeyboardInterrupt:
            group.conclude(interrupted=True)
            raise
        group.conclude()


def _stolen_s() -> float:
    """Seconds that the hypervisor has kept a core from us, all cores together; 0 where it does not tell."""
    return float(getattr(psutil.cpu_times(), "steal", 0.0))


class _Group:
    """Jobs that are alive together."""

    def __init__(self, jobs: Sequence[Job], settings: Settings, watch: MemoryWatch) -> None:
        self.jobs, self.settings, self.watch = jobs, settings, watch
        self.planned = FEWEST
        self.stolen = 0.0  # the hypervisor's share of the time of the rounds

    @property
    def well(self) -> list[Job]:
        found = [job for job in self.jobs if job.well]
        return [] if [job.cost.id for job in found] == [self.settings.beside] else found

    def prepare(self) -> None:
        """Start, load and warm up; plan how many rounds there are."""
        for job in self.jobs:  # all of them before the first is loaded, so that no start falls into a timing
            self._attempt(job, self._start)
        for job in self.well:
            self.settings.progress(f"loading {job}")
            self._attempt(job, self._load)
        if well := self.well:
            # What a round takes: of a slow model one run, and the one before it that warms the caches.
            seconds = sum(max(SLICE_S, 2 * job.run_ms / 1e3) for job in well)
            self.planned = max(FEWEST, min(MOST, round(len(well) * self.settings.min_seconds / seconds)))

    def run(self) -> None:
        """Rounds until as many as planned were undisturbed, at most REPEATS times as many."""
        done = 0
        before, started = _stolen_s(), time.monotonic()
        while (well := self.well) and done < REPEATS * self.planned:
            if done >= self.planned and self._undisturbed() >= self.planned:
                break
            if done % max(1, self.planned // _SAID) == 0:
                again = "" if done < self.planned else " (again, for rounds that other processes disturbed)"
                count = f"round {done % self.planned + 1} of {self.planned}"
                self.settings.progress(f"timing {len(well)} models, {count}{again}")
            # Each round begins with another model: none always follows the same one.
            first = done % len(well)
            for job in well[first:] + well[:first]:
                self._attempt(job, self._round)
            done += 1
            self.stolen = (_stolen_s() - before) / (time.monotonic() - started)

    def conclude(self, *, interrupted: bool = False) -> None:
        """Figures from the rounds that all models finished."""
        for job in self.well:
            if not interrupted:
                self._attempt(job, self._finish)
            elif job.worker is not None and job.worker.alive:  # Ctrl-C ended the one that was at work
                with contextlib.suppress(ZooError):
                    self._finish(job, job.worker)
        well = self.well
        done = min((len(job.rounds) for job in well), default=0)
        if done:
            self._sum_up(well, done, interrupted)
        else:
            for job in well:
                job.fail("stopped before the first round was over")

    def _sum_up(self, well: Sequence[Job], done: int, interrupted: bool) -> None:
        columns = [job.rounds[:done] for job in well]
        kept = least_disturbed(columns, min(self.planned, done))
        alone = undisturbed(columns)
        costs = summed_up([job.cost for job in well], columns, kept)
        for job, cost in zip(well, costs, strict=True):
            said = warning(cost, alone=alone, kept=len(kept), done=done, stolen=self.stolen)
            if interrupted:
                said = "; ".join(filter(None, [f"stopped after {done} of {self.planned} rounds", said]))
            job.cost = dataclasses.replace(cost, warning=said)

    def _undisturbed(self) -> int:
        return undisturbed([job.rounds for job in self.well])

    def _attempt(self, job: Job, step: Callable[[Job, Worker], None]) -> None:
        """Take one step with a job that is still well; a failure ends that job alone."""
        if job.worker is None or job.cost.error:
            return
        self.watch.watch(job.worker.pid)
        try:
            step(job, job.worker)
        except ZooError as error:
            job.fail(self.watch.reason(job.worker.pid) or str(error))
            job.worker.close()
        finally:
            self.watch.watch(None)

    # --- the steps
    def _call(self, worker: Worker, function: str, **arguments: Any) -> Any:
        return worker.call(f"zoo.cost.worker:{function}", arguments, timeout_s=self.settings.time_limit_s)

    def _start(self, job: Job, worker: Worker) -> None:
        version = self._call(worker, "start")
        job.cost = dataclasses.replace(job.cost, machine={**job.cost.machine, "onnxruntime": version})

    def _load(self, job: Job, worker: Worker) -> None:
        facts = self._call(
            worker,
            "load",
            path=str(job.path),
            threads=self.settings.threads,
            batch_size=job.cost.batch_size,
            sequence_length=self.settings.sequence_length,
            provider=self.settings.provider,
            inputs=list(self.settings.inputs),
            custom_ops=list(self.settings.custom_ops),
        )
        job.cost = dataclasses.replace(job.cost, **facts)
        warm = self._call(worker, "warm_up", seconds=self.settings.min_seconds)
        job.run_ms = warm["run_ms"]
        job.cost = dataclasses.replace(job.cost, first_ms=warm["first_ms"])

    def _round(self, job: Job, worker: Worker) -> None:
        seconds = self.settings.min_seconds / self.planned
        most = math.ceil(_AT_MOST_PER_S * max(1.0, self.settings.min_seconds) / self.planned)
        energy = self.settings.energy
        before = energy() if energy is not None else 0.0
        found = self._call(worker, "run_round", seconds=seconds, at_least=1, at_most=most)
        taken = energy() - before if energy is not None else None
        job.rounds.append(Round(found["times"], found["waits"], found["late_ms"], taken))

    def _finish(self, job: Job, worker: Worker) -> None:
        peak = self._call(worker, "peak_memory_mb")
        if over := self.watch.too_much(self._call(worker, "high_water_mb")):
            raise WorkerError(over)
        job.cost = dataclasses.replace(job.cost, peak_memory_mb=peak)
