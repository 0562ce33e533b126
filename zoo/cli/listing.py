"""`zoo list`: the catalogue filtered and sorted, one row for each set of weights; imports no framework."""

from __future__ import annotations

import contextlib
import gc
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated

import typer

from zoo.catalogue import NUMBERS, SORTS, Entry, Wanted, entries, facts, ordered, unknown
from zoo.cli import tables
from zoo.cli.options import AsCsv, AsJson, one_form
from zoo.errors import InputError, UnknownModelError

# What a limit is called in a message: its words and its unit.
WORDS = {
    "params": ("params", "M"),
    "macs": ("MACs", "G"),
    "size": ("download size", "MB"),
    "input": ("input", ""),
    "top1": ("ImageNet top-1", "%"),
    "licence": ("licence", ""),
}
STEPS = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9, "b": 1e9, "t": 1e12}
QUANTITY = re.compile(r"([0-9][0-9_]*\.?[0-9]*(?:e[0-9]+)?)\s*([kmgbt]?)b?", re.IGNORECASE)
PATTERN_HELP = "Shell pattern over names, ids and aliases; @ and one over tags: 'resnet50@a*'."
LICENCE_HELP = "permissive, or SPDX ids such as apache-2.0,mit."


def list_command(
    pattern: Annotated[str, typer.Argument(help=PATTERN_HELP)] = "*",
    framework: Annotated[str | None, typer.Option(help="Only this framework.")] = None,
    task: Annotated[str | None, typer.Option(help="image or text.")] = None,
    source: Annotated[str | None, typer.Option(help="Where from: torchvision, timm, keras*, ...")] = None,
    family: Annotated[str | None, typer.Option(help="Of this family: resnet, vit*, ...")] = None,
    licence: Annotated[str | None, typer.Option("--licence", "--license", help=LICENCE_HELP)] = None,
    dataset: Annotated[str | None, typer.Option(help="With a figure on this data set.")] = None,
    min_top1: Annotated[str | None, typer.Option(help="ImageNet top-1 in percent: 75.")] = None,
    min_params: Annotated[str | None, typer.Option(help="Such as 1M.")] = None,
    max_params: Annotated[str | None, typer.Option(help="Such as 5M.")] = None,
    min_macs: Annotated[str | None, typer.Option(help="Multiply-accumulates, such as 300M.")] = None,
    max_macs: Annotated[str | None, typer.Option(help="Such as 4G.")] = None,
    min_size: Annotated[str | None, typer.Option(help="Of the weights' download, such as 5MB.")] = None,
    max_size: Annotated[str | None, typer.Option(help="Such as 50MB.")] = None,
    min_input: Annotated[int | None, typer.Option(help="Pixels a side, or tokens.")] = None,
    max_input: Annotated[int | None, typer.Option(help="Pixels a side, or tokens.")] = None,
    sort: Annotated[str, typer.Option(help=f"By {', '.join(SORTS)}; accuracy from the highest.")] = "id",
    reverse: Annotated[bool, typer.Option("--reverse", help="The other way round.")] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many rows.")] = None,
    json: AsJson = False,
    csv: AsCsv = False,
) -> None:
    """Models that can be had, a row for each set of weights, by what is published of them."""
    one_form(json, csv)
    limits = {
        "params": (quantity("--min-params", min_params, 1e6), quantity("--max-params", max_params, 1e6)),
        "macs": (quantity("--min-macs", min_macs, 1e9), quantity("--max-macs", max_macs, 1e9)),
        "size": (quantity("--min-size", min_size, 1e6), quantity("--max-size", max_size, 1e6)),
        "input": (min_input, max_input),
        "top1": (percent("--min-top1", min_top1), None),
    }
    wanted = Wanted(pattern, framework, task, source, family, licence, dataset, limits)
    with _no_collection():
        found = ordered(entries(wanted), sort, reverse=reverse)
        if not found:
            raise _nothing(wanted)
        _show(found[:limit], json, csv)
    if not (json or csv):
        tables.note(_summary(found, limit, wanted))


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """Without the search for cycles, which finds none among thousands of cards and takes a tenth of the time."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


# --- what was typed
def quantity(option: str, text: str | None, unit: float) -> float | None:
    """Read "5M", "300K", "50MB" or a whole number into units of `unit`. Raises InputError naming the option."""
    if text is None:
        return None
    found = QUANTITY.fullmatch(text.strip())
    if found is None:
        raise InputError(f"cannot read {option} {text!r}: a number with K, M or G, such as 5M")
    number, step = float(found[1].replace("_", "")), found[2].lower()
    if not step and 0 < number < 1000:
        raise InputError(f"{option} {text}: {text} of what? Write {text}M for millions, {text}K or {text}G")
    return number * STEPS[step] / unit


def percent(option: str, text: str | None) -> float | None:
    """Read "75", "75.5" or "75%". Raises InputError for what is no percentage, 0.75 among them."""
    if text is None:
        return None
    try:
        value = float(text.strip().removesuffix("%"))
    except ValueError as error:
        raise InputError(f"cannot read {option} {text!r}: percent, such as 75") from error
    if 0 < value <= 1:
        raise InputError(f"{option} {text}: it is in percent; write {value * 100:g}")
    if not 0 <= value <= 100:
        raise InputError(f"{option} {text}: percent lie between 0 and 100")
    return value


# --- what is shown
def _show(found: list[Entry], json: bool, csv: bool) -> None:
    if json:
        tables.print_records([facts(entry) for entry in found])
    elif csv:
        rows = [facts(entry) for entry in found]
        tables.print_csv(tuple(rows[0]), [tuple(row.values()) for row in rows])
    else:
        _table(found)


def _table(found: list[Entry]) -> None:
    several = len({entry.card.task for entry in found}) > 1
    columns = [("id", False, [entry.id for entry in found])]
    columns += [("task", False, [e.card.task.partition("-")[0] for e in found])] if several else []
    columns += [
        (title, True, [tables.number(NUMBERS[key](entry)) for entry in found])
        for title, key in (("params (M)", "params"), ("MACs (G)", "macs"), ("MB", "size"))
    ]
    columns.append(("input", True, [str(entry.input or "") for entry in found]))
    columns.append(("top-1 %", True, ["" if e.top1 is None else f"{e.top1:.2f}" for e in found]))
    columns.append(("measured at", False, [entry.top1_at for entry in found]))
    columns.append(("other figure", False, [_other_figure(entry) for entry in found]))
    columns.append(("licence", False, [e.weights.licence if e.weights else "" for e in found]))
    shown = [column for column in columns if any(column[2])]
    rows = list(zip(*(cells for _, _, cells in shown), strict=True))
    tables.print_table([c[0] for c in shown], rows, right=[title for title, right, _ in shown if right])


def _other_figure(entry: Entry) -> str:
    weights = entry.weights
    if weights is None or weights.metric is None or weights.value is None or entry.top1 is not None:
        return ""
    return f"{weights.metric} {weights.value:g} {weights.dataset or ''}".rstrip()


def _summary(found: list[Entry], limit: int | None, wanted: Wanted) -> str:
    models = len({entry.card.id for entry in found})
    said = f"{len(found)} set(s) of weights of {models} model(s)"
    said += f", the first {limit} shown" if limit is not None and limit < len(found) else ""
    said += "; an id without @ loads the first that `zoo info` shows."
    left = [f"{count} state no {WORDS[name][0]}" for name, count in unknown(wanted).items()]
    return said + (f" Left out: {', '.join(left)}." if left else "")


# --- nothing
def _nothing(wanted: Wanted) -> UnknownModelError:
    """Why nothing is listed: the name, or what it must have."""
    named = Wanted(wanted.pattern, wanted.framework, wanted.task)
    alike = entries(named)
    if not alike:
        return _no_name(wanted)
    texts = [
        f"{key} {value}"
        for key in ("source", "family", "licence", "dataset")
        if (value := getattr(wanted, key))
    ]
    for key, (low, high) in wanted.limits.items():
        word, unit = WORDS[key]
        texts += [f"{word} at least {low:g} {unit}".rstrip()] if low is not None else []
        texts += [f"{word} at most {high:g} {unit}".rstrip()] if high is not None else []
    missing = unknown(replace(wanted))
    note = "".join(f" {count} state no {WORDS[key][0]}." for key, count in missing.items())
    return UnknownModelError(
        f"{len(alike)} set(s) of weights match {wanted.pattern!r}, and none of them all of: {'; '.join(texts)}.{note} "
        "Leave one out, or look at what comes nearest with --sort."
    )


def _no_name(wanted: Wanted) -> UnknownModelError:
    from zoo import registry

    prefix, _, name = wanted.pattern.rpartition(":")
    framework = wanted.framework or (prefix if prefix in registry.frameworks() else "")
    cards = [
        card for f in ([framework] if framework else registry.frameworks()) for card in registry.cards(f)
    ]
    found = registry.near(name.strip("*?"), {text for c in cards for text in (c.name, *c.aliases)})
    asked = f" in {wanted.framework}" if wanted.framework else ""
    asked += f" for {wanted.task}" if wanted.task else ""
    guess = f" Did you mean {', '.join(found)}?" if found else ""
    return UnknownModelError(
        f"no model matches {wanted.pattern!r}{asked}.{guess} `zoo list` shows all; quote a pattern: 'resnet*'.",
        found,
    )
