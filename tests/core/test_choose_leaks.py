"""Equal inputs: found by content, kept where they are judged on, never parted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from errors_table import COLOURS, photographs
from PIL import Image

from zoo.choose import leaks
from zoo.choose.leaks import groups_of, without_leaks
from zoo.choose.parts import DataOptions, Judged, open_parts
from zoo.data import Dataset, open_data
from zoo.errors import DataError


def texts(pairs: list[tuple[str, int]]) -> Dataset:
    return Dataset(
        "text", [t for t, _ in pairs], np.array([c for _, c in pairs]), ("no", "yes"), "tickets.csv"
    )


def test_texts_are_equal_but_for_case_and_spacing() -> None:
    found = groups_of(["Where is it?", "other", "where  is it? ", "caf\u00e9", "cafe\u0301", "WHERE IS IT"])
    assert found.tolist() == [0, 1, 0, 2, 2, 3]


def test_photographs_are_equal_by_file_and_by_pixels(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (9, 7, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    image.save(tmp_path / "a.png")
    (tmp_path / "copy.png").write_bytes((tmp_path / "a.png").read_bytes())
    image.save(tmp_path / "b.bmp")
    turned = Image.Exif()
    turned[0x0112] = 3
    image.rotate(180).save(tmp_path / "turned.png", exif=turned)
    pixels[0, 0, 0] ^= 1
    Image.fromarray(pixels).save(tmp_path / "other.png")
    paths = [tmp_path / name for name in ("a.png", "copy.png", "b.bmp", "turned.png", "other.png")]
    assert groups_of(paths).tolist() == [0, 0, 0, 0, 1]


def test_of_very_many_photographs_only_files_are_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = Image.fromarray(np.zeros((8, 8, 3), np.uint8))
    for name in ("a.png", "b.bmp"):
        image.save(tmp_path / name)
    monkeypatch.setattr(leaks, "PIXELS_UP_TO", 1)
    assert groups_of([tmp_path / "a.png", tmp_path / "b.bmp"]).tolist() == [0, 1]


def test_the_test_part_stays_and_what_is_learned_from_loses_the_copies() -> None:
    train = texts([("a", 0), ("b", 1), ("c", 0), ("d", 1), ("e", 0), ("f", 1)])
    validation = texts([("B ", 1), ("v", 0), ("w", 1), ("t", 0)])
    test = texts([("A", 1), ("t", 0), ("u", 1)])
    clean = without_leaks(train, validation, test)
    assert list(clean.train.inputs) == ["c", "d", "e", "f"]
    assert clean.validation is not None and list(clean.validation.inputs) == ["B ", "v", "w"]
    assert clean.test is not None and list(clean.test.inputs) == ["A", "t", "u"]
    said = "\n".join(clean.notes)
    assert "1 of 6 training examples are in the test part too" in said
    assert "'a' = 'A' (labelled no here, yes there)" in said
    assert "training examples are in the validation part too" in said
    assert "1 of 4 validation examples are in the test part too" in said and "'t' = 't'" in said


def test_copies_within_the_training_part_are_kept_together_and_told() -> None:
    train = texts([("a", 0), ("a", 0), ("b", 1), ("c", 0), ("B", 0), ("d", 1)])
    clean = without_leaks(train, None, None)
    assert len(clean.train) == 6
    assert clean.groups.tolist() == [0, 0, 1, 2, 1, 3]
    said = "\n".join(clean.notes)
    assert "1 input(s) are in the training part with different labels: 'b' as yes and no" in said
    assert "2 training example(s) are copies of others" in said


def test_nothing_equal_nothing_said() -> None:
    clean = without_leaks(texts([("a", 0), ("b", 1)]), None, texts([("c", 0), ("d", 1)]))
    assert clean.notes == () and clean.groups.tolist() == [0, 1]


def test_the_same_data_on_both_sides_is_refused() -> None:
    same = texts([("a", 0), ("b", 1)])
    with pytest.raises(DataError, match="every one of the 2 training examples is in the test part too"):
        without_leaks(same, None, same)
    with pytest.raises(DataError, match="every training example of 'yes' is in the validation or test part"):
        without_leaks(texts([("a", 0), ("b", 1)]), None, texts([("b", 1), ("c", 0)]))


def test_opened_parts_are_without_leaks_and_no_fold_parts_a_pair(tmp_path: Path) -> None:
    photographs(tmp_path / "data" / "train", count=12)
    photographs(tmp_path / "data" / "test", count=4, seed=1)
    for i in range(3):
        leaked = (tmp_path / "data" / "test" / "ants" / f"{i}.png").read_bytes()
        (tmp_path / "data" / "train" / "ants" / f"leak{i}.png").write_bytes(leaked)
        twin = (tmp_path / "data" / "train" / "bees" / f"{i}.png").read_bytes()
        (tmp_path / "data" / "train" / "bees" / f"twin{i}.png").write_bytes(twin)
    parts = open_parts(tmp_path / "data", None, None, options=DataOptions(), folds=4, seed=0)
    assert len(parts.train) == 24 + 3 and len(parts.test) == 8
    assert any("3 of 30 training examples are in the test part too" in note for note in parts.notes)
    judged = Judged.of(parts.train, None, folds=4, seed=0, groups=parts.groups)
    for fitted, held in judged.splits:
        assert not set(parts.groups[fitted]) & set(parts.groups[held])


def test_the_part_held_out_for_the_test_holds_no_twin_of_the_rest(tmp_path: Path) -> None:
    photographs(data := tmp_path / "data", count=10)
    for name in COLOURS:
        for i in range(10):
            (data / name / f"twin{i}.png").write_bytes((data / name / f"{i}.png").read_bytes())
    parts = open_parts(data, None, None, options=DataOptions(), folds=4, seed=0)
    own, held = groups_of(parts.train.inputs), groups_of([*parts.train.inputs, *parts.test.inputs])
    assert len(np.unique(held)) == 20 and len(np.unique(own)) == 16 and len(parts.test) == 8


def test_copies_do_not_make_up_for_examples(tmp_path: Path) -> None:
    photographs(data := tmp_path / "data", count=12)
    for path in sorted((data / "bees").iterdir())[4:]:
        path.write_bytes((data / "bees" / "0.png").read_bytes())
    with pytest.raises(DataError, match="class 'bees' has 2 training examples that are no copies of others"):
        open_parts(data, None, None, options=DataOptions(), folds=4, seed=0)
    assert len(open_data(data)) == 24
