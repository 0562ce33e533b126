"""A temperature and a threshold: recovered where the truth is known, kept wherever the model goes, dropped in time."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from errors_table import fails, here, photographs

import zoo
from zoo.calibration import calibration_from_dict, calibration_to_dict, fit_calibration, fit_temperature
from zoo.data import Dataset, refuse_seen, seen, seen_from_dict, seen_to_dict
from zoo.errors import DataError, InputError, ModelFileError
from zoo.graph import verify
from zoo.probability import expected_calibration_error, softmax
from zoo.testing import toy

Capture = pytest.CaptureFixture[str]
TRAIN = ["train", "toy:tiny", "photos", "--epochs", "40", "--lr", "0.05", "-o", "runs/mine"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder: photos that tell two classes apart now and then, as many held out."""
    work = tmp_path / "work"
    hard(work / "photos", seed=1)
    hard(work / "held", seed=2)
    monkeypatch.chdir(work)
    with toy.installed(tmp_path / "site"):
        yield work


def hard(folder: Path, *, seed: int, count: int = 40) -> None:
    """Two classes whose colours overlap."""
    from PIL import Image

    rng = np.random.default_rng(seed)
    for name, colour in {"ants": (145, 100, 105), "bees": (125, 100, 120)}.items():
        (folder / name).mkdir(parents=True)
        for i in range(count):
            pixels = rng.normal(colour, 15, (1, 1, 3)) + rng.normal(0, 30, (20, 24, 3))
            Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(folder / name / f"{i}.png")


def drawn(temperature: float, *, n: int = 20_000, classes: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and targets drawn from their softmax at this temperature."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, (n, classes)).astype(np.float32)
    shares = softmax(logits / temperature).astype(np.float64).cumsum(axis=1)
    return logits, (rng.random((n, 1)) * shares[:, -1:] > shares).sum(axis=1)


# --- the figures
@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_the_temperature_that_was_drawn_with_is_found(temperature: float) -> None:
    logits, targets = drawn(temperature)
    found = fit_calibration(logits, targets)
    assert found.temperature == pytest.approx(temperature, rel=0.03)
    assert found.ece_after < 0.02 and found.log_loss_after <= found.log_loss_before
    assert temperature == 1.0 or found.ece_before > 0.08


def test_accuracy_is_what_it_was() -> None:
    logits, targets = drawn(3.0)
    found = fit_calibration(logits, targets)
    assert np.array_equal(found.probabilities(logits).argmax(axis=1), logits.argmax(axis=1))
    assert found.accuracy == (logits.argmax(axis=1) == targets).mean() and found.coverage == 1.0


def test_where_all_is_right_the_model_is_not_made_infinitely_sure() -> None:
    targets = np.arange(200) % 4
    logits = np.eye(4, dtype=np.float32)[targets]
    assert 0.05 < fit_temperature(logits, targets) < 1
    sure = fit_calibration(logits, targets).probabilities(logits).max()
    assert 0.99 < sure < 1


def test_the_threshold_answers_most_with_the_wanted_accuracy() -> None:
    logits, targets = drawn(1.0, n=5000)
    found = fit_calibration(logits, targets, accuracy=0.95)
    shares = found.probabilities(logits)
    right, answered = shares.argmax(axis=1) == targets, ~found.unsure(shares)
    assert answered.mean() == pytest.approx(found.coverage) and 0.1 < found.coverage < 0.9
    assert right[answered].mean() == pytest.approx(found.accuracy) and found.accuracy >= 0.95
    assert found.accuracy_low < found.accuracy < found.accuracy_high
    # One lower threshold that answered more and kept the accuracy would have been taken.
    for lower in np.sort(shares.max(axis=1)[~answered])[::-1][:300]:
        assert right[shares.max(axis=1) >= lower].mean() < 0.95


def test_where_all_may_be_answered_nothing_is_rejected() -> None:
    logits, targets = drawn(1.0, n=1000)
    found = fit_calibration(logits, targets, accuracy=0.2)
    assert found.threshold == 0.0 and found.coverage == 1.0


def test_the_calibration_error_by_hand() -> None:
    shares = np.array([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6], [0.7, 0.3]])
    targets = np.array([0, 1, 1, 0])
    # bins of 0.9 (one of two right), 0.6 (right) and 0.7 (right): weights 2, 1, 1
    expected = (2 * abs(0.9 - 0.5) + abs(0.6 - 1) + abs(0.7 - 1)) / 4
    assert expected_calibration_error(shares, targets) == pytest.approx(expected)


