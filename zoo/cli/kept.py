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
SHOWN = {"cpu": "{}", "cores": "{} cores", "provider": "{}", "onnxruntime": "onnxruntime {}"}
"""Of a machine's description, in a table; --json has all of it."""


def kept_note(costs: Sequence[Cost], started: str) -> str:
    """Which of these figures are of before `started` (UTC, ISO 8601); "" where all are new."""
    old = [cost for cost in costs if cost.measured_at and cost.measured_at < started]
    if not old:
        return ""
    names = ", ".join(dict.fromkeys(cost.id for cost in old))
    when = sorted({day(cost) for cost in old})
    span = when[0] if len(when) == 1 else f"{when[0]} to {when[-1]}"
    return (
        f"Measured before ({span}) and not again: {names}. The reference model is within 3 % of its speed then; "
        "--fresh measures everything."
    )


def day(cost: Cost) -> str:
    """When, to the minute."""
    return (cost.measured_at or "")[:16].replace("T", " ")


def machine_text(cost: Cost) -> str:
    """What it was measured on, in a cell."""
    return ", ".join(form.format(cost.machine[name]) for name, form in SHOWN.items() if name in cost.machine)


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
