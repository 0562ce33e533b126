"""Ids, globs, depths and files become families of candidates."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import zoo
from zoo.choose.candidates import expand
from zoo.errors import InputError, UnknownModelError
from zoo.testing.toy import installed


def names(found: list) -> list[tuple[str, tuple[int, ...] | None]]:
    return [(str(family.id), family.depths) for family in found]


def test_depths_of_one_network_are_one_family() -> None:
    found, lost = expand(["hf:bert,depth=2", "hf:bert,depth=4", "hf:bert", "hf:bert,depth=2"], "text")
    assert names(found) == [("hf:bert", (2, 4)), ("hf:bert", None)]
    assert lost == []


def test_all_depths_take_in_the_single_ones() -> None:
    found, _ = expand(["hf:bert,depth=2", "hf:bert,depth=all", "hf:bert,depth=4"], "text")
    assert names(found) == [("hf:bert", ())]


def test_globs_match_within_the_task() -> None:
    found, _ = expand(["torch:resnet[15][08]"], "image")
    assert [str(family.id) for family in found] == ["torch:resnet18", "torch:resnet50"], "torchvision's alone"
    with pytest.raises(UnknownModelError, match="no image-classification model matches"):
        expand(["torch:bert*"], "image")


def test_globs_over_tags_give_a_candidate_each() -> None:
    found, _ = expand(["torch:resnet50@IMAGENET*", "torch:squeezenet1_?@none"], "image")
    assert [str(family.id) for family in found] == [
        "torch:resnet50@IMAGENET1K_V2",
        "torch:resnet50@IMAGENET1K_V1",
        "torch:squeezenet1_0@none",
        "torch:squeezenet1_1@none",
    ]


def test_a_file_holds_one_a_line(tmp_path: Path) -> None:
    path = tmp_path / "candidates.txt"
    path.write_text("# what we may deploy\nhf:bert  # large\n\ntf:bert,depth=all\n")
    assert names(expand([str(path)], "text")[0]) == [("hf:bert", None), ("tf:bert", ())]


def test_one_unknown_name_costs_one_row_and_all_unknown_is_an_error() -> None:
    found, lost = expand(["hf:bert", "hf:bret"], "text")
    assert names(found) == [("hf:bert", None)]
    assert [name for name, _ in lost] == ["hf:bret"]
    with pytest.raises(UnknownModelError, match="Did you mean bert"):
        expand(["hf:bret"], "text")


def test_defaults_are_the_catalogue_of_the_task() -> None:
    found, _ = expand(None, "text")
    by_name = {str(family.id): family.depths for family in found}
    assert by_name["hf:all-minilm-l6-v2"] == ()
    assert not any(name.startswith("torch:resnet") for name in by_name)


def test_globs_meet_names_of_any_case_in_a_framework() -> None:
    found, _ = expand(["tf:*MobileNet*_v1_0.25*", "TORCH:resnet18".lower()], "image")
    ids = [str(family.id) for family in found]
    assert "tf:mobilenet_v1_0.25_224" in ids and all(name.startswith(("tf:", "torch:")) for name in ids)
    assert [str(f.id) for f in expand(["tf:*bert_tiny*"], "text")[0]] == [
        "tf:kerashub/bert_tiny_en_uncased",
        "tf:kerashub/bert_tiny_en_uncased_sst2",
    ]


@pytest.mark.parametrize(
    ("glob", "kind", "says"),
    [
        ("torch:resent*", "image", r"Did you mean resnet\w+"),
        ("tf:*mobilnet_v2*", "image", r"Did you mean mobilenet_v2"),
        ("torhc:resnet*", "image", r"no framework 'torhc'.*there are hf, tf, torch"),
        ("hf:*bert*", "image", r"matches models for text-classification, such as hf:bert"),
        ("torch:resnet50@IMAGNET*", "image", r"torch:resnet50 has IMAGENET1K_V2, IMAGENET1K_V1"),
    ],
)
def test_a_glob_that_meets_nothing_says_what_is_near(glob: str, kind: str, says: str) -> None:
    with pytest.raises(UnknownModelError, match=says):
        expand([glob], kind)


def model_folders(root: Path) -> Path:
    """Two checkpoints and a saved run beside what is none of them."""
    for name in ("small", "large"):
        (root / name).mkdir(parents=True)
        (root / name / "config.json").write_text('{"model_type": "bert"}')
    zoo.get("toy:words").save(root / "run")
    (root / "notes").mkdir()
    (root / "README.md").write_text("mine")
    return root


@pytest.fixture
def toy(tmp_path: Path) -> Iterator[None]:
    with installed(tmp_path / "site"):
        yield


@pytest.mark.usefixtures("toy")
def test_a_damaged_run_is_named_and_the_others_go_on(tmp_path: Path) -> None:
    root = model_folders(tmp_path / "models")
    (root / "run" / "zoo.json").write_text("{")
    found, lost = expand([f"hf:{root}/small", str(root / "run")], "text")
    assert names(found) == [(f"hf:{root}/small", None)]
    assert "is truncated or was changed" in str(lost[0][1])


@pytest.mark.usefixtures("toy")
def test_a_folder_of_checkpoints_is_every_model_in_it(tmp_path: Path) -> None:
    root = model_folders(tmp_path / "models")
    found, _ = expand([f"hf:{root},depth=all"], "text")
    assert names(found) == [(f"hf:{root}/large", ()), (f"hf:{root}/small", ())]
    found, _ = expand([f"hf:{root}"], "text")
    assert names(found) == [(f"toy:{root}/run", None), (f"hf:{root}/large", None), (f"hf:{root}/small", None)]
    assert names(expand([f"hf:{root}/small"], "text")[0]) == [(f"hf:{root}/small", None)]
    with pytest.raises(UnknownModelError, match="notes is no model and holds none"):
        expand([f"hf:{root}/notes"], "text")


@pytest.mark.usefixtures("toy")
def test_a_relative_folder_and_one_called_like_a_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model_folders(tmp_path / "models")
    (tmp_path / "resnet18" / "inside").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert [str(f.id) for f in expand(["hf:models"], "text")[0]] == [
        "toy:models/run",
        "hf:models/large",
        "hf:models/small",
    ]
    assert names(expand(["torch:resnet18"], "image")[0]) == [("torch:resnet18", None)]


def test_files_of_candidates_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no file of candidates"):
        expand([str(tmp_path / "gone.txt")], "text")
    (tmp_path / "empty.txt").write_text("# nothing yet\n")
    with pytest.raises(InputError, match=r"no candidates in .*empty\.txt"):
        expand([str(tmp_path / "empty.txt")], "text")
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(InputError, match="cannot read candidates from"):
        expand([str(tmp_path / "binary.txt")], "text")
