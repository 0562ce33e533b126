"""Options that several commands share, so that they are called, and explained, the same everywhere."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import typer

from zoo.errors import InputError

DATA_HELP = "Image folder (class/photo.jpg), CSV, TSV, JSONL, Parquet, or a Hugging Face dataset (folder, hf:org/name)."


class OnError(StrEnum):
    """What to do about files that cannot be read."""

    FAIL = "fail"
    SKIP = "skip"


AsJson = Annotated[bool, typer.Option("--json", help="JSON for programs.")]
AsCsv = Annotated[bool, typer.Option("--csv", help="CSV for programs.")]
AsMarkdown = Annotated[bool, typer.Option("--markdown", help="A Markdown table, as in a pipe.")]
TextColumn = Annotated[
    str | None, typer.Option("--text-column", "--text", help="Column of the texts (default: found).")
]
LabelColumn = Annotated[
    str | None, typer.Option("--label-column", "--label", help="Column of the labels (default: found).")
]
OnErrorOption = Annotated[
    OnError, typer.Option("--on-error", help="Unreadable files: fail (lists all) or skip (reports them).")
]
PartOption = Annotated[
    Literal["train", "validation", "test"] | None,
    typer.Option("--part", help="Of data in parts (default: test, else validation)."),
]
Partial = Annotated[
    bool,
    typer.Option("--partial", help="Go on where a checkpoint lacks keys: those stay random, and are named."),
]
Threads = Annotated[int | None, typer.Option(min=1, help="CPU threads (default: all usable cores).")]
Seed = Annotated[int, typer.Option(help="Seed of every random draw.")]
Fresh = Annotated[bool, typer.Option("--fresh", help="Measure again what was measured before.")]
CostsFile = Annotated[
    Path | None,
    typer.Option("--costs", help="Costs of another device: what `zoo bench --json` said there."),
]
RayAddress = Annotated[
    str | None,
    typer.Option("--ray", metavar="ADDRESS", help="Export and train on this Ray cluster: auto, HOST:PORT."),
]
SequenceLength = Annotated[int, typer.Option(min=1, help="Tokens of a text when measuring.")]


def one_form(json: bool, csv: bool, markdown: bool = False) -> str:
    """The output form that is asked for: "json", "csv", "markdown" or "". Raises InputError for two of them."""
    asked = [n for n, given in (("json", json), ("csv", csv), ("markdown", markdown)) if given]
    if len(asked) > 1:
        raise InputError(f"{' and '.join(f'--{form}' for form in asked)} together: choose one")
    return asked[0] if asked else ""


def integers(text: str, option: str) -> tuple[int, ...]:
    """Read "1,8" into (1, 8). Raises InputError naming the option."""
    parts = [p.strip() for p in text.split(",") if p.strip()]
    if not parts or not all(p.isdigit() and int(p) > 0 for p in parts):
        raise InputError(f"cannot read {option} {text!r}: numbers above 0 with commas between, such as 1,8")
    return tuple(int(p) for p in parts)
