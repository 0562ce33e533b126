"""The catalogue asked: which models, with which of their published weights, have these figures.

One entry is a model with ONE set of weights, because identity is architecture and weights: accuracy, licence
and download belong to the weights, parameters and MACs to the architecture. What nobody states is unknown: it
passes no limit, it is permissive to nobody, and it sorts last. No framework is imported.
"""

from __future__ import annotations

import fnmatch
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TypeAlias

from zoo import registry
from zoo.cards import IMAGE_TASK, TEXT_TASK, ModelCard, WeightsCard
from zoo.errors import InputError

TASKS = {"image": IMAGE_TASK, "text": TEXT_TASK, IMAGE_TASK: IMAGE_TASK, TEXT_TASK: TEXT_TASK}
# A data set may carry where a figure was measured: "ImageNet-1K at 288 px".
TOP1, IMAGENET = "acc@1", "ImageNet-1K"
# SPDX ids (https://spdx.org/licenses/), small, of licences that allow use, change and sale for naming the
# author at most; no share-alike, no field of use left out. After https://blueoakcouncil.org/list, with the
# Creative Commons' two of that kind. "unknown" and "other" are not among them: nobody said so.
# fmt: off
PERMISSIVE = frozenset({
    "0bsd", "afl-3.0", "apache-2.0", "artistic-2.0", "blueoak-1.0.0", "bsd-2-clause", "bsd-3-clause",
    "bsd-3-clause-clear", "bsl-1.0", "cc-by-3.0", "cc-by-4.0", "cc0-1.0", "ecl-2.0", "isc", "mit", "mit-0",
    "ncsa", "postgresql", "psf-2.0", "unlicense", "upl-1.0", "wtfpl", "zlib",
})
# fmt: on
PERMISSIVE_WORD = "permissive"


@dataclass(frozen=True)
class Entry:
    """A model with one set of its weights; `weights` is None where none are published."""

    card: ModelCard
    weights: WeightsCard | None

    @property
    def id(self) -> str:
        """What `zoo.get` takes: `torch:timm/resnet50@a1_in1k`; without the tag of a model's only weights where that
        says nothing: a hub repository's main branch, a preset's own name.
        """
        tag = self.weights.tag if self.weights else "none"
        said = len(self.card.weights) > 1 or tag not in ("main", self.card.name.rpartition("/")[2])
        return f"{self.card.id}@{tag}" if said and tag != "default" else self.card.id

    @property
    def top1(self) -> float | None:
        """Published ImageNet-1K top-1 accuracy in percent, at whatever input size it was measured."""
        weights = self.weights
        if weights is None or weights.metric != TOP1 or not (weights.dataset or "").startswith(IMAGENET):
            return None
        return weights.value

    @property
    def top1_at(self) -> str:
        """Where `top1` was measured on other pixels than `input`: which, such as "288 px"; else ""."""
        stated = self.weights.dataset if self.weights and self.weights.dataset else ""
        return stated.partition(" at ")[2] if self.top1 is not None else ""

    @property
    def macs_g(self) -> float | None:
        """10^9 multiply-accumulates of one input as these weights want it; the card's are at the card's size."""
        weights = self.weights
        if weights is None or weights.size in (None, self.card.size):
            return self.card.macs_g
        return weights.macs_g

    @property
    def size_mb(self) -> float | None:
        """Download in 10^6 bytes."""
        return self.weights.bytes / 1e6 if self.weights and self.weights.bytes else None

    @property
    def input(self) -> int | None:
        """Pixels a side, or the longest text in tokens."""
        return (self.weights.size if self.weights else None) or self.card.size


# What there is to limit and to sort by. Figures of which more is better come first highest.
NUMBERS: Mapping[str, Callable[[Entry], float | None]] = {
    "params": lambda e: None if e.card.params is None else e.card.params / 1e6,
    "macs": lambda e: e.macs_g,
    "size": lambda e: e.size_mb,
    "input": lambda e: e.input,
    "top1": lambda e: e.top1,
}
SORTS: Mapping[str, Callable[[Entry], float | str | None]] = {
    "id": lambda e: e.card.id,
    "name": lambda e: e.card.name,
    "framework": lambda e: e.card.framework,
    "source": lambda e: e.card.source,
    "task": lambda e: e.card.task,
    "family": lambda e: e.card.family.lower(),
    **NUMBERS,
    "value": lambda e: e.weights.value if e.weights else None,
    "metric": lambda e: e.weights.metric if e.weights else None,
    "dataset": lambda e: e.weights.dataset if e.weights else None,
    "licence": lambda e: None if not e.weights or e.weights.licence == "unknown" else e.weights.licence,
    "tag": lambda e: e.weights.tag if e.weights else None,
}
HIGHEST_FIRST = frozenset({"top1", "value"})
OF_WEIGHTS = tuple(f.name for f in fields(WeightsCard) if f.name not in ("tag", "source"))


