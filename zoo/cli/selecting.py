"""`zoo select`: which pretrained model to ship, within a budget."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from zoo.cards import Budget
from zoo.cli import tables
from zoo.cli.costs import print_rows
from zoo.cli.options import (
    DATA_HELP,
    AsJson,
    CostsFile,
    Fresh,
    LabelColumn,
    OnError,
    OnErrorOption,
    Seed,
    TextColumn,
    Threads,
)

LIMITS = (("latency_ms", "ms"), ("size_mb", "MB"), ("memory_mb", "MB"), ("macs_g", "G"), ("params_m", "M"))

Aim = Annotated[
    str,
    typer.Option(metavar="NAME", help="accuracy, macro-f1, log-loss, calibration (Brier score) or cost."),
]
ErrorCosts = Annotated[
    Path | None, typer.Option(help="CSV: what each answer (column) costs for each true class (row).")
]


def register(app: typer.Typer) -> None:
    """Put this file's command on `app`."""
    app.command("select")(select_command)


def select_command(
    data: Annotated[str, typer.Argument(help=DATA_HELP)],
    validation: Annotated[str | None, typer.Option(help="Choose on this, not by cross-validation.")] = None,
    test: Annotated[str | None, typer.Option(help="Judge the pick on this, not on a part kept back.")] = None,
    max_latency: Annotated[str | None, typer.Option(help="Such as 5ms.")] = None,
    max_size: Annotated[str | None, typer.Option(help="Of the file, such as 80MB.")] = None,
    max_memory: Annotated[str | None, typer.Option(help="At its peak, such as 300MB.")] = None,
    max_macs: Annotated[str | None, typer.Option(help="Of one input, such as 1G.")] = None,
    max_params: Annotated[str | None, typer.Option(help="Such as 10M.")] = None,
    latency_percentile: Annotated[int, typer.Option(help="50 or 90.")] = 50,
    candidate: Annotated[list[str] | None, typer.Option(help="ID, pattern or ID,depth=all; repeat.")] = None,
    candidates: Annotated[str | None, typer.Option(help="IDs with commas, or a file, one a line.")] = None,
    objective: Aim = "accuracy",
    error_costs: ErrorCosts = None,
    tolerance: Annotated[float, typer.Option(help="Largest gap in the objective that may be a tie.")] = 0.01,
    folds: Annotated[int, typer.Option(min=2, help="Parts of the cross-validation.")] = 5,
    seed: Seed = 0,
    threads: Threads = None,
    costs: CostsFile = None,
    fresh: Fresh = False,
    text_column: TextColumn = None,
    label_column: LabelColumn = None,
    on_error: OnErrorOption = OnError.FAIL,
    plan: Annotated[bool, typer.Option("--plan", help="Only say what would be done.")] = False,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Folder for what ships.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Write over what is in the folder.")] = False,
    json: AsJson = False,
) -> None:
    """The best model within the budget, measured; every candidate in the table with figures or a reason."""
    limits = (max_latency, max_size, max_memory, max_macs, max_params)
    reading: dict[str, Any] = {"text": text_column, "label": label_column, "on_error": on_error.value}
    reading["candidates"] = names(candidate, candidates)
    within = budget(limits, latency_percentile)
    if plan:
        _plan(data, reading)
        return
    rest: dict[str, Any] = {"budget": within, "out": output, "force": force, "folds": folds}
    rest |= {"costs": costs, "fresh": fresh}
    rest |= {"objective": objective, "error_costs": error_costs, "tolerance": tolerance}
    settings = {"validation": validation, "test": test, "seed": seed, "threads": threads, **rest, **reading}
    _select(data, settings, json=json)


def budget(limits: tuple[str | None, ...], percentile: int) -> Budget:
    """The limits in the order of LIMITS, as people write them. Raises InputError naming the units."""
    from zoo.choose import parse_limit

    values = {
        name: parse_limit(text, unit=unit)
        for (name, unit), text in zip(LIMITS, limits, strict=True)
        if text is not None
    }
    return Budget(**values, latency_percentile=percentile)


def names(each: list[str] | None, together: str | None) -> list[str] | None:
    """Candidates in the order given; a comma before depth= or size= belongs to the id."""
    found = list(each or ())
    for part in (together or "").split(","):
        if part.strip().startswith(("depth=", "size=")) and found:
            found[-1] += "," + part.strip()
        elif part.strip():
            found.append(part.strip())
    return found or None


def _select(data: str, settings: dict[str, Any], *, json: bool) -> None:
    from zoo import choose

    with tables.progress() as say:
        selection = choose.select(data, **settings, progress=say)
    if json:
        tables.print_json(selection.to_dict())
        return
    print_rows(selection.rows)
    typer.echo(f"\n{selection.summary()}")
    if selection.folder is not None:
        typer.echo(f"\nWritten to {selection.folder}. Next:\n  {selection.next_command}")


def _plan(data: str, reading: dict[str, Any]) -> None:
    from zoo import choose

    for line in choose.plan(data, **reading).lines():
        typer.echo(line)
