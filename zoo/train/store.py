"""A trained model as a folder: safetensors and JSON with versions and hashes. Reading it runs no code.

    zoo.json             id, architecture, preprocess, labels, freeze state, versions, SHA-256 of the others
    state.safetensors    every weight and buffer
    tokenizer.json       texts only

zoo.json goes in last: a folder without it was not finished and is refused.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from zoo import registry
from zoo.cards import ModelId, TextPreprocess, preprocess_from_dict, preprocess_to_dict
from zoo.engine import HEAD_BIAS, HEAD_WEIGHT, Array, Engine
from zoo.errors import InputError, ModelFileError, WeightsCorruptError
from zoo.files import atomic_file, sha256_file, storage_error
from zoo.train.tensors import read_tensors, write_tensors

META, STATE, TOKENIZER, FORMAT = "zoo.json", "state.safetensors", "tokenizer.json", 1


def save(engine: Engine, folder: Path, *, model_id: str, extra: Mapping[str, Any] | None = None) -> None:
    """Write the engine into `folder`, beside what else is there; extra: JSON to keep with it.

    Raises InputError (somebody's own module cannot be rebuilt from a file), StorageError.
    """
    if (architecture := engine.architecture()) is None:
        raise InputError(
            f"{model_id} is somebody's own module, which only their code can build again: export it to ONNX, "
            "or keep state() and load_state() it into the module"
        )
    staged = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        staged = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        files = _write(engine, staged)
        meta = _meta(engine, model_id, architecture) | {"files": files, "extra": dict(extra or {})}
        (staged / META).write_text(json.dumps(_sealed(meta), indent=1), encoding="utf-8")
        _move(staged, folder)
    except OSError as error:
        raise storage_error(folder, error) from error
    finally:
        if staged is not None:
            shutil.rmtree(staged, ignore_errors=True)


def _write(engine: Engine, folder: Path) -> dict[str, str]:
    """The files beside zoo.json; their SHA-256 by name."""
    files = {STATE: write_tensors(folder / STATE, engine.state())}
    if isinstance(engine.preprocess, TextPreprocess) and engine.preprocess.tokenizer is not None:
        (folder / TOKENIZER).write_text(engine.preprocess.tokenizer, encoding="utf-8", newline="")
        files[TOKENIZER] = sha256_file(folder / TOKENIZER)
    return files


def _meta(engine: Engine, model_id: str, architecture: Mapping[str, Any]) -> dict[str, Any]:
    framework = ModelId.parse(model_id).framework
    preprocess = preprocess_to_dict(engine.preprocess)
    preprocess.pop("tokenizer", None)
    return {
        "format": FORMAT,
        "id": model_id,
        "framework": framework,
        "architecture": architecture,
        "preprocess": preprocess,
        "labels": None if engine.labels is None else list(engine.labels),
        "trainable": list(engine.trainable),
        "versions": {"backbone-zoo": metadata.version("backbone-zoo")}
        | registry.adapter(framework).versions(),
    }


def _sealed(meta: Mapping[str, Any]) -> dict[str, Any]:
    return {**meta, "sha256": _digest(meta)}


def _digest(meta: Mapping[str, Any]) -> str:
    body = json.dumps({k: v for k, v in meta.items() if k != "sha256"}, sort_keys=True)
    return hashlib.sha256(body.encode()).hexdigest()


def _move(staged: Path, folder: Path) -> None:
    """File by file, so that checkpoints in `folder` stay; without zoo.json while it is neither old nor new."""
    folder.mkdir(exist_ok=True)
    (folder / META).unlink(missing_ok=True)
    for name in (STATE, TOKENIZER, META):
        if (staged / name).exists():
            (staged / name).replace(folder / name)
        else:
            (folder / name).unlink(missing_ok=True)


def load(folder: Path) -> tuple[Engine, dict[str, Any]]:
    """The engine, bit-identical, with its labels and freeze state, and zoo.json's content.

    Raises ModelFileError (no saved run, or an incomplete one), WeightsCorruptError (truncated or tampered
    with; names the file), and what importing the framework raises.
    """
    meta = read_meta(folder)
    state = read_tensors(folder / STATE, meta["files"][STATE])
    preprocess = dict(meta["preprocess"])
    if preprocess.get("kind") == "text":
        preprocess["tokenizer"] = _tokenizer(folder, meta["files"])
    adapter = registry.adapter(meta["framework"])
    engine = adapter.rebuild(meta["architecture"], preprocess_from_dict(preprocess))
    _fit_head_to(engine, state)
    engine.load_state(state)
    engine.labels = None if meta["labels"] is None else tuple(meta["labels"])
    engine.set_trainable(meta["trainable"])
    return engine, meta


def _tokenizer(folder: Path, files: Mapping[str, str]) -> str | None:
    if TOKENIZER not in files:
        return None
    path = folder / TOKENIZER
    if not path.is_file():
        raise ModelFileError(f"{path} is missing: the folder is incomplete; copy or save it again")
    if sha256_file(path) != files[TOKENIZER]:
        raise WeightsCorruptError(f"{path} was changed after it was written: its SHA-256 differs; not loaded")
    return path.read_bytes().decode("utf-8")


def _fit_head_to(engine: Engine, state: Mapping[str, Array]) -> None:
    """An architecture may say nothing of the head: one of the right shape has to be there for its values."""
    if HEAD_WEIGHT not in state:
        return
    own = engine.head()
    if own is None or own[0].shape != state[HEAD_WEIGHT].shape:
        engine.set_head(state[HEAD_WEIGHT], state[HEAD_BIAS])


def read_meta(folder: Path) -> dict[str, Any]:
    """zoo.json of a saved run, checked; imports no framework. Raises ModelFileError, WeightsCorruptError."""
    path = folder / META
    if not path.is_file():
        raise ModelFileError(
            f"{folder} is no saved model: it holds no {META}. Give a folder that `zoo train -o` or "
            "Backbone.save wrote; an ONNX file is opened by zoo.OnnxModel."
        )
    try:
        meta = json.loads(path.read_text(encoding="utf-8"))
        sealed, version = meta["sha256"], meta["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise WeightsCorruptError(f"{path} is truncated or was changed: {error!r}. Save it again.") from error
    if sealed != _digest(meta):
        raise WeightsCorruptError(
            f"{path} was changed after it was written (its SHA-256 differs): labels or preprocess may be "
            "wrong, so it was not loaded. Copy or save it again."
        )
    if version != FORMAT:
        raise ModelFileError(f"{path} is of format {version}, this version reads {FORMAT}: save it again")
    return dict(meta)


def amend(folder: Path, **changes: Any) -> None:
    """Change entries of what is kept beside the engine (`extra`); weights stay as they are.

    Raises ModelFileError, WeightsCorruptError, StorageError; the old zoo.json stays then.
    """
    meta = read_meta(folder)
    with atomic_file(folder / META) as temporary:
        sealed = _sealed(meta | {"extra": meta["extra"] | changes})
        temporary.write_text(json.dumps(sealed, indent=1), encoding="utf-8")


def recipe_and_history(recipe: Any, history: Any) -> dict[str, Any]:
    """What `Backbone.fit` keeps with a run it saves."""
    return {"recipe": dataclasses.asdict(recipe), "history": dataclasses.asdict(history)}
