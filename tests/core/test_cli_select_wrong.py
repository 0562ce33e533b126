"""Bad input of `zoo select`, before anything is loaded: each with its words and exit code in docs/errors.md."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from errors_table import fails, here

from zoo.cards import Cost
from zoo.cost import machine, usable_cores
from zoo.cost.store import Settings, Store

Capture = pytest.CaptureFixture[str]
TOY = ["--candidate", "toy:tiny"]

pytestmark = pytest.mark.usefixtures("folder")


def test_a_limit_of_nothing(capsys: Capture) -> None:
    says = ["the limit '0ms': it must be above 0", "leave it out"]
    fails(
        capsys, "Limit that is not above 0", ["select", "photos", "--max-latency", "0ms"], code=2, says=says
    )
    fails(
        capsys, "Limit below 0", ["select", "photos", "--max-size=-5MB"], code=2,
        says=["the limit '-5MB': it must be above 0"],
    )  # fmt: skip


def test_the_same_limit_twice(capsys: Capture) -> None:
    arguments = ["select", "photos", "--max-latency", "20ms", "--max-latency", "5ms"]
    says = ["--max-latency is given 2 times (20ms, 5ms)", "which one holds"]
    fails(capsys, "The same limit twice", arguments, code=2, says=says)
    arguments = ["select", "photos", "--licence", "mit", "--licence", "permissive"]
    fails(
        capsys,
        "Licences in two options",
        arguments,
        code=2,
        says=["--licence is given 2 times (mit, permissive)"],
    )


def test_a_latency_that_no_graph_reaches(capsys: Capture) -> None:
    says = ["latency <= 1 us", "no model can meet it", "Did you mean ms?"]
    fails(
        capsys,
        "Latency that no model can meet",
        ["select", "photos", "--max-latency", "1us"],
        code=2,
        says=says,
    )


def test_p90_of_no_limit(capsys: Capture) -> None:
    arguments = ["select", "photos", "--latency-percentile", "90"]
    fails(
        capsys,
        "A percentile without a limit on latency",
        arguments,
        code=2,
        says=["without a limit on latency"],
    )


@pytest.mark.parametrize(
    ("option", "text", "units"),
    [("--max-download", "500 parsecs", "KB, MB, GB"), ("--max-params", "5 dozen", "K, M, G")],
)
def test_units_that_do_not_exist(capsys: Capture, option: str, text: str, units: str) -> None:
    says = [f"cannot read the limit '{text}'", units]
    fails(
        capsys,
        f"Unit that does not exist, of {option}",
        ["select", "photos", option, text],
        code=2,
        says=says,
    )


def test_offline_and_a_download(capsys: Capture) -> None:
    arguments = ["select", "photos", "--offline", "--max-download", "5MB"]
    fails(capsys, "Offline, and how much to download", arguments, code=2, says=["offline downloads nothing"])


def test_a_licence_that_nobody_knows(capsys: Capture) -> None:
    arguments = ["select", "photos", *TOY, "--licence", "apache2"]
    says = ["no licence 'apache2' is known", "Did you mean apache-2.0", "SPDX"]
    fails(capsys, "Licence that there is not", arguments, code=2, says=says)


def test_no_candidate_has_the_licence(capsys: Capture) -> None:
    arguments = ["select", "photos", "--candidate", "torch:resnet18", "--licence", "permissive"]
    says = [
        "none of 1 candidate(s) is left before anything is loaded",
        "no licence is stated",
        "licence permissive",
    ]
    fails(capsys, "No candidate with that licence", arguments, code=3, says=says)


def test_a_glob_that_meets_nothing(capsys: Capture) -> None:
    arguments = ["select", "photos", "--candidate", "torch:resent*"]
    says = ["no image-classification model matches 'torch:resent*'", "Did you mean", "resnet"]
    fails(capsys, "Pattern that meets no model", arguments, code=2, says=says)


def test_a_folder_without_models(capsys: Capture) -> None:
    Path("models/empty").mkdir(parents=True)
    arguments = ["select", "photos", "--candidate", "hf:./models"]
    fails(capsys, "Folder that holds no model", arguments, code=2, says=["models is no model and holds none"])


def test_a_file_of_candidates_that_is_not_there(capsys: Capture) -> None:
    arguments = ["select", "photos", "--candidates", "mine.txt"]
    fails(
        capsys,
        "File of candidates that is not there",
        arguments,
        code=2,
        says=["no file of candidates mine.txt"],
    )


def test_one_class(capsys: Capture) -> None:
    shutil.rmtree("photos/bees")
    says = ["photos has one class only ('ants')", "at least two"]
    fails(capsys, "One class only, to choose on", ["select", "photos", *TOY], code=2, says=says)


def test_too_few_examples(capsys: Capture) -> None:
    for path in sorted(Path("photos/bees").iterdir())[4:]:
        path.unlink()
    says = ["class 'bees' has 3 training examples, too few for 5 folds", "add examples"]
    fails(capsys, "Too few examples for the folds", ["select", "photos", *TOY], code=2, says=says)


def test_a_class_of_copies(capsys: Capture) -> None:
    for path in sorted(Path("photos/bees").iterdir())[1:]:
        path.write_bytes(Path("photos/bees/0.png").read_bytes())
    says = ["class 'bees' with one example only, all others being copies of it"]
    fails(capsys, "A class whose examples are copies of one", ["select", "photos", *TOY], code=2, says=says)


def test_a_test_part_that_is_the_training_part(capsys: Capture) -> None:
    shutil.copytree("photos", "again")
    arguments = ["select", "photos", "--test", "again", *TOY]
    says = ["every one of the 16 training examples is in the test part too"]
    fails(capsys, "Test part that is the training part", arguments, code=2, says=says)


def test_copies_in_the_test_part_are_left_out_of_training_and_told(capsys: Capture) -> None:
    Path("held/ants").mkdir(parents=True)
    Path("held/bees").mkdir(parents=True)
    for name in ("ants", "bees"):
        for number in (6, 7):
            Path(f"photos/{name}/{number}.png").rename(f"held/{name}/{number}.png")
    shutil.copy("held/ants/6.png", "photos/ants/leaked.png")
    said = here(capsys, "select", "photos", "--test", "held", *TOY, "--folds", "3", "--json")
    assert said.code == 0, said.err
    found = json.loads(said.out)
    assert found["test"]["n"] == 4
    assert any(
        "1 of 13 training examples are in the test part too" in note for note in found["settings"]["notes"]
    )
    assert "photos/ants/leaked.png = held/ants/6.png" in "\n".join(found["settings"]["notes"])


# --- without data
def test_neither_data_nor_task(capsys: Capture) -> None:
    says = ["nothing to choose on", "--task image-classification"]
    fails(capsys, "Neither data nor a task", ["select", "--max-latency", "5ms"], code=2, says=says)


def test_data_and_task(capsys: Capture) -> None:
    arguments = ["select", "photos", "--task", "image-classification"]
    fails(capsys, "Both data and a task", arguments, code=2, says=["--task beside photos"])


def test_a_task_that_there_is_not(capsys: Capture) -> None:
    arguments = ["select", "--task", "detection", "--max-latency", "5ms"]
    fails(capsys, "Task that there is not", arguments, code=2, says=["no task 'detection'"])


def test_texts_without_data(capsys: Capture) -> None:
    arguments = ["select", "--task", "text-classification", "--max-latency", "5ms"]
    says = ["publishers state figures of texts on another data set each"]
    fails(capsys, "Texts without data", arguments, code=2, says=says)


def test_no_data_and_no_limit(capsys: Capture) -> None:
    arguments = ["select", "--task", "image-classification"]
    fails(
        capsys,
        "Without data and without a limit",
        arguments,
        code=2,
        says=["give a limit, such as --max-latency"],
    )


def test_what_only_data_makes_sense_of(capsys: Capture) -> None:
    arguments = ["select", "--task", "image-classification", "--max-latency", "5ms", "--test", "photos"]
    fails(capsys, "Without data, and a test part", arguments, code=2, says=["--test without DATA"])


# --- what is right
def test_a_plan_as_json(capsys: Capture) -> None:
    said = here(
        capsys, "select", "photos", "--plan", "--json", *TOY, "--candidate", "torch:resnet18", "--candidate",
        "torch:vgg16", "--max-download", "100MB",
    )  # fmt: skip
    assert said.code == 0, said.err
    plan = json.loads(said.out)
    assert {step["name"]: step["download_mb"] for step in plan["steps"]} == {
        "toy:tiny": 0.0, "torch:resnet18": pytest.approx(46.8, abs=0.1),
    }  # fmt: skip
    assert plan["left_out"] == [["torch:vgg16", "download 553 MB > 100 MB"]]
    assert list(plan["seconds"]) == ["export", "variants", "measure", "probe", "fine-tune", "ship"]
    assert plan["disk_mb"] > plan["download_mb"] == pytest.approx(46.8, abs=0.1)


def test_a_plan_knows_what_was_done_before(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_CACHE", "cache")

    def plan() -> dict:
        said = here(capsys, "select", "photos", "--plan", "--json", *TOY)
        assert said.code == 0, said.err
        found: dict = json.loads(said.out)
        return found

    before = plan()
    assert not before["steps"][0]["exported"] and "Nothing was measured" in before["notes"][0]
    assert here(capsys, "select", "photos", *TOY, "--folds", "3").code == 0
    host = machine()  # a figure that no noise of this machine keeps out of the record
    cost = Cost("toy:tiny", threads=usable_cores(), latency_p50_ms=0.5, macs=10**6, machine=host)
    Store().put(cost, Settings(usable_cores(), 128, 1.0, host), reference_ms=1.2)
    after = plan()
    assert after["steps"][0]["exported"] and "known from its record" in after["notes"][0]
    assert after["seconds"]["export"] < before["seconds"]["export"]
    assert after["seconds"]["measure"] == 0
    lines = here(capsys, "select", "photos", "--plan", *TOY).out
    assert "its graph is in the cache" in lines and "MB of disk" in lines and "measure" not in lines


def test_a_licence_leaves_rows_with_their_reason(capsys: Capture) -> None:
    arguments = [
        "select",
        "photos",
        *TOY,
        "--candidate",
        "torch:resnet18",
        "--licence",
        "permissive",
        "--folds",
        "3",
    ]
    said = here(capsys, *arguments, "--json")
    assert said.code == 0, said.err
    rows = {row["id"]: row for row in json.loads(said.out)["candidates"]}
    assert rows["toy:tiny"]["status"] == "chosen"
    assert (rows["torch:resnet18"]["status"], rows["torch:resnet18"]["stage"]) == ("left out", "catalogue")
