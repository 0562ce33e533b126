"""Checkpoints: a folder for each finished epoch, enough to go on bit-identically after a kill at any moment.

    checkpoints/epoch-0003/   checkpoint.json        position, recipe, identity, freeze state, history
                              state.safetensors      weights and buffers
                              training.safetensors   optimizer slots and the step counter
                              best.safetensors       the best epoch's weights, where that is not this epoch

A folder appears whole or not at all; the last two are kept. checkpoint.json holds the SHA-256 of the
others and of itself, so one that was truncated or changed is never resumed from.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
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

FOLDER, META, KEPT, FORMAT = "checkpoints", "checkpoint.json", 2, 1
STATE, TRAINING, BEST = "state.safetensors", "training.safetensors", "best.safetensors"


@dataclass(frozen=True)
class Checkpoint:
    """A finished epoch. epoch: how many are done.  step: optimizer steps done.  trainable: unfrozen blocks.

    identity: what must be the same for the run to go on (model, data, ...), name -> value.
    preprocess: as `preprocess_to_dict`, it holds a tokenizer that the run trained.
    best: the best epoch's weights; None where that is this epoch, or there is no validation data.
    """

    epoch: int
    step: int
    recipe: Recipe
    identity: Mapping[str, str]
    trainable: tuple[str, ...]
    preprocess: Mapping[str, Any]
    losses: tuple[float, ...]
    epochs: tuple[Row, ...]
    best_epoch: int | None
    state: Mapping[str, Array]
    training_state: Mapping[str, Array]
    best: Mapping[str, Array] | None = None


ARRAYS = ("state", "training_state", "best")


def write(run_dir: Path, checkpoint: Checkpoint) -> Path:
    """Write it and drop all but the last two. Raises StorageError; what was there before stays."""
    folder = run_dir / FOLDER / f"epoch-{checkpoint.epoch:04d}"
    with atomic_folder(folder) as new:
        files = {
            STATE: write_tensors(new / STATE, checkpoint.state),
            TRAINING: write_tensors(new / TRAINING, checkpoint.training_state),
        }
        if checkpoint.best is not None:
            files[BEST] = _best(new / BEST, checkpoint, run_dir)
        (new / META).write_text(_sealed(_meta(checkpoint) | {"files": files}), encoding="utf-8")
    for old in folders(run_dir)[:-KEPT]:
        shutil.rmtree(old, ignore_errors=True)
    return folder


def _best(path: Path, checkpoint: Checkpoint, run_dir: Path) -> str:
    """The best weights are mostly in the folder before already: a second name for that file costs nothing."""
    before = run_dir / FOLDER / f"epoch-{checkpoint.epoch - 1:04d}"
    source = STATE if checkpoint.best_epoch == checkpoint.epoch - 1 else BEST
    assert checkpoint.best is not None
    try:
        sha256 = str(_unsealed(before / META)["files"][source])
        os.link(before / source, path)
    except (OSError, ModelFileError, WeightsCorruptError, KeyError):
        return write_tensors(path, checkpoint.best)  # no such folder, or a file system without links
    return sha256


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
        best=arrays.get(BEST),
    )


def folders(run_dir: Path) -> list[Path]:
    """The checkpoints of a run, oldest first."""
    return sorted((run_dir / FOLDER).glob("epoch-*"), key=lambda path: int(path.name.removeprefix("epoch-")))


def sweep(run_dir: Path) -> None:
    """Remove what a killed run was writing when it was killed."""
    for unfinished in (run_dir / FOLDER).glob(".epoch-*"):
        shutil.rmtree(unfinished, ignore_errors=True)


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


def check_resumable(checkpoint: Checkpoint, recipe: Recipe, identity: Mapping[str, str]) -> None:
    """Raises InputError listing what differs between the run that wrote the checkpoint and this one."""
    old, new = dataclasses.asdict(checkpoint.recipe), dataclasses.asdict(recipe)
    changed = [f"{name}: {old[name]} -> {new[name]}" for name in old if old[name] != new[name]]
    if changed:
        raise InputError(
            f"cannot resume with another recipe ({'; '.join(changed)}): give the recipe that the run began "
            "with, or train into another folder"
        )
    names = checkpoint.identity.keys() | identity.keys()
    other = sorted(n for n in names if checkpoint.identity.get(n) != identity.get(n))
    if other:
        raise InputError(
            f"cannot resume: the checkpoint is of another {' and another '.join(other)}. "
            "Give what the run began with, or train into another folder."
        )
