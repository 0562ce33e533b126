"""Worker processes under every fault we know of: each ends in one clear error and leaves nothing running."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from zoo import process
from zoo.errors import AmbiguousModelError, BadFilesError, ModelFileError, NothingFitsError, WorkerError
from zoo.process import Worker

CHILD = '''
import os, signal, subprocess, sys, threading, time
from zoo.errors import *
from zoo.process import report

class OwnError(ModelFileError):
    """Of an adapter: errors.py has only its parent."""

def add(a, b): return a + b
def echo(value): return value
def environment(name): return os.environ.get(name)
def segfault(): os.kill(os.getpid(), signal.SIGSEGV)
def real_segfault():
    import ctypes
    ctypes.string_at(0)
def leave(code):
    print("going now", file=sys.stderr, flush=True)
    os._exit(code)
def hang(): time.sleep(600)
def hang_with_child():
    child = subprocess.Popen(["sleep", "600"])
    report(child.pid)
    time.sleep(600)
def crash_with_child():
    child = subprocess.Popen(["sleep", "600"])
    report(child.pid)
    time.sleep(0.2)
    os._exit(3)
def noise():
    print('{"zoo": "answer", "result": "forged"}')
    sys.stdout.flush()
    os.write(1, b"from C++ \\xff\\n" * 1000)
    subprocess.run(["echo", "from a grandchild"])
    return "clean"
def steps(n):
    for i in range(n): report({"step": i})
    return n
def ask(): return input()
def bad_files(): raise BadFilesError("two bad files", [("a.gif", "no image"), ("b.jpg", "empty")])
def own(): raise OwnError("not a model of ours")
def nothing(): raise NothingFitsError("nothing fits", limit="size_mb", nearest="tf:x")
def ambiguous(): raise AmbiguousModelError("which?", ["a:x", "b:x"])
def other(): raise ValueError("odd number 7")
def no_json(): return {1, 2}
def leave_python(): sys.exit(4)
'''


@pytest.fixture(scope="module")
def env(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("child")
    (folder / "faulty.py").write_text(CHILD, encoding="utf-8")
    return {"PYTHONPATH": os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)}


@pytest.fixture(scope="module")
def shared_worker(env: dict[str, str]) -> Iterator[Worker]:
    """For calls that leave the worker alive."""
    with Worker("shared", env=env) as worker:
        yield worker


@pytest.fixture
def worker(env: dict[str, str]) -> Iterator[Worker]:
    with Worker("tf", env=env) as worker:
        yield worker


def gone(pid: int) -> bool:
    """Whether a process ends within five seconds (a zombie that nobody collects counts as ended)."""
    for _ in range(100):
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.05)
    return False


# --- what works
def test_a_call_answers_and_the_worker_lives_on(shared_worker: Worker) -> None:
    assert shared_worker.call("faulty:add", {"a": 2, "b": 3}) == 5
    assert shared_worker.call("faulty:add", {"a": "x", "b": "ö\n"}) == "xö\n"
    assert shared_worker.alive


def test_values_larger_than_a_pipe_go_both_ways(shared_worker: Worker) -> None:
    value = {"rows": [float(i) for i in range(200_000)], "text": "ü" * 100_000, "none": None}
    assert shared_worker.call("faulty:echo", {"value": value}) == value


def test_the_environment_reaches_the_child(env: dict[str, str]) -> None:
    with Worker("pinned", env={**env, "OMP_NUM_THREADS": "1"}) as worker:
        assert worker.call("faulty:environment", {"name": "OMP_NUM_THREADS"}) == "1"
    assert os.environ.get("PYTHONPATH") != env["PYTHONPATH"]


def test_noise_on_stdout_cannot_corrupt_or_forge_an_answer(shared_worker: Worker) -> None:
    assert shared_worker.call("faulty:noise") == "clean"
    assert shared_worker.call("faulty:add", {"a": 1, "b": 1}) == 2


def test_progress_arrives_in_order_and_is_no_answer(shared_worker: Worker) -> None:
    seen: list[object] = []
    assert shared_worker.call("faulty:steps", {"n": 4}, on_progress=seen.append) == 4
    assert seen == [{"step": i} for i in range(4)]
    assert shared_worker.call("faulty:steps", {"n": 2}) == 2


def test_report_outside_a_worker_does_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    process.report({"step": 1})
    assert capfd.readouterr() == ("", "")


def test_the_childs_input_is_empty_not_the_protocol(shared_worker: Worker) -> None:
    with pytest.raises(WorkerError, match="EOFError"):
        shared_worker.call("faulty:ask")


# --- errors
def test_zoo_errors_come_back_as_they_were(shared_worker: Worker) -> None:
    with pytest.raises(BadFilesError, match="two bad files") as bad:
        shared_worker.call("faulty:bad_files")
    assert str(bad.value) == "two bad files"
    assert bad.value.files == (("a.gif", "no image"), ("b.jpg", "empty"))
    with pytest.raises(NothingFitsError, match="nothing fits") as nothing:
        shared_worker.call("faulty:nothing")
    assert (nothing.value.limit, nothing.value.nearest) == ("size_mb", "tf:x")
    with pytest.raises(AmbiguousModelError) as ambiguous:
        shared_worker.call("faulty:ambiguous")
    assert ambiguous.value.ids == ("a:x", "b:x")
    assert "raised in the worker 'shared'" in ambiguous.value.__notes__[0]


def test_an_adapters_own_subclass_comes_back_as_its_parent(shared_worker: Worker) -> None:
    with pytest.raises(ModelFileError, match="not a model of ours") as error:
        shared_worker.call("faulty:own")
    assert type(error.value) is ModelFileError


def test_other_exceptions_are_worker_errors_with_type_message_and_trace(shared_worker: Worker) -> None:
    with pytest.raises(WorkerError, match=r"'shared': faulty:other raised ValueError: odd number 7") as error:
        shared_worker.call("faulty:other")
    assert "in other" in error.value.__notes__[0]


@pytest.mark.parametrize(
    ("target", "text"),
    [
        ("faulty:no_json", "TypeError: Object of type set is not JSON serializable"),
        ("faulty:absent", "AttributeError: .*absent"),
        ("no_such_module:f", "ModuleNotFoundError: No module named 'no_such_module'"),
    ],
)
def test_a_call_that_cannot_be_made_says_why(shared_worker: Worker, target: str, text: str) -> None:
    with pytest.raises(WorkerError, match=text):
        shared_worker.call(target)
    assert shared_worker.alive


# --- faults
@pytest.mark.parametrize("target", ["faulty:segfault", "faulty:real_segfault"])
def test_a_segfault_names_worker_signal_and_python_line(worker: Worker, target: str) -> None:
    with pytest.raises(WorkerError, match=rf"'tf' was killed by SIGSEGV during {target}") as error:
        worker.call(target)
    assert "Segmentation fault" in str(error.value)
    assert f"in {target.partition(':')[2]}" in str(error.value)
    assert not worker.alive
    with pytest.raises(WorkerError, match=r"'tf' is over: .*SIGSEGV"):
        worker.call("faulty:add", {"a": 1, "b": 1})


def test_os_exit_shows_the_code_and_the_last_lines(worker: Worker) -> None:
    with pytest.raises(WorkerError, match=r"(?s)'tf' exited with code 7 during faulty:leave.*going now"):
        worker.call("faulty:leave", {"code": 7})


def test_sys_exit_is_a_crash_too(worker: Worker) -> None:
    with pytest.raises(WorkerError, match="exited with code 4"):
        worker.call("faulty:leave_python")


def test_killed_from_outside_while_idle(worker: Worker) -> None:
    worker.call("faulty:add", {"a": 1, "b": 1})
    os.kill(worker.pid, signal.SIGKILL)
    with pytest.raises(WorkerError, match=r"was killed by SIGKILL \(out of memory"):
        worker.call("faulty:add", {"a": 1, "b": 1})


def test_a_hang_ends_after_the_timeout_with_its_children(worker: Worker) -> None:
    children: list[int] = []
    started = time.monotonic()
    with pytest.raises(WorkerError, match=r"'tf' did not answer faulty:hang_with_child within 0\.8 s"):
        worker.call("faulty:hang_with_child", timeout_s=0.8, on_progress=children.append)
    assert time.monotonic() - started < 5
    assert gone(worker.pid) and gone(children[0])


def test_children_of_a_crashed_worker_end_too(worker: Worker) -> None:
    children: list[int] = []
    with pytest.raises(WorkerError, match="exited with code 3"):
        worker.call("faulty:crash_with_child", on_progress=children.append)
    assert gone(children[0])


def test_a_python_that_is_not_there() -> None:
    with pytest.raises(WorkerError, match="could not be started: /no/such/python: No such file"):
        Worker("torch", python="/no/such/python")


def test_a_python_without_zoo_shows_what_it_said(env: dict[str, str], tmp_path: Path) -> None:
    script = tmp_path / "python"
    script.write_text("#!/bin/sh\necho 'No module named zoo' >&2\nexit 1\n", encoding="utf-8")
    script.chmod(0o755)
    with (
        Worker("torch", python=str(script)) as worker,
        pytest.raises(WorkerError, match=r"(?s)code 1 .*No module named zoo"),
    ):
        worker.call("faulty:add", {"a": 1, "b": 1})


# --- the end
def test_close_ends_idle_and_busy_workers(env: dict[str, str]) -> None:
    idle = Worker("idle", env=env)
    idle.call("faulty:add", {"a": 1, "b": 1})
    idle.close()
    idle.close()
    assert not idle.alive and gone(idle.pid)
    busy = Worker("busy", env=env)
    failures: list[BaseException] = []

    def wait() -> None:
        try:
            busy.call("faulty:hang")
        except WorkerError as error:
            failures.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    time.sleep(0.3)
    busy.close()
    thread.join(5)
    assert failures and not thread.is_alive() and gone(busy.pid)


def test_an_interrupt_ends_the_worker_and_goes_on(worker: Worker) -> None:
    """Ctrl-C arrives while the parent waits. A shell starts background jobs with SIGINT ignored: not in here."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    timer = threading.Timer(0.5, signal.raise_signal, [signal.SIGINT])
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            worker.call("faulty:hang")
    finally:
        signal.signal(signal.SIGINT, before)
    assert not worker.alive and gone(worker.pid)


def test_no_worker_outlives_a_killed_parent(env: dict[str, str]) -> None:
    parent = textwrap.dedent("""
        import os
        from zoo.process import Worker
        worker = Worker("orphan")
        worker.call("faulty:hang_with_child", on_progress=lambda pid: print(worker.pid, pid, flush=True))
    """)
    with subprocess.Popen(
        [sys.executable, "-c", parent], env={**os.environ, **env}, stdout=subprocess.PIPE, text=True
    ) as started:
        assert started.stdout is not None
        pids = [int(text) for text in started.stdout.readline().split()]
        assert len(pids) == 2 and not any(gone_now(pid) for pid in pids)
        started.kill()
    assert all(gone(pid) for pid in pids)


def gone_now(pid: int) -> bool:
    return not psutil.pid_exists(pid)


def test_a_worker_outlives_the_thread_that_made_it(env: dict[str, str]) -> None:
    made: list[Worker] = []
    thread = threading.Thread(target=lambda: made.append(Worker("pool", env=env)))
    thread.start()
    thread.join()
    time.sleep(0.3)
    with made[0] as worker:
        assert worker.call("faulty:add", {"a": 1, "b": 1}) == 2
