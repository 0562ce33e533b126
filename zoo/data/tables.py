"""CSV, TSV and JSONL files of texts and labels: finds the columns, reports each row that cannot be used.

Columns are found by name (header), else by content (the label repeats, the text is long); `text=` and `label=`
name them. Columns of a file without a header are called 1, 2, 3.
"""

from __future__ import annotations

import csv
import difflib
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from zoo.data.dataset import listing
from zoo.data.targets import refuse_indicator_columns, refuse_other_targets
from zoo.errors import DataError

# fmt: off
TEXT_NAMES = (
    "text", "sentence", "review", "message", "content", "body", "comment", "tweet", "utterance", "document",
    "article", "description", "query", "question", "ticket", "email", "post", "summary", "headline", "title",
)
LABEL_NAMES = (
    "label", "labels", "class", "target", "category", "intent", "topic", "sentiment", "y",
    "label_text", "class_name", "label_name", "category_name", "queue",
)
# fmt: on
KNOWN_NAMES = {*TEXT_NAMES, *LABEL_NAMES}
DELIMITERS = {".csv": ",;\t|", ".tsv": "\t"}
JSON_SUFFIXES = (".jsonl", ".ndjson")
SUFFIXES = (*DELIMITERS, *JSON_SUFFIXES)


@dataclass(frozen=True)
class Table:
    """Rows of equal width. columns: their names.  rows: (line number in the file, cells).

    path: where it is from, for messages; a data set from the Hub has its id there.  unit: what is counted.
    """

    path: Path
    columns: tuple[str, ...]
    rows: tuple[tuple[int, tuple[object, ...]], ...]
    header: bool
    bad: tuple[tuple[str, str], ...] = ()
    unit: str = "line"


@dataclass(frozen=True)
class Examples:
    """What was read. labels is empty where none were asked for.  total: rows in the file, bad ones too."""

    texts: tuple[str, ...]
    labels: tuple[str, ...]
    columns: tuple[str, ...]
    bad: tuple[tuple[str, str], ...]
    total: int


def read_examples(path: Path, *, text: str | None, label: str | None, labelled: bool = True) -> Examples:
    """Read texts and, where `labelled`, their labels. Raises DataError: unreadable file, missing columns."""
    return examples(read_table(path, text=text, label=label), text=text, label=label, labelled=labelled)


def read_table(path: Path, *, text: str | None = None, label: str | None = None) -> Table:
    """All rows. text, label: column names that tell a header from an example. Raises DataError."""
    table = _read_json(path) if path.suffix.lower() in JSON_SUFFIXES else _read_separated(path, text, label)
    if not table.rows and not table.bad:
        raise DataError(f"{path} holds no rows. Give a file with a text and a label in each row.")
    return table


def examples(table: Table, *, text: str | None, label: str | None, labelled: bool = True) -> Examples:
    """Texts and, where `labelled`, their labels, from the columns named or found.

    Raises DataError: no such columns, labels that are no classes (several an example, or decimal numbers).
    """
    chosen = _choose_columns(table, text, label, labelled)
    places = [table.columns.index(name) for name in chosen]
    if labelled:
        refuse_other_targets([cells[places[1]] for _, cells in table.rows], f"{table.path}, {chosen[1]!r}")
    texts: list[str] = []
    labels: list[str] = []
    bad = list(table.bad)
    for line, cells in table.rows:
        values = [cells[place] for place in places]
        problem = _text_problem(values[0]) or (_label_problem(values[1]) if labelled else None)
        if problem:
            bad.append((f"{table.path.name} {table.unit} {line}", problem))
            continue
        texts.append(str(values[0]))
        labels += [label_text(values[1])] if labelled else []
    bad.sort(key=lambda entry: int(entry[0].rpartition(" ")[2]))
    return Examples(tuple(texts), tuple(labels), chosen, tuple(bad), len(table.rows) + len(table.bad))


def column_of(table: Table, fits: Callable[[str], bool]) -> str | None:
    """The one column all of whose cells are strings that fit, none of them empty; None for none or several."""
    found = []
    for i, name in enumerate(table.columns):
        cells = [row[i] for _, row in table.rows]
        if cells and all(isinstance(cell, str) and fits(cell.strip()) for cell in cells):
            found.append(name)
    return found[0] if len(found) == 1 else None


