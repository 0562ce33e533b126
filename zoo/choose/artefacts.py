"""From families to ONNX files on disk, each framework in a worker process of its own.

The frameworks work side by side; a crash costs the families of that framework's call and nothing else.
"""

from __future__ import annotations

import contextlib
import functools
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from zoo.cards import Preprocess, TextPreprocess, fingerprint
from zoo.choose import derived
from zoo.choose.candidates import Family, names_files
from zoo.choose.requests import answer, remember
from zoo.data.dataset import input_digests
from zoo.engine import Array
from zoo.errors import StorageError, ZooError
from zoo.executor import Executor, LocalExecutor, Outcome, Task, thread_settings
from zoo.graph import OnnxModel
from zoo.graph.kept import CacheWarning
from zoo.train import FeatureCache
from zoo.train.features import entry_name, features_of_inputs

EXPORT_TIMEOUT_S = 900.0
Say = Callable[[str], None]


@dataclass(frozen=True)
class Artefact:
    """One candidate's graph without a fitted head. `trunk` holds all depths of its family (or is itself).
    features_key: what the cached features of the whole backbone go by; None: they are not cached.
    """

    id: str
    path: Path
    trunk: Path
    depth: int | None
    features_key: str | None = None

    @property
    def preprocess(self) -> Preprocess:
        """Of the trunk, which all of its depths share; read once, for a graph is parsed with all its weights."""
        return _preprocess_of(self.trunk, self.trunk.stat().st_mtime_ns)


@dataclass(frozen=True)
class Request:
    """One call of `zoo.jobs.export`."""

    key: str
    framework: str
    arguments: Mapping[str, Any]


def export_all(
    requests: Sequence[Request], *, say: Say, executor: Executor | None = None
) -> dict[str, dict[str, Any] | ZooError]:
    """Answer every request from the cache or in its framework's worker; results (or what went wrong) by key.

    executor: who does what is not in the cache; None: processes of this machine, ended afterwards.
    """
    todo: dict[str, Request] = {}
    results: dict[str, dict[str, Any] | ZooError] = {}
    for request in requests:
        found = _known(request)
        if found is None:
            todo[request.key] = request
        else:
            say(f"{request.key} is in the cache")
            results[request.key] = found
    tasks = [_task(request) for request in todo.values()]
    with contextlib.ExitStack() as stack:
        doer = executor or stack.enter_context(LocalExecutor(thread_settings(None)))
        for outcome in doer.run(tasks, on_start=lambda task: say(f"export {task.key}")):
            results[outcome.task.key] = outcome.result if outcome.error is None else outcome.error
            if outcome.error is None:
                _note(todo[outcome.task.key], outcome)
    return results


def _known(request: Request) -> dict[str, Any] | ZooError | None:
    try:
        return answer(request.framework, request.arguments)
    except StorageError as error:
        return error


def _task(request: Request) -> Task:
    path = Path(request.arguments["path"])
    return Task(
        request.key,
        request.framework,
        "zoo.jobs:export",
        request.arguments,
        EXPORT_TIMEOUT_S,
        home=path.parent,
        writes=(path.name,),
        # Of weights that are files, the graph's own record names the path: it has to be the one here.
        here=names_files(request.arguments["model"]),
    )


def _note(request: Request, outcome: Outcome) -> None:
    """Keep what was made here: what another machine's answer rests on are files of its own."""
    if outcome.here:
        remember(request.framework, request.arguments, outcome.result)
    for message in outcome.result["said"]:
        warnings.warn(message, CacheWarning, stacklevel=3)


