"""The meter on real files in real processes: order, units, memory, and faults that cost one row."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import onnx
import psutil
import pytest
from cost_graphs import conv_net, endless, node, text_net, write

from zoo.cards import Cost
from zoo.cost import meter, scheduling, worker
from zoo.cost.meter import measure
from zoo.errors import InputError
from zoo.files import sha256_file


def matmul_net(path: Path, *, width: int) -> Path:
    weight = np.ones((width, width), np.float32)
    return write(path, [node("MatMul", ["x", "w"], ["y"])], {"x": ["N", width]}, {"w": weight})


def test_a_cost_holds_every_figure_with_its_machine(tmp_path: Path) -> None:
    path = conv_net(tmp_path / "m.onnx", size=64)
    (cost,) = measure([("ours", path)], threads=1, min_seconds=0.3)
    assert cost.error is None
    assert (cost.id, cost.batch_size, cost.threads, cost.sequence_length) == ("ours", 1, 1, None)
    assert cost.params == 8 * 27 + 8
    assert cost.macs == 64 * 64 * 8 * 27
    assert cost.file_bytes == path.stat().st_size
    assert cost.sha256 == sha256_file(path)
    assert cost.samples >= 12 and cost.spread is not None and cost.spread >= 0
    assert cost.load_ms and cost.latency_p50_ms and cost.throughput_per_s and cost.peak_memory_mb
    assert (cost.latency_p99_ms is None) == (cost.samples < 662)
    assert cost.first_ms and cost.measured_at
    if (
        cost.latency_p50_low_ms is None or cost.latency_p50_high_ms is None
    ):  # on a machine with much else to do
        assert cost.warning and "p50 has no interval" in cost.warning
    else:
        assert cost.latency_p50_low_ms <= cost.latency_p50_ms <= cost.latency_p50_high_ms
    assert cost.inputs == {"images": "float32[1,3,64,64]"} and cost.precision == "float32"
    assert {"cpu", "onnxruntime", "provider"} <= cost.machine.keys()


def test_rows_come_in_the_order_asked_for_and_work_shows(tmp_path: Path) -> None:
    """A model with 100 times the work is slower, whichever comes first."""
    light, heavy = (
        conv_net(tmp_path / "l.onnx", size=64),
        conv_net(tmp_path / "h.onnx", size=64, channels=800),
    )
    final: list[Cost] = []
    costs = measure(
        [("heavy", heavy), ("light", light)],
        batch_sizes=(2, 1),
        threads=1,
        min_seconds=0.2,
        on_cost=final.append,
    )
    assert [(c.id, c.batch_size) for c in costs] == [("heavy", 2), ("heavy", 1), ("light", 2), ("light", 1)]
    assert sorted(map(str, final)) == sorted(map(str, costs))
    p50 = {(c.id, c.batch_size): c.latency_p50_ms or 0 for c in costs}
    assert p50["heavy", 1] > 2 * p50["light", 1] and p50["heavy", 2] > 2 * p50["light", 2]


def test_peak_memory_grows_with_the_weights(tmp_path: Path) -> None:
    """Weights of 1 MB and of 64 MB: the difference is at least those 63 MB, whatever the runtime adds."""
    small, large = matmul_net(tmp_path / "s.onnx", width=500), matmul_net(tmp_path / "l.onnx", width=4000)
    costs = measure([("small", small), ("large", large)], threads=1, min_seconds=0.05)
    memory = {c.id: c.peak_memory_mb or 0 for c in costs}
    assert 1 <= memory["small"] < 40
    assert 63 <= memory["large"] - memory["small"] < 5 * 64


def test_memory_of_loading_and_of_running_are_told_apart(tmp_path: Path) -> None:
    """64 MB of weights come with loading; activations of 800 x 64 x 64 floats, 13 MB, with the first run."""
    weights = matmul_net(tmp_path / "w.onnx", width=4000)
    activations = conv_net(tmp_path / "a.onnx", size=64, channels=800)
    first, second = measure([("w", weights), ("a", activations)], threads=1, min_seconds=0.05)
    assert first.load_memory_mb and first.peak_memory_mb and second.load_memory_mb and second.peak_memory_mb
    assert 64 <= first.load_memory_mb <= first.peak_memory_mb
    assert second.load_memory_mb < 13 <= second.peak_memory_mb


def test_a_thread_that_has_ended_is_not_asked_how_long_it_waited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Threads come and go between the listing of them and the opening of their files."""
    listed = scheduling._schedules()
    monkeypatch.setattr(scheduling, "_schedules", lambda: [*listed, tmp_path / "ended" / "schedstat"])
    monkeypatch.setattr(worker, "_loaded", {})
    worker.load(str(matmul_net(tmp_path / "m.onnx", width=8)), 1, 1, 16, "CPUExecutionProvider")
    assert len(worker.run_round(0.0, 3, 3)["times"]) == 3


