"""`zoo calibrate`: probabilities that mean what they say, and a threshold below which the answer is 'unsure'."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zoo.cards import ImagePreprocess
from zoo.cli import tables
from zoo.cli.options import AsJson, LabelColumn, OnError, OnErrorOption, TextColumn, Threads

if TYPE_CHECKING:
    from zoo.calibration import Calibration


def register(app: typer.Typer) -> None:
    """Put this file's command on `app`."""
    app.command("calibrate")(calibrate_command)


def calibrate_command(
    model: Annotated[str, typer.Argument(metavar="RUN|ONNX", help="A saved run or an ONNX file of ours.")],
    data: Annotated[str, typer.Argument(help="Held-out data: what the model was not trained on.")],
    accuracy: Annotated[
        float | None,
        typer.Option(help="Answer as much as possible with this share right, such as 0.95; else 'unsure'."),
    ] = None,
    text_column: TextColumn = None,
    label_column: LabelColumn = None,
    on_error: OnErrorOption = OnError.FAIL,
    threads: Threads = None,
    json: AsJson = False,
) -> None:
    """Fit a temperature and a reject threshold on held-out data; they are kept in the run or the file."""
    from zoo.cli.opening import is_onnx
    from zoo.cli.training import quoted, use_threads

    use_threads(threads)
    columns = {"text": text_column, "label": label_column, "on_error": on_error.value}
    found = _calibrated(Path(model), data, columns, accuracy, threads)
    if json:
        tables.print_json(found)
        return
    tables.print_pairs(_lines(found))
    typer.echo(f"\nKept in {model}. Next:")
    if is_onnx(Path(model)):
        typer.echo(f"  zoo predict {quoted(model)} INPUT...")
    else:
        typer.echo(f"  zoo export {quoted(model)} -o {quoted(Path(model) / 'model.onnx')}")


def _calibrated(
    path: Path, data: str, columns: dict[str, str | None], accuracy: float | None, threads: int | None
) -> Calibration:
    from zoo import backbone
    from zoo.cli.opening import is_onnx
    from zoo.cli.training import open_dataset
    from zoo.graph import OnnxModel, calibration_part
    from zoo.graph.variants import refuse_foreign
    from zoo.train.kept import kept
    from zoo.train.store import amend

    if is_onnx(path):
        refuse_foreign(path)
    model = OnnxModel(path, threads=threads) if is_onnx(path) else backbone.load(path)
    kind = "image" if isinstance(model.preprocess, ImagePreprocess) else "text"
    held = open_dataset(calibration_part(data), kind=kind, classes=model.labels, **columns)
    if isinstance(model, OnnxModel):
        tables.note(f"{path} does not say what it was trained on: {data} must hold none of it")
        return model.calibrate(held, accuracy=accuracy)
    found = model.calibrate(held, accuracy=accuracy)
    amend(path, **kept(found, model.trained_on))
    return found


def _lines(found: Calibration) -> list[tuple[str, str]]:
    low, high = found.accuracy_low, found.accuracy_high
    sure = "too sure of itself" if found.temperature > 1 else "not sure enough"
    lines = [
        ("temperature", f"{found.temperature:.3f} (the model was {sure})"),
        ("log loss", f"{found.log_loss_before:.3f} before, {found.log_loss_after:.3f} after"),
        ("calibration error", f"{found.ece_before:.3f} before, {found.ece_after:.3f} after"),
        ("accuracy", f"{found.accuracy:.3f} of what is answered (95 % interval {low:.3f} to {high:.3f})"),
        ("coverage", f"{found.coverage:.3f} of {found.n} examples are answered"),
    ]
    if found.wanted is not None:
        said = (
            f"top probability {found.threshold:.3f}; below it 'unsure'" if found.threshold else "none needed"
        )
        lines.append(("threshold", said))
    return lines
