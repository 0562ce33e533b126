"""Data that comes in parts is used as it was given, and labels that are no classes are refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from errors_table import fails, here, photographs
from PIL import Image

import zoo
from zoo import choose
from zoo.data import find_parts, open_data
from zoo.errors import DataError, InputError
from zoo.testing.toy import installed

TOY = "toy:tiny"


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    with installed(tmp_path / "toy-package"):
        yield


@pytest.fixture
def photos() -> Path:
    """train (12 of each class), val (5), test (3), no photograph in two of them."""
    for seed, (part, count) in enumerate((("train", 12), ("val", 5), ("test", 3))):
        photographs(Path("photos") / part, count=count, seed=seed)
    return Path("photos")


# --- finding
def test_folders_called_train_val_test(photos: Path) -> None:
    parts = find_parts(photos)
    assert (parts.train, parts.validation, parts.test) == tuple(photos / p for p in ("train", "val", "test"))
    assert not parts.whole and parts.to_judge() == photos / "test"
    assert parts.to_judge("validation") == photos / "val"
    assert find_parts(photos / "val").whole and find_parts(photos / "val").to_judge("test") == photos / "val"


def test_tables_called_train_dev_test() -> None:
    for name in ("train", "dev", "test"):
        Path(f"{name}.tsv").write_text("good film\t1\nbad film\t0\n")
    Path("README.md").write_text("about")
    parts = find_parts(".")
    assert [Path(str(p)).name for p in (parts.train, parts.validation, parts.test)] == [
        "train.tsv", "dev.tsv", "test.tsv",
    ]  # fmt: skip
    with pytest.raises(DataError, match=r"holds parts of a data set \(dev\.tsv, test\.tsv, train\.tsv\)"):
        open_data(".")


def test_parts_that_are_not_there(photos: Path) -> None:
    with pytest.raises(DataError, match="has no part to train on, only validation"):
        find_parts(_only("val")).to_train()
    alone = find_parts(_only("train"))
    with pytest.raises(DataError, match=r"not judged on what it learned from.*part='train'"):
        alone.to_judge()
    assert alone.to_judge("train") == Path("only-train/train")
    with pytest.raises(DataError, match="has no test part: it has train"):
        alone.to_judge("test")
    with pytest.raises(InputError, match="part 'dev': train, validation, test"):
        find_parts(photos).to_judge("dev")  # type: ignore[arg-type]


def _only(part: str) -> Path:
    photographs(Path(f"only-{part}") / part)
    return Path(f"only-{part}")


def test_two_parts_of_one_role(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photographs(photos / "dev")
    fails(
        capsys, "Two validation parts in one folder", ["train", TOY, "photos", "-o", "runs/mine"], code=2,
        says=["photos has two validation parts, dev and val: rename or remove one"],
    )  # fmt: skip


# --- using
def test_train_trains_val_validates_and_test_is_not_touched(photos: Path) -> None:
    for file in (photos / "test").rglob("*.png"):
        file.write_bytes(b"training must not even look at this")
    model = zoo.get(TOY)
    history = model.fit(photos, recipe=zoo.Recipe(epochs=1, batch_size=24), progress=False)
    assert len(history.losses) == 1, "24 examples are the train part"
    given = zoo.get(TOY).fit(
        photos / "train", photos / "val", zoo.Recipe(epochs=1, batch_size=24), progress=False
    )
    assert history.epochs[0]["validation_loss"] == given.epochs[0]["validation_loss"] is not None
    other = zoo.get(TOY).fit(photos, photos / "train", zoo.Recipe(epochs=1, batch_size=24), progress=False)
    assert other.epochs[0]["validation_loss"] != history.epochs[0]["validation_loss"], "what is given wins"


def test_evaluate_takes_the_test_part(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = zoo.get(TOY, num_classes=2)
    assert model.evaluate(photos)["n"] == 6
    assert here(capsys, "train", TOY, "photos", "--epochs", "1", "-o", "runs/mine").code == 0
    assert "examples  6 of photos/test" in here(capsys, "evaluate", "runs/mine", "photos").out
    said = here(capsys, "evaluate", "runs/mine", "photos", "--part", "validation").out
    assert "examples  10 of photos/val" in said


def test_select_keeps_the_test_part_for_the_end(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked = _watch(monkeypatch)
    chosen = zoo.select(photos, candidates=[TOY])
    assert chosen.test["n"] == 6, "the given test part, all of it"
    assert "on the validation part on 10 examples" in chosen.why
    assert looked[-1] == 6 and looked.count(6) == 1, f"passes over {looked} inputs: the test part once, last"


def _watch(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many inputs every pass over data had."""
    looked: list[int] = []
    real: Callable[..., object] = zoo.OnnxModel._over

    def over(model: zoo.OnnxModel, inputs: list[object], *rest: object) -> object:
        looked.append(len(inputs))
        return real(model, inputs, *rest)

    monkeypatch.setattr(zoo.OnnxModel, "_over", over)
    return looked


def test_select_without_a_validation_part_cross_validates_on_train(photos: Path) -> None:
    (photos / "val").rename("elsewhere")
    chosen = zoo.select(photos, candidates=[TOY], folds=3)
    assert "cross-validated on 24 examples" in chosen.why and chosen.test["n"] == 6
    assert zoo.select(photos, validation="elsewhere", candidates=[TOY]).why.count("on 10 examples")


