"""The learning-rate search: it finds the fall, stops at the explosion, and leaves everything as it was."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from errors_table import fails, here, photographs, process_fails
from test_core_install import BLOCKER

import zoo
from zoo.data import Dataset
from zoo.errors import InputError, TrainingError
from zoo.testing import toy
from zoo.train.finder import search
from zoo.train.learner import HeadLearner

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder: photos of two classes; beside it the toy framework."""
    work = tmp_path / "work"
    photographs(work / "photos", count=20)
    monkeypatch.chdir(work)
    with toy.installed(tmp_path / "site"):
        yield work


def bits(state: dict[str, np.ndarray]) -> dict[str, bytes]:
    return {name: value.tobytes() for name, value in state.items()}


@pytest.mark.parametrize(("frozen", "cached"), [(None, True), (None, False), (0, True)])
def test_nothing_is_changed_and_the_next_training_is_the_same(frozen: int | None, cached: bool) -> None:
    recipe = zoo.Recipe(optimizer="adamw", lr=0.01, epochs=2, batch_size=8)
    models = [zoo.get("toy:tiny", num_classes=2) for _ in range(2)]
    for model in models:
        model.freeze(frozen)
    before = bits(models[0].state())
    found = models[0].find_lr("photos", recipe, cached=cached)
    assert bits(models[0].state()) == before and models[0].engine.trainable == models[1].engine.trainable
    assert found.losses[0] != found.losses[-1] and len(set(found.losses)) > 10
    losses = [model.fit("photos", recipe=recipe, progress=False).losses for model in models]
    assert losses[0] == losses[1] and bits(models[0].state()) == bits(models[1].state())


def test_texts_without_a_tokenizer_are_left_without_one() -> None:
    model = zoo.get("toy:words")
    texts = (["late parcel", "broken lamp"] * 20, ["post", "goods"] * 20)
    found = model.find_lr(texts, zoo.Recipe(batch_size=8, optimizer="adam"))
    assert model.preprocess == zoo.get("toy:words").preprocess and found.suggestion > 1e-5


def quadratic(**options: float) -> zoo.RateSearch:
    """A head on features of size 1 that tell two classes apart, whose useful rates for SGD are known."""
    rng = np.random.default_rng(0)
    targets = np.arange(256) % 2
    features = (rng.normal(0, 0.3, (256, 8)) + np.where(targets, 1, -1)[:, None]).astype(np.float32)
    learner = HeadLearner(features, np.zeros((2, 8), np.float32), np.zeros(2, np.float32))
    recipe = zoo.Recipe(optimizer="sgd", momentum=0.0, batch_size=64)
    rates = [float(r) for r in np.geomspace(options.get("low", 1e-6), options.get("high", 1e3), 120)]
    return search(learner, recipe, targets, 2, rates)


def test_the_suggestion_lies_where_the_loss_falls() -> None:
    found = quadratic()
    # The gradient's Lipschitz constant is at most (8 + 1) / 2 here, so steps of 0.2 are safe and 0.001 is slow.
    assert 0.005 < found.suggestion < 2.0
    assert found.losses[0] == pytest.approx(math.log(2), abs=1e-6)
    at = [abs(math.log(rate / found.suggestion)) for rate in found.rates].index(0)
    assert found.smoothed[at - 8] > found.smoothed[at] > found.smoothed[at + 8]
    assert found.lowest_tenth in [rate / 10 for rate in found.rates]


def test_it_stops_where_the_loss_explodes_also_into_nan() -> None:
    model = zoo.get("toy:tiny", num_classes=2)
    before = bits(model.state())
    found = model.find_lr("photos", zoo.Recipe(optimizer="sgd", batch_size=8), highest=1e6)
    assert found.stopped is not None and found.rates[-1] < 1e5
    assert all(map(math.isfinite, found.losses)) and bits(model.state()) == before
    with pytest.raises(TrainingError, match=r"the loss became (nan|inf) at a rate of .*as they were"):
        model.find_lr("photos", zoo.Recipe(optimizer="sgd", batch_size=8), lowest=1e9, highest=1e99)
    assert bits(model.state()) == before


