"""max P(model, data) subject to R(model) <= R_max: candidates, evidence, budget, the rule, the artefact."""

from zoo.choose.bench import benchmark
from zoo.choose.comparison import Comparison, compare
from zoo.choose.limits import describe, parse_limit
from zoo.choose.pipeline import select
from zoo.choose.plan import Plan, plan
from zoo.choose.rows import COLUMNS, Row, markdown
from zoo.choose.selection import Selection

__all__ = [
    "COLUMNS", "Comparison", "Plan", "Row", "Selection", "benchmark", "compare", "describe", "markdown",
    "parse_limit", "plan", "select",
]  # fmt: skip
