"""What this machine has: the frameworks that can be imported, those that must be, and the folder of real data.

A module of its own, since `conftest` names another file in every folder that has one.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

FRAMEWORK_MODULES = {
    "torch": ("torch", "torchvision"),
    "tf": ("tensorflow", "keras", "keras_hub"),
    "hf": ("torch", "transformers"),
}
SHARED = Path(__file__).resolve().parent.parent.parent / "shared"


def required() -> set[str]:
    """Frameworks whose absence is a failure, from ZOO_REQUIRE=torch,tf,hf."""
    return {name.strip() for name in os.environ.get("ZOO_REQUIRE", "").split(",") if name.strip()}


def missing(framework: str) -> str | None:
    """The first module of a framework that cannot be imported, or None."""
    for module in FRAMEWORK_MODULES[framework]:
        try:
            found = importlib.util.find_spec(module)
        except ModuleNotFoundError:
            found = None
        if found is None:
            return module
    return None
