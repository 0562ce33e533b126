"""`zoo tune` and `zoo curve`: what to train, by which optimizer; and whether more labels or a bigger model pays."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from zoo.cli import tables
from zoo.cli.options import DATA_HELP, AsJson, LabelColumn, OnError, OnErrorOption, Seed, TextColumn, Threads
from zoo.errors import InputError

TestData = Annotated[
    str | None, typer.Option("--test", help="Judge on this, not on the data's own validation part.")
]
Limit = Annotated[int | None, typer.Option(min=1, help="Train on so many examples, classes in proportion.")]
Tolerance = Annotated[float, typer.Option(help="Largest gap in accuracy that may be a tie.")]
Output = Annotated[Path | None, typer.Option("-o", "--output", help="Folder of the run.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with the run in the folder.")]


def register(app: typer.Typer) -> None:
    """Put this file's commands on `app`."""
    app.command("tune")(tune_command)
    app.command("curve")(curve_command)


def tune_command(
    name: Annotated[str, typer.Argument(metavar="ID", help="Such as tf:mobilenet_v2.")],
    data: Annotated[str, typer.Argument(help=DATA_HELP)],
    test: TestData = None,
    parts: Annotated[
        str, typer.Option(help="Of the network, to train: some of head,last,all.")
    ] = "head,last,all",
    optimizers: Annotated[str, typer.Option(help="Some of sgd,adam,adamw.")] = "sgd,adam,adamw",
    lr: Annotated[
        str | None, typer.Option(help="Learning rates, such as 1e-4,1e-3 (default: by part).")
    ] = None,
    epochs: Annotated[int, typer.Option(help="Of a full run.")] = 9,
    batch_size: int = 32,
    seeds: Annotated[int, typer.Option(help="Runs of each finalist.")] = 5,
    tolerance: Tolerance = 0.01,
    limit: Limit = None,
    seed: Seed = 0,
    threads: Threads = None,
    text_column: TextColumn = None,
    label_column: LabelColumn = None,
    on_error: OnErrorOption = OnError.FAIL,
    output: Output = None,
    resume: Resume = False,
    json: AsJson = False,
) -> None:
    """Head, last blocks or all layers; SGD, Adam or AdamW: tried on your data, with a verdict and its interval."""
    from zoo import choose

    with tables.progress() as say:
        found = choose.tune(
            name, data, test=test, parts=words(parts), optimizers=words(optimizers),
            learning_rates=None if lr is None else rates(lr), epochs=epochs, batch_size=batch_size, seeds=seeds,
            tolerance=tolerance, limit=limit, seed=seed, threads=threads, out=output, resume=resume,
            text=text_column, label=label_column, on_error=on_error.value, progress=say,
        )  # fmt: skip
    if json:
        tables.print_json(found.to_dict())
        return
    tables.print_table(choose.TUNING_COLUMNS, found.table(), right=("blocks", "accuracy", "seconds a run"))
    typer.echo(f"\n{found.summary()}")
    _next(output, "best")


def curve_command(
    names: Annotated[
        list[str], typer.Argument(metavar="ID... DATA", help=f"Models, yours first. {DATA_HELP}")
    ],
    test: TestData = None,
    full: Annotated[
        bool, typer.Option("--full", help="Train all layers, not a probe on frozen ones.")
    ] = False,
    lr: Annotated[float, typer.Option(help="Of --full.")] = 3e-4,
    epochs: Annotated[int, typer.Option(help="Of --full.")] = 9,
    batch_size: Annotated[int, typer.Option(help="Of --full.")] = 32,
    seeds: Annotated[int, typer.Option(help="Draws of each size.")] = 5,
    tolerance: Tolerance = 0.01,
    limit: Limit = None,
    seed: Seed = 0,
    threads: Threads = None,
    text_column: TextColumn = None,
    label_column: LabelColumn = None,
    on_error: OnErrorOption = OnError.FAIL,
    output: Output = None,
    resume: Resume = False,
    json: AsJson = False,
) -> None:
    """More labels or a bigger model: accuracy by the number of labels, extrapolated with its interval."""
    from zoo import choose

    if len(names) < 2:
        raise InputError(f"zoo curve {names[0]}: give one model or more, and the data last")
    with tables.progress() as say:
        found = choose.curve(
            names[:-1], names[-1], test=test, full=full, lr=lr, epochs=epochs, batch_size=batch_size, seeds=seeds,
            tolerance=tolerance, limit=limit, seed=seed, threads=threads, out=output, resume=resume,
            text=text_column, label=label_column, on_error=on_error.value, progress=say,
        )  # fmt: skip
    if json:
        tables.print_json(found.to_dict())
        return
    right = ("params M", "labels", "accuracy", "fitted")
    tables.print_table(choose.CURVE_COLUMNS, found.table(), right=right)
    typer.echo(f"\n{found.summary()}")
    _next(output, None)


def _next(output: Path | None, run: str | None) -> None:
    if output is None:
        return
    from zoo.cli.training import quoted

    typer.echo(f"\nWritten to {output}, with plots in {output / 'plot.svg'}.")
    if run is not None:
        typer.echo(f"Next:\n  zoo export {quoted(output / run)} -o {quoted(output / run / 'model.onnx')}")


def words(text: str) -> list[str]:
    """Names with commas between."""
    return [part.strip() for part in text.split(",") if part.strip()]


def rates(text: str) -> list[float]:
    """Numbers with commas between. Raises InputError."""
    try:
        return [float(part) for part in words(text)]
    except ValueError as error:
        raise InputError(
            f"cannot read --lr {text!r}: numbers with commas between, such as 1e-4,1e-3"
        ) from error
