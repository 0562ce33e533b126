"""`zoo bench` and `zoo compare`: what models cost, and how good they are for it, by one meter."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from zoo.cards import Cost
from zoo.cli import cost_notes, graph_table, tables
from zoo.cli.options import (
    DATA_HELP,
    AsCsv,
    AsJson,
    AsMarkdown,
    LabelColumn,
    OnError,
    OnErrorOption,
    Seed,
    SequenceLength,
    TextColumn,
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
CUSTOM_OPS_HELP = "A library of operators that ONNX Runtime lacks. Its code is run: only what you trust."
Models = Annotated[
    list[str], typer.Argument(metavar="MODEL...", help="Ids, saved runs, ONNX files.", show_default=False)
]


def register(app: typer.Typer) -> None:
    """Put this file's commands on `app`."""
    app.command("bench")(bench_command)
    app.command("compare")(compare_command)


def bench_command(
    models: Models,
    batch_size: Annotated[str, typer.Option(help="One or several: 1,8,32.")] = "1",
    threads: Threads = None,
    provider: Annotated[str, typer.Option(help="Of ONNX Runtime: cpu, cuda, openvino, coreml, ...")] = "cpu",
    min_seconds: Annotated[float, typer.Option(min=0, help="Measure each at least this long.")] = 1.0,
    sequence_length: SequenceLength = 128,
    memory_limit: Annotated[
        str | None, typer.Option(help="End a model's process above this resident size: 300MB.")
    ] = None,
    time_limit: Annotated[float, typer.Option(min=0, help="Seconds for a load or a round: a hang.")] = 300.0,
    inputs: Annotated[list[str], typer.Option("--input", help=INPUT_HELP)] = [],  # noqa: B006  (typer's way)
    custom_ops: Annotated[list[Path], typer.Option("--custom-ops", help=CUSTOM_OPS_HELP)] = [],  # noqa: B006
    graph: Annotated[bool, typer.Option("--graph", help="What the graph says too: a second table.")] = False,
    json: AsJson = False,
    csv: AsCsv = False,
    markdown: AsMarkdown = False,
) -> None:
    """Latency, throughput, memory, size: each model in its own process, by one meter for all."""
    one_form(json, csv, markdown)
    sizes = integers(batch_size, "--batch-size")
    from zoo import choose
    from zoo.choose.limits import parse_limit

    limit = None if memory_limit is None else parse_limit(memory_limit, "MB")
    final: list[Cost] = []
    stopped = False
    with tables.progress() as say:
        try:
            final = choose.benchmark(
                models, batch_sizes=sizes, threads=threads, sequence_length=sequence_length,
                min_seconds=min_seconds, provider=provider, memory_limit_mb=limit, time_limit_s=time_limit,
                inputs=inputs, custom_ops=custom_ops, progress=say, on_cost=final.append,
            )  # fmt: skip
        except KeyboardInterrupt:
            stopped = True
    _show(final, models, "json" if json else "csv" if csv else "markdown" if markdown else "")
    if graph and not (json or csv):
        graph_table.show(final)
    _end(final, stopped)


def _end(costs: list[Cost], stopped: bool) -> None:
    """The exit code: of Ctrl-C, or that nothing could be measured."""
    if stopped:
        count = sum(not cost.error for cost in costs)
        raise KeyboardInterrupt(f"what was measured stands above: {count} {'rows' if count != 1 else 'row'}")
    if costs and all(cost.error for cost in costs):
        raise WorkerError("\n".join(_reasons(costs)))


def _show(costs: list[Cost], asked: list[str], form: str) -> None:
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


# --- compare
def compare_command(
    models: Models,
    data: Annotated[str | None, typer.Option(help=DATA_HELP)] = None,
    text_column: TextColumn = None,
    label_column: LabelColumn = None,
    on_error: OnErrorOption = OnError.FAIL,
    threads: Threads = None,
    seed: Seed = 0,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Write the table here too.")] = None,
    json: AsJson = False,
) -> None:
    """Quality on your data and cost side by side, over frameworks."""
    from zoo import choose

    reading: dict[str, Any] = {"text": text_column, "label": label_column, "on_error": on_error.value}
    with tables.progress() as say:
        comparison = choose.compare(models, data, threads=threads, seed=seed, **reading, progress=say)
    if json:
        tables.print_json(comparison)
    else:
        print_rows(comparison.rows)
        typer.echo("\n" + "\n".join(comparison.notes))
    if output is not None:
        write_text(output, comparison.markdown() + "\n")
    if all(row.status in ("failed", "baseline") for row in comparison.rows):
        raise WorkerError("none of these could be measured; the reasons are above")


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
