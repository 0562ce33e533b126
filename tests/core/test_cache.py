"""The cache's bound: what goes first, what is spared, what is too large, and `zoo cache`."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from errors_table import check, fails, here, photographs, process

from zoo import cache
from zoo.choose import select
from zoo.engine import Array
from zoo.errors import InputError
from zoo.graph import OnnxModel
from zoo.testing import toy
from zoo.train import FeatureCache

MEGABYTE = np.zeros((1000, 250), np.float32)
TAIL = 2000
"""Header, facts and seal of a file take less."""


@pytest.fixture(autouse=True)
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of this test's own."""
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def put(name: str, *, megabytes: int = 1) -> Array:
    return FeatureCache().put(name, 1000 * megabytes, 250, [MEGABYTE] * megabytes, about={"data": name})


def forget() -> None:
    """What is there was used by another process, at different times, long ago."""
    cache._held.clear()
    for age, path in enumerate(sorted((cache.cache_dir() / "features").glob("*.npy"))):
        os.utime(path, (1e9 + age, 1e9 + age))


def there(own: Path) -> list[str]:
    return sorted(path.stem for path in own.glob("features/*.npy"))


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("123", 123), ("10GB", 10**10), ("1.5 mb", 1_500_000), ("2k", 2000), ("3 TB", 3 * 10**12)],
)
def test_sizes_are_read(text: str, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cache.LIMIT, text)
    assert cache.limit() == size


@pytest.mark.parametrize("text", ["lots", "10 XB", "-1", "GB", "1e9", "∞"])
def test_what_is_no_size_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cache.LIMIT, text)
    with pytest.raises(InputError, match=r"no size\. Write a number with a unit"):
        cache.limit()


