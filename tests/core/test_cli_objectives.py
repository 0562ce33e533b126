"""`zoo select --objective`: other aims than accuracy on the real command line, and the bad input of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from errors_table import fails, here

Capture = pytest.CaptureFixture[str]
SELECT = ["select", "photos", "--candidate", "toy:tiny,depth=all", "--folds", "3"]

pytestmark = pytest.mark.usefixtures("folder")


@pytest.mark.parametrize("name", ["log-loss", "cost"])
def test_another_objective_picks_and_says_its_figure(capsys: Capture, name: str) -> None:
    Path("costs.csv").write_text("true,bees,ants\nants,9,0\nbees,0,1\n", encoding="utf-8")
    costs = ["--error-costs", "costs.csv"] if name == "cost" else []
    said = here(capsys, *SELECT, "--objective", name, *costs, "-o", "runs/pick", "--force")
    assert said.code == 0, said.err
    assert "95 % interval" in said.out
    assert json.loads(Path("runs/pick/selection.json").read_text())["settings"]["objective"] == name


def test_an_objective_that_is_none(capsys: Capture) -> None:
    says = ["no objective 'auc'", "accuracy, macro-f1, log-loss, calibration, cost"]
    fails(capsys, "An objective that there is not", [*SELECT, "--objective", "auc"], code=2, says=says)


def test_cost_without_its_table(capsys: Capture) -> None:
    says = ["needs to know what errors cost", "--error-costs"]
    fails(
        capsys, "Error costs asked for, and none given", [*SELECT, "--objective", "cost"], code=2, says=says
    )


def test_a_table_without_its_objective(capsys: Capture) -> None:
    Path("costs.csv").write_text("true,ants,bees\nants,0,9\nbees,1,0\n", encoding="utf-8")
    arguments = [*SELECT, "--error-costs", "costs.csv"]
    fails(capsys, "Error costs given, and another objective", arguments, code=2, says=["--objective cost"])


@pytest.mark.parametrize(
    ("case", "text", "says"),
    [
        ("Error costs of another class", "true,ants,wasps\nants,0,9\nwasps,1,0\n", "'wasps', which is no class"),
        ("Error costs that lack a class", "true,ants\nants,0\n", "columns lack bees"),
        ("Error costs that name a class twice", "true,ants,ants,bees\nants,0,1,1\nbees,1,1,0\n", "'ants' twice"),
        ("Error costs with a row too short", "true,ants,bees\nants,0,9\nbees,1\n", "has 1 costs for 2 classes"),
        ("Error costs that are no number", "true,ants,bees\nants,0,much\nbees,1,0\n", "is 'much', not a number"),
        ("Error costs transposed", "true,ants,bees\nants,3,1\nbees,0,0\n", "is it transposed?"),
        ("Errors that cost nothing", "true,ants,bees\nants,0,0\nbees,0,0\n", "every model is as good"),
        ("An empty table of error costs", "", "is empty"),
    ],
)  # fmt: skip
def test_tables_that_cannot_be(capsys: Capture, case: str, text: str, says: str) -> None:
    Path("costs.csv").write_text(text, encoding="utf-8")
    arguments = [*SELECT, "--objective", "cost", "--error-costs", "costs.csv"]
    fails(capsys, case, arguments, code=2, says=["costs.csv", says])


def test_a_table_that_is_not_there(capsys: Capture) -> None:
    arguments = [*SELECT, "--objective", "cost", "--error-costs", "nowhere.csv"]
    says = ["nowhere.csv cannot be read as a table of error costs"]
    fails(capsys, "A table of error costs that is not there", arguments, code=2, says=says)
