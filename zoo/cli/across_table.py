"""`zoo info --across NAME`: one architecture as every framework and source has it, figures beside each other."""

from __future__ import annotations

from collections.abc import Sequence

import typer

from zoo.across import Across, across
from zoo.cards import ModelCard
from zoo.catalogue import Entry
from zoo.cli import tables

RELATIVES = 12
HEADERS = (
    "id",
    "params",
    "against first",
    "MACs (G)",
    "input",
    "MB",
    "top-1 %",
    "at",
    "best top-1 %",
    "tags",
    "licence",
)


def show(name: str, *, json: bool) -> None:
    """Print what the catalogues hold under a name. Raises UnknownModelError."""
    found = across(name)
    if json:
        tables.print_json(found)
        return
    _table(found.same, found.same[0])
    _differences(found.same)
    if found.relatives:
        typer.echo("\nrelatives: another network of nearly that name and size")
        _table(found.relatives[:RELATIVES], found.same[0])
        _differences(found.relatives[:RELATIVES])
    tables.note(_summary(found))


def _table(cards: Sequence[ModelCard], first: ModelCard) -> None:
    rows = [_cells(card, first) for card in cards]
    columns = zip(HEADERS, *rows, strict=True)
    headers, *kept = zip(*(column for column in columns if any(column[1:])), strict=True)
    tables.print_table(headers, kept, right=HEADERS[1:-1])


def _cells(card: ModelCard, first: ModelCard) -> list[str]:
    """Parameters to the last digit: that is where two frameworks' versions differ."""
    entries = [Entry(card, weights) for weights in card.weights]
    default = entries[0] if entries else Entry(card, None)
    figures = [(entry.top1, entry) for entry in entries if entry.top1 is not None]
    best, by = max(figures, key=lambda pair: pair[0]) if figures else (None, default)
    off = card.params - first.params if card.params and first.params else 0
    return [
        card.id,
        f"{card.params:,}" if card.params else "",
        f"{off:+,}" if off else "",
        tables.number(default.macs_g, 4),
        str(default.input or ""),
        tables.number(default.size_mb),
        "" if default.top1 is None else f"{default.top1:.2f}",
        default.top1_at,
        f"{best:.2f} @{by.weights.tag}" if best is not None and by.weights and by is not default else "",
        str(len(entries)),
        default.weights.licence if default.weights else "",
    ]


def _differences(cards: Sequence[ModelCard]) -> None:
    """What words and preprocessing tell of each: a note once for all who share it."""
    for title, texts in (
        ("what is said of it", {card.id: card.note for card in cards}),
        ("input of its first weights", {c.id: c.weights[0].preprocess if c.weights else "" for c in cards}),
    ):
        by_text: dict[str, list[str]] = {}
        for name, text in texts.items():
            by_text.setdefault(text, []).append(name)
        by_text.pop("", None)
        if by_text:
            typer.echo(f"\n{title}")
        for text, names in by_text.items():
            typer.echo(f"  {', '.join(names)}\n    {text}")


def _summary(found: Across) -> str:
    frameworks = {card.framework for card in found.same}
    sources = {(card.framework, card.source) for card in found.same}
    rest = len(found.relatives) - RELATIVES
    said = f"{len(found.same)} of it in {len(frameworks)} framework(s), {len(sources)} source(s)"
    said += "; top-1 is ImageNet-1K's, as published, of the first weights; `zoo info ID` shows all of them."
    return said + (f" {rest} more relatives: --json." if rest > 0 else "")
