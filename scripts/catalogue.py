"""Builds the catalogue: what `zoo list` knows of a source, as data files that are read without a framework.

    python scripts/catalogue.py torchvision timm        build these, write them, print what changed
    python scripts/catalogue.py                         all sources that have a module here
    python scripts/catalogue.py timm --check            write nothing; exit 1 where the file is stale

A source is a module `scripts/catalogue_<source>.py` beside this one:

    FRAMEWORK, SOURCE = "torch", "timm"                 # -> adapters/zoo_torch/cards/timm.json
    def cards() -> Iterator[dict[str, Any]]: ...        # ModelCard fields; imports its framework inside

Each runs in a process of its own, since two frameworks in one can abort each other. The file is JSON, a card a
line, sorted by name, so that its differences can be read; fields at their defaults are left out, and what all of
its cards have stands once at its head. Beside it `built_with.txt` says which versions it was built from.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from zoo.cards import IMAGE_TASK, TEXT_TASK, ModelCard, WeightsCard, preprocess_line, read_cards

SCRIPTS = Path(__file__).resolve().parent
ADAPTERS = SCRIPTS.parent / "adapters"
PREFIX = "catalogue_"
BUILT_WITH = "built_with.txt"
SHOWN = 40
# What a source's listing comes from: distributions whose version makes the file stale.
PACKAGES = {
    "torchvision": ("torchvision",),
    "timm": ("timm",),
    "transformers": ("transformers",),
    "keras_applications": ("keras",),
    "kerashub": ("keras-hub",),
}


class CatalogueError(Exception):
    """Cards that may not be written; says which and why."""


def sources() -> list[str]:
    """The sources that have a module here."""
    return sorted(path.stem.removeprefix(PREFIX) for path in SCRIPTS.glob(f"{PREFIX}*.py"))


def data_file(framework: str, source: str) -> Path:
    """Where a source's cards are kept."""
    return ADAPTERS / f"zoo_{framework}" / "cards" / f"{source}.json"


def read(path: Path) -> list[ModelCard]:
    """The cards of a data file; none where there is no file yet."""
    if not path.is_file():
        return []
    return read_cards(path.read_text(encoding="utf-8"))


def build(entries: Iterable[dict[str, Any]], framework: str) -> list[ModelCard]:
    """Cards from a source's dicts, sorted by name. Raises CatalogueError listing everything wrong."""
    found, wrong = [], []
    for entry in map(_lined, entries):
        name = entry.get("name", "a card without a name")
        try:
            card = ModelCard.from_dict(entry)
        except TypeError as error:
            wrong.append(f"{name}: {error}")
            continue
        found.append(card)
        wrong += [f"{name}: {text}" for text in problems(card, framework)]
    names = Counter(card.name for card in found)
    wrong += [f"{name}: {count} cards of that name" for name, count in names.items() if count > 1]
    aliases = Counter(alias for card in found for alias in card.aliases)
    wrong += [f"alias {a}: of {n} cards" for a, n in aliases.items() if n > 1]
    wrong += [f"alias {a}: is a card's own name" for a in aliases if a in names]
    if wrong:
        raise CatalogueError("\n".join(wrong))
    return sorted(found, key=lambda card: card.name)


def _lined(entry: dict[str, Any]) -> dict[str, Any]:
    """Weights may say their `preprocess` as the dataclass: the card keeps its line."""
    weights = [
        {k: preprocess_line(v) if k == "preprocess" and not isinstance(v, str) else v for k, v in w.items()}
        for w in entry.get("weights", ())
    ]
    return {**entry, "weights": weights}


def problems(card: ModelCard, framework: str) -> Iterator[str]:
    """What is wrong with one card."""
    if card.framework != framework:
        yield f"framework {card.framework!r}, its module says {framework!r}"
    if card.task not in (IMAGE_TASK, TEXT_TASK):
        yield f"task {card.task!r}: {IMAGE_TASK} or {TEXT_TASK}"
    for field in ("family", "source"):
        if not getattr(card, field):
            yield f"no {field}"
    for field in ("params", "macs_g", "size"):
        if (value := getattr(card, field)) is not None and not value > 0:
            yield f"{field} {value}: above 0, or left out where unknown"
    if any(mark in text for text in (card.name, *card.aliases) for mark in "@,: "):
        yield "a name or alias with @ , : or a space: an id could not be read"
    if list(card.depths) != sorted(set(card.depths)):
        yield f"depths {card.depths}: ascending, each once"
    for tag, count in Counter(w.tag for w in card.weights).items():
        if count > 1:
            yield f"{count} weights of the tag {tag!r}"
    for weights in card.weights:
        yield from (f"@{weights.tag}: {text}" for text in _weights_problems(weights))


