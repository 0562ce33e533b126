"""Tasks on this machine: side by side, one process a framework, and each fault costs the task that has it."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from zoo.choose.experiment import each
from zoo.choose.journal import Journal
from zoo.errors import InputError, ModelFileError, StorageError, WorkerError
from zoo.executor import LocalExecutor, Outcome, Task

CHILD = '''
import os, pathlib, time
from zoo.choose.experiment import each
from zoo.choose.journal import Journal
from zoo.errors import ModelFileError, StorageError

def add(a, b): return a + b
def pid(): return os.getpid()
def variable(name): return os.environ.get(name)
def wait(path):
    """Until somebody else makes that file."""
    while not os.path.exists(path): time.sleep(0.01)
def make(path): pathlib.Path(path).touch()
def alone(path):
    """Fails where another is in here."""
    os.mkdir(path)
    time.sleep(0.2)
    os.rmdir(path)
def crash(): os._exit(3)
def eaten():
    """As the kernel ends who eats the memory."""
    os.kill(os.getpid(), 9)
def hang(path):
    pathlib.Path(path).write_text(str(os.getpid()))
    time.sleep(600)
def full(): raise StorageError("disk full")
def refuse(): raise ModelFileError("no model")
'''


@pytest.fixture(autouse=True)
def child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module `steps` that workers can call."""
    (tmp_path / "steps.py").write_text(CHILD, encoding="utf-8")
    old = os.environ.get("PYTHONPATH", "")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), old]).rstrip(os.pathsep))


@pytest.fixture
def executor() -> Iterator[LocalExecutor]:
    with LocalExecutor({"OMP_NUM_THREADS": "1"}) as made:
        yield made


def task(
    key: str, what: str, framework: str = "one", timeout_s: float | None = None, **arguments: object
) -> Task:
    return Task(key, framework, f"steps:{what}", arguments, timeout_s)


def by_key(outcomes: Iterator[Outcome]) -> dict[str, Outcome]:
    return {outcome.task.key: outcome for outcome in outcomes}


def ended(pid: int) -> bool:
    """Whether a process ends within five seconds (a zombie that nobody collects counts as ended)."""
    for _ in range(100):
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.05)
    return False


def test_outcomes_come_as_they_are_done_and_frameworks_work_side_by_side(
    executor: LocalExecutor, tmp_path: Path
) -> None:
    flag = str(tmp_path / "flag")
    tasks = [task("slow", "wait", "one", path=flag), task("quick", "add", "two", a=1, b=2),
             task("flag", "make", "two", path=flag)]  # fmt: skip
    begun: list[str] = []
    keys = [outcome.task.key for outcome in executor.run(tasks, on_start=lambda t: begun.append(t.key))]
    assert keys.index("quick") < keys.index("slow"), "one after another, slow would wait for ever"
    assert sorted(begun) == ["flag", "quick", "slow"]


def test_one_process_a_framework_serves_every_run_until_it_rests(executor: LocalExecutor) -> None:
    tasks = [task(key, "pid", framework) for key, framework in (("a", "one"), ("b", "one"), ("c", "two"))]
    first = {key: outcome.result for key, outcome in by_key(executor.run(tasks)).items()}
    assert first["a"] == first["b"] != first["c"]
    assert executor.ask(task("again", "pid")) == first["a"]
    executor.rest()
    assert all(ended(pid) for pid in first.values())
    assert executor.ask(task("later", "pid")) not in first.values()


def test_a_variable_reaches_the_workers(executor: LocalExecutor) -> None:
    assert executor.ask(task("it", "variable", name="OMP_NUM_THREADS")) == "1"


def test_at_most_so_many_at_once(tmp_path: Path) -> None:
    tasks = [task(f"{i}", "alone", f"framework {i}", path=str(tmp_path / "room")) for i in range(3)]
    with LocalExecutor(at_most=1) as executor:
        assert all(outcome.error is None for outcome in executor.run(tasks))
    with LocalExecutor() as executor:
        assert any(outcome.error is not None for outcome in executor.run(tasks)), "or the test sees nothing"


