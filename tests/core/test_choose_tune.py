"""`zoo.tune` and `zoo.curve` end to end on the numpy toy: real worker processes, real kills, real files."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from errors_table import fails, here, photographs
from PIL import Image
from tokenizers import Tokenizer

import zoo
from zoo.choose import distance, plots, spool, trial, tuner
from zoo.choose.arms import Arm
from zoo.choose.distance import extra_pieces
from zoo.choose.journal import FILE
from zoo.choose.tuner import LAST_RUNG_SEEDS
from zoo.data import Dataset, open_data, prepare, split, train_tokenizer
from zoo.errors import DataError, InputError
from zoo.testing.toy import ToyEngine, installed
from zoo.train import fit_head

Capture = pytest.CaptureFixture[str]
TUNE = ["tune", "toy:tiny", "photos", "--epochs", "3", "--seeds", "2", "-o", "runs/tune"]
CURVE = ["curve", "toy:tiny", "photos", "--seeds", "2", "-o", "runs/curve"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder: 25 photographs of each of two classes; beside it the toy framework."""
    work = tmp_path / "work"
    photographs(work / "photos", count=25)
    monkeypatch.chdir(work)
    with installed(tmp_path / "site"):
        yield work


def timeless(value: Any) -> Any:
    """Without what a clock wrote, and what follows from it."""
    if isinstance(value, dict):
        clocked = ("seconds", "times", "sentence", "best")
        return {k: timeless(v) for k, v in value.items() if k not in clocked}
    return [timeless(v) for v in value] if isinstance(value, list) else value


# --- tune
def test_the_pick_is_saved_with_its_recipe_and_evaluates_as_it_was_judged(capsys: Capture) -> None:
    found = zoo.tune(
        "toy:tiny", "photos", epochs=3, seeds=2, parts=("head", "all"), optimizers=("sgd",), out="run"
    )
    assert [row.arm.part for row in found.rows] == ["head", "all"]
    assert [(v.first, v.second) for v in found.verdicts] == [("all layers", "the head alone")]

    saved, recipe = zoo.load("run/best"), json.loads(Path("run/recipe.json").read_text())
    assert recipe["part"] == found.best.part and recipe["recipe"]["lr"] == found.best.lr
    assert saved.labels == ("ants", "bees")
    seed = recipe["recipe"]["seed"]
    judged = split(open_data("photos"), 0.2, seed=0)[1]
    assert saved.evaluate(judged)["accuracy"] == pytest.approx(found.row(found.best).accuracies[seed - 1])
    exported = here(capsys, "export", "run/best", "-o", "run/model.onnx")
    assert exported.code == 0, exported.err

    kept = json.loads(Path("run/tune.json").read_text())
    assert kept["best"]["optimizer"] == "sgd"
    assert kept["verdicts"][0]["sentence"] == found.verdicts[0].sentence()
    assert not Path("run/work").exists()
    assert {run["setting"] for run in kept["halving"]} >= {"head/sgd/1", "all/sgd/0.001"}
    assert "<svg" in Path("run/plot.svg").read_text()
    assert "src=" not in Path("run/plot.html").read_text().partition("<body>")[0]


def test_the_judged_examples_are_never_trained_on(tmp_path: Path) -> None:
    """Other judged photographs change the verdict's figures, and no run of halving."""
    other = tmp_path / "other"
    photographs(other, count=10)
    for path in other.rglob("*.png"):
        Image.fromarray(255 - np.asarray(Image.open(path))).save(path)
    same: dict[str, Any] = {"epochs": 1, "seeds": 2, "parts": ("head",), "optimizers": ("sgd",)}
    first = zoo.tune("toy:tiny", "photos", test="photos", **same)
    second = zoo.tune("toy:tiny", "photos", test=other, **same)
    assert timeless(list(first.halving)) == timeless(list(second.halving))
    assert first.rows[0].accuracies != second.rows[0].accuracies


