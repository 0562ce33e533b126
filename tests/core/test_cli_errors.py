"""Bad input on the real command line, with the toy framework: message, exit code, and nothing left behind."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from errors_table import fails, here, pickled_payload, process_fails
from PIL import Image

Capture = pytest.CaptureFixture[str]
TRAIN = ["train", "toy:tiny", "photos", "--epochs", "2", "-o", "runs/mine"]


pytestmark = pytest.mark.usefixtures("folder")


def trained(capsys: Capture) -> None:
    """A saved run in runs/mine."""
    assert here(capsys, *TRAIN).code == 0


# --- data sets
def test_no_such_data(capsys: Capture) -> None:
    arguments = ["train", "toy:tiny", "photo", "-o", "runs/mine"]
    says = ["no such file or folder: photo", "Did you mean photos"]
    fails(capsys, "Data that is not there", arguments, code=2, says=says)
    assert not Path("runs").exists()


def test_empty_folder(capsys: Capture) -> None:
    Path("empty").mkdir()
    arguments = ["train", "toy:tiny", "empty", "-o", "runs/mine"]
    says = ["empty holds no class folders: it is empty", "one folder of photographs for each class"]
    fails(capsys, "Empty folder", arguments, code=2, says=says)


def test_one_class(capsys: Capture) -> None:
    shutil.rmtree("photos/bees")
    says = ["photos has one class only ('ants')", "at least two"]
    fails(capsys, "One class only", TRAIN, code=2, says=says)


def test_class_with_one_sample(capsys: Capture) -> None:
    for file in sorted(Path("photos/bees").iterdir())[1:]:
        file.unlink()
    arguments = [*TRAIN, "--validation-fraction", "0.2"]
    fails(capsys, "A class with one sample, to be split", arguments, code=2, says=["'bees'", "one example"])


def test_class_with_one_sample_for_select(capsys: Capture) -> None:
    for file in sorted(Path("photos/bees").iterdir())[1:]:
        file.unlink()
    arguments = ["select", "photos", "--candidate", "toy:tiny", "-o", "runs/pick"]
    fails(capsys, "A class with one sample, to choose on", arguments, code=2, says=["'bees'", "one example"])
    assert not Path("runs/pick/model.onnx").exists()


def test_text_column_missing(capsys: Capture) -> None:
    Path("tickets.csv").write_text("message,topic\n" + "where is it,parcel\nmoney back,refund\n" * 4)
    arguments = ["train", "toy:words", "tickets.csv", "--text-column", "mesage", "-o", "runs/mine"]
    says = ["no column 'mesage'", "Its columns are 'message', 'topic'", "Did you mean 'message'"]
    fails(capsys, "Text column that is not there", arguments, code=2, says=says)


def test_unknown_label_in_validation(capsys: Capture) -> None:
    shutil.copytree("photos", "val")
    Path("val/bees").rename("val/wasps")
    arguments = [*TRAIN, "--validation", "val"]
    says = ["labels that the model does not know: 'wasps'", "'ants', 'bees'"]
    fails(capsys, "Validation data with another class", arguments, code=2, says=says)


# --- files that are no photographs
def header_only_png(path: Path, width: int, height: int) -> None:
    """A PNG that declares its size and holds almost no pixels: a few bytes that would unpack to gigabytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(b"\0" * 1000))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + pixels + chunk(b"IEND", b""))


def empty_file(path: Path) -> None:
    path.write_bytes(b"")


def truncated_file(path: Path) -> None:
    whole = path.with_suffix(".whole")
    rng = np.random.default_rng(1)
    Image.fromarray(rng.integers(0, 255, (64, 64, 3), np.uint8)).save(whole, format="JPEG")
    path.write_bytes(whole.read_bytes()[:-500])
    whole.unlink()


def gif_file(path: Path) -> None:
    Image.new("P", (8, 8)).save(path, format="GIF")


def huge_file(path: Path) -> None:
    header_only_png(path, 30_000, 30_000)


BAD_FILES: list[tuple[str, Callable[[Path], None], str, str]] = [
    ("Zero-byte image", empty_file, "zero.jpg", "is empty (0 bytes)"),
    ("Truncated image", truncated_file, "cut.jpg", "truncated"),
    ("GIF among the photographs", gif_file, "moving.gif", "GIF"),
    ("Image of 30,000 x 30,000 pixels", huge_file, "bomb.png", "900,000,000 pixels"),
]


