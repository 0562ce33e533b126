"""Bad input to `zoo train` on the real command line: recipes that cannot be, checkpoints that cannot be resumed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from errors_table import error_text, fails, here, process, record

from zoo.train import checkpoint as checkpoints
from zoo.train.lock import only_run_in

Capture = pytest.CaptureFixture[str]
TRAIN = ["train", "toy:tiny", "photos", "--epochs", "2", "-o", "runs/mine"]


pytestmark = pytest.mark.usefixtures("folder")


@pytest.mark.parametrize(
    ("case", "option", "says"),
    [
        ("Learning rate 0", ["--lr", "0"], "lr 0.0: must be above 0"),
        ("Learning rate below 0", ["--lr", "-0.1"], "lr -0.1: must be above 0"),
        ("Head trained first for all epochs", ["--head-epochs", "2"], "head_epochs 2: less than epochs (2)"),
        ("Rate of a head that is not trained first", ["--head-lr", "0.1"], "head_lr 0.1: is the rate of head_epochs"),
        ("Warm-up before one cycle", ["--schedule", "one_cycle", "--warmup-epochs", "1"], "one_cycle warms up"),
        ("Moving average that never moves", ["--ema", "1"], "ema 1.0: in (0, 1)"),
        ("Class weights that are no numbers", ["--class-weights", "1,many"], "cannot read --class-weights '1,many'"),
        ("Class weight of 0", ["--class-weights", "0,1"], "each must be above 0"),
        ("Class weights of another number", ["--class-weights", "1,2,3"], "class_weights has 3 numbers and the data 2"),
        ("Layer decay above 1", ["--layer-decay", "2"], "layer_decay 2.0: in (0, 1]"),
    ],
)  # fmt: skip
def test_recipe_that_cannot_be(capsys: Capture, case: str, option: list[str], says: str) -> None:
    fails(capsys, case, [*TRAIN, *option], code=2, says=[says])


def test_class_folder_without_photographs(capsys: Capture) -> None:
    Path("photos/wasps").mkdir()
    fails(capsys, "Class without examples", TRAIN, code=2, says=["wasps"])


def test_batch_larger_than_the_data(capsys: Capture) -> None:
    """No error: every example is in the one step of an epoch. Said all the same."""
    arguments = [*TRAIN, "--batch-size", "64"]
    outcome = process(*arguments)
    assert outcome.code == 0
    said = outcome.err.partition("warning: ")[2].strip()
    assert said.startswith("batch_size 64 is more than the 16 training examples"), outcome.err
    record("Batch larger than the data (a warning)", "zoo " + " ".join(arguments), 0, said)


# --- checkpoints
@pytest.fixture
def trained(capsys: Capture) -> Path:
    """The folder of a run of everything, so that checkpoints hold the whole network."""
    assert here(capsys, *TRAIN, "--freeze", "none").code == 0
    return Path("runs/mine")


RESUME = [*TRAIN, "--freeze", "none", "--resume"]


def test_every_checkpoint_damaged(capsys: Capture, trained: Path) -> None:
    for one in checkpoints.folders(trained):
        path = one / "state.safetensors"
        path.write_bytes(path.read_bytes()[:-100])
    says = [
        "no checkpoint in runs/mine/checkpoints is whole",
        "state.safetensors is truncated or was changed",
    ]
    fails(
        capsys, "Checkpoints that are all truncated", RESUME, code=7, says=says, theirs=r"[0-9a-f]{12}\.\.\."
    )


def test_newest_checkpoint_tampered_with(trained: Path) -> None:
    """The one before is used, and the run goes on to its end."""
    path = checkpoints.folders(trained)[-1] / "training.safetensors"
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    outcome = process(*RESUME)
    assert outcome.code == 0 and "step-00000002 cannot be used, the one before is tried" in outcome.err
    assert len(checkpoints.read(checkpoints.folders(trained)[-1]).epochs) == 2


def test_checkpoint_of_another_version(capsys: Capture, trained: Path) -> None:
    for one in checkpoints.folders(trained):
        meta = json.loads((one / "checkpoint.json").read_text())["body"]
        (one / "checkpoint.json").write_text(checkpoints._sealed({**meta, "format": 1}))
    says = ["is of another version of backbone-zoo"]
    fails(capsys, "Checkpoints of another version", RESUME, code=7, says=says)


def test_checkpoint_of_another_model(capsys: Capture, trained: Path) -> None:
    says = ["cannot resume: the checkpoint is of another model"]
    fails(capsys, "Resuming with another model", [*RESUME, "--depth", "1"], code=2, says=says)


def test_two_runs_in_one_folder(capsys: Capture) -> None:
    with only_run_in(Path("runs/mine")):
        says = ["another run is training in runs/mine"]
        fails(capsys, "Two runs in one folder", TRAIN, code=2, says=says)
    assert here(capsys, *TRAIN).code == 0


def test_override_goes_on_with_another_rate(trained: Path) -> None:
    outcome = process(*RESUME, "--override", "--lr", "0.01", "--epochs", "3")
    assert outcome.code == 0 and "lr: 0.001 -> 0.01" in outcome.err and "epochs: 2 -> 3" in outcome.err
    assert not error_text_or_none(outcome.err)


def error_text_or_none(err: str) -> str:
    return error_text(err) if "error: " in err else ""


def test_resuming_where_nothing_was_says_that_it_starts(capsys: Capture) -> None:
    """A script may always say --resume; a mistyped folder must not go unseen."""
    said = here(capsys, *TRAIN, "--resume")
    assert said.code == 0 and "holds no checkpoint to go on from" in said.err
    assert "holds no checkpoint" not in here(capsys, *TRAIN, "--resume", "--override", "--epochs", "3").err