def _text_problem(value: object) -> str | None:
    if value is None or (isinstance(value, str) and not value.strip()):
        return "has an empty text"
    return None if isinstance(value, str) else f"has a text that is a {type(value).__name__}, not a string"


def _label_problem(value: object) -> str | None:
    if value is None or (isinstance(value, str) and not value.strip()):
        return "has an empty label"
    return None if isinstance(value, str | int | bool) else f"has a label that is a {type(value).__name__}"


def label_text(value: object) -> str:
    """A label as a class name."""
    return str(value).strip()


# --- reading
def _decode(path: Path) -> str:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DataError(
            f"cannot read {path}: {error.strerror}. Check the path and its permissions."
        ) from error
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        utf16 = raw[:2] in (b"\xff\xfe", b"\xfe\xff")
        found = "it is UTF-16" if utf16 else f"byte 0x{raw[error.start]:02x} in line {line} is not"
        raise DataError(
            f"{path} is not UTF-8: {found}. Save it as UTF-8 ('CSV UTF-8' in a spreadsheet), or convert it: "
            f"iconv -f {'UTF-16' if utf16 else 'WINDOWS-1252'} -t UTF-8 {path.name} > utf8{path.suffix}"
        ) from error


def _read_json(path: Path) -> Table:
    """One JSON object a line. A line that is none is a bad row."""
    objects: list[tuple[int, Mapping[str, object]]] = []
    bad: list[tuple[str, str]] = []
    for number, line in enumerate(_decode(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except json.JSONDecodeError as error:
            bad.append((f"{path.name} line {number}", f"is no JSON: {error.msg} (column {error.colno})"))
            continue
        if isinstance(value, dict):
            objects.append((number, value))
        else:
            bad.append((f"{path.name} line {number}", "is no JSON object with a text and a label"))
    columns = tuple(dict.fromkeys(key for _, value in objects for key in value))
    rows = tuple((number, tuple(value.get(key) for key in columns)) for number, value in objects)
    return Table(path, columns, rows, header=True, bad=tuple(bad))


def _read_separated(path: Path, text: str | None, label: str | None) -> Table:
    content = _decode(path)
    suffix = path.suffix.lower()
    rows = _records(content, DELIMITERS.get(suffix, ",;\t|"), path)
    if not rows:
        return Table(path, (), (), header=False)
    first = tuple(str(cell).strip() for cell in rows[0][1])
    header = _is_header(first, rows[1:], text, label)
    columns = first if header else tuple(str(i + 1) for i in range(len(first)))
    bad: list[tuple[str, str]] = []
    good: list[tuple[int, tuple[object, ...]]] = []
    for line, cells in rows[1:] if header else rows:
        if len(cells) == len(columns):
            good.append((line, cells))
        else:
            bad.append((f"{path.name} line {line}", f"has {len(cells)} columns instead of {len(columns)}"))
    return Table(path, columns, tuple(good), header, tuple(bad))


Record = tuple[int, tuple[str, ...]]


def _records(content: str, delimiters: str, path: Path) -> list[Record]:
    """(line, cells) with the delimiter under which the rows are widest and most of one width."""
    plain = [(n, line.rstrip("\r")) for n, line in enumerate(content.split("\n"), start=1) if line.strip()]
    if delimiters == "\t" and len({line.count("\t") for _, line in plain}) == 1:
        # Tab-separated data sets hold stray quotes as they are; with the same number of tabs in each line no
        # cell can contain a tab or a line break, so quotes protect nothing.
        return [(n, tuple(_unquote(cell) for cell in line.split("\t"))) for n, line in plain]
    readings: list[list[Record]] = []
    failure: csv.Error | None = None
    for delimiter in delimiters:
        try:
            readings.append(list(_parse(content, delimiter)))
        except csv.Error as error:
            failure = failure or error
    if not readings:
        raise DataError(f"{path} cannot be read as a table: {failure}. Look for a quote that is not closed.")
    return max(readings, key=_agreement)


def _parse(content: str, delimiter: str) -> Iterator[Record]:
    reader = csv.reader(io.StringIO(content, newline=""), delimiter=delimiter, strict=True)
    line = 1
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield line, tuple(cells)
            line = reader.line_num + 1
    except csv.Error as error:
        raise csv.Error(f"{error} (in the row that begins in line {line})") from error


def _agreement(rows: Sequence[Record]) -> float:
    """Share of rows as wide as the first; 0 for one column. The first delimiter wins a tie."""
    if not rows or len(rows[0][1]) < 2:
        return 0.0
    return sum(len(cells) == len(rows[0][1]) for _, cells in rows) / len(rows)


def _unquote(cell: str) -> str:
    inner = cell[1:-1]
    if len(cell) >= 2 and cell[0] == cell[-1] == '"' and '"' not in inner.replace('""', ""):
        return inner.replace('""', '"')
    return cell


# --- columns
def _is_header(first: Sequence[str], rest: Sequence[Record], text: str | None, label: str | None) -> bool:
    """Known or given names in the first row; or a cell over the label column that no other row has."""
    if {text, label} & set(first):
        return True
    below = [{cells[i].strip() for _, cells in rest if len(cells) > i} for i in range(len(first))]
    fresh = [cell not in values for cell, values in zip(first, below, strict=True)]
    if any(new and cell.lower() in KNOWN_NAMES for cell, new in zip(first, fresh, strict=True)):
        return True
    # Otherwise only a row of short names can be one: taking an example for a header would lose it.
    if not rest or any(len(cell.split()) not in (1, 2) or not cell[0].isalpha() for cell in first):
        return False
    return any(new and len(values) <= len(rest) / 2 for new, values in zip(fresh, below, strict=True))


def _choose_columns(table: Table, text: str | None, label: str | None, labelled: bool) -> tuple[str, ...]:
    """Names of the text and, where wanted, the label column. Raises DataError listing what is there."""
    taken = {name for name in (text, label) if name}
    for name in taken:
        _require(table, name)
    found_text = text or _by_name(table, TEXT_NAMES, taken) or ""
    found_label = (label or _by_name(table, LABEL_NAMES, taken | {found_text})) if labelled else ""
    if labelled and not found_label:
        found_label = _by_content(table, _label_score, {found_text})
    if not found_text:
        found_text = _by_content(table, _text_score, {found_label or ""}) or ""
    if labelled and not found_label:
        refuse_indicator_columns(table.columns, [cells for _, cells in table.rows], str(table.path))
    missing = [
        kind for kind, name in (("text", found_text), ("label", found_label or not labelled)) if not name
    ]
    if missing:
        options = " and ".join(f"{kind}=NAME (--{kind} NAME)" for kind in missing)
        raise DataError(
            f"{table.path}: found no {' and no '.join(missing)} column. {_columns(table)} Say which with {options}."
        )
    return (found_text, found_label) if labelled and found_label else (found_text,)


def _columns(table: Table) -> str:
    note = "" if table.header else " (it has no header: columns are numbered)"
    return f"Its columns are {listing(table.columns)}{note}."


def _require(table: Table, name: str) -> None:
    if table.columns.count(name) == 1:
        return
    if name in table.columns:
        raise DataError(f"{table.path} has several columns {name!r}. {_columns(table)} Rename all but one.")
    raise DataError(
        f"{table.path} has no column {name!r}. {_columns(table)}{did_you_mean(name, table.columns)}"
    )


def did_you_mean(name: str, names: Sequence[str]) -> str:
    """A guess at a misspelt column, as the end of a message; "" where none is near."""
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f" Did you mean {near[0]!r}?" if near else ""


def _by_name(table: Table, names: Sequence[str], taken: set[str]) -> str | None:
    """The column with the first of `names`, whatever its case."""
    lower = {column.lower(): column for column in reversed(table.columns) if column not in taken}
    return next((lower[name] for name in names if name in lower), None)


def _by_content(table: Table, score: Callable[[list[str]], bool], taken: set[str]) -> str | None:
    """The only column whose content fits; None where none or several do: never a guess."""
    fitting = [
        name
        for i, name in enumerate(table.columns)
        if name not in taken
        and score([str(cells[i]).strip() for _, cells in table.rows if cells[i] is not None])
    ]
    return fitting[0] if len(fitting) == 1 else None


def _label_score(values: list[str]) -> bool:
    """Few, short, repeated values."""
    distinct = set(values)
    return 2 <= len(distinct) <= len(values) / 2 and max(map(len, distinct)) <= 60


def _text_score(values: list[str]) -> bool:
    """Several words in most cells."""
    return sum(" " in value for value in values) > len(values) / 2
