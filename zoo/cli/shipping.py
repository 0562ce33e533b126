"""`zoo evaluate`, `zoo export`, `zoo verify`: from a trained run to a file that is checked."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zoo.cli import tables
from zoo.cli.mistakes import Wrong
from zoo.cli.options import (
    DATA_HELP,
    AsJson,
    LabelColumn,
    OnError,
    OnErrorOption,
    Partial,
    PartOption,
    TextColumn,
    Threads,
)
from zoo.cli.training import open_dataset, quoted, use_threads
from zoo.cli.variants import Calibrate, Judged, Keep, PrecisionOption, ReduceRange, Uint8Input
from zoo.errors import InputError

if TYPE_CHECKING:
    from zoo.graph import OnnxModel

OURS = "with the ONNX file beside this script"
SEEN = (
    "about {:.0%} of these examples were trained on: the figures are too good, and only held-out data tells how "
    "good the model is"
)


def register(app: typer.Typer) -> None:
    """Put this file's commands on `app`."""
    app.command("evaluate")(evaluate_command)
    app.command("export")(export_command)
    app.command("verify")(verify_command)


# --- evaluate
def evaluate_command(
    model: Annotated[str, typer.Argument(metavar="RUN|ONNX|ID", help="A saved run, an ONNX file or an id.")],
    data: Annotated[str, typer.Argument(help=DATA_HELP)],
    preprocess: Annotated[
        str | None, typer.Option(help="For an ONNX file without metadata: tf, torch, caffe or a JSON file.")
    ] = None,
    text_column: TextColumn = None,
    part: PartOption = None,
    label_column: LabelColumn = None,
    on_error: OnErrorOption = OnError.FAIL,
    threads: Threads = None,
    confusion: Annotated[bool, typer.Option("--confusion", help="Which class is taken for which.")] = False,
    worst: Annotated[int, typer.Option(min=0, help="Show so many errors, the highest loss first.")] = 0,
    errors: Annotated[Path | None, typer.Option(help="CSV file of every error.", show_default=False)] = None,
    json: AsJson = False,
) -> None:
    """Accuracy with its interval, macro F1 and log loss on labelled data; where it goes wrong."""
    use_threads(threads)
    from zoo.cards import ImagePreprocess
    from zoo.cli.opening import open_model
    from zoo.data import find_parts, share_seen
    from zoo.train import evaluate

    opened = open_model(model, preprocess=preprocess, threads=threads)
    kind = "image" if isinstance(opened.preprocess, ImagePreprocess) else "text"
    columns = {"text": text_column, "label": label_column, "on_error": on_error.value}
    judged = find_parts(data).to_judge(part)
    dataset = open_dataset(judged, kind=kind, classes=opened.labels, **columns)
    probabilities = opened.predict(dataset.inputs)
    figures = evaluate(probabilities, dataset.targets, dataset.classes)
    wrong = Wrong.of(probabilities, dataset, confusion=confusion, worst=worst, errors=errors)
    if trained_on := share_seen(getattr(opened, "trained_on", None), dataset):
        tables.note(SEEN.format(trained_on))
    if json:
        tables.print_json(figures | {"trained_on": trained_on} | wrong.as_dict())
        return
    _print_figures(figures, dataset.source)
    wrong.print()


def _print_figures(figures: Mapping[str, Any], source: str) -> None:
    low, high = figures["accuracy_low"], figures["accuracy_high"]
    tables.print_pairs(
        [
            ("accuracy", f"{figures['accuracy']:.3f} (95 % interval {low:.3f} to {high:.3f})"),
            ("macro F1", f"{figures['macro_f1']:.3f}"),
            ("log loss", f"{figures['log_loss']:.3f}"),
            ("examples", f"{figures['n']} of {source}"),
        ]
    )


# --- export
def export_command(
    model: Annotated[str, typer.Argument(metavar="RUN|ID|ONNX", help="A saved run, an id or an ONNX file.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The ONNX file.", show_default=False)],
    precision: PrecisionOption = "fp32",
    calibrate: Calibrate = None,
    data: Judged = None,
    keep: Keep = None,
    uint8_input: Uint8Input = False,
    reduce_range: ReduceRange = False,
    on_error: OnErrorOption = OnError.FAIL,
    partial: Partial = False,
    json: AsJson = False,
) -> None:
    """Write an ONNX file that is checked against the model, and a predict.py beside it."""
    from zoo.cli import variants

    if output.suffix != ".onnx":
        raise InputError(f"-o {output}: its name must end in .onnx")
    wanted = variants.Wanted(
        precision, calibrate, data, tuple(keep or ()), uint8_input, reduce_range, on_error.value
    )
    if wanted.plain:
        from zoo.cli.opening import open_backbone

        variants.refuse_plain(model, wanted)
        exported, report = open_backbone(model, partial=partial).export(output), None
    else:
        exported, report = variants.write(model, output, wanted, partial=partial)
    script = _script_beside(output)
    if json:
        tables.print_json({"path": str(output), **exported.provenance, "report": variants.as_dict(report)})
        return
    lines = [("wrote", str(output)), ("beside it", script), *provenance_lines(exported)]
    tables.print_pairs([*lines, *variants.lines(report)])
    typer.echo(f"\nNext:\n  zoo verify {quoted(output)}")


def _script_beside(model: Path) -> str:
    """Write predict.py, unless the folder has one that is not ours; says which."""
    from zoo.graph import write_predict_script

    there = model.parent / "predict.py"
    if there.exists() and OURS not in there.read_text(encoding="utf-8", errors="replace"):
        return f"nothing: {there} is yours and stays as it is"
    return str(write_predict_script(model.parent, model=model.name))


def provenance_lines(model: OnnxModel) -> list[tuple[str, str]]:
    """What an ONNX file says of itself."""
    said = model.provenance
    versions = ", ".join(f"{k} {v}" for k, v in said.get("versions", {}).items())
    lines = [
        ("model", str(said.get("id", ""))),
        ("classes", str(model.num_classes or "no head")),
        ("exporter", str(said.get("exporter", ""))),
        ("versions", versions),
        ("opset", str(said.get("opset", ""))),
        ("precision", str(said.get("precision", ""))),
        ("input", str(said.get("input", ""))),
        ("kept in float", ", ".join(said.get("kept", ()))),
    ]
    return [(name, value) for name, value in lines if value]


# --- verify
def verify_command(file: Annotated[Path, typer.Argument(metavar="FILE.onnx")], json: AsJson = False) -> None:
    """Run the input that the file carries and compare with the outputs that belong to it."""
    from zoo.graph import OnnxModel, verify

    figures = verify(file)
    if json:
        tables.print_json(figures)
        return
    lines = [(f"error of {name}", f"{value:.2g}") for name, value in figures.items()]
    tables.print_pairs([("verified", str(file)), *provenance_lines(OnnxModel(file)), *lines])
