"""Printing: rich tables on a terminal, plain Markdown in a pipe, JSON and CSV for programs.

Nothing is ever truncated: a cell too wide for the terminal is folded, and a pipe has no width.
Results go to standard output, progress and notes to standard error.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import json
import math
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import typer


def print_table(headers: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[str] = ()) -> None:
    """Print cells under `headers`; the columns named in `right` hold numbers."""
    if sys.stdout.isatty():
        _rich_table(headers, rows, right)
    else:
        typer.echo(markdown(headers, rows, right=right))


def markdown(headers: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[str] = ()) -> str:
    """An aligned Markdown table."""
    cells = [[_plain(c) for c in row] for row in (headers, *rows)]
    widths = [max(3, *(len(row[i]) for row in cells)) for i in range(len(headers))]
    numeric = [h in right for h in headers]
    rule = [("-" * (w - 1) + ":") if n else "-" * w for w, n in zip(widths, numeric, strict=True)]

    def line(row: Sequence[str]) -> str:
        padded = [c.rjust(w) if n else c.ljust(w) for c, w, n in zip(row, widths, numeric, strict=True)]
        return "| " + " | ".join(padded) + " |"

    return "\n".join([line(cells[0]), line(rule), *map(line, cells[1:])])


def _plain(cell: str) -> str:
    return cell.replace("|", "\\|").replace("\n", " ")


def _rich_table(headers: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD)
    for header in headers:
        table.add_column(header, justify="right" if header in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))  # Text: an id with [brackets] is no markup
    Console().print(table)


def print_pairs(pairs: Sequence[tuple[str, str]]) -> None:
    """Print "name  value" lines, the values aligned; a value of several lines is indented."""
    width = max(len(name) for name, _ in pairs)
    for name, value in pairs:
        typer.echo(f"{name:<{width}}  " + value.replace("\n", "\n" + " " * (width + 2)))


def print_json(value: Any) -> None:
    """Print JSON; a number that is not finite is null."""
    typer.echo(json.dumps(_jsonable(value), indent=2, ensure_ascii=False))


def print_csv(headers: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print CSV with a header line; without headers the rows alone."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerows([headers] if headers else [])
    writer.writerows(["" if v is None else v for v in row] for row in rows)


def _jsonable(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _jsonable({f.name: getattr(value, f.name) for f in dataclasses.fields(value)})
    if isinstance(value, Mapping):
        return {str(k): _jsonable(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_jsonable(v) for v in value]
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value


def note(text: str) -> None:
    """A line beside the result, on standard error."""
    typer.echo(text, err=True)


@contextlib.contextmanager
def progress() -> Iterator[Callable[[str], None]]:
    """Say what is being done: one line that is written over on a terminal, a line each in a log."""
    if not sys.stderr.isatty():
        yield note
        return
    try:
        yield lambda text: _over(text[: shutil.get_terminal_size().columns - 1])
    finally:
        _over("")


def _over(text: str) -> None:
    sys.stderr.write(f"\r\x1b[K{text}")
    sys.stderr.flush()


def number(value: float | None, digits: int = 3, *, factor: float = 1.0) -> str:
    """`value * factor` in `digits` significant digits without an exponent; blank where unknown."""
    if value is None or not math.isfinite(value):
        return ""
    scaled = value * factor
    if scaled == 0:
        return "0"
    places = max(0, digits - 1 - math.floor(math.log10(abs(scaled))))
    return f"{scaled:.{min(places, 9)}f}"
