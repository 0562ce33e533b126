"""Event files of the core's own writer, read by TensorFlow."""

from __future__ import annotations

from pathlib import Path

import pytest
import tensorflow as tf

from zoo.train.logs import RunLog


def test_tensorflow_reads_what_was_logged(tmp_path: Path) -> None:
    log = RunLog(tmp_path, ("tensorboard",))
    log.step(1, 0.75, 1e-3)
    log.step(300, 1e-9, 2.0)  # a step of two bytes
    log.epoch({"epoch": 1, "loss": 0.5, "validation_loss": None})
    log.close()
    RunLog(tmp_path, ("tensorboard",), step=300, epoch=1).close()
    first, second = sorted(map(str, (tmp_path / "tensorboard").iterdir()))
    found = [tf.compat.v1.Event.FromString(raw.numpy()) for raw in tf.data.TFRecordDataset(first)]
    assert found[0].file_version == "brain.Event:2" and all(event.wall_time > 1e9 for event in found)
    values = [(e.step, v.tag, v.simple_value) for e in found[1:] for v in e.summary.value]
    assert [(step, tag) for step, tag, _ in values] == [
        (1, "step/loss"), (1, "step/lr"), (300, "step/loss"), (300, "step/lr"), (300, "epoch/loss")
    ]  # fmt: skip
    assert [value for *_, value in values] == pytest.approx([0.75, 1e-3, 1e-9, 2.0, 0.5])
    # The start of a session at step 301: TensorBoard drops what older files hold from there on.
    _, start = tf.compat.v1.train.summary_iterator(second)
    assert start.step == 301 and start.session_log.status == start.session_log.START
