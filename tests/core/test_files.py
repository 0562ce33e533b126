"""Files appear whole or not at all: on an error, on a full disk, and over what was there before."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from zoo.errors import StorageError, WeightsCorruptError
from zoo.files import atomic_file, atomic_folder, cache_dir, sha256_file
from zoo.weights import mirrored, unavailable

# A file size limit is the kernel's own "disk full": the write fails with an OSError (SIGXFSZ ignored).
FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from zoo.errors import StorageError
from zoo.files import atomic_file, atomic_folder
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
target = Path(sys.argv[1])
try:
    if sys.argv[2] == "file":
        with atomic_file(target) as path:
            path.write_bytes(bytes(100_000))
    else:
        with atomic_folder(target) as path:
            (path / "small").write_bytes(b"fits")
            (path / "large").write_bytes(bytes(100_000))
except StorageError as error:
    print(error)
    sys.exit(error.exit_code)
"""


def test_a_file_is_there_only_when_it_is_whole(tmp_path: Path) -> None:
    with atomic_file(tmp_path / "deep" / "x.bin") as path:
        path.write_bytes(b"new")
        assert not (tmp_path / "deep" / "x.bin").exists()
    assert (tmp_path / "deep" / "x.bin").read_bytes() == b"new"
    assert len(list((tmp_path / "deep").iterdir())) == 1


def test_an_error_leaves_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("old", encoding="utf-8")
    with pytest.raises(ValueError, match="mine"), atomic_file(tmp_path / "x") as path:
        path.write_text("half", encoding="utf-8")
        raise ValueError("mine")
    assert [p.read_text(encoding="utf-8") for p in tmp_path.iterdir()] == ["old"]


def test_a_folder_replaces_the_old_one_only_on_success(tmp_path: Path) -> None:
    for text in ("one", "two"):
        with atomic_folder(tmp_path / "run") as folder:
            (folder / text).write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match="mine"), atomic_folder(tmp_path / "run") as folder:
        raise ValueError("mine")
    assert [p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*")] == ["run", "run/two"]


@pytest.mark.parametrize("kind", ["file", "folder"])
@pytest.mark.parametrize("before", [True, False])
def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path, kind: str, before: bool) -> None:
    target = tmp_path / "out"
    if before and kind == "file":
        target.write_text("old", encoding="utf-8")
    elif before:
        target.mkdir()
        (target / "old").write_text("old", encoding="utf-8")
    kept = sorted(tmp_path.rglob("*"))
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(target), kind], capture_output=True, text=True, check=False
    )
    assert done.returncode == 8, done.stderr
    assert f"cannot write {target}: File too large. Nothing half-written was left." in done.stdout
    assert "Free some space or choose another folder" in done.stdout
    assert sorted(tmp_path.rglob("*")) == kept


def test_a_path_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(StorageError, match=r"cannot write .*file/x"), atomic_file(tmp_path / "file" / "x"):
        pass


def test_files_get_the_usual_permissions(tmp_path: Path) -> None:
    """mkstemp's 0600 would shut colleagues out of a shared model."""
    (tmp_path / "plain").touch()
    with atomic_file(tmp_path / "x"):
        pass
    assert (tmp_path / "x").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("ZOO_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_dir() == tmp_path / "backbone-zoo"
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "own"))
    assert cache_dir() == tmp_path / "own"


def test_the_mirror_checks_hashes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "net-abcd.pth"
    path.write_bytes(b"weights")
    assert mirrored(path.name) is None, "no mirror is set"
    monkeypatch.setenv("ZOO_MIRROR", str(tmp_path))
    assert mirrored("absent.pth") is None
    assert mirrored(path.name, sha256=sha256_file(path)[:8]) == path
    with pytest.raises(WeightsCorruptError, match=r"is not the official net-abcd\.pth.*not loaded"):
        mirrored(path.name, sha256="abcd1234")


def test_unreachable_weights_name_file_url_and_mirror(monkeypatch: pytest.MonkeyPatch) -> None:
    text = str(unavailable("net.pth", "https://host/net.pth", OSError("no route")))
    assert "cannot reach the weights net.pth (https://host/net.pth): no route; ZOO_MIRROR is not set" in text
    monkeypatch.setenv("ZOO_MIRROR", "/nowhere")
    assert "ZOO_MIRROR=/nowhere does not hold it" in str(unavailable("net.pth", None, "x"))
