"""`zoo bench` on ONNX files: forms of the table, limits, providers, Ctrl-C. No framework is needed."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from cost_graphs import conv_net, endless, node, write
from errors_table import fails, here, record

Capture = pytest.CaptureFixture[str]
QUICK = ["--threads", "1", "--min-seconds", "0.05"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder with two.onnx (8 channels) and net.onnx."""
    monkeypatch.chdir(tmp_path)
    conv_net(tmp_path / "net.onnx", size=32)
    conv_net(tmp_path / "two.onnx", size=32, channels=64)
    yield tmp_path


def large(path: Path, width: int = 8000) -> Path:
    """256 MB of weights."""
    weight = np.zeros((width, width), np.float32)
    return write(path, [node("MatMul", ["x", "w"], ["y"])], {"x": ["N", width]}, {"w": weight})


def row(case: str, command: str, code: int, out: str, name: str, theirs: str) -> str:
    """Keep the reason that the table gives for `name` as a row of docs/errors.md."""
    found = re.search(rf"^{re.escape(name)} could not be measured: (.*)$", out, re.MULTILINE)
    assert found, out
    message, count = re.subn(theirs, "(...)", found[1])
    assert count, f"{theirs!r} is not in {found[1]!r}"
    record(case, command, code, message)
    return found[1]


# --- what is shown
def test_the_table_says_how_far_it_can_be_trusted(capsys: Capture) -> None:
    said = here(capsys, "bench", "net.onnx", "two.onnx", *QUICK)
    assert said.code == 0, said.err
    assert (
        "| p50 ms | " in re.sub(" +", " ", said.out) and "95 %: interval of p50 over the rounds" in said.out
    )
    assert "MLPerf's early-stopping rule" in said.out
    assert "1 thread, weights float32, inputs images float32[1,3,32,32]; cpu " in said.out
    assert "provider CPUExecutionProvider" in said.out and "load " in said.out


def test_a_blank_percentile_says_how_many_runs_it_needs(capsys: Capture) -> None:
    conv_net(Path("slow.onnx"), size=224, channels=64)
    said = here(capsys, "bench", "slow.onnx", "--threads", "1", "--min-seconds", "0.01")
    assert said.code == 0, said.err
    assert "needs 64" in said.out and "needs 662" in said.out
    assert re.search(r"--min-seconds \d+ would do for all", said.out)


def test_json_has_intervals_bounds_and_ties(capsys: Capture) -> None:
    Path("same.onnx").write_bytes(Path("net.onnx").read_bytes())
    said = here(capsys, "bench", "net.onnx", "same.onnx", "--json", "--batch-size", "1,4", *QUICK)
    found = json.loads(said.out)
    assert [(c["id"], c["batch_size"]) for c in found] == [
        ("net.onnx", 1), ("net.onnx", 4), ("same.onnx", 1), ("same.onnx", 4)
    ]  # fmt: skip
    for cost in found:
        if cost["latency_p50_low_ms"] is None:  # on a machine with much else to do
            assert "p50 has no interval" in cost["warning"]
        else:
            assert cost["latency_p50_low_ms"] <= cost["latency_p50_ms"] <= cost["latency_p50_high_ms"]
        assert cost["latency_p90_high_ms"] >= cost["latency_p90_ms"]
        assert isinstance(cost["ties"], list) and cost["first_ms"] > 0
        assert cost["inputs"] == {"images": f"float32[{cost['batch_size']},3,32,32]"}


def test_csv_has_the_bounds(capsys: Capture) -> None:
    said = here(capsys, "bench", "net.onnx", "--csv", *QUICK)
    (found,) = csv.DictReader(io.StringIO(said.out))
    low = found["latency_p50_low_ms"]
    assert float(low) <= float(found["latency_p50_ms"]) if low else "no interval" in found["warning"]
    assert float(found["latency_p90_high_ms"]) >= float(found["latency_p90_ms"])


