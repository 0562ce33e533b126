"""Figures that are kept, on the command line: taken again, measured afresh, listed, and a record that is broken."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest
from cost_graphs import conv_net
from errors_table import fails, here

from zoo.cost import kept as module
from zoo.cost.store import Store

Capture = pytest.CaptureFixture[str]
QUICK = ("--min-seconds", "0.05", "--threads", "1")


pytestmark = pytest.mark.usefixtures("empty_folder")


def test_bench_says_which_figures_are_of_before(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AGREEMENT", 1e9)
    monkeypatch.setattr(Store, "sound", staticmethod(lambda cost: cost.error is None))
    conv_net(Path("a.onnx"))
    conv_net(Path("b.onnx"), channels=9)
    first = here(capsys, "bench", "a.onnx", *QUICK)
    assert first.code == 0 and "Measured before" not in first.err
    with sqlite3.connect("cache/costs.sqlite") as connection:
        connection.execute("UPDATE costs SET cost = json_set(cost, '$.measured_at', '2026-01-02T03:04:05Z')")
    connection.close()
    second = here(capsys, "bench", "a.onnx", "b.onnx", *QUICK)
    assert "Measured before (2026-01-02 03:04) and not again: a.onnx. The reference model" in second.err
    assert "a.onnx" in second.out and "b.onnx" in second.out
    assert "Measured before" not in here(capsys, "bench", "a.onnx", "--fresh", *QUICK).err


def test_history_lists_earlier_figures(capsys: Capture) -> None:
    conv_net(Path("a.onnx"))
    for batch in ("1", "2"):
        assert here(capsys, "bench", "a.onnx", "--batch-size", batch, *QUICK).code == 0
    Path("a.onnx").rename("renamed.onnx")
    said = here(capsys, "bench", "--history", "renamed.onnx")
    assert said.code == 0 and said.out.count("a.onnx") == 2 and "cores" in said.out
    costs = json.loads(here(capsys, "bench", "--history", "a.onnx", "--json").out)
    assert [cost["batch_size"] for cost in costs] == [1, 2] and costs[0]["measured_at"] <= costs[1][
        "measured_at"
    ]
    assert (
        here(capsys, "bench", "--history", "a.onnx", "--csv")
        .out.splitlines()[0]
        .startswith("measured (UTC),model")
    )


def test_history_of_a_model_that_was_never_measured(capsys: Capture) -> None:
    conv_net(Path("ants.onnx"))
    here(capsys, "bench", "ants.onnx", *QUICK)
    case = "History of a model that was never measured"
    says = ["'aunts.onnx' was never measured here. Did you mean ants.onnx?", "`zoo bench aunts.onnx`"]
    fails(capsys, case, ["bench", "--history", "aunts.onnx"], code=2, says=says)


def test_history_before_anything_was_measured(capsys: Capture) -> None:
    says = ["nothing was measured here yet: cache/costs.sqlite", "`zoo bench torch:resnet50` measures"]
    arguments = ["bench", "--history", "torch:resnet50"]
    fails(capsys, "History before anything was measured", arguments, code=2, says=says)


@pytest.mark.filterwarnings("always::UserWarning")
def test_history_in_a_broken_record(capsys: Capture) -> None:
    Path("cache").mkdir()
    Path("cache/costs.sqlite").write_text("not a database\n" * 100)
    arguments = ["bench", "--history", "a.onnx"]
    said = fails(
        capsys, "Record of figures that is no database", arguments, code=2, says=["nothing was measured"]
    )
    assert "warning: the record of earlier figures was damaged" in said.err
    assert Path("cache/costs.broken.sqlite").is_file()


@pytest.mark.filterwarnings("always::UserWarning")
def test_bench_with_a_broken_record_measures(capsys: Capture) -> None:
    Path("cache").mkdir()
    Path("cache/costs.sqlite").write_text("not a database\n" * 100)
    conv_net(Path("a.onnx"))
    said = here(capsys, "bench", "a.onnx", *QUICK)
    assert said.code == 0 and "cache/costs.broken.sqlite" in said.err
    assert [kept.cost.id for kept in Store().history(id="a.onnx")] == ["a.onnx"]


def test_history_in_a_record_of_a_newer_version(capsys: Capture) -> None:
    Path("cache").mkdir()
    with sqlite3.connect("cache/costs.sqlite") as connection:
        connection.execute("PRAGMA user_version = 7")
    connection.close()
    says = ["newer Backbone Zoo (its version is 7, this one reads 1)", "ZOO_CACHE"]
    fails(capsys, "Record of figures of a newer version", ["bench", "--history", "a.onnx"], code=8, says=says)
