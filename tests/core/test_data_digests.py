"""What photographs contain is read once, and again only where a file may have changed."""

from __future__ import annotations

import os
import sqlite3
import time
from pathlib import Path

import pytest

from zoo import cache
from zoo.data import digests
from zoo.errors import BadFilesError


@pytest.fixture
def reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Files that were read; the record is believed at once."""
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(digests, "SETTLED_NS", 0)
    found: list[Path] = []
    read = digests._read
    monkeypatch.setattr(digests, "_read", lambda path: found.append(path) or read(path))
    return found


def files(folder: Path, n: int = 5) -> list[Path]:
    for i in range(n):
        (folder / f"{i}.jpg").write_bytes(bytes([i]) * 100)
    time.sleep(0.02)
    return [folder / f"{i}.jpg" for i in range(n)]


def test_a_file_is_read_once(tmp_path: Path, reads: list[Path]) -> None:
    paths = files(tmp_path)
    first = digests.file_digests(paths)
    assert first == [digests.digest(path.read_bytes()) for path in paths] and len(reads) == 5
    assert digests.file_digests(paths[::-1]) == first[::-1] and len(reads) == 5
    (tmp_path / "linked.jpg").hardlink_to(paths[0])
    assert digests.file_digests([tmp_path / "linked.jpg"]) == first[:1]


def test_a_change_that_size_and_time_hide_is_seen(tmp_path: Path, reads: list[Path]) -> None:
    paths = files(tmp_path)
    before = digests.file_digests(paths)
    status = paths[2].stat()
    paths[2].write_bytes(bytes([9]) * 100)
    os.utime(paths[2], ns=(status.st_atime_ns, status.st_mtime_ns))
    after = digests.file_digests(paths)
    assert [a != b for a, b in zip(after, before, strict=True)] == [False, False, True, False, False]
    assert reads[5:] == [paths[2]]


def test_a_file_that_has_just_changed_is_not_believed(
    tmp_path: Path, reads: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two changes within one tick of the clock would look the same."""
    monkeypatch.setattr(digests, "SETTLED_NS", 60 * 10**9)
    paths = files(tmp_path)
    digests.file_digests(paths)
    digests.file_digests(paths)
    assert len(reads) == 10


def test_where_changes_are_not_recorded_all_is_read(
    tmp_path: Path, reads: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digests, "CHANGES_ARE_RECORDED", False)  # Windows
    paths = files(tmp_path)
    assert digests.file_digests(paths) == digests.file_digests(paths)
    assert len(reads) == 10


@pytest.mark.parametrize("damage", ["no database", "another table", "another value"])
def test_a_damaged_record_changes_no_digest(damage: str, tmp_path: Path, reads: list[Path]) -> None:
    paths = files(tmp_path)
    right = digests.file_digests(paths)
    record = tmp_path / "cache" / "digests.sqlite"
    if damage == "no database":
        record.write_bytes(b"nothing of the kind" * 1000)
    else:
        with sqlite3.connect(record) as connection:
            if damage == "another value":
                connection.execute("UPDATE digests SET digest = 'text'")
            else:
                connection.execute("DROP TABLE digests")
                connection.execute("CREATE TABLE digests (mark BLOB)")
    assert digests.file_digests(paths) == right
    assert len(reads) == 10


def test_a_record_that_cannot_be_written_is_done_without(
    tmp_path: Path, reads: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "file" / "cache"))
    monkeypatch.setenv(cache.LIMIT, "1GB")
    assert len(digests.file_digests(files(tmp_path))) == 5


def test_a_full_record_begins_anew(
    tmp_path: Path, reads: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = files(tmp_path)
    digests.file_digests(paths)
    monkeypatch.setattr(digests, "MOST_ROWS", 4)
    digests.file_digests(paths)
    assert len(reads) == 10


def test_a_file_that_has_gone_is_named(tmp_path: Path, reads: list[Path]) -> None:
    paths = [*files(tmp_path), tmp_path / "gone.jpg"]
    with pytest.raises(BadFilesError, match=r"gone\.jpg: No such file.*open the data again"):
        digests.file_digests(paths)
