"""`zoo train`: a head, or more of a model, on the user's data; the run is kept in a folder."""

from __future__ import annotations

import dataclasses
import os
import shlex
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zoo.cards import IMAGE_TASK, Recipe
from zoo.cli import tables
from zoo.cli.options import (
    DATA_HELP,
    LabelColumn,
    OnError,
    OnErrorOption,
    Partial,
    TextColumn,
    Threads,
)
from zoo.cli.recipe_options import with_recipe
from zoo.errors import InputError

if TYPE_CHECKING:
    from zoo.backbone import Backbone
    from zoo.data import Dataset, Kind
    from zoo.data.sources import Data
    from zoo.train import History

SHOWN_BAD = 10


class LogName(StrEnum):
    """Files for other programs, written while training goes on."""

    TENSORBOARD = "tensorboard"
    CSV = "csv"


Logs = Annotated[list[LogName] | None, typer.Option("--log", help="Also write losses as such files.")]
NoCache = Annotated[bool, typer.Option("--no-cache", help="Run a frozen backbone anew in every epoch.")]
Interval = Annotated[float, typer.Option(min=0, help="Between checkpoints within an epoch.")]
Output = Annotated[Path, typer.Option("-o", "--output", help="Folder of the run.", show_default=False)]
ValidationPath = Annotated[
    str | None, typer.Option("--validation", help="Data to validate on, where the data has no such part.")
]
Fraction = Annotated[float | None, typer.Option(help="Or a stratified part of the data, such as 0.2.")]


def register(app: typer.Typer) -> None:
    """Put this file's commands on `app`."""
    app.command("train")(train_command)


# --- train
@with_recipe
def train_command(
    name: Annotated[str, typer.Argument(metavar="ID", help="Such as tf:mobilenet_v2.")],
    data: Annotated[str, typer.Argument(help=DATA_HELP)],
    recipe: Recipe,
    output: Output,
    validation: ValidationPath = None,
    validation_fraction: Fraction = None,
    freeze: Annotated[str, typer.Option(help="backbone, none, or the number of first blocks.")] = "backbone",
    weights: Annotated[str, typer.Option(help="default, none (random), or a file or folder.")] = "default",
    depth: Annotated[int | None, typer.Option(min=0, help="Keep the first units only.")] = None,
    size: Annotated[int | None, typer.Option(min=1, help="Input pixels a side.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu (the default) or cuda.")] = None,
    text_column: TextColumn = None,
    label_column: LabelColumn = None,
    on_error: OnErrorOption = OnError.FAIL,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint.")] = False,
    no_cache: NoCache = False,
    override: Annotated[bool, typer.Option("--override", help="With another recipe from there on.")] = False,
    checkpoint_seconds: Interval = 120,
    log: Logs = None,
    partial: Partial = False,
    threads: Threads = None,
) -> None:
    """Train a head, or more, on your data; the run is kept in a folder, with checkpoints to go on from."""
    columns = {"text": text_column, "label": label_column, "on_error": on_error.value}
    source = TrainingData(data, validation, validation_fraction, columns, recipe.seed)
    frozen = freeze_option(freeze)
    check_folder(output, resume=resume)
    use_threads(threads if threads is not None or not resume else recorded_threads(output))
    parts = source.open(data_kind(name))
    model = _fresh(
        name, weights, depth, size, device, classes=len(parts[0].classes), seed=recipe.seed, partial=partial
    )
    model.freeze(frozen)
    history = model.fit(
        *parts, recipe, run_dir=output, resume=resume, cached=not no_cache, override=override,
        checkpoint_seconds=checkpoint_seconds, log=[name.value for name in log or ()],
    )  # fmt: skip
    held = parts[1] is not None and validation_fraction is None
    _print_run(history, output, (validation or data) if held else None)


def recorded_threads(output: Path) -> int | None:
    """Those of the run that is resumed, so that it goes on to the same bits; None where it says none."""
    from zoo.train.checkpoint import numerics

    threads = numerics(output).get("threads", "")
    return int(threads) if threads.isdigit() and int(threads) else None


def _fresh(
    name: str,
    weights: str,
    depth: int | None,
    size: int | None,
    device: str | None,
    *,
    classes: int,
    seed: int,
    partial: bool,
) -> Backbone:
    """The model with a head for so many classes; imports its framework."""
    from zoo import backbone

    return backbone.get(
        name,
        weights=weights,
        num_classes=classes,
        depth=depth,
        seed=seed,
        size=size,
        device=device,
        partial=partial,
    )