def test_a_calibration_that_cannot_be_is_refused() -> None:
    found = fit_calibration(*drawn(1.0, n=100))
    data = calibration_to_dict(found)
    assert calibration_from_dict(json.loads(json.dumps(data)), "run") == found
    for change in ({"temperature": 0.0}, {"threshold": 1.5}, {"surprise": 1}):
        with pytest.raises(ModelFileError, match="run: its calibration"):
            calibration_from_dict(data | change, "run")


# --- what was trained on
def test_examples_that_were_trained_on_are_recognised() -> None:
    texts = [f"ticket {i}" for i in range(2000)]
    known = Dataset("text", texts, np.arange(2000) % 2, ("a", "b"))
    sketch = seen_from_dict(json.loads(json.dumps(seen_to_dict(seen(known)))))
    new = Dataset("text", [f"another {i}" for i in range(500)], np.arange(500) % 2, ("a", "b"))
    assert refuse_seen(sketch, new, "calibrate on") is None
    assert refuse_seen(None, known, "calibrate on") is None
    half = Dataset("text", texts[:500] + list(new.inputs), np.arange(1000) % 2, ("a", "b"))
    found, examined = sketch.share(half)
    assert examined < 300 and 0.3 < found / examined < 0.7
    with pytest.raises(DataError, match="cannot calibrate on data that the model was trained on"):
        refuse_seen(sketch, half, "calibrate on")
    few = Dataset("text", texts[:500] + [f"other {i}" for i in range(20_000)], half.targets, ("a", "b"))
    assert "were trained on: the figures are a little too good" in str(
        refuse_seen(sketch, few, "calibrate on")
    )


# --- wherever the model goes
@pytest.fixture
def model(folder: Path) -> zoo.Backbone:
    """A trained and calibrated toy."""
    found = zoo.get("toy:tiny")
    found.freeze()
    found.fit("photos", recipe=zoo.Recipe(lr=0.05, epochs=40, label_smoothing=0.5), progress=False)
    found.calibrate("held", accuracy=0.9)
    return found


def test_every_form_of_the_model_gives_the_calibrated_probabilities(model: zoo.Backbone) -> None:
    calibration, paths = model.calibration, sorted(Path("held/ants").iterdir())
    assert calibration is not None and calibration.temperature < 0.8  # trained to be unsure
    plain = zoo.get("toy:tiny", num_classes=2)
    plain.engine.load_state(model.state())
    before, after = plain.predict(paths), model.predict(paths)
    assert np.abs(before - after).max() > 1e-3 and np.array_equal(before.argmax(1), after.argmax(1))
    model.save("saved")
    assert zoo.load("saved").calibration == calibration
    assert np.array_equal(zoo.load("saved").predict(paths), after)
    file = model.export("model.onnx")
    assert file.calibration == calibration == zoo.OnnxModel("model.onnx").calibration
    np.testing.assert_allclose(file.predict(paths), after, atol=1e-6)
    np.testing.assert_allclose(softmax(file.logits_of(paths)), before, atol=1e-6)
    assert max(verify("model.onnx").values()) < 1e-5


def test_another_head_or_training_drops_it(model: zoo.Backbone) -> None:
    file = model.export("model.onnx")
    head = model.engine.head()
    assert head is not None
    assert file.with_head(*head, path="other.onnx").calibration is None
    model.fit("photos", recipe=zoo.Recipe(epochs=1), progress=False)
    assert model.calibration is None
    model.calibrate("held")
    model.replace_head(2)
    assert model.calibration is None


