"""`zoo check`: each classic fault is found on a network broken on purpose, and the untouched one is left in peace.

The network is made here: nearest template in six features, the mean of each channel and of each channel's
horizontal change, so that values, channels, size and labels all matter to it.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from errors_table import fails, here
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

import zoo
from zoo.cards import ImagePreprocess
from zoo.data import Dataset, open_data, prepare
from zoo.errors import DataError, InputError
from zoo.graph import metadata
from zoo.graph.metadata import Metadata
from zoo.mismatch.checking import targets_of
from zoo.mismatch.facts import arithmetic_on_input, input_affine
from zoo.mismatch.judging import Comparison, Outcome, fewest_gained, mcnemar
from zoo.testing.toy import installed
from zoo.train import softmax

CLASSES = ("amber", "brick", "coral", "denim", "ebony", "fern")
# Half of the classes have the colour of another and differ by the width of their stripes.
COLOURS = ((200, 150, 40), (170, 60, 40), (60, 90, 160), (200, 150, 40), (170, 60, 40), (60, 90, 160))
PERIODS = (4, 4, 4, 12, 12, 12)
STEP = 8.0
RIGHT = ImagePreprocess(
    96, 96, resize="exact", resize_to=(96, 96), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
)


def photos(count: int, *, seed: int) -> tuple[list[np.ndarray], list[str]]:
    """`count` of each class: uint8 [96, 96, 3], noisy colours with stripes of the class's period."""
    rng = np.random.default_rng(seed)
    images, labels = [], []
    for name, colour, period in zip(CLASSES, COLOURS, PERIODS, strict=True):
        for _ in range(count):
            stripes = 12 * np.sign(np.sin(2 * np.pi * (np.arange(96) + rng.integers(9)) / period))
            pixels = (
                np.array(colour)
                + rng.normal(0, 8, 3)
                + stripes[None, :, None]
                + rng.normal(0, 4, (96, 96, 3))
            )
            images.append(np.clip(pixels, 0, 255).astype(np.uint8))
            labels.append(name)
    return images, labels


def features(images: np.ndarray) -> np.ndarray:
    """float [N, 6], as the graph computes them."""
    change = STEP * np.abs(images[..., 1:] - images[..., :-1]).mean(axis=(2, 3))
    return np.concatenate([images.mean(axis=(2, 3)), change], axis=1)


def network(path: Path, *, preprocess: ImagePreprocess = RIGHT, inside: bool = False, roll: int = 0) -> Path:
    """Templates learned under RIGHT. preprocess: what the file says.  inside: the graph normalises, as RIGHT does,
    what is given from 0 to 1.  roll: its labels are moved by so many.
    """
    inputs, labels = photos(20, seed=1)
    found = features(prepare(inputs, RIGHT)["images"])
    templates = np.stack([found[[label == name for label in labels]].mean(axis=0) for name in CLASSES])
    constants = {
        "mean": np.reshape(RIGHT.mean, (1, 3, 1, 1)),
        "std": np.reshape(RIGHT.std, (1, 3, 1, 1)),
        "kernel": np.tile(np.array([-STEP, STEP]).reshape(1, 1, 1, 2), (3, 1, 1, 1)),
        "weight": 8 * templates.T,
        "bias": -4 * (templates**2).sum(axis=1),
    }
    first = [
        helper.make_node("Sub", ["images", "mean"], ["centred"]),
        helper.make_node("Div", ["centred", "std"], ["x"]),
    ]
    nodes = [
        *(first if inside else [helper.make_node("Identity", ["images"], ["x"])]),
        helper.make_node("GlobalAveragePool", ["x"], ["colour"]),
        helper.make_node("Conv", ["x", "kernel"], ["change"], group=3),
        helper.make_node("Abs", ["change"], ["size"]),
        helper.make_node("GlobalAveragePool", ["size"], ["texture"]),
        helper.make_node("Concat", ["colour", "texture"], ["six"], axis=1),
        helper.make_node("Flatten", ["six"], ["features"]),
        helper.make_node("Gemm", ["features", "weight", "bias"], ["logits"]),
    ]
    size = [preprocess.height, preprocess.width]
    graph = helper.make_graph(
        nodes,
        "made",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 3, *size])],
        [
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", len(CLASSES)]),
            helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", 6]),
        ],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    names = tuple(np.roll(CLASSES, roll))
    metadata.write(model, Metadata(preprocess, names, {"id": "made"}))
    onnx.save(model, path)
    return path