@dataclass(frozen=True)
class Wanted:
    """What entries must have. Text: shell patterns, several with commas between, whatever their case.

    limits: a name of NUMBERS -> (lowest, highest), None for no limit: params in millions, macs in 10^9, size
    in MB (10^6 bytes) of download, input in pixels or tokens, top1 in percent.
    """

    pattern: str = "*"
    framework: str | None = None
    task: str | None = None
    source: str | None = None
    family: str | None = None
    licence: str | None = None
    dataset: str | None = None
    limits: Mapping[str, tuple[float | None, float | None]] = field(default_factory=dict)

    def bounds(self) -> dict[str, tuple[float, float]]:
        """The limits that are set, with infinity for the open end."""
        return {
            name: (-math.inf if low is None else low, math.inf if high is None else high)
            for name, (low, high) in self.limits.items()
            if low is not None or high is not None
        }


def entries(wanted: Wanted) -> list[Entry]:
    """Every (model, weights) that has what is wanted, by id, a model's weights in its card's order.

    Raises InputError for a task, UnknownModelError for a framework that there is not.
    """
    tests = _weights_tests(wanted)
    found = [entry for card in _cards(wanted) for entry in _entries(card, tests)]
    bounds = wanted.bounds()
    return [entry for entry in found if _within(entry, bounds)]


def unknown(wanted: Wanted) -> dict[str, int]:
    """For each limit that is set, and the licence: how many entries are out because nobody states it."""
    bounds = wanted.bounds()
    found = entries(replace(wanted, limits={})) if bounds else []
    counts = {name: sum(NUMBERS[name](entry) is None for entry in found) for name in bounds}
    if wanted.licence and not licence_matcher(wanted.licence)("unknown"):
        found = entries(replace(wanted, limits={}, licence=None))
        counts["licence"] = sum(e.weights is not None and e.weights.licence == "unknown" for e in found)
    return {name: count for name, count in counts.items() if count}


def ordered(found: Iterable[Entry], by: str = "id", *, reverse: bool = False) -> list[Entry]:
    """Entries in the order of one field: text from a, figures from the lowest, accuracy from the highest.

    `reverse` turns that round; what is unknown comes last either way. Raises InputError for a field there is not.
    """
    if by not in SORTS:
        raise InputError(f"cannot sort by {by!r}: {', '.join(SORTS)}")
    value = SORTS[by]
    known: list[tuple[float | str, Entry]] = []
    last: list[Entry] = []
    for entry in found:
        if (key := value(entry)) is None:
            last.append(entry)
        else:
            known.append((key, entry))
    known.sort(key=lambda pair: pair[0], reverse=reverse != (by in HIGHEST_FIRST))  # stable: then by id
    return [entry for _, entry in known] + last


def list_models(
    pattern: str = "*",
    *,
    framework: str | None = None,
    task: str | None = None,
    source: str | None = None,
    family: str | None = None,
    licence: str | None = None,
    dataset: str | None = None,
    min_top1: float | None = None,
    max_params: float | None = None,
    max_macs_g: float | None = None,
    max_size_mb: float | None = None,
    min_input: int | None = None,
    max_input: int | None = None,
    sort: str = "id",
    reverse: bool = False,
    limit: int | None = None,
) -> list[ModelCard]:
    """Cards that have what is asked for, each with those of its weights that have it; imports no framework.

    pattern: a shell pattern over names, ids and aliases, "@" and one over tags after it; without a "/" it
    meets timm's and KerasHub's names too.  licence: "permissive" (PERMISSIVE) or SPDX ids.  source, family,
    licence, dataset: patterns, several with commas between.  max_params: a count, such as 5e6.  min_top1:
    percent on ImageNet-1K.  max_size_mb: of the weights' download.  sort: a name of SORTS, a card by the first
    of its weights in that order.  Unknown figures pass no limit.
    Raises InputError, and UnknownModelError for a framework that there is not.
    """
    limits = {
        "top1": (min_top1, None),
        "params": (None, None if max_params is None else max_params / 1e6),
        "macs": (None, max_macs_g),
        "size": (None, max_size_mb),
        "input": (min_input, max_input),
    }
    wanted = Wanted(pattern, framework, task, source, family, licence, dataset, limits)
    found = entries(wanted)
    kept: dict[str, list[WeightsCard]] = {}
    for entry in found:
        kept.setdefault(entry.card.id, []).extend([entry.weights] if entry.weights else [])
    cards = {entry.card.id: entry.card for entry in ordered(found, sort, reverse=reverse)}
    return [replace(card, weights=tuple(kept[key])) for key, card in cards.items()][:limit]