def test_markdown_on_a_terminal_too(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    said = here(capsys, "bench", "net.onnx", "--markdown", *QUICK)
    assert said.out.startswith("| model ")


# --- bad input
def test_two_forms_at_once(capsys: Capture) -> None:
    arguments = ["bench", "net.onnx", "--json", "--markdown"]
    fails(capsys, "Two output forms at once", arguments, code=2, says=["--json and --markdown together"])


def test_a_provider_that_is_not_there(capsys: Capture) -> None:
    arguments = ["bench", "net.onnx", "--provider", "cuda"]
    says = ["provider 'cuda' is not in this ONNX Runtime", "cpu", "onnxruntime-gpu"]
    fails(
        capsys, "A provider that is not there", arguments, code=2, says=says, theirs=r"there (is|are) [^;]*"
    )
    arguments = ["bench", "net.onnx", "--provider", "warp"]
    says = ["provider 'warp' is not in this ONNX Runtime", "cpu"]
    fails(capsys, "A provider that nobody has", arguments, code=2, says=says, theirs=r"there (is|are) [^.]*")


def test_a_provider_by_its_long_name_in_any_case(capsys: Capture) -> None:
    assert here(capsys, "bench", "net.onnx", "--provider", "cpuexecutionprovider", *QUICK).code == 0


def test_more_threads_than_cores(capsys: Capture) -> None:
    arguments = ["bench", "net.onnx", "--threads", "999"]
    theirs = r"use \d+ cores?|1 to \d+"
    fails(capsys, "More threads than cores", arguments, code=2, says=["threads=999"], theirs=theirs)


@pytest.mark.parametrize(
    ("case", "option", "text"),
    [
        ("A memory limit that is no size", ["--memory-limit", "lots"], "cannot read the limit 'lots'"),
        ("A memory limit of nothing", ["--memory-limit", "0MB"], "the limit '0MB': it must be above 0"),
        ("No time to measure in", ["--min-seconds", "0"], "min_seconds 0"),
        ("No time to wait for a model", ["--time-limit", "0"], "time_limit_s 0"),
    ],
)
def test_limits_that_cannot_be(capsys: Capture, case: str, option: list[str], text: str) -> None:
    fails(capsys, case, ["bench", "net.onnx", *option], code=2, says=[text])


# --- isolated
def test_a_model_above_the_memory_limit_is_a_row(capsys: Capture) -> None:
    large(Path("large.onnx"))
    arguments = ["bench", "large.onnx", "net.onnx", "--memory-limit", "200MB", *QUICK]
    said = here(capsys, *arguments)
    assert said.code == 0 and "| net.onnx" in said.out, said.err
    command = "zoo " + " ".join(arguments)
    reason = row("A model above the memory limit", command, 0, said.out, "large.onnx", r"took \d+ MB")
    assert int(re.findall(r"took (\d+) MB", reason)[0]) > 200
    assert "over the memory limit of 200 MB" in reason
    assert "| large.onnx" in here(capsys, "bench", "large.onnx", "--memory-limit", "2GB", *QUICK).out


def test_a_hang_is_a_row_on_the_command_line(capsys: Capture) -> None:
    endless(Path("endless.onnx"))
    arguments = ["bench", "endless.onnx", "net.onnx", "--time-limit", "8", *QUICK]
    said = here(capsys, *arguments)
    assert said.code == 0 and "| net.onnx" in said.out, said.err
    out = said.out.replace("\n  ", " ")
    row("A model that hangs", "zoo " + " ".join(arguments), 0, out, "endless.onnx", r" Its last lines:.*|$")


def test_ctrl_c_keeps_what_was_measured(folder: Path) -> None:
    command = [sys.executable, "-m", "zoo.cli", "bench", "net.onnx", "two.onnx", "--threads", "1"]
    process = subprocess.Popen(
        [*command, "--min-seconds", "5"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background job ignores it
    )  # fmt: skip
    assert process.stderr is not None
    for line in process.stderr:
        if "round 7 of 30" in line:
            os.kill(process.pid, signal.SIGINT)
            break
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "| net.onnx" in out and "| two.onnx" in out
    assert re.search(r"Warning: stopped after (6|7|8|9|10) of 30 rounds", out)
    assert "stopped by Ctrl-C. What was measured stands above: 2 rows." in err
