"""`zoo export --precision`: the variant of a run, an id or an ONNX file, and what it costs in accuracy."""

from __future__ import annotations

import dataclasses
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, cast

import typer

from zoo.errors import InputError

if TYPE_CHECKING:
    from zoo.data.sources import OnError
    from zoo.graph import OnnxModel, Settings, VariantReport


PrecisionOption: TypeAlias = Annotated[
    str, typer.Option(help="fp32, fp16, int8-dynamic (text) or int8-static (convolutions).")
]
Calibrate: TypeAlias = Annotated[
    str | None, typer.Option(help="Data that int8-static finds its ranges on; labels are not needed.")
]
Judged: TypeAlias = Annotated[
    str | None, typer.Option(help="Labelled data: accuracy beside fp32, and the layers that cost it.")
]
Keep: TypeAlias = Annotated[
    list[str] | None, typer.Option(metavar="LAYER", help="A layer that stays in float; repeatable.")
]
Uint8Input: TypeAlias = Annotated[
    bool, typer.Option("--uint8-input", help="The graph takes RGB pixels [N, H, W, 3] and normalises them.")
]
ReduceRange: TypeAlias = Annotated[
    bool, typer.Option("--reduce-range", help="7-bit weights, for x86 CPUs without VNNI.")
]


@dataclass(frozen=True)
class Wanted:
    """The options of `zoo export` that make a variant."""

    precision: str
    calibrate: str | None
    data: str | None
    keep: tuple[str, ...]
    uint8_input: bool
    reduce_range: bool
    on_error: str

    @property
    def plain(self) -> bool:
        """Whether the float32 file itself is wanted."""
        return self.precision == "fp32" and not self.uint8_input

    def settings(self) -> Settings:
        """Raises InputError for a precision that there is not."""
        from zoo.graph import Precision, Settings

        return Settings(cast(Precision, self.precision), self.keep, self.uint8_input, self.reduce_range)


def refuse_plain(model: str, wanted: Wanted) -> None:
    """Raise InputError for what says nothing of a float32 export."""
    from zoo.cli.opening import is_onnx

    if is_onnx(Path(model)):
        raise InputError(
            f"{model} is an ONNX file already: say what to make of it, such as --precision int8-static "
            "--calibrate DATA, --precision fp16 or --uint8-input"
        )
    options = {
        "--calibrate": wanted.calibrate,
        "--data": wanted.data,
        "--keep": wanted.keep,
        "--reduce-range": wanted.reduce_range,
    }
    if given := [name for name, value in options.items() if value]:
        raise InputError(f"{', '.join(given)}: of a variant; say which with --precision")


def write(
    model: str, output: Path, wanted: Wanted, *, partial: bool
) -> tuple[OnnxModel, VariantReport | None]:
    """The variant at `output`, and its report where there is data to judge on."""
    from zoo.cli.opening import is_onnx, open_backbone
    from zoo.graph import OnnxModel, explain_loss, judge_variant
    from zoo.graph.calibrating import calibration_set
    from zoo.graph.judging import open_judged
    from zoo.graph.precision import refuse_unfit, write_variant

    settings, on_error = wanted.settings(), cast("OnError", wanted.on_error)
    with tempfile.TemporaryDirectory(prefix="zoo-export-") as folder:
        if is_onnx(Path(model)):
            refuse_unfit(Path(model))
            parent = OnnxModel(model)
        else:
            parent = open_backbone(model, partial=partial).export(Path(folder) / "fp32.onnx")
        kind = "text" if "input_ids" in parent.inputs else "image"
        judged = None if wanted.data is None else open_judged(parent, wanted.data, on_error)
        found = None if wanted.calibrate is None else calibration_set(wanted.calibrate, cast(Any, kind))
        write_variant(parent.path, settings, output, found)
        variant = OnnxModel(output)
        if judged is None:
            return variant, None
        report = judge_variant(parent, variant, judged)
        return variant, explain_loss(report, parent, settings, judged, found)


def as_dict(report: VariantReport | None) -> dict[str, Any] | None:
    """JSON."""
    if report is None:
        return None
    return {**dataclasses.asdict(report), "gap": report.gap, "size_ratio": report.size_ratio}


def lines(report: VariantReport | None) -> list[tuple[str, str]]:
    """The report for a person; empty where there is none."""
    from zoo.graph.judging import SHOWN

    if report is None:
        return []
    sizes = f"{report.file_bytes / 1e6:.2f} MB, {report.size_ratio:.2f} of float32's {report.parent_bytes / 1e6:.2f}"
    low, high = 100 * report.gap_low, 100 * report.gap_high
    found = [
        ("size", sizes),
        (
            "accuracy",
            f"{report.accuracy:.3f}, float32 {report.parent_accuracy:.3f} on the same {report.n} examples",
        ),
        ("difference", f"{100 * report.gap:+.1f} points (paired 95 % interval {low:+.1f} to {high:+.1f})"),
        ("same class", f"{report.agreement:.1%}"),
    ]
    for cost in report.layers[:SHOWN]:
        share = f"changes the logits by {cost.error:.2g} of their variance"
        found.append(("costly layer", f"{', '.join(cost.layers)}: alone it {share}"))
    if report.kept_accuracy is not None and report.kept_bytes is not None:
        options = " ".join(f"--keep {name}" for name in report.keep)
        better = f"{report.kept_accuracy:.3f} in {report.kept_bytes / 1e6:.2f} MB"
        found.append(("better", f"{better} with {options}"))
    elif report.layers:
        found.append(
            ("better", "keeping the costliest four in float does not help: compare other precisions")
        )
    return found
