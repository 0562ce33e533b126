"""What a process of a Ray cluster does: put the task's files in place, have a worker process make the call, and give
back the answer with the files it left.

The call is made as it is on one machine, by `zoo.process.Worker`: a framework that crashes or hangs takes its own
process with it, not Ray's, and a process holds one framework. A worker process ends when its Ray process does.
"""

from __future__ import annotations

import atexit
import functools
import importlib.metadata
import os
import platform
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from zoo.cache import lock
from zoo.errors import ZooError
from zoo.executor import parcels
from zoo.executor.parcels import Entry
from zoo.process import JSON, Worker, describe

PREFIX = "zoo-ray-"
VERSIONS = (
    "torch",
    "torchvision",
    "timm",
    "transformers",
    "tensorflow",
    "keras",
    "keras-hub",
    "onnx",
    "numpy",
)
"""Distributions whose versions may change a result."""

_worker: tuple[str, Mapping[str, str], Worker] | None = None  # framework, variables, its process
_locked: list[IO[bytes]] = []  # open while this process lives


def facts() -> dict[str, JSON]:
    """Where this is, and which versions are here."""
    found = {}
    for name in VERSIONS:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    zoo = importlib.metadata.version("backbone-zoo")
    return {"host": platform.node(), "zoo": zoo, "python": platform.python_version(), "packages": found}


def perform(
    task: Mapping[str, JSON], parcel: Sequence[Entry], bundles: Sequence[Any], env: Mapping[str, str]
) -> tuple[JSON, parcels.Files]:
    """({"result": JSON} or what `zoo.process.describe` gives, and "where" that was; the files that the task wrote).
    Paths are as they are where the task came from.

    bundles: references to what `parcels.bundles` gave, fetched only where the parcel is not here yet.
    """
    home: Path | None = None
    there = Path(task["home"]) if task["home"] is not None else None
    files: parcels.Files = []
    try:
        home = _home(parcel, bundles)
        for name in task["writes"]:
            _remove(home / parcels.checked(name))
        arguments = task["arguments"] if there is None else parcels.moved(task["arguments"], there, home)
        answer = {
            "result": _started(task["framework"], env).call(
                task["target"], arguments, timeout_s=task["timeout_s"]
            )
        }
        files = parcels.pack(home, task["writes"])
    except ZooError as error:
        answer = describe(error)
    if there is not None and home is not None:
        answer = parcels.moved(answer, home, there)
    return {**answer, "where": platform.node()}, files


def _remove(path: Path) -> None:
    """What an earlier task left under that name."""
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def _started(framework: str, env: Mapping[str, str]) -> Worker:
    """This process's worker. One framework at a time: each takes a gigabyte."""
    global _worker
    if _worker is not None and (_worker[:2] != (framework, env) or not _worker[2].alive):
        _worker[2].close()
        _worker = None
    if _worker is None:
        _worker = (framework, env, Worker(framework, env=env))
    return _worker[2]


def _home(parcel: Sequence[Entry], bundles: Sequence[Any]) -> Path:
    """The folder of this process that holds a parcel, unpacked and checked when it first comes."""
    home = _root() / parcels.digest(parcel)[:32]
    if not home.is_dir():
        import ray

        new = home.with_suffix(".new")
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir()
        for bundle in bundles:
            parcels.unpack(ray.get(bundle), new)
        parcels.check(new, parcel)
        new.rename(home)
    return home


@functools.cache
def _root() -> Path:
    """A folder of this process's own. It is removed when the process ends, or, if it is killed, by the next one."""
    base = Path(tempfile.gettempdir())
    for left in base.glob(f"{PREFIX}{os.getuid()}-*.lock"):
        with left.open("rb") as file:
            if lock(file):
                shutil.rmtree(left.with_suffix(""), ignore_errors=True)
                left.unlink(missing_ok=True)
    root = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getuid()}-", dir=base))
    new = root / "lock"
    _locked.append(new.open("wb"))
    lock(_locked[0])
    new.rename(root.with_name(f"{root.name}.lock"))  # locked before another process can see it
    atexit.register(_leave, root)
    return root


def _leave(root: Path) -> None:
    if _worker is not None:
        _worker[2].close()
    shutil.rmtree(root, ignore_errors=True)
    root.with_name(f"{root.name}.lock").unlink(missing_ok=True)
