"""One row a candidate: its figures or its reason. Tables are written from these."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from zoo.cards import Cost
from zoo.cost.store import cost_of

COLUMNS = ("candidate", "accuracy", "95 %", "p50 ms", "size MB", "memory MB", "MACs G", "params M", "why")


@dataclass(frozen=True)
class Row:
    """A candidate's end: status is "chosen", "tied", "within", "over budget", "unreachable", "failed",
    "baseline" or "measured", and "left out" before anything of it was loaded; accuracy is cross-validated on the
    training part, its interval Wilson's 95 %.
    stage: of `zoo.choose.stages`, where it ended; "" where there are none.  details: JSON, each of these optional:
    "card", "confusion", "curve", "errors", "scores", "fine_tuned".
    """

    id: str
    status: str
    reason: str
    accuracy: float | None = None
    accuracy_low: float | None = None
    accuracy_high: float | None = None
    cost: Cost | None = None
    stage: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able, the form kept in selection.json."""
        return {**asdict(self), "cost": None if self.cost is None else asdict(self.cost)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Row:
        """What `to_dict` gave. Raises TypeError for a field that there is not."""
        cost = values.get("cost")
        return cls(**{**values, "cost": None if cost is None else cost_of(cost)})

    def cells(self) -> tuple[str, ...]:
        """Texts in the order of COLUMNS; blank where not measured."""
        cost = self.cost or Cost(self.id)
        interval = "" if self.accuracy_low is None else f"{self.accuracy_low:.3f}-{self.accuracy_high:.3f}"
        return (
            self.id,
            _figure(self.accuracy, ".3f"),
            interval,
            _figure(cost.latency_p50_ms, ".3g"),
            _figure(cost.size_mb, ".1f"),
            _figure(cost.peak_memory_mb, ".0f"),
            _figure(None if cost.macs is None else cost.macs / 1e9, ".3g"),
            _figure(None if cost.params is None else cost.params / 1e6, ".3g"),
            f"{self.status}: {self.reason}" if self.reason else self.status,
        )


def _figure(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def markdown(rows: Sequence[Row]) -> str:
    """A Markdown table of the rows."""
    lines = [COLUMNS, tuple("---" for _ in COLUMNS), *(row.cells() for row in rows)]
    return "\n".join("| " + " | ".join(cell.replace("|", "/") for cell in line) + " |" for line in lines)
