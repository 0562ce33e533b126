"""The machine a figure was measured on: a cost without it means nothing."""

from __future__ import annotations

import contextlib
import importlib.metadata
import math
import os
import platform
import subprocess
from pathlib import Path

import psutil

from zoo.errors import InputError

PROVIDER = "CPUExecutionProvider"
_PACKAGES = {
    "cuda": "pip install onnxruntime-gpu",
    "tensorrt": "pip install onnxruntime-gpu",
    "openvino": "pip install onnxruntime-openvino",
    "dml": "pip install onnxruntime-directml",
    "coreml": "ONNX Runtime for macOS",
    "qnn": "pip install onnxruntime-qnn",
}
_RUNTIMES = (
    "onnxruntime",
    "onnxruntime-gpu",
    "onnxruntime-directml",
    "onnxruntime-openvino",
    "onnxruntime-qnn",
)


def machine(provider: str = PROVIDER) -> dict[str, str]:
    """CPU, cores, memory, platform, versions, the load of the last minute and, where readable, the frequency
    governor; all strings."""
    facts = {
        "cpu": cpu_model(),
        "cores": str(usable_cores()),
        "memory_gb": f"{psutil.virtual_memory().total / 1e9:.1f}",
        "platform": platform.platform(terse=True) + " " + platform.machine(),
        "python": platform.python_version(),
        "onnxruntime": _version(*_RUNTIMES),
        "numpy": _version("numpy"),
        "provider": provider,
    }
    with contextlib.suppress(OSError, AttributeError):  # not on every system
        facts["load"] = f"{os.getloadavg()[0]:.2f}"
    if governor := _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"):
        facts["governor"] = governor
    return facts


def usable_cores() -> int:
    """Cores this process may use: its affinity, and the quota of its container (cgroup 2)."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota, _, period = _read("/sys/fs/cgroup/cpu.max").partition(" ")
    if quota.isdigit() and period.isdigit():
        cores = min(cores, max(1, math.ceil(int(quota) / int(period))))
    return cores


def provider_named(name: str) -> str:
    """ONNX Runtime's name of a provider: "cuda" is CUDAExecutionProvider.

    Raises InputError where the ONNX Runtime that is installed has none of that name, with those that it has.
    """
    if name.lower() in ("cpu", PROVIDER.lower()):
        return PROVIDER
    import onnxruntime  # 0.4 s, and the CPU is always there

    # Azure's sends inputs to a service; a graph without its operators runs on the CPU.
    there: list[str] = [p for p in onnxruntime.get_available_providers() if _short(p) != "azure"]
    found = [full for full in there if name.lower() in (full.lower(), _short(full))]
    if found:
        return found[0]
    hint = f"; {_PACKAGES[name.lower()]} has it" if name.lower() in _PACKAGES else ""
    raise InputError(
        f"provider {name!r} is not in this ONNX Runtime: there {'are' if len(there) > 1 else 'is'} "
        f"{', '.join(map(_short, there))}{hint}. Install a build that has it, or measure with one that is there."
    )


def _short(full: str) -> str:
    return full.lower().removesuffix("executionprovider")


def cpu_model() -> str:
    """The processor's own name."""
    for line in _read("/proc/cpuinfo").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    if platform.system() == "Darwin":
        asked = ["sysctl", "-n", "machdep.cpu.brand_string"]
        return subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()
    return platform.processor() or platform.machine()


def _version(*packages: str) -> str:
    for package in packages:
        try:
            return importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return "unknown"


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError:
        return ""
