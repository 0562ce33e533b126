"""The meter: every model in a process of its own, timed in interleaved rounds (A B C A B C).

Interleaving spreads what the machine does meanwhile over all models alike; what is left shows in `spread`.
A model that crashes, hangs or is no model costs its own row: a Cost with `error`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import psutil

from zoo.cards import Cost
from zoo.cost.given import libraries, parse_inputs
from zoo.cost.host import machine, usable_cores
from zoo.cost.percentiles import percentile
from zoo.errors import InputError, ModelFileError, ZooError
from zoo.files import sha256_file
from zoo.process import JSON, Worker

ROUNDS = 5
CALL_TIMEOUT_S = 300.0  # a load, a warm-up or a round that takes longer is a hang
_AT_LEAST = 2  # samples a round, so ten in all: what a median needs
_AT_MOST_PER_S = 200  # samples for each second of `min_seconds`: a cheap model is done sooner
_GROUP = 8  # models alive at once
_MEMORY_SHARE = 0.5  # of the free memory, for the models alive at once
_RUNTIME_BYTES = 100e6  # a process with onnxruntime in it
_FILE_FACTOR = 4  # a session's memory over its file's, prepacked weights and activations included

Progress: TypeAlias = Callable[[str], None]


@dataclass(frozen=True)
class _Settings:
    threads: int
    sequence_length: int
    min_seconds: float
    machine: Mapping[str, str]
    progress: Progress
    inputs: tuple[str, ...] = ()
    custom_ops: tuple[str, ...] = ()


@dataclass
class _Job:
    """One artefact at one batch size on its way to a Cost."""

    path: Path
    cost: Cost
    worker: Worker | None = None
    rounds: list[list[float]] = field(default_factory=list)

    def fail(self, error: ZooError) -> None:
        """Keep what is known and why there is no more."""
        self.cost = dataclasses.replace(self.cost, error=str(error))

    def __str__(self) -> str:
        return f"{self.cost.id} (batch {self.cost.batch_size})"


def measure(
    artefacts: Sequence[tuple[str, Path]],
    *,
    batch_sizes: Sequence[int] = (1,),
    threads: int | None = None,
    sequence_length: int = 128,
    min_seconds: float = 1.0,
    inputs: Sequence[str] = (),
    custom_ops: Sequence[Path | str] = (),
    progress: Progress | None = None,
    on_cost: Callable[[Cost], None] | None = None,
) -> list[Cost]:
    """Measure ONNX files, given as (id, path): one Cost for each file and batch size, in that order.

    threads: of each session, by default every usable core.  min_seconds: timed for each Cost; ten samples
    at least, 200 for each second at most.  on_cost gets each Cost as soon as it is final.
    inputs: "name:shape:dtype=value" of inputs whose meaning the file does not tell (see `zoo.cost.given`).
    custom_ops: libraries of operators; each model's process loads them, which runs their code.
    A file that cannot be measured is a Cost with `error`. Raises InputError for arguments that cannot be.
    """
    _check(artefacts, batch_sizes, sequence_length, min_seconds)
    settings = _Settings(
        threads=_threads(threads),
        sequence_length=sequence_length,
        min_seconds=min_seconds,
        machine=machine(),
        progress=progress or _silent,
        inputs=tuple(inputs),
        custom_ops=libraries(custom_ops),
    )
    parse_inputs(inputs)
    jobs = [
        _Job(Path(path), Cost(id=name, batch_size=size, threads=settings.threads, machine=settings.machine))
        for name, path in artefacts
        for size in batch_sizes
    ]
    _describe_files(jobs, settings)
    for size in batch_sizes:
        for group in _groups([job for job in jobs if job.cost.batch_size == size]):
            _measure_group(group, settings)
            for job in group if on_cost else ():
                on_cost(job.cost)  # type: ignore[misc]  # not None: the line above
    return [job.cost for job in jobs]


def _silent(text: str) -> None:
    """No progress wanted."""


def _check(
    artefacts: Sequence[tuple[str, Path]], batch_sizes: Sequence[int], length: int, seconds: float
) -> None:
    names = [name for name, _ in artefacts]
    twice = sorted({name for name in names if names.count(name) > 1})
    problems = [
        (not batch_sizes, "batch_sizes is empty: give at least one"),
        (any(size < 1 for size in batch_sizes), f"batch_sizes {list(batch_sizes)}: each must be 1 or more"),
        (len(set(batch_sizes)) < len(batch_sizes), f"batch_sizes {list(batch_sizes)}: one is there twice"),
        (length < 1, f"sequence_length {length}: must be 1 or more"),
        (not seconds > 0, f"min_seconds {seconds}: must be above 0"),
        (bool(twice), f"the same id twice: {', '.join(twice)}; give each file an id of its own"),
    ]
    if wrong := [text for bad, text in problems if bad]:
        raise InputError("this cannot be measured: " + "; ".join(wrong))


def _threads(threads: int | None) -> int:
    cores = usable_cores()
    if threads is None:
        return cores
    if not 1 <= threads <= cores:
        raise InputError(
            f"threads={threads}: this machine lets us use {cores} cores, and more threads than cores "
            f"measure the scheduler. Give 1 to {cores}."
        )
    return threads


# --- what needs no running: a process apart, so that a graph that crashes onnx costs a figure, not the program
def _describe_files(jobs: Sequence[_Job], settings: _Settings) -> None:
    """Set file_bytes, sha256 and the graph's figures, which stay None where they cannot be counted."""
    with contextlib.ExitStack() as stack:
        worker: Worker | None = None
        known: dict[Path, dict[str, JSON]] = {}
        for job in jobs:
            if job.path not in known:
                settings.progress(f"reading {job.cost.id}")
                if worker is None or not worker.alive:
                    worker = stack.enter_context(Worker("graph facts", env=_environment(settings.threads)))
                sizes = [other.cost.batch_size for other in jobs if other.path == job.path]
                known[job.path] = _describe_file(job.path, sizes, worker, settings)
            facts = {key: value for key, value in known[job.path].items() if key != "inputs"}
            live = facts.pop("activation_bytes", {}).get(str(job.cost.batch_size))
            job.cost = dataclasses.replace(job.cost, activation_bytes=live, **facts)
    _check_inputs(settings.inputs, known.values())


