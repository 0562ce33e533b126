"""`zoo bench`: what models cost, by one meter; and how a candidates' table is printed."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from zoo.cards import Cost
from zoo.cli import cost_notes, graph_table, tables
from zoo.cli.kept import show_history
from zoo.cli.options import (
    AsCsv,
    AsJson,
    AsMarkdown,
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
    "95 %",
    "p90 ms",
    "p99 ms",
    "inputs/s",
    "memory MB",
    "file MB",
    "params M",
    "MACs G",
    "load ms",
    "first ms",
)
INPUT_HELP = (
    "What an input is fed, where the file does not say: name:shape:dtype (N is the batch, =VALUE fills it)."
)
MEMORY_HELP = "End a model's process above this resident size: 300MB."
HISTORY_HELP = "Measure nothing: what was measured of these before, and when."
CUSTOM_OPS_HELP = "A library of operators that ONNX Runtime lacks. Its code is run: only what you trust."
Models = Annotated[
    list[str], typer.Argument(metavar="MODEL...", help="Ids, saved runs, ONNX files.", show_default=False)
]


def register(app: typer.Typer) -> None:
    """Put this file's commands on `app`."""
    app.command("bench")(bench_command)


def bench_command(
    models: Models,
    batch_size: Annotated[str, typer.Option(help="One or several: 1,8,32.")] = "1",
    threads: Threads = None,
    provider: Annotated[str, typer.Option(help="Of ONNX Runtime: cpu, cuda, openvino, coreml, ...")] = "cpu",
    min_seconds: Annotated[float, typer.Option(min=0, help="Measure each at least this long.")] = 1.0,
    sequence_length: SequenceLength = 128,
    memory_limit: Annotated[str | None, typer.Option(help=MEMORY_HELP)] = None,
    time_limit: Annotated[float, typer.Option(min=0, help="Seconds for a load or a round: a hang.")] = 300.0,
    inputs: Annotated[list[str], typer.Option("--input", help=INPUT_HELP)] = [],  # noqa: B006  (typer's way)
    custom_ops: Annotated[list[Path], typer.Option("--custom-ops", help=CUSTOM_OPS_HELP)] = [],  # noqa: B006
    graph: Annotated[bool, typer.Option("--graph", help="What the graph says too: a second table.")] = False,
    fresh: Fresh = False,
    history: Annotated[bool, typer.Option("--history", help=HISTORY_HELP)] = False,
    json: AsJson = False,
    csv: AsCsv = False,
    markdown: AsMarkdown = False,
) -> None:
    """Latency, throughput, memory, size: each model in its own process, by one meter for all."""
    form = one_form(json, csv, markdown)
    sizes = integers(batch_size, "--batch-size")
    from zoo import choose
    from zoo.choose.limits import parse_limit
    from zoo.cost.store import now
    from zoo.cost.summary import with_ties

    if history:
        show_history(choose.history(models), json=json, csv=csv)
        return
    limit = None if memory_limit is None else parse_limit(memory_limit, "MB")
    final, stopped, started = list[Cost](), False, now()
    with tables.progress() as say:
        try:
            final = choose.benchmark(
                models, batch_sizes=sizes, threads=threads, sequence_length=sequence_length,
                min_seconds=min_seconds, provider=provider, memory_limit_mb=limit, time_limit_s=time_limit,
                inputs=inputs, custom_ops=custom_ops, fresh=fresh, progress=say, on_cost=final.append,
            )  # fmt: skip
        except KeyboardInterrupt:
            final, stopped = with_ties(final), True
    _show(final, models, form, started)
    if graph and form in ("", "markdown"):
        graph_table.show(final)
    _end(final, stopped)


def _end(costs: list[Cost], stopped: bool) -> None:
    """The exit code: of Ctrl-C, or that nothing could be measured."""
    if stopped:
        count = sum(not cost.error for cost in costs)
        raise KeyboardInterrupt(f"what was measured stands above: {count} {'rows' if count != 1 else 'row'}")
    if costs and all(cost.error for cost in costs):
        raise WorkerError("\n".join(_reasons(costs)))


def _show(costs: list[Cost], asked: list[str], form: str, started: str) -> None:
    from zoo.choose.past_costs import kept_note

    if said := kept_note(costs, started):
        tables.note(said)
    if form == "json":
        tables.print_json(costs)
    elif form == "csv":
        _csv(costs)
    else:
        _table(costs, asked, as_markdown=form == "markdown")


def _table(costs: list[Cost], asked: list[str], *, as_markdown: bool) -> None:
    good = [cost for cost in costs if not cost.error]
    if good:
        rows = [_cells(cost) for cost in good]
        tables.print_table(HEADERS, rows, right=HEADERS[1:], as_markdown=as_markdown)
        for line in (*cost_notes.conditions(good), *cost_notes.doubts(good)):
            typer.echo(f"\n{line}")
    if random := sorted({c.id for c in good if "@none" in c.id} - set(asked)):
        typer.echo(
            f"\nRandom weights, because the pretrained ones cannot be reached here: {', '.join(random)}. "
            "What a model costs does not depend on them."
        )
    for reason in _reasons(costs) if good else ():
        typer.echo(f"\n{reason}")


def _reasons(costs: list[Cost]) -> list[str]:
    """Why rows are blank, once for each model and reason."""
    lost = dict.fromkeys((cost.id, cost.error) for cost in costs if cost.error)
    return [f"{name} could not be measured: {reason}" for name, reason in lost]


def _cells(cost: Cost) -> tuple[str, ...]:
    figures = (
        cost.throughput_per_s,
        cost.peak_memory_mb,
        cost.size_mb,
        None if cost.params is None else cost.params / 1e6,
        None if cost.macs is None else cost.macs / 1e9,
        cost.load_ms,
        cost.first_ms,
    )
    return (
        cost.id,
        str(cost.batch_size),
        *cost_notes.latency_cells(cost),
        *(tables.number(f) for f in figures),
    )


def _csv(costs: list[Cost]) -> None:
    names = [
        "id", "batch_size", "threads", "params", "macs", "file_bytes", "load_ms", "first_ms", "latency_p50_ms",
        "latency_p50_low_ms", "latency_p50_high_ms", "latency_p90_ms", "latency_p90_high_ms", "latency_p99_ms",
        "latency_p99_high_ms", "throughput_per_s", "load_memory_mb", "peak_memory_mb", "energy_mj",
        "sequence_length", "precision", "samples", "spread", "weight_bytes", "activation_bytes", "transposes",
        "warning", "error",
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
