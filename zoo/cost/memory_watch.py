"""A limit on the memory of a meter's child: looked at from outside, and ended when it is over.

A limit of the system (RLIMIT_AS, RLIMIT_DATA) counts what is reserved, not what is used, and ONNX Runtime reserves more
than it uses: a model would be refused that fits.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from types import TracebackType

import psutil

_EVERY_S = 0.01  # what a process can take between two looks, some 30 MB, it is over the limit before it ends


class MemoryWatch:
    """Kills the watched process when its resident size is over `limit_mb` (10^6 bytes); None: no limit, no thread."""

    def __init__(self, limit_mb: float | None) -> None:
        self.limit_mb = limit_mb
        self._reasons: dict[int, str] = {}
        self._watched: psutil.Process | None = None
        self._over = threading.Event()
        self._lock = threading.Lock()

    def __enter__(self) -> MemoryWatch:
        if self.limit_mb is not None:
            threading.Thread(target=self._look, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()

    def watch(self, pid: int | None) -> None:
        """Look at that process from now on; None: at none. The others do nothing meanwhile."""
        if self.limit_mb is None:
            return
        with self._lock, contextlib.suppress(psutil.Error):
            self._watched = None
            self._watched = None if pid is None else psutil.Process(pid)

    def reason(self, pid: int) -> str | None:
        """Why that process was ended, where it was by this watch."""
        return self._reasons.get(pid)

    def too_much(self, used_mb: float) -> str | None:
        """The message where `used_mb`, a process's high-water mark, is over the limit, else None."""
        if self.limit_mb is None or used_mb <= self.limit_mb:
            return None
        return (
            f"its process took {used_mb:.0f} MB, over the memory limit of {self.limit_mb:g} MB, and was ended. "
            "The limit is for the whole process, ONNX Runtime included."
        )

    def _look(self) -> None:
        while not self._over.wait(_EVERY_S):
            with self._lock, contextlib.suppress(psutil.Error, ProcessLookupError):
                if self._watched is None:
                    continue
                pid = self._watched.pid
                if reason := self.too_much(self._watched.memory_info().rss / 1e6):
                    self._reasons.setdefault(pid, reason)
                    self._watched = None
                    os.kill(pid, signal.SIGKILL)
