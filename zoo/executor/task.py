"""A call that a framework's process is to make, what came of it, and the contract of those who see to it."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TypeAlias

from zoo.errors import InputError, ZooError
from zoo.process import JSON

Say: TypeAlias = Callable[[str], None]
THREAD_SETTINGS = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")


def thread_settings(threads: int | None) -> dict[str, str]:
    """Environment variables that give a framework so many threads; None: as many as there are cores."""
    if threads is None:
        return {"OMP_NUM_THREADS": str(os.cpu_count() or 1)}
    return dict.fromkeys(THREAD_SETTINGS, str(threads))


@dataclass(frozen=True)
class Task:
    """Call `target` ("package.module:function") as function(**arguments) in a process of `framework`.

    key: its name among the tasks of one `run`.  arguments: JSON.  timeout_s: for the call once it has begun.
    home: the folder that paths among the arguments lie in. On another machine it is another folder, with the same
    files in it.  reads: files and folders of it that the task needs, by their names there, if they exist; they stay as
    they are while the executor lives.  writes: files and folders of it that are to be here afterwards.
    here: it names files of this machine in another way, or for another reason is to run on it.
    """

    key: str
    framework: str
    target: str
    arguments: Mapping[str, JSON]
    timeout_s: float | None = None
    home: Path | None = None
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    here: bool = False


@dataclass(frozen=True)
class Outcome:
    """What came of a task: its result, JSON, or the error in its place.  here: whether this machine ran it."""

    task: Task
    result: JSON = None
    error: ZooError | None = None
    here: bool = True


class Executor(ABC):
    """Does tasks. Use as a context manager: at its end, however that comes, none of its processes is left.

    A task that raises, crashes, hangs or runs out of memory has an error for its outcome, and costs no other one.
    """

    @property
    @abstractmethod
    def shares_files(self) -> bool:
        """Whether all of its processes see this machine's files; else data have to lie in a task's home."""

    @abstractmethod
    def run(
        self, tasks: Sequence[Task], *, on_start: Callable[[Task], None] | None = None
    ) -> Iterator[Outcome]:
        """Outcomes as they come, in any order. Begins when the first is asked for; a caller that asks for no more
        (Ctrl-C) ends what is under way. on_start is called in the caller's thread. Raises WorkerError where the
        executor itself is lost, InputError for two tasks of one key.
        """

    def ask(self, task: Task) -> JSON:
        """The result of one task. Raises its error."""
        (outcome,) = self.run([task])
        if outcome.error is not None:
            raise outcome.error
        return outcome.result

    @abstractmethod
    def rest(self) -> None:
        """End idle processes, so that they hold no memory; the next task starts them again."""

    @abstractmethod
    def close(self) -> None:
        """End everything, what is under way too."""

    def __enter__(self) -> Executor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def check_keys(tasks: Sequence[Task]) -> None:
    """Raise InputError where two tasks have one key."""
    keys = [task.key for task in tasks]
    if twice := sorted({key for key in keys if keys.count(key) > 1}):
        raise InputError(f"two tasks are called {', '.join(twice)}: give each a key of its own")
