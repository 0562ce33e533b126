"""Backbone Zoo: which pretrained model do I ship? Answered by measurement, over PyTorch, TensorFlow and HF.

The public names are loaded when they are first used (PEP 562): `import zoo` itself costs nothing, and no
framework is imported before a model of it is asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zoo import errors
    from zoo.backbone import Backbone, get, load, wrap
    from zoo.calibration import Calibration
    from zoo.cards import Budget, Cost, ImagePreprocess, ModelCard, Recipe, TextPreprocess
    from zoo.catalogue import list_models
    from zoo.choose import (
        Curve,
        Selection,
        Tuning,
        benchmark,
        compare,
        curve,
        select,
        select_without_data,
        tune,
    )
    from zoo.errors import ZooError
    from zoo.graph import OnnxModel
    from zoo.mismatch import CheckReport, check
    from zoo.train import History, RateSearch

__all__ = [
    "Backbone",
    "Budget",
    "Calibration",
    "CheckReport",
    "Cost",
    "Curve",
    "History",
    "ImagePreprocess",
    "ModelCard",
    "OnnxModel",
    "RateSearch",
    "Recipe",
    "Selection",
    "TextPreprocess",
    "Tuning",
    "ZooError",
    "benchmark",
    "check",
    "compare",
    "curve",
    "errors",
    "get",
    "list_models",
    "load",
    "select",
    "select_without_data",
    "tune",
    "wrap",
]

_HOMES = {
    "zoo.backbone": ("Backbone", "get", "load", "wrap"),
    "zoo.calibration": ("Calibration",),
    "zoo.cards": ("Budget", "Cost", "ImagePreprocess", "ModelCard", "Recipe", "TextPreprocess"),
    "zoo.catalogue": ("list_models",),
    "zoo.choose": (
        "Curve",
        "Selection",
        "Tuning",
        "benchmark",
        "compare",
        "curve",
        "select",
        "select_without_data",
        "tune",
    ),
    "zoo.errors": ("ZooError",),
    "zoo.graph": ("OnnxModel",),
    "zoo.mismatch": ("CheckReport", "check"),
    "zoo.train": ("History", "RateSearch"),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> object:
    """Load a public name's module at its first use."""
    if name == "errors":
        return importlib.import_module("zoo.errors")
    if name == "__version__":
        return importlib.import_module("importlib.metadata").version("backbone-zoo")
    if name not in _HOME:
        raise AttributeError(f"module 'zoo' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
