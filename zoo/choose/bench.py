"""`zoo.benchmark`: one meter for names, saved runs, backbones in memory and anybody's ONNX files."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from zoo import registry
from zoo.backbone import Backbone
from zoo.cards import Cost
from zoo.choose.artefacts import Request, Say, export_all
from zoo.choose.candidates import is_run, run_id
from zoo.cost import kept_or_measured
from zoo.cost.host import provider_named
from zoo.cost.meter import TIME_LIMIT_S
from zoo.errors import InputError, ModelFileError, ZooError
from zoo.graph import OnnxModel

Model: TypeAlias = "str | Path | Backbone | OnnxModel"


def benchmark(
    models: Model | Sequence[Model],
    *,
    batch_sizes: Sequence[int] = (1,),
    threads: int | None = None,
    sequence_length: int = 128,
    min_seconds: float = 1.0,
    provider: str = "cpu",
    memory_limit_mb: float | None = None,
    time_limit_s: float = TIME_LIMIT_S,
    inputs: Sequence[str] = (),
    custom_ops: Sequence[Path | str] = (),
    fresh: bool = False,
    progress: Callable[[str], None] | None = None,
    on_cost: Callable[[Cost], None] | None = None,
) -> list[Cost]:
    """One Cost per model and batch size; a model that fails is a Cost with `error`.

    models: ids, saved runs, ONNX files (paths), Backbone or OnnxModel objects. Names are exported in their
    framework's worker first; where pretrained weights cannot be reached random ones are measured, and the
    id says `@none`. sequence_length: tokens of a text. min_seconds: timed seconds per model and batch size.
    provider: ONNX Runtime's, by its short name ("cpu", "cuda", "openvino"). memory_limit_mb: resident size of a model's
    process, which is ended above it; time_limit_s: of a load or a round. on_cost gets each Cost as soon as it is final,
    on Ctrl-C also of what was being measured.
    inputs: "name:shape:dtype=value" where a file does not tell what an input means (N in a shape is the batch).
    custom_ops: libraries of operators that ONNX Runtime lacks, loaded where the model is run.
    Figures of an earlier run of the same file, settings and machine are taken (their `measured_at` is old) where a
    reference model is now within 3 % of what it was then; fresh: measure everything.
    """
    listed = [models] if isinstance(models, str | Path | Backbone | OnnxModel) else list(models)
    if not listed:
        raise InputError("nothing to measure: name models, saved runs or ONNX files")
    say = progress or (lambda message: None)
    provider_named(provider)  # before anything is exported
    with tempfile.TemporaryDirectory(prefix="zoo-bench-") as work:
        found = files(listed, Path(work), say=say)
        lost = _lost(found, batch_sizes, on_cost)
        good = [(name, path) for name, path in found if isinstance(path, Path)]
        costs = kept_or_measured(
            good, batch_sizes=batch_sizes, threads=threads, sequence_length=sequence_length,
            min_seconds=min_seconds, provider=provider, memory_limit_mb=memory_limit_mb,
            time_limit_s=time_limit_s, inputs=inputs, custom_ops=custom_ops, fresh=fresh,
            progress=progress, on_cost=on_cost,
        ) if good else []  # fmt: skip
    return _in_order(costs + lost, [name for name, _ in found])


def _lost(
    found: Sequence[tuple[str, Path | ZooError]],
    batch_sizes: Sequence[int],
    on_cost: Callable[[Cost], None] | None,
) -> list[Cost]:
    """Rows of the models that there is no file of."""
    costs = [
        Cost(name, batch_size=size, error=str(error))
        for name, error in found
        if not isinstance(error, Path)
        for size in batch_sizes
    ]
    if on_cost is not None:
        for cost in costs:
            on_cost(cost)
    return costs


def _in_order(costs: list[Cost], names: list[str]) -> list[Cost]:
    return sorted(costs, key=lambda cost: names.index(cost.id))


def files(
    models: Sequence[Model], work: Path, *, say: Say, random_if_unreachable: bool = True
) -> list[tuple[str, Path | ZooError]]:
    """(name, its ONNX file or what went wrong) for each model, in order; graphs are written into `work`.

    random_if_unreachable: take random weights where the pretrained ones cannot be reached: enough for a cost.
    """
    named: dict[int, Request] = {}
    ready: dict[int, tuple[str, Path | ZooError]] = {}
    for number, model in enumerate(models):
        path = work / f"{number}.onnx"
        if isinstance(model, OnnxModel):
            ready[number] = (str(model.path), Path(model.path))
        elif isinstance(model, Backbone):
            ready[number] = (str(model.id), Path(model.export(path).path))
        elif str(model).endswith(".onnx"):
            ready[number] = (str(model), _existing(Path(model)))
        else:
            named[number] = _request(str(model), path, random_if_unreachable)
    results = export_all(list(named.values()), say=say)
    for number, request in named.items():
        ready[number] = _result(request, results[request.key])
    return [ready[number] for number in range(len(models))]


def _existing(path: Path) -> Path | ZooError:
    if path.is_file():
        return path
    if path.is_dir():
        return ModelFileError(f"{path} is a folder: give the .onnx file in it")
    return ModelFileError(f"no file {path}: give an existing ONNX file, or a model's id from `zoo list`")


def _request(model: str, path: Path, random: bool) -> Request:
    arguments: dict[str, Any] = {"model": model, "path": str(path), "random_if_unreachable": random}
    if is_run(model):
        return Request(model, run_id(model).framework, arguments)
    found = registry.resolve(model)
    return Request(str(found), found.framework, {**arguments, "model": str(found)})


def _result(request: Request, result: dict[str, Any] | ZooError) -> tuple[str, Path | ZooError]:
    if isinstance(result, ZooError):
        return request.key, result
    if not result["note"]:
        return request.key, Path(result["path"])
    return str(dataclasses.replace(registry.resolve(request.key), weights="none")), Path(result["path"])
