"""A frozen backbone's features, computed once: through its ONNX graph, then kept on disk.

The graph is exported once per (architecture, weights, preprocess, framework versions), the features once
per (graph's identity, data). Parity with the live backbone is checked when the graph is made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np

from zoo.cards import Preprocess, fingerprint
from zoo.data import Dataset
from zoo.engine import Array, Engine
from zoo.errors import DataError, ExportMismatchError, ModelFileError
from zoo.files import atomic_file, cache_dir
from zoo.graph import OnnxModel, export_engine
from zoo.graph.parity import check_engine
from zoo.graph.session import open_session
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


class FeatureCache:
    """float32 .npy files in a folder (default: `cache_dir()`/features), read as memory maps."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = cache_dir() / "features" if folder is None else folder

    def get(self, key: str) -> Array | None:
        """float32 [N, D], or None where there is none, or only a damaged file."""
        path = self.folder / f"{key}.npy"
        try:
            found: Array = np.load(path, mmap_mode="r", allow_pickle=False)
        except (FileNotFoundError, ValueError, EOFError):
            return None
        return found

    def put(self, key: str, rows: int, columns: int, chunks: Iterable[Array]) -> Array:
        """Write the chunks, [n, D] each, as one array. Raises StorageError; nothing half-written stays.

        Written, not memory-mapped: a full disk is then an OSError, not a fatal signal.
        """
        path, written = self.folder / f"{key}.npy", 0
        header = {"descr": "<f4", "fortran_order": False, "shape": (rows, columns)}
        with atomic_file(path) as new, new.open("wb") as file:
            np.lib.format.write_array_header_1_0(file, header)
            for chunk in chunks:
                file.write(np.ascontiguousarray(chunk, dtype="<f4").data)
                written += len(chunk)
            if written != rows:
                raise DataError(
                    f"{written} feature rows for {rows} examples: was the data changed meanwhile?"
                )
        found = self.get(key)
        assert found is not None
        return found


def backbone_graph(engine: Engine, key: str, *, model_id: str, versions: Mapping[str, str]) -> OnnxModel:
    """The backbone's ONNX graph, exported where the cache has no good one under `key`. Its head may be any.

    Raises ExportError, ExportMismatchError.
    """
    path = _graph_path(key, model_id)
    if (cached := _cached_graph(path)) is not None:
        try:
            check_engine(engine, cached.session, "features")
        except (ExportMismatchError, ModelFileError):
            path.unlink()  # changed on disk: it is made again
        else:
            return cached
    return export_engine(engine, path, model_id=model_id, versions=versions)


def _graph_path(key: str, model_id: str) -> Path:
    return cache_dir() / "graphs" / fingerprint([key, model_id]) / "model.onnx"


def _cached_graph(path: Path) -> OnnxModel | None:
    try:
        return OnnxModel(path) if path.is_file() else None
    except ModelFileError:
        path.unlink()  # truncated: it is made again
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
    graph: Callable[[], OnnxModel], columns: int, key: str, data: Dataset, cache: FeatureCache
) -> Array:
    """float32 [N, columns] of a data set, from the cache, else through the graph. key: of the backbone."""
    key = f"{key}-{data.fingerprint()}"
    if (found := cache.get(key)) is not None:
        return found
    model = graph()
    starts = range(0, len(data), CHUNK)
    chunks = (model.features(data.inputs[start : start + CHUNK]) for start in starts)
    return cache.put(key, len(data), columns, chunks)
