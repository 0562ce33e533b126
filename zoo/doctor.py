"""`zoo doctor`: what works on this machine, and for what does not, the cause and the cure.

Every framework is asked in a process of its own, with a time limit: an import that aborts, hangs or prints
is a line of the report. Nothing here uses the network: only the settings that decide about it are shown.
"""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any, Literal

import psutil

from zoo import registry, weights
from zoo.errors import FrameworkError, FrameworkMissingError, ZooError
from zoo.files import cache_dir

MARK = "ZOO-DOCTOR:"
TIMEOUT_S = 180.0
NETWORK_SETTINGS = (
    "HF_HUB_OFFLINE",
    "TRANSFORMERS_OFFLINE",
    "HF_ENDPOINT",
    "HF_HOME",
    "KERAS_HOME",
    "TORCH_HOME",
)
PAIR = "pip install --force-reinstall torch torchvision (both at once, from one index)"
# What an import says -> what mends it. First match wins.
CURES = (
    (r"torchvision::nms", f"torch and torchvision are not a matching pair: {PAIR}"),
    (r"cannot open shared object|DLL load failed|symbol not found|undefined symbol", "{reinstall}"),
    (r"compiled using NumPy 1|numpy\.core\.multiarray|_ARRAY_API", "built for NumPy 1: {reinstall}"),
    (r"Descriptors cannot be created|protobuf", "a protobuf of another version: {reinstall}"),
)
ORDER_TRIAL = "import tensorflow\nimport triton._C.libtriton"


@dataclass(frozen=True)
class Fact:
    """One line about the machine or the settings."""

    name: str
    state: str


@dataclass(frozen=True)
class FrameworkCheck:
    """Whether a framework's adapter can be imported here. versions: installed packages, by distribution."""

    name: str
    state: Literal["works", "missing", "broken"]
    versions: Mapping[str, str] = field(default_factory=dict)
    cause: str = ""
    cure: str = ""


@dataclass(frozen=True)
class Caution:
    """Something that works now and bites later."""

    what: str
    cure: str


@dataclass(frozen=True)
class Report:
    """All that the doctor found."""

    facts: tuple[Fact, ...]
    frameworks: tuple[FrameworkCheck, ...]
    warnings: tuple[Caution, ...]
    summary: str


def examine(*, timeout_s: float = TIMEOUT_S) -> Report:
    """Ask the machine and each framework; takes as long as the slowest imports, `timeout_s` each at most."""
    names = registry.frameworks()
    with ThreadPoolExecutor(max_workers=2) as pool:
        order = pool.submit(_tensorflow_before_triton, timeout_s)
        checks = tuple(pool.map(lambda name: check(name, timeout_s=timeout_s), names))
        warnings = tuple(w for w in (_pair_warning(), order.result(), _mirror_warning()) if w)
    return Report(_facts(), checks, warnings, _summary(checks))


def _summary(checks: tuple[FrameworkCheck, ...]) -> str:
    by_state = {s: [c.name for c in checks if c.state == s] for s in ("works", "missing", "broken")}
    text = "; ".join(f"{state}: {', '.join(names)}" for state, names in by_state.items() if names)
    if by_state["works"]:
        return text
    return f"{text or 'no framework'}. ONNX files can be used without any: zoo predict, bench, verify"


# --- frameworks
def check(name: str, *, timeout_s: float = TIMEOUT_S) -> FrameworkCheck:
    """Import one framework's adapter in a process of its own."""
    versions = _installed(name)
    try:
        done = _python("-m", "zoo.doctor", name, timeout_s=timeout_s)
    except subprocess.TimeoutExpired:
        cause = f"importing it took longer than {timeout_s:.0f} s"
        return FrameworkCheck(name, "broken", versions, cause, _reinstall(name))
    lines = [line for line in done.stdout.splitlines() if line.startswith(MARK)]
    if not lines:
        cause = _death(done)
        return FrameworkCheck(name, "broken", versions, cause, _cure(name, cause))
    answer: dict[str, Any] = json.loads(lines[-1].removeprefix(MARK))
    if answer["state"] == "works":
        return FrameworkCheck(name, "works", {**versions, **answer["versions"]})
    if answer["state"] == "missing":
        return FrameworkCheck(
            name, "missing", versions, answer["cause"], f"pip install 'backbone-zoo[{name}]'"
        )
    return FrameworkCheck(name, "broken", versions, answer["cause"], _cure(name, answer["cause"]))


def _answer(name: str) -> dict[str, Any]:
    """Runs in the process of its own: import the adapter and say how it went."""
    try:
        return {"state": "works", "versions": registry.adapter(name).versions()}
    except FrameworkMissingError as error:
        missing = getattr(error.__cause__, "name", None)
        return {"state": "missing", "cause": f"no module {missing!r}" if missing else str(error)}
    except FrameworkError as error:
        cause = error.__cause__
        return {"state": "broken", "cause": f"{type(cause).__name__}: {cause}" if cause else str(error)}
    except ZooError as error:
        return {"state": "broken", "cause": str(error)}


def _python(*arguments: str, timeout_s: float) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        errors="replace",
        timeout=timeout_s,
        stdin=subprocess.DEVNULL,
        check=False,
    )