def _check_inputs(given: Sequence[str], known: Iterable[Mapping[str, JSON]]) -> None:
    """Raise InputError for a given input that none of the graphs takes."""
    graphs = [facts["inputs"] for facts in known if "inputs" in facts]
    names = list(dict.fromkeys(name for graph in graphs for name in graph))
    for name in parse_inputs(given) if graphs else ():
        if name not in names:
            raise InputError(f"--input {name}: no such input; there are {', '.join(names)}")


def _describe_file(
    path: Path, batch_sizes: Sequence[int], worker: Worker, settings: _Settings
) -> dict[str, JSON]:
    if not path.is_file():
        return {"error": f"{path} does not exist: export the model first, or correct the path."}
    facts: dict[str, JSON] = {"file_bytes": path.stat().st_size, "sha256": sha256_file(path)}
    arguments = {
        "path": str(path),
        "sequence_length": settings.sequence_length,
        "batch_sizes": list(batch_sizes),
        "inputs": list(settings.inputs),
        "custom_ops": bool(settings.custom_ops),
    }
    try:
        facts |= worker.call("zoo.cost.facts:describe", arguments, timeout_s=CALL_TIMEOUT_S)
    except ModelFileError as error:
        facts["error"] = str(error)
    except ZooError:
        facts["macs"] = None  # onnx itself failed on the graph; ONNX Runtime may still run it
    return facts


# --- what is timed
def _groups(jobs: Sequence[_Job]) -> Iterator[list[_Job]]:
    """Jobs that are alive together: at most _GROUP, evenly, and within a share of the free memory."""
    jobs = [job for job in jobs if not job.cost.error] + [job for job in jobs if job.cost.error]
    free = psutil.virtual_memory().available * _MEMORY_SHARE
    largest = math.ceil(len(jobs) / math.ceil(len(jobs) / _GROUP)) if jobs else 0
    group: list[_Job] = []
    taken = 0.0
    for job in jobs:
        need = _RUNTIME_BYTES + _FILE_FACTOR * (job.cost.file_bytes or 0)
        if group and (len(group) >= largest or taken + need > free):
            yield group
            group, taken = [], 0.0
        group.append(job)
        taken += need
    if group:
        yield group


