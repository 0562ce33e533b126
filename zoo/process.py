"""Worker processes: a framework that crashes, hangs or prints takes one row with it, never the program.

A worker is `python -m zoo.process`, serving one call at a time as JSON lines over pipes (no pickle: nothing a
worker answers can run code here). Frameworks print to stdout from C++, so the child moves the reply pipe to
a private descriptor and points 1 at stderr before anything else is imported. Linux and macOS.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, BinaryIO, TypeAlias

from zoo import errors
from zoo.errors import WorkerError, ZooError

JSON: TypeAlias = Any
"""Whatever `json` writes and reads: None, bool, int, float, str, lists and dicts of them with str keys."""

_MARK = b'{"zoo": '  # every line of the protocol starts so; anything else in the pipe is not ours
_STDERR_LINES, _STDERR_BYTES = 12, 16_384
_POLL_S = 0.5  # how often a silent worker is looked at: a grandchild may keep its pipe open after it died
_CLOSE_S = 2.0


# --- the parent's side
class Worker:
    """A subprocess that calls functions by name. Use as a context manager; one call runs at a time.

    name: how messages call it.  env: variables set over this process's own (OMP_NUM_THREADS, ...).
    """

    def __init__(
        self, name: str, *, env: Mapping[str, str] | None = None, python: str = sys.executable
    ) -> None:
        self.name = name
        self._lock = threading.Lock()
        self._ended = ""  # why it is over; "" while it serves
        self._replies: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115  (unlinked; lives as long as the worker)
        try:
            self._process = subprocess.Popen(
                [python, "-P", "-X", "faulthandler", "-m", "zoo.process"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._stderr,
                env={**os.environ, **(env or {})},
                start_new_session=True,  # its own process group: one kill ends its children too
            )
        except OSError as error:
            self._stderr.close()
            raise WorkerError(
                f"worker {name!r} could not be started: {python}: {error.strerror or error}. "
                "Give the path of a Python that has backbone-zoo installed."
            ) from error
        assert self._process.stdin is not None and self._process.stdout is not None
        self._requests: BinaryIO = self._process.stdin  # type: ignore[assignment]  # IO[bytes] is what it is
        pipe: BinaryIO = self._process.stdout  # type: ignore[assignment]
        threading.Thread(target=_read_lines, args=(pipe, self._replies), daemon=True).start()

    @property
    def alive(self) -> bool:
        """Whether it can take another call."""
        return not self._ended and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The child's process id, which is also its process group's."""
        return self._process.pid

    def call(
        self,
        target: str,
        arguments: Mapping[str, JSON] | None = None,
        *,
        timeout_s: float | None = None,
        on_progress: Callable[[JSON], None] | None = None,
    ) -> JSON:
        """Call `target` ("package.module:function") as function(**arguments) in the worker.

        timeout_s is for the whole call. on_progress gets what the function gives to `report`.
        A ZooError of the worker is raised again with its class, message and attributes; any other exception,
        a crash and a timeout are a WorkerError.
        After a crash or timeout the worker is over, and so it is when this call is interrupted (Ctrl-C).
        """
        request = json.dumps({"target": target, "arguments": dict(arguments or {})})
        with self._lock:
            if self._ended:
                raise WorkerError(f"worker {self.name!r} is over: {self._ended}. Start another one.")
            try:
                self._send(request)
                reply = self._receive(target, timeout_s, on_progress)
            except BaseException as error:
                self._kill(str(error) or type(error).__name__)
                raise
        if "result" in reply:
            return reply["result"]
        raise rebuild(self.name, target, reply)

    def close(self) -> None:
        """End it. An idle worker leaves by itself when its input closes; a busy one is killed."""
        if not self._ended:
            with contextlib.suppress(OSError):
                self._requests.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_CLOSE_S)
            self._kill("it was closed")

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _send(self, request: str) -> None:
        try:
            self._requests.write(request.encode() + b"\n")
            self._requests.flush()
        except OSError:
            pass  # it died; `_receive` finds the pipe at its end and says how

    def _receive(
        self, target: str, timeout_s: float | None, on_progress: Callable[[JSON], None] | None
    ) -> dict[str, JSON]:
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            left = _POLL_S if deadline is None else min(_POLL_S, deadline - time.monotonic())
            try:
                line = self._replies.get(timeout=max(left, 0.001))
            except queue.Empty:
                if deadline is not None and time.monotonic() >= deadline:
                    raise WorkerError(self._hung(target, timeout_s)) from None
                if self._process.poll() is None or not self._replies.empty():
                    continue
                line = None
            if line is None:
                raise WorkerError(self._crashed(target))
            if not line.startswith(_MARK):
                continue  # printed by a sitecustomize, before the child could move its stdout away
            message: dict[str, JSON] = json.loads(line)
            if message["zoo"] == "answer":
                return message
            if on_progress is not None:
                on_progress(message["value"])

    def _kill(self, why: str) -> None:
        """End the whole process group and collect the child."""
        self._ended = self._ended or why.splitlines()[0]
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        with contextlib.suppress(OSError):
            self._requests.close()
        self._stderr.close()

    def _hung(self, target: str, timeout_s: float | None) -> str:
        return (
            f"worker {self.name!r} did not answer {target} within {timeout_s:g} s and was ended."
            + self._last_words()
        )

    def _crashed(self, target: str) -> str:
        try:
            code = self._process.wait(_CLOSE_S)
        except subprocess.TimeoutExpired:
            return f"worker {self.name!r} closed its pipe during {target} and was ended." + self._last_words()
        how = f"exited with code {code}"
        if code < 0:
            how = f"was killed by {signal.Signals(-code).name}"
            how += " (out of memory, or ended from outside)" if -code == signal.SIGKILL else ""
        return f"worker {self.name!r} {how} during {target}." + self._last_words()

    def _last_words(self) -> str:
        """The end of its stderr; from the fatal error on, where Python's faulthandler wrote one."""
        if self._stderr.closed:  # `close` came from another thread
            return ""
        # pread, because the child shares this file's offset: a seek here would move where it writes.
        handle = self._stderr.fileno()
        size = os.fstat(handle).st_size
        tail = os.pread(handle, _STDERR_BYTES, max(0, size - _STDERR_BYTES)).decode(errors="replace")
        lines = [line[:300] for line in tail.splitlines() if line.strip()]
        fatal = [i for i, line in enumerate(lines) if line.startswith("Fatal Python error")]
        kept = lines[fatal[-1] :][:_STDERR_LINES] if fatal else lines[-_STDERR_LINES:]
        return " Its last lines:\n  " + "\n  ".join(kept) if kept else " It wrote nothing."


