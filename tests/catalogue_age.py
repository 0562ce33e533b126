"""Whether a catalogue's data file is older than the source installed here; `scripts/catalogue.py` renews it.

A newer source than the file was built from is a warning in pytest's summary, not a failure: the day of a timm
release must not break everybody's `make test`. What is listed and gone fails at any version, since that row
would be a lie; what is new and not listed fails only where the file claims to be of this very version.
"""

from __future__ import annotations

import warnings

import catalogue

from zoo.cards import ModelCard


class StaleCatalogueWarning(Warning):
    """A data file was built from another version of its source than is installed."""


def stale(framework: str, source: str) -> str:
    """How the data file's version differs from what is installed, "" where it does not."""
    path = catalogue.data_file(framework, source)
    was, now = catalogue.built_with(path), catalogue.versions(source)
    if was == now:
        return ""
    return f"{path.name} was built with {was or 'nothing noted'}, here is {now}: {renew(source)}"


def fresh(framework: str, source: str) -> dict[str, ModelCard]:
    """A source's cards by name; warns where they were built from another version than is installed."""
    if said := stale(framework, source):
        warnings.warn(said, StaleCatalogueWarning, stacklevel=2)
    return {card.name: card for card in catalogue.read(catalogue.data_file(framework, source))}


def same(framework: str, source: str, listed: set[str], known: set[str], *, new: float = 0.0) -> None:
    """Assert that all that is listed is known, and that (at the file's own version) all but a share `new` is listed.

    listed, known: what the file and its source hold, named so that a message tells what differs.
    """
    gone = sorted(listed - known)
    assert not gone, f"{gone[:10]} are listed and gone: {renew(source)}"
    missing = sorted(known - listed)
    if not stale(framework, source):
        assert len(missing) <= new * len(known), f"{missing[:10]} are not listed: {renew(source)}"


def renew(source: str) -> str:
    return f"run `python scripts/catalogue.py {source}` and commit what it writes"
