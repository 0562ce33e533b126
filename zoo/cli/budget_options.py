"""The options that make a Budget."""

from __future__ import annotations

from typing import Annotated

import typer

from zoo.cards import Budget
from zoo.cli.listing import LICENCE_HELP
from zoo.cli.merged import merged
from zoo.errors import InputError

# A list, so that a limit given twice is seen: of two the last would win without a word.
Limit = list[str] | None


def read_budget(
    *,
    max_latency: Annotated[Limit, typer.Option(metavar="TEXT", help="Such as 5ms.")] = None,
    max_size: Annotated[Limit, typer.Option(metavar="TEXT", help="Of the file, such as 80MB.")] = None,
    max_memory: Annotated[Limit, typer.Option(metavar="TEXT", help="At its peak, such as 300MB.")] = None,
    max_macs: Annotated[Limit, typer.Option(metavar="TEXT", help="Of one input, such as 1G.")] = None,
    max_params: Annotated[Limit, typer.Option(metavar="TEXT", help="Such as 10M.")] = None,
    max_download: Annotated[
        Limit, typer.Option(metavar="TEXT", help="Of all weights that are fetched, such as 500MB.")
    ] = None,
    licence: Annotated[
        Limit, typer.Option("--licence", "--license", metavar="TEXT", help=LICENCE_HELP)
    ] = None,
    latency_percentile: Annotated[int, typer.Option(help="50 or 90.")] = 50,
) -> Budget:
    """From the options to what limits. Raises InputError: a unit that there is not, a limit twice, or of nothing."""
    return Budget(
        latency_ms=_limit("--max-latency", max_latency, "ms"),
        size_mb=_limit("--max-size", max_size, "MB"),
        memory_mb=_limit("--max-memory", max_memory, "MB"),
        macs_g=_limit("--max-macs", max_macs, "G"),
        params_m=_limit("--max-params", max_params, "M"),
        download_mb=_limit("--max-download", max_download, "MB"),
        licence=only("--licence", licence),
        latency_percentile=latency_percentile,
    )


with_budget = merged("budget", read_budget, "Limits")


def _limit(option: str, given: Limit, unit: str) -> float | None:
    from zoo.choose.limits import parse_limit

    text = only(option, given)
    return None if text is None else parse_limit(text, unit)


def only(option: str, given: Limit) -> str | None:
    """The one text that was given. Raises InputError where there are two."""
    if given and len(given) > 1:
        raise InputError(
            f"{option} is given {len(given)} times ({', '.join(given)}): which one holds? Give one"
        )
    return given[0] if given else None
