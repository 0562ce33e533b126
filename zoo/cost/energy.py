"""Energy, where a kept library can read it: zeus (ml.energy/zeus), if it is installed and may read the counters.

The counters are of whole processor packages (RAPL, DRAM included where it is told) and, off the CPU, of GPU 0: what
else runs there meanwhile is in them. Not tried on a machine that has them.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TypeAlias

from zoo.cost.host import PROVIDER

Counter: TypeAlias = Callable[[], float]


def counter(provider: str) -> Counter | None:
    """Millijoules so far, of the packages and, for another provider than the CPU, of GPU 0; None: not to be read."""
    try:
        packages = importlib.import_module("zeus.device.cpu").get_cpus()
        boards = None if provider == PROVIDER else importlib.import_module("zeus.device.gpu").get_gpus()

        def read() -> float:
            measured = [packages.get_total_energy_consumption(index) for index in range(len(packages))]
            total = sum(one.cpu_mj + (one.dram_mj or 0.0) for one in measured)
            return float(total + (boards.get_total_energy_consumption(0) if boards is not None else 0.0))

        return read if len(packages) and read() >= 0 else None
    except Exception:  # noqa: BLE001  (not installed, no counter, no right to read it: zeus's share no other base)
        return None