def test_the_default_is_no_more_than_half_of_the_free_disk(
    own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(cache.LIMIT, raising=False)
    assert 0 < cache.limit() <= 10 * 10**9
    free = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(cache.shutil, "disk_usage", lambda _: free)
    assert cache.limit() == 500


# --- what goes
def test_the_least_recently_used_goes_first(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cache.LIMIT, "3.1MB")
    for name in ("a", "b", "c"):
        put(name)
    forget()
    assert FeatureCache().get("a") is not None  # used: now b is the oldest
    cache._held.clear()
    put("d")
    assert there(own) == ["a", "c", "d"]
    assert sum(entry.size for entry in cache.entries()) <= cache.limit()


def test_features_that_are_removed_while_mapped_stay_readable(
    own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(cache.LIMIT, "1.1MB")
    mapped = FeatureCache().put("a", 1000, 250, [MEGABYTE + 1])
    forget()
    put("b")
    assert there(own) == ["b"]
    assert mapped.min() == mapped.max() == 1


READER = """
import sys
import numpy as np
from zoo.train import FeatureCache
found = FeatureCache().get("a")
print("mapped", flush=True)
sys.stdin.readline()
print(float(np.asarray(found).sum()), flush=True)
"""


def test_another_process_goes_on_with_what_is_removed(own: Path) -> None:
    FeatureCache().put("a", 1000, 250, [MEGABYTE + 1])
    reader = subprocess.Popen(
        [sys.executable, "-c", READER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert reader.stdout is not None and reader.stdout.readline() == "mapped\n"
    cache.clear()
    assert there(own) == []
    assert reader.communicate("go on\n")[0] == "250000.0\n"


def test_a_run_that_needs_more_than_the_limit_says_so(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cache.LIMIT, "1.5MB")
    first = put("train")
    with pytest.warns(UserWarning, match="1.5 MB does not hold the features of this run"):
        put("validation")
    assert there(own) == ["validation"] and len(first) == 1000


def test_more_than_the_limit_is_used_and_not_kept(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cache.LIMIT, "1.5MB")
    put("small")
    with pytest.warns(
        UserWarning, match=r"features of large take 2\.0 MB, more than the cache's limit of 1\.5 MB"
    ):
        found = put("large", megabytes=2)
    assert found.shape == (2000, 250) and found.sum() == 0
    assert there(own) == ["small"], "nothing went for what would not have fitted"


def test_a_limit_of_nothing_keeps_nothing(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cache.LIMIT, "0")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(put("a")) == 1000
    assert there(own) == []


def test_a_folder_of_ones_own_is_bounded_by_itself(
    own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(cache.LIMIT, "1.5MB")
    put("a")
    forget()
    FeatureCache(tmp_path / "mine").put("b", 1000, 250, [MEGABYTE])
    assert there(own) == ["a"]


# --- graphs and heads
def old(path: Path, size: int, *, age_s: float) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(size))
    os.utime(path, (time.time() - age_s,) * 2)
    return path


def test_graphs_and_heads_count_and_go_too_unless_just_used(
    own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = old(own / "graphs" / "a-b-c.onnx", 600_000, age_s=7200)
    request = old(own / "graphs" / "a-b-c.0123.json", 600_000, age_s=7200)
    recent = old(own / "heads" / "recent.onnx", 300_000, age_s=60)
    mine = old(own / "heads" / "mine.onnx", 300_000, age_s=3600)
    cache._held.add(mine)
    monkeypatch.setenv(cache.LIMIT, "1.2MB")
    put("a")
    assert not graph.exists() and not request.exists()
    assert recent.exists() and mine.exists(), "the limit is exceeded sooner"


def test_sweeping_leaves_what_is_being_written(own: Path) -> None:
    fresh = old(own / "graphs" / ".a-b-c.onnx", 10, age_s=600)
    dead = old(own / "heads" / ".key.onnx.y.onnx", 10, age_s=7200)
    assert cache.sweep() == [dead]
    assert fresh.exists()


# --- shared by the commands
@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder: photos in parts, none of them in two, with the toy framework installed."""
    work = tmp_path / "work"
    for seed, (part, count) in enumerate((("train", 8), ("val", 6), ("test", 7))):
        photographs(work / "photos" / part, count=count, seed=seed)
    monkeypatch.chdir(work)
    with toy.installed(tmp_path / "site"):
        yield work


def test_select_after_train_computes_no_feature(
    desk: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert here(capsys, "train", "toy:tiny", "photos", "--epochs", "1", "-o", "run").code == 0
    for name in ("feature_chunks", "features", "features_by_depth"):
        monkeypatch.setattr(OnnxModel, name, lambda *a, **k: pytest.fail("features were computed"))
    assert select(desk / "photos", candidates=["toy:tiny"]).best == "toy:tiny"


def test_depths_are_computed_once(desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    passes, compute = [], OnnxModel.features_by_depth
    monkeypatch.setattr(OnnxModel, "features_by_depth", lambda *a, **k: passes.append(1) or compute(*a, **k))
    first, second = (select(desk / "photos", candidates=["toy:tiny,depth=all"]) for _ in range(2))
    assert len(passes) == 1
    assert [row.accuracy for row in first.rows] == [row.accuracy for row in second.rows]


# --- the command
def test_zoo_cache_lists_and_empties(desk: Path, own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "0 B of " in here(capsys, "cache").out
    assert here(capsys, "train", "toy:tiny", "photos", "--epochs", "1", "-o", "run").code == 0
    shown = here(capsys, "cache").out
    assert "toy:tiny, 16 x 16, photos/train" in shown and "toy:tiny, 12 x 16, photos/val" in shown
    assert "s ago" in shown and "ZOO_CACHE_LIMIT" in shown
    found = json.loads(here(capsys, "cache", "--json").out)
    assert sorted(row["kind"] for row in found["entries"]) == ["digests", "features", "features", "graphs"]
    assert found["bytes"] == sum(row["bytes"] for row in found["entries"]) > 0
    next(own.glob("features/*.npy")).write_bytes(b"")
    next(own.glob("graphs/*.onnx")).write_bytes(b"")
    assert here(capsys, "cache").out.count("damaged") == 2
    assert "removed 4 file(s)" in here(capsys, "cache", "--clear").out
    assert [path for path in own.rglob("*") if path.is_file()] == []


def test_training_without_the_cache_leaves_none(
    desk: Path, own: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = here(capsys, "train", "toy:tiny", "photos", "--epochs", "1", "-o", "run", "--no-cache")
    assert done.code == 0
    assert there(own) == [] and not list(own.glob("graphs/*"))


def test_a_limit_that_is_no_size_on_the_command_line(
    desk: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(cache.LIMIT, "lots")
    case = "A limit of the cache that is no size (ZOO_CACHE_LIMIT=lots)"
    for arguments in (["cache"], ["train", "toy:tiny", "photos", "--epochs", "1", "-o", "run"]):
        says = ["ZOO_CACHE_LIMIT='lots': no size", "such as 10GB"]
        fails(capsys, case, arguments, code=2, says=says)


def small_files_only() -> None:
    """The kernel's stand-in for a full disk."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1500, 1500))


def test_a_disk_that_is_full_for_features(
    desk: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZOO_CACHE", "cache")
    arguments = ["train", "toy:tiny", "photos/train", "--epochs", "1", "-o", "run"]
    assert here(capsys, *arguments[:-1], "first").code == 0  # the graph is there
    for path in Path("cache/features").iterdir():
        path.unlink()
    outcome = process(*arguments, preexec=small_files_only)
    case = "Disk full while caching features (a file-size limit stands in)"
    says = ["cannot write cache", "zoo cache --clear", "--no-cache (cached=False) trains without it"]
    check(case, arguments, outcome, code=8, says=says, theirs="[0-9a-f]{12}-[0-9a-f]{32}")
    assert list(Path("cache/features").iterdir()) == []