@pytest.mark.parametrize(("case", "make", "name", "says"), BAD_FILES, ids=[row[2] for row in BAD_FILES])
def test_bad_image_in_data(
    capsys: Capture, case: str, make: Callable[[Path], None], name: str, says: str
) -> None:
    make(Path("photos/ants") / name)
    fails(capsys, case, TRAIN, code=2, says=[f"photos/ants/{name}", says, "--on-error skip"])
    assert not Path("runs").exists()


@pytest.mark.parametrize(("case", "make", "name", "says"), BAD_FILES, ids=[row[2] for row in BAD_FILES])
def test_bad_image_to_predict(
    capsys: Capture, case: str, make: Callable[[Path], None], name: str, says: str
) -> None:
    make(Path(name))
    arguments = ["predict", "toy:tiny", name]
    fails(capsys, f"{case}, to predict", arguments, code=2, says=[name, says])


def test_all_bad_files_are_listed_not_the_first(capsys: Capture) -> None:
    for _, make, name, _ in BAD_FILES:
        make(Path("photos/ants") / name)
    names = [f"photos/ants/{row[2]}" for row in BAD_FILES]
    fails(capsys, "Several files that are no images", TRAIN, code=2, says=["4 of 20 files", *names])


def test_predict_lists_all_bad_files_of_a_folder(capsys: Capture) -> None:
    for _, make, name, _ in BAD_FILES[:2]:
        make(Path("photos/ants") / name)
    arguments = ["predict", "toy:tiny", "photos"]
    says = ["2 of 18 files", "photos/ants/zero.jpg", "photos/ants/cut.jpg", "--on-error skip"]
    said = fails(
        capsys, "Some files of a folder that are no images, to predict", arguments, code=2, says=says
    )
    assert said.out == ""


def test_skip_leaves_them_out_and_names_them(capsys: Capture) -> None:
    empty_file(Path("photos/ants/zero.jpg"))
    said = here(capsys, *TRAIN, "--on-error", "skip")
    assert said.code == 0
    assert "photos/ants/zero.jpg: is empty (0 bytes)" in said.err
    said = here(capsys, "predict", "runs/mine", "photos/ants", "--on-error", "skip")
    assert said.code == 0 and "left out photos/ants/zero.jpg" in said.err
    assert len(said.out.splitlines()) == 8


# --- options
@pytest.mark.parametrize(
    ("case", "option", "says"),
    [
        ("Misspelt optimizer", ["--optimizer", "sdg"], ["'sdg' is not one of 'sgd', 'adam', 'adamw'"]),
        ("Learning rate of 0", ["--lr", "0"], ["lr 0.0: must be above 0"]),
        ("Freezing a word", ["--freeze", "all"], ["--freeze all: backbone, none, or a number of blocks"]),
        (
            "More blocks than there are",
            ["--freeze", "9"],
            ["9 blocks", "toy:tiny has 3 (stem, block1, block2)"],
        ),
        (
            "Two sources of validation data",
            ["--validation", "photos", "--validation-fraction", "0.2"],
            ["--validation and --validation-fraction together: choose one"],
        ),
        ("Validation fraction above 1", ["--validation-fraction", "20"], ["between 0 and 1, such as 0.2"]),
        ("Patience without validation data", ["--patience", "2"], ["patience", "give validation data"]),
    ],
)
def test_bad_training_option(capsys: Capture, case: str, option: list[str], says: list[str]) -> None:
    fails(capsys, case, [*TRAIN, *option], code=2, says=says)


def test_folder_of_the_run_in_use(capsys: Capture) -> None:
    trained(capsys)
    says = ["runs/mine is not empty", "--resume"]
    fails(capsys, "Run folder that is not empty", TRAIN, code=2, says=says)


def test_resume_with_another_recipe(capsys: Capture) -> None:
    trained(capsys)
    arguments = [*TRAIN, "--lr", "0.5", "--resume"]
    says = ["cannot resume with another recipe", "lr: 0.001 -> 0.5"]
    fails(capsys, "Resuming with other settings", arguments, code=2, says=says)


def test_budget_in_another_unit(capsys: Capture) -> None:
    arguments = ["select", "photos", "--max-latency", "20 parsecs"]
    says = ["cannot read the limit '20 parsecs'", "us, ms, s"]
    fails(capsys, "Unit that does not exist", arguments, code=2, says=says)


def test_batch_sizes_that_are_no_numbers(capsys: Capture) -> None:
    arguments = ["bench", "toy:tiny", "--batch-size", "1,eight"]
    says = ["cannot read --batch-size '1,eight'"]
    fails(capsys, "Batch sizes that are no numbers", arguments, code=2, says=says)