def _measure_group(jobs: Sequence[_Job], settings: _Settings) -> None:
    with contextlib.ExitStack() as stack:
        for job in jobs:
            if not job.cost.error:
                worker = Worker(f"meter of {job.cost.id}", env=_environment(settings.threads))
                job.worker = stack.enter_context(worker)
        for job in jobs:  # all of them before the first is loaded, so that no start falls into a timing
            _attempt(job, _start)
        for job in jobs:
            settings.progress(f"loading {job}")
            _attempt(job, lambda job, worker: _load(job, worker, settings))
        for index in range(ROUNDS):
            well = sum(not job.cost.error for job in jobs)
            settings.progress(f"timing {well} models, round {index + 1} of {ROUNDS}")
            for job in jobs:
                _attempt(job, lambda job, worker: _round(job, worker, settings))
        for job in jobs:
            _attempt(job, _finish)


def _attempt(job: _Job, step: Callable[[_Job, Worker], None]) -> None:
    """Take one step with a job that is still well; a failure ends that job alone."""
    if job.worker is None or job.cost.error:
        return
    try:
        step(job, job.worker)
    except ZooError as error:
        job.fail(error)
        job.worker.close()


def _start(job: _Job, worker: Worker) -> None:
    version = worker.call("zoo.cost.worker:start", timeout_s=CALL_TIMEOUT_S)
    job.cost = dataclasses.replace(job.cost, machine={**job.cost.machine, "onnxruntime": version})


def _load(job: _Job, worker: Worker, settings: _Settings) -> None:
    arguments = {
        "path": str(job.path),
        "threads": settings.threads,
        "batch_size": job.cost.batch_size,
        "sequence_length": settings.sequence_length,
        "inputs": list(settings.inputs),
        "custom_ops": list(settings.custom_ops),
    }
    facts = worker.call("zoo.cost.worker:load", arguments, timeout_s=CALL_TIMEOUT_S)
    worker.call("zoo.cost.worker:warm_up", {"seconds": settings.min_seconds}, timeout_s=CALL_TIMEOUT_S)
    job.cost = dataclasses.replace(job.cost, **facts)


def _round(job: _Job, worker: Worker, settings: _Settings) -> None:
    most = math.ceil(_AT_MOST_PER_S * max(1.0, settings.min_seconds) / ROUNDS)
    arguments = {"seconds": settings.min_seconds / ROUNDS, "at_least": _AT_LEAST, "at_most": most}
    job.rounds.append(worker.call("zoo.cost.worker:run_round", arguments, timeout_s=CALL_TIMEOUT_S))


def _finish(job: _Job, worker: Worker) -> None:
    peak = worker.call("zoo.cost.worker:peak_memory_mb", timeout_s=CALL_TIMEOUT_S)
    job.cost = dataclasses.replace(summed_up(job.cost, job.rounds), peak_memory_mb=peak)


def summed_up(cost: Cost, rounds: Sequence[Sequence[float]]) -> Cost:
    """`cost` with the figures of the rounds' milliseconds; throughput is inputs over the time of all runs."""
    times = [time for times in rounds for time in times]
    medians = [statistics.median(times) for times in rounds]
    return dataclasses.replace(
        cost,
        latency_p50_ms=percentile(times, 50),
        latency_p90_ms=percentile(times, 90),
        latency_p99_ms=percentile(times, 99),
        throughput_per_s=cost.batch_size * len(times) / (sum(times) / 1e3),
        samples=len(times),
        spread=(max(medians) - min(medians)) / statistics.median(medians),
    )


def _environment(threads: int) -> dict[str, str]:
    """Thread pools that a session option does not reach."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    return dict.fromkeys(names, str(threads))
