"""Costs of another device in `zoo compare` and `zoo select`: found by content, never mixed with this machine's."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from cost_graphs import conv_net
from errors_table import fails, here, photographs

import zoo
from zoo.cards import Cost
from zoo.choose.device import device_costs
from zoo.cli import tables
from zoo.files import sha256_file
from zoo.testing import toy

Capture = pytest.CaptureFixture[str]
BOARD = {"cpu": "Cortex-A76", "cores": "4", "platform": "Linux aarch64", "onnxruntime": "1.32.0"}
BOARD |= {"provider": "CPUExecutionProvider"}
MEASURED = Cost(
    "a.onnx",
    threads=4,
    latency_p50_ms=40.0,
    file_bytes=1000,
    machine=BOARD,
    measured_at="2026-01-02T03:04:05+00:00",
)


@pytest.fixture(autouse=True)
def folder(empty_folder: Path) -> Path:
    """A current folder with two graphs in it."""
    conv_net(Path("a.onnx"))
    conv_net(Path("b.onnx"), channels=9)
    return empty_folder


def write(*costs: Cost, name: str = "device.json") -> None:
    """As `zoo bench --json` prints them."""
    Path(name).write_text(json.dumps([tables._jsonable(cost) for cost in costs]))


def of_file(path: str, **fields: Any) -> Cost:
    """A cost of this very file on the board."""
    return dataclasses.replace(MEASURED, id=path, sha256=sha256_file(Path(path)), **fields)


def test_what_bench_says_there_is_taken_here(capsys: Capture) -> None:
    """The whole way, once: measured under one name, compared under another."""
    said = here(capsys, "bench", "a.onnx", "--json", "--min-seconds", "0.05", "--threads", "1")
    assert said.code == 0
    Path("device.json").write_text(said.out)
    Path("a.onnx").rename("renamed.onnx")
    comparison = zoo.compare(["renamed.onnx"], costs="device.json")
    (row,) = comparison.rows
    assert row.cost and row.cost.latency_p50_ms == json.loads(said.out)[0]["latency_p50_ms"]
    assert row.id == row.cost.id == "renamed.onnx"
    assert (
        comparison.notes[0].startswith("Costs from device.json, not of this machine: ")
        and len(comparison.notes) == 1
    )


def test_a_model_without_a_device_figure_gets_none_of_this_machine(capsys: Capture) -> None:
    write(of_file("a.onnx"))
    said = here(capsys, "compare", "a.onnx", "b.onnx", "--costs", "device.json", "--json")
    assert said.code == 0, said.err
    a, b = json.loads(said.out)["rows"]
    assert a["cost"]["latency_p50_ms"] == 40.0 and a["cost"]["machine"]["cpu"] == "Cortex-A76"
    assert b["cost"] is None and b["reason"] == "no figure in device.json"
    assert "loading" not in said.err  # nothing was measured


def test_the_device_is_named_below_the_table(capsys: Capture) -> None:
    write(of_file("a.onnx"))
    said = here(capsys, "compare", "a.onnx", "--costs", "device.json")
    line = (
        "Costs from device.json, not of this machine: Cortex-A76, 4 cores, CPUExecutionProvider, onnxruntime 1.32.0; "
        "4 threads, measured 2026-01-02 03:04 UTC."
    )
    assert line in said.out


def test_another_file_of_the_same_id_comes_with_a_warning() -> None:
    write(dataclasses.replace(MEASURED, sha256="0" * 64))
    comparison = zoo.compare(["a.onnx"], costs="device.json")
    assert comparison.rows[0].cost and comparison.rows[0].cost.latency_p50_ms == 40.0
    assert "a.onnx: device.json has no figure of this very file" in comparison.notes[1]


def test_a_file_is_known_by_the_model_it_says_it_is() -> None:
    """On the device there are files only; here there are ids."""
    costs = device_costs([dataclasses.replace(MEASURED, id="/home/pi/x.onnx", sha256="1", model="toy:tiny")])
    cost, warning = costs.of("toy:tiny", Path("a.onnx"))
    assert cost and cost.id == "toy:tiny" and "that of /home/pi/x.onnx (sha256 1)" in warning
    two = [dataclasses.replace(MEASURED, id=f"{n}.onnx", sha256=n, model="toy:tiny") for n in "12"]
    assert device_costs(two).of("toy:tiny", Path("a.onnx")) == (
        None,
        "the given costs has several files of it, and none is this one: 1.onnx, 2.onnx",
    )


def test_bench_says_which_model_a_file_is(capsys: Capture) -> None:
    from zoo.testing.toy import ToyEngine
    from zoo.train import export

    export(ToyEngine(), Path("toy.onnx"), model_id="toy:tiny", versions={})
    costs = zoo.benchmark(["toy.onnx", "a.onnx"], threads=1, min_seconds=0.05)
    assert [cost.model for cost in costs] == ["toy:tiny", None]


def test_texts_of_another_length_are_said() -> None:
    costs = device_costs([dataclasses.replace(MEASURED, sequence_length=128)])
    assert costs.lengths(128) == ""
    assert (
        "texts of 128 tokens; the median of this data is 20: measure with --sequence-length 20"
        in costs.lengths(20)
    )


def test_select_chooses_by_the_devices_figures(tmp_path: Path) -> None:
    """There the deeper network is over the budget; here everything would be within it."""
    photographs(Path("photos"), count=15)
    with toy.installed(tmp_path / "site"):
        shallow, deep = (f"toy:tiny,depth={depth}" for depth in (1, 2))
        costs = [
            dataclasses.replace(MEASURED, id=shallow, latency_p50_ms=9000.0),
            dataclasses.replace(MEASURED, id=deep, latency_p50_ms=11000.0),
        ]
        budget = zoo.Budget(latency_ms=10_000)
        found = zoo.select(
            "photos", candidates=["toy:tiny,depth=all"], costs=costs, budget=budget, folds=3, out="pick"
        )
    assert found.best == shallow and found.cost and found.cost.machine == BOARD
    assert "over budget: latency p50 1.1e+04 ms > 1e+04 ms" in found.markdown()
    assert "p50 9e+03 ms by the given costs; its model.onnx, not measured there yet, has" in found.why
    assert "not of this machine: Cortex-A76" in found.summary()
    written = json.loads(Path("pick/selection.json").read_text())
    assert written["cost"]["file_bytes"] == Path("pick/model.onnx").stat().st_size
    others = [row for row in found.rows if row.id.startswith("toy:") and row.id not in (shallow, deep)]
    assert all(row.reason == "no figure in the given costs" and row.cost is None for row in others)


# --- what can be wrong
def refused(capsys: Capture, case: str, *says: str) -> None:
    """Compare a.onnx by device.json."""
    fails(capsys, case, ["compare", "a.onnx", "--costs", "device.json"], code=2, says=says)


def test_no_costs_file(capsys: Capture) -> None:
    refused(
        capsys, "Costs file that is not there", "cannot read the costs device.json: No such file or directory"
    )


def test_costs_that_are_no_json(capsys: Capture) -> None:
    Path("device.json").write_text("| model | batch |\n")
    refused(
        capsys,
        "Costs file that is no JSON",
        "device.json holds no costs: it is no JSON",
        "--json > device.json",
    )


def test_costs_that_are_other_json(capsys: Capture) -> None:
    Path("device.json").write_text('{"a": 1}')
    refused(capsys, "Costs file of other content", "it is no list of them")


@pytest.mark.parametrize(
    "content",
    [
        "[]",
        "[3]",
        '[{"id": "a"}]',
        '[{"id": "a", "machine": "mine"}]',
        '[{"id": "a", "machine": {"cpu": "x"}, "threads": "two"}]',
        '[{"id": "a", "machine": {"cpu": "x"}, "latency_p50_ms": "fast"}]',
    ],
)
def test_costs_that_are_not_whole(capsys: Capture, content: str) -> None:
    Path("device.json").write_text(content)
    said = here(capsys, "compare", "a.onnx", "--costs", "device.json")
    assert said.code == 2 and said.err.startswith("error: device.json holds no costs"), said.err


def test_costs_of_another_version(capsys: Capture) -> None:
    Path("device.json").write_text(json.dumps([{"id": "a.onnx", "machine": BOARD, "smell": 3}]))
    says = "written by another version of Backbone Zoo: it says smell of a.onnx, which this one does not know"
    refused(capsys, "Costs file of another version", says)
    Path("device.json").write_text('{"format": 9, "costs": []}')
    said = here(capsys, "compare", "a.onnx", "--costs", "device.json")
    assert said.code == 2 and "device.json is of format 9, this Backbone Zoo reads 1" in said.err


def test_costs_without_the_models_asked(capsys: Capture) -> None:
    write(dataclasses.replace(MEASURED, id="c.onnx", sha256="0"))
    says = ("device.json has no figure of a.onnx: it has c.onnx", "zoo bench MODEL... --json")
    refused(capsys, "Costs file without the models asked", *says)


def test_costs_of_two_machines(capsys: Capture) -> None:
    other = {**BOARD, "cpu": "Cortex-A55"}
    write(of_file("a.onnx"), dataclasses.replace(MEASURED, id="b", machine=other))
    refused(
        capsys, "Costs file of two machines", "mixes figures", "Cortex-A76", "Cortex-A55", "a file for each"
    )


def test_costs_of_two_settings(capsys: Capture) -> None:
    write(of_file("a.onnx"), dataclasses.replace(MEASURED, id="b", threads=1))
    said = here(capsys, "compare", "a.onnx", "--costs", "device.json")
    assert said.code == 2 and "mixes figures that cannot stand in one column: 1, 4 threads" in said.err
    write(of_file("a.onnx"), of_file("a.onnx"))
    said = here(capsys, "compare", "a.onnx", "--costs", "device.json")
    assert said.code == 2 and "a.onnx twice at batch 1" in said.err


def test_costs_at_another_batch_only(capsys: Capture) -> None:
    write(of_file("a.onnx", batch_size=8))
    refused(capsys, "Costs file without batch 1", "no cost at batch 1, only at 8", "--batch-size 1 there")
