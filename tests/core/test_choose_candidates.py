"""Ids, globs, depths and files become families of candidates."""

from __future__ import annotations

from pathlib import Path

import pytest

from zoo.choose.candidates import expand
from zoo.errors import UnknownModelError


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
