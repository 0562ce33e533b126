"""`zoo info`, `zoo doctor`: what there is, without importing a framework here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from zoo.cards import IMAGE_TASK, ModelCard, ModelId, WeightsCard
from zoo.cli import listing, tables
from zoo.cli.options import AsJson
from zoo.errors import AmbiguousModelError, InputError, UnknownModelError


def register(app: typer.Typer) -> None:
    """Put this file's commands on `app`."""
    app.command("list")(listing.list_command)
    app.command("info")(info_command)
    app.command("doctor")(doctor_command)


# --- info
def info_command(
    name: Annotated[str, typer.Argument(metavar="ID", help="Such as tf:mobilenet_v2, or an ONNX file.")],
    framework: Annotated[str | None, typer.Option(help="Where the id names none.")] = None,
    across: Annotated[
        bool, typer.Option("--across", help="That architecture in every framework and source.")
    ] = False,
    json: AsJson = False,
) -> None:
    """One model's card: size, input, weights with licence and published figures, paper. An ONNX file's: its graph."""
    from zoo import registry
    from zoo.cli import across_table, graph_table

    if name.lower().endswith(".onnx") and framework is None and not across:
        graph_table.show_file(Path(name), json=json)
        return
    if across:
        across_table.show(f"{framework}:{name}" if framework else name, json=json)
        return
    try:
        model = registry.resolve(name, framework)
    except AmbiguousModelError as error:
        hint = f"{error}; `zoo info --across {name}` sets them side by side"
        raise AmbiguousModelError(hint, error.ids) from error
    card = registry.card(model)
    if card is None:
        raise _no_card(model)
    weights = _weights_asked_for(card, model)
    if json:
        tables.print_json(card)
        return
    tables.print_pairs(_card_lines(card))
    for entry in weights:
        typer.echo(f"\nweights @{entry.tag}" + (" (default)" if entry is card.weights[0] else ""))
        tables.print_pairs([(f"  {k}", v) for k, v in _weights_lines(entry)])


def _no_card(model: ModelId) -> InputError:
    path = Path(model.name).expanduser()
    if path.exists():
        return InputError(
            f"{model.name} is {'a folder' if path.is_dir() else 'a file'} of yours, and the catalogue has no "
            "card for it. `zoo bench` measures it; `zoo verify` shows what an ONNX file says of itself."
        )
    return UnknownModelError(f"no card for {model}: `zoo list --framework {model.framework}` shows all.")


def _weights_asked_for(card: ModelCard, model: ModelId) -> tuple[WeightsCard, ...]:
    """All weights of a card, or the ones an id's @tag names. Raises UnknownModelError with near tags."""
    from zoo import registry

    if model.weights in ("default", "none"):
        return card.weights
    chosen = tuple(w for w in card.weights if w.tag == model.weights)
    if not chosen:
        tags = [w.tag for w in card.weights]
        near = registry.near(model.weights, tags, cutoff=0.4)
        guess = f" Did you mean {', '.join(near)}?" if near else ""
        raise UnknownModelError(
            f"{card.id} has no weights {model.weights!r}.{guess} There are: {', '.join(tags) or 'none'}. "
            f"`zoo info {card.id}` shows them.",
            near,
        )
    return chosen


def _card_lines(card: ModelCard) -> list[tuple[str, str]]:
    pixels = f"{card.size} x {card.size} pixels" if card.task == IMAGE_TASK else f"up to {card.size} tokens"
    lines = [
        ("id", card.id),
        ("also called", ", ".join(card.aliases)),
        ("task", card.task),
        ("family", card.family),
        ("from", card.source),
        ("params", f"{tables.number(card.params, factor=1e-6)} M" if card.params else ""),
        ("MACs", f"{tables.number(card.macs_g)} G for one input" if card.macs_g else ""),
        ("input", pixels if card.size else ""),
        ("depths", ", ".join(map(str, card.depths))),
        ("paper", card.paper),
        ("note", card.note),
        ("weights", "" if card.weights else "none published: weights='none' gives random ones"),
    ]
    return [(name, value) for name, value in lines if value]


def _weights_lines(weights: WeightsCard) -> list[tuple[str, str]]:
    figure = f"{weights.metric} {weights.value:g}" if weights.metric and weights.value is not None else ""
    figure += f" on {weights.dataset}" if figure and weights.dataset else ""
    digest = f"MD5 {weights.md5}" if weights.md5 and not weights.sha256 else weights.sha256
    lines = [
        ("file", weights.file or "(no single file)"),
        ("URL", weights.url or "unknown"),
        ("download", f"{weights.bytes / 1e6:.1f} MB" if weights.bytes else "unknown"),
        ("SHA-256", digest or "unknown"),
        ("licence", weights.licence),
        (
            "published",
            (figure or "no figure") + (f" ({weights.source})" if figure and weights.source else ""),
        ),
        ("input", str(weights.size or "")),
        ("prepared", weights.preprocess),
    ]
    return [(name, value) for name, value in lines if value]


# --- doctor
def doctor_command(json: AsJson = False) -> None:
    """What works here: Python, machine, each framework with the cause and the cure where it does not."""
    from zoo import doctor

    tables.note("asking each framework in a process of its own; this takes some seconds ...")
    report = doctor.examine()
    if json:
        tables.print_json(report)
        return
    tables.print_pairs([(f.name, f.state) for f in report.facts])
    typer.echo("")
    for check in report.frameworks:
        versions = ", ".join(f"{k} {v}" for k, v in check.versions.items())
        typer.echo(f"{check.name:<6} {check.state}" + (f": {versions}" if versions else ""))
        for label, text in (("cause", check.cause), ("cure", check.cure)):
            if text:
                typer.echo(f"       {label}: {text}")
    for warning in report.warnings:
        typer.echo(f"\nwarning: {warning.what}\n  cure: {warning.cure}")
    typer.echo(f"\n{report.summary}")
