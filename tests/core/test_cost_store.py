"""The record of figures: real SQLite files, real processes that write them at once, real damage."""

from __future__ import annotations

import dataclasses
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from zoo.cards import Cost
from zoo.cost import store as module
from zoo.cost.store import Settings, Store, machine_key
from zoo.errors import StorageError

MACHINE = {
    "cpu": "Z80",
    "cores": "2",
    "platform": "CP/M",
    "onnxruntime": "1.0",
    "provider": "CPU",
    "load": "0.1",
}
SETTINGS = Settings(threads=2, sequence_length=128, min_seconds=1.0, machine=MACHINE)
COST = Cost(
    "m", threads=2, sha256="ab", machine=MACHINE, latency_p50_ms=3.0, measured_at="2026-01-01T00:00:00Z"
)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A new one."""
    return Store(tmp_path / "costs.sqlite")


def test_what_was_put_is_found_whole(store: Store) -> None:
    cost = dataclasses.replace(COST, operators={"Conv": 3}, samples=40)
    store.put(cost, SETTINGS, reference_ms=1.5)
    (found,) = Store(store.path).find("ab", 1, SETTINGS)
    assert found.cost == cost and found.reference_ms == 1.5


def test_the_latest_comes_first_in_find_and_last_in_history(store: Store) -> None:
    for day in (2, 3, 1):
        store.put(
            dataclasses.replace(COST, measured_at=f"2026-01-0{day}T00:00:00Z"), SETTINGS, reference_ms=1
        )
    days = [kept.cost.measured_at[9] for kept in store.find("ab", 1, SETTINGS) if kept.cost.measured_at]
    assert days == ["3", "2", "1"]
    assert [kept.cost.measured_at for kept in store.history(id="m")] == sorted(
        f"2026-01-0{d}T00:00:00Z" for d in "123"
    )


@pytest.mark.parametrize(
    "change",
    [
        {"threads": 1},
        {"sequence_length": 64},
        {"min_seconds": 2.0},  # a short measurement does not stand in for a long one
        {"machine": {**MACHINE, "cpu": "Z8000"}},
        {"machine": {**MACHINE, "onnxruntime": "1.1"}},
        {"machine": {**MACHINE, "provider": "CUDA"}},
        {"machine": {**MACHINE, "governor": "powersave"}},
        {"other": {"x": "1x3:float32"}},
    ],
)
def test_another_setting_is_another_figure(store: Store, change: dict) -> None:
    store.put(dataclasses.replace(COST, sequence_length=128), SETTINGS, reference_ms=1)
    assert store.find("ab", 1, SETTINGS)
    assert not store.find("ab", 1, dataclasses.replace(SETTINGS, **change))
    assert not store.find("ab", 8, SETTINGS) and not store.find("cd", 1, SETTINGS)


def test_what_does_not_change_a_figure(store: Store) -> None:
    store.put(COST, SETTINGS, reference_ms=1)  # takes no sequence
    assert store.find("ab", 1, dataclasses.replace(SETTINGS, sequence_length=64))
    assert store.find("ab", 1, dataclasses.replace(SETTINGS, min_seconds=0.5))
    assert store.find("ab", 1, dataclasses.replace(SETTINGS, machine={**MACHINE, "load": "9"}))
    assert machine_key(MACHINE) == machine_key({**MACHINE, "load": "9"})


@pytest.mark.parametrize("change", [{"error": "it crashed"}, {"warning": "too noisy"}])
def test_unsound_figures_are_history_and_never_reused(store: Store, change: dict) -> None:
    store.put(dataclasses.replace(COST, **change), SETTINGS, reference_ms=1)
    store.put(COST, SETTINGS, reference_ms=None)
    assert not store.find("ab", 1, SETTINGS) and len(store.history(id="m")) == 2


def test_history_by_content_whatever_the_file_was_called(store: Store) -> None:
    store.put(COST, SETTINGS, reference_ms=1)
    store.put(dataclasses.replace(COST, id="other", sha256=None), SETTINGS, reference_ms=1)
    assert [kept.cost.id for kept in store.history(id="renamed.onnx", sha256="ab")] == ["m"]
    assert store.history(id="nobody") == [] and sorted(store.ids()) == ["m", "other"]


def test_the_oldest_go(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_ROWS", 3)
    for number in range(5):
        store.put(dataclasses.replace(COST, id=str(number)), SETTINGS, reference_ms=1)
    assert sorted(store.ids()) == ["2", "3", "4"]


WRITER = """
import dataclasses, sys
from pathlib import Path
from test_cost_store import COST, SETTINGS, Store
store = Store(Path(sys.argv[1]))
for number in range(25):
    store.put(dataclasses.replace(COST, id=f"{sys.argv[2]}-{number}"), SETTINGS, reference_ms=1)
