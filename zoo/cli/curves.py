"""`zoo find-lr` and `zoo plot`: curves as HTML pages."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zoo.cards import Recipe
from zoo.cli import tables
from zoo.cli.options import DATA_HELP, AsJson, LabelColumn, OnError, OnErrorOption, TextColumn, Threads
from zoo.cli.recipe_options import with_recipe
from zoo.errors import InputError

if TYPE_CHECKING:
    from zoo.train import RateSearch

Page = Annotated[
    Path | None, typer.Option("-o", "--output", help="HTML file of the plot.", show_default=False)
]


def register(app: typer.Typer) -> None:
    """Put this file's commands on `app`."""
    app.command("find-lr")(find_lr_command)
    app.command("plot")(plot_command)


@with_recipe
def find_lr_command(
    name: Annotated[str, typer.Argument(metavar="ID|RUN", help="Such as tf:mobilenet_v2, or a saved run.")],
    data: Annotated[str, typer.Argument(help=DATA_HELP)],
    recipe: Recipe,
    output: Page = None,
    freeze: Annotated[str, typer.Option(help="backbone, none, or the number of first blocks.")] = "backbone",
    lowest: Annotated[float, typer.Option(help="Rate of the first step.")] = 1e-7,
    highest: Annotated[float, typer.Option(help="Rate of the last step.")] = 10.0,
    steps: Annotated[int, typer.Option(help="Steps between them.")] = 100,
    text_column: TextColumn = None,
    label_column: LabelColumn = None,
    on_error: OnErrorOption = OnError.FAIL,
    threads: Threads = None,
    json: AsJson = False,
) -> None:
    """Suggest a learning rate: a short training at rising rates, which changes nothing."""
    from zoo.cli.training import freeze_option, open_dataset, use_threads

    frozen = freeze_option(freeze)
    check_page(output)
    use_threads(threads)
    from zoo.cli.opening import open_backbone
    from zoo.data import find_parts

    model = open_backbone(name)
    columns = {"text": text_column, "label": label_column, "on_error": on_error.value}
    train = open_dataset(find_parts(data).to_train(), kind=model.kind, **columns)
    model.unfreeze()
    model.freeze(frozen)
    found = model.find_lr(train, recipe, steps=steps, lowest=lowest, highest=highest)
    if output is not None:
        found.plot(output)
    if json:
        tables.print_json({**vars(found), "suggestion": found.suggestion})
    else:
        tables.print_pairs(_lines(found, output))


def _lines(found: RateSearch, output: Path | None) -> list[tuple[str, str]]:
    lines = [
        ("suggestion", f"--lr {found.suggestion:.2g} (where the loss falls most steeply)"),
        ("other rule", f"--lr {found.lowest_tenth:.2g} (a tenth of the rate with the lowest loss)"),
        ("tried", f"{len(found.rates)} steps, rates from {found.rates[0]:.2g} to {found.rates[-1]:.2g}"),
        ("ended", found.stopped or "at the highest rate"),
    ]
    return lines + ([("plot", str(output))] if output is not None else [])


def plot_command(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A folder that `zoo train -o` wrote.")],
    output: Page = None,
) -> None:
    """Losses, accuracy and rate of a run, finished or not, as one HTML page."""
    from zoo.train.history import read_history

    target = run / "curves.html" if output is None else output
    check_page(target)
    read_history(run).plot(target)
    tables.print_pairs([("wrote", str(target))])


def check_page(output: Path | None) -> None:
    """Before any work: the page's name, and that plotly is there. Raises InputError, FrameworkMissingError."""
    from zoo import plots

    if output is None:
        return
    if output.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"-o {output}: its name must end in .html")
    plots.plotly()
