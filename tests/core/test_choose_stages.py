"""The stages of `zoo.select` on the numpy toy: limits before clocks, precisions, fine-tuning, kills, what ships."""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from errors_table import fails, here, photographs
from made_up import device
from PIL import Image

import zoo
from zoo.cards import PRECISIONS, Budget, ModelId
from zoo.choose import pipeline, rows
from zoo.choose.artefacts import Artefact
from zoo.choose.candidates import expand, make_spread
from zoo.choose.evidence import Evidence
from zoo.choose.journal import FILE
from zoo.choose.objectives import objective_named
from zoo.choose.parts import Judged
from zoo.choose.results import Results, key_of
from zoo.choose.selection import Selection
from zoo.choose.stages.fine_tune import contenders, paired_evidence
from zoo.choose.stages.nothing import rounded_up
from zoo.errors import InputError, NothingFitsError
from zoo.graph import OnnxModel
from zoo.testing.toy import installed

Capture = pytest.CaptureFixture[str]
DEVICE = "device.json"
SELECT = [
    "select",
    "photos",
    "--candidate",
    "toy:tiny,depth=all",
    "--folds",
    "3",
    "--costs",
    DEVICE,
    "-o",
    "runs/pick",
]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder: 20 photographs of each of two classes; beside it the toy framework; caches of its own."""
    work = tmp_path / "work"
    photographs(work / "photos", count=20)
    ends = ("", *(f",precision={precision}" for precision in PRECISIONS[1:]))
    names = [f"toy:tiny{cut}{end}" for cut in ("", ",depth=1", ",depth=2") for end in ends]
    device(work / DEVICE, {name: 1.0 + number for number, name in enumerate(names)})
    monkeypatch.chdir(work)
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    with installed(tmp_path / "site"):
        yield work


def choose(*candidates: str, **options: Any) -> Selection:
    """`zoo.select` on the photographs, in three folds, with the device's costs."""
    return zoo.select("photos", candidates=candidates, folds=3, costs=DEVICE, **options)


def by_id(found: Selection) -> dict[str, rows.Row]:
    return {row.id: row for row in found.rows}


# --- ids
def test_precisions_and_sizes_are_part_of_an_id() -> None:
    for text in ("hf:bert,depth=2,precision=int8-dynamic", "torch:resnet18@none,size=160,precision=fp16"):
        assert str(ModelId.parse(text)) == text
    assert str(ModelId.parse("torch:resnet18,precision=fp32")) == "torch:resnet18"
    with pytest.raises(InputError, match="cannot read 'precision=int4' in the model id"):
        ModelId.parse("torch:resnet18,precision=int4")
    with pytest.raises(InputError, match="a precision is an exported file's"):
        zoo.get("toy:tiny,precision=fp16")


def test_every_candidate_in_the_precisions_and_sizes_asked_for() -> None:
    names = ["torch:resnet18", "torch:resnet50,size=192,precision=fp16", "torch:resnet34,precision=fp32"]
    found, _ = expand(names, "image", make_spread(["int8-static", "fp32"], [160, 224], "image"))
    ids = [str(family.member(None, p)) for family in found for p in family.precisions(None)]
    assert ids == [
        "torch:resnet18,size=160",
        "torch:resnet18,size=160,precision=int8-static",
        "torch:resnet18",  # its card says 224
        "torch:resnet18,precision=int8-static",
        "torch:resnet50,size=192,precision=fp16",
        "torch:resnet34,size=160",
        "torch:resnet34",
    ]


def test_a_precision_at_one_depth_is_of_that_depth_alone() -> None:
    found, _ = expand(["hf:bert,depth=all", "hf:bert,depth=3,precision=int8-dynamic"], "text")
    assert [(f.depths, f.precisions(2), f.precisions(3)) for f in found] == [
        ((), ("fp32",), ("fp32", "int8-dynamic"))
    ]


# --- stages
def test_what_the_graph_says_drops_a_candidate_before_any_clock_runs() -> None:
    """Measured here, so that a figure would be there if a clock had run."""
    candidates = ["toy:tiny", "toy:tiny,precision=int8-dynamic"]
    with pytest.raises(NothingFitsError) as caught:
        choose("toy:tiny", budget=Budget(size_mb=1e-6))
    size_mb = float(str(caught.value).partition("Raise that limit to ")[2].split()[0])
    found = by_id(zoo.select("photos", candidates=candidates, budget=Budget(size_mb=size_mb * 0.9), folds=3))
    lost, best = (found[name] for name in candidates)
    assert (lost.status, lost.stage, lost.cost.latency_p50_ms) == ("over budget", "static cost", None)
    assert lost.reason.startswith("size ")
    assert (best.status, best.stage) == ("chosen", "shipped") and best.cost.latency_p50_ms > 0


