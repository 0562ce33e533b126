"""A frozen backbone's features, computed once: through its ONNX graph, then kept on disk.

The graph is exported once per (architecture, weights, preprocess, framework versions), the features once
per (that, what decodes and computes, content of an input). Parity with the live backbone is checked when the
graph is made.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path

import numpy as np

from zoo import cache
from zoo.cards import Preprocess, fingerprint
from zoo.data import Dataset, Input
from zoo.data.dataset import input_digests
from zoo.engine import Array, Engine
from zoo.errors import ExportMismatchError, ModelFileError, StorageError
from zoo.files import atomic_file, cache_dir
from zoo.graph import OnnxModel, export_engine
from zoo.graph.parity import check_engine
from zoo.graph.session import open_session
from zoo.train.feature_files import WITHOUT
from zoo.train.feature_files import FeatureCache as FeatureCache
from zoo.train.tensors import weights_hash

CHUNK = 512
"""Examples a pass: bounds memory, and is many batches, so that decoding still overlaps computing."""

OF_THE_HEAD = ("num_classes", "classes", "head")
"""Entries of the adapters' architectures that features do not depend on: another head is no other graph."""


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
    """The backbone's ONNX graph, exported where the cache has no good one under `key`. Its head may be any.

    Raises ExportError, ExportMismatchError, StorageError.
    """
    path = _graph_path(key, model_id)
    if (cached := _cached_graph(path)) is not None:
        try:
            check_engine(engine, cached.session, "features")
        except (ExportMismatchError, ModelFileError):
            path.unlink(missing_ok=True)  # changed on disk: it is made again
        else:
            return cached
    try:
        made = export_engine(engine, path, model_id=model_id, versions=versions)
    except StorageError as error:
        raise StorageError(f"{error} {WITHOUT}") from error
    cache.touch(path)
    cache.make_room(0)
    return made


def _graph_path(key: str, model_id: str) -> Path:
    return cache_dir() / "graphs" / fingerprint([key, model_id]) / "model.onnx"


def _cached_graph(path: Path) -> OnnxModel | None:
    try:
        if not path.is_file():
            return None
        cache.touch(path)
        return OnnxModel(path)
    except ModelFileError:
        path.unlink(missing_ok=True)  # truncated: it is made again
        return None


def export(engine: Engine, path: Path, *, model_id: str, versions: Mapping[str, str]) -> OnnxModel:
    """Write the engine with its head and labels to `path`; parity of that very file is checked.

    A linear head goes onto the cached graph of its backbone where training made one; else all is exported.
    Raises ExportError, ExportMismatchError, StorageError; nothing is left at `path` then.
    """
    head, cached = engine.head(), None
    if can_be_cached(engine):
        key = backbone_key(engine, engine.preprocess, versions)
        cached = _cached_graph(_graph_path(key, model_id))
    if cached is None or head is None:
        return export_engine(engine, path, model_id=model_id, versions=versions)
    with atomic_file(path) as new:
        cached.with_head(*head, labels=engine.labels, path=new)
        check_engine(engine, open_session(new), "features")
    return OnnxModel(path)


def features_of(
    graph: Callable[[], OnnxModel], columns: int, key: str, data: Dataset, kept: FeatureCache
) -> Array:
    """`features_of_inputs` of a data set."""
    return features_of_inputs(graph, columns, key, data.inputs, kept, source=data.source)


def features_of_inputs(
    graph: Callable[[], OnnxModel],
    columns: int,
    key: str,
    inputs: Sequence[Input],
    kept: FeatureCache,
    *,
    source: str,
) -> Array:
    """float32 [N, columns]: rows that are kept in the cache from there, the others through the graph.

    key: of the backbone.  source: where the inputs come from, for `zoo cache`. Labels do not count: features
    are the inputs'. What another data set of the same backbone has in common with this one (another split,
    another order, more photographs) is copied.
    Raises StorageError, BadFilesError, DataError.
    """
    digests = input_digests(inputs)
    name = entry_name(key, digests)
    if (found := kept.get(name, (len(inputs), columns))) is not None:
        return found
    known = kept.rows(name.partition("-")[0], columns, digests)
    model = graph()
    about = {"model": model.id, "data": source or "arrays"}
    chunks = _chunks(model, inputs, columns, known)
    return kept.put(name, len(inputs), columns, chunks, digests=digests, about=about)


def entry_name(key: str, digests: Array) -> str:
    """`<backbone>-<data>`: what features are called in the cache. digests: uint8 [N, 16] of the inputs."""
    backbone = fingerprint([key, _runtime()])
    return f"{backbone}-{hashlib.sha256(digests.tobytes()).hexdigest()[:32]}"


def _runtime() -> dict[str, str]:
    """What computes features beside the framework: other versions decode, cut or multiply otherwise."""
    packages = ("backbone-zoo", "numpy", "onnxruntime", "pillow", "tokenizers")
    return {name: metadata.version(name) for name in packages}


def _chunks(
    model: OnnxModel, inputs: Sequence[Input], columns: int, known: Mapping[int, Array]
) -> Iterator[Array]:
    """float32 [n, columns] piece by piece, in order; known: rows that need not be computed."""
    missing = [item for i, item in enumerate(inputs) if i not in known]
    new = (
        (row for chunk in model.feature_chunks(missing, size=CHUNK) for row in chunk) if missing else iter(())
    )
    for start in range(0, len(inputs), CHUNK):
        places = range(start, min(start + CHUNK, len(inputs)))
        rows = [known[i] if i in known else next(new, None) for i in places]
        found = [row for row in rows if row is not None]  # fewer than there are inputs: `put` refuses that
        yield np.stack(found) if found else np.empty((0, columns), np.float32)
