"""What `zoo evaluate` shows of a model's errors: the confusion matrix and the worst of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from zoo.cli import tables

if TYPE_CHECKING:
    from zoo.data import Dataset
    from zoo.engine import Array
    from zoo.train.diagnosis import Mistake

WIDEST_MATRIX = 12
"""Classes up to which the whole matrix is printed; of more, the pairs that are taken for each other most."""
LONGEST_INPUT = 80


@dataclass(frozen=True)
class Wrong:
    """matrix: int64 [C, C] or None where it was not asked for.  worst: the errors to be shown, or None.

    errors: the file that all errors were written to, or None.
    """

    classes: tuple[str, ...]
    matrix: Array | None
    worst: Sequence[Mistake] | None
    errors: Path | None

    @classmethod
    def of(
        cls, probabilities: Array, data: Dataset, *, confusion: bool, worst: int, errors: Path | None
    ) -> Wrong:
        """From probabilities float32 [N, C] of the data. Writes `errors`; raises StorageError."""
        from zoo.train import diagnosis

        matrix, found = None, None
        if confusion:
            matrix = diagnosis.confusion(probabilities.argmax(axis=1), data.targets, len(data.classes))
        if worst or errors is not None:
            found = diagnosis.mistakes(probabilities, data.targets, data.classes, data.inputs)
        if errors is not None and found is not None:
            diagnosis.write_mistakes(found, errors)
        return cls(data.classes, matrix, found[:worst] if found is not None and worst else None, errors)

    def as_dict(self) -> dict[str, Any]:
        """JSON, of what was asked for."""
        found: dict[str, Any] = {}
        if self.matrix is not None:
            found["confusion"] = {"classes": self.classes, "matrix": self.matrix.tolist()}
        return found if self.worst is None else found | {"worst": list(self.worst)}

    def print(self) -> None:
        """Tables under what was said before."""
        if self.matrix is not None:
            self._print_matrix(self.matrix)
        if self.worst is not None:
            typer.echo("\nErrors, the highest loss first:" if self.worst else "\nNo errors.")
            headers = ("loss", "probability", "true", "predicted", "input")
            rows = [
                (tables.number(m.loss), tables.number(m.probability), m.true, m.predicted, _short(m.input))
                for m in self.worst
            ]
            if rows:
                tables.print_table(headers, rows, right=headers[:2])
        if self.errors is not None:
            typer.echo(f"\nAll errors are in {self.errors}.")

    def _print_matrix(self, matrix: Array) -> None:
        from zoo.train.diagnosis import most_confused

        if len(self.classes) <= WIDEST_MATRIX:
            typer.echo("\nRows are the true classes, columns what they were taken for:")
            rows = [(name, *map(str, row)) for name, row in zip(self.classes, matrix, strict=True)]
            tables.print_table(("", *self.classes), rows, right=self.classes)
            return
        pairs = most_confused(matrix, self.classes)
        typer.echo("\nMost often taken for each other (--json has the whole matrix):")
        tables.print_table(
            ("true", "predicted", "times"), [(t, p, str(n)) for t, p, n in pairs], right=("times",)
        )


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= LONGEST_INPUT else line[: LONGEST_INPUT - 3] + "..."
