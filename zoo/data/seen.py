"""Which examples a model was trained on, in few bytes: so that it is not judged, or calibrated, on them.

A bottom-k sketch (Broder 1997): the examples with the smallest digests. Of other data, whatever has a digest
as small either is one of them or was not trained on, so the share of examples seen is estimated without bias
from a few hundred digests, and exactly where the training data was no larger.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo.data.dataset import Dataset, Input, content
from zoo.errors import DataError

KEPT = 256
HEAD_BYTES = 1 << 16
SHARE_REFUSED = 0.1


@dataclass(frozen=True)
class Seen:
    """n: how many examples were trained on.  sample: (digest, digest of the content), the smallest first."""

    n: int
    sample: tuple[tuple[str, str], ...]

    def share(self, data: Dataset) -> tuple[int, int]:
        """How many of `data`'s examples were trained on, of how many for which that is known."""
        largest = self.sample[-1][0] if self.n > len(self.sample) else "~"  # after every hexadecimal digit
        kept, found, examined = set(self.sample), 0, 0
        for item in data.inputs:
            if (digest := _quick(item)) <= largest:
                examined += 1
                found += (digest, _full(item, digest)) in kept
        return found, examined


def seen(data: Dataset) -> Seen:
    """Of training data: names and sizes of all files are looked at, the beginnings of a few hundred are read."""
    smallest = heapq.nsmallest(KEPT, ((_quick(item), i) for i, item in enumerate(data.inputs)))
    return Seen(len(data), tuple(sorted((digest, _full(data.inputs[i], digest)) for digest, i in smallest)))


def seen_to_dict(value: Seen) -> dict[str, Any]:
    """JSON."""
    return {"n": value.n, "sample": [list(pair) for pair in value.sample]}


def seen_from_dict(data: Mapping[str, Any]) -> Seen:
    """What `seen_to_dict` gave."""
    return Seen(int(data["n"]), tuple((str(a), str(b)) for a, b in data["sample"]))


def refuse_seen(trained: Seen | None, data: Dataset, what: str) -> str | None:
    """Raise DataError where at least a tenth of `data` was trained on; a warning where less was, else None.

    what: what the data is wanted for, such as "calibrate on".
    """
    found, examined = (0, 0) if trained is None else trained.share(data)
    if not found:
        return None
    part = f"{found} of {examined} examples of {data.source or 'the data'} that were compared"
    if found < SHARE_REFUSED * examined:
        return f"{part} were trained on: the figures are a little too good"
    raise DataError(
        f"cannot {what} data that the model was trained on ({part}): it is surer of it, and oftener right, than "
        "of anything new. Give held-out data: a validation part that training did not learn from."
    )


def share_seen(trained: Seen | None, data: Dataset) -> float | None:
    """Share of `data` that was trained on, an estimate; None where it is not known."""
    found, examined = (0, 0) if trained is None else trained.share(data)
    return found / examined if examined else None


def _quick(item: Input) -> str:
    """Of a file its name and size, which cost no reading; of anything else the content."""
    if isinstance(item, Path):
        return _hex(f"{item.name} {item.stat().st_size}".encode())
    return _hex(content(item))


def _full(item: Input, quick: str) -> str:
    """Of a file its first 64 KB."""
    if not isinstance(item, Path):
        return quick
    with item.open("rb") as file:
        return _hex(file.read(HEAD_BYTES))


def _hex(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]
