"""`zoo augment` and what is refused about augmentation and input threads, on the real command line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from errors_table import fails, here, photographs
from PIL import Image

from zoo.testing import toy

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder, with photographs and a table of texts; the toy framework is installed beside it."""
    photographs(tmp_path / "work" / "photos", count=4)
    rows = "".join(f"text {i},{'yes' if i % 2 else 'no'}\n" for i in range(8))
    (tmp_path / "work" / "tickets.csv").write_text("text,label\n" + rows)
    monkeypatch.chdir(tmp_path / "work")
    with toy.installed(tmp_path / "site"):
        yield tmp_path / "work"


def test_a_sheet_of_what_training_sees(capsys: Capture) -> None:
    command = ["augment", "photos", "--size", "32", "--photos", "3", "--epochs", "2", "-o", "out/sheet.png"]
    said = here(capsys, *command, "--augment", "strong")
    assert said.code == 0 and "3 photographs" in said.out
    strong = np.asarray(Image.open("out/sheet.png"))
    assert strong.shape == (3 * 36 - 4, 3 * 36 - 4, 3)
    assert here(capsys, *command, "--augment", "light").code == 0
    light = np.asarray(Image.open("out/sheet.png"))
    assert np.array_equal(light[:, :32], strong[:, :32]), "as predicted on: the same for both"
    assert not np.array_equal(light[:, 36:], strong[:, 36:])


def test_a_sheet_that_is_no_png(capsys: Capture) -> None:
    fails(
        capsys, "A sheet of augmented photographs that is no PNG", ["augment", "photos", "-o", "sheet.jpg"],
        code=2, says=["-o sheet.jpg: its name must end in .png"],
    )  # fmt: skip


def test_a_text_model_is_not_augmented(capsys: Capture) -> None:
    fails(
        capsys, "Augmenting the photographs of a text model",
        ["train", "toy:words", "tickets.csv", "--augment", "light", "-o", "runs/mine"],
        code=2, says=["augment 'light' changes photographs, and this model reads texts: leave it 'none'"],
    )  # fmt: skip
    assert not Path("runs/mine/checkpoints").exists()


def test_an_augmentation_that_there_is_not(capsys: Capture) -> None:
    fails(
        capsys, "An augmentation that there is not",
        ["train", "toy:tiny", "photos", "--augment", "heavy", "-o", "runs/mine"],
        code=2, says=["--augment", "'heavy'", "'none', 'light', 'strong'"],
    )  # fmt: skip


@pytest.mark.parametrize("given", ["two", "-1", "1.5"])
def test_input_threads_that_are_no_number(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    monkeypatch.setenv("ZOO_DATA_THREADS", given)
    command = ["train", "toy:tiny", "photos", "--freeze", "none", "--epochs", "1", "-o", "runs/mine"]
    says = [f"ZOO_DATA_THREADS={given}: a whole number, 0 (in the main thread) or more"]
    if given == "two":
        fails(capsys, "ZOO_DATA_THREADS=two", command, code=2, says=says)
    else:
        said = here(capsys, *command)
        assert said.code == 2 and says[0] in said.err
