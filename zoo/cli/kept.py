"""Figures of earlier runs on the command line: which of a table they are, and the history of a model."""

from __future__ import annotations

from collections.abc import Sequence

import typer

from zoo.cards import Cost
from zoo.cli import tables

HEADERS = (
    "measured (UTC)",
    "model",
    "batch",
    "threads",
    "tokens",
    "p50 ms",
    "p90 ms",
    "p99 ms",
    "memory MB",
    "file",
    "machine",
)
NUMBERS = HEADERS[2:9]


def show_history(costs: Sequence[Cost], *, json: bool, csv: bool) -> None:
    """As a table, or all of it as JSON or CSV. A failure stands in the place of the machine."""
    if json:
        tables.print_json(costs)
        return
    rows = [_cells(cost) for cost in costs]
    if csv:
        tables.print_csv(HEADERS, rows)
        return
    tables.print_table(HEADERS, rows, right=NUMBERS)
    typer.echo("\nA file is named by the first digits of its sha256: another one is another artefact.")


def _cells(cost: Cost) -> tuple[str, ...]:
    from zoo.choose.past_costs import day, machine_text

    figures = (cost.latency_p50_ms, cost.latency_p90_ms, cost.latency_p99_ms, cost.peak_memory_mb)
    return (
        day(cost),
        cost.id,
        str(cost.batch_size),
        str(cost.threads),
        str(cost.sequence_length or ""),
        *(tables.number(figure) for figure in figures),
        (cost.sha256 or "")[:8],
        machine_text(cost) + (f"; failed: {cost.error.splitlines()[0]}" if cost.error else ""),
    )