def test_macs_and_params_are_the_graphs_too() -> None:
    found = choose("toy:tiny,depth=1", "toy:tiny,depth=2", budget=Budget(params_m=3500e-6))
    lost = by_id(found)["toy:tiny,depth=2"]
    assert (lost.stage, lost.cost.macs, lost.cost.latency_p50_ms) == ("static cost", 3584, None)
    bill = {entry["stage"]: (entry["candidates"], entry["left"]) for entry in found.bill}
    assert bill["static cost"] == (1, 1) and bill["measured cost"] == (1, 1) and bill["shipped"] == (1, 1)
    assert set(found.seconds) == {
        "catalogue",
        "static cost",
        "measured cost",
        "cheap scores",
        "probe",
        "shipped",
    }


def test_nothing_fits_says_what_loosening_buys() -> None:
    with pytest.raises(NothingFitsError) as caught:
        choose("toy:tiny", budget=Budget(params_m=1e-6), out="out")
    text = str(caught.value)
    needed = float(text.partition("Raise that limit to ")[2].split()[0])
    assert f"params {needed:g} M lets in toy:tiny (accuracy " in text and "by probe)" in text
    row = json.loads(Path("out/selection.json").read_text())["candidates"][0]
    assert row["stage"] == "static cost" and row["accuracy"] > 0.5
    assert choose("toy:tiny", budget=Budget(params_m=needed)).best == "toy:tiny"


@pytest.mark.parametrize(
    ("value", "text"), [(7.1401, "7.15"), (7.14, "7.14"), (0.000123456, "0.000124"), (1e6, "1e+06")]
)
def test_a_limit_is_never_rounded_below_what_is_needed(value: float, text: str) -> None:
    assert rounded_up(value) == text


def test_precisions_are_judged_by_their_own_features_and_ship_as_they_were_judged() -> None:
    candidates = ["toy:tiny,precision=int8-static", "toy:tiny,precision=fp16"]
    found = choose(*candidates, out="pick")
    assert {row.id for row in found.rows if row.status != "baseline"} == set(candidates)
    shipped = OnnxModel("pick/model.onnx")
    assert shipped.provenance["precision"] == found.best.rpartition("=")[2]
    examples = shipped.provenance.get("calibrated_on", {"examples": 32})["examples"]
    assert examples == 32  # of 40, a fifth was held out as the test part: ranges are never found on it
    loaded = zoo.load("pick/model")
    assert (str(loaded.id), loaded.labels) == ("toy:tiny", ("ants", "bees"))


def test_a_precision_that_cannot_be_made_is_a_row() -> None:
    with pytest.raises(InputError, match="precision 'fp8': fp32, fp16"):
        choose("toy:tiny", precisions=["fp8"])
    with pytest.raises(InputError, match=r"no candidate could be loaded\. toy:tiny@/nowhere"):
        choose("toy:tiny@/nowhere,precision=fp16")


# --- fine-tuning
def halves(folder: Path) -> None:
    """60 photographs of each of two classes, one half of each a little lighter: a probe on a toy sees most of it."""
    rng = np.random.default_rng(0)
    for name, half in (("left", slice(0, 12)), ("right", slice(12, 24))):
        (folder / name).mkdir(parents=True)
        for number in range(60):
            pixels = rng.integers(0, 200, (24, 24, 3))
            pixels[:, half] += 22
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{number}.png")


def test_the_few_that_may_win_are_fine_tuned_and_the_better_ships() -> None:
    halves(Path("photos"))
    for name in ("ants", "bees"):
        shutil.rmtree(Path("photos") / name)
    candidates = ("toy:tiny", "toy:tiny,precision=fp16")
    found = choose(*candidates, within_s=3600, out="pick")
    tuned = {row.id: row.details["fine_tuned"] for row in found.rows if "fine_tuned" in row.details}
    assert set(tuned) == set(candidates) and found.best == "toy:tiny"
    assert all(t["setting"].startswith("all/adamw/") and t["epochs"] == 9 for t in tuned.values())
    assert tuned[found.best]["accuracy"] > tuned[found.best]["probe_accuracy"]
    assert by_id(found)[found.best].accuracy == tuned[found.best]["accuracy"]
    assert f"Ship {found.best}, fine-tuned: accuracy" in found.why
    assert found.bill[-2]["stage"] == "fine-tuning" and found.seconds["fine-tuning"] > 0
    loaded, shipped = zoo.load("pick/model"), OnnxModel("pick/model.onnx")
    one = ["photos/left/0.png"]
    np.testing.assert_allclose(loaded.predict(one), shipped.predict(one), atol=1e-5)
    pretrained = zoo.get("toy:tiny").state()
    assert any(
        not np.array_equal(pretrained[k], v) for k, v in loaded.state().items() if k.startswith("block1")
    )