def test_a_file_is_calibrated_as_the_model_is(model: zoo.Backbone) -> None:
    wanted, model.calibration = model.calibration, None
    file = model.export("model.onnx")
    weights = file.provenance["weights_sha256"]
    found = file.calibrate("held", accuracy=0.9, path="other.onnx")
    assert file.calibration is None and zoo.OnnxModel("model.onnx").calibration is None
    other = zoo.OnnxModel("other.onnx")
    assert other.calibration == found and other.provenance["weights_sha256"] == weights
    assert wanted is not None and found.temperature == pytest.approx(wanted.temperature, rel=1e-4)
    assert found.threshold == pytest.approx(wanted.threshold, abs=1e-4)
    file.calibrate("held")
    assert file.calibration == zoo.OnnxModel("model.onnx").calibration != found


def test_an_uncalibrated_file_is_what_it_was(model: zoo.Backbone) -> None:
    model.calibration = None
    model.export("model.onnx")
    assert "zoo.calibration" not in {entry.key for entry in onnx.load("model.onnx").metadata_props}


def test_a_class_without_an_example_is_warned_of(model: zoo.Backbone) -> None:
    paths = sorted(Path("held/ants").iterdir())
    held = Dataset("image", paths, np.zeros(len(paths), np.int64), ("ants", "bees"))
    with pytest.warns(UserWarning, match="has no example of 'bees'"):
        model.calibrate(held)


# --- on the command line
def test_the_command_keeps_it_and_predict_says_unsure(capsys: Capture) -> None:
    assert here(capsys, *TRAIN).code == 0
    said = here(capsys, "calibrate", "runs/mine", "held", "--accuracy", "0.9")
    assert said.code == 0 and "below it 'unsure'" in said.out, said
    threshold = zoo.load("runs/mine").calibration.threshold  # type: ignore[union-attr]
    assert here(capsys, "export", "runs/mine", "-o", "model.onnx").code == 0
    for name in ("runs/mine", "model.onnx"):
        answers = json.loads(here(capsys, "predict", name, "held", "--json").out)
        unsure = [answer["unsure"] for answer in answers]
        assert unsure == [answer["predictions"][0]["probability"] < threshold for answer in answers]
        assert 0 < sum(unsure) < len(unsure)
        lines = here(capsys, "predict", name, "held").out.splitlines()
        assert ["unsure: " in line for line in lines] == unsure
        rows = here(capsys, "predict", name, "held", "--csv", "--top", "1").out.splitlines()
        assert rows[0] == "input,rank,label,probability,unsure"
        assert [row.endswith(",yes") for row in rows[1:]] == unsure


def test_the_script_beside_the_file_says_unsure(model: zoo.Backbone, capsys: Capture) -> None:
    model.save("runs/mine")
    assert here(capsys, "export", "runs/mine", "-o", "model.onnx").code == 0
    paths = [str(path) for path in sorted(Path("held/ants").iterdir())[:12]]
    shares = model.predict(paths)
    assert model.calibration is not None
    unsure = model.calibration.unsure(shares)
    assert 0 < unsure.sum() < len(paths)
    done = subprocess.run(
        [sys.executable, "predict.py", *paths], capture_output=True, text=True, timeout=60, check=True
    )
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert {name for name, label, _ in rows if label == "unsure"} == {
        path for path, flag in zip(paths, unsure, strict=True) if flag
    }
    top = {name: float(p) for name, label, p in reversed(rows) if label != "unsure"}
    np.testing.assert_allclose([top[path] for path in paths], shares.max(axis=1), atol=2e-6)