def _read_lines(pipe: BinaryIO, lines: queue.SimpleQueue[bytes | None]) -> None:
    """Thread of the parent: what the child answers, then None at the end of the pipe."""
    with pipe:
        for line in pipe:
            lines.put(line)
    lines.put(None)


def rebuild(name: str, target: str, reply: Mapping[str, JSON]) -> ZooError:
    """The exception that `describe` described: a ZooError as the class it was, anything else as a WorkerError."""
    kind = getattr(errors, str(reply["zoo_class"]), None) if reply["zoo_class"] else None
    if not (isinstance(kind, type) and issubclass(kind, ZooError)):
        error = WorkerError(f"worker {name!r}: {target} raised {reply['type']}: {reply['message']}")
        error.add_note(str(reply["trace"]))
        return error
    # Not through __init__: each class of errors.py has a signature of its own.
    rebuilt: ZooError = kind.__new__(kind, reply["message"])
    rebuilt.__dict__.update({key: _tuples(value) for key, value in reply["attributes"].items()})
    rebuilt.add_note(f"raised in the worker {name!r} by {target}")
    return rebuilt


def _tuples(value: JSON) -> JSON:
    """JSON has lists only; the attributes of errors are tuples."""
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value


# --- the child's side
_out: BinaryIO | None = None  # the reply pipe; None in a process that is no worker
_out_lock = threading.Lock()


def report(value: JSON) -> None:
    """Send progress from inside a worker to the caller's `on_progress`; does nothing elsewhere."""
    if _out is not None:
        _write({"zoo": "progress", "value": value})


def _write(message: Mapping[str, JSON]) -> None:
    line = json.dumps(message).encode() + b"\n"
    assert _out is not None
    with _out_lock:
        _out.write(line)
        _out.flush()


def serve() -> None:
    """Answer calls until the parent closes its end; what `python -m zoo.process` runs."""
    global _out
    _out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    requests = os.fdopen(os.dup(0), "rb")
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    calls: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_watch, args=(requests, calls), daemon=True).start()
    while True:
        _write(_answer(json.loads(calls.get())))


def _watch(requests: BinaryIO, calls: queue.SimpleQueue[bytes]) -> None:
    """Thread of the child: hand on calls; when the parent is gone, take the whole process group along.

    Linux's PR_SET_PDEATHSIG would fire when the parent's thread that made the worker ends: too early.
    """
    for line in requests:
        calls.put(line)
    sys.stderr.flush()
    if os.getpgrp() == os.getpid():
        os.killpg(os.getpid(), signal.SIGKILL)
    os._exit(0)  # not started by Worker: no group of its own


def _answer(call: Mapping[str, JSON]) -> dict[str, JSON]:
    try:
        module, _, function = call["target"].partition(":")
        result = getattr(importlib.import_module(module), function)(**call["arguments"])
        json.dumps(result)
    except Exception as error:  # noqa: BLE001  (the border of the process: everything goes to the parent)
        return describe(error)
    return {"zoo": "answer", "result": result}


def describe(error: Exception) -> dict[str, JSON]:
    """The exception as JSON; of a ZooError also the nearest class that errors.py has, and its attributes."""
    known = [c.__name__ for c in type(error).__mro__ if getattr(errors, c.__name__, None) is c]
    return {
        "zoo": "answer",
        "zoo_class": known[0] if known else None,
        "type": type(error).__name__,
        "message": str(error),
        "attributes": {k: v for k, v in vars(error).items() if k != "__notes__" and _is_plain(v)},
        "trace": "".join(traceback.format_exception(error)),
    }


def _is_plain(value: object) -> bool:
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return False
    return not isinstance(value, dict) or all(isinstance(key, str) for key in value)


if __name__ == "__main__":
    # As the module zoo.process, not as __main__: functions that call `report` import the former.
    from zoo.process import serve as _serve

    _serve()