def test_text_is_measured_at_the_length_asked_for(tmp_path: Path) -> None:
    path = text_net(tmp_path / "m.onnx")
    (cost,) = measure([("text", path)], threads=1, sequence_length=33, min_seconds=0.05)
    assert (cost.error, cost.sequence_length, cost.macs) == (None, 33, 2 * 33 * 33 * 8)


def test_external_weights_belong_to_the_size(tmp_path: Path) -> None:
    path = matmul_net(tmp_path / "m.onnx", width=300)
    onnx.save(onnx.load(str(path)), str(path), save_as_external_data=True, location="m.data")
    (cost,) = measure([("two files", path)], threads=1, min_seconds=0.05)
    assert cost.error is None and cost.macs == 300 * 300
    assert cost.file_bytes == path.stat().st_size + (tmp_path / "m.data").stat().st_size > 300 * 300 * 4


# --- faults: each costs its own row
def test_bad_files_are_rows_with_a_reason(tmp_path: Path) -> None:
    good = conv_net(tmp_path / "good.onnx")
    (tmp_path / "text.onnx").write_text("not a model", encoding="utf-8")
    magic = [node("Magic", ["x"], ["y"], domain="some.body")]
    files = {
        "good": good,
        "absent": tmp_path / "absent.onnx",
        "text": tmp_path / "text.onnx",
        "unknown op": write(
            tmp_path / "u.onnx", magic, {"x": ["N", 5]}, {}, domains=["some.body"], check=False
        ),
        "fixed": conv_net(tmp_path / "fixed.onnx", batch=4),
        "fails when run": write(
            tmp_path / "r.onnx",
            [node("Reshape", ["x", "shape"], ["y"])],
            {"x": ["N", 5]},
            {"shape": np.array([7, 7], np.int64)},
            check=False,
        ),
    }
    costs = {c.id: c for c in measure(list(files.items()), threads=1, min_seconds=0.05)}
    assert costs["good"].error is None and costs["good"].latency_p50_ms
    reasons = {
        "absent": "absent.onnx does not exist",
        "text": "not an ONNX file",
        "unknown op": "u.onnx uses some.body.Magic",
        "fixed": "takes batches of 4 only",
        "fails when run": "ONNX Runtime fails on this graph",
    }
    for name, reason in reasons.items():
        assert reason in (costs[name].error or ""), name
        assert costs[name].latency_p50_ms is None
    assert costs["fixed"].macs == 16 * 16 * 8 * 27  # of one input; known without running it
    assert costs["unknown op"].params == 0 and costs["unknown op"].macs is None


def test_a_fixed_batch_is_measured_when_asked_for(tmp_path: Path) -> None:
    path = conv_net(tmp_path / "m.onnx", batch=4)
    one, four = measure([("fixed", path)], batch_sizes=(1, 4), threads=1, min_seconds=0.05)
    assert one.error and not four.error and four.latency_p50_ms


def test_a_hang_is_a_row(tmp_path: Path) -> None:
    files = [("hangs", endless(tmp_path / "e.onnx")), ("good", conv_net(tmp_path / "g.onnx"))]
    hangs, good = measure(files, threads=1, min_seconds=0.05, time_limit_s=8.0)
    assert "did not answer zoo.cost.worker:warm_up within 8 s" in (hangs.error or "")
    assert good.error is None