def export_families(
    families: Sequence[Family],
    folder: Path,
    num_classes: int,
    *,
    say: Say,
    executor: Executor | None = None,
) -> tuple[list[Artefact], list[tuple[str, ZooError]]]:
    """Every candidate's graph, and the families that failed. A family costs one load and one export."""
    requests, names = [], {}
    for number, family in enumerate(families):
        key = str(family.id) + ("" if family.depths is None else ",depth=all")
        path = folder / f"{number}.onnx"
        names[key] = (family, path)
        arguments = {
            "model": family.source,
            "path": str(path),
            "depths": None if family.depths is None else list(family.depths),
            "num_classes": num_classes,
        }
        requests.append(Request(key, family.id.framework, arguments))
    artefacts: list[Artefact] = []
    lost: list[tuple[str, ZooError]] = []
    for key, result in export_all(requests, say=say, executor=executor).items():
        family, path = names[key]
        if isinstance(result, ZooError):
            lost.append((key, result))
        else:
            artefacts.extend(_members(family, path, result))
    order = {str(family.id): number for number, family in enumerate(families)}
    return sorted(artefacts, key=lambda a: (order.get(a.id.partition(",depth=")[0], 0), a.depth or 0)), lost


def _members(family: Family, trunk: Path, result: Mapping[str, Any]) -> list[Artefact]:
    if family.depths is None:
        return [Artefact(str(family.id), trunk, trunk, None, result.get("features_key"))]
    whole = OnnxModel(trunk)
    found = []
    for depth in result["depths"]:
        path = trunk.with_name(f"{trunk.stem}-depth{depth}.onnx")
        derived.cut(whole, depth, path)
        found.append(Artefact(str(family.member(depth)), path, trunk, depth, result.get("features_key")))
    return found


@functools.lru_cache(maxsize=1024)
def _preprocess_of(path: Path, changed_ns: int) -> Preprocess:
    return OnnxModel(path).preprocess


def takes(preprocess: Preprocess, kind: str) -> bool:
    """Whether what is prepared so is this kind of data, "image" or "text"."""
    return isinstance(preprocess, TextPreprocess) == (kind == "text")


class Features:
    """Features of artefacts on one list of inputs: from the cache, which training shares, else one pass a
    trunk, all of its depths at once.
    """

    def __init__(self, inputs: Sequence[Any], *, source: str = "arrays") -> None:
        self.inputs, self.source, self.kept = inputs, source, FeatureCache()
        self._passes: dict[tuple[Path, int | None], Array] = {}

    def of(self, artefact: Artefact) -> Array:
        """float32 [N, D]."""
        place = (artefact.trunk, artefact.depth)
        if place not in self._passes:
            try:
                self._passes[place] = self._cached(artefact)
            except StorageError as error:
                warnings.warn(f"features are not kept: {error}", stacklevel=2)
                self._computed(OnnxModel(artefact.trunk), artefact)
        return self._passes[place]

    def _cached(self, artefact: Artefact) -> Array:
        model, key = OnnxModel(artefact.trunk), artefact.features_key
        if key is None or (artefact.depth is None and model.feature_dim is None):
            return self._computed(model, artefact)[artefact.depth]
        if artefact.depth is None:
            columns = cast(int, model.feature_dim)
            return features_of_inputs(lambda: model, columns, key, self.inputs, self.kept, source=self.source)
        if (found := self.kept.get(self._name(key, artefact.depth))) is not None:
            return found
        computed = self._computed(model, artefact)
        for depth, values in computed.items():
            about = {"model": f"{model.id},depth={depth}", "data": self.source}
            rows, columns = values.shape
            self.kept.put(self._name(key, depth), rows, columns, [values], about=about)
        return computed[artefact.depth]

    def _name(self, key: str, depth: int | None) -> str:
        return entry_name(fingerprint([key, depth]), input_digests(self.inputs))

    def _computed(self, model: OnnxModel, artefact: Artefact) -> dict[int | None, Array]:
        """In one pass, and remembered: of the whole, or of every depth."""
        found: dict[int | None, Array] = {}
        if artefact.depth is None:
            found[None] = model.features(self.inputs)
        else:
            found.update(model.features_by_depth(self.inputs).items())
        self._passes |= {(artefact.trunk, depth): values for depth, values in found.items()}
        return found
