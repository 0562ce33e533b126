"""Logs of a run, and that a resumed run shows no point twice. TensorFlow reads the event files in tests/tf."""

from __future__ import annotations

import csv
import struct
from pathlib import Path

import numpy as np
import pytest
from errors_table import fails, here

import zoo
from zoo.errors import InputError
from zoo.train import events
from zoo.train.logs import RunLog

Capture = pytest.CaptureFixture[str]
BOTH = ("csv", "tensorboard")


def records(path: Path) -> list[bytes]:
    """The records of a TFRecord file, checksums checked."""
    data, found = path.read_bytes(), []
    while data:
        (size,) = struct.unpack("<Q", data[:8])
        body = data[12 : 12 + size]
        assert data[8:12] == events.masked_crc(data[:8])
        assert data[12 + size : 16 + size] == events.masked_crc(body)
        found.append(body)
        data = data[16 + size :]
    return found


def column(path: Path, name: str) -> list[str]:
    with path.open(encoding="utf-8", newline="") as file:
        return [row[name] for row in csv.DictReader(file)]


def test_the_checksum_is_castagnolis() -> None:
    """RFC 3720, B.4: 32 bytes of zeros, of ones, and 0..31; masked as TFRecord does."""
    for data, crc in ((bytes(32), 0x8A9136AA), (b"\xff" * 32, 0x62A8AB43), (bytes(range(32)), 0x46DD794E)):
        masked = ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
        assert events.masked_crc(data) == struct.pack("<I", masked)


def write(log: RunLog, steps: range, loss: float) -> None:
    for step in steps:
        log.step(step, loss, 0.1)
    log.epoch({"epoch": steps[-1] // 4, "loss": loss, "validation_loss": None, "seconds": 0.5})
    log.close()


def test_a_resumed_log_goes_on_where_the_checkpoint_was(tmp_path: Path) -> None:
    write(RunLog(tmp_path, BOTH), range(1, 5), 1.0)
    write(RunLog(tmp_path, BOTH, step=4, epoch=1), range(5, 9), 2.0)  # killed before its checkpoint
    with (tmp_path / "steps.csv").open("a") as file:
        file.write("1")  # of "10,2.0,0.1": the half of a line that reads as an earlier step
    write(RunLog(tmp_path, BOTH, step=4, epoch=1), range(5, 9), 3.0)
    assert column(tmp_path / "steps.csv", "step") == [str(i) for i in range(1, 9)]
    assert column(tmp_path / "steps.csv", "loss") == ["1.0"] * 4 + ["3.0"] * 4
    assert column(tmp_path / "epochs.csv", "epoch") == ["1", "2"]
    assert column(tmp_path / "epochs.csv", "loss") == ["1.0", "3.0"]
    files = sorted((tmp_path / "tensorboard").iterdir())
    assert len(files) == 3  # in the order of their names, also when they were made within a second
    assert [len(records(path)) for path in files] == [1 + 2 * 4 + 2, 2 + 2 * 4 + 2, 2 + 2 * 4 + 2]


def test_a_fresh_run_drops_what_another_left(tmp_path: Path) -> None:
    write(RunLog(tmp_path, BOTH), range(1, 5), 1.0)
    write(RunLog(tmp_path, BOTH), range(1, 3), 2.0)
    assert column(tmp_path / "steps.csv", "loss") == ["2.0", "2.0"]
    assert len(list((tmp_path / "tensorboard").iterdir())) == 1


def test_it_is_written_while_training_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zoo.train.logs.FLUSH_S", 0.0)
    log = RunLog(tmp_path, ("csv",))
    log.step(1, 0.5, 0.1)
    assert column(tmp_path / "steps.csv", "loss") == ["0.5"]
    log.close()


@pytest.mark.parametrize(("frozen", "method", "at"), [(None, "epoch", 3), (0, "epoch", 3), (0, "step", 10)])
def test_a_run_that_was_killed_and_resumed_has_the_log_of_one_that_was_not(
    folder: Path, frozen: int | None, method: str, at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = zoo.Recipe(epochs=4, batch_size=4, schedule="cosine")

    def fit(run: str, **options: bool) -> zoo.History:
        model = zoo.get("toy:tiny", num_classes=2)
        model.freeze(frozen)
        every = 0.0 if method == "step" else 1e9
        return model.fit(
            "photos",
            recipe=recipe,
            run_dir=run,
            log=BOTH,
            checkpoint_seconds=every,
            progress=False,
            **options,
        )

    history = fit("whole")
    with monkeypatch.context() as patch:
        patch.setattr(RunLog, method, stopping(getattr(RunLog, method), at))
        patch.setattr(RunLog, "close", lambda log: None)  # a kill writes nothing more
        with pytest.raises(KeyboardInterrupt):
            fit("stopped")
    fit("stopped", resume=True)
    for name in ("steps.csv", "epochs.csv"):
        for key in ("step", "loss", "lr") if name == "steps.csv" else ("epoch", "loss", "lr"):
            assert column(folder / "stopped" / name, key) == column(folder / "whole" / name, key)
    assert [float(v) for v in column(folder / "whole/steps.csv", "loss")] == list(history.losses)
    assert column(folder / "whole/epochs.csv", "lr") == [str(row["lr"]) for row in history.epochs]
    assert len(list((folder / "stopped/tensorboard").iterdir())) == 2


def stopping(real, at: int):  # type: ignore[no-untyped-def]
    """RunLog.step or .epoch, stopped after it was told this step or epoch and before the checkpoint."""

    def told(self: RunLog, told_of: object, *rest: float) -> None:
        real(self, told_of, *rest)
        if at == (told_of["epoch"] if isinstance(told_of, dict) else told_of):
            raise KeyboardInterrupt

    return told


def test_logs_that_cannot_be(folder: Path, capsys: Capture) -> None:
    model = zoo.get("toy:tiny", num_classes=2)
    with pytest.raises(InputError, match="log csv: is kept in the folder of the run, so give run_dir"):
        model.fit("photos", log=("csv",))
    with pytest.raises(InputError, match="log 'xml': tensorboard or csv"):
        model.fit("photos", log=("xml",), run_dir="runs/mine")  # type: ignore[arg-type]
    arguments = ["train", "toy:tiny", "photos", "-o", "runs/mine", "--log", "xml"]
    fails(capsys, "A log of another kind", arguments, code=2, says=["'xml'", "tensorboard", "csv"])
    assert not Path("runs").exists()


def test_the_command_writes_them(folder: Path, capsys: Capture) -> None:
    train = ["train", "toy:tiny", "photos", "--epochs", "2", "-o", "runs/mine"]
    assert here(capsys, *train, "--log", "csv", "--log", "tensorboard").code == 0
    assert len(column(folder / "runs/mine/steps.csv", "loss")) == 2
    (path,) = (folder / "runs/mine/tensorboard").iterdir()
    assert b"epoch/loss" in b"".join(records(path)) and np.isfinite(path.stat().st_size)
