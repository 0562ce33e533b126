"""The journal of long experiments: what was found is read, half a line is cut off, another question is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from zoo.choose.journal import FILE, opened
from zoo.errors import InputError

QUESTION = {"model": "toy:tiny", "epochs": 3, "classes": ("a", "b")}


def fill(folder: Path) -> None:
    with opened(folder, QUESTION, resume=False) as journal:
        for number in range(3):
            journal.once(f"run {number}", lambda n=number: {"accuracy": n / 10})


def never() -> object:
    raise AssertionError("it was worked on again")


def test_what_was_found_is_not_worked_on_again(tmp_path: Path) -> None:
    fill(tmp_path / "run")
    with opened(tmp_path / "run", QUESTION, resume=True) as journal:
        assert journal.once("run 2", never) == {"accuracy": 0.2}
        assert journal.once("run 3", lambda: [1, (2, 3)]) == [1, [2, 3]]
    assert len((tmp_path / "run" / FILE).read_text().splitlines()) == 5


@pytest.mark.parametrize("cut", [1, 5, 20])
def test_a_line_that_a_kill_cut_short_is_done_again(tmp_path: Path, cut: int) -> None:
    fill(tmp_path)
    path = tmp_path / FILE
    path.write_bytes(path.read_bytes()[:-cut])
    with opened(tmp_path, QUESTION, resume=True) as journal:
        assert journal.once("run 1", never) == {"accuracy": 0.1}
        assert journal.once("run 2", lambda: "again") == "again"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line.get("key") for line in lines] == [None, "run 0", "run 1", "run 2"]


def test_another_question_is_refused_with_what_differs(tmp_path: Path) -> None:
    fill(tmp_path)
    other = {"model": "toy:tiny", "epochs": 9, "classes": ("a", "b"), "lr": [0.1]}
    with (
        pytest.raises(
            InputError, match=r"another question.*: epochs: 3 then, 9 now; lr: nothing then, 0.1 now"
        ),
        opened(tmp_path, other, resume=True),
    ):
        pass


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    fill(tmp_path)
    lines = (tmp_path / FILE).read_text().splitlines()
    lines[2] = lines[2][:-4]
    (tmp_path / FILE).write_text("\n".join(lines) + "\n")
    with pytest.raises(InputError, match="damaged in line 3"), opened(tmp_path, QUESTION, resume=True):
        pass


def test_two_runs_in_one_folder(tmp_path: Path) -> None:
    with (
        opened(tmp_path, QUESTION, resume=False),
        pytest.raises(InputError, match="a run is at work in"),
        opened(tmp_path, QUESTION, resume=True),
    ):
        pass
    with opened(tmp_path, QUESTION, resume=True):  # the lock went with the first
        pass


def test_without_a_folder_it_only_remembers() -> None:
    with opened(None, QUESTION, resume=False) as journal:
        assert journal.once("a", lambda: 1) == 1
        assert journal.once("a", never) == 1
    with pytest.raises(InputError, match="give out"), opened(None, QUESTION, resume=True):
        pass
