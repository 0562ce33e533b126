"""What Linux tells of this process's threads: how long they waited for a core, and whether they are still at it.

Standard library only: the meter's child imports it. Elsewhere nothing is told, and waits are 0.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator, Sequence
from io import FileIO
from pathlib import Path

_TASKS = Path("/proc/self/task")
_SETTLE_S, _LOOK_S = 0.25, 0.001
_TWICE_S = 3e-5  # between two looks at a thread's clock: many times what the clock resolves


@contextlib.contextmanager
def waits() -> Iterator[Waits]:
    """Of the threads that there are now."""
    with contextlib.ExitStack() as stack:
        yield Waits([stack.enter_context(file) for file in _opened(_schedules())])


class Waits:
    """Open files that say how long each thread has waited for a core."""

    def __init__(self, files: Sequence[FileIO]) -> None:
        self._files = files

    def total_ms(self) -> float:
        """What the threads together have waited so far, a wait counting when it is over; one that has ended counts no
        more. The file: ns on a core, ns waiting in the queue (Documentation/scheduler/sched-stats).
        """
        total = 0
        for file in self._files:
            with contextlib.suppress(OSError):
                total += int(os.pread(file.fileno(), 64, 0).split()[1])
        return total / 1e6


def pending() -> bool:
    """Whether another thread of this process waits for a core now: it is ready, and its clock stands."""
    ready = [int(path.parent.name) for path in _TASKS.glob("*/stat") if _ready(path)]
    first = {thread: _clock_ns(thread) for thread in ready}
    end = time.perf_counter() + _TWICE_S
    while time.perf_counter() < end:
        pass
    return any(before is not None and _clock_ns(thread) == before for thread, before in first.items())


def settle() -> None:
    """Wait until the other threads sleep: after a run ONNX Runtime's spin for tens of milliseconds, on cores that the
    next model is timed on. Where the system does not tell, for as long as they may.
    """
    states = sorted(_TASKS.glob("*/stat"))
    deadline = time.perf_counter() + _SETTLE_S
    while time.perf_counter() < deadline:
        time.sleep(_LOOK_S)
        if states and not any(map(_ready, states)):
            return


def _ready(state: Path) -> bool:
    """Whether a thread other than this one runs or waits for a core (R in proc_pid_stat(5))."""
    if state.parent.name == str(threading.get_native_id()):
        return False
    try:
        return state.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[0] == "R"
    except (FileNotFoundError, ProcessLookupError):
        return False


def _clock_ns(thread: int) -> int | None:
    """Time that a thread spent on a core, to the nanosecond; None where it has ended.

    The clock of a thread by its number (CPUCLOCK_PERTHREAD | CPUCLOCK_SCHED of the kernel's posix-timers.h);
    pthread_getcpuclockid wants a handle of pthread's, which we have of our own threads only.
    """
    try:
        return time.clock_gettime_ns((~thread << 3) | 6)
    except (OSError, OverflowError):
        return None


def _schedules() -> list[Path]:
    return sorted(_TASKS.glob("*/schedstat"))


def _opened(paths: Sequence[Path]) -> Iterator[FileIO]:
    """Those of threads that still live: one may have ended since it was listed."""
    for path in paths:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            yield path.open("rb", buffering=0)
