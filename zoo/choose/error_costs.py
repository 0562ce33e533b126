"""What errors cost, from the user's CSV file: rows are true classes, columns are answers.

true,ham,spam
ham,0,5
spam,1,0
"""

from __future__ import annotations

import csv
import difflib
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from zoo.choose.objectives import MeanCost, Objective, objective_named
from zoo.engine import Array
from zoo.errors import InputError


def asked_objective(name: str, error_costs: str | Path | None, classes: Sequence[str]) -> Objective:
    """ "accuracy", "macro-f1", "log-loss", "calibration" (the Brier score), or "cost" for data of these classes.

    error_costs: the CSV file that "cost" needs, and no other takes (`read_costs`).

    Raises InputError as `objective_named` and `read_costs` do.
    """
    if name != MeanCost.name:
        found = objective_named(name)
        if error_costs is not None:
            raise InputError(f"error costs go with the objective 'cost', not with {name!r}: --objective cost")
        return found
    if error_costs is None:
        raise InputError("the objective 'cost' needs to know what errors cost: give --error-costs FILE.csv")
    return MeanCost(read_costs(error_costs, classes))


def read_costs(path: str | Path, classes: Sequence[str]) -> Array:
    """float64 [C, C] in the order of `classes`, whatever the file's. UTF-8, commas (tabs in .tsv).

    A negative cost is a gain. Raises InputError: no such file, other classes than the data's, no number, an error
    that costs less than the right answer (Elkan 2001 calls a matrix without this reasonable), nothing that costs more.
    """
    file = Path(path)
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise InputError(
            f"{file} cannot be read as a table of error costs: {why}. Give a CSV file."
        ) from error
    delimiter = "\t" if file.suffix.lower() == ".tsv" else ","
    rows = [[cell.strip() for cell in row] for row in csv.reader(text.splitlines(), delimiter=delimiter)]
    rows = [row for row in rows if any(row)]
    if not rows:
        raise InputError(f"{file} is empty: a line of class names, then a line of costs for each class")
    answers, true = rows[0][1:], [row[0] for row in rows[1:]]
    for where, names in (("columns", answers), ("rows", true)):
        _same_classes(file, where, names, classes)
    matrix = np.empty((len(classes), len(classes)))
    for row in rows[1:]:
        if len(row) != len(rows[0]):
            raise InputError(
                f"{file}: the row {row[0]!r} has {len(row) - 1} costs for {len(answers)} classes"
            )
        for answer, cell in zip(answers, row[1:], strict=True):
            matrix[classes.index(row[0]), classes.index(answer)] = _number(file, row[0], answer, cell)
    _reasonable(file, matrix, classes)
    return matrix


def _same_classes(file: Path, where: str, names: Sequence[str], classes: Sequence[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"{file}: {where} name {twice[0]!r} twice; each class stands there once")
    for name in names:
        if name not in classes:
            near = difflib.get_close_matches(name, classes, n=1)
            guess = f": did you mean {near[0]!r}?" if near else f"; its classes are {', '.join(classes)}."
            raise InputError(f"{file}: {where} name {name!r}, which is no class of the data{guess}")
    missing = [name for name in classes if name not in names]
    if missing:
        raise InputError(
            f"{file}: {where} lack {', '.join(missing)}: every class of the data needs its costs"
        )


def _number(file: Path, true: str, answer: str, cell: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"{file}: the cost of answering {answer!r} for {true!r} is {cell!r}, not a number")
    return value


def _reasonable(file: Path, matrix: Array, classes: Sequence[str]) -> None:
    excess = matrix - np.diag(matrix)[:, None]
    true, answer = divmod(int(excess.argmin()), len(classes))
    if excess[true, answer] < 0:
        raise InputError(
            f"{file}: answering {classes[answer]!r} for {classes[true]!r} costs {matrix[true, answer]:g}, less than "
            f"the right answer, {matrix[true, true]:g}. Rows are true classes, columns answers: is it transposed?"
        )
    if not excess.any():
        raise InputError(f"{file}: no error costs more than the right answer, so that every model is as good")
