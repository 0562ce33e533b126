"""`zoo list`, `zoo info`, `zoo doctor`: what there is, without importing a framework here."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated

import typer

from zoo.cards import IMAGE_TASK, TEXT_TASK, ModelCard, ModelId, WeightsCard
from zoo.cli import tables
from zoo.cli.options import AsCsv, AsJson, one_form
from zoo.errors import InputError, UnknownModelError

TASKS = {"image": IMAGE_TASK, "text": TEXT_TASK, IMAGE_TASK: IMAGE_TASK, TEXT_TASK: TEXT_TASK}


def register(app: typer.Typer) -> None:
    """Put this file's commands on `app`."""
    app.command("list")(list_command)
    app.command("info")(info_command)
    app.command("doctor")(doctor_command)


def list_command(
    pattern: Annotated[str, typer.Argument(help="Shell pattern over names, ids and aliases.")] = "*",
    framework: Annotated[str | None, typer.Option(help="Only this framework.")] = None,
    task: Annotated[str | None, typer.Option(help="image or text.")] = None,
    json: AsJson = False,
    csv: AsCsv = False,
) -> None:
    """Models that can be had, by name pattern; imports no framework."""
    from zoo import registry

    one_form(json, csv)
    if task is not None and task not in TASKS:
        raise InputError(f"no task {task!r}: image or text")
    wanted = TASKS[task] if task else None
    found = registry.list_models(pattern, framework=framework, task=wanted)
    if not found:
        raise _nothing_matches(pattern, framework, task)
    if json:
        tables.print_json(found)
    elif csv:
        tables.print_csv(("id", "task", "family", "params", "macs_g", "size", "weights"), _csv_rows(found))
    else:
        headers = ("id", "task", "params (M)", "MACs (G)", "input", "weights")
        tables.print_table(headers, [_row(c) for c in found], right=("params (M)", "MACs (G)", "input"))


def _row(card: ModelCard) -> tuple[str, ...]:
    tags = ", ".join(w.tag for w in card.weights) or "none published"
    params, macs = tables.number(card.params, factor=1e-6), tables.number(card.macs_g)
    return (card.id, card.task.partition("-")[0], params, macs, str(card.size or ""), tags)


def _csv_rows(cards: list[ModelCard]) -> list[tuple[object, ...]]:
    return [
        (c.id, c.task, c.family, c.params, c.macs_g, c.size, " ".join(w.tag for w in c.weights))
        for c in cards
    ]


def _nothing_matches(pattern: str, framework: str | None, task: str | None) -> UnknownModelError:
    from zoo import registry

    names = sorted({text for c in registry.list_models() for text in (c.name, *c.aliases)})
    near = difflib.get_close_matches(pattern.strip("*?"), names, n=3, cutoff=0.5)
    asked = f" in {framework}" if framework else ""
    asked += f" for {task}" if task else ""
    guess = f" Did you mean {', '.join(near)}?" if near else ""
    return UnknownModelError(
        f"no model matches {pattern!r}{asked}.{guess} `zoo list` shows all; quote a pattern: 'resnet*'.", near
    )


# --- info
def info_command(
    name: Annotated[str, typer.Argument(metavar="ID", help="Such as tf:mobilenet_v2.")],
    framework: Annotated[str | None, typer.Option(help="Where the id names none.")] = None,
    json: AsJson = False,
) -> None:
    """One model's card: size, input, weights with licence and published figures, paper."""
    from zoo import registry

    model = registry.resolve(name, framework)
    card = registry.card(model)
    if card is None:
        raise _no_card(model)
    weights = _weights_asked_for(card, model)
    if json:
        tables.print_json(card)
        return
    tables.print_pairs(_card_lines(card))
    for entry in weights:
        typer.echo(f"\nweights @{entry.tag}")
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
    if model.weights in ("default", "none"):
        return card.weights
    chosen = tuple(w for w in card.weights if w.tag == model.weights)
    if not chosen:
        tags = [w.tag for w in card.weights]
        near = difflib.get_close_matches(model.weights, tags, n=3, cutoff=0.4)
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
    metric = f"{weights.metric} {weights.value}" if weights.metric and weights.value is not None else ""
    source = f" ({weights.source})" if weights.source else ""
    return [
        ("file", weights.file or "(no single file)"),
        ("URL", weights.url or "unknown"),
        ("SHA-256", weights.sha256 or "unknown"),
        ("licence", weights.licence),
        ("published", f"{metric}{source}" if metric else "no figure"),
    ]


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
