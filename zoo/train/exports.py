"""One door for exports: a graph is made once for all commands, and found again by what it is made of.

Identity is content: the weights as loaded, the architecture, preprocess, labels, versions and the exporter's code;
see `zoo.graph.kept`. Another head on a backbone that is there needs no exporter: one Gemm is put on, and the file is
to the byte the one that a whole export would give.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from zoo import cache
from zoo.cards import Preprocess, fingerprint
from zoo.engine import Engine
from zoo.errors import ExportMismatchError, ModelFileError, StorageError
from zoo.files import cache_dir
from zoo.graph import OnnxModel, export_engine, kept
from zoo.graph.export import put_head
from zoo.train.feature_files import WITHOUT
from zoo.train.tensors import weights_hash

OF_THE_HEAD = ("num_classes", "classes", "head")
"""Entries of the adapters' architectures that features do not depend on: another head is no other graph."""


@dataclass(frozen=True)
class Export:
    """What `export` did.  cached: the file in the cache, or None.  made: whether an exporter ran."""

    cached: Path | None
    made: bool


def can_be_cached(engine: Engine) -> bool:
    """A linear head, on a network whose code is known: somebody's own module may change under equal weights."""
    return engine.head() is not None and engine.architecture() is not None


def backbone_key(engine: Engine, preprocess: Preprocess, versions: Mapping[str, str]) -> str:
    """What features depend on: architecture, weights and buffers without the head, preprocess, versions."""
    architecture = {k: v for k, v in (engine.architecture() or {}).items() if k not in OF_THE_HEAD}
    weights = weights_hash(engine, backbone_only=True)
    parts = (architecture, preprocess, dict(versions))
    return fingerprint([weights, *(fingerprint(part) for part in parts)])


def backbone_graph(engine: Engine, key: str, *, model_id: str, versions: Mapping[str, str]) -> OnnxModel:
    """The backbone's ONNX graph, exported where the cache has none under `key`. Its head may be any.

    Raises ExportError, ExportMismatchError, StorageError.
    """
    backbone = _backbone(key, model_id, ())
    if (found := kept.find(backbone)) is not None:
        return OnnxModel(found)
    work = cache_dir() / cache.GRAPHS / f".{backbone}.onnx"
    try:
        export_engine(engine, work, model_id=model_id, versions=versions)
        if (place := kept.keep(work, backbone, _whole(engine, backbone, ()), link=True)) is None:
            raise StorageError(f"the backbone's graph could not be kept in {work.parent}.")
    except StorageError as error:
        raise StorageError(f"{error} {WITHOUT}") from error
    finally:
        work.unlink(missing_ok=True)
    return OnnxModel(place)


def export(engine: Engine, path: Path, *, model_id: str, versions: Mapping[str, str]) -> OnnxModel:
    """Write the engine with its head and labels to `path`: from the cache, or made, its parity checked.

    Raises ExportError, ExportMismatchError, StorageError; nothing is left at `path` then.
    """
    write(engine, path, model_id=model_id, versions=versions)
    return OnnxModel(path)


def write(
    engine: Engine,
    path: Path,
    *,
    model_id: str,
    versions: Mapping[str, str],
    depths: Sequence[int] = (),
    link: bool = False,
) -> Export:
    """`export`, of several depths too. link: nobody will change `path` in place (see `kept.keep`)."""
    if engine.architecture() is None:
        export_engine(engine, path, model_id=model_id, versions=versions, depths=depths)
        return Export(None, made=True)
    key = backbone_key(engine, engine.preprocess, versions)
    backbone = _backbone(key, model_id, depths)
    whole = _whole(engine, backbone, depths)
    if (found := kept.find(backbone, whole)) is not None:
        kept.hand_over(found, path, link=link)
        return Export(found, made=False)
    made = not _on_another_head(engine, backbone, path, depths)
    if made:
        export_engine(engine, path, model_id=model_id, versions=versions, depths=depths)
    if not made and not link:  # a head is put on again in no time: not worth a copy of the whole
        return Export(None, made)
    return Export(kept.keep(path, backbone, whole, link=link), made)


def _on_another_head(engine: Engine, backbone: str, path: Path, depths: Sequence[int]) -> bool:
    """Write `path` from the same backbone's graph with some other head, where that is possible."""
    if depths or engine.head() is None or (found := kept.find(backbone)) is None:
        return False
    try:
        put_head(engine, found, path)
    except (ExportMismatchError, ModelFileError):
        return False  # exported whole, it may still be right; if not, that says so
    return True


def _backbone(key: str, model_id: str, depths: Sequence[int]) -> str:
    return fingerprint([key, model_id, kept.makers(), list(depths)])


def _whole(engine: Engine, backbone: str, depths: Sequence[int]) -> str:
    """Of a graph of several depths no head is part."""
    if depths:
        return fingerprint([backbone])
    return fingerprint([backbone, _head_digest(engine), engine.labels, engine.architecture()])


def _head_digest(engine: Engine) -> str:
    """SHA-256 of the head's values; of all values where the head is not linear; "" without one."""
    if engine.num_classes is None:
        return ""
    if (head := engine.head()) is None:
        return weights_hash(engine, backbone_only=False)
    return hashlib.sha256(b"".join(f"{a.shape}".encode() + a.tobytes() for a in head)).hexdigest()