@pytest.mark.parametrize(("objective", "first"), [("accuracy", "toy:tiny"), ("log-loss", "toy:tiny@none")])
def test_who_is_fine_tuned_goes_by_the_objective(objective: str, first: str) -> None:
    """One model is right more often and sure where it is wrong; the other is wrong once more and unsure of it."""
    targets = np.arange(100) % 2
    sure, unsure = np.full(100, 0.999), np.full(100, 0.99)
    sure[:10], unsure[:11] = 0.001, 0.45
    given = {
        name: Evidence.of(np.where(targets[:, None] == [0, 1], right[:, None], 1 - right[:, None]), targets)
        for name, right in (("toy:tiny", sure), ("toy:tiny@none", unsure))
    }
    state: Any = SimpleNamespace(
        wanted=SimpleNamespace(aim=objective_named(objective)),
        judged=Judged([], np.concatenate([targets, targets]), [(np.arange(100), np.arange(100, 200))]),
        rows={name: SimpleNamespace(cost=None) for name in given},
        parts=SimpleNamespace(train=targets),
    )
    found = [c.id for c in contenders(state, [Artefact(n, Path(), Path(), None, "") for n in given], given)]
    assert found[0] == first and len(found) == (2 if objective == "accuracy" else 1)


def test_a_precision_is_fine_tuned_through_its_float32_network() -> None:
    name = "toy:tiny,precision=int8-static"
    found = choose(name, within_s=3600, out="pick")
    row = by_id(found)[name]
    tuned = row.details["fine_tuned"]
    assert row.accuracy == max(tuned["accuracy"], tuned["probe_accuracy"])
    shipped = OnnxModel("pick/model.onnx")
    assert shipped.provenance["precision"] == "int8-static"
    assert shipped.provenance["calibrated_on"]["examples"] == 32  # the test part is no part of it


def test_without_time_nobody_is_fine_tuned_and_it_is_said() -> None:
    found = choose("toy:tiny", within_s=1e-3)
    assert "Nothing was fine-tuned: 0 s were left of --within" in found.summary()
    plain = choose("toy:tiny")
    assert "--within TIME fine-tunes" in plain.summary()


def test_splits_are_put_back_in_the_order_of_the_examples() -> None:
    targets = np.array([0, 1, 0, 1, 1])
    first, second = np.array([4, 0]), np.array([1, 3])
    parts = [(first, np.array([[0.1, 0.9], [0.4, 0.6]])), (second, np.array([[0.2, 0.8], [0.7, 0.3]]))]
    assert paired_evidence(targets, parts).correct.tolist() == [False, True, False, True]


# --- kills
def timeless(value: Any) -> Any:
    """Without what a clock wrote, and the command, which names the folder."""
    if isinstance(value, dict):
        return {k: timeless(v) for k, v in value.items() if k not in ("seconds", "command")}
    return [timeless(v) for v in value] if isinstance(value, list) else value


def killed(command: Sequence[str], journal: Path, *, lines: int, pause_s: float) -> int:
    """Start it, kill it -9 so long after the journal has so many lines; how many it then has."""
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while child.poll() is None and (not journal.exists() or journal.read_bytes().count(b"\n") < lines):
        time.sleep(0.002)
    time.sleep(pause_s)
    child.send_signal(signal.SIGKILL)
    child.wait()
    return journal.read_bytes().count(b"\n")


def test_killed_at_any_moment_it_goes_on_to_the_same_end() -> None:
    options = [*SELECT[:-2], "--precision", "fp32,fp16", "--within", "1h", "-o"]
    command = [sys.executable, "-m", "zoo.cli", *options]
    subprocess.run([*command, "runs/whole"], check=True, capture_output=True)
    rng, journal = random.Random(0), Path("runs/pick") / FILE
    lines = 0
    for goal in (2, 10):
        arguments = [*command, "runs/pick", *(["--resume"] if journal.exists() else [])]
        found = killed(arguments, journal, lines=max(goal, lines), pause_s=rng.uniform(0, 0.2))
        assert found >= lines
        lines = found
    subprocess.run([*command, "runs/pick", "--resume"], check=True, capture_output=True)
    ends = [json.loads(Path(f"runs/{name}/selection.json").read_text()) for name in ("whole", "pick")]
    assert timeless(ends[0]) == timeless(ends[1])
    keys = [str(json.loads(line).get("key")) for line in journal.read_text().splitlines()]
    assert len(set(keys)) == len(keys), "nothing was done twice"
    assert sorted(p.name for p in Path("runs/pick").iterdir()) == [
        "journal.jsonl", "model", "model.onnx", "predict.py", "report.html", "selection.json", "table.md"
    ]  # fmt: skip


def test_what_a_kill_left_half_written_goes(tmp_path: Path) -> None:
    (tmp_path / "out" / ".model.x1").mkdir(parents=True)
    for name in (".selection.json.x2.json", ".model.x1/state.safetensors", "mine.txt", ".hidden"):
        (tmp_path / "out" / name).write_text("half")
    pipeline._sweep(tmp_path / "out")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [".hidden", "mine.txt"]


