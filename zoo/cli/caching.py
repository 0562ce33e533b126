"""`zoo cache`: what is kept on this machine to save work, and how to be rid of it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from zoo.cli import tables
from zoo.cli.options import AsJson

if TYPE_CHECKING:
    from zoo.cache import Entry

UNITS_OF_TIME = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def register(app: typer.Typer) -> None:
    """Put this file's command on `app`."""
    app.command("cache")(cache_command)


def cache_command(
    clear: Annotated[bool, typer.Option("--clear", help="Remove everything; it is made again.")] = False,
    json: AsJson = False,
) -> None:
    """Cached features, graphs and heads: what, how large, when last used, and the limit."""
    from zoo import cache
    from zoo.files import cache_dir

    if clear:
        _say_removed(cache.clear())
        return
    limit, found = cache.limit(), cache.entries()[::-1]
    total = sum(entry.size for entry in found)
    if json:
        rows = [
            {"kind": e.kind, "what": what(e), "bytes": e.size, "used": e.used, "path": str(e.path)}
            for e in found
        ]
        tables.print_json({"folder": str(cache_dir()), "bytes": total, "limit": limit, "entries": rows})
        return
    if found:
        headers = ("kind", "what", "size", "last used")
        lines = [(e.kind, what(e), cache.show_size(e.size), f"{_ago(e.used)} ago") for e in found]
        tables.print_table(headers, lines, right=("size",))
        typer.echo("")
    typer.echo(
        f"{cache_dir()}: {cache.show_size(total)} of {cache.show_size(limit)} at most ({cache.LIMIT})."
    )


def _say_removed(gone: list[Entry]) -> None:
    from zoo import cache

    size = cache.show_size(sum(entry.size for entry in gone))
    typer.echo(f"removed {len(gone)} file(s), {size}")
    if left := cache.entries():
        tables.note(f"{len(left)} could not be removed: {', '.join(str(e.path) for e in left)}")


def what(entry: Entry) -> str:
    """In words: whose features or graph it is. What cannot be read is called damaged."""
    from zoo import cache
    from zoo.errors import ModelFileError

    if entry.kind == cache.DIGESTS:
        return "contents of photographs that were read"
    if entry.kind == cache.RESULTS:
        return "what probes of candidates said"
    try:
        if entry.kind == cache.FEATURES:
            from zoo.train.feature_files import describe

            return describe(entry.path)
        from zoo.graph import OnnxModel

        model = OnnxModel(entry.path)
        if model.depths:
            return f"{model.id}, {len(model.depths)} depths"
        return f"{model.id}, {model.num_classes or 'no'} classes"
    except (ModelFileError, OSError):
        return "damaged"


def _ago(then: float) -> str:
    seconds = max(0.0, time.time() - then)
    unit, name = next((u for u in UNITS_OF_TIME if seconds >= u[0]), UNITS_OF_TIME[-1])
    return f"{seconds // unit:.0f} {name}"
