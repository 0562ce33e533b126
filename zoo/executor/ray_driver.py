"""The process that talks to a Ray cluster for the one that asked: `RayExecutor` calls these functions in a worker.

Apart, because Ray ends the process that holds it where the cluster is lost, and can hang in joining one. When this
process ends, so do the cluster's processes that worked for it.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import (
    LocalRayletDiedError,
    NodeDiedError,
    ObjectLostError,
    OutOfMemoryError,
    RayError,
    RayTaskError,
    WorkerCrashedError,
)

from zoo.errors import InputError, WorkerError, ZooError
from zoo.executor import parcels, ray_node
from zoo.executor.parcels import Entry
from zoo.process import JSON, describe, report

ATTEMPTS = 3
"""Of a task whose Ray process or machine dies. A framework that crashes is the task's own fault: once."""
PATIENCE_S = 60.0
"""Without a machine that could work, and nothing under way: then the cluster counts as lost."""
_POLL_S = 0.5
_DIED = (WorkerCrashedError, NodeDiedError, ObjectLostError, OutOfMemoryError, LocalRayletDiedError)


@dataclass
class _Link:
    """threads: cores that a task takes.  sent: what lies in Ray's object store, by home and names."""

    threads: int
    env: Mapping[str, str]
    sent: dict[tuple[str, tuple[str, ...]], tuple[list[Entry], list[Any]]]


@dataclass(frozen=True)
class _Run:
    """One task on its way.  attempt: the how manieth, from 1."""

    task: Mapping[str, JSON]
    attempt: int


_link: _Link | None = None


def connect(address: str, env: Mapping[str, str], threads: int) -> dict[str, JSON]:
    """Join the cluster; facts of its machines (see `ray_node.facts`) and how many tasks it works on at once.

    Raises InputError: no cluster there, another version of Ray or Python, a machine without Backbone Zoo.
    """
    global _link
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError, RayError) as error:
        first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise InputError(f"cannot join the Ray cluster at {address}: {first}") from error
    alive = [node for node in ray.nodes() if node["Alive"]]
    cores = [int(node["Resources"].get("CPU", 0)) for node in alive]
    smallest = min((n for n in cores if n > 0), default=0)
    if smallest == 0:
        raise InputError(f"the Ray cluster at {address} has no CPU to work on: start its workers, ray start")
    _link = _Link(min(threads, smallest), env, {})
    return {"machines": _facts(alive), "workers": _slots()}


def _facts(alive: Sequence[Mapping[str, Any]]) -> list[JSON]:
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy as On

    ask = ray.remote(ray_node.facts)
    asked = {
        ask.options(num_cpus=0, scheduling_strategy=On(node["NodeID"], soft=False)).remote(): node[
            "NodeManagerAddress"
        ]
        for node in alive
        if node["Resources"].get("CPU", 0) > 0
    }
    found, lost = [], None
    for reference, host in asked.items():
        try:
            found.append(ray.get(reference))
        except RayTaskError as error:
            raise InputError(
                f"Backbone Zoo does not run on {host} of the Ray cluster ({error.cause}): install it in every "
                "machine's Python, with the frameworks of the candidates"
            ) from error
        except RayError as error:
            lost = InputError(f"{host} of the Ray cluster does not answer: {_first(error)}")
            lost.__cause__ = error
    if not found and lost is not None:  # of several machines one may leave while we ask
        raise lost
    return found


def _first(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _slots() -> int:
    """Tasks that the machines which live can work on together."""
    assert _link is not None
    cores = (int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"])
    return sum(n // _link.threads for n in cores)


def run(tasks: Sequence[Mapping[str, JSON]]) -> None:
    """Do the tasks, and tell of each when it starts, is tried again and ends: {"event", "key", ...} by `report`.

    Its files are in place when its end is told. Raises WorkerError where nothing is left of the cluster.
    """
    waiting = deque(_Run(task, 1) for task in tasks)
    under_way: dict[Any, _Run] = {}
    worked = time.monotonic()
    while waiting or under_way:
        slots = _slots()
        while waiting and len(under_way) < slots:
            one = waiting.popleft()
            if (reference := _submit(one)) is not None:
                under_way[reference] = one
        if under_way:
            worked = time.monotonic()
        elif waiting and time.monotonic() - worked > PATIENCE_S:
            raise WorkerError(
                f"no machine of the Ray cluster is left for {len(waiting)} tasks: start its workers again"
            )
        ready = _ready(list(under_way))
        for reference in ready:
            one = under_way.pop(reference)
            if _settle(one, reference):
                waiting.appendleft(dataclasses.replace(one, attempt=one.attempt + 1))


def _ready(references: list[Any]) -> list[Any]:
    if not references:
        time.sleep(_POLL_S)
        return []
    found: list[Any] = ray.wait(references, num_returns=1, timeout=_POLL_S)[0]
    return found


def _submit(one: _Run) -> Any:
    """A reference to what comes of it; None where its files cannot be read, which is told."""
    assert _link is not None
    task = one.task
    try:
        parcel, bundles = _parcel(task)
    except (ZooError, OSError) as error:
        wrong = (
            error
            if isinstance(error, ZooError)
            else InputError(f"cannot read what {task['key']} needs: {error}")
        )
        report({"event": "end", "key": task["key"], **describe(wrong)})
        return None
    if one.attempt == 1:
        report({"event": "start", "key": task["key"]})
    # Ray's own retries are not used: it would try a task that eats the memory for ever, and nobody would hear of it.
    options = {"num_cpus": _link.threads, "max_retries": 0, "name": f"zoo {task['key']}"}
    perform = ray.remote(ray_node.perform).options(**options)
    return perform.remote(dict(task), parcel, bundles, dict(_link.env))


def _parcel(task: Mapping[str, JSON]) -> tuple[list[Entry], list[Any]]:
    """Its files, and where they lie in Ray's object store: they are put there once."""
    assert _link is not None
    if task["home"] is None or not task["reads"]:
        return [], []
    key = (task["home"], tuple(task["reads"]))
    if key not in _link.sent:
        home = Path(task["home"])
        parcel = parcels.entries(home, task["reads"])
        _link.sent[key] = parcel, [ray.put(files) for files in parcels.bundles(home, parcel)]
    return _link.sent[key]


def _settle(one: _Run, reference: Any) -> bool:
    """Tell what came of a task; True where it has to be tried again."""
    key = one.task["key"]
    try:
        answer, files = ray.get(reference)
        if one.task["home"] is not None:
            parcels.unpack(files, Path(one.task["home"]), only=one.task["writes"])
    except _DIED as error:
        if again := one.attempt < ATTEMPTS:
            report({"event": "again", "key": key, "attempt": one.attempt + 1, "why": _first(error)})
        else:
            report({"event": "end", "key": key, **describe(_lost(key, error))})
        return again
    except ZooError as error:
        answer = describe(error)
    except RayError as error:
        answer = describe(WorkerError(f"{key} failed on the Ray cluster: {_first(error)}"))
    report({"event": "end", "key": key, **answer})
    return False


def _lost(key: str, error: BaseException) -> WorkerError:
    return WorkerError(
        f"the process or machine of the Ray cluster that worked on {key} died {ATTEMPTS} times: {_first(error)}"
    )