def test_calibrating_on_the_training_data(capsys: Capture) -> None:
    assert here(capsys, *TRAIN).code == 0
    says = ["cannot calibrate on data that the model was trained on", "Give held-out data"]
    fails(capsys, "Calibrating on the training data", ["calibrate", "runs/mine", "photos"], code=2, says=says)


def test_calibrating_on_a_copy_of_the_training_data(capsys: Capture) -> None:
    assert here(capsys, *TRAIN, "--validation-fraction", "0.5").code == 0
    Path("photos").rename("all")
    said = here(capsys, "calibrate", "runs/mine", "all")
    assert said.code == 2 and "40 of 80 examples of all that were compared" in said.err


def test_held_out_data_that_is_of_no_use(capsys: Capture) -> None:
    assert here(capsys, *TRAIN).code == 0
    photographs(Path("few"), count=4)
    says = ["8 examples to calibrate on: at least 20 are needed"]
    fails(capsys, "Calibrating on too few examples", ["calibrate", "runs/mine", "few"], code=2, says=says)
    Path("held/bees").rename("held/wasps")
    says = ["held has labels that the model does not know: 'wasps'"]
    fails(capsys, "Calibrating on other classes", ["calibrate", "runs/mine", "held"], code=2, says=says)


def test_an_accuracy_that_cannot_be(capsys: Capture) -> None:
    assert here(capsys, *TRAIN).code == 0
    arguments = ["calibrate", "runs/mine", "held", "--accuracy"]
    says = ["accuracy 95.0: a share above 0 and at most 1, such as 0.95"]
    fails(capsys, "Accuracy to calibrate for in percent", [*arguments, "95"], code=2, says=says)
    for name in ("ants", "bees"):  # half of each folder is the other class: nothing can be told apart
        for i, path in enumerate(sorted(Path("held", name).iterdir())):
            if i % 2:
                path.rename(Path("held", {"ants": "bees", "bees": "ants"}[name], f"other-{path.name}"))
    says = ["no threshold reaches an accuracy of 0.99: the best is", "Ask for less"]
    case = "Accuracy that no threshold reaches"
    fails(capsys, case, [*arguments, "0.99"], code=2, says=says, theirs=r"0\.\d+, on the \d+")
    assert zoo.load("runs/mine").calibration is None


def test_what_cannot_be_calibrated(capsys: Capture) -> None:
    says = ["photos is no saved model: it holds no zoo.json"]
    fails(capsys, "Calibrating what is no run", ["calibrate", "photos", "held"], code=2, says=says)
    assert here(capsys, *TRAIN).code == 0
    assert here(capsys, "export", "runs/mine", "-o", "theirs.onnx").code == 0
    file = onnx.load("theirs.onnx")
    del file.metadata_props[:]
    onnx.save(file, "theirs.onnx")
    says = ["theirs.onnx was not exported by Backbone Zoo (no metadata): it cannot be cut, calibrated"]
    arguments = ["calibrate", "theirs.onnx", "held"]
    fails(capsys, "Calibrating somebody's ONNX file", arguments, code=2, says=says)


def test_a_calibration_in_a_file_that_was_changed(model: zoo.Backbone, capsys: Capture) -> None:
    model.export("model.onnx")
    file = onnx.load("model.onnx")
    (entry,) = (e for e in file.metadata_props if e.key == "zoo.calibration")
    changed = dataclasses.asdict(model.calibration) | {"temperature": -1.0}  # type: ignore[call-overload]
    entry.value = json.dumps(changed)
    onnx.save(file, "model.onnx")
    says = ["model.onnx: its calibration cannot be (temperature -1.0", "Calibrate it again"]
    case = "ONNX file whose calibration was changed"
    fails(capsys, case, ["predict", "model.onnx", "held"], code=2, says=says, theirs=r"threshold 0\.\d+")


def test_no_head_no_calibration() -> None:
    bare = zoo.get("toy:words")
    with pytest.raises(InputError, match="no probability to calibrate"):
        bare.calibrate((["a text"] * 20, ["a", "b"] * 10))
