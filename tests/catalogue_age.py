"""Whether a catalogue's data file is older than the source installed here; `scripts/catalogue.py` renews it."""

from __future__ import annotations

import catalogue

from zoo.cards import ModelCard


def fresh(framework: str, source: str) -> dict[str, ModelCard]:
    """A source's cards by name, after asserting that they were built from the version that is installed."""
    path = catalogue.data_file(framework, source)
    was, now = catalogue.built_with(path), catalogue.versions(source)
    assert was == now, f"{path.name} was built with {was or 'nothing noted'}, here is {now}: {renew(source)}"
    return {card.name: card for card in catalogue.read(path)}


def same(source: str, listed: set[str], known: set[str]) -> None:
    """Assert that a file lists what its source knows, naming what differs."""
    assert listed == known, f"{sorted(listed ^ known)[:10]} differ: {renew(source)}"


def renew(source: str) -> str:
    return f"run `python scripts/catalogue.py {source}` and commit what it writes"
