"""The meter's child process: one ONNX file in one ONNX Runtime session, called by `zoo.cost.meter`.

Imports onnxruntime and numpy only, so that the resident size before loading is the runtime's and no more.
The session lives in this module between calls, because a worker's calls are plain functions.
"""

from __future__ import annotations

import json
import re
import resource
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import onnxruntime

from zoo.cost.inputs import METADATA_KEY, InputSpec, concrete_feed, draw
from zoo.errors import ModelFileError

_WINDOW = 3  # runs compared with the runs before them, to see whether it still gets faster
_STEADY = 0.95
_MAX_WARM_UP = 30
_loaded: dict[str, Any] = {}


def start() -> str:
    """Import onnxruntime, which importing this module did; its version."""
    return str(onnxruntime.__version__)


def load(path: str, threads: int, batch_size: int, sequence_length: int) -> dict[str, Any]:
    """Open the file. Returns load_ms, load_memory_mb, its input's sequence_length and its model (or None).

    Raises ModelFileError where ONNX Runtime does not take it, or where it does not take such a batch.
    """
    _reset_high_water()
    before = _resident_bytes()
    started = time.perf_counter()
    session = _open(path, threads)
    load_ms = (time.perf_counter() - started) * 1e3
    load_memory_mb = (_high_water_bytes() - before) / 1e6
    specs = [
        InputSpec(i.name, i.type, tuple(d if isinstance(d, int) and d > 0 else None for d in i.shape))
        for i in session.get_inputs()
    ]
    metadata = session.get_modelmeta().custom_metadata_map
    feed = concrete_feed(
        specs, metadata.get(METADATA_KEY), batch_size=batch_size, sequence_length=sequence_length
    )
    _loaded.update(session=session, feed=draw(specs, feed), before=before)
    length = feed.sequence_length
    return {
        "load_ms": load_ms,
        "load_memory_mb": load_memory_mb,
        "sequence_length": length,
        "model": exported_from(metadata.get("zoo.provenance")),
    }


def exported_from(provenance: str | None) -> str | None:
    """The model's id in a file's metadata; None where it is not one of ours."""
    try:
        found = json.loads(provenance or "{}").get("id")
    except (ValueError, AttributeError):
        return None
    return found if isinstance(found, str) else None


def warm_up(seconds: float) -> float:
    """Run until it gets no faster (or `seconds` are over, three runs at least); the median of the last in ms."""
    times: list[float] = []
    deadline = time.perf_counter() + seconds
    while len(times) < _MAX_WARM_UP:
        times.append(_run_once())
        if len(times) < _WINDOW:
            continue
        last = statistics.median(times[-_WINDOW:])
        earlier = times[-2 * _WINDOW : -_WINDOW]
        if time.perf_counter() > deadline:
            break
        if len(earlier) == _WINDOW and last >= _STEADY * statistics.median(earlier):
            break
    return statistics.median(times[-_WINDOW:])


def run_round(seconds: float, at_least: int, at_most: int) -> list[float]:
    """Milliseconds of single runs, for about `seconds`; the first run, its caches taken by others, is left out."""
    _run_once()
    times: list[float] = []
    deadline = time.perf_counter() + seconds
    while len(times) < at_least or (len(times) < at_most and time.perf_counter() < deadline):
        times.append(_run_once())
    return times


def peak_memory_mb() -> float:
    """High-water mark of this process since before loading, less its resident size then; 10^6 bytes."""
    before: int = _loaded["before"]
    return (_high_water_bytes() - before) / 1e6


def _open(path: str, threads: int) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Spinning threads of one session take the cores from the next: interleaved, they gave false ratios.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions share no other base class
        raise ModelFileError(f"ONNX Runtime does not take {Path(path).name}: {_first_line(error)}") from error


def _run_once() -> float:
    started = time.perf_counter()
    try:
        _loaded["session"].run(None, _loaded["feed"])
    except Exception as error:
        raise ModelFileError(f"ONNX Runtime fails on this graph: {_first_line(error)}") from error
    return (time.perf_counter() - started) * 1e3


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:400]


def _reset_high_water() -> None:
    """Forget the peak of the imports (Linux: 5 into clear_refs); elsewhere it stays in, a slight overestimate."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return


def _resident_bytes() -> int:
    return _status("VmRSS") or _high_water_bytes()


def _high_water_bytes() -> int:
    unit = 1 if sys.platform == "darwin" else 1024
    return _status("VmHWM") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _status(field: str) -> int | None:
    try:
        text = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        return None
    found = re.search(rf"{field}:\s+(\d+) kB", text)
    return int(found[1]) * 1024 if found else None