def test_nothing_fits(capsys: Capture) -> None:
    arguments = ["select", "photos", "--candidate", "toy:tiny", "--max-size", "1KB", "--folds", "3"]
    says = ["size", "toy:tiny"]
    fails(capsys, "No candidate within the budget", arguments, code=3, says=says)


# --- training that goes wrong
def test_loss_that_is_not_a_number(capsys: Capture) -> None:
    arguments = [*TRAIN, "--freeze", "none", "--optimizer", "sgd", "--lr", "1e30"]
    says = ["became NaN or infinite", "the weights of epoch 1 were put back", "Lower lr"]
    fails(capsys, "Loss that becomes NaN", arguments, code=7, says=says)
    kept = sorted(p.name for p in Path("runs/mine/checkpoints").iterdir())
    assert kept == ["step-00000001"]


def limit_files(size: int) -> Callable[[], None]:
    """For a child process: a write beyond `size` bytes of a file fails, as on a full disk."""

    def apply() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return apply


def test_disk_full_while_training() -> None:
    says = ["cannot write runs/mine", "Nothing half-written was left"]
    arguments = [*TRAIN, "--freeze", "none"]
    process_fails(
        "Disk full while training (a file-size limit stands in)",
        arguments,
        code=8,
        says=says,
        preexec=limit_files(8_000),
    )
    left = [p.name for p in Path("runs").rglob("*") if p.is_file()]
    assert sorted(left) == [".lock", "history.jsonl"]  # no checkpoint, whole or in part


def test_disk_full_while_exporting(capsys: Capture) -> None:
    trained(capsys)
    arguments = ["export", "runs/mine", "-o", "out/model.onnx"]
    says = ["cannot write out/model.onnx", "Nothing half-written was left"]
    process_fails(
        "Disk full while exporting (likewise)", arguments, code=8, says=says, preexec=limit_files(8_000)
    )
    assert list(Path("out").iterdir()) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_folder_without_rights(capsys: Capture) -> None:
    Path("locked").mkdir(mode=0o500)
    arguments = [*TRAIN[:-1], "locked/mine"]
    fails(capsys, "Folder without the right to write", arguments, code=8, says=["cannot write locked/mine"])


# --- saved runs
def test_run_that_is_not_there(capsys: Capture) -> None:
    arguments = ["predict", "runs/nothing", "photos"]
    fails(capsys, "Run that is not there", arguments, code=2, says=["no run and no file runs/nothing"])


def test_folder_that_is_no_run(capsys: Capture) -> None:
    says = ["photos is no saved run", "zoo.json"]
    fails(capsys, "Folder that is no run", ["evaluate", "photos", "photos"], code=2, says=says)


def test_run_tampered_with(capsys: Capture) -> None:
    trained(capsys)
    file = Path("runs/mine/state.safetensors")
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    arguments = ["predict", "runs/mine", "photos"]
    says = ["runs/mine/state.safetensors", "SHA-256"]
    fails(capsys, "Saved run whose weights were changed", arguments, code=5, says=says)


def test_run_truncated(capsys: Capture) -> None:
    trained(capsys)
    file = Path("runs/mine/state.safetensors")
    file.write_bytes(file.read_bytes()[:-100])
    arguments = ["predict", "runs/mine", "photos"]
    fails(capsys, "Saved run that was cut off", arguments, code=5, says=["runs/mine/state.safetensors"])


def test_pickle_in_place_of_a_run(capsys: Capture) -> None:
    trained(capsys)
    pickled_payload(Path("runs/mine/state.safetensors"))
    arguments = ["predict", "runs/mine", "photos"]
    fails(capsys, "Pickle in a saved run", arguments, code=5, says=["runs/mine/state.safetensors"])
    assert not Path("pwned").exists()


# --- Ctrl-C
def test_ctrl_c_says_how_to_go_on() -> None:
    arguments = [*TRAIN[:3], "--epochs", "100000", "-o", "runs/mine"]
    child = subprocess.Popen(
        [sys.executable, "-m", "zoo.cli", *arguments],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(
            signal.SIGINT, signal.SIG_DFL
        ),  # ignored in a shell's background job
    )
    deadline = time.monotonic() + 60
    while not list(Path().glob("runs/mine/checkpoints/step-*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=60)
    assert child.returncode == 130, err
    assert "--resume" in err and "Traceback" not in err
