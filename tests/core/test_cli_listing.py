"""`zoo list` and `zoo info --across` on the command line: what is typed, what is shown, what is refused."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import sys
from collections.abc import Iterator
from pathlib import Path

import many_models
import pytest
from errors_table import fails, here

from zoo.cli import tables

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    with many_models.installed(tmp_path / "site", many_models.FEW):
        yield


def listed(capsys: Capture, *arguments: str) -> list[str]:
    """The ids that `zoo list --json` gives, in its order."""
    said = here(capsys, "list", *arguments, "--json")
    assert said.code == 0, said
    return [row["id"] for row in json.loads(said.out)]


def test_each_set_of_weights_is_a_row(capsys: Capture) -> None:
    said = here(capsys, "list", "timm/gridnet50", "--framework", "pan")
    assert [line.split("|")[1].strip() for line in said.out.splitlines()[2:]] == [
        "pan:timm/gridnet50@a1_in1k",
        "pan:timm/gridnet50@bit_in21k",
    ]
    assert "80.20 | 288 px " in said.out and "cc-by-nc-4.0" in said.out and "102" in said.out
    assert "2 set(s) of weights of 1 model(s)" in said.err


def test_units_as_people_write_them(capsys: Capture) -> None:
    small = ["pan:tinygrid@V1"]
    for limit in ("--max-params=5M", "--max-params=5_000_000", "--max-macs=400M", "--max-macs=0.4g"):
        assert listed(capsys, "--framework", "pan", limit) == small, limit
    for limit in ("--max-size=50MB", "--max-size=0.05GB", "--max-size=5m", "--max-input=100"):
        assert listed(capsys, "--framework", "pan", limit) == small, limit
    assert listed(capsys, "--min-top1", "80.9%", "--framework", "pan") == ["pan:gridnet50@V2"]


def test_filters_together_sorted_and_cut(capsys: Capture) -> None:
    arguments = (
        "gridnet*",
        "--license",
        "permissive",
        "--sort",
        "top1",
        "--limit",
        "2",
        "--framework",
        "pan",
    )
    assert listed(capsys, *arguments) == ["pan:timm/gridnet50d@ra2_in1k", "pan:timm/gridnet50@a1_in1k"]


def test_what_is_left_out_for_want_of_a_figure_is_said(capsys: Capture) -> None:
    said = here(capsys, "list", "--framework", "pan", "--max-size", "50MB", "--licence", "permissive")
    assert "Left out: 2 state no download size, 1 state no licence." in said.err
    assert "Left out" not in here(capsys, "list", "--framework", "pan").err


def test_csv_and_json_carry_every_fact(capsys: Capture) -> None:
    (row,) = csv.DictReader(io.StringIO(here(capsys, "list", "wordnet", "--csv").out))
    (same,) = json.loads(here(capsys, "list", "wordnet", "--json").out)
    assert list(row) == list(same)
    assert row["metric"] == "accuracy" and float(row["value"]) == same["value"] == 91.3
    assert row["top1"] == "" and same["top1"] is None and row["dataset"] == "SST-2"
    wanted = {"url", "sha256", "bytes", "licence", "family", "size", "params", "macs_g", "figure_source"}
    assert wanted <= set(row)


def test_across_shows_figures_and_words(capsys: Capture) -> None:
    said = here(capsys, "info", "--across", "gridnet50")
    same, _, rest = said.out.partition("relatives:")
    header, _, *rows = (line.split("|")[1:-1] for line in same.splitlines() if line.startswith("|"))
    cells = {
        row[0].strip(): dict(zip(map(str.strip, header), map(str.strip, row), strict=True)) for row in rows
    }
    assert cells["pan:gridnet50"]["tags"] == "2" and cells["qed:org/grid-net-50"]["licence"] == "apache-2.0"
    assert cells["pan:timm/gridnet50"]["top-1 %"] == "80.20" and cells["pan:timm/gridnet50"]["at"] == "288 px"
    assert "25,636,712" in same and "+79,680" in same and "qed:qedhub/grid_net_50_imagenet" in same
    assert "stride in the first 1x1" in same and "v1.5" in same
    assert "qed:gridnet50_v2" in rest and "qed:gridnet50_v2" not in same
    assert "5 of it in 2 framework(s), 5 source(s)" in said.err
    found = json.loads(here(capsys, "info", "--across", "gridnet50", "--json").out)
    assert [card["name"] for card in found["relatives"]] == ["timm/gridnet50d", "gridnet50_v2"]


def test_info_marks_the_default(capsys: Capture) -> None:
    said = here(capsys, "info", "pan:gridnet50")
    assert "weights @V2 (default)" in said.out and "weights @V1\n" in said.out
    only = here(capsys, "info", "pan:timm/gridnet50.bit_in21k").out
    assert "@bit_in21k\n" in only and "a1_in1k" not in only and "bicubic 288" in only


# --- a terminal
def on_a_terminal(columns: int, *arguments: str) -> list[str]:
    """Lines that `zoo` writes to a pseudo-terminal of that width, in a process of its own."""
    child, terminal = pty.fork()
    if child == 0:  # pragma: no cover
        os.environ["COLUMNS"] = str(columns)
        os.execv(sys.executable, [sys.executable, "-m", "zoo.cli", *arguments])
    text = b""
    while True:
        try:
            part = os.read(terminal, 1 << 16)
        except OSError:  # Linux says EIO where a pipe would say nothing more
            break
        if not part:
            break
        text += part
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, text
    return text.decode().replace("\r", "").splitlines()


def test_on_a_terminal_lines_are_aligned_under_a_rule() -> None:
    lines = on_a_terminal(150, "list", "--framework", "pan")
    assert lines[0].startswith("id ") and set(lines[1]) == {"─", " "}
    assert any(line.startswith("pan:tinygrid@V1 ") for line in lines)
    ends = {
        line.index("licence" if i == 0 else "apache")
        for i, line in enumerate(lines)
        if "apache" in line or i == 0
    }
    assert len(ends) == 1


def test_words_fold_and_ids_and_numbers_do_not() -> None:
    rows = [("pan:a_long_name_of_a_model", "12.5", "words that do not fit into the line"), ("b", "1", "数")]
    text = tables.drawn(("id", "M", "note"), rows, right=["M"], width=50)
    lines = text.splitlines()
    assert all(len(line) <= 50 for line in lines)
    assert lines[2].startswith("pan:a_long_name_of_a_model  12.5  words")
    assert " ".join(line[34:].strip() for line in lines[2:5]).startswith(
        "words that do not fit into the line"
    )
    assert lines[-1].split() == ["b", "1", "数"]


def test_wide_characters_take_two_cells() -> None:
    lines = tables.drawn(("class", "n"), [("数字", "1"), ("abcd", "2")], width=40).splitlines()
    assert lines[2:] == ["数字   1", "abcd   2"]


def test_where_folding_cannot_help_nothing_is_folded() -> None:
    text = tables.drawn(("id", "licence"), [("x" * 40, "apache-2.0")], width=30)
    assert text.splitlines()[2] == "x" * 40 + "  apache-2.0"


# --- refused
@pytest.mark.parametrize(
    ("case", "arguments", "says"),
    [
        ("Limit without a unit", ["--max-params", "5"], ["--max-params 5: 5 of what? Write 5M for millions"]),
        (
            "Limit that is no number",
            ["--max-size", "small"],
            ["cannot read --max-size 'small'", "such as 5M"],
        ),
        ("Accuracy as a fraction", ["--min-top1", "0.75"], ["it is in percent; write 75"]),
        ("Accuracy above 100 %", ["--min-top1", "175"], ["percent lie between 0 and 100"]),
        ("Sorting by what there is not", ["--sort", "beauty"], ["cannot sort by 'beauty': id, name"]),
        ("Task that there is not", ["--task", "sound"], ["no task 'sound': image or text"]),
    ],
)
def test_a_filter_that_cannot_be_read(
    capsys: Capture, case: str, arguments: list[str], says: list[str]
) -> None:
    fails(capsys, case, ["list", *arguments], code=2, says=says)


def test_filters_that_nothing_meets(capsys: Capture) -> None:
    arguments = ["list", "pan:tinygrid", "--min-top1", "99", "--max-params", "2M", "--licence", "permissive"]
    says = ["1 set(s) of weights match 'pan:tinygrid', and none of them all of: licence permissive;"]
    says += ["params at most 2 M", "ImageNet top-1 at least 99 %", "Leave one out"]
    fails(capsys, "Filters that no model meets", arguments, code=2, says=says)


def test_a_network_that_no_catalogue_has(capsys: Capture) -> None:
    arguments = ["info", "--across", "grdnet50"]
    says = ["no catalogue has 'grdnet50' under any spelling", "Did you mean gridnet50"]
    fails(capsys, "Comparing a network that no catalogue has", arguments, code=2, says=says)


def test_a_name_of_two_frameworks(capsys: Capture) -> None:
    says = [
        "several frameworks have 'gridnet50': say which: pan:gridnet50, qed:gridnet50",
        "--across gridnet50",
    ]
    fails(capsys, "Card of a name that several frameworks have", ["info", "gridnet50"], code=2, says=says)


def test_two_tags_in_one_id(capsys: Capture) -> None:
    arguments = ["info", "pan:timm/gridnet50.a1_in1k@V2"]
    fails(capsys, "Two tags in one id", arguments, code=2, says=["names two sets of weights, a1_in1k and V2"])


def test_a_misspelt_name_of_a_named_source(capsys: Capture) -> None:
    arguments = ["info", "pan:timm/gridnet5O"]
    says = ["no model 'timm/gridnet5O' in pan", "Did you mean timm/gridnet50"]
    fails(capsys, "Misspelt name of a source named outright", arguments, code=2, says=says)
