"""An export asked for again is answered from the cache, without starting the framework, where that is known to hold.

It holds while nothing changed of what the first answer rested on: the request; the packages installed, by name and
version; the code of the export; the environment variables that steer where weights are found; the files that were
read, and those that were looked for in vain. Anything else, and the worker loads the model: what it then finds by
content (`zoo.train.exports`) is still not exported again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zoo import cache, reads, registry
from zoo.cards import ModelId, fingerprint
from zoo.choose.candidates import is_run
from zoo.errors import StorageError
from zoo.files import atomic_file, cache_dir
from zoo.graph import kept

STEERING = (
    "CUDA_", "HF_", "HOME", "HUGGINGFACE_", "KAGGLE", "KERAS_", "TF_", "TIMM_", "TORCH", "TRANSFORMERS_", "XDG_",
    "ZOO_MIRROR",
)  # fmt: skip
"""Beginnings of the names of variables that say where a framework finds weights, or how it computes."""
OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
HUB_S = 86400.0
"""A repository of the hub is asked once a day whether it has changed."""


def key(framework: str, arguments: Mapping[str, Any]) -> str:
    """What a request and all that is known without loading the model come down to."""
    asked = {
        name: value for name, value in arguments.items() if name not in ("path", "random_if_unreachable")
    }
    steering = {name: value for name, value in os.environ.items() if name.startswith(STEERING)}
    here = str(Path.cwd()) if _names_a_path(str(arguments["model"])) else ""
    return fingerprint([framework, asked, steering, here, kept.code(), packages(), sys.version])


def _names_a_path(model: str) -> bool:
    """Whether the current folder may matter: a relative path as name or weights."""
    if is_run(model):
        return True
    found = ModelId.parse(model)
    return found.weights not in ("default", "none") or registry.card(found) is None


def packages() -> str:
    """Digest of the names and versions of all that is installed, in a few milliseconds: those of the folders."""
    digest = hashlib.sha256()
    for place in sys.path:
        with contextlib.suppress(OSError):
            names = sorted(n for n in os.listdir(place or ".") if n.endswith((".dist-info", ".egg-info")))  # noqa: PTH208
            digest.update("\0".join(names).encode())
    return digest.hexdigest()


def answer(framework: str, arguments: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the worker answered to the same request, the file written anew to its path; None: it has to be asked.

    Raises StorageError where the path cannot be written.
    """
    folder = cache_dir() / cache.GRAPHS
    for record in sorted(folder.glob(f"*.{key(framework, arguments)}.json")):
        graph = record.with_name(f"{record.name.partition('.')[0]}.onnx")
        try:
            stored = json.loads(record.read_text(encoding="utf-8"))
            good, answered = _holds(stored), dict(stored["answer"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            good, answered = False, {}  # half a file, or of another version: the worker is asked
        if good and kept.sound(graph):
            cache.touch(graph)
            kept.hand_over(graph, Path(arguments["path"]), link=True)
            return {**answered, "path": arguments["path"], "made": False, "said": []}
        with contextlib.suppress(OSError):
            record.unlink()
    return None


def known(framework: str, arguments: Mapping[str, Any]) -> bool:
    """Whether `answer` would answer, so that nothing is loaded; nothing is written."""
    for record in (cache_dir() / cache.GRAPHS).glob(f"*.{key(framework, arguments)}.json"):
        graph = record.with_name(f"{record.name.partition('.')[0]}.onnx")
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            if graph.is_file() and _holds(json.loads(record.read_text(encoding="utf-8"))):
                return True
    return False


def _holds(stored: Mapping[str, Any]) -> bool:
    found = stored["reads"]
    offline = any(os.environ.get(name, "").upper() in ("1", "TRUE", "YES", "ON") for name in OFFLINE)
    if reads.from_hub(found) and not offline and time.time() - stored["at"] > HUB_S:
        return False
    return reads.unchanged(found)


def remember(framework: str, arguments: Mapping[str, Any], answered: Mapping[str, Any]) -> None:
    """Keep an answer for the next time, where all that it rests on is known and stands still."""
    name, found = answered["kept"], answered["reads"]
    if name is None or found is None or not reads.unchanged(found):
        return
    path = cache_dir() / cache.GRAPHS / f"{Path(name).stem}.{key(framework, arguments)}.json"
    stored = {
        "request": {k: v for k, v in arguments.items() if k != "path"},
        "answer": {k: v for k, v in answered.items() if k not in ("path", "reads", "said", "made")},
        "reads": found,
        "at": time.time(),
    }
    with contextlib.suppress(StorageError), atomic_file(path) as temporary:
        temporary.write_text(json.dumps(stored), encoding="utf-8")
