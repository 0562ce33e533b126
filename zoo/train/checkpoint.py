"""Checkpoints: a folder for each, enough to go on bit-identically after a kill at any moment.

    checkpoints/step-00000120/   checkpoint.json        position, recipe, identity, freeze state, history
                                 state.safetensors      weights and buffers
                                 training.safetensors   optimizer slots and the step counter
                                 average.safetensors    the moving average, where the recipe has one
                                 best.safetensors       the best epoch's weights, where those are not the state

A folder appears whole or not at all; the last two are kept. checkpoint.json holds the SHA-256 of the
others and of itself, so one that was truncated or changed is never resumed from.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import shutil
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo.cards import Recipe
from zoo.engine import Array
from zoo.errors import InputError, ModelFileError, TrainingError, WeightsCorruptError
from zoo.files import atomic_folder
from zoo.recipe import recipe_from_dict
from zoo.train.history import Row
from zoo.train.tensors import read_tensors, write_tensors

FOLDER, META, KEPT, FORMAT = "checkpoints", "checkpoint.json", 2, 2
STATE, TRAINING, AVERAGE = "state.safetensors", "training.safetensors", "average.safetensors"
BEST = "best.safetensors"
NAME = re.compile(r"(?:step|epoch)-(\d+)")
"""`epoch-` was format 1's: such a folder is found, and refused with its reason."""


@dataclass(frozen=True)
class Checkpoint:
    """A moment between two steps. step: optimizer steps done in the run.  position: of the epoch that is
    not finished, steps done (0: none is begun) and seconds spent.  trainable: blocks unfrozen in the end.

    identity: what must be the same for the run to go on (model, data, ...), name -> value.
    preprocess: as `preprocess_to_dict`, it holds a tokenizer that the run trained.
    numerics: what the bits depend on beside that (threads, device, versions).
    best: the best epoch's weights; None where that is `state`, or there is no validation data.
    average: of the weights, after so many updates; None without.
    """

    step: int
    position: int
    seconds: float
    recipe: Recipe
    identity: Mapping[str, str]
    trainable: tuple[str, ...]
    preprocess: Mapping[str, Any]
    numerics: Mapping[str, str]
    losses: tuple[float, ...]
    epochs: tuple[Row, ...]
    best_epoch: int | None
    average_updates: int
    state: Mapping[str, Array]
    training_state: Mapping[str, Array]
    average: Mapping[str, Array] | None = None
    best: Mapping[str, Array] | None = None


ARRAYS = ("state", "training_state", "average", "best")


def write(run_dir: Path, checkpoint: Checkpoint) -> Path:
    """Write it and drop all but the last two. Raises StorageError; what was there before stays."""
    folder = run_dir / FOLDER / f"step-{checkpoint.step:08d}"
    with atomic_folder(folder) as new:
        files = {
            STATE: write_tensors(new / STATE, checkpoint.state),
            TRAINING: write_tensors(new / TRAINING, checkpoint.training_state),
        }
        if checkpoint.average is not None:
            files[AVERAGE] = write_tensors(new / AVERAGE, checkpoint.average)
        if checkpoint.best is not None:
            files[BEST] = _best(new / BEST, checkpoint, run_dir)
        (new / META).write_text(_sealed(_meta(checkpoint) | {"files": files}), encoding="utf-8")
    for old in folders(run_dir)[:-KEPT]:
        shutil.rmtree(old, ignore_errors=True)
    return folder


def _best(path: Path, checkpoint: Checkpoint, run_dir: Path) -> str:
    """The best weights are mostly in a folder before already: a second name for that file costs nothing."""
    assert checkpoint.best is not None
    for before in reversed(folders(run_dir)):
        try:
            meta = _unsealed(before / META)
            if meta["best_epoch"] != checkpoint.best_epoch:
                continue
            source = BEST if BEST in meta["files"] else STATE
            os.link(before / source, path)
            return str(meta["files"][source])
        except (OSError, ModelFileError, WeightsCorruptError, KeyError):
            continue  # damaged, or a file system without links
    return write_tensors(path, checkpoint.best)


def _meta(checkpoint: Checkpoint) -> dict[str, Any]:
    plain = {f.name: getattr(checkpoint, f.name) for f in dataclasses.fields(checkpoint)}
    plain["recipe"] = dataclasses.asdict(checkpoint.recipe)
    return {"format": FORMAT, **{name: value for name, value in plain.items() if name not in ARRAYS}}


def _sealed(meta: Mapping[str, Any]) -> str:
    body = json.dumps(meta, sort_keys=True)
    return json.dumps({"sha256": hashlib.sha256(body.encode()).hexdigest(), "body": meta}, sort_keys=True)


