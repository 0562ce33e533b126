"""Opening folders and arrays: what is found, what is named, and what each error tells the user to do."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from zoo.data import Dataset, open_data, open_inputs
from zoo.errors import BadFilesError, DataError, InputError


def photo(path: Path, colour: str = "green") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (12, 10), colour).save(path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes, with what real folders have lying about."""
    root = tmp_path / "photos"
    for name in ("cats/2.jpg", "cats/1.jpg", "dogs/a.png", "dogs/deeper/b.webp", "dogs/C.JPEG"):
        photo(root / name)
    for name in (".DS_Store", "cats/.DS_Store", "cats/Thumbs.db", "__MACOSX/cats/._1.jpg", ".hidden/x.jpg"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"\0\1junk")
    (root / "README.txt").write_text("about these photographs")
    return root


# --- image folders
def test_folder_gives_sorted_classes_and_files_without_hidden_ones(folder: Path) -> None:
    data = open_data(str(folder))
    assert data.kind == "image" and data.classes == ("cats", "dogs") and data.bad == ()
    found = [str(Path(str(p)).relative_to(folder)) for p in data.inputs]
    assert found == ["cats/1.jpg", "cats/2.jpg", "dogs/C.JPEG", "dogs/a.png", "dogs/deeper/b.webp"]
    assert data.targets.tolist() == [0, 0, 1, 1, 1] and data.targets.dtype == np.int64
    assert data.source == str(folder)


def test_fail_lists_all_bad_files_and_the_cure(folder: Path) -> None:
    (folder / "cats/empty.jpg").write_bytes(b"")
    (folder / "cats/notes.txt").write_text("no image")
    Image.new("P", (9, 9)).save(folder / "dogs/none.gif")
    photo(folder / "loose.jpg")
    with pytest.raises(BadFilesError) as caught:
        open_data(folder)
    names = [Path(name).name for name, _ in caught.value.files]
    assert sorted(names) == ["empty.jpg", "loose.jpg", "none.gif", "notes.txt"]
    text = str(caught.value)
    assert f"4 of 9 files in {folder} cannot be used" in text and "--on-error skip" in text
    for words in ("is empty (0 bytes)", "is no JPEG", "is a GIF", "outside the class folders"):
        assert words in text


def test_skip_leaves_them_out_and_keeps_them_in_the_report(folder: Path) -> None:
    (folder / "cats/empty.jpg").write_bytes(b"")
    data = open_data(folder, on_error="skip")
    assert len(data) == 5
    assert data.bad == ((str(folder / "cats/empty.jpg"), "is empty (0 bytes)"),)


def test_on_error_has_two_values(folder: Path) -> None:
    with pytest.raises(InputError, match="'fail' or 'skip'"):
        open_data(folder, on_error="ignore")  # type: ignore[arg-type]


def test_parts_are_no_classes(folder: Path, tmp_path: Path) -> None:
    root = tmp_path / "parts"
    root.mkdir()
    for name in ("train", "val"):
        photo(root / name / "cats/1.jpg")
    with pytest.raises(
        DataError, match=r"parts of a data set \(train, val\), not classes.*parts/train or .*parts/val"
    ):
        open_data(root)


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    for name in ("train", "plane"):
        photo(tmp_path / name / "1.jpg")
    assert open_data(tmp_path).classes == ("plane", "train")


def test_empty_folder_says_what_it_should_look_like(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"holds no class folders: it is empty.*one folder of photographs for each"
    ):
        open_data(tmp_path)


def test_one_class_is_not_enough(tmp_path: Path) -> None:
    photo(tmp_path / "cats/1.jpg")
    with pytest.raises(DataError, match=r"one class only \('cats'\): a classifier needs at least two"):
        open_data(tmp_path)


def test_class_without_a_usable_photograph_is_named(folder: Path) -> None:
    (folder / "birds").mkdir()
    (folder / "birds/1.jpg").write_bytes(b"")
    with pytest.raises(DataError, match="no usable photograph in 'birds'"):
        open_data(folder, on_error="skip")


def test_folders_without_any_photograph(tmp_path: Path) -> None:
    (tmp_path / "cats").mkdir()
    (tmp_path / "dogs").mkdir()
    with pytest.raises(DataError, match="holds no usable example"):
        open_data(tmp_path)


