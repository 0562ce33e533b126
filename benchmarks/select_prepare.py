"""Files, features and costs of every candidate, once: what all strategies have in common.

Features of the whole pool in one pass a network, all depths of a text model together; the int8 files of image
networks find their ranges on photographs of another data set, so that one file serves all splits and no split's test
part is looked at. Costs are the meter's, on the very files; measure them again on a quiet machine with --costs.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from select_space import DATA, Candidate, Task

from zoo.cards import Cost
from zoo.choose.artefacts import Artefact, export_families
from zoo.choose.candidates import expand
from zoo.choose.parts import typical_tokens
from zoo.cost import measure
from zoo.engine import Array
from zoo.files import atomic_file
from zoo.graph import OnnxModel, Settings
from zoo.graph.calibrating import CalibrationSet, calibration_set
from zoo.graph.precision import write_variant

CALIBRATION = DATA / "imagenet_sample"


def prepare(task: Task) -> None:
    """Do what has not been done: export, convert, pass the pool through."""
    files = _float_files(task)
    for candidate in task.candidates:
        path = onnx_path(task, candidate)
        if not path.is_file():
            ranges = _ranges(task) if candidate.precision == "int8-static" else None
            write_variant(files[candidate.network.label], Settings(candidate.precision), path, ranges)
            print(f"{candidate.label}: {path.stat().st_size / 1e6:.2f} MB", flush=True)
        if not features_path(task, candidate).is_file():
            _keep_features(task, candidate)


def onnx_path(task: Task, candidate: Candidate) -> Path:
    """The file of a candidate, its head unfitted."""
    return task.folder / "files" / f"{candidate.folder}.onnx"


def features_path(task: Task, candidate: Candidate) -> Path:
    """Its features of the pool, and what the pass took."""
    return task.folder / "features" / f"{candidate.folder}.npz"


@functools.lru_cache(maxsize=64)
def features(task: Task, candidate: Candidate) -> tuple[Array, float]:
    """float32 [N, D] of the pool, and the CPU seconds of an example's pass."""
    with np.load(features_path(task, candidate)) as found:
        return found["features"], float(found["cpu"]) / len(found["features"])


def _float_files(task: Task) -> dict[str, Path]:
    folder = task.folder / "files"
    folder.mkdir(parents=True, exist_ok=True)
    wanted = {n.label: folder / f"{n.folder}.onnx" for n in task.networks}
    missing = [n for n in task.networks if not wanted[n.label].is_file()]
    if not missing:
        return wanted
    families, lost = expand([n.id for n in missing], task.data.kind)
    made, failed = export_families(families, folder, len(task.data.classes), say=print)
    if lost or failed:
        raise RuntimeError(f"not exported: {[*lost, *failed]}")
    by_id: dict[str, Artefact] = {artefact.id: artefact for artefact in made}
    for network in missing:
        by_id[network.id].path.rename(wanted[network.label])
    for left in {a.trunk for a in made} | {a.path for a in made}:
        left.unlink(missing_ok=True)
    return wanted


def _ranges(task: Task) -> CalibrationSet:
    return calibration_set(CALIBRATION, task.data.kind)


def _keep_features(task: Task, candidate: Candidate) -> None:
    model = OnnxModel(onnx_path(task, candidate), threads=1)
    started, cpu = time.perf_counter(), time.process_time()
    found = model.features(task.data.inputs)
    spent = {"seconds": time.perf_counter() - started, "cpu": time.process_time() - cpu}
    path = features_path(task, candidate)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as file, file.open("wb") as out:
        np.savez(out, features=found, **{name: np.array(value) for name, value in spent.items()})
    print(f"features of {candidate.label}: {found.shape}, {spent['cpu']:.1f} s of CPU", flush=True)


def measure_costs(task: Task, *, min_seconds: float = 1.0) -> None:
    """All candidates in interleaved rounds, by `zoo bench`'s meter, at the data's typical length."""
    first = OnnxModel(onnx_path(task, task.candidates[0]))
    tokens = typical_tokens(task.data, first.preprocess)
    pairs = [(candidate.label, onnx_path(task, candidate)) for candidate in task.candidates]
    costs = measure(pairs, sequence_length=tokens, min_seconds=min_seconds, progress=print)
    with atomic_file(_costs_path(task)) as file:
        file.write_text(json.dumps([dataclasses.asdict(cost) for cost in costs], indent=1))


def costs(task: Task) -> dict[str, Cost]:
    """By candidate's label, as kept; raises FileNotFoundError before they were measured."""
    stored: list[dict[str, Any]] = json.loads(_costs_path(task).read_text())
    return {row["id"]: Cost(**row | {"ties": tuple(row["ties"])}) for row in stored}


def _costs_path(task: Task) -> Path:
    return task.folder / "costs.json"
