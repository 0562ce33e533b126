"""Tables of texts: columns found or named, header or not, quotes, encodings; bad rows by their line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from zoo.data import open_data
from zoo.errors import BadFilesError, DataError

BODY = [
    ("late parcel", "delivery"),
    ("wrong sum", "billing"),
    ("no, really", "delivery"),
    ("hi you", "billing"),
]


def written(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


@pytest.mark.parametrize("header", ["text,label", "Message,Category", "label_name,review"])
def test_columns_are_found_by_name_whatever_their_order(tmp_path: Path, header: str) -> None:
    turned = header.startswith("label")
    rows = [f'{b},"{a}"' if turned else f'"{a}",{b}' for a, b in BODY]
    data = open_data(written(tmp_path / "t.csv", "\n".join([header, *rows])))
    assert data.kind == "text" and list(data.inputs) == [a for a, _ in BODY]
    assert data.classes == ("billing", "delivery") and data.targets.tolist() == [1, 0, 1, 0]


def test_source_says_which_columns_were_taken(tmp_path: Path) -> None:
    path = written(tmp_path / "t.csv", "id,body,stars,topic\n1,a b,5,x\n2,c d,4,y\n")
    assert open_data(path).source == f"{path} (text: body, label: topic)"


def test_columns_can_be_named(tmp_path: Path) -> None:
    path = written(tmp_path / "t.csv", "text,label,other,mood\na b,1,c d,x\ne f,2,g h,y\n")
    data = open_data(path, text="other", label="mood")
    assert list(data.inputs) == ["c d", "g h"] and data.classes == ("x", "y")


def test_missing_column_lists_what_is_there_and_the_near_name(tmp_path: Path) -> None:
    path = written(tmp_path / "t.csv", "message,category\na b,x\nc d,y\n")
    with pytest.raises(
        DataError, match=r"no column 'mesage'. Its columns are 'message', 'category'. Did you mean 'message'"
    ):
        open_data(path, text="mesage")


def test_no_text_column_says_how_to_name_one(tmp_path: Path) -> None:
    path = written(tmp_path / "t.csv", "id,label\n1,x\n2,y\n3,x\n4,y\n")
    with pytest.raises(
        DataError, match=r"found no text column. Its columns are 'id', 'label'.*text=NAME \(--text NAME\)"
    ):
        open_data(path)


def test_two_columns_that_could_be_the_label_are_not_guessed(tmp_path: Path) -> None:
    rows = "\n".join(f"text number {i},{i % 2},{i % 3}" for i in range(12))
    path = written(tmp_path / "t.csv", f"text,one,two\n{rows}\n")
    with pytest.raises(DataError, match=r"found no label column.*'one', 'two'.*--label NAME"):
        open_data(path)
    assert open_data(path, label="two").classes == ("0", "1", "2")


def test_unknown_header_is_seen_by_its_content(tmp_path: Path) -> None:
    rows = "\n".join(f"some words {i},{'ab'[i % 2]}" for i in range(8))
    data = open_data(written(tmp_path / "t.csv", f"was gesagt,welche art\n{rows}\n"))
    assert len(data) == 8 and data.classes == ("a", "b")


def test_without_a_header_no_row_is_lost(tmp_path: Path) -> None:
    rows = [f"some words number {i}\t{i % 2}" for i in range(8)]
    data = open_data(written(tmp_path / "t.tsv", "\n".join(rows)))
    assert len(data) == 8 and data.inputs[0] == "some words number 0" and "(text: 1, label: 2)" in data.source
    assert open_data(tmp_path / "t.tsv", text="1", label="2").targets.tolist() == data.targets.tolist()
    with pytest.raises(DataError, match=r"no column '3'.*it has no header: columns are numbered"):
        open_data(tmp_path / "t.tsv", text="3")


def test_a_label_that_is_also_a_column_name_makes_no_header(tmp_path: Path) -> None:
    rows = [f"some words number {i},{('email', 'post')[i % 2]}" for i in range(8)]
    data = open_data(written(tmp_path / "t.csv", "\n".join(rows)))
    assert len(data) == 8 and data.classes == ("email", "post")


def test_first_row_with_a_rare_label_is_no_header(tmp_path: Path) -> None:
    rows = ["the only one of its kind,rare", *(f"some words number {i},{'ab'[i % 2]}" for i in range(8))]
    assert open_data(written(tmp_path / "t.csv", "\n".join(rows))).classes == ("a", "b", "rare")


def test_quotes_commas_line_breaks_and_the_byte_order_mark(tmp_path: Path) -> None:
    text = 'text,label\r\n"a, b",x\r\n"line one\nline two, ""quoted""",y\r\n\r\n'
    data = open_data(written(tmp_path / "t.csv", text, "utf-8-sig"))
    assert list(data.inputs) == ["a, b", 'line one\nline two, "quoted"'] and data.classes == ("x", "y")
    assert "(text: text, label: label)" in data.source, "the mark became part of the name"


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
def test_csv_of_other_delimiters(tmp_path: Path, delimiter: str) -> None:
    rows = [("text", "label"), ("a, b, c", "x"), ("d, e", "y")]
    path = written(tmp_path / "t.csv", "\n".join(delimiter.join(row) for row in rows))
    assert list(open_data(path).inputs) == ["a, b, c", "d, e"]