def test_missing_path_suggests_its_neighbour(folder: Path) -> None:
    with pytest.raises(DataError, match=r"no such file or folder: .*photo\. Did you mean .*photos\?"):
        open_data(folder.parent / "photo")


def test_links_are_followed_and_circles_are_not(folder: Path, tmp_path: Path) -> None:
    store = photo(tmp_path / "store/9.jpg")
    (folder / "cats/9.jpg").symlink_to(store)
    (folder / "dogs/around").symlink_to(folder)
    assert len(open_data(folder)) == 6
    assert folder / "cats/9.jpg" in open_data(folder).inputs


def test_validation_takes_the_order_of_the_training_classes(folder: Path) -> None:
    data = open_data(folder, classes=("dogs", "birds", "cats"))
    assert data.classes == ("dogs", "birds", "cats") and set(data.targets.tolist()) == {0, 2}
    with pytest.raises(DataError, match=r"labels that the model does not know: 'dogs'.*Did you mean 'dog'"):
        open_data(folder, classes=("cats", "dog"))


def test_folder_is_not_text_and_other_files_are_no_data(folder: Path) -> None:
    with pytest.raises(DataError, match=r"is a folder: texts come as a \.csv"):
        open_data(folder, kind="text")
    with pytest.raises(DataError, match="is no data set: give a folder"):
        open_data(folder / "README.txt")


def test_fingerprint_follows_the_files_not_their_place(folder: Path, tmp_path: Path) -> None:
    before = open_data(folder).fingerprint()
    moved = folder.rename(tmp_path / "elsewhere")
    data = open_data(moved)
    assert data.fingerprint() == before
    file = Path(str(data.inputs[0]))
    status, content = file.stat(), file.read_bytes()
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert data.fingerprint() == before, "content counts, not its age"
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert data.fingerprint() != before, "also under equal size and time"
    file.unlink()
    with pytest.raises(BadFilesError, match=r"1\.jpg: No such file.*open the data again"):
        data.fingerprint()


# --- pairs
def test_texts_and_labels() -> None:
    data = open_data((["a b", "c", "d"], ["x", "y", "x"]))
    assert data.kind == "text" and data.classes == ("x", "y") and data.targets.tolist() == [0, 1, 0]


def test_integer_labels_are_sorted_as_numbers() -> None:
    assert open_data((["a", "b", "c"], [10, 9, -1])).classes == ("-1", "9", "10")
    assert open_data((np.array(["a", "b"]), np.array([3, 20]))).classes == ("3", "20")
    assert open_data((["a", "b", "c"], ["10", "9", "x"])).classes == ("10", "9", "x")


def test_columns_of_a_data_frame() -> None:
    frame = pd.DataFrame({"text": ["a", "b", None], "label": ["x", "y", "x"]}, index=[5, 6, 7])
    with pytest.raises(
        BadFilesError, match=r"1 of 3 inputs in the given arrays.*\n  input 2: has an empty text"
    ):
        open_data((frame["text"], frame["label"]))
    assert len(open_data((frame["text"], frame["label"]), on_error="skip")) == 2


def test_images_as_arrays_pil_and_paths(tmp_path: Path) -> None:
    stack = np.random.default_rng(0).integers(0, 255, (4, 6, 7, 3), dtype=np.uint8)
    assert open_data((stack, [0, 1, 0, 1])).kind == "image"
    mixed = [stack[0], Image.new("RGB", (5, 5)), photo(tmp_path / "a.jpg"), str(tmp_path / "a.jpg")]
    data = open_data((mixed, [0, 1, 0, 1]), kind="image")
    assert data.kind == "image" and len(data) == 4
    assert open_data(([str(tmp_path / "a.jpg")] * 2, [0, 1])).kind == "image"
    prints = {data.fingerprint(), open_data((stack, [0, 1, 0, 1])).fingerprint()}
    changed = stack.copy()
    changed[3, 0, 0, 0] ^= 1
    assert open_data((changed, [0, 1, 0, 1])).fingerprint() not in prints