def test_killed_at_any_moment_it_goes_on_to_the_same_end() -> None:
    tune = [sys.executable, "-m", "zoo.cli", *TUNE[:-2], "--parts", "head,all", "--optimizers", "sgd", "-o"]
    subprocess.run([*tune, "runs/whole"], check=True, capture_output=True)
    lines, path = 0, Path("runs/tune") / FILE
    for goal in (5, 10):
        child = subprocess.Popen(
            [*tune, "runs/tune", *(["--resume"] if lines else [])], stderr=subprocess.DEVNULL
        )
        while child.poll() is None and lines < goal:
            time.sleep(0.005)
            lines = len(path.read_bytes().splitlines()) if path.exists() else 0
        os.kill(child.pid, signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
    subprocess.run([*tune, "runs/tune", "--resume"], check=True, capture_output=True)
    ends = [json.loads(Path(f"runs/{name}/tune.json").read_text()) for name in ("whole", "tune")]
    assert timeless(ends[0]) == timeless(ends[1])
    keys = [str(json.loads(line).get("key")) for line in path.read_text().splitlines()]
    assert {key[-2:] for key in keys if key.startswith("final/")} == {"/1", "/2"}  # halving had seed 0
    assert len(set(keys)) == len(keys)  # nothing was done twice
    assert len(ends[0]["halving"]) == 6 + 2 * len(LAST_RUNG_SEEDS)


def test_a_lucky_seed_sends_no_setting_to_the_finals(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last rung's mean decides: with the run's own seed alone, sgd would be the part's best."""
    luck = {"all/sgd/0.01": [0.9, 0.5, 0.5], "all/adam/0.01": [0.8, 0.8, 0.8]}
    asked: dict[str, list[int]] = {key: [] for key in luck}

    def trained(run: Any, _title: str, arm: Arm, _epochs: int, seed: int, **options: Any) -> dict[str, Any]:
        accuracy = 0.8
        if not options:
            accuracy = luck[arm.key][len(asked[arm.key])]
            asked[arm.key].append(seed)
        found = {"validation_accuracy": accuracy, "validation_loss": 0.5, "epochs": 1, "seconds": 1.0}
        return found | {"correct": "1" * len(run.materials.judged)}

    monkeypatch.setattr(tuner._Run, "_train", trained)
    found = zoo.tune("toy:tiny", "photos", epochs=1, seeds=2, parts=("all",), optimizers=("sgd", "adam"),
                     learning_rates=(0.01,))  # fmt: skip
    assert [len(seeds) for seeds in asked.values()] == [3, 3]
    assert set(asked["all/sgd/0.01"]).isdisjoint({1, 2})  # the finals' seeds
    assert found.rows[0].arm.key == "all/adam/0.01"


def test_ctrl_c_says_what_is_kept() -> None:
    child = subprocess.Popen(
        [sys.executable, "-m", "zoo.cli", *TUNE], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background job ignores it
    )  # fmt: skip
    while not (Path("runs/tune") / FILE).exists() or (Path("runs/tune") / FILE).read_bytes().count(b"\n") < 6:
        time.sleep(0.01)
    child.send_signal(signal.SIGINT)
    said = child.communicate(timeout=60)[1]
    assert child.returncode == 130
    assert "finished steps are kept in runs/tune: the same command with --resume goes on from there" in said


def test_more_seeds_go_on_with_the_runs_there_are(capsys: Capture) -> None:
    small = [*TUNE, "--parts", "head", "--optimizers", "sgd"]
    assert here(capsys, *small).code == 0
    before = (Path("runs/tune") / FILE).read_text()
    assert here(capsys, *small, "--resume", "--seeds", "3", "--json").code == 0
    after = (Path("runs/tune") / FILE).read_text()
    assert after.startswith(before)
    assert len(json.loads(Path("runs/tune/tune.json").read_text())["finalists"][0]["accuracies"]) == 3


def test_a_setting_that_diverges_is_left_out(capsys: Capture) -> None:
    found = zoo.tune("toy:tiny", "photos", epochs=1, seeds=2, parts=("all",), optimizers=("sgd",),
                     learning_rates=(0.01, 1e30))  # fmt: skip
    failed = [run for run in found.halving if "failed" in run]
    assert [run["setting"] for run in failed] == ["all/sgd/1e+30"]
    assert found.best.lr == 0.01
    arguments = [*TUNE, "--parts", "all", "--optimizers", "sgd", "--lr", "1e30"]
    fails(capsys, "Tuning where every setting diverges", arguments, code=7, theirs=r"became .*",
          says=["every setting diverged or crashed"])  # fmt: skip


def test_texts_and_a_limit() -> None:
    rng = np.random.default_rng(0)
    words = {"refund": ["money", "back", "paid"], "parcel": ["where", "box", "late"]}
    rows = [f"{' '.join(rng.choice(w, 4))},{name}" for name, w in words.items() for _ in range(40)]
    Path("tickets.csv").write_text("text,label\n" + "\n".join(rows) + "\n")
    found = zoo.tune("toy:words", "tickets.csv", epochs=1, seeds=2, parts=("head",), limit=40)
    assert found.data["train"] == 40
    assert found.distance is None  # its tokenizer was made from these very texts
    assert "no figure" in found.summary()


# --- curve
def test_a_curve_of_frozen_features_and_one_of_whole_networks() -> None:
    found = zoo.curve("toy:tiny", "photos", seeds=2, out="frozen")
    assert [point.labels for point in found.lines[0].points] == [10, 20, 40]
    assert found.lines[0].points[-1].accuracy > 0.9  # red ants, blue bees
    assert all(p.low <= p.accuracy <= p.high for p in found.lines[0].points)
    whole = zoo.curve("toy:tiny", "photos", seeds=2, full=True, epochs=2, lr=1e-2)
    assert whole.lines[0].points != found.lines[0].points
    again = zoo.curve("toy:tiny", "photos", seeds=2, out="frozen", resume=True)
    assert again.lines == found.lines
    assert json.loads(Path("frozen/curve.json").read_text())["lines"][0]["points"][0]["labels"] == 10
    assert plots.svg(plots.curve(found)).count("<circle") == 3 + 1  # the points, and the legend's


def test_a_curve_of_two_models_names_the_lever(capsys: Capture) -> None:
    outcome = here(capsys, "curve", "toy:tiny,depth=1", "toy:tiny", "photos", "--seeds", "2")
    assert outcome.code == 0, outcome.err
    assert "Doubling the labels of toy:tiny,depth=1 is worth " in outcome.out
    assert "the bigger model toy:tiny " in outcome.out


# --- the distance
def noise(count: int, seed: int = 0) -> Dataset:
    rng = np.random.default_rng(seed)
    images = list(rng.integers(0, 256, (count, 8, 8, 3)).astype(np.uint8))
    return Dataset("image", images, np.arange(count) % 3, ("red", "green", "blue"))


def test_the_statistics_of_batch_norm_are_those_of_the_layers_inputs() -> None:
    """Found through training steps alone, whatever the momentum; against the toy's own arithmetic."""
    model = zoo.get("toy:tiny")
    engine, data = model.engine, noise(32)
    assert isinstance(engine, ToyEngine)
    prepared = prepare(data.inputs, model.preprocess)
    before = engine.state()
    found = distance.statistics(engine, distance.pairs(engine), [prepared])
    assert all(np.array_equal(before[k], v) for k, v in engine.state().items())
    z = prepared["images"].reshape(32, -1).astype(np.float64) @ before["stem.weight"].astype(np.float64)
    np.testing.assert_allclose(found["stem.mean"], z.mean(0), atol=1e-5)
    np.testing.assert_allclose(found["stem.variance"], z.var(0), rtol=1e-4)
    assert len(found) == 2 * len(model.blocks)


def test_data_that_the_network_was_made_on_are_near_and_others_are_far() -> None:
    model = zoo.get("toy:tiny")
    engine, near = model.engine, noise(128)
    batches = [prepare(near.inputs[i : i + 32], model.preprocess) for i in range(0, 128, 32)]
    keys = distance.pairs(engine)
    # As pretraining leaves it: the running statistics are those of its own data.
    own = distance.statistics(engine, keys, batches)
    engine.load_state({**engine.state(), **{k: v.astype(np.float32) for k, v in own.items()}})
    same = distance.divergence(engine.state(), distance.statistics(engine, keys, batches), keys)
    dark = [{"images": batch["images"] * 0.2 - 1} for batch in batches]
    other = distance.divergence(engine.state(), distance.statistics(engine, keys, dark), keys)
    assert same < 1e-5 < 0.1 < other <= 1


def test_words_that_a_tokenizer_knows_are_one_piece() -> None:
    texts = ["the parcel never came", "the money never came back"] * 50
    tokenizer = Tokenizer.from_str(train_tokenizer(texts, vocab_size=200))
    assert extra_pieces(tokenizer, texts) == 0
    assert extra_pieces(tokenizer, ["eht lecrap"]) > 1
    assert (
        extra_pieces(tokenizer, ["\u4f60\u597d"]) >= 0
    )  # letters it never saw: unknown, as long as they are


def test_a_run_is_a_function_of_its_arguments(tmp_path: Path) -> None:
    """What came before in the same worker changes nothing."""
    data = open_data("photos")
    spool.write(data, tmp_path, "train")
    spool.write(data.subset(range(0, 50, 3)), tmp_path, "judged")
    recipe = asdict(zoo.Recipe(epochs=2, seed=4))
    first = trial.run("toy:tiny", str(tmp_path), 3, recipe, judge=True)
    trial.run("toy:tiny", str(tmp_path), 0, asdict(zoo.Recipe(epochs=1, lr=0.1)), judge=True)
    assert timeless(first) == timeless(trial.run("toy:tiny", str(tmp_path), 3, recipe, judge=True))
    trial.bench.cache_clear()


def test_a_run_validates_on_a_part_that_it_does_not_fit(tmp_path: Path) -> None:
    data = open_data("photos")
    for name in ("train", "judged"):
        spool.write(data, tmp_path, name)
    fitted, held = trial.carve(data, 4)
    assert sorted([*fitted, *held]) == list(range(50))
    assert np.bincount(data.targets[held]).tolist() == [5, 5]
    recipe = zoo.Recipe(epochs=2, seed=4)
    said = trial.run("toy:tiny", str(tmp_path), 0, asdict(recipe))
    rows = trial.bench("toy:tiny", str(tmp_path)).frozen[0]
    *_, history = fit_head(rows[fitted], data.targets[fitted], recipe, num_classes=2,
                           validation=(rows[held], data.targets[held]))  # fmt: skip
    assert history.best_epoch is not None
    assert said["validation_loss"] == history.epochs[history.best_epoch - 1]["validation_loss"]
    trial.bench.cache_clear()


def test_spooled_images_are_the_same_images(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    shapes = ((5, 4), (5, 4, 1), (5, 4, 3), (5, 4, 4))
    arrays = [rng.integers(0, 256, shape).astype(np.uint8) for shape in shapes]
    data = Dataset("image", [*arrays, Image.fromarray(arrays[2])], np.arange(5) % 2, ("a", "b"))
    back = spool.read(spool.write(data, tmp_path, "train"))
    for item, path in zip(data.inputs, back.inputs, strict=True):
        assert np.array_equal(np.squeeze(np.asarray(item)), np.asarray(Image.open(str(path))))
    assert (back.classes, back.targets.tolist()) == (data.classes, data.targets.tolist())


# --- bad input
@pytest.mark.parametrize(
    ("case", "change", "says"),
    [
        ("Tuning a model that is not there", {1: "toy:tinny"}, ["no model 'tinny' in toy", "Did you mean tiny"]),
        ("Tuning with a learning rate of 0", {"--lr": "0,0.1"}, ["learning rate 0: must be above 0"]),
        ("Tuning with a learning rate that is no number", {"--lr": "fast"}, ["cannot read --lr 'fast'"]),
        ("Tuning a part that there is not", {"--parts": "tail"}, ["part 'tail': head, last or all"]),
        ("Tuning by an optimizer that there is not", {"--optimizers": "lion"}, ["optimizer 'lion': sgd, adam or"]),
        ("Tuning with one seed", {"--seeds": "1"}, ["seeds 1: one run says nothing of how runs differ"]),
        ("Tuning for no epoch", {"--epochs": "0"}, ["epochs 0: must be 1 or more"]),
        ("Tuning on fewer examples than can be split", {"--limit": "5"}, ["limit 5: 2 classes need 8 examples"]),
        ("Tuning an image model on texts", {2: "tickets.csv"}, ["toy:tiny reads images", "holds texts"]),
    ],
)  # fmt: skip
def test_bad_questions_to_tune(capsys: Capture, case: str, change: dict[Any, str], says: list[str]) -> None:
    Path("tickets.csv").write_text("text,label\n" + "where is it,parcel\nmoney back,refund\n" * 10)
    arguments = list(TUNE)
    for key, value in change.items():
        if isinstance(key, int):
            arguments[key] = value
        else:
            arguments += [key, value]
    fails(capsys, case, arguments, code=2, says=says)
    assert not Path("runs").exists()


def test_a_class_with_too_few_examples_to_tune_on(capsys: Capture) -> None:
    for file in sorted(Path("photos/bees").iterdir())[3:]:
        file.unlink()
    says = ["class 'bees' has 2 training examples, and 4 are needed"]
    fails(capsys, "A class with too few examples, to tune on", TUNE, code=2, says=says)
    with pytest.raises(DataError, match="'bees'"):
        zoo.curve("toy:tiny", "photos")


def test_too_few_examples_for_a_curve(capsys: Capture) -> None:
    says = ["20 training examples of 2 classes make 2 of the three sizes", "32 are the least"]
    fails(capsys, "Too few examples for a curve", [*CURVE, "--limit", "20"], code=2, says=says)


def test_bad_questions_to_curve(capsys: Capture) -> None:
    fails(
        capsys,
        "A curve without data",
        ["curve", "toy:tiny"],
        code=2,
        says=["give one model or more, and the data"],
    )
    twice = ["curve", "toy:tiny", "toy:tiny", "photos"]
    fails(capsys, "A curve of one model twice", twice, code=2, says=["named twice: toy:tiny, toy:tiny"])
    says = ["learning rate -1: must be above 0"]
    fails(
        capsys, "A curve with a negative learning rate", [*CURVE, "--full", "--lr", "-1"], code=2, says=says
    )


def test_folders_that_are_not_empty_and_other_questions(capsys: Capture) -> None:
    small = [*TUNE, "--parts", "head", "--optimizers", "sgd"]
    Path("runs/tune").mkdir(parents=True)
    Path("runs/tune/mine.txt").write_text("precious")
    says = ["runs/tune is not empty", "--resume"]
    fails(capsys, "Tuning into a folder that is not empty", small, code=2, says=says)
    says = ["runs/tune holds no journal.jsonl"]
    fails(capsys, "Resuming a tuning where none was", [*small, "--resume"], code=2, says=says)
    Path("runs/tune/mine.txt").unlink()
    assert here(capsys, *small).code == 0
    other = [*small, "--resume", "--epochs", "1", "--batch-size", "8"]
    says = ["another question", "epochs: 3 then, 1 now", "batch_size: 32 then, 8 now"]
    fails(capsys, "Resuming a tuning with another question", other, code=2, says=says)
    with pytest.raises(InputError, match="command: tune then, curve now"):
        zoo.curve("toy:tiny", "photos", seeds=2, out="runs/tune", resume=True)
