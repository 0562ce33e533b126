"""The meter's child process: one ONNX file in one ONNX Runtime session, called by `zoo.cost.meter`.

Imports onnxruntime and numpy only, so that the resident size before loading is the runtime's and no more.
The session lives in this module between calls, because a worker's calls are plain functions.
"""

from __future__ import annotations

import gc
import itertools
import json
import re
import resource
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnxruntime

from zoo.cost import scheduling
from zoo.cost.inputs import METADATA_KEY, Feed, InputSpec, concrete_feed, draw
from zoo.errors import ModelFileError, WorkerError

_WINDOW = 3  # runs compared with the runs before them, to see whether it still gets faster
_STEADY = 0.95
_MAX_WARM_UP = 30
_LEAD_S, _CALM_MS = 0.01, 0.02
_loaded: dict[str, Any] = {}


def start() -> str:
    """Import onnxruntime, which importing this module did; its version."""
    return str(onnxruntime.__version__)


def load(
    path: str,
    threads: int,
    batch_size: int,
    sequence_length: int,
    provider: str,
    inputs: Sequence[str] = (),
    custom_ops: Sequence[str] = (),
) -> dict[str, Any]:
    """Open the file. Returns load_ms, load_memory_mb, its input's sequence_length, its model (each or None) and inputs,
    by name as "float32[1,3,224,224]".

    provider: by ONNX Runtime's name.  inputs: as `concrete_feed` takes them.  custom_ops: libraries of operators,
    loaded into this process. Raises ModelFileError where ONNX Runtime does not take the file or such a batch,
    WorkerError where the provider does not start.
    """
    _reset_high_water()
    before = _resident_bytes()
    started = time.perf_counter()
    session = _open(path, threads, provider, custom_ops)
    load_ms = (time.perf_counter() - started) * 1e3
    load_memory_mb = (_high_water_bytes() - before) / 1e6
    specs = _specs(session)
    metadata = session.get_modelmeta().custom_metadata_map
    feed = concrete_feed(
        specs,
        metadata.get(METADATA_KEY),
        batch_size=batch_size,
        sequence_length=sequence_length,
        inputs=inputs,
    )
    arrays = draw(specs, feed)
    _loaded.update(session=session, feed=arrays, before=before, note=_guesses(feed))
    return {
        "load_ms": load_ms,
        "load_memory_mb": load_memory_mb,
        "sequence_length": feed.sequence_length,
        "model": exported_from(metadata.get("zoo.provenance")),
        "inputs": {name: f"{a.dtype}[{','.join(map(str, a.shape))}]" for name, a in arrays.items()},
    }


def exported_from(provenance: str | None) -> str | None:
    """The model's id in a file's metadata; None where it is not one of ours."""
    try:
        found = json.loads(provenance or "{}").get("id")
    except (ValueError, AttributeError):
        return None
    return found if isinstance(found, str) else None


def _specs(session: Any) -> list[InputSpec]:
    return [
        InputSpec(
            i.name,
            i.type,
            tuple(d if isinstance(d, int) and d > 0 else None for d in i.shape),
            tuple(d if isinstance(d, str) else "" for d in i.shape),
        )
        for i in session.get_inputs()
    ]


def warm_up(seconds: float) -> dict[str, float]:
    """Run until it gets no faster (or `seconds` are over, three runs at least).

    Returns milliseconds: first_ms, of the first run; run_ms, of the fastest.
    """
    gc.collect()
    gc.disable()  # as timeit does: a collection is Python's time, not the model's
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
    scheduling.settle()
    return {"first_ms": times[0], "run_ms": min(times)}


def _lead_in(waits: scheduling.Waits) -> float:
    """Runs that are left out: for _LEAD_S, once at least, as cores that slept and caches that others had are slow at
    first; then on until no thread waits, for _LEAD_S more at the most: threads that wake are often put on one core,
    where they take turns until the kernel moves one. A loop's threads, which never sleep, meet all that once.
    Returns what was waited by the end, in ms.
    """
    end = time.perf_counter() + _LEAD_S
    after = waits.total_ms()
    while True:
        before = after
        _run_once()
        after, over_s = waits.total_ms(), time.perf_counter() - end
        calm = after - before < _CALM_MS
        if over_s > _LEAD_S or (over_s >= 0 and calm and not scheduling.pending()):
            return after