def test_a_process_above_the_memory_limit_is_ended_at_once(tmp_path: Path) -> None:
    """256 MB of weights, a limit of 150: it does not come to the end of loading, and the one beside it goes on."""
    files = [("l", matmul_net(tmp_path / "l.onnx", width=8000)), ("s", conv_net(tmp_path / "s.onnx"))]
    large, small = measure(files, threads=1, min_seconds=0.05, memory_limit_mb=150)
    assert "over the memory limit of 150 MB" in (large.error or "") and large.load_ms is None
    assert small.error is None and small.latency_p50_ms


def test_a_killed_process_is_a_row(tmp_path: Path) -> None:
    files = [(name, conv_net(tmp_path / f"{name}.onnx")) for name in "ab"]
    killed: list[int] = []

    def kill_one(text: str) -> None:
        if text.endswith("round 3 of 12") and not killed:
            killed.append(min(child.pid for child in psutil.Process().children() if child.is_running()))
            os.kill(killed[0], signal.SIGKILL)

    costs = measure(files, threads=1, min_seconds=0.05, progress=kill_one)
    assert len(killed) == 1
    assert sorted("SIGKILL" in (cost.error or "") for cost in costs) == [False, True]
    assert sum(cost.latency_p50_ms is not None for cost in costs) == 1


def test_an_interrupt_leaves_no_process(tmp_path: Path) -> None:
    seen: list[int] = []

    def interrupt(text: str) -> None:
        if text.endswith("round 1 of 12"):
            seen.extend(child.pid for child in psutil.Process().children())
            raise KeyboardInterrupt

    files = [(name, conv_net(tmp_path / f"{name}.onnx")) for name in "ab"]
    with pytest.raises(KeyboardInterrupt):
        measure(files, threads=1, min_seconds=0.05, progress=interrupt)
    assert len(seen) == 2 and not any(psutil.pid_exists(pid) for pid in seen)


# --- arguments
@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"threads": 10_000}, r"threads=10000: this machine lets us use \d+ cores"),
        ({"threads": 0}, "threads=0"),
        ({"batch_sizes": ()}, "batch_sizes is empty"),
        ({"batch_sizes": (0,)}, "each must be 1 or more"),
        ({"batch_sizes": (1, 1)}, "one is there twice"),
        ({"sequence_length": 0}, "sequence_length 0"),
        ({"min_seconds": 0.0}, r"min_seconds 0\.0"),
    ],
)
def test_arguments_that_cannot_be(tmp_path: Path, options: dict, text: str) -> None:
    with pytest.raises(InputError, match=text):
        measure([("m", tmp_path / "m.onnx")], **options)


def test_one_id_for_two_files_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the same id twice: m"):
        measure([("m", tmp_path / "a.onnx"), ("m", tmp_path / "b.onnx")])


def test_nothing_to_measure_is_an_empty_list() -> None:
    assert measure([]) == []


def test_groups_are_even_and_within_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = [meter.Job(Path(str(i)), Cost(id=str(i), file_bytes=1000)) for i in range(14)]
    assert [len(group) for group in meter._groups(jobs)] == [7, 7]
    free = psutil.virtual_memory().available
    huge = [meter.Job(Path(str(i)), Cost(id=str(i), file_bytes=free)) for i in range(3)]
    assert [len(group) for group in meter._groups(huge)] == [1, 1, 1]


def test_a_turn_ends_when_the_threads_sleep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime's threads spin on after a run: the next model would share its cores with them."""
    monkeypatch.setattr(worker, "_loaded", {})
    worker.load(str(matmul_net(tmp_path / "m.onnx", width=512)), 2, 1, 16, "CPUExecutionProvider")
    states = sorted(scheduling._TASKS.glob("*/stat"))
    if not states:
        pytest.skip("this system does not tell what a thread does")
    for _ in range(20):
        worker._run_once()
    assert any(map(scheduling._ready, states)), "the runtime's threads do not spin: nothing to wait for"
    worker.run_round(0.0, 3, 3)
    assert not any(map(scheduling._ready, states))