"""


def writers(path: Path, count: int) -> list[str]:
    """Run processes that write at once; what each said on standard error."""
    command = [sys.executable, "-W", "always", "-c", WRITER, str(path)]
    started = [
        subprocess.Popen([*command, str(i)], cwd=Path(__file__).parent, stderr=subprocess.PIPE, text=True)
        for i in range(count)
    ]
    said = [process.communicate(timeout=120)[1] for process in started]
    assert [process.returncode for process in started] == [0] * count, said
    return said


def test_processes_that_write_at_once_lose_nothing(store: Store) -> None:
    assert writers(store.path, 4) == [""] * 4
    assert len(store.ids()) == 100


# --- what can be wrong with the file
def text_file(path: Path) -> None:
    path.write_text("not a database\n" * 100)


def damaged_pages(path: Path) -> None:
    """A whole header and a torn middle, as of a disk that failed."""
    store = Store(path)
    for number in range(60):
        store.put(dataclasses.replace(COST, id=str(number)), SETTINGS, reference_ms=1)
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    path.write_bytes(content)


def tables_of_others(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE recipes (cake TEXT)")
    connection.close()


@pytest.mark.parametrize("damage", [text_file, damaged_pages, tables_of_others])
def test_a_damaged_file_moves_aside_and_is_said(store: Store, damage: object) -> None:
    damage(store.path)  # type: ignore[operator]
    before = store.path.read_bytes()
    with pytest.warns(UserWarning, match=r"was damaged \(.*\): it is now .*costs\.broken\.sqlite"):
        store.put(COST, SETTINGS, reference_ms=1)
    assert store.find("ab", 1, SETTINGS)
    assert store.path.with_name("costs.broken.sqlite").read_bytes() == before


def test_a_second_damaged_file_does_not_overwrite_the_first(store: Store) -> None:
    for _ in range(2):
        text_file(store.path)
        with pytest.warns(UserWarning, match="was damaged"):
            store.put(COST, SETTINGS, reference_ms=1)
    assert len(list(store.path.parent.glob("costs.broken*.sqlite"))) == 2


def test_processes_that_find_the_damage_at_once_keep_all(store: Store) -> None:
    text_file(store.path)
    said = writers(store.path, 4)
    assert sum("was damaged" in text for text in said) == 1
    assert len(store.ids()) == 100 and len(list(store.path.parent.glob("costs.broken*"))) == 1


def test_a_newer_version_is_left_alone(store: Store) -> None:
    store.put(COST, SETTINGS, reference_ms=1)
    with sqlite3.connect(store.path) as connection:
        connection.execute("PRAGMA user_version = 2")
    connection.close()
    with pytest.warns(UserWarning, match="newer Backbone Zoo"):
        store.put(COST, SETTINGS, reference_ms=1)
    with pytest.raises(StorageError, match="its version is 2, this one reads 1"):
        Store(store.path).history(id="m")


def test_no_folder_to_write_is_said_once(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    (tmp_path / "file").write_text("")
    store = Store(tmp_path / "file" / "costs.sqlite")
    for _ in range(3):
        store.put(COST, SETTINGS, reference_ms=1)
    assert [str(w.message) for w in recwarn if "figures are not kept" in str(w.message)].__len__() == 1
    assert store.find("ab", 1, SETTINGS) == []


def test_a_row_of_a_newer_field_is_passed_over(store: Store) -> None:
    store.put(COST, SETTINGS, reference_ms=1)
    store.put(COST, SETTINGS, reference_ms=1)
    with sqlite3.connect(store.path) as connection:
        connection.execute('UPDATE costs SET cost = \'{"id": "m", "smell": 3}\' WHERE number = 1')
    connection.close()
    assert [kept.number for kept in store.history(id="m")] == [2]
