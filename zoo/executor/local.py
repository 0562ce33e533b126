"""Tasks on this machine: a worker process a framework, the frameworks side by side."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeAlias

from zoo.errors import WorkerError, ZooError
from zoo.executor.task import Executor, Outcome, Task, check_keys
from zoo.process import Worker

_Event: TypeAlias = Task | Outcome | BaseException  # a task began; it ended; a thread of ours failed


@dataclass
class _Stop:
    """Told to the threads of one `run` whose caller has left."""

    on: bool = False


@dataclass
class LocalExecutor(Executor):
    """Runs tasks in worker processes here. Those of one framework come one after another in one process, which stays
    for the next `run`, and is started again after a crash.

    env: variables of the workers.  at_most: processes that work at once; None: one a framework.
    """

    env: Mapping[str, str] = field(default_factory=dict)
    at_most: int | None = None
    _workers: dict[str, Worker] = field(default_factory=dict, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)

    @property
    def shares_files(self) -> bool:
        return True

    def run(
        self, tasks: Sequence[Task], *, on_start: Callable[[Task], None] | None = None
    ) -> Iterator[Outcome]:
        check_keys(tasks)
        lanes: dict[str, list[Task]] = {}
        for task in tasks:
            lanes.setdefault(task.framework, []).append(task)
        events: queue.SimpleQueue[_Event] = queue.SimpleQueue()
        stop, left = _Stop(), len(tasks)
        width = min(len(lanes), self.at_most or len(lanes))
        with ThreadPoolExecutor(max_workers=max(1, width)) as pool:
            for todo in lanes.values():
                pool.submit(self._lane, todo, events, stop)
            try:
                while left:
                    event = events.get()
                    if isinstance(event, Outcome):
                        left -= 1
                        yield event
                    elif isinstance(event, BaseException):
                        raise event
                    elif on_start is not None:
                        on_start(event)
            finally:
                if left:  # the caller has left: nobody waits for an answer
                    self._end(stop)

    def rest(self) -> None:
        self._end(_Stop())

    def close(self) -> None:
        self._end(_Stop())

    def _end(self, stop: _Stop) -> None:
        with self._lock:
            stop.on = True
            ended, self._workers = self._workers, {}
        for worker in ended.values():
            worker.close()

    def _lane(self, tasks: Sequence[Task], events: queue.SimpleQueue[_Event], stop: _Stop) -> None:
        """Thread: one framework's tasks in turn."""
        try:
            for task in tasks:
                if stop.on:
                    return
                events.put(task)
                events.put(self._outcome(task, stop))
        except BaseException as error:  # noqa: BLE001 - handed on to the caller's thread
            events.put(error)

    def _outcome(self, task: Task, stop: _Stop) -> Outcome:
        try:
            worker = self._worker(task.framework, stop)
            return Outcome(task, worker.call(task.target, task.arguments, timeout_s=task.timeout_s))
        except ZooError as error:
            return Outcome(task, error=error)

    def _worker(self, framework: str, stop: _Stop) -> Worker:
        with self._lock:
            if stop.on:
                raise WorkerError(f"the tasks of {framework} were ended")
            found = self._workers.get(framework)
            if found is not None and not found.alive:
                found.close()
                found = None
            if found is None:
                found = self._workers[framework] = Worker(framework, env=self.env)
            return found
