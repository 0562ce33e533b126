"""`zoo bench`: what models cost, by one meter; and how a candidates' table is printed."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from zoo.cards import Cost
from zoo.cli import tables
from zoo.cli.kept import show_history
from zoo.cli.options import (
    AsCsv,
    AsJson,
    Fresh,
    SequenceLength,
    Threads,
    integers,
    one_form,
)
from zoo.errors import WorkerError

HEADERS = (
    "model",
    "batch",
    "p50 ms",
    "p90 ms",
    "p99 ms",
    "inputs/s",
    "memory MB",
    "file MB",
    "params M",
    "MACs G",
    "load ms",
)
Models = Annotated[
    list[str], typer.Argument(metavar="MODEL...", help="Ids, saved runs, ONNX files.", show_default=False)
]


def register(app: typer.Typer) -> None:
    """Put this file's commands on `app`."""
    app.command("bench")(bench_command)


def bench_command(
    models: Models,
    batch_size: Annotated[str, typer.Option(help="One or several: 1,8.")] = "1",
    threads: Threads = None,
    min_seconds: Annotated[float, typer.Option(min=0, help="Measure each at least this long.")] = 1.0,
    sequence_length: SequenceLength = 128,
    fresh: Fresh = False,
    history: Annotated[
        bool, typer.Option("--history", help="Measure nothing: what was measured of these before, and when.")
    ] = False,
    json: AsJson = False,
    csv: AsCsv = False,
) -> None:
    """Latency, throughput, memory, size: each model in its own process, by one meter for all."""
    one_form(json, csv)
    sizes = integers(batch_size, "--batch-size")
    from zoo import choose
    from zoo.choose.past_costs import kept_note
    from zoo.cost.store import now

    if history:
        show_history(choose.history(models), json=json, csv=csv)
        return
    started = now()

    with tables.progress() as say:
        costs = choose.benchmark(
            models,
            batch_sizes=sizes,
            threads=threads,
            sequence_length=sequence_length,
            min_seconds=min_seconds,
            fresh=fresh,
            progress=say,
        )
    if said := kept_note(costs, started):
        tables.note(said)
    if json:
        tables.print_json(costs)
    elif csv:
        _csv(costs)
    else:
        _table(costs, models)
    if costs and all(cost.error for cost in costs):
        raise WorkerError("none of these could be measured; the reasons are above")


def _table(costs: list[Cost], asked: list[str]) -> None:
    good = [cost for cost in costs if not cost.error]
    if good:
        tables.print_table(HEADERS, [_cells(cost) for cost in good], right=HEADERS[1:])
        typer.echo(f"\n{_conditions(good)}")
    if random := sorted({c.id for c in good if "@none" in c.id} - set(asked)):
        typer.echo(
            f"Random weights, because the pretrained ones cannot be reached here: {', '.join(random)}. "
            "What a model costs does not depend on them."
        )
    for name, reason in dict.fromkeys((cost.id, cost.error) for cost in costs if cost.error):
        typer.echo(f"\n{name} could not be measured: {reason}")


def _cells(cost: Cost) -> tuple[str, ...]:
    figures = (
        cost.latency_p50_ms,
        cost.latency_p90_ms,
        cost.latency_p99_ms,
        cost.throughput_per_s,
        cost.peak_memory_mb,
        cost.size_mb,
        None if cost.params is None else cost.params / 1e6,
        None if cost.macs is None else cost.macs / 1e9,
        cost.load_ms,
    )
    return (cost.id, str(cost.batch_size), *(tables.number(f) for f in figures))


def _conditions(costs: list[Cost]) -> str:
    """Under which conditions these figures hold, in one line."""
    first = costs[0]
    text = f"{first.threads} thread{'s' if first.threads != 1 else ''}"
    if tokens := next((c.sequence_length for c in costs if c.sequence_length), None):
        text += f", texts of {tokens} tokens"
    machine = ", ".join(f"{k} {v}" for k, v in first.machine.items())
    return f"{text}; {machine}. A percentile without enough samples is blank."


def _csv(costs: list[Cost]) -> None:
    names = [
        "id", "batch_size", "threads", "params", "macs", "file_bytes", "load_ms", "latency_p50_ms",
        "latency_p90_ms", "latency_p99_ms", "throughput_per_s", "load_memory_mb", "peak_memory_mb",
        "sequence_length", "samples", "spread", "error",
    ]  # fmt: skip
    tables.print_csv(names, [[getattr(cost, name) for name in names] for cost in costs])


NARROW = 110
"""A terminal with fewer columns gets the table without what WIDE_ONLY names; files and pipes get all of it."""
WIDE_ONLY = ("memory MB", "MACs G", "params M")


def print_rows(rows: Any) -> None:
    """The candidates' table; on a terminal each one's reason stands below it, a line each."""
    from zoo.choose.rows import COLUMNS

    cells = [row.cells() for row in rows]
    if not sys.stdout.isatty():
        tables.print_table(COLUMNS, cells, right=COLUMNS[1:-1])
        return
    narrow = shutil.get_terminal_size().columns < NARROW
    kept = [i for i, name in enumerate(COLUMNS[:-1]) if not (narrow and name in WIDE_ONLY)]
    names = [COLUMNS[i] for i in kept]
    tables.print_table(names, [[row[i] for i in kept] for row in cells], right=names[1:])
    for row in cells:
        typer.echo(f"  {row[0]}: {row[-1]}")


def write_text(path: Path, text: str) -> None:
    """Write a small file, whole or not at all. Raises StorageError."""
    from zoo.files import atomic_file

    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    tables.note(f"wrote {path}")
