"""Graphs made from other graphs without a framework: a cut, another precision. Made once, then found by content.

Cutting MiniLM at six depths takes three seconds and finding int8 ranges takes a pass over the examples; the
second run of a command finds the files in the cache of graphs, as it finds the exports.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from zoo.cards import Precision, fingerprint
from zoo.files import sha256_file
from zoo.graph import OnnxModel, Settings, cut_depth, kept
from zoo.graph.precision import CalibrationSet, write_variant
from zoo.graph.variants import write_headless


def cut(whole: OnnxModel, depth: int, path: Path) -> None:
    """`zoo.graph.cut_depth`."""
    _derived(path, ["cut", digest(whole.path), depth], lambda: cut_depth(whole, depth, path))


def variant(source: Path, precision: Precision, path: Path, calibration: CalibrationSet | None) -> None:
    """The backbone of `source`, without a head, in another precision. Raises what `write_variant` does."""
    ranges = None if calibration is None else calibration.fingerprint
    facts = ["variant", digest(source), precision, ranges]
    _derived(path, facts, lambda: _variant(source, precision, path, calibration))


def _variant(source: Path, precision: Precision, path: Path, calibration: CalibrationSet | None) -> None:
    bare = path.with_name(f"{path.stem}-bare.onnx")
    try:
        write_headless(source, bare)
        write_variant(bare, Settings(precision), path, calibration)
    finally:
        bare.unlink(missing_ok=True)


def _derived(path: Path, facts: Sequence[Any], make: Callable[[], object]) -> None:
    name = fingerprint([kept.makers(), *facts])
    if (found := kept.find(name, name)) is not None:
        kept.hand_over(found, path, link=True)
        return
    make()
    kept.keep(path, name, name, link=True)


def digest(path: Path) -> str:
    """SHA-256 of a graph, read once a process while it stays as it is."""
    status = path.stat()
    key = (
        status.st_dev,
        status.st_ino,
        status.st_size,
        status.st_mtime_ns,
    )  # links to one file are that file
    if key not in _digests:
        _digests[key] = sha256_file(path)
    return _digests[key]


_digests: dict[tuple[int, int, int, int], str] = {}