def changed(**fields: object) -> ImagePreprocess:
    return dataclasses.replace(RIGHT, **fields)  # type: ignore[arg-type]


TWICE = {
    "mean": tuple(m + m * s for m, s in zip(RIGHT.mean, RIGHT.std, strict=True)),
    "std": tuple(s * s for s in RIGHT.std),
}


def test_the_right_network_is_left_in_peace(tmp_path: Path) -> None:
    report = zoo.check(network(tmp_path / "m.onnx"), photos(6, seed=2))
    assert report.ok and report.verdict == "no fault found" and report.accuracy > 0.9, report.lines()
    assert len(report.tried) > 12 and report.preprocess == RIGHT
    assert "No fault found among" in report.conclusion() and "36 examples" in report.conclusion()


def test_nor_is_one_that_normalises_inside_and_is_told_so(tmp_path: Path) -> None:
    plain = changed(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    report = zoo.check(network(tmp_path / "m.onnx", preprocess=plain, inside=True), photos(6, seed=2))
    assert report.ok and report.accuracy > 0.9
    assert "begins with Sub, Div" in " ".join(report.facts)


@pytest.mark.parametrize(
    ("fault", "preprocess", "field"),
    [
        ("BGR for RGB", changed(channels="BGR"), "channels"),
        ("0-255 for 0-1", changed(scale=1.0), "scale"),
        ("0-1 for 0-255", changed(scale=1 / 255**2), "scale"),
        ("wrong size", RIGHT.at_size(256), "height"),
        ("normalised twice", changed(**TWICE), "mean"),
        ("another normalisation", changed(scale=1 / 127.5, mean=(1.0,) * 3, std=(1.0,) * 3), "std"),
    ],
)
def test_each_fault_is_found(fault: str, preprocess: ImagePreprocess, field: str, tmp_path: Path) -> None:
    report = zoo.check(network(tmp_path / "m.onnx", preprocess=preprocess), photos(6, seed=2))
    assert [finding.fault for finding in report.findings] == [fault], report.lines()
    found = report.findings[0]
    assert found.accuracy_after > 0.9 > found.accuracy_before and found.low > 0 and found.p < 0.01
    assert found.gained > 10 * found.lost and field in found.change
    assert report.preprocess == RIGHT or np.allclose(report.preprocess.mean, RIGHT.mean)  # type: ignore[union-attr]


def test_what_the_graph_normalises_again_is_shown_by_the_file(tmp_path: Path) -> None:
    path = network(tmp_path / "m.onnx", inside=True)
    report = zoo.check(path, photos(6, seed=2))
    assert [finding.fault for finding in report.findings] == ["normalised twice"], report.lines()
    assert "the graph itself computes the same" in report.findings[0].right
    factor, shift = input_affine(onnx.load(path)) or (None, None)
    assert np.allclose(factor, 1 / np.array(RIGHT.std)) and np.allclose(
        shift, -np.array(RIGHT.mean) / RIGHT.std
    )
    assert arithmetic_on_input(onnx.load(path)) == ["Sub", "Div"]


@pytest.mark.parametrize("roll", [1, -1])
def test_labels_shifted_by_one(roll: int, tmp_path: Path) -> None:
    report = zoo.check(network(tmp_path / "m.onnx", roll=roll), photos(6, seed=2))
    assert [finding.fault for finding in report.findings] == ["labels shifted by one"]
    assert report.shift == -roll and report.findings[0].accuracy_before < 0.1


def test_two_faults_at_once(tmp_path: Path) -> None:
    path = network(tmp_path / "m.onnx", preprocess=RIGHT.at_size(256), roll=1)
    report = zoo.check(path, photos(6, seed=2))
    assert [finding.fault for finding in report.findings] == ["labels shifted by one", "wrong size"]
    assert report.findings[1].accuracy_after > 0.9


def test_a_network_that_knows_nothing_is_unclear(tmp_path: Path) -> None:
    images, labels = photos(6, seed=2)
    shuffled = list(np.random.default_rng(3).permutation(labels))
    report = zoo.check(network(tmp_path / "m.onnx"), (images, shuffled))
    assert report.verdict == "unclear" and report.conclusion().startswith("Unclear")


def test_examples_are_drawn_from_all_classes(tmp_path: Path) -> None:
    report = zoo.check(network(tmp_path / "m.onnx"), photos(6, seed=2), examples=12)
    assert report.examples == 12 and report.accuracy > 0.8, report.lines()
    with pytest.raises(InputError, match="at least 2"):
        zoo.check(network(tmp_path / "m.onnx"), photos(2, seed=2), examples=1)


# --- the statistics
def test_mcnemar_is_the_binomial_tail() -> None:
    assert mcnemar(0, 0) == 1.0 and mcnemar(5, 0) == 1 / 32 and mcnemar(0, 5) == 1.0
    assert mcnemar(8, 2) == pytest.approx(56 / 1024)
    assert mcnemar(3000, 2000) < 1e-40
    count = fewest_gained(18)
    assert mcnemar(count, 0) * 2 * 18 <= 0.01 < mcnemar(count - 1, 0) * 2 * 18


def test_being_surer_of_the_same_answers_changes_nothing() -> None:
    rng = np.random.default_rng(0)
    logits, targets = rng.normal(0, 1, (50, 5)).astype(np.float32), rng.integers(0, 5, 50)
    logits[np.arange(50), targets] += 1
    one, ten = Outcome.of(logits, targets, 0), Outcome.of(10 * logits, targets, 0)
    assert one.log_loss == pytest.approx(ten.log_loss, rel=1e-4)
    assert one.log_loss < min(
        np.log(5) - 0.05, -np.log(softmax(logits)[np.arange(50), targets]).mean() + 1e-6
    )
    compared = Comparison.of(ten, one)
    assert compared.gain == 0 and not compared.alarms("values", 1)


# --- classes of the data and outputs of the model
def test_targets_by_name_by_number_and_in_order() -> None:
    def data(*classes: str) -> Dataset:
        return open_data((["a"] * len(classes), list(classes)), classes=classes)

    assert targets_of(data("b", "a"), ("a", "b", "c"), 3).tolist() == [1, 0]
    assert targets_of(data("7", "2"), tuple("abcdefghij"), 10).tolist() == [7, 2]
    assert targets_of(data("n01", "n02"), ("tench", "goldfish"), 2).tolist() == [0, 1]
    assert targets_of(data("n01", "n02"), None, 3).tolist() == [0, 1]
    with pytest.raises(
        DataError, match=r"classes that the model does not know: 'x', 'y'.*give their numbers"
    ):
        targets_of(data("x", "y"), tuple("abcdefghij"), 10)


# --- the command
@pytest.fixture
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    for i, (image, label) in enumerate(zip(*photos(6, seed=2), strict=True)):
        (tmp_path / "photos" / label).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(tmp_path / "photos" / label / f"{i}.png")
    with installed(tmp_path / "toy-package"):
        yield


@pytest.mark.usefixtures("_folder")
def test_the_command_says_it_and_exits_with_10(capsys: pytest.CaptureFixture[str]) -> None:
    network(Path("right.onnx"))
    outcome = here(capsys, "check", "right.onnx", "photos", "--tried")
    assert outcome.code == 0 and "No fault found among" in outcome.out and "| RGB for BGR" in outcome.out
    network(Path("wrong.onnx"), preprocess=changed(channels="BGR"))
    outcome = here(capsys, "check", "wrong.onnx", "photos")
    assert outcome.code == 10, outcome
    assert (
        "FAULT: BGR for RGB" in outcome.out
        and "to mend: in the preprocess, channels BGR -> RGB" in outcome.out
    )
    said = json.loads(here(capsys, "check", "wrong.onnx", "photos", "--json").out)
    assert said["ok"] is False and said["findings"][0]["fault"] == "BGR for RGB"


@pytest.mark.usefixtures("_folder")
def test_checks_that_cannot_be(capsys: pytest.CaptureFixture[str]) -> None:
    headless = onnx.load(network(Path("right.onnx")))
    del headless.graph.output[0]
    onnx.save(headless, "headless.onnx")
    fails(
        capsys, "Checking a model without a head", ["check", "headless.onnx", "photos"], code=2,
        says=["has no classification head, and a check needs its answers"],
    )  # fmt: skip
    network(Path("right.onnx"))
    (Path("photos") / "amber").rename(Path("photos") / "gold")
    (Path("photos") / "fern").rename(Path("photos") / "moss")
    (Path("photos") / "ebony").rename("elsewhere")
    (Path("photos") / "denim").rename("elsewhere2")
    fails(
        capsys, "Checking on other classes than the model's", ["check", "right.onnx", "photos"], code=2,
        says=["classes that the model does not know: 'gold', 'moss'"],
    )  # fmt: skip
