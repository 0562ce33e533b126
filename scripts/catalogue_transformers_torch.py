"""The transformers networks that the torch adapter lists by name: the same cards as the hf adapter's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from catalogue_transformers import short_names

FRAMEWORK, SOURCE = "torch", "transformers"
NAMES = ("bert",)


def cards() -> Iterator[dict[str, Any]]:
    """BERT, as hf:bert."""
    for card in short_names():
        if card["name"] in NAMES:
            yield {**card, "framework": FRAMEWORK}
