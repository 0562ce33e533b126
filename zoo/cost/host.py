"""The machine a figure was measured on: a cost without it means nothing."""

from __future__ import annotations

import importlib.metadata
import math
import os
import platform
import subprocess
from pathlib import Path

import psutil

PROVIDER = "CPUExecutionProvider"
_RUNTIMES = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-directml", "onnxruntime-openvino")


def machine() -> dict[str, str]:
    """CPU, cores, memory, platform, versions and, where readable, the frequency governor; all strings."""
    facts = {
        "cpu": cpu_model(),
        "cores": str(usable_cores()),
        "memory_gb": f"{psutil.virtual_memory().total / 1e9:.1f}",
        "platform": platform.platform(terse=True) + " " + platform.machine(),
        "python": platform.python_version(),
        "onnxruntime": _version(*_RUNTIMES),
        "numpy": _version("numpy"),
        "provider": PROVIDER,
    }
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
