"""`zoo select`: which pretrained model to ship, within a budget."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from zoo.cards import Budget
from zoo.cli import tables, without_data
from zoo.cli.budget_options import with_budget
from zoo.cli.costs import print_rows
from zoo.cli.merged import merged
from zoo.cli.options import (
    DATA_HELP,
    AsJson,
    CostsFile,
    Fresh,
    LabelColumn,
    OnError,
    OnErrorOption,
    RayAddress,
    Seed,
    TextColumn,
    Threads,
    integers,
)
from zoo.cli.tuning import words

CANDIDATE_HELP = "ID, pattern, hf:FOLDER of models, or ID,depth=all; repeat."
TASK_HELP = "Without DATA: image-classification, by published figures and measured cost."
SIZE_HELP = "Pixels a side, such as 160,224 (default: each model's)."
WITHIN_HELP = "Time for all of it, such as 10min: the best few are fine-tuned then."
AT_MOST_HELP = "Without DATA: networks to measure."
Data = Annotated[str | None, typer.Argument(help=DATA_HELP, show_default=False)]

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


def read_candidates(
    *,
    candidate: Annotated[list[str] | None, typer.Option(help=CANDIDATE_HELP)] = None,
    candidates: Annotated[str | None, typer.Option(help="IDs with commas, or a file, one a line.")] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Download nothing.")] = False,
) -> dict[str, Any]:
    """What is tried, as `zoo.select` takes it."""
    return {"candidates": names(candidate, candidates), "offline": offline}


def read_spread(
    *,
    precision: Annotated[str, typer.Option(help="Some of fp32,fp16,int8-static,int8-dynamic.")] = "fp32",
    size: Annotated[str | None, typer.Option(help=SIZE_HELP)] = None,
    within: Annotated[str | None, typer.Option(help=WITHIN_HELP)] = None,
) -> dict[str, Any]:
    """In what forms candidates are tried, and for how long, as `zoo.select` takes it. Raises InputError."""
    from zoo.choose import parse_limit

    return {
        "precisions": words(precision),
        "sizes": () if size is None else integers(size, "--size"),
        "within_s": None if within is None else parse_limit(within, "s"),
    }


def read_reading(
    *,
    text_column: TextColumn = None,
    label_column: LabelColumn = None,
    on_error: OnErrorOption = OnError.FAIL,
) -> dict[str, Any]:
    """How data is read, as `zoo.select` takes it."""
    return {"text": text_column, "label": label_column, "on_error": on_error.value}


def read_aim(
    *,
    objective: Aim = "accuracy",
    error_costs: ErrorCosts = None,
    tolerance: Annotated[float, typer.Option(help="Largest gap in the objective that may be a tie.")] = 0.01,
    folds: Annotated[int, typer.Option(min=2, help="Parts of the cross-validation.")] = 5,
) -> dict[str, Any]:
    """What is to be best, and how that is judged, as `zoo.select` takes it."""
    return {"objective": objective, "error_costs": error_costs, "tolerance": tolerance, "folds": folds}


def read_out(
    *,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Folder for what ships.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in the folder.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Write over what is in the folder.")] = False,
) -> dict[str, Any]:
    """Where results go, as `zoo.select` takes it."""
    return {"out": output, "resume": resume, "force": force}


@merged("kept", read_out, "Results")
@merged("reading", read_reading, "Data")
@merged("aim", read_aim, "How it is judged")
@merged("spread", read_spread, "Candidates")
@merged("tried", read_candidates, "Candidates")
@with_budget
def select_command(
    budget: Budget,
    tried: dict[str, Any],
    spread: dict[str, Any],
    aim: dict[str, Any],
    reading: dict[str, Any],
    kept: dict[str, Any],
    data: Data = None,
    task: Annotated[str | None, typer.Option(help=TASK_HELP)] = None,
    validation: Annotated[str | None, typer.Option(help="Choose on this, not by cross-validation.")] = None,
    test: Annotated[str | None, typer.Option(help="Judge the pick on this, not on a part kept back.")] = None,
    seed: Seed = 0,
    threads: Threads = None,
    costs: CostsFile = None,
    fresh: Fresh = False,
    ray: RayAddress = None,
    measure_at_most: Annotated[int | None, typer.Option(min=1, help=AT_MOST_HELP)] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Only say what would be done.")] = False,
    json: AsJson = False,
) -> None:
    """The best model within the budget, measured; every candidate in the table with figures or a reason."""
    wanted = {**tried, "budget": budget}
    if data is None:
        how = {"costs": costs, "threads": threads, "measure_at_most": measure_at_most}
        needs = {"validation": validation, "test": test, "output": kept["out"]}
        without_data.run(task, wanted, how, needs, plan=plan, json=json)
        return
    without_data.check_task(task, data, measure_at_most)
    if plan:
        _plan(data, {**wanted, **spread, **reading}, json=json)
        return
    rest: dict[str, Any] = {"validation": validation, "test": test, "seed": seed, "threads": threads}
    rest |= {"costs": costs, "fresh": fresh, "ray": ray}
    _select(data, {**rest, **wanted, **spread, **aim, **reading, **kept}, json=json)


def names(each: list[str] | None, together: str | None) -> list[str] | None:
    """Candidates in the order given; a comma before depth= or size= belongs to the id."""
    found = list(each or ())
    for part in (together or "").split(","):
        if part.strip().startswith(("depth=", "size=", "precision=")) and found:
            found[-1] += "," + part.strip()
        elif part.strip():
            found.append(part.strip())
    return found or None


def _select(data: str, settings: dict[str, Any], *, json: bool) -> None:
    from zoo import choose
    from zoo.choose.selection import REPORT

    with tables.progress() as say:
        selection = choose.select(data, **settings, progress=say)
    if json:
        tables.print_json(selection.to_dict())
        return
    print_rows(selection.rows)
    typer.echo(f"\n{selection.summary()}")
    if selection.folder is not None:
        report = selection.folder / REPORT
        typer.echo(
            f"\nWritten to {selection.folder}; to read, and to hand on: {report}. Next:\n  {selection.next_command}"
        )


def _plan(data: str, wanted: dict[str, Any], *, json: bool) -> None:
    from zoo import choose

    found = choose.plan(data, **wanted)
    if json:
        tables.print_json(found.to_dict())
        return
    for line in found.lines():
        typer.echo(line)
