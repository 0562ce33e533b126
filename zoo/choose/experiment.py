"""What `zoo.tune` and `zoo.curve` share: the data in their parts, where work lies, a worker that is asked for runs."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from zoo import registry
from zoo.cards import IMAGE_TASK
from zoo.choose import spool
from zoo.choose.candidates import names_files
from zoo.choose.journal import Journal
from zoo.choose.parts import TEST_FRACTION, DataOptions
from zoo.choose.subsets import limited
from zoo.data import Dataset, find_parts, split
from zoo.errors import DataError, InputError, TrainingError, WorkerError, ZooError
from zoo.executor import Executor, LocalExecutor, Task, thread_settings

WORK = "work"
LEAST = 4
"""Training examples of each class: fewer cannot be split into what is fitted and what validates."""
LOST = (WorkerError, TrainingError, InputError)
"""What ends one run: the next may go well."""
WRITTEN = {"features": ("features-train.npy", "features-judged.npy")}
"""What functions of `zoo.choose.trial` leave in the folder of the work for this process."""


@dataclass(frozen=True)
class Materials:
    """train: fitted on, validation carved out of it; judged: looked at by finished runs alone, to judge them."""

    train: Dataset
    judged: Dataset
    judged_on: str

    def facts(self) -> dict[str, Any]:
        """What is known of the data, for the question that a journal opens with."""
        return {
            "training data": self.train.fingerprint(),
            "judged data": self.judged.fingerprint(),
            "classes": list(self.train.classes),
        }


def open_materials(data: Any, test: Any, *, options: DataOptions, limit: int | None, seed: int) -> Materials:
    """Judged on `test`, or the data's validation part, or its test part, or else on a fifth held out by seed.

    limit: train on so many examples, each class in proportion. Raises DataError, InputError.
    """
    given = find_parts(data)
    train = options.open(given.to_train())
    held = find_parts(test).to_judge("test") if test is not None else given.validation
    held = given.test if held is None else held
    if held is not None:
        judged = options.open(held, train.classes)
        where = f"the {len(judged)} examples of {judged.source}"
    else:
        train, judged = split(train, TEST_FRACTION, seed=seed)
        where = f"{len(judged)} examples held out of {train.source}"
    train = train.subset(limited(train.targets, limit, seed=seed))
    _enough(train)
    return Materials(train, judged, where)


def check_kind(model: str, train: Dataset) -> None:
    """Raise InputError where the catalogue says that a model reads other data; a local folder is asked when loaded."""
    card = registry.card(registry.resolve(model))
    if card is not None and (kind := "image" if card.task == IMAGE_TASK else "text") != train.kind:
        raise InputError(f"{model} reads {kind}s, and {train.source} holds {train.kind}s")


def _enough(train: Dataset) -> None:
    counts = np.bincount(train.targets, minlength=len(train.classes))
    if (fewest := int(counts.min())) < LEAST:
        raise DataError(
            f"class {train.classes[int(counts.argmin())]!r} has {fewest} training examples, and {LEAST} are needed "
            "to fit on some and validate on others: add examples of it, or leave the class out"
        )


@contextlib.contextmanager
def workshop(folder: Path | None, materials: Materials, *, portable: bool = False) -> Iterator[Path]:
    """A folder with the data as a worker reads it, gone in the end; in `folder`, where a resumed run finds it.

    portable: for workers that do not see this machine's files.
    """
    with contextlib.ExitStack() as stack:
        if folder is None:
            work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="zoo-work-")))
        else:
            work = folder / WORK
            work.mkdir(parents=True, exist_ok=True)
        spool.write(materials.train, work, "train", portable=portable)
        spool.write(materials.judged, work, "judged", portable=portable)
        yield work
        shutil.rmtree(work, ignore_errors=True)  # not after a failure: its features serve a resumed run


def kept(journal: Journal, folder: Path | None) -> str:
    """What an interrupted experiment says."""
    if folder is None:
        return "nothing was kept, because no folder was given"
    return f"{len(journal)} finished steps are kept in {folder}: the same command with --resume goes on from there"


def trial(
    what: str,
    model: str,
    work: Path,
    arguments: Mapping[str, Any],
    *,
    key: str = "",
    writes: Sequence[str] = (),
    timeout_s: float | None = None,
) -> Task:
    """A call of `zoo.choose.trial` as a task: it reads the data that `workshop` wrote into `work`.

    key: its name; by default what it does, and with which model.  writes: names in `work` of what it is to leave.
    """
    common = {"model": model, "folder": str(work)}
    return Task(
        key or f"{what} {model}",
        registry.resolve(model).framework,
        f"zoo.choose.trial:{what}",
        {**common, **arguments},
        timeout_s,
        home=work,
        reads=spool.names(),
        writes=(*WRITTEN.get(what, ()), *writes),
        here=names_files(model),
    )


@dataclass
class Bench:
    """One model in its framework's worker process, which is started when it is first asked, and again after a crash.

    executor: who is asked; None: a process of this bench's own, of so many threads, which ends with it.
    """

    model: str
    work: Path
    threads: int | None = None
    executor: Executor | None = None
    _own: Executor | None = field(default=None, init=False)

    def ask(
        self, what: str, arguments: Mapping[str, Any] | None = None, *, writes: Sequence[str] = ()
    ) -> Any:
        """Call a function of `zoo.choose.trial`. Raises what it raises; WorkerError where the process ends."""
        task = trial(what, self.model, self.work, arguments or {}, writes=writes)
        return self._asked().ask(task)

    def _asked(self) -> Executor:
        if self.executor is not None:
            return self.executor
        if self._own is None:
            self._own = LocalExecutor({} if self.threads is None else thread_settings(self.threads))
        return self._own

    def run(
        self, arguments: Mapping[str, Any], *, what: str = "run", writes: Sequence[str] = ()
    ) -> dict[str, Any]:
        """A training run, or another of that shape; a crash is one that failed, and the next gets a new process."""
        try:
            result: dict[str, Any] = self.ask(what, arguments, writes=writes)
        except WorkerError as error:
            return failed(error)
        return result

    def close(self) -> None:
        """End the process."""
        if self._own is not None:
            self._own.close()

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def failed(error: ZooError) -> dict[str, Any]:
    """What a training run that was lost says, like one that diverged."""
    return {"failed": str(error).splitlines()[0], "seconds": 0.0}


def each(
    tasks: Mapping[str, Task],
    journal: Journal,
    executor: Executor,
    *,
    say: Callable[[str], None],
    sound: Callable[[str, Any], bool] = lambda key, result: True,
) -> dict[str, Any]:
    """Results of steps of an experiment by their keys in the journal: kept ones, and those of the executor.

    The executor does what is missing side by side, as far as it can; each is kept as it comes. One that ends in LOST is
    a run that failed.  say: gets the key of each that begins.  sound: of a key and the result that is kept, whether it
    stands. Raises what else a task raises.
    """
    todo = [replace(task, key=key) for key, task in tasks.items() if not _stands(journal, key, sound)]
    for outcome in executor.run(todo, on_start=lambda task: say(task.key)):
        if outcome.error is not None and not isinstance(outcome.error, LOST):
            raise outcome.error
        journal.put(outcome.task.key, outcome.result if outcome.error is None else failed(outcome.error))
    return {key: journal.get(key) for key in tasks}


def _stands(journal: Journal, key: str, sound: Callable[[str, Any], bool]) -> bool:
    found = journal.get(key)
    return found is not None and sound(key, found)