def test_each_fault_costs_its_own_task(executor: LocalExecutor, tmp_path: Path) -> None:
    tasks = [task("crash", "crash"), task("eaten", "eaten"), task("refuse", "refuse"),
             task("hang", "hang", timeout_s=0.5, path=str(tmp_path / "pid")),
             task("good", "add", a=1, b=2)]  # fmt: skip
    found = by_key(executor.run(tasks))
    assert found["good"].result == 3
    assert isinstance(found["refuse"].error, ModelFileError)
    for key, text in (
        ("crash", "'one' exited with code 3 during steps:crash"),
        ("eaten", "'one' was killed by SIGKILL (out of memory"),
        ("hang", "'one' did not answer steps:hang within 0.5 s"),
    ):
        assert isinstance(found[key].error, WorkerError)
        assert text in str(found[key].error)
    assert ended(int((tmp_path / "pid").read_text()))


def test_ask_raises_what_the_task_raised(executor: LocalExecutor) -> None:
    with pytest.raises(ModelFileError, match="no model"):
        executor.ask(task("it", "refuse"))


def test_a_process_killed_while_idle_is_replaced(executor: LocalExecutor) -> None:
    pid = executor.ask(task("a", "pid"))
    os.kill(pid, signal.SIGKILL)
    assert ended(pid)
    while executor._workers["one"].alive:  # its threads may end later than it does
        time.sleep(0.01)
    assert executor.ask(task("b", "pid")) != pid


def started(path: Path) -> int:
    while not path.exists() or not path.read_text():
        time.sleep(0.01)
    return int(path.read_text())


def test_a_caller_that_leaves_ends_what_is_under_way(executor: LocalExecutor, tmp_path: Path) -> None:
    tasks = [task("quick", "add", "two", a=1, b=1), task("hang", "hang", path=str(tmp_path / "pid")),
             task("never", "make", path=str(tmp_path / "never"))]  # fmt: skip
    outcomes = executor.run(tasks)
    assert next(outcomes).task.key == "quick"
    pid = started(tmp_path / "pid")
    outcomes.close()  # type: ignore[attr-defined]
    assert ended(pid) and not (tmp_path / "never").exists()
    assert executor.ask(task("after", "add", a=2, b=2)) == 4


def test_an_interrupt_ends_all_workers(executor: LocalExecutor, tmp_path: Path) -> None:
    """Ctrl-C arrives while the caller waits. A shell starts background jobs with SIGINT ignored: not in here."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    tasks = [task(f"{i}", "hang", f"framework {i}", path=str(tmp_path / f"{i}")) for i in range(2)]

    def interrupt() -> None:
        for i in range(2):
            started(tmp_path / f"{i}")
        main = threading.main_thread().ident
        assert main is not None
        signal.pthread_kill(main, signal.SIGINT)  # as a terminal's does: it wakes the thread that waits

    timer = threading.Thread(target=interrupt)
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt), executor:
            list(executor.run(tasks))
    finally:
        signal.signal(signal.SIGINT, before)
    timer.join()
    assert all(ended(started(tmp_path / f"{i}")) for i in range(2))


def test_steps_that_are_kept_are_not_done_again(executor: LocalExecutor, tmp_path: Path) -> None:
    journal, begun = Journal(), list[str]()
    asked = {"kept": task("", "crash"), "stale": task("", "add", a=1, b=1), "new": task("", "add", a=2, b=2)}
    journal.put("kept", 7)
    journal.put("stale", -1)
    found = each(asked, journal, executor, say=begun.append, sound=lambda key, result: result > 0)
    assert found == {"kept": 7, "stale": 2, "new": 4} and begun == ["stale", "new"]
    assert [journal.get(key) for key in asked] == [7, 2, 4]
    lost = each({"lost": task("", "crash")}, journal, executor, say=begun.append)["lost"]
    assert lost["failed"].startswith("worker 'one' exited with code 3") and lost["seconds"] == 0.0
    assert each({"no": task("", "refuse")}, journal, executor, say=begun.append)["no"]["failed"] == "no model"
    with pytest.raises(StorageError, match="disk full"):
        each({"wrong": task("", "full")}, journal, executor, say=begun.append)


def test_two_tasks_of_one_key_are_refused(executor: LocalExecutor) -> None:
    with pytest.raises(InputError, match="two tasks are called a"):
        list(executor.run([task("a", "pid"), task("a", "pid")]))


def test_the_executor_loads_no_ray() -> None:
    import zoo.executor  # noqa: F401

    assert "ray" not in sys.modules