def _print_run(history: History, output: Path, examined: str | None) -> None:
    """examined: what to evaluate it on; None where there is nothing that it was not trained on."""
    _print_history(history)
    typer.echo(f"\nWritten to {output}. Next:")
    if examined is not None:
        typer.echo(f"  zoo evaluate {quoted(output)} {quoted(examined)}")
    typer.echo(f"  zoo export {quoted(output)} -o {quoted(output / 'model.onnx')}")


@dataclasses.dataclass(frozen=True)
class TrainingData:
    """What is trained and validated on. columns: the options of `open_data` that both share."""

    data: str
    validation: str | None
    fraction: float | None
    columns: dict[str, str | None]
    seed: int

    def __post_init__(self) -> None:
        if self.validation is not None and self.fraction is not None:
            raise InputError("--validation and --validation-fraction together: choose one")
        if self.fraction is not None and not 0 < self.fraction < 1:
            raise InputError(f"--validation-fraction {self.fraction}: between 0 and 1, such as 0.2")

    def open(self, kind: Kind | None) -> tuple[Dataset, Dataset | None]:
        """Training and validation part: the data's own, or as the options say."""
        from zoo.data import find_parts, split

        parts = find_parts(self.data)
        if self.fraction is not None and parts.validation is not None:
            raise InputError(
                f"{self.data} has a validation part of its own, so --validation-fraction is not needed: leave it "
                "out, or give the training part alone"
            )
        train = open_dataset(parts.to_train(), kind=kind, **self.columns)
        if self.fraction is not None:
            return split(train, self.fraction, seed=self.seed)
        held = parts.validation
        if self.validation is not None:
            held = find_parts(self.validation).to_judge("validation")
        if held is None:
            return train, None
        return train, open_dataset(held, kind=train.kind, classes=train.classes, **self.columns)


def data_kind(name: str) -> Kind | None:
    """What a model of the catalogue reads, None for a local folder. Raises UnknownModelError."""
    from zoo import registry

    card = registry.card(registry.resolve(name))
    if card is None:
        return None
    return "image" if card.task == IMAGE_TASK else "text"


def freeze_option(text: str) -> int | None:
    """As `Backbone.freeze` takes it: None for all, 0 for nothing, k for the first k. Raises InputError."""
    if text in ("backbone", "none"):
        return None if text == "backbone" else 0
    if not text.isdigit() or int(text) < 1:
        raise InputError(f"--freeze {text}: backbone, none, or a number of blocks (1 or more)")
    return int(text)


def check_folder(output: Path, *, resume: bool) -> None:
    if output.exists() and not output.is_dir():
        raise InputError(f"{output} is a file: give a folder for the run")
    if not resume and output.is_dir() and any(path.name != ".lock" for path in output.iterdir()):
        raise InputError(
            f"{output} is not empty: choose another folder with -o, or go on with the run in it with --resume"
        )
    if resume and not (output / "checkpoints").is_dir():
        tables.note(f"{output} holds no checkpoint to go on from: this run starts from the beginning")


def use_threads(threads: int | None) -> None:
    """Tell the frameworks, which read it when they are imported: after this call."""
    from zoo.executor import thread_settings

    if threads is not None:
        os.environ.update(thread_settings(threads))


def open_dataset(given: Data, **options: Any) -> Dataset:
    """Open data and say on standard error what was left out."""
    from zoo.data import open_data

    data = open_data(given, **options)
    if data.bad:
        lines = [f"  {name}: {reason}" for name, reason in data.bad[:SHOWN_BAD]]
        lines += [f"  and {len(data.bad) - SHOWN_BAD} more"] if len(data.bad) > SHOWN_BAD else []
        tables.note(f"left out {len(data.bad)} of {data.source}:\n" + "\n".join(lines))
    return data


def _print_history(history: History) -> None:
    from zoo.train.history import BEST

    headers = ("epoch", "loss", "validation loss", "accuracy", "rate", "seconds", "")
    rows = [
        (
            str(row["epoch"]),
            *(tables.number(row[k], 4) for k in ("loss", "validation_loss", "validation_accuracy")),
            tables.number(row["lr"]),
            tables.number(row["seconds"]),
            BEST[history.kept] if row["epoch"] == history.best_epoch else "",
        )
        for row in history.epochs
    ]
    tables.print_table(headers, rows, right=headers[:-1])
    if history.stopped:
        typer.echo(f"\nStopped: {history.stopped}.")


def quoted(value: object) -> str:
    """Ready to be pasted into a shell."""
    return shlex.quote(str(value))