def run_round(seconds: float, at_least: int, at_most: int) -> dict[str, Any]:
    """Run for about `seconds`, after the runs of `_lead_in`, which are left out. Returns

    times: milliseconds of single runs.  waits: milliseconds that threads of this process were found to have waited for
    a core when each of them was over.  late_ms: of a wait that was not over with the last of them, at most the round.
    Where the system does not tell, waits are 0. It returns when ONNX Runtime's threads sleep.
    """
    times: list[float] = []
    with scheduling.waits() as waits:
        waited = [_lead_in(waits)]
        deadline = time.perf_counter() + seconds
        while len(times) < at_least or (len(times) < at_most and time.perf_counter() < deadline):
            times.append(_run_once())
            waited.append(waits.total_ms())
        late = scheduling.pending()
        scheduling.settle()
        late_ms = min(waits.total_ms() - waited[-1], sum(times)) if late else 0.0
    found = [max(0.0, after - before) for before, after in itertools.pairwise(waited)]
    return {"times": times, "waits": found, "late_ms": max(0.0, late_ms)}


def peak_memory_mb() -> float:
    """High-water mark of this process since before loading, less its resident size then; 10^6 bytes."""
    before: int = _loaded["before"]
    return (_high_water_bytes() - before) / 1e6


def high_water_mb() -> float:
    """The most that was resident of this process since before loading, the runtime included; 10^6 bytes."""
    return _high_water_bytes() / 1e6


def _guesses(feed: Feed) -> str:
    """What to say where a run fails on sizes that the file does not give."""
    if not feed.guessed:
        return ""
    shapes = [f"{name}:{'x'.join(map(str, feed.shapes[name]))}" for name in feed.guessed]
    return (
        f". Sizes that the file leaves open were taken as {', '.join(shapes)}: if it wants others, say so with "
        "--input name:shape:dtype"
    )


def _open(path: str, threads: int, provider: str, custom_ops: Sequence[str]) -> Any:
    # Threads spin between runs, as they do by default, in `predict` and in a bare loop. They would take the next
    # model's cores: so a turn ends only when they sleep (`scheduling.settle`).
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    for library in custom_ops:
        _register(options, library)
    try:
        session = onnxruntime.InferenceSession(path, options, providers=[provider])
    except Exception as error:  # its exceptions share no other base class
        raise ModelFileError(f"ONNX Runtime does not take {Path(path).name}: {_first_line(error)}") from error
    if session.get_providers()[0] != provider:  # it falls back to the CPU and only prints so
        raise WorkerError(
            f"{provider} is in this ONNX Runtime and did not start (a driver or a library of it is missing, or there "
            f"is no such device), so {Path(path).name} would have run on the CPU: nothing was measured."
        )
    return session


def _register(options: Any, library: str) -> None:
    try:
        options.register_custom_ops_library(library)
    except Exception as error:  # its exceptions share no other base class
        raise ModelFileError(
            f"{library} is no library of operators that ONNX Runtime {onnxruntime.__version__} takes: "
            f"{_first_line(error)}"
        ) from error


def _run_once() -> float:
    started = time.perf_counter()
    try:
        _loaded["session"].run(None, _loaded["feed"])
    except Exception as error:
        raise ModelFileError(
            f"ONNX Runtime fails on this graph: {_first_line(error)}{_loaded['note']}"
        ) from error
    return (time.perf_counter() - started) * 1e3


def _first_line(error: Exception) -> str:
    """ONNX Runtime's message without its code and the place in its source."""
    text = next(iter(str(error).strip().splitlines()), type(error).__name__)
    text = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", text)
    return re.sub(r"/onnxruntime_src/\S+:\d+ .*?\) (?=[A-Z])", "", text)[:400]


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