def test_compare_judges_on_the_validation_part(photos: Path) -> None:
    comparison = zoo.compare([TOY], photos)
    assert comparison.notes[0].startswith("Accuracy on the 10 examples of photos/val")
    assert "Probes learned from the 24 examples of photos/train." in comparison.notes
    assert comparison.rows[0].reason == "linear probe"


def test_plan_counts_the_train_part(photos: Path) -> None:
    assert choose.plan(photos, candidates=[TOY]).examples == 24


def test_a_fraction_beside_a_validation_part(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fails(
        capsys, "Validation fraction of data that has a validation part",
        ["train", TOY, "photos", "--validation-fraction", "0.2", "-o", "runs/mine"], code=2,
        says=["photos has a validation part of its own"],
    )  # fmt: skip


def test_train_part_only_to_judge_on(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for part in ("val", "test"):
        (photos / part).rename(part)
    assert here(capsys, "train", TOY, "photos", "--epochs", "1", "-o", "runs/mine").code == 0
    fails(
        capsys, "Judging on a train part", ["evaluate", "runs/mine", "photos"], code=2,
        says=["a model is not judged on what it learned from"],
    )  # fmt: skip


# --- labels that are no classes
JOINED = "text,label\ngood game,sport\nvote now,politics\nboth here,sport|politics\nmore of it,sport\n"
INDICATORS = "comment,toxic,rude\ngo away now,1,0\nwell done you,0,0\nget out fool,1,1\nvery nice day,0,0\n"
DECIMAL = "text,score\ngood film,4.5\nbad film,1.25\nfine film,3.0\n"


@pytest.mark.parametrize(
    ("case", "content", "says"),
    [
        ("Several labels in a cell (multi-label)", JOINED, "joined in one cell ('sport|politics')"),
        ("A column of 0 and 1 for each class (multi-label)", INDICATORS, "0 and 1 ('toxic', 'rude')"),
        ("Decimal numbers as labels (regression)", DECIMAL, "the labels are decimal numbers (4.5)"),
    ],
)
def test_targets_that_are_refused(
    case: str, content: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("mine.csv").write_text(content)
    label = ["--label", "score"] if "score" in content else []
    fails(capsys, case, ["train", "toy:words", "mine.csv", *label, "-o", "runs/mine"], code=2, says=[says])


def test_lists_as_labels_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.jsonl").write_text('{"text": "a b", "label": ["x"]}\n{"text": "c d", "label": ["x", "y"]}\n')
    fails(
        capsys, "Lists of labels (multi-label)", ["train", "toy:words", "mine.jsonl", "-o", "runs/mine"],
        code=2, says=["the labels of an example are a list (['x'])"],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (np.array([[0, 1], [1, 1], [0, 0]]), r"array of shape \[3, 2\], so the data is multi-label"),
        (np.array([[0], [1], [0]]), r"Give one axis: labels\[:, 0\]"),
        ([{"a"}, {"a", "b"}, set()], "multi-label"),
        (["['a']", "['a', 'b']", "[]"], "multi-label"),
        (np.array([1.0, 2.0, 1.0]), "write 2 for 2.0 where they are classes"),
        (["1.5", "2", "3"], r"decimal numbers \(1\.5\)"),
    ],
)
def test_arrays_of_other_targets(labels: object, words: str) -> None:
    with pytest.raises(DataError, match=words):
        open_data((["a", "b", "c"], labels))


@pytest.mark.parametrize(
    "labels",
    [
        ["tench, Tinca tinca", "goldfish, Carassius auratus", "tench, Tinca tinca"],
        ["yes; no doubt", "no", "no"],
        ["1.0", "2.0", "1.0"],
        ["[draft]", "final", "final"],
        ["v1.5", "v2.5", "v1.5"],
    ],
)
def test_class_names_that_only_look_like_it(labels: list[str]) -> None:
    assert len(open_data((["a b", "c d", "e f"], labels)).classes) == 2


# --- tables of photographs
def test_a_table_of_photographs(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for i in range(4):
        Image.new("RGB", (9, 9), (60 * i, 0, 0)).save(tmp_path / "data" / f"{i}.png")
    table = tmp_path / "data" / "labels.csv"
    table.write_text("file,class_index,label\n0.png,7,ants\n1.png,7,ants\n2.png,3,bees\n3.png,3,bees\n")
    data = open_data(table)
    assert data.kind == "image" and data.inputs[0] == tmp_path / "data" / "0.png"
    assert open_data(table, label="class_index").classes == ("3", "7")
    (tmp_path / "data" / "3.png").unlink()
    with pytest.raises(DataError, match=r"1 of 4 rows .*\n.*3\.png: cannot be opened"):
        open_data(table)
    (tmp_path / "words.csv").write_text("text,label\na b,x\nc d,y\n")
    with pytest.raises(DataError, match="names no photographs"):
        open_data(tmp_path / "words.csv", kind="image")


@pytest.mark.shared
def test_hymenoptera_and_sst2_as_they_come(shared: Path) -> None:
    parts = find_parts(shared / "data/hymenoptera")
    assert len(open_data(parts.to_judge())) == 153 and parts.test is None
    parts = find_parts(shared / "data/sst2")
    assert [len(open_data(p)) for p in (parts.to_train(), parts.validation, parts.test) if p] == [
        6920,
        872,
        1821,
    ]