def _unsealed(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ModelFileError(f"{path} is missing: the checkpoint is incomplete")
    try:
        sealed = json.loads(path.read_text(encoding="utf-8"))
        body = sealed["body"]
    except (ValueError, KeyError, TypeError) as error:
        raise WeightsCorruptError(f"{path} is truncated or no checkpoint: {error}") from error
    if hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest() != sealed.get("sha256"):
        raise WeightsCorruptError(f"{path} was changed after it was written: its SHA-256 differs")
    return dict(body)


def read(folder: Path) -> Checkpoint:
    """Read one and check its hashes. Raises ModelFileError or WeightsCorruptError naming the file."""
    meta = _unsealed(folder / META)
    if meta.pop("format") != FORMAT:
        raise ModelFileError(f"{folder / META} is of another version of backbone-zoo: start the run anew")
    files = meta.pop("files")
    arrays = {name: read_tensors(folder / name, sha256) for name, sha256 in files.items()}
    recipe = recipe_from_dict(meta.pop("recipe"))
    for name in ("trainable", "losses", "epochs"):
        meta[name] = tuple(meta[name])
    return Checkpoint(
        **meta,
        recipe=recipe,
        state=arrays[STATE],
        training_state=arrays[TRAINING],
        average=arrays.get(AVERAGE),
        best=arrays.get(BEST),
    )


def folders(run_dir: Path) -> list[Path]:
    """The checkpoints of a run, oldest first."""
    found = {path: NAME.fullmatch(path.name) for path in (run_dir / FOLDER).glob("*-*")}
    return sorted((p for p, m in found.items() if m), key=lambda p: int(p.name.partition("-")[2]))


def sweep(run_dir: Path) -> None:
    """Remove what a killed run was writing when it was killed."""
    for unfinished in (run_dir / FOLDER).glob(".step-*"):
        shutil.rmtree(unfinished, ignore_errors=True)


def numerics(run_dir: Path) -> dict[str, str]:
    """What the newest checkpoint that can be read says of threads, device and versions; empty without any."""
    for folder in reversed(folders(run_dir)):
        try:
            return dict(_unsealed(folder / META).get("numerics", {}))
        except (ModelFileError, WeightsCorruptError):
            continue
    return {}


def latest(run_dir: Path) -> Checkpoint | None:
    """The newest that is whole, with a warning for each that is not; None where there is none at all.

    Raises TrainingError where there are some and none is whole.
    """
    problems = []
    for folder in reversed(folders(run_dir)):
        try:
            return read(folder)
        except (ModelFileError, WeightsCorruptError) as error:
            problems.append(str(error))
            warnings.warn(f"{folder.name} cannot be used, the one before is tried: {error}", stacklevel=2)
    if problems:
        raise TrainingError(
            f"no checkpoint in {run_dir / FOLDER} is whole: {'; '.join(problems)}. "
            "Train into another folder, or delete this one and start again without --resume."
        )
    return None


def check_resumable(
    checkpoint: Checkpoint, recipe: Recipe, identity: Mapping[str, str], *, override: bool = False
) -> None:
    """Raises InputError listing what differs between the run that wrote the checkpoint and this one.

    override: other fields of the recipe are let through, with a warning that lists them; not an order of
    examples that would change in the middle of an epoch.
    """
    old, new = dataclasses.asdict(checkpoint.recipe), dataclasses.asdict(recipe)
    fields = [name for name in old if old[name] != new[name]]
    changed = "; ".join(f"{name}: {old[name]} -> {new[name]}" for name in fields)
    if fields and not override:
        raise InputError(
            f"cannot resume with another recipe ({changed}): give the recipe that the run began "
            "with, change it for the rest of the run with --override (override=True), or train into another "
            "folder"
        )
    if checkpoint.position and (order := [name for name in fields if name in ("batch_size", "seed")]):
        raise InputError(
            f"cannot resume with another {' and '.join(order)} ({changed}): the checkpoint is in the middle of "
            f"an epoch, whose order they decide. Leave {'it' if len(order) == 1 else 'them'} as it was"
        )
    names = checkpoint.identity.keys() | identity.keys()
    other = sorted(n for n in names if checkpoint.identity.get(n) != identity.get(n))
    if other:
        raise InputError(
            f"cannot resume: the checkpoint is of another {' and another '.join(other)}. "
            "Give what the run began with, or train into another folder."
        )
    if fields:
        warnings.warn(f"resumed with another recipe from here on: {changed}", stacklevel=2)
