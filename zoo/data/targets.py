"""What is no class label: several labels an example (multi-label), or a number to be estimated (regression).

Such data must be refused whole and at once: taken as classes, "sport|politics" would become a class of its
own and 3.7 another, and a model would be trained on nonsense without a word.
"""

from __future__ import annotations

import json
import numbers
from collections import Counter
from collections.abc import Sequence

import numpy as np

from zoo.data.dataset import listing
from zoo.errors import DataError

SEPARATORS = "|;,"
FEWEST_INDICATORS = 2


def refuse_other_targets(values: Sequence[object], where: str) -> None:
    """Raise DataError where the labels are lists, joined labels, or decimal numbers.

    where: the file and column, for the message. A missing label (None, NaN), or a stray odd one among words, is
    a bad row, which somebody else reports.
    """
    present = [value for value in values if not _missing(value)]
    found = [value for value in present if _is_several(value)]
    if found and 2 * len(found) >= len(present):
        raise _multi_label(where, f"the labels of an example are a list ({_short(found[0])})")
    decimal = [value for value in present if isinstance(value, float | np.floating)]
    if decimal and all(isinstance(value, numbers.Real) for value in present):
        raise _regression(where, decimal)
    texts = [value.strip() for value in present if isinstance(value, str) and value.strip()]
    if texts and len(texts) == len(present):
        if _fractions(texts):
            raise _regression(where, texts)
        if joined := _joined(texts):
            raise _multi_label(where, f"labels are joined in one cell ({_short(joined)})")


def refuse_matrix(labels: object, where: str) -> None:
    """Raise DataError for an array of labels with two axes: indicators, one column a class."""
    if not isinstance(labels, np.ndarray) or labels.ndim < 2:
        return
    shape = f"an array of shape {list(labels.shape)}"
    if labels.ndim == 2 and labels.shape[1] == 1:
        raise DataError(f"{where}: {shape}. Give one axis: labels[:, 0].")
    if labels.ndim == 2 and np.isin(labels, (0, 1)).all() and (labels.sum(axis=1) == 1).all():
        raise DataError(f"{where}: {shape}, one-hot. Give the classes' numbers: labels.argmax(axis=1).")
    raise _multi_label(where, shape)


def refuse_indicator_columns(columns: Sequence[str], rows: Sequence[Sequence[object]], where: str) -> None:
    """Raise DataError where a table without a label column has two columns or more of 0 and 1."""
    found = [
        name
        for i, name in enumerate(columns)
        if {str(row[i]).strip().lower() for row in rows} in ({"0", "1"}, {"true", "false"})
    ]
    if len(found) >= FEWEST_INDICATORS:
        raise DataError(
            f"{where} has no label column, and several columns of 0 and 1 ({listing(found)}): if those are its "
            "labels the data is multi-label, which is not offered (each example needs exactly one class). "
            f"Choose one of them with label={found[0]!r} (--label {found[0]})."
        )


def _missing(value: object) -> bool:
    return value is None or (isinstance(value, float) and value != value)


def _is_several(value: object) -> bool:
    if isinstance(value, str):
        return _json_list(value)
    return isinstance(value, list | tuple | set | dict) or (isinstance(value, np.ndarray) and value.ndim > 0)


def _json_list(text: str) -> bool:
    """Whether a cell is a list as JSON or Python writes it: ["a", "b"], ['a'], []."""
    if not (text.strip().startswith("[") and text.strip().endswith("]")):
        return False
    try:
        return isinstance(json.loads(text.replace("'", '"')), list)
    except json.JSONDecodeError:
        return False


def _fractions(texts: Sequence[str]) -> bool:
    """Whether all are numbers and one has digits other than 0 after the point."""
    try:
        values = [float(text) for text in texts]
    except ValueError:
        return False
    return any(value % 1 for value in values if np.isfinite(value))


def _joined(texts: Sequence[str]) -> str | None:
    """A cell that joins several labels: each of its parts is a label elsewhere, alone or in another company."""
    distinct = sorted(set(texts))
    for separator in SEPARATORS:
        parts = {text: {p.strip() for p in text.split(separator)} for text in distinct if separator in text}
        counts = Counter(part for found in parts.values() for part in found)
        known = {part for part, count in counts.items() if count > 1} | (set(distinct) - set(parts))
        if parts and all(len(found) > 1 and found <= known for found in parts.values()):
            return next(iter(parts))
    return None


def _short(value: object) -> str:
    text = repr(value.tolist() if isinstance(value, np.ndarray) else value)
    return text if len(text) <= 60 else text[:57] + "..."


def _multi_label(where: str, what: str) -> DataError:
    return DataError(
        f"{where}: {what}, so the data is multi-label. That is not offered: each example needs exactly one "
        "class. Keep the examples with one label, choose one label for each, or where every combination is a "
        "class of its own, name it by one word."
    )


def _regression(where: str, values: Sequence[object]) -> DataError:
    first = next((v for v in values if isinstance(v, numbers.Real) or _fractions([str(v)])), values[0])
    return DataError(
        f"{where}: the labels are decimal numbers ({first}), a quantity to be estimated. Regression is not "
        "offered: labels are classes, as integers or words. Cut the numbers into ranges and name those, or "
        "write 2 for 2.0 where they are classes."
    )
