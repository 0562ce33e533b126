"""Exported graphs in the cache: each file named by what it was made from and by its own digest.

    graphs/<backbone>-<whole>-<sha256>.onnx    12, 12 and 32 hex digits

backbone: weights and architecture without the head, preprocess, id, versions, code and opset of the export; whole:
that, head and labels. A file whose bytes are not those its name says is removed and made again, so that one that is
found computes what it did when its parity was checked.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.util
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from zoo import cache, registry
from zoo.files import atomic_file, cache_dir, sha256_file, storage_error
from zoo.graph.export import OPSET

DIGEST = 32
MAKERS = ("backbone-zoo", "onnx", "onnxruntime", "onnxscript", "numpy", "protobuf", "timm", "safetensors")
"""Packages that shape a graph beside those that an adapter names in `versions`."""
CORE = (
    "backbone.py", "cards.py", "engine.py", "graph/*.py", "jobs.py", "model_folder.py", "packaged.py", "registry.py",
    "train/exports.py", "train/store.py", "weights.py",
)  # fmt: skip
"""The core's own code that shapes a graph: a change of it makes every graph anew, released or not."""
OF_ADAPTERS = (".py", ".json")
"""Code and catalogues: which file a name means is theirs to say."""


class CacheWarning(UserWarning):
    """A graph that is not kept, or was damaged: nothing is wrong with the result, it took longer."""


def find(backbone: str, whole: str | None = None) -> Path | None:
    """The cached graph of exactly that head, or with None of any head; None where there is none.

    Its bytes are checked. A damaged one is removed, with a CacheWarning.
    """
    for path in sorted((cache_dir() / cache.GRAPHS).glob(f"{backbone}-{whole or '*'}-*.onnx")):
        if sound(path):
            cache.touch(path)
            return path
    return None


def sound(path: Path) -> bool:
    """Whether a cached graph is there and holds the bytes that its name says; removed where it does not."""
    try:
        if sha256_file(path).startswith(path.stem.rpartition("-")[2]):
            return True
    except FileNotFoundError:
        return False
    except OSError as error:
        _say(f"the cached graph {path} cannot be read ({error.strerror or error}); it is made again")
        return False
    with contextlib.suppress(OSError):
        path.unlink()
    _say(f"the cached graph {path.name} was damaged; it is made again")
    return False


def keep(made: Path, backbone: str, whole: str, *, link: bool = False) -> Path | None:
    """Put a finished file into the cache; its path there, or None, with a CacheWarning, where that cannot be.

    link: `made` will not be changed in place by anybody, so both names may stand for one file.
    """
    folder = cache_dir() / cache.GRAPHS
    place = folder / f"{backbone}-{whole}-{sha256_file(made)[:DIGEST]}.onnx"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".", dir=folder) as work:
            copy = Path(work) / "graph.onnx"
            _copy(made, copy, link=link)
            copy.replace(place)
    except OSError as error:
        reason = str(storage_error(place.parent, error)).partition(". ")[0]
        _say(
            f"the exported graph is not kept: {reason}. It is exported again next time; "
            "ZOO_CACHE names another folder for the cache."
        )
        return None
    cache.touch(place)
    cache.make_room(0)
    return place


def hand_over(cached: Path, target: Path, *, link: bool = False) -> None:
    """The cached file as `target`. Raises StorageError. link: see `keep`."""
    with atomic_file(target) as temporary:
        temporary.unlink()
        _copy(cached, temporary, link=link)


def _copy(source: Path, target: Path, *, link: bool) -> None:
    if link:
        with contextlib.suppress(OSError):  # another file system, or one without links
            os.link(source, target)
            return
    shutil.copyfile(source, target)


def _say(message: str) -> None:
    warnings.warn(message, CacheWarning, stacklevel=3)


# --- what a graph depends on beside the model
def makers() -> dict[str, str]:
    """What makes graphs here: versions of packages, the opset, and the code of export and adapters."""
    return {**_versions(), "opset": str(OPSET), "code": code()}


def _versions() -> dict[str, str]:
    found = {}
    for name in MAKERS:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def code() -> str:
    """SHA-256 of the source of the export: this package's and every installed adapter's, with its cards."""
    return _digest(tuple((path, found.st_size, found.st_mtime_ns) for path, found in _sources()))


@functools.lru_cache(maxsize=4)
def _digest(sources: tuple[tuple[Path, int, int], ...]) -> str:
    digest = hashlib.sha256()
    for path, _, _ in sources:
        digest.update(f"{path.name}\n".encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _sources() -> Iterator[tuple[Path, os.stat_result]]:
    root = Path(__file__).resolve().parent.parent
    for path in (path for pattern in CORE for path in sorted(root.glob(pattern))):
        yield path, path.stat()
    tops = {point.module.partition(".")[0] for point in registry.entry_points().values()}
    for top in sorted(tops - {"zoo"}):
        if (spec := importlib.util.find_spec(top)) is not None and spec.origin is not None:
            for path in sorted(Path(spec.origin).parent.rglob("*")):
                if path.suffix in OF_ADAPTERS:
                    yield path, path.stat()
