"""`zoo compare`: quality and cost side by side, measured; or the whole catalogue by its published figures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from zoo.cli import tables
from zoo.cli.costs import print_rows, write_text
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
from zoo.errors import InputError, WorkerError

HEADERS = ("model", "top-1 %", "measured at", "params (M)", "MACs (G)", "p50 ms", "front")
MODELS_HELP = (
    "Ids, saved runs, ONNX files; a name of several frameworks is a row of each. --published: patterns."
)


def register(app: typer.Typer) -> None:
    """Put this file's command on `app`."""
    app.command("compare")(compare_command)


def compare_command(
    models: Annotated[
        list[str] | None, typer.Argument(metavar="MODEL...", help=MODELS_HELP, show_default=False)
    ] = None,
    data: Annotated[str | None, typer.Option(help=DATA_HELP)] = None,
    text_column: TextColumn = None,
    label_column: LabelColumn = None,
    on_error: OnErrorOption = OnError.FAIL,
    costs: CostsFile = None,
    fresh: Fresh = False,
    threads: Threads = None,
    seed: Seed = 0,
    published: Annotated[
        bool, typer.Option("--published", help="Measure nothing: the catalogue's published figures.")
    ] = False,
    by: Annotated[
        Literal["macs", "params", "latency"], typer.Option(help="With --published: cost of the Pareto front.")
    ] = "macs",
    front: Annotated[bool, typer.Option("--front", help="With --published: only the Pareto front.")] = False,
    plot: Annotated[
        Path | None, typer.Option(help="Draw quality against cost: a .png, .svg or .html file.")
    ] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Write the table here too.")] = None,
    json: AsJson = False,
) -> None:
    """Quality on your data and cost side by side, over frameworks."""
    _check(models, data, published=published, front=front, plot=plot)
    if published:
        _published(models or ["*"], by, costs, front=front, plot=plot, output=output, json=json)
        return
    reading: dict[str, Any] = {"text": text_column, "label": label_column, "on_error": on_error.value}
    settings = {"costs": costs, "fresh": fresh, "threads": threads, "seed": seed, **reading}
    _compare(models or [], data, settings, plot=plot, output=output, json=json)


def _check(
    models: list[str] | None, data: str | None, *, published: bool, front: bool, plot: Path | None
) -> None:
    """What cannot be is said before anything is measured. Raises InputError."""
    if not models and not published:
        raise InputError(
            "nothing to compare: name models, or --published for the catalogue's published figures"
        )
    if published and data is not None:
        raise InputError(
            "--published shows what others measured on their own data, --data measures on yours: leave one out"
        )
    if front and not published:
        raise InputError("--front belongs to --published: a measured table shows every model")
    if plot is not None:
        from zoo.choose import plots

        plots.check_path(plot)
        if data is None and not published:
            raise InputError(
                "--plot draws quality against cost: give --data, or --published for published quality"
            )


def _compare(
    models: list[str],
    data: str | None,
    settings: dict[str, Any],
    *,
    plot: Path | None,
    output: Path | None,
    json: bool,
) -> None:
    from zoo import choose

    with tables.progress() as say:
        comparison = choose.compare(models, data, **settings, progress=say)
    if json:
        tables.print_json(comparison)
    else:
        print_rows(comparison.rows)
        typer.echo("\n" + "\n".join(comparison.notes))
    if output is not None:
        write_text(output, comparison.markdown() + "\n")
    if all(row.status in ("failed", "baseline") for row in comparison.rows):
        raise WorkerError("none of these could be measured; the reasons are above")
    if plot is not None:
        _draw(comparison.plot(), plot)


def _draw(found: Any, path: Path) -> None:
    from zoo.choose import plots

    plots.save(found, path)
    tables.note(f"wrote {path}")


def _published(
    patterns: list[str],
    by: Literal["macs", "params", "latency"],
    costs: Path | None,
    *,
    front: bool,
    plot: Path | None,
    output: Path | None,
    json: bool,
) -> None:
    from zoo import choose

    found = choose.published(patterns, by=by, costs=costs)
    kept = [row for row in found.rows if row.front or not front]
    cells = [
        (
            row.id,
            f"{row.top1:.2f}",
            row.top1_at,
            *(tables.number(figure) for figure in (row.params_m, row.macs_g, row.p50_ms)),
            "front" if row.front else "",
        )
        for row in kept
    ]
    filled = [
        i for i, name in enumerate(HEADERS) if name in ("model", "front") or any(row[i] for row in cells)
    ]
    headers = [HEADERS[i] for i in filled]
    rows = [[row[i] for i in filled] for row in cells]
    right = [name for name in headers if name not in ("model", "measured at", "front")]
    if json:
        tables.print_json({"by": found.by, "rows": kept, "notes": found.notes})
    else:
        tables.print_table(headers, rows, right=right)
        typer.echo("\n" + "\n".join(found.notes))
    if output is not None:
        write_text(
            output, tables.markdown(headers, rows, right=right) + "\n\n" + "\n".join(found.notes) + "\n"
        )
    if plot is not None:
        _draw(found.plot(), plot)
