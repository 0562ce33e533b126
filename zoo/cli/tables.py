"""Printing: aligned tables on a terminal, Markdown in a pipe, JSON and CSV for programs.

Nothing is ever truncated: a cell too wide for the terminal is folded, and a pipe has no width. The tables are
drawn here: rich takes 4 s for the catalogue's thousands of rows.
Results go to standard output, progress and notes to standard error.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import functools
import json
import math
import shutil
import sys
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import typer


def print_table(
    headers: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    right: Sequence[str] = (),
    as_markdown: bool = False,
) -> None:
    """Print cells under `headers`; the columns named in `right` hold numbers. as_markdown: on a terminal too."""
    if sys.stdout.isatty() and not as_markdown:
        text = drawn(headers, rows, right=right, width=shutil.get_terminal_size().columns)
    else:
        text = markdown(headers, rows, right=right)
    sys.stdout.write(text + "\n")


def markdown(headers: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[str] = ()) -> str:
    """An aligned Markdown table."""
    columns = [[_plain(c) for c in column] for column in zip(headers, *rows, strict=True)]
    padded = []
    for header, column in zip(headers, columns, strict=True):
        number, width = header in right, max(3, *map(len, column))
        column.insert(1, "-" * (width - 1) + ":" if number else "-" * width)
        padded.append([c.rjust(width) if number else c.ljust(width) for c in column])
    return "\n".join(f"| {' | '.join(row)} |" for row in zip(*padded, strict=True))


def _plain(cell: str) -> str:
    return cell.replace("|", "\\|").replace("\n", " ") if "|" in cell or "\n" in cell else cell


# --- a terminal
GAP, NARROWEST = "  ", 8


def drawn(
    headers: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[str] = (), width: int = 80
) -> str:
    """A table under a rule, at most `width` cells wide where folding can make it so; first column whole."""
    columns = [[c.replace("\n", " ") for c in column] for column in zip(headers, *rows, strict=True)]
    numeric = [header in right for header in headers]
    widest = [max(map(_width, column)) for column in columns]
    widths = _fitted(widest, numeric, width - len(GAP) * (len(headers) - 1))
    heights = [1] * (len(rows) + 1)
    if widths != widest:
        columns, heights = _folded(columns, widths)
    for column, room, number in zip(columns, widths, numeric, strict=True):
        column[:] = [_padded(cell, room, number) for cell in column]
        column.insert(heights[0], "─" * room)
    return "\n".join(GAP.join(row).rstrip() for row in zip(*columns, strict=True))


def _width(text: str) -> int:
    """Cells of a terminal: East Asian wide characters take two, combining ones none."""
    if text.isascii():
        return len(text)
    wide = sum(unicodedata.east_asian_width(letter) in "WF" for letter in text)
    return len(text) + wide - sum(map(bool, map(unicodedata.combining, text)))


def _padded(text: str, width: int, number: bool) -> str:
    if text.isascii():
        return text.rjust(width) if number else text.ljust(width)
    room = " " * (width - _width(text))
    return room + text if number else text + room


def _fitted(widest: Sequence[int], numeric: Sequence[bool], room: int) -> list[int]:
    """Column widths within `room`: the widest column of words gives way first, never an id or a number.

    Where that cannot do, nothing is folded: the terminal wraps the lines.
    """
    widths = list(widest)
    givers = [i for i in range(1, len(widths)) if not numeric[i]]
    while sum(widths) > room and givers:
        i = max(givers, key=lambda i: widths[i])
        if widths[i] <= NARROWEST:
            return list(widest)
        widths[i] -= 1
    return widths if sum(widths) <= room else list(widest)


def _folded(columns: Sequence[Sequence[str]], widths: Sequence[int]) -> tuple[list[list[str]], list[int]]:
    """The columns with their cells cut to `widths`, and how many lines each row takes."""
    cut = [[_pieces(c, width) for c in column] for column, width in zip(columns, widths, strict=True)]
    heights = [max(map(len, row)) for row in zip(*cut, strict=True)]
    filled = [
        [
            line
            for pieces, high in zip(column, heights, strict=True)
            for line in pieces + [""] * (high - len(pieces))
        ]
        for column in cut
    ]
    return filled, heights


def _pieces(text: str, width: int) -> list[str]:
    """A cell cut to `width`, between words where there are any."""
    if _width(text) <= width:
        return [text]
    found, line = [], ""
    for word in text.split(" "):
        if line and _width(f"{line} {word}") > width:
            found.append(line)
            line = word
        else:
            line = f"{line} {word}" if line else word
        while _width(line) > width:
            cut = next(i for i in range(len(line), 0, -1) if _width(line[:i]) <= width or i == 1)
            found.append(line[:cut])
            line = line[cut:]
    return [*found, line] if line else found


def print_pairs(pairs: Sequence[tuple[str, str]]) -> None:
    """Print "name  value" lines, the values aligned; a value of several lines is indented."""
    width = max(len(name) for name, _ in pairs)
    for name, value in pairs:
        typer.echo(f"{name:<{width}}  " + value.replace("\n", "\n" + " " * (width + 2)))


def print_json(value: Any) -> None:
    """Print JSON; a number that is not finite is null."""
    typer.echo(json.dumps(_jsonable(value), indent=2, ensure_ascii=False))


def print_records(records: Sequence[Mapping[str, Any]]) -> None:
    """Print a JSON list, an object a line."""
    lines = [json.dumps(record, ensure_ascii=False) for record in records]
    sys.stdout.write("[\n" + ",\n".join(lines) + "\n]\n")


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


@functools.lru_cache(maxsize=1 << 14)
def number(value: float | None, digits: int = 3, *, factor: float = 1.0) -> str:
    """`value * factor` in `digits` significant digits without an exponent; blank where unknown."""
    if value is None or not math.isfinite(value):
        return ""
    scaled = value * factor
    if scaled == 0:
        return "0"
    places = max(0, digits - 1 - math.floor(math.log10(abs(scaled))))
    return f"{scaled:.{min(places, 9)}f}"
