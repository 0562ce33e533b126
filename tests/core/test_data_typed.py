"""Parquet files and Hugging Face datasets: what the columns say is kept, photographs stay encoded, refusals."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image as Pillow

import zoo
from zoo.cards import ImagePreprocess
from zoo.data import Dataset, Input, find_parts, open_data, prepare
from zoo.data.dataset import EncodedImage
from zoo.errors import BadFilesError, DataError
from zoo.testing.toy import installed

datasets = pytest.importorskip("datasets", reason="needs the extra `train` (datasets)")
PLAIN = ImagePreprocess(8, 8, resize="exact", resize_to=(8, 8))


@pytest.fixture(autouse=True)
def _apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Arrow files go into this test's folder, and nothing goes to the network."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()


def png(level: int) -> bytes:
    file = io.BytesIO()
    Pillow.new("RGB", (12, 10), (level, 0, 255 - level)).save(file, "PNG")
    return file.getvalue()


def photographs(labels: list[int], names: tuple[str, ...] = ("wasps", "ants")) -> datasets.Dataset:
    """One photograph a label, its red level 20 x (row + 1)."""
    rows = {
        "id": [float(i) for i in range(len(labels))],
        "image": [{"bytes": png(20 * (i + 1)), "path": None} for i in range(len(labels))],
        "label": labels,
    }
    features = datasets.Features(
        {
            "id": datasets.Value("float32"),
            "image": datasets.Image(),
            "label": datasets.ClassLabel(names=list(names)),
        }
    )
    return datasets.Dataset.from_dict(rows, features=features)


def red(item: Input) -> int:
    """The red level that a network would get."""
    return round(float(prepare([item], PLAIN)["images"][0, 0].mean()) * 255)


# --- photographs
@pytest.mark.parametrize("form", ["object", "parquet", "saved", "hub folder"])
def test_photographs_keep_the_order_of_the_classes_and_stay_encoded(form: str, tmp_path: Path) -> None:
    made = photographs([0, 1, 1, 0])
    source: object = made
    if form == "parquet":
        source = tmp_path / "pets.parquet"
        made.to_parquet(str(source))
    elif form == "saved":
        source = tmp_path / "pets"
        made.save_to_disk(str(source))
    elif form == "hub folder":
        source = tmp_path / "repository"
        (source / "data").mkdir(parents=True)
        made.to_parquet(str(source / "data" / "train-00000-of-00001.parquet"))
        (source / "README.md").write_text("---\nlicense: mit\n---\n")
    data = open_data(source)  # type: ignore[arg-type]
    assert data.kind == "image" and data.classes == ("wasps", "ants"), (
        "ClassLabel's order, not the alphabet's"
    )
    assert data.targets.tolist() == [0, 1, 1, 0]
    assert all(isinstance(item, EncodedImage) for item in data.inputs)
    assert [red(item) for item in data.inputs] == [20, 40, 60, 80]
    assert [red(item) for item in data.subset([3, 0]).inputs] == [80, 20]


def test_rows_of_a_shuffled_dataset_stay_with_their_labels() -> None:
    made = photographs([0, 1, 1, 0, 1]).shuffle(seed=1).select([1, 3, 4])
    data = open_data(made)
    expected = [round(np.asarray(row["image"])[0, 0, 0].item()) for row in made]
    assert [red(item) for item in data.inputs] == expected
    assert data.targets.tolist() == made["label"][:]


def test_the_fingerprint_is_of_the_content(tmp_path: Path) -> None:
    made = photographs([0, 1, 1, 0])
    made.to_parquet(str(tmp_path / "pets.parquet"))
    before = open_data(made).fingerprint()
    assert open_data(tmp_path / "pets.parquet").fingerprint() == before
    assert open_data(made.select([1, 0, 2, 3])).fingerprint() != before


def test_bytes_without_a_type_and_paths_in_a_column(tmp_path: Path) -> None:
    frame = pd.DataFrame({"photo": [png(20), png(40)], "label": ["b", "a"]})
    frame.to_parquet(tmp_path / "plain.parquet")
    data = open_data(tmp_path / "plain.parquet")
    assert data.classes == ("a", "b") and data.targets.tolist() == [1, 0]
    assert [red(item) for item in data.inputs] == [20, 40]
    (tmp_path / "1.png").write_bytes(png(60))
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
    rows = {"image": [{"bytes": None, "path": str(tmp_path / f"{i}.png")} for i in (1, 1)], "label": [3, 4]}
    data = open_data(datasets.Dataset.from_dict(rows, features=features))
    assert data.classes == ("3", "4") and red(data.inputs[1]) == 60


def test_rows_that_are_no_photographs_are_all_named() -> None:
    made = photographs([0, 1, 1, 0, 1, 0])
    rows = made.to_dict()
    rows["image"][1] = {"bytes": b"GIF89a..", "path": None}
    rows["image"][2] = None
    rows["image"][3] = {"bytes": png(9)[:40], "path": None}
    rows["image"][4] = {"bytes": None, "path": "gone.png"}
    rows["label"][5] = -1
    broken = datasets.Dataset.from_dict(rows, features=made.features)
    with pytest.raises(BadFilesError) as caught:
        open_data(broken)
    text = str(caught.value)
    assert "5 of 6 rows in the given data cannot be used" in text
    for words in (
        "row 2: is a GIF",
        "row 3: is empty",
        "row 4:",
        "row 5: cannot be opened",
        "row 6: has no label",
    ):
        assert words in text, words
    with pytest.raises(DataError, match="one class only"):
        open_data(photographs([0, 0], ("only",)))


def test_fits_and_evaluates_on_its_splits(tmp_path: Path) -> None:
    made = photographs([0, 1] * 6)
    parts = datasets.DatasetDict(train=made, validation=made.select(range(4)), test=made.select(range(6)))
    parts.save_to_disk(str(tmp_path / "pets"))
    with installed(tmp_path / "toy-package"):
        model = zoo.get("toy:tiny")
        history = model.fit(tmp_path / "pets", recipe=zoo.Recipe(epochs=2), progress=False)
        assert model.labels == ("wasps", "ants") and history.epochs[0]["validation_loss"] is not None
        assert model.evaluate(tmp_path / "pets")["n"] == 6


# --- texts
def test_texts_with_class_names(tmp_path: Path) -> None:
    features = datasets.Features(
        {"idx": datasets.Value("int32"), "sentence": datasets.Value("string"),
         "label": datasets.ClassLabel(names=["positive", "negative"])}
    )  # fmt: skip
    rows = {"idx": [0, 1, 2], "sentence": ["so good", "so bad", "good"], "label": [0, 1, 0]}
    made = datasets.Dataset.from_dict(rows, features=features)
    made.to_parquet(str(tmp_path / "reviews.parquet"))
    data = open_data(tmp_path / "reviews.parquet")
    assert data.kind == "text" and data.classes == ("positive", "negative")
    assert list(data.inputs) == rows["sentence"] and data.targets.tolist() == [0, 1, 0]
    assert data.source.endswith("reviews.parquet (text: sentence, label: label)")


def test_two_columns_of_text_are_asked_about() -> None:
    rows = {"premise": ["a b", "c d"], "hypothesis": ["e f", "g h"], "label": ["x", "y"]}
    made = datasets.Dataset.from_dict(rows)
    with pytest.raises(DataError, match=r"no text column.*'premise', 'hypothesis', 'label'.*text=NAME"):
        open_data(made)
    assert list(open_data(made, text="premise").inputs) == ["a b", "c d"]
    with pytest.raises(DataError, match=r"no column 'premisse'.*Did you mean 'premise'"):
        open_data(made, text="premisse")


def test_the_kind_is_the_models() -> None:
    with pytest.raises(DataError, match="holds images, and the model reads texts"):
        open_data(photographs([0, 1]), kind="text")
    texts = datasets.Dataset.from_dict({"text": ["a b", "c d"], "label": [0, 1]})
    with pytest.raises(DataError, match="holds texts, and the model reads images"):
        open_data(texts, kind="image")


# --- splits
def test_a_test_split_without_labels_is_no_part() -> None:
    splits = datasets.DatasetDict(
        train=photographs([0, 1]), validation=photographs([1, 0]), test=photographs([-1, -1])
    )
    parts = find_parts(splits)
    assert parts.test is None and parts.validation is not None
    assert open_data(parts.to_judge()).targets.tolist() == [1, 0]


def test_splits_by_other_names_are_not_guessed() -> None:
    made = photographs([0, 1])
    with pytest.raises(
        DataError, match=r"splits called fold0, fold1, none of them train, validation or test"
    ):
        find_parts(datasets.DatasetDict(fold0=made, fold1=made))
    with pytest.raises(DataError, match=r"two validation parts, validation and dev"):
        find_parts(datasets.DatasetDict(train=made, validation=made, dev=made))
    with pytest.raises(DataError, match=r"holds parts of a data set \(train, test\)"):
        open_data(datasets.DatasetDict(train=made, test=made))


def test_one_split_is_a_whole() -> None:
    parts = find_parts(datasets.DatasetDict(train=photographs([0, 1])))
    assert parts.whole and len(open_data(parts.to_judge())) == 2


# --- refusals
def test_what_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "bad.parquet").write_bytes(b"PAR0 no table")
    with pytest.raises(DataError, match=r"cannot read .*bad\.parquet: .*Check that the files are whole"):
        open_data(tmp_path / "bad.parquet")
    with pytest.raises(DataError, match=r"cannot get the data set nobody/nothing from the Hugging Face Hub"):
        open_data("hf:nobody/nothing")
    with pytest.raises(DataError, match=r"write hf:org/name\[,config=NAME\]"):
        open_data("hf:nobody/nothing,subset=x")
    with pytest.raises(DataError, match=r"load it without streaming=True"):
        open_data(photographs([0, 1]).to_iterable_dataset())  # type: ignore[arg-type]


def test_columns_that_are_not_there() -> None:
    made = photographs([0, 1])
    with pytest.raises(
        DataError, match=r"found no label column\. Its columns are 'id' \(float32\), 'image' \(image\)"
    ):
        open_data(made.remove_columns("label"))
    with pytest.raises(DataError, match=r"no column 'lable'.*Did you mean 'label'"):
        open_data(made, label="lable")
    with pytest.raises(DataError, match=r"several columns of photographs: 'left', 'right'"):
        open_data(
            made.add_column("left", [png(1)] * 2).add_column("right", [png(1)] * 2).remove_columns("image")
        )


def test_opened_data_passes_through() -> None:
    data = open_data(photographs([0, 1]))
    assert isinstance(data, Dataset) and open_data(data) is data