def test_a_finished_run_is_read_not_done_again(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    assert here(capsys, *SELECT).code == 0
    before = Path("runs/pick/selection.json").read_text()
    monkeypatch.setattr("zoo.choose.pipeline._go", None)
    assert here(capsys, *SELECT, "--resume", "--json").code == 0
    assert Path("runs/pick/selection.json").read_text() == before
    again = Selection.from_dict(json.loads(before)).to_dict()
    assert json.loads(json.dumps(again)) == json.loads(before)


def worked_again(*_: object, **__: object) -> None:
    raise AssertionError("it was worked on again")


def test_another_budget_probes_nobody_again(monkeypatch: pytest.MonkeyPatch) -> None:
    first = choose("toy:tiny,depth=all")
    for name in ("cross_validate", "baselines.majority", "baselines.colour_histogram"):
        monkeypatch.setattr(f"zoo.choose.stages.probe.{name}", worked_again)
    second = choose("toy:tiny,depth=all", budget=Budget(params_m=3500e-6))
    assert by_id(second)["toy:tiny,depth=1"].accuracy == by_id(first)["toy:tiny,depth=1"].accuracy
    with pytest.raises(AssertionError, match="again"):  # another seed is another question
        choose("toy:tiny,depth=all", seed=1)


def test_results_are_of_one_question_and_a_damaged_file_is_none(tmp_path: Path) -> None:
    results = Results([tmp_path / "a" / "r.sqlite", tmp_path / "b.sqlite"])
    key = key_of("evidence", np.arange(3), 1)
    assert key != key_of("evidence", np.arange(3), 2) and key != key_of("evidence", np.arange(4), 1)
    assert results.get(key) is None
    results.put(key, {"correct": np.array([True, False])})
    (tmp_path / "a" / "r.sqlite").write_bytes(b"no database at all")
    assert results.get(key)["correct"].tolist() == [True, False]
    assert Evidence(**Results([tmp_path / "b.sqlite"]).get(key)).accuracy == 0.5


# --- bad input
def test_a_folder_that_holds_results(capsys: Capture) -> None:
    assert here(capsys, *SELECT).code == 0
    says = ["runs/pick is not empty", "--resume to go on", "--force to write over"]
    fails(capsys, "A selection into a folder that holds one", SELECT, code=2, says=says)
    says = ["another question", "budget: no limit then, latency p50 <= 5 ms now"]
    arguments = [*SELECT, "--resume", "--max-latency", "5ms"]
    fails(capsys, "Resuming a selection with another budget", arguments, code=2, says=says)
    arguments = [*SELECT, "--resume", "--force"]
    fails(capsys, "--resume and --force together", arguments, code=2, says=["say which"])
    Path("runs/pick/mine.txt").write_text("mine")
    assert here(capsys, *SELECT, "--force").code == 0
    assert Path("runs/pick/mine.txt").read_text() == "mine"


def test_resuming_on_other_data(capsys: Capture) -> None:
    assert here(capsys, *SELECT).code == 0
    Path("photos/ants/0.png").unlink()
    says = ["another question", "training data: "]
    fails(capsys, "Resuming a selection on other data", [*SELECT, "--resume"], code=2, says=says)


@pytest.mark.parametrize(
    ("case", "options", "says"),
    [
        ("A precision that there is not", ["--precision", "int4"], ["precision 'int4': fp32, fp16"]),
        ("A time that is none", ["--within", "soon"], ["cannot read the limit 'soon'", "s, min, h"]),
        ("No time at all", ["--within", "0s"], ["the limit '0s': it must be above 0"]),
        ("A size that is no number", ["--size", "large"], ["cannot read --size 'large'"]),
    ],
)
def test_bad_options(capsys: Capture, case: str, options: list[str], says: list[str]) -> None:
    fails(capsys, case, [*SELECT, *options], code=2, says=says)
    assert not Path("runs").exists()


def test_sizes_of_texts(capsys: Capture) -> None:
    Path("tickets.csv").write_text(
        "text,label\n" + "".join(f"where is it {i},parcel\nmoney back {i},refund\n" for i in range(10))
    )
    arguments = ["select", "tickets.csv", "--candidate", "toy:words", "--size", "160"]
    fails(capsys, "Sizes in pixels for texts", arguments, code=2, says=["sizes 160: of images"])


def test_a_model_with_a_precision_to_train(capsys: Capture) -> None:
    arguments = ["train", "toy:tiny,precision=fp16", "photos", "-o", "runs/mine"]
    fails(
        capsys,
        "Training in an export's precision",
        arguments,
        code=2,
        says=["a precision is an exported file's"],
    )
