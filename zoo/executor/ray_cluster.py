"""Tasks on a Ray cluster: `--ray ADDRESS`.

What travels is content: a task's files go through Ray's object store, named by digest, and those that it writes come
back, so that no disk has to be shared. On each machine the task is called as it would be here; see
`zoo.executor.ray_node`.
A task whose Ray process or machine dies is done again elsewhere.
"""

from __future__ import annotations

import contextlib
import queue
import socket
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import TypeAlias

from zoo.errors import (
    FrameworkError,
    FrameworkMissingError,
    InputError,
    UnknownModelError,
    WorkerError,
    ZooError,
)
from zoo.executor import ray_node
from zoo.executor.local import LocalExecutor
from zoo.executor.task import Executor, Outcome, Say, Task, check_keys
from zoo.process import JSON, Worker, rebuild

KNOCK_S, CONNECT_S = 5.0, 60.0
"""An address that nobody answers at, and a cluster that does not take us in, are told after so long."""
_DRIVER = "zoo.executor.ray_driver"
_Event: TypeAlias = Mapping[str, JSON] | BaseException | None  # of the driver; how it failed; it is done


@dataclass
class RayExecutor(Executor):
    """Runs tasks on the cluster at `address`: "auto", "host:6379" (this machine is one of its own), "ray://host:10001".

    Every machine has to have this version of Backbone Zoo, and the frameworks of its tasks. env: variables of the
    workers.  say: is told of machines lost and tasks done again. Raises FrameworkMissingError, InputError.
    """

    address: str
    env: Mapping[str, str] = field(default_factory=dict)
    say: Say | None = None
    _driver: Worker | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        _knock(self.address)
        if find_spec("ray") is None:
            raise FrameworkMissingError("--ray needs Ray: pip install 'backbone-zoo[ray]'")
        self._here = LocalExecutor(self.env)
        self._connected()

    @property
    def shares_files(self) -> bool:
        return False

    def run(
        self, tasks: Sequence[Task], *, on_start: Callable[[Task], None] | None = None
    ) -> Iterator[Outcome]:
        check_keys(tasks)
        yield from self._away([task for task in tasks if not task.here], on_start)
        yield from self._here.run([task for task in tasks if task.here], on_start=on_start)

    def rest(self) -> None:
        self._here.rest()  # Ray keeps its own processes as long as it sees fit

    def close(self) -> None:
        self._here.close()
        if self._driver is not None:
            self._driver.close()
            self._driver = None

    def _connected(self) -> Worker:
        """The process that talks to the cluster; another one where a run was left before its end."""
        if self._driver is not None and self._driver.alive:
            return self._driver
        self.close()
        driver = Worker("ray")
        arguments = {"address": self.address, "env": dict(self.env), "threads": self._threads()}
        try:
            found = driver.call(f"{_DRIVER}:connect", arguments, timeout_s=CONNECT_S)
            check_machines(found["machines"], ray_node.facts())
        except WorkerError as error:
            driver.close()
            raise InputError(f"{_unreachable(self.address)}: {str(error).splitlines()[0]}") from error
        except BaseException:
            driver.close()
            raise
        self._driver = driver
        self._tell(f"Ray: {found['workers']} tasks at once on {len(found['machines'])} machines")
        return driver

    def _threads(self) -> int:
        return int(self.env.get("OMP_NUM_THREADS", "1"))

    def _tell(self, text: str) -> None:
        if self.say is not None:
            self.say(text)

    def _away(self, tasks: Sequence[Task], on_start: Callable[[Task], None] | None) -> Iterator[Outcome]:
        if not tasks:
            return
        driver, left = self._connected(), {task.key: task for task in tasks}
        events: queue.SimpleQueue[_Event] = queue.SimpleQueue()
        thread = threading.Thread(target=_drive, args=(driver, tasks, events), daemon=True)
        thread.start()
        try:
            while left:
                event = events.get()
                if not isinstance(event, Mapping):
                    raise event or WorkerError("the process that talks to Ray ended before its tasks")
                task = left[event["key"]]
                if event["event"] == "end":
                    del left[task.key]
                    yield _outcome(task, event)
                elif event["event"] == "again":
                    self._tell(f"{task.key} again, attempt {event['attempt']}: {event['why']}")
                elif on_start is not None:
                    on_start(task)
        finally:
            if left:  # the caller has left, or the cluster is lost
                driver.close()
            thread.join()


def check_machines(machines: Sequence[Mapping[str, JSON]], own: Mapping[str, JSON]) -> None:
    """Raise InputError for another Backbone Zoo than one's own, warn of other packages; see `ray_node.facts`."""
    for machine in machines:
        if machine["zoo"] != own["zoo"]:
            raise InputError(
                f"{machine['host']} of the Ray cluster has Backbone Zoo {machine['zoo']}, this machine "
                f"{own['zoo']}: install the same version on both"
            )
        there, here = machine["packages"], own["packages"]
        other = [f"{n} {there[n]} (here {here[n]})" for n in here if n in there and there[n] != here[n]]
        if other:
            warnings.warn(f"{machine['host']} has {', '.join(other)}: results may differ", stacklevel=2)


def _drive(driver: Worker, tasks: Sequence[Task], events: queue.SimpleQueue[_Event]) -> None:
    """Thread: have the driver do them, its reports into the queue."""
    try:
        driver.call(f"{_DRIVER}:run", {"tasks": [_plain(task) for task in tasks]}, on_progress=events.put)
        events.put(None)
    except BaseException as error:  # noqa: BLE001 - handed on to the caller's thread
        events.put(error)


def _plain(task: Task) -> dict[str, JSON]:
    return {
        "key": task.key,
        "framework": task.framework,
        "target": task.target,
        "arguments": dict(task.arguments),
        "timeout_s": task.timeout_s,
        "home": None if task.home is None else str(task.home),
        "reads": list(task.reads),
        "writes": list(task.writes),
    }


def _outcome(task: Task, event: Mapping[str, JSON]) -> Outcome:
    if "result" in event:
        return Outcome(task, event["result"], here=False)
    error: ZooError = rebuild(task.framework, task.target, event)
    if isinstance(error, FrameworkError | UnknownModelError):  # the reader would look for it here
        error.args = (f"{error} (on {event.get('where', 'a machine')} of the Ray cluster)", *error.args[1:])
    return Outcome(task, error=error, here=False)


def _unreachable(address: str) -> str:
    return (
        f"no Ray cluster answers at {address}. Start one (ray start --head), join it (ray start --address=HOST:6379), "
        "or correct the address"
    )


def _knock(address: str) -> None:
    """Raise InputError where nothing listens at host:port; Ray itself tries for half a minute."""
    if address in ("auto", "local"):
        if address == "local":
            raise InputError("--ray local: Ray would start on this machine only; leave --ray out for that")
        return
    place = address.removeprefix("ray://")
    host, colon, port = place.rpartition(":")
    if not colon or not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise InputError(f"--ray {address}: write auto, HOST:PORT (such as 10.0.0.5:6379) or ray://HOST:PORT")
    try:
        with contextlib.closing(socket.create_connection((host.strip("[]"), int(port)), timeout=KNOCK_S)):
            pass
    except OSError as error:
        raise InputError(f"{_unreachable(address)} ({error.strerror or error})") from error
