"""`zoo augment`: a picture of what training sees of a photograph, epoch by epoch."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from zoo.cli.options import Seed
from zoo.errors import InputError


class Augment(StrEnum):
    """Policies of `zoo.data.augment`."""

    LIGHT = "light"
    STRONG = "strong"


def register(app: typer.Typer) -> None:
    """Put this file's command on `app`."""
    app.command("augment")(augment_command)


def augment_command(
    inputs: Annotated[
        list[str],
        typer.Argument(metavar="INPUT...", help="Photographs, or folders of them.", show_default=False),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="A .png file.", show_default=False)],
    augment: Annotated[Augment, typer.Option(help="As for training.")] = Augment.LIGHT,
    photos: Annotated[int, typer.Option(min=1, help="How many are shown, spread over all.")] = 4,
    epochs: Annotated[int, typer.Option(min=1, help="How many are shown.")] = 6,
    size: Annotated[int, typer.Option(min=1, help="Pixels a side that the network takes.")] = 224,
    seed: Seed = 0,
) -> None:
    """Draw what training would see: a row a photograph, first as it is predicted on, then an epoch a column."""
    if output.suffix != ".png":
        raise InputError(f"-o {output}: its name must end in .png")
    from zoo.cards import ImagePreprocess
    from zoo.data import open_inputs
    from zoo.data.augment import sheet
    from zoo.files import atomic_file

    files = [file for given in inputs for file in open_inputs(given, kind="image")]
    count = min(photos, len(files))
    shown = [files[i * len(files) // count] for i in range(count)]
    preprocess = ImagePreprocess(224, 224).at_size(size)
    picture = sheet(shown, preprocess, augment.value, seed=seed, epochs=epochs)
    with atomic_file(output) as new:
        picture.save(new, format="PNG")
    typer.echo(
        f"{output}: {count} photographs, as predicted on and as trained on in {epochs} epochs ({augment})"
    )
