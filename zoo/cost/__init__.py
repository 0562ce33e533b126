"""The meter: what an ONNX file costs on this machine. One meter for every framework.

Names are looked up when used: the meter's child process imports `zoo.cost.worker` from this package and must
not get onnx with it (its memory would be counted).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zoo.cost.facts import GraphFacts, graph_facts
    from zoo.cost.host import machine, usable_cores
    from zoo.cost.kept import kept_or_measured
    from zoo.cost.macs import count_macs
    from zoo.cost.meter import measure

__all__ = [
    "GraphFacts",
    "count_macs",
    "graph_facts",
    "kept_or_measured",
    "machine",
    "measure",
    "usable_cores",
]

_HOMES = {
    "GraphFacts": "facts",
    "graph_facts": "facts",
    "machine": "host",
    "usable_cores": "host",
    "kept_or_measured": "kept",
    "count_macs": "macs",
    "measure": "meter",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'zoo.cost' has no attribute {name!r}")
    return getattr(importlib.import_module(f"zoo.cost.{_HOMES[name]}"), name)
