"""One run at a time in a folder: two would write each other's checkpoints away."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from zoo.errors import InputError
from zoo.files import storage_error

LOCK = ".lock"


@contextlib.contextmanager
def only_run_in(run_dir: Path | None) -> Iterator[None]:
    """Hold the folder's lock; the system lets it go when the process ends, however it ends.

    Raises InputError where another run holds it, StorageError where the folder cannot be written.
    """
    if run_dir is None:
        yield
        return
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        lock = FileLock(run_dir / LOCK).acquire(timeout=0)
    except Timeout as error:
        raise InputError(
            f"another run is training in {run_dir}: wait for its end, stop it, or choose another folder"
        ) from error
    except OSError as error:
        raise storage_error(run_dir / LOCK, error) from error
    with lock:
        yield