def test_bad_inputs_of_a_pair_are_all_listed(tmp_path: Path) -> None:
    inputs = [np.zeros((4, 4), np.float32), tmp_path / "gone.jpg", np.zeros((4, 4), np.uint8), 7]
    with pytest.raises(BadFilesError) as caught:
        open_data((inputs, [0, 1, 1, 0]))
    assert [name for name, _ in caught.value.files] == ["input 0", str(tmp_path / "gone.jpg"), "input 3"]


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ([1], "3 inputs and 1 labels"),
        ([0.5, 1.5, 2.5], r"decimal numbers \(0\.5\).*Regression is not offered"),
        ([1, None, 0], "input 1: has no label"),
        ([1, float("nan"), 0], "input 1: has no label"),
        (["a", " ", "b"], "input 1: has no label"),
        (np.eye(3), r"\[3, 3\], one-hot.*argmax\(axis=1\)"),
        ("abc", "labels is a single str"),
        ([1, 1, 1], "one class only"),
    ],
)
def test_labels_that_cannot_be(labels: object, words: str) -> None:
    with pytest.raises(DataError, match=words):
        open_data((["a", "b", "c"], labels))


def test_a_dataset_passes_through_and_takes_another_order() -> None:
    data = open_data((["a", "b"], ["x", "y"]))
    assert open_data(data) is data
    turned = open_data(data, classes=("y", "x"))
    assert isinstance(turned, Dataset) and turned.targets.tolist() == [1, 0]


@pytest.mark.parametrize("data", [42, (1, 2, 3), None])
def test_other_things_are_no_data(data: object) -> None:
    with pytest.raises(DataError, match="give a "):
        open_data(data)  # type: ignore[arg-type]


# --- inputs
def test_image_inputs(folder: Path) -> None:
    assert open_inputs(str(folder / "cats/1.jpg"), kind="image") == [folder / "cats/1.jpg"]
    names = [Path(str(p)).name for p in open_inputs(folder, kind="image")]
    assert names == ["1.jpg", "2.jpg", "C.JPEG", "a.png", "b.webp"]
    pixels = np.zeros((5, 6, 3), np.uint8)
    assert len(open_inputs(pixels, kind="image")) == 1 and len(open_inputs(pixels[None], kind="image")) == 1
    image = Image.new("L", (5, 5))
    assert open_inputs(image, kind="image") == [image]
    assert open_inputs([str(folder / "cats/1.jpg"), image], kind="image") == [folder / "cats/1.jpg", image]


def test_image_inputs_that_cannot_be(folder: Path) -> None:
    with pytest.raises(BadFilesError) as caught:
        open_inputs([folder / "gone.jpg", np.zeros((4, 4)), folder / "cats/1.jpg"], kind="image")
    assert [name for name, _ in caught.value.files] == [str(folder / "gone.jpg"), "input 1"]
    with pytest.raises(DataError, match="no such file"):
        open_inputs("nowhere.jpg", kind="image")
    (folder / "none").mkdir()
    with pytest.raises(DataError, match="holds no photographs"):
        open_inputs(folder / "none", kind="image")


def test_text_inputs(tmp_path: Path) -> None:
    assert open_inputs("my parcel never came", kind="text") == ["my parcel never came"]
    assert open_inputs(["a", ""], kind="text") == ["a", ""]
    assert open_inputs(np.array(["a", "b"]), kind="text") == ["a", "b"]
    lines, table = tmp_path / "lines.txt", tmp_path / "table.csv"
    lines.write_text("one\n\ntwo\n")
    table.write_text("id,message\n1,hello there\n2,good bye\n")
    assert open_inputs(lines, kind="text") == ["one", "two"]
    assert open_inputs(str(table), kind="text") == ["hello there", "good bye"]
    assert open_inputs("gone.csv", kind="text") == ["gone.csv"], "a text may look like a file name"
    with pytest.raises(DataError, match="input 1 is a int, and this model takes texts"):
        open_inputs(["a", 1], kind="text")


# --- real data
@pytest.mark.shared
def test_hymenoptera_names_its_one_gif_and_skip_leaves_the_rest(shared: Path) -> None:
    root = shared / "data/hymenoptera"
    with pytest.raises(BadFilesError) as caught:
        open_data(root / "train")
    assert [Path(name).name for name, _ in caught.value.files] == ["imageNotFound.gif"]
    train = open_data(root / "train", on_error="skip")
    val = open_data(root / "val", classes=train.classes)
    assert (len(train), len(val)) == (244, 153) and train.classes == ("ants", "bees")
    assert len(train.bad) == 1 and val.bad == ()
    with pytest.raises(DataError, match=r"parts of a data set \(train, val\)"):
        open_data(root)
