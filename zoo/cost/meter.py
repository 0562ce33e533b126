"""The meter: what ONNX files cost, each in a process of its own, timed in interleaved rounds (`zoo.cost.rounds`).

A model that crashes, hangs, takes too much memory or is no model costs its own row: a Cost with `error`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import psutil

from zoo.cards import Cost
from zoo.cost.energy import counter
from zoo.cost.given import libraries, parse_inputs
from zoo.cost.host import machine, provider_named, usable_cores
from zoo.cost.rounds import Job, Progress, Settings, environment, measure_group
from zoo.cost.store import now
from zoo.cost.summary import with_ties
from zoo.errors import InputError, ModelFileError, ZooError
from zoo.files import sha256_file
from zoo.process import JSON, Worker

TIME_LIMIT_S = 300.0
"""A load, a warm-up or a round that takes longer is a hang."""
_GROUP = 8  # models alive at once
_MEMORY_SHARE = 0.5  # of the free memory, for the models alive at once
_RUNTIME_BYTES = 100e6  # a process with onnxruntime in it
_FILE_FACTOR = 4  # a session's memory over its file's, prepacked weights and activations included


def measure(
    artefacts: Sequence[tuple[str, Path]],
    *,
    batch_sizes: Sequence[int] = (1,),
    threads: int | None = None,
    sequence_length: int = 128,
    min_seconds: float = 1.0,
    provider: str = "cpu",
    memory_limit_mb: float | None = None,
    time_limit_s: float = TIME_LIMIT_S,
    inputs: Sequence[str] = (),
    custom_ops: Sequence[Path | str] = (),
    beside: str | None = None,
    progress: Progress | None = None,
    on_cost: Callable[[Cost], None] | None = None,
) -> list[Cost]:
    """Measure ONNX files, given as (id, path): one Cost for each file and batch size, in that order.

    threads: of each session, by default every usable core.  min_seconds: timed for each Cost; 12 runs at least, and
    up to three times as long where other processes disturb it.  provider: ONNX Runtime's, by its short name ("cpu",
    "cuda", "openvino").  memory_limit_mb: resident size of a model's process; time_limit_s: of a load or a round.
    on_cost gets each Cost as soon as it is final, on Ctrl-C also those that were being measured.
    inputs: "name:shape:dtype=value" of inputs whose meaning the file does not tell (see `zoo.cost.given`).
    custom_ops: libraries of operators; each model's process loads them, which runs their code.
    beside: the id of one that is timed only if another can be.
    A file that cannot be measured is a Cost with `error`. Raises InputError for arguments that cannot be.
    """
    _check(artefacts, batch_sizes, sequence_length, min_seconds)
    _check_limits(memory_limit_mb, time_limit_s)
    full = provider_named(provider)
    settings = Settings(
        threads=_threads(threads), sequence_length=sequence_length, min_seconds=min_seconds, provider=full,
        energy=counter(full), memory_limit_mb=memory_limit_mb, time_limit_s=time_limit_s, machine=machine(full),
        progress=progress or _silent, inputs=tuple(inputs), custom_ops=libraries(custom_ops),
        beside=beside,
    )  # fmt: skip
    parse_inputs(inputs)
    jobs = _jobs(artefacts, batch_sizes, settings)
    _describe_files(jobs, settings)
    _measure_all(jobs, batch_sizes, settings, on_cost)
    return with_ties([job.cost for job in jobs])


def _measure_all(
    jobs: Sequence[Job],
    batch_sizes: Sequence[int],
    settings: Settings,
    on_cost: Callable[[Cost], None] | None,
) -> None:
    for size in batch_sizes:
        for group in _groups([job for job in jobs if job.cost.batch_size == size]):
            if all(job.cost.error or job.cost.id == settings.beside for job in group):
                _hand_out(group, on_cost)
                continue
            try:
                measure_group(group, settings)
            finally:
                _hand_out(group, on_cost)


def _jobs(artefacts: Sequence[tuple[str, Path]], batch_sizes: Sequence[int], settings: Settings) -> list[Job]:
    blank = Cost(
        id="",
        threads=settings.threads,
        machine=settings.machine,
        measured_at=now(),
    )
    return [
        Job(Path(path), dataclasses.replace(blank, id=name, batch_size=size))
        for name, path in artefacts
        for size in batch_sizes
    ]


def _hand_out(group: Sequence[Job], on_cost: Callable[[Cost], None] | None) -> None:
    """Give what is final to on_cost: after Ctrl-C, what has figures or failed by itself."""
    for cost in with_ties([job.cost for job in group]):
        if on_cost is not None and (cost.error or cost.samples):
            on_cost(cost)


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


def _check_limits(memory_limit_mb: float | None, time_limit_s: float) -> None:
    if memory_limit_mb is not None and not memory_limit_mb > 0:
        raise InputError(f"memory_limit_mb {memory_limit_mb}: must be above 0, or None for no limit")
    if not time_limit_s > 0:
        raise InputError(f"time_limit_s {time_limit_s}: must be above 0")


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
def _describe_files(jobs: Sequence[Job], settings: Settings) -> None:
    """Set file_bytes, sha256 and the graph's figures, which stay None where they cannot be counted."""
    with contextlib.ExitStack() as stack:
        worker: Worker | None = None
        known: dict[Path, dict[str, JSON]] = {}
        for job in jobs:
            if job.path not in known:
                settings.progress(f"reading {job.cost.id}")
                if worker is None or not worker.alive:
                    worker = stack.enter_context(Worker("graph facts", env=environment(settings.threads)))
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
    path: Path, batch_sizes: Sequence[int], worker: Worker, settings: Settings
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
        facts |= worker.call("zoo.cost.facts:describe", arguments, timeout_s=settings.time_limit_s)
    except ModelFileError as error:
        facts["error"] = str(error)
    except ZooError:
        facts["macs"] = None  # onnx itself failed on the graph; ONNX Runtime may still run it
    return facts


# --- what is timed
def _groups(jobs: Sequence[Job]) -> Iterator[list[Job]]:
    """Jobs that are alive together: at most _GROUP, evenly, and within a share of the free memory."""
    jobs = [job for job in jobs if not job.cost.error] + [job for job in jobs if job.cost.error]
    free = psutil.virtual_memory().available * _MEMORY_SHARE
    largest = math.ceil(len(jobs) / math.ceil(len(jobs) / _GROUP)) if jobs else 0
    group: list[Job] = []
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