def facts(entry: Entry) -> dict[str, object]:
    """All that is known of an entry, flat, as CSV and JSON show it; None where it is unknown."""
    card, weights = entry.card, entry.weights or WeightsCard(tag="none", licence="")
    own = {name: getattr(weights, name) for name in OF_WEIGHTS}
    return {
        "id": entry.id,
        "framework": card.framework,
        "name": card.name,
        "tag": weights.tag,
        "default": entry.weights is None or weights is card.weights[0],
        "task": card.task,
        "family": card.family,
        "source": card.source,
        "params": card.params,
        "top1": entry.top1,
        **own,
        "macs_g": entry.macs_g,
        "size": entry.input,
        "figure_source": weights.source,
        "depths": " ".join(map(str, card.depths)),
        "aliases": " ".join(card.aliases),
        "paper": card.paper,
        "note": card.note,
    }


# --- one entry
def _cards(wanted: Wanted) -> Iterator[ModelCard]:
    """The cards whose own facts are as wanted, by id."""
    if wanted.task is not None and wanted.task not in TASKS:
        raise InputError(f"no task {wanted.task!r}: image or text")
    if wanted.framework is not None and wanted.framework not in registry.frameworks():
        registry.adapter(wanted.framework)  # raises with near names
    names = [wanted.framework] if wanted.framework else registry.frameworks()
    task = TASKS[wanted.task] if wanted.task else None
    pattern = wanted.pattern.partition("@")[0] or "*"
    named = _matcher(pattern)
    tests = [(_matcher(p), key) for key in ("source", "family") if (p := getattr(wanted, key))]
    for card in sorted((card for name in names for card in registry.cards(name)), key=lambda card: card.id):
        fits = all(test(getattr(card, key)) for test, key in tests)
        if fits and (task is None or card.task == task) and (pattern == "*" or any(map(named, _names(card)))):
            yield card


def _names(card: ModelCard) -> Sequence[str]:
    last = card.name.rpartition("/")[2]
    return (card.name, card.id, last, f"{card.framework}:{last}", *card.aliases)


Test: TypeAlias = tuple[Callable[[str], bool], str]
"""What a field's text must meet, and the field."""


def _weights_tests(wanted: Wanted) -> list[Test]:
    tag = wanted.pattern.partition("@")[2]
    tests = [(_matcher(tag), "tag")] if tag else []
    tests += [(licence_matcher(wanted.licence), "licence")] if wanted.licence else []
    return tests + ([(_matcher(wanted.dataset), "dataset")] if wanted.dataset else [])


def _entries(card: ModelCard, tests: Sequence[Test]) -> Iterator[Entry]:
    """A card's weights as far as they pass; a card without any is an entry where nothing is asked of them."""
    for weights in card.weights or ((None,) if not tests else ()):
        if weights is None or all(test(getattr(weights, key) or "") for test, key in tests):
            yield Entry(card, weights)


def _within(entry: Entry, bounds: Mapping[str, tuple[float, float]]) -> bool:
    for name, (low, high) in bounds.items():
        value = NUMBERS[name](entry)
        if value is None or not low <= value <= high:
            return False
    return True


def _matcher(pattern: str) -> Callable[[str], bool]:
    """Whether a text meets one of the shell patterns that stand with commas between them."""
    if pattern == "*":
        return lambda text: True
    parts = [fnmatch.translate(part.strip().lower()) for part in pattern.split(",")]
    compiled = re.compile("|".join(parts))
    return lambda text: compiled.match(text.lower()) is not None


def licence_matcher(pattern: str) -> Callable[[str], bool]:
    """Whether a licence, as a card states it, is one of those that a text names (see `check_licence`)."""
    words = [word.strip().lower() for word in pattern.split(",")]
    allowed = PERMISSIVE if PERMISSIVE_WORD in words else frozenset[str]()
    named = _matcher(
        ",".join(word for word in words if word != PERMISSIVE_WORD) or "no licence is called that"
    )
    return lambda text: text.lower() in allowed or named(text)


def check_licence(pattern: str) -> None:
    """Raise InputError, with near names, where a text names a licence that neither SPDX's permissive ones nor any card
    knows: it would leave out every model, and say nothing.
    """
    stated = {w.licence for f in registry.frameworks() for card in registry.cards(f) for w in card.weights}
    known = {PERMISSIVE_WORD, *PERMISSIVE, *(licence.lower() for licence in stated)}
    words = [word.strip().lower() for word in pattern.split(",")]
    for word in words:
        if any(mark in word for mark in "*?[") or word in known:
            continue
        near = registry.near(word, known)
        guess = f" Did you mean {', '.join(near)}?" if near else ""
        raise InputError(
            f"no licence {word!r} is known.{guess} Write {PERMISSIVE_WORD}, or SPDX ids such as apache-2.0,mit"
        )
