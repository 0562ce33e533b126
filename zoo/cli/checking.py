"""`zoo check`: does the model get its photographs and labels as it was trained to?"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from zoo.cli import tables
from zoo.cli.options import (
    DATA_HELP,
    AsJson,
    LabelColumn,
    OnError,
    OnErrorOption,
    PartOption,
    Seed,
    TextColumn,
    Threads,
)

FAULT_FOUND = 10
"""Exit code of `zoo check` where it found a fault, so that a script can tell."""


def register(app: typer.Typer) -> None:
    """Put this file's command on `app`."""
    app.command("check")(check_command)


def check_command(
    model: Annotated[str, typer.Argument(metavar="RUN|ONNX|ID", help="A saved run, an ONNX file or an id.")],
    data: Annotated[str, typer.Argument(help=DATA_HELP)],
    examples: Annotated[int, typer.Option(min=2, help="How many are looked at, classes in turn.")] = 200,
    preprocess: Annotated[
        str | None, typer.Option(help="For an ONNX file without metadata: tf, torch, caffe or a JSON file.")
    ] = None,
    part: PartOption = None,
    text_column: TextColumn = None,
    label_column: LabelColumn = None,
    on_error: OnErrorOption = OnError.FAIL,
    seed: Seed = 0,
    threads: Threads = None,
    tried: Annotated[bool, typer.Option("--tried", help="Show every hypothesis with its figures.")] = False,
    json: AsJson = False,
) -> None:
    """Find wrong preprocessing: normalised twice, BGR for RGB, 0-255 for 0-1, wrong size, shifted labels.

    Exit code 10 where a fault is found.
    """
    import zoo

    settings: dict[str, Any] = {"examples": examples, "part": part, "seed": seed, "threads": threads}
    columns: dict[str, Any] = {"text": text_column, "label": label_column, "on_error": on_error.value}
    with tables.progress() as say:
        report = zoo.check(_file_or_name(model, preprocess), data, **settings, **columns, progress=say)
    if json:
        tables.print_json({**report.to_dict(), "ok": report.ok})
    else:
        typer.echo("\n".join(report.lines()))
        if tried:
            _print_tried(report)
    if not report.ok:
        raise typer.Exit(FAULT_FOUND)


def _file_or_name(model: str, preprocess: str | None) -> Any:
    """An ONNX file is opened here, with the preprocess it may need; anything else is a worker's to load."""
    from pathlib import Path

    from zoo.cli.opening import is_onnx, open_model

    return open_model(model, preprocess=preprocess) if is_onnx(Path(model)) or preprocess else model


def _print_tried(report: Any) -> None:
    headers = ("fault", "right would be", "accuracy", "log loss", "gained", "lost", "p", "examples", "")
    rows = [
        (
            trial.fault, trial.right, tables.number(trial.accuracy), tables.number(trial.log_loss),
            *("" if v is None else str(v) for v in (trial.gained, trial.lost)), tables.number(trial.p),
            str(trial.examples or ""), trial.reason,
        )
        for trial in report.tried
    ]  # fmt: skip
    typer.echo("")
    tables.print_table(headers, rows, right=headers[2:-1])
