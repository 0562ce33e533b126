"""The confusion matrix and the worst errors, by hand and on the command line."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
from errors_table import here, photographs

from zoo.errors import DataError
from zoo.train.diagnosis import Mistake, confusion, mistakes, most_confused

CLASSES = ("a", "b", "c")
SHARES = np.array(
    [[0.7, 0.2, 0.1], [0.6, 0.3, 0.1], [0.98, 0.01, 0.01], [0.1, 0.1, 0.8], [0.5, 0.0, 0.5]], np.float32
)
TARGETS = np.array([0, 1, 1, 2, 1])


def test_the_matrix_has_true_classes_as_rows() -> None:
    matrix = confusion(SHARES.argmax(axis=1), TARGETS, 3)
    assert matrix.tolist() == [[1, 0, 0], [3, 0, 0], [0, 0, 1]]
    assert most_confused(matrix, CLASSES) == [("b", "a", 3)]


def test_errors_come_with_the_highest_loss_first() -> None:
    inputs = ["fine", "a text", Path("photos/x.jpg"), "fine", np.zeros((2, 2))]
    found = mistakes(SHARES, TARGETS, CLASSES, inputs)
    assert [m.index for m in found] == [4, 2, 1]  # a probability of 0 is finite, and costs most
    assert (
        found[0].loss == pytest.approx(-math.log(np.finfo(np.float32).tiny)) and found[0].input == "example 4"
    )
    assert found[1].input == "photos/x.jpg" and found[1].true_probability == pytest.approx(0.01)
    assert found[2] == Mistake(
        1, "a text", "b", "a", pytest.approx(0.6), pytest.approx(0.3), pytest.approx(-math.log(0.3))
    )
    assert mistakes(SHARES, TARGETS, CLASSES, inputs, most=1) == found[:1]
    with pytest.raises(DataError, match="cannot look for errors"):
        mistakes(SHARES, TARGETS, CLASSES, inputs[:3])


def test_evaluate_shows_where_it_goes_wrong(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        here(capsys, "train", "toy:tiny", "photos", "--epochs", "30", "--lr", "0.05", "-o", "runs/mine").code
        == 0
    )
    judged = here(capsys, "evaluate", "runs/mine", "photos", "--worst", "3")
    assert "No errors." in judged.out and "about 100% of these examples were trained on" in judged.err
    for i in range(2):  # two blue photographs among the ants
        (folder / f"photos/bees/{i}.png").rename(folder / f"photos/ants/blue{i}.png")
    arguments = ["evaluate", "runs/mine", "photos", "--confusion", "--worst", "1"]
    said = here(capsys, *arguments, "--errors", "errors.csv")
    assert "| ants |    8 |    2 |" in said.out and "| bees |    0 |    6 |" in said.out, said.out
    assert said.out.count("photos/ants/blue") == 1 and "All errors are in errors.csv" in said.out
    figures = json.loads(here(capsys, *arguments, "--json").out)
    assert figures["confusion"] == {"classes": ["ants", "bees"], "matrix": [[8, 2], [0, 6]]}
    assert [m["true"] for m in figures["worst"]] == ["ants"] and figures["n"] == 16
    rows = list(csv.DictReader((folder / "errors.csv").open(encoding="utf-8")))
    assert {Path(row["input"]).name for row in rows} == {"blue0.png", "blue1.png"}
    assert (
        float(rows[0]["loss"]) >= float(rows[1]["loss"]) > 0.69
        and rows[0]["input"] == figures["worst"][0]["input"]
    )
    assert "confusion" not in json.loads(here(capsys, "evaluate", "runs/mine", "photos", "--json").out)


def test_evaluate_is_offered_on_held_out_data_alone(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train = ["train", "toy:tiny", "photos", "--epochs", "1", "-o"]
    assert "zoo evaluate" not in here(capsys, *train, "runs/all").out
    assert "zoo evaluate" not in here(capsys, *train, "runs/part", "--validation-fraction", "0.25").out
    photographs(folder / "val", count=3)
    said = here(capsys, *train, "runs/held", "--validation", "val")
    assert "zoo evaluate runs/held val" in said.out
    figures = here(capsys, "evaluate", "runs/part", "photos", "--json")
    assert json.loads(figures.out)["trained_on"] == 0.75
