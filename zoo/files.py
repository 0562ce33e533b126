"""Writing files so that nothing half-written ever stays: into a neighbour, then moved into place."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from zoo.errors import StorageError


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; on success move it to `path`, otherwise remove it.

    Raises StorageError (what, why, what to do) where the disk is full or not writable.
    """
    path = Path(path)
    temporary = Path()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=path.suffix, dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        temporary.chmod(0o666 & ~_umask())
        yield temporary
        temporary.replace(path)
    except StorageError as error:  # a writer inside was given the temporary path: the user knows the other
        raise StorageError(str(error).replace(str(temporary), str(path))) from error
    except OSError as error:
        raise storage_error(path, error) from error
    finally:
        if temporary.name:
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Like `atomic_file` for a folder; an existing folder at `path` is replaced only on success."""
    path = Path(path)
    temporary = Path()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
        temporary.chmod(0o777 & ~_umask())
        yield temporary
        _swap(temporary, path)
    except OSError as error:
        raise storage_error(path, error) from error
    finally:
        if temporary.name:
            shutil.rmtree(temporary, ignore_errors=True)


def _swap(new: Path, path: Path) -> None:
    """Move `new` to `path`; a folder that is there steps aside first and goes last."""
    old = Path(tempfile.mkdtemp(prefix=f".{path.name}.old.", dir=path.parent)) / "old"
    try:
        if path.exists():
            path.rename(old)
        new.rename(path)
    except OSError:
        if old.exists():
            old.rename(path)
        raise
    finally:
        shutil.rmtree(old.parent, ignore_errors=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def storage_error(path: Path, error: OSError) -> StorageError:
    """The one wording for a file that could not be written."""
    return StorageError(
        f"cannot write {path}: {error.strerror or error}. Nothing half-written was left. "
        "Free some space or choose another folder, then run the same command again."
    )


def sha256_file(path: Path) -> str:
    """Hex digest of a file's bytes."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cache_dir() -> Path:
    """Where exports and features are kept: $ZOO_CACHE, else the user's cache folder."""
    if folder := os.environ.get("ZOO_CACHE"):
        return Path(folder)
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "backbone-zoo"
