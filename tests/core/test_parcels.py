"""Files by content, from folder to folder; a data set that can be sent is the same data set elsewhere."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from errors_table import photographs

from zoo.choose import spool
from zoo.data import open_data
from zoo.errors import InputError, WorkerError
from zoo.executor import parcels


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    (folder / "data" / "deep").mkdir(parents=True)
    (folder / "data" / "deep" / "a.bin").write_bytes(b"a" * 10)
    (folder / "list.json").write_text("[]")
    (folder / "other.bin").write_bytes(b"not asked for")
    (tmp_path / "elsewhere.bin").write_bytes(b"linked")
    (folder / "data" / "link.bin").symlink_to(tmp_path / "elsewhere.bin")
    return folder


NAMES = ("list.json", "data", "absent")


def test_what_is_packed_is_unpacked(home: Path, tmp_path: Path) -> None:
    parcel = parcels.entries(home, NAMES)
    assert [entry.name for entry in parcel] == ["data/deep/a.bin", "data/link.bin", "list.json"]
    there = tmp_path / "there"
    for files in parcels.bundles(home, parcel):
        parcels.unpack(files, there)
    parcels.check(there, parcel)
    assert (there / "data" / "link.bin").read_bytes() == b"linked"
    assert not (there / "data" / "link.bin").is_symlink() and not (there / "other.bin").exists()


def test_a_digest_is_of_names_and_contents(home: Path) -> None:
    first = parcels.digest(parcels.entries(home, NAMES))
    assert parcels.digest(parcels.entries(home, NAMES)) == first
    (home / "list.json").write_text("{}")
    second = parcels.digest(parcels.entries(home, NAMES))
    (home / "list.json").rename(home / "data" / "list.json")
    assert len({first, second, parcels.digest(parcels.entries(home, NAMES))}) == 3


def test_bundles_are_bounded_and_a_large_file_goes_alone(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parcels, "BUNDLE_BYTES", 8)
    sizes = [
        [len(content) for _, content in files]
        for files in parcels.bundles(home, parcels.entries(home, NAMES))
    ]
    assert sizes == [[10], [6, 2]]


def test_what_did_not_arrive_as_sent_is_told(home: Path) -> None:
    parcel = parcels.entries(home, NAMES)
    (home / "list.json").write_text("{}")
    with pytest.raises(WorkerError, match=r"list\.json did not arrive as it was sent"):
        parcels.check(home, parcel)


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/../../x", "."])
def test_no_name_leads_out_of_the_home(home: Path, name: str) -> None:
    with pytest.raises(InputError, match="no name of a file within a folder"):
        parcels.unpack([(name, b"")], home)
    with pytest.raises(InputError, match="no name of a file within a folder"):
        parcels.entries(home, [name])


def test_only_what_was_asked_for_is_written(home: Path) -> None:
    parcels.unpack([("out/a/b", b"1"), ("x", b"2")], home, only=("out", "x"))
    for name in ("xy", "list.json", "outer/a"):
        with pytest.raises(InputError, match="no file that was asked for"):
            parcels.unpack([(name, b"")], home, only=("out", "x"))


def test_paths_in_json_move_with_their_folder() -> None:
    stay = ["/home/ab/x", "/root/home/a/x", "home/a", "/home/a.txt", 1, None]
    move = ["/home/a", "/home/a/x.onnx", "see '/home/a/y', please", "hf:net@/home/a/w"]
    moved = ["/tmp/q", "/tmp/q/x.onnx", "see '/tmp/q/y', please", "hf:net@/tmp/q/w"]
    value = {"stay": stay, "move": move}
    assert parcels.moved(value, Path("/home/a"), Path("/tmp/q")) == {"stay": stay, "move": moved}
    assert parcels.moved(["out/work/1", "/abs/out/work/1"], Path("out/work"), Path("/q")) == [
        "/q/1",
        "/abs/out/work/1",
    ]


def test_a_portable_data_set_is_the_same_elsewhere(tmp_path: Path) -> None:
    photographs(tmp_path / "photos", count=3)
    data = open_data(tmp_path / "photos")
    held = type(data)(data.kind, [*data.inputs, np.zeros((4, 5, 3), np.uint8)], np.append(data.targets, 0),
                      data.classes, data.source)  # fmt: skip
    spool.write(held, tmp_path / "work", "train", portable=True)
    parcel = parcels.pack(tmp_path / "work", spool.names())
    shutil.rmtree(tmp_path / "work")
    shutil.rmtree(tmp_path / "photos")
    parcels.unpack(parcel, tmp_path / "there")
    found = spool.read(tmp_path / "there" / "train.json")
    assert all(Path(str(item)).is_relative_to(tmp_path / "there") for item in found.inputs)
    photographs(tmp_path / "photos", count=3)
    assert found.fingerprint() == spool.read(spool.write(held, tmp_path / "again", "train")).fingerprint()
    assert found.targets.tolist() == held.targets.tolist()
