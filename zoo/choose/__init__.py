"""max P(model, data) subject to R(model) <= R_max: candidates, evidence, budget, the rule, the artefact.

Names load when asked for: measuring ONNX files needs no scikit-learn, choosing does (the extra `train`).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from zoo.errors import FrameworkMissingError

if TYPE_CHECKING:
    from zoo.choose.bench import benchmark as benchmark
    from zoo.choose.comparison import Comparison as Comparison
    from zoo.choose.comparison import compare as compare
    from zoo.choose.curving import CURVE_COLUMNS as CURVE_COLUMNS
    from zoo.choose.curving import Curve as Curve
    from zoo.choose.labels import curve as curve
    from zoo.choose.limits import describe as describe
    from zoo.choose.limits import parse_limit as parse_limit
    from zoo.choose.past_costs import history as history
    from zoo.choose.pipeline import select as select
    from zoo.choose.planning import Plan as Plan
    from zoo.choose.planning import plan as plan
    from zoo.choose.publishers import Published as Published
    from zoo.choose.publishers import published as published
    from zoo.choose.rows import COLUMNS as COLUMNS
    from zoo.choose.rows import Row as Row
    from zoo.choose.rows import markdown as markdown
    from zoo.choose.selection import Selection as Selection
    from zoo.choose.tuner import tune as tune
    from zoo.choose.tuning import TUNING_COLUMNS as TUNING_COLUMNS
    from zoo.choose.tuning import Tuning as Tuning
    from zoo.choose.without_data import plan_without_data as plan_without_data
    from zoo.choose.without_data import select_without_data as select_without_data

_WHERE = {
    "benchmark": "bench",
    "Comparison": "comparison",
    "compare": "comparison",
    "history": "past_costs",
    "curve": "labels",
    "CURVE_COLUMNS": "curving",
    "Curve": "curving",
    "describe": "limits",
    "parse_limit": "limits",
    "select": "pipeline",
    "Plan": "planning",
    "plan": "planning",
    "Published": "publishers",
    "published": "publishers",
    "COLUMNS": "rows",
    "Row": "rows",
    "markdown": "rows",
    "Selection": "selection",
    "tune": "tuner",
    "TUNING_COLUMNS": "tuning",
    "Tuning": "tuning",
    "plan_without_data": "without_data",
    "select_without_data": "without_data",
}
__all__ = list(_WHERE)


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        value = getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
    except ModuleNotFoundError as error:
        if error.name and error.name.partition(".")[0] in ("sklearn", "scipy", "threadpoolctl", "pandas"):
            raise FrameworkMissingError(
                f"zoo.{name} needs scikit-learn, which is not installed (no module {error.name!r}): "
                "pip install 'backbone-zoo[train]'"
            ) from error
        raise
    globals()[name] = value
    return value
