"""`zoo select --task ...` without data: what it is asked for, and how its answer is printed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import typer

from zoo.cli import tables
from zoo.errors import InputError

if TYPE_CHECKING:
    from zoo.choose import Row, Selection

HEADERS = ("candidate", "top-1 %", "p50 ms", "size MB", "memory MB", "MACs G", "params M", "why")


def check_task(task: str | None, data: str, measure_at_most: int | None) -> None:
    """Raise InputError where options that stand for data are given beside it."""
    given = [name for name, value in (("--task", task), ("--measure-at-most", measure_at_most)) if value]
    if given:
        raise InputError(
            f"{' and '.join(given)} beside {data}: the data says what the task is; leave one out"
        )


def run(
    task: str | None,
    wanted: Mapping[str, Any],
    rest: Mapping[str, Any],
    needs: Mapping[str, Any],
    *,
    plan: bool,
    json: bool,
) -> None:
    """Answer by published figures and measured cost.  needs: options that only data makes sense of."""
    if task is None:
        raise InputError(
            "nothing to choose on: give DATA, or --task image-classification for an answer by published figures"
        )
    if given := [f"--{name}" for name, value in needs.items() if value is not None]:
        raise InputError(
            f"{', '.join(given)} without DATA: there is nothing to judge on, and nothing that ships"
        )
    from zoo import choose

    most = {} if rest["measure_at_most"] is None else {"most": rest["measure_at_most"]}
    if plan:
        lines = choose.plan_without_data(task, **wanted, threads=rest["threads"], **most)
        typer.echo("\n".join(lines))
        return
    settings = {"costs": rest["costs"], "threads": rest["threads"], **most}
    with tables.progress() as say:
        found = choose.select_without_data(task, **wanted, **settings, progress=say)
    if json:
        tables.print_json(found.to_dict())
        return
    _show(found)


def _show(found: Selection) -> None:
    """The measured ones, and how many were not."""
    rows = [_cells(row) for row in found.rows if row.cost is not None]
    tables.print_table(HEADERS, rows, right=HEADERS[1:-1])
    typer.echo(f"\n{found.summary()}")


def _cells(row: Row) -> tuple[str, ...]:
    """As in the table of a choice with data, but the published figure in the place of an accuracy."""
    name, _, _, *figures, why = row.cells()
    published = row.details["published"].get("value")
    return (name, "" if published is None else f"{published:.2f}", *figures, why)
