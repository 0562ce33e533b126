"""What `zoo.select` gives back, and what it writes: the choice, every candidate's row, and why."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo import report
from zoo.cards import Budget, Cost
from zoo.choose.past_costs import short_machine
from zoo.choose.plots import Plot
from zoo.choose.rows import Row, markdown
from zoo.choose.scatter import of_rows
from zoo.cost.store import cost_of
from zoo.errors import InputError
from zoo.files import atomic_file

if TYPE_CHECKING:
    import pandas

FORMAT, REPORT = 1, "report.html"


@dataclass(frozen=True)
class Selection:
    """best: id of the candidate that ships ("" while nothing is chosen yet).

    rows: every candidate, baselines among them.  cost and test: of the very file in `folder`: its cost,
    and its figures on the test part, which no choice ever saw.  seconds: by stage, of all sessions.
    bill: one for each stage, its "stage", the "candidates" that entered it, those "left" after it, its "seconds".
    """

    best: str
    why: str
    budget: Budget
    rows: tuple[Row, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    cost: Cost | None = None
    test: Mapping[str, Any] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    folder: Path | None = None
    example: str = ""
    bill: tuple[Mapping[str, Any], ...] = ()

    @property
    def table(self) -> pandas.DataFrame:
        """One row a candidate, cost figures as columns (size_mb beside file_bytes), the index is the id."""
        import pandas

        flat = []
        for row in self.rows:
            values = row.to_dict()
            cost = values.pop("cost") or {}
            cost.pop("machine", None)
            values.pop("details", None)
            size = {"size_mb": row.cost.size_mb} if row.cost else {}
            flat.append({**{k: v for k, v in cost.items() if k not in values}, **size, **values})
        return pandas.DataFrame(flat).set_index("id")

    @property
    def pareto(self) -> tuple[str, ...]:
        """Ids that no other candidate beats in both accuracy and p50 latency, fastest first."""
        points = [
            (row.cost.latency_p50_ms, -row.accuracy, row.id)
            for row in self.rows
            if row.cost and row.cost.latency_p50_ms is not None and row.accuracy is not None
        ]
        front: list[str] = []
        best = float("inf")
        for _, loss, name in sorted(points):
            if loss < best:
                best = loss
                front.append(name)
        return tuple(front)

    def explain(self, id: str) -> str:  # noqa: A002 - the field's and the table's own name for it
        """What became of one candidate, in a sentence. Raises InputError for an id that is no candidate."""
        for row in self.rows:
            if row.id == id:
                accuracy = "" if row.accuracy is None else f", accuracy {row.accuracy:.3f}"
                return f"{row.id} is {row.status}{accuracy}: {row.reason}"
        raise InputError(f"{id!r} was no candidate; there were {', '.join(row.id for row in self.rows)}")

    def plot(self) -> Plot:
        """Accuracy against p50, with the Pareto front: `zoo.choose.plots` writes it. Raises InputError."""
        costs = [row.cost for row in self.rows if row.cost and not row.cost.error]
        return of_rows(self.rows, machine=short_machine(costs[0]) if costs else "nothing was measured")

    def markdown(self) -> str:
        """The table of all candidates."""
        return markdown(self.rows)

    def report(self, path: str | Path) -> Path:
        """Write the answer, the table and the bill: `.html` as one self-contained page, `.md` as Markdown.

        Raises InputError for another ending, StorageError.
        """
        if Path(path).suffix.lower() == ".html":
            return report.write(self, path)
        if Path(path).suffix.lower() != ".md":
            raise InputError(f"cannot write a report to {Path(path).name}: its name must end in .html or .md")
        with atomic_file(Path(path)) as file:
            file.write_text(self.summary() + "\n\n" + self.markdown() + "\n", encoding="utf-8")
        return Path(path)

    def summary(self) -> str:
        """The answer, the test figures and the bill, a line each."""
        lines = [self.why]
        if self.test:
            low, high = self.test["accuracy_low"], self.test["accuracy_high"]
            lines.append(
                f"On {self.test['n']} test examples that no choice saw, model.onnx is right on "
                f"{self.test['accuracy']:.3f} of them (95 % interval {low:.3f} to {high:.3f})."
            )
        lines += self.settings.get("notes", ())
        if self.seconds:
            left = {entry["stage"]: f" for {entry['candidates']}" for entry in self.bill}
            parts = ", ".join(
                f"{name} {value:.0f} s{left.get(name, '')}" for name, value in self.seconds.items()
            )
            lines.append(f"Time: {sum(self.seconds.values()):.0f} s ({parts}).")
        return "\n".join(lines)

    @property
    def next_command(self) -> str:
        """What to type next."""
        return f"zoo predict {self.folder}/model.onnx {self.example}" if self.folder else ""

    def to_dict(self) -> dict[str, Any]:
        """The content of selection.json."""
        return {
            "format": FORMAT,
            "best": self.best or None,
            "why": self.why,
            "budget": asdict(self.budget),
            "settings": dict(self.settings),
            "cost": None if self.cost is None else asdict(self.cost),
            "test": dict(self.test),
            "seconds": dict(self.seconds),
            "bill": [dict(entry) for entry in self.bill],
            "example": self.example,
            "pareto": list(self.pareto),
            "candidates": [row.to_dict() for row in self.rows],
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], folder: Path | None = None) -> Selection:
        """What `to_dict` gave, and the folder that it was written to. Raises InputError for another format."""
        if values.get("format") != FORMAT:
            raise InputError(f"a selection of format {values.get('format')!r}; this version reads {FORMAT}")
        cost = values["cost"]
        return cls(
            best=values["best"] or "",
            why=values["why"],
            budget=Budget(**values["budget"]),
            rows=tuple(Row.from_dict(row) for row in values["candidates"]),
            settings=values["settings"],
            cost=None if cost is None else cost_of(cost),
            test=values["test"],
            seconds=values["seconds"],
            folder=folder,
            example=values.get("example", ""),
            bill=tuple(values.get("bill", ())),
        )

    def write(self, folder: Path) -> None:
        """selection.json and table.md, each replaced whole."""
        with atomic_file(folder / "selection.json") as file:
            file.write_text(json.dumps(self.to_dict(), indent=1), encoding="utf-8")
        self.report(folder / "table.md")
