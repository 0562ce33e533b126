"""`zoo predict`: the first answers are printed while the last photographs are still being decoded."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zoo.cards import ImagePreprocess
from zoo.cli import tables
from zoo.cli.options import AsCsv, AsJson, OnError, OnErrorOption, Threads, one_form
from zoo.errors import HeadMissingError

if TYPE_CHECKING:
    from zoo.backbone import Backbone
    from zoo.data import Input
    from zoo.engine import Array, Batch
    from zoo.graph import OnnxModel

BATCH_SIZE = 32
Answer = tuple[str, list[tuple[str, float]], bool]
"""An input's name, (label, probability), the most probable first, and whether that is below the threshold."""


def register(app: typer.Typer) -> None:
    """Put this file's command on `app`."""
    app.command("predict")(predict_command)


def predict_command(
    model: Annotated[str, typer.Argument(metavar="RUN|ONNX|ID", help="A saved run, an ONNX file or an id.")],
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT...", help="Photographs, folders of them, or texts.", show_default=False
        ),
    ],
    top: Annotated[int, typer.Option(min=1, help="How many classes to show.")] = 3,
    preprocess: Annotated[
        str | None, typer.Option(help="For an ONNX file without metadata: tf, torch, caffe or a JSON file.")
    ] = None,
    on_error: OnErrorOption = OnError.FAIL,
    threads: Threads = None,
    json: AsJson = False,
    csv: AsCsv = False,
) -> None:
    """Classes with their probabilities. An ONNX file needs neither torch nor tensorflow."""
    one_form(json, csv)
    from zoo.cli.opening import open_model
    from zoo.cli.training import use_threads

    use_threads(threads)
    opened = open_model(model, preprocess=preprocess, threads=threads)
    listed = open_listed(inputs, opened, skip=on_error is OnError.SKIP)
    answers = _ranked(opened, listed, top)
    rejects = opened.calibration is not None and opened.calibration.threshold > 0
    if json:
        tables.print_json([_as_dict(answer, rejects) for answer in answers])
    elif csv:
        _print_csv(answers, rejects)
    else:
        _print_lines(answers, width=max(len(name_of(item)) for item in listed))


def open_listed(inputs: Sequence[str], model: Backbone | OnnxModel, *, skip: bool) -> list[Input]:
    """Every input that the arguments name, in order. Raises BadFilesError listing all that are no images."""
    from zoo.data import open_inputs

    if not isinstance(model.preprocess, ImagePreprocess):
        return [text for given in inputs for text in open_inputs(given, kind="text")]
    files = [file for given in inputs for file in open_inputs(given, kind="image")]
    return _readable(files, " ".join(inputs), skip=skip)


def _readable(files: Sequence[Input], source: str, *, skip: bool) -> list[Input]:
    from zoo.data.dataset import bad_files_error
    from zoo.data.sources import check_files
    from zoo.errors import DataError

    problems = check_files([Path(str(file)) for file in files])
    bad = [(str(file), why) for file, why in zip(files, problems, strict=True) if why]
    if bad and not skip:
        raise bad_files_error(bad, len(files), source)
    if len(bad) == len(files):
        raise DataError(f"{source}: not one of {len(files)} files is a usable photograph; first: {bad[0][1]}")
    for name, why in bad:
        tables.note(f"left out {name}: {why}")
    return [file for file, why in zip(files, problems, strict=True) if not why]


def _ranked(model: Backbone | OnnxModel, inputs: Sequence[Input], top: int) -> Iterator[Answer]:
    """Answers in the order of the inputs, as they come."""
    labels, calibration = model.labels, model.calibration
    with _progress(len(inputs)) as advance:
        for index, shares in _probabilities(model, inputs):
            names = labels or tuple(str(i) for i in range(shares.shape[1]))
            for i, row in zip(index, shares, strict=True):
                best = (-row).argsort(kind="stable")[:top]
                unsure = calibration is not None and bool(row[best[0]] < calibration.threshold)
                yield name_of(inputs[i]), [(names[c], float(row[c])) for c in best], unsure
            advance(len(index))


def _probabilities(model: Backbone | OnnxModel, inputs: Sequence[Input]) -> Iterator[tuple[Array, Array]]:
    """(indices, calibrated probabilities float32 [n, C]) a batch, decoding ahead of computing."""
    from zoo.calibration import probabilities
    from zoo.data import batches

    logits = _logits(model)
    for index, batch in batches(inputs, model.preprocess, batch_size=BATCH_SIZE):
        yield index, probabilities(logits(batch), model.calibration)


def _logits(model: Backbone | OnnxModel) -> Callable[[Batch], Array]:
    if model.num_classes is None:
        raise HeadMissingError(
            "this model has no classification head, so there is nothing to predict: `zoo train` puts one on "
            "for your classes (in Python: replace_head(num_classes), then fit)"
        )
    from zoo.graph import OnnxModel

    return model.logits if isinstance(model, OnnxModel) else model.engine.logits


@contextlib.contextmanager
def _progress(total: int) -> Iterator[Callable[[int], None]]:
    """A bar on standard error while the answers go into a file or pipe; on a terminal they are the progress."""
    if sys.stdout.isatty() or not sys.stderr.isatty() or total <= BATCH_SIZE:
        yield lambda count: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("predict", total=total)
        yield lambda count: bar.advance(task, count)


def name_of(item: object) -> str:
    """How an input is called in the answers."""
    return " ".join(str(item).split())


def _as_dict(answer: Answer, rejects: bool) -> dict[str, Any]:
    name, ranked, unsure = answer
    said = {"input": name, "predictions": [{"label": c, "probability": p} for c, p in ranked]}
    return said | ({"unsure": unsure} if rejects else {})


def _print_csv(answers: Iterator[Answer], rejects: bool) -> None:
    headers: tuple[str, ...] = ("input", "rank", "label", "probability", *(["unsure"] if rejects else []))
    for name, ranked, unsure in answers:
        last = ["yes" if unsure else "no"] if rejects else []
        rows = [(name, i + 1, label, f"{p:.6g}", *last) for i, (label, p) in enumerate(ranked)]
        tables.print_csv(headers, rows)
        headers = ()


def _print_lines(answers: Iterator[Answer], *, width: int) -> None:
    for name, ranked, unsure in answers:
        shown = ", ".join(f"{label} {p:.3f}" for label, p in ranked)
        typer.echo(f"{name:<{min(width, 60)}}  {'unsure: ' if unsure else ''}{shown}")