def test_where_nothing_falls_nothing_is_suggested(capsys: Capture) -> None:
    """Labels at random, one pass: there is nothing to learn."""
    rng = np.random.default_rng(0)
    targets, features = rng.integers(0, 2, 6400), rng.normal(0, 1, (6400, 8)).astype(np.float32)
    learner = HeadLearner(features, np.zeros((2, 8), np.float32), np.zeros(2, np.float32))
    rates = [float(r) for r in np.geomspace(1e-7, 1e2, 100)]
    with pytest.raises(TrainingError, match="the loss falls clearly at no rate between 1e-07"):
        search(learner, zoo.Recipe(optimizer="sgd", batch_size=64), targets, 2, rates)
    case = "A rate is sought, and the loss falls at none"
    arguments = ["find-lr", "toy:tiny", "photos", "--lowest", "1e-12", "--highest", "1e-9"]
    says = ["the loss falls clearly at no rate between 1e-12 and 1e-09"]
    fails(capsys, case, arguments, code=7, says=says)


def test_ranges_that_cannot_be(capsys: Capture) -> None:
    arguments = ["find-lr", "toy:tiny", "photos"]
    says = ["rates from 1 to 0.1: above 0, the lowest first"]
    low = [*arguments, "--lowest", "1", "--highest", "0.1"]
    fails(capsys, "Rates to search between, the wrong way round", low, code=2, says=says)
    says = ["steps 5: at least 20"]
    fails(capsys, "Too few steps to find a rate", [*arguments, "--steps", "5"], code=2, says=says)
    says = ["-o lr.png: its name must end in .html"]
    fails(capsys, "Plot to a name without .html", [*arguments, "-o", "lr.png"], code=2, says=says)
    data = Dataset("image", [], np.zeros(0, np.int64), ("a", "b"))
    with pytest.raises(InputError, match="no examples"):
        zoo.get("toy:tiny", num_classes=2).find_lr(data)


# --- plots
def test_the_command_suggests_and_draws(capsys: Capture) -> None:
    said = here(capsys, "find-lr", "toy:tiny", "photos", "--batch-size", "8", "-o", "lr.html")
    assert said.code == 0 and "suggestion" in said.out and "--lr 0.0" in said.out, said
    page = Path("lr.html").read_text(encoding="utf-8")
    assert "plotly.js v" in page and "<script src=" not in page and '"steepest: ' in page


def test_a_run_is_drawn_finished_or_not(capsys: Capture) -> None:
    train = [
        "train",
        "toy:tiny",
        "photos",
        "--epochs",
        "3",
        "-o",
        "runs/mine",
        "--validation-fraction",
        "0.3",
    ]
    assert here(capsys, *train).code == 0
    said = here(capsys, "plot", "runs/mine")
    assert said.code == 0 and Path("runs/mine/curves.html").stat().st_size > 1e6
    finished = zoo.train.history.read_history(Path("runs/mine"))  # type: ignore[attr-defined]
    figure = finished.plot()
    drawn = {trace.name: list(trace.y) for trace in figure.data}
    assert drawn["validation loss"] == [row["validation_loss"] for row in finished.epochs]
    assert len(drawn["loss of each step"]) == len(drawn["smoothed"]) == len(finished.losses) > 0
    assert "best, kept" in drawn and list(figure.data[0].x)[-1] == 3.0
    last = dataclasses.replace(finished, kept="last").plot().data
    assert "best; the last is kept" in {trace.name for trace in last}
    Path("runs/mine/zoo.json").unlink()
    unfinished = zoo.train.history.read_history(Path("runs/mine"))  # type: ignore[attr-defined]
    assert unfinished.epochs == finished.epochs and not unfinished.losses
    assert here(capsys, "plot", "runs/mine", "-o", "other.html").code == 0


def test_a_folder_without_a_history(capsys: Capture) -> None:
    says = ["photos holds no history of a training"]
    fails(capsys, "Plotting what is no run", ["plot", "photos"], code=2, says=says)


def test_without_plotly_it_says_what_to_install(tmp_path: Path) -> None:
    site = tmp_path / "blocker"
    site.mkdir()
    (site / "sitecustomize.py").write_text(BLOCKER.replace('"sklearn"', '"plotly"'))
    path = os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])
    says = ["plots need plotly, which is not installed", "pip install 'backbone-zoo[train]'"]
    process_fails(
        "Plotting without plotly", ["plot", "runs/mine"], code=4, says=says, env={"PYTHONPATH": path}
    )