def _weights_problems(weights: WeightsCard) -> Iterator[str]:
    if not weights.tag or weights.tag == "none" or any(mark in weights.tag for mark in "@, "):
        yield "an empty tag, 'none', or one with @ , or a space: an id could not be read"
    if (weights.metric is None) != (weights.value is None):
        yield "metric and value come together"
    if weights.metric is not None and not (weights.source and weights.dataset):
        yield "a figure needs its data set and a link to who states it"
    if weights.metric in ("acc@1", "acc@5") and not 1 < float(weights.value or 0) <= 100:
        yield f"{weights.metric} {weights.value}: in percent"
    for field in ("bytes", "size"):
        if (value := getattr(weights, field)) is not None and not value > 0:
            yield f"{field} {value}: above 0, or left out where unknown"


# --- the file
SHARED = ("framework", "task", "source")


def text_of(cards: Iterable[ModelCard]) -> str:
    """The data file, as `zoo.cards.read_cards` reads it."""
    cards = list(cards)
    values = {key: {getattr(card, key) for card in cards} for key in SHARED}
    shared = {key: found.pop() for key, found in values.items() if len(found) == 1}
    lines = (_json({k: v for k, v in _of(card).items() if k not in shared}) for card in cards)
    return f'{{"all":{_json(shared)},"cards":[\n' + ",\n".join(lines) + "\n]}\n"


def _of(card: ModelCard) -> dict[str, Any]:
    """One card without the fields that are at their defaults."""
    values = _said(card)
    if card.weights:
        values["weights"] = [_said(weights) for weights in card.weights]
    return values


def _json(values: Any) -> str:
    return json.dumps(values, ensure_ascii=False, separators=(",", ":"))


def _said(value: ModelCard | WeightsCard) -> dict[str, Any]:
    return {
        f.name: getattr(value, f.name)
        for f in dataclasses.fields(value)
        if f.name == "tag" or getattr(value, f.name) != f.default
    }


def changes(old: Iterable[ModelCard], new: Iterable[ModelCard]) -> list[str]:
    """What differs, a line each: added, removed, and each field that changed."""
    before, after = ({card.name: card for card in cards} for cards in (old, new))
    found = [f"+ {name}" for name in after.keys() - before.keys()]
    found += [f"- {name}" for name in before.keys() - after.keys()]
    for name in before.keys() & after.keys():
        one, two = (_flat(card) for card in (before[name], after[name]))
        found += [
            f"~ {name}: {key} {one.get(key)} -> {two.get(key)}"
            for key in one | two
            if one.get(key) != two.get(key)
        ]
    return sorted(found, key=lambda text: (text[2:], text))


def _flat(card: ModelCard) -> dict[str, Any]:
    own = {key: value for key, value in _said(card).items() if key != "weights"}
    tags = {f"@{w.tag}.{key}": value for w in card.weights for key, value in _said(w).items()}
    return own | tags | {"tags in order": [w.tag for w in card.weights]}


def versions(source: str) -> str:
    """What the source's listing comes from, with versions."""
    return ", ".join(f"{name} {metadata.version(name)}" for name in PACKAGES.get(source, (source,)))


def built_with(path: Path) -> str:
    """The versions that a data file was built from; "" where nothing is noted."""
    return _notes(path.with_name(BUILT_WITH)).get(path.stem, "")


def _notes(path: Path) -> dict[str, str]:
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return {key: value.strip() for key, _, value in (text.partition(":") for text in lines)}


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


# --- the command
def build_here(name: str, *, check: bool) -> int:
    """Build one source in this process; returns the exit code."""
    module = importlib.import_module(PREFIX + name)
    path = data_file(module.FRAMEWORK, module.SOURCE)
    try:
        cards = build(module.cards(), module.FRAMEWORK)
    except CatalogueError as error:
        print(f"{name}: nothing written\n{error}", file=sys.stderr)
        return 1
    found = changes(read(path), cards)
    count = sum(len(card.weights) for card in cards)
    print(f"{name}: {len(cards)} cards, {count} sets of weights, {len(found)} changes")
    print("".join(f"  {text}\n" for text in found[:SHOWN]), end="")
    print(f"  ... and {len(found) - SHOWN} more\n" if len(found) > SHOWN else "", end="")
    now = versions(module.SOURCE)
    if check:
        return int(bool(found) or built_with(path) != now)
    _write(path, text_of(cards))
    notes = _notes(path.with_name(BUILT_WITH)) | {module.SOURCE: now}
    _write(path.with_name(BUILT_WITH), "".join(f"{key}: {notes[key]}\n" for key in sorted(notes)))
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("sources", nargs="*", help=f"of {', '.join(sources()) or 'none yet'}; all without")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 where a file is stale")
    parser.add_argument("--here", action="store_true", help="one source, in this very process")
    options = parser.parse_args()
    chosen = options.sources or sources()
    if unknown := sorted(set(chosen) - set(sources())):
        parser.error(f"no module scripts/{PREFIX}{unknown[0]}.py: there are {', '.join(sources()) or 'none'}")
    if options.here:
        return max(build_here(name, check=options.check) for name in chosen)
    flags = ["--here", *(["--check"] if options.check else [])]
    env = {"HF_HUB_OFFLINE": "1", **os.environ}
    codes = [subprocess.run([sys.executable, __file__, name, *flags], env=env).returncode for name in chosen]
    return int(any(codes))


if __name__ == "__main__":
    sys.exit(main())
