"""A frozen backbone's features, computed once: through its ONNX graph, then kept on disk.

The graph is exported once (`zoo.train.exports`), the features once per (architecture, weights, preprocess,
framework versions, what decodes and computes, content of an input).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import metadata

import numpy as np

from zoo.cards import fingerprint
from zoo.data import Dataset, Input
from zoo.data.dataset import input_digests
from zoo.engine import Array
from zoo.graph import OnnxModel
from zoo.train.exports import backbone_graph as backbone_graph
from zoo.train.exports import backbone_key as backbone_key
from zoo.train.exports import can_be_cached as can_be_cached
from zoo.train.exports import export as export
from zoo.train.feature_files import FeatureCache as FeatureCache

CHUNK = 512
"""Examples a pass: bounds memory, and is many batches, so that decoding still overlaps computing."""


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