def test_tsv_with_stray_quotes_loses_no_row(tmp_path: Path) -> None:
    rows = ['"so bad\t0', 'he said "no"\t1', 'fine"\t0', '"quoted ""well"""\t1']
    data = open_data(written(tmp_path / "t.tsv", "\n".join(["sentence\tlabel", *rows])))
    assert list(data.inputs) == ['"so bad', 'he said "no"', 'fine"', 'quoted "well"']


def test_tsv_with_quoted_tabs_and_line_breaks(tmp_path: Path) -> None:
    data = open_data(written(tmp_path / "t.tsv", 'text\tlabel\n"a\tb"\tx\n"c\nd"\ty\n'))
    assert list(data.inputs) == ["a\tb", "c\nd"]


def test_a_quote_that_is_never_closed_names_its_line(tmp_path: Path) -> None:
    path = written(tmp_path / "t.csv", 'text,label\na b,x\n"c d,y\ne f,x\n')
    with pytest.raises(
        DataError, match=r"cannot be read as a table.*begins in line 3.*quote that is not closed"
    ):
        open_data(path)


def test_bad_rows_are_all_named_by_line_or_skipped(tmp_path: Path) -> None:
    text = 'text,label\n"a\nb",x\n,x\nc d,\ne f,y,z\ng h,y\n  ,y\n'
    path = written(tmp_path / "t.csv", text)
    with pytest.raises(BadFilesError) as caught:
        open_data(path)
    assert list(caught.value.files) == [
        ("t.csv line 4", "has an empty text"),
        ("t.csv line 5", "has an empty label"),
        ("t.csv line 6", "has 3 columns instead of 2"),
        ("t.csv line 8", "has an empty text"),
    ]
    assert f"4 of 6 rows in {path} cannot be used" in str(caught.value)
    data = open_data(path, on_error="skip")
    assert list(data.inputs) == ["a\nb", "g h"] and len(data.bad) == 4


@pytest.mark.parametrize(
    ("encoding", "words"), [("latin-1", "byte 0xe9 in line 3 is not"), ("utf-16", "it is UTF-16")]
)
def test_other_encodings_name_the_place_and_the_command(tmp_path: Path, encoding: str, words: str) -> None:
    path = written(tmp_path / "t.csv", "text,label\na b,x\ncafé au lait,y\n", encoding)
    with pytest.raises(DataError, match=rf"not UTF-8: {words}.*iconv -f "):
        open_data(path)


def test_empty_files(tmp_path: Path) -> None:
    for name, text in (("a.csv", ""), ("b.csv", "text,label\n"), ("c.jsonl", "\n")):
        with pytest.raises(DataError, match="holds no rows"):
            open_data(written(tmp_path / name, text))


def test_one_class_and_unknown_labels(tmp_path: Path) -> None:
    path = written(tmp_path / "t.csv", "text,label\na b,x\nc d,x\n")
    with pytest.raises(DataError, match="one class only"):
        open_data(path)
    assert open_data(path, classes=("x", "y")).targets.tolist() == [0, 0]
    with pytest.raises(DataError, match="does not know: 'x'; its classes are 'y', 'z'"):
        open_data(path, classes=("y", "z"))


def test_integer_classes_are_in_numeric_order(tmp_path: Path) -> None:
    path = written(tmp_path / "t.csv", "text,label\n" + "\n".join(f"a {i},{i}" for i in (10, 9, 2)))
    assert open_data(path).classes == ("2", "9", "10")


# --- JSONL
def test_jsonl(tmp_path: Path) -> None:
    lines = [{"id": 1, "content": "a\nb", "intent": "x"}, {"intent": 3, "content": "c d"}]
    path = written(tmp_path / "t.jsonl", "\n".join(json.dumps(line) for line in lines) + "\n")
    data = open_data(path)
    assert list(data.inputs) == ["a\nb", "c d"] and data.classes == ("3", "x")


def test_bad_lines_of_jsonl_are_named(tmp_path: Path) -> None:
    lines = [
        '{"text": "a", "label": "x"}', '{"text": "b"', "[1]", '{"text": 5, "label": "x"}', '{"label": "x"}',
        '{"text": "c", "label": 0.5}', '{"text": "c", "label": "y"}',
    ]  # fmt: skip
    with pytest.raises(BadFilesError) as caught:
        open_data(written(tmp_path / "t.jsonl", "\n".join(lines)))
    found = dict(caught.value.files)
    assert list(found) == [f"t.jsonl line {i}" for i in (2, 3, 4, 5, 6)]
    assert [r.split(":")[0] for r in found.values()] == [
        "is no JSON",
        "is no JSON object with a text and a label",
        "has a text that is a int, not a string",
        "has an empty text",
        "has a label that is a float",
    ]


# --- real data
@pytest.mark.shared
def test_sst2_has_no_header_and_every_sentence_counts(shared: Path) -> None:
    sizes = {}
    for name in ("train", "dev", "test"):
        data = open_data(shared / f"data/sst2/{name}.tsv")
        assert data.classes == ("0", "1") and data.bad == ()
        sizes[name] = len(data)
    assert sizes == {"train": 6920, "dev": 872, "test": 1821}
    train = open_data(shared / "data/sst2/train.tsv")
    first, label = (shared / "data/sst2/train.tsv").read_text(encoding="utf-8").split("\n")[0].split("\t")
    assert train.inputs[0] == first and train.targets[0] == int(label)
    assert np.bincount(train.targets).min() > 3000