def _death(done: subprocess.CompletedProcess[str]) -> str:
    """How a process ended that gave no answer: its signal or exit code, and its last words."""
    last = [line.strip() for line in done.stderr.splitlines() if line.strip()][-1:]
    words = f": {last[0][:300]}" if last else ""
    if done.returncode < 0:
        return f"importing it killed the process ({signal.Signals(-done.returncode).name}){words}"
    return f"importing it ended the process with exit code {done.returncode}{words}"


def _reinstall(name: str) -> str:
    return f"pip install --force-reinstall 'backbone-zoo[{name}]'"


def _cure(name: str, cause: str) -> str:
    for pattern, text in CURES:
        if re.search(pattern, cause):
            return text.format(reinstall=_reinstall(name))
    return f"read the cause; if it names nothing of yours: {_reinstall(name)}"


def _installed(name: str) -> dict[str, str]:
    """Versions of what the framework's extra names, of the packages that are here."""
    wanted = [
        re.split(r"[^\w.-]", text, maxsplit=1)[0]
        for text in metadata.requires("backbone-zoo") or ()
        if re.search(rf"extra\s*==\s*['\"]{re.escape(name)}['\"]", text)
    ]
    found = {package: _version(package) for package in wanted}
    return {package: version for package, version in found.items() if version}


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


# --- warnings
def _pair_warning() -> Caution | None:
    """torchvision pins the torch that it was built with; a pair that does not match fails at import."""
    torch, vision = _version("torch"), _version("torchvision")
    if not torch or not vision:
        return None
    pins = [re.search(r"^torch\s*\(?==\s*([\w.]+)", text) for text in metadata.requires("torchvision") or ()]
    pinned = next((pin[1] for pin in pins if pin), None)
    if pinned and pinned != torch.partition("+")[0]:
        what = f"torchvision {vision} was built for torch {pinned}, and torch {torch} is installed"
        return Caution(what, PAIR)
    built_torch, built_vision = torch.partition("+")[2], vision.partition("+")[2]
    if (built_torch == "cpu") != (built_vision == "cpu"):
        what = f"torch {torch} and torchvision {vision} are not from one index (one is a CPU build)"
        return Caution(what, PAIR)
    return None


def _tensorflow_before_triton(timeout_s: float) -> Caution | None:
    """Try the import order that aborts Python where both carry an LLVM of their own."""
    if not all(importlib.util.find_spec(name) for name in ("tensorflow", "triton")):
        return None
    try:
        done = _python("-c", ORDER_TRIAL, timeout_s=timeout_s)
    except subprocess.TimeoutExpired:
        return None
    if done.returncode >= 0:
        return None
    name = signal.Signals(-done.returncode).name
    return Caution(
        f"tensorflow imported first and torch's triton second aborts Python here (tried: {name})",
        "Backbone Zoo guards against it; in a script of your own import torch before tensorflow, or run "
        "them in two processes",
    )


def _mirror_warning() -> Caution | None:
    folder = weights.mirror()
    if folder is None or folder.is_dir():
        return None
    return Caution(f"{weights.MIRROR}={folder} is no folder", f"correct or unset {weights.MIRROR}")


# --- facts
def _facts() -> tuple[Fact, ...]:
    memory = psutil.virtual_memory()
    return (
        Fact("backbone-zoo", _version("backbone-zoo") or "not installed as a package"),
        Fact("python", f"{platform.python_version()} ({sys.executable})"),
        Fact("system", f"{platform.system()} {platform.machine()}"),
        Fact("cores", f"{_cores()} usable of {os.cpu_count()}"),
        Fact("memory", f"{memory.total / 1e9:.1f} GB, {memory.available / 1e9:.1f} GB free"),
        Fact("onnx", _versions("onnxruntime", "onnx", "numpy")),
        Fact("choosing", _versions("scikit-learn", "pandas", cure="pip install 'backbone-zoo[train]'")),
        Fact("cache", _cache()),
        Fact("mirror", _mirror()),
        Fact("network", _network()),
    )


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _versions(*packages: str, cure: str = "pip install backbone-zoo") -> str:
    found = {package: _version(package) for package in packages}
    here = [f"{package} {version}" for package, version in found.items() if version]
    gone = [package for package, version in found.items() if not version]
    return ", ".join(here) + (f"{'; ' if here else ''}missing: {', '.join(gone)} ({cure})" if gone else "")


def _cache() -> str:
    folder = cache_dir()
    nearest = next(p for p in (folder, *folder.parents) if p.exists())
    free = f"{shutil.disk_usage(nearest).free / 1e9:.1f} GB free"
    rights = "" if os.access(nearest, os.W_OK) else "; NOT writable: set ZOO_CACHE to a folder of yours"
    return f"{folder}, {free}{rights}"


def _mirror() -> str:
    folder = weights.mirror()
    if folder is None:
        return f"{weights.MIRROR} is not set"
    if not folder.is_dir():
        return f"{folder}, which is no folder"
    return f"{folder}, {sum(1 for _ in folder.iterdir())} entries"


def _network() -> str:
    """What decides where weights come from. Of a proxy only that it is set: it may hold a password."""
    said = [f"{name}={os.environ[name]}" for name in NETWORK_SETTINGS if os.environ.get(name)]
    said += [
        f"{n} is set" for n in ("HTTP_PROXY", "HTTPS_PROXY") if os.environ.get(n) or os.environ.get(n.lower())
    ]
    return f"not tried; {', '.join(said) if said else 'no offline setting, no proxy'}"


if __name__ == "__main__":
    sys.stdout.write(f"\n{MARK}{json.dumps(_answer(sys.argv[1]))}\n")
