"""`zoo select --plan`: what would be downloaded and about how long it takes, before anything is done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from zoo import registry
from zoo.cards import ModelCard
from zoo.choose.candidates import Family, expand
from zoo.choose.parts import DataOptions
from zoo.data import Dataset, find_parts
from zoo.data.sources import OnError
from zoo.packaged import packaged
from zoo.weights import mirrored

# Rough rates of a 2-core machine, from benchmarks/RESULTS.md; the plan says that they are rough.
EXPORT_S = {"torch": 10.0, "hf": 10.0, "tf": 20.0}
MEASURE_S, PROBE_S, GMACS_PER_S, TOKENS_PER_WORD = 1.0, 0.5, 50.0, 1.4


@dataclass(frozen=True)
class Step:
    """One network of the plan: how many candidates it gives, its weights, seconds to expect."""

    name: str
    candidates: int
    weights: str
    download_mb: float
    seconds: float


@dataclass(frozen=True)
class Plan:
    """What `zoo.select` with the same arguments would do."""

    steps: tuple[Step, ...]
    examples: int
    lost: tuple[tuple[str, str], ...] = ()

    def lines(self) -> list[str]:
        """The plan for a person, a line each."""
        found = [
            f"{step.name}: {step.candidates} candidate(s), {step.weights}"
            + (f" (about {step.download_mb:.0f} MB)" if step.download_mb else "")
            + f", about {step.seconds:.0f} s"
            for step in self.steps
        ]
        found += [f"{name}: {reason}" for name, reason in self.lost]
        total = sum(step.seconds for step in self.steps)
        download = sum(step.download_mb for step in self.steps)
        return [
            *found,
            f"In all: {sum(s.candidates for s in self.steps)} candidates on {self.examples} examples, up to "
            f"{download:.0f} MB to download, about {total:.0f} s on 2 cores (a rough estimate).",
        ]


def plan(
    data: Any,
    *,
    candidates: Sequence[str] | None = None,
    text: str | None = None,
    label: str | None = None,
    on_error: OnError = "fail",
) -> Plan:
    """Read the data and the catalogue, load nothing, download nothing."""
    dataset = DataOptions(text, label, on_error).open(find_parts(data).to_train())
    families, lost = expand(candidates, dataset.kind)
    steps = tuple(_step(family, dataset) for family in families)
    return Plan(steps, len(dataset), tuple((name, str(error)) for name, error in lost))


def _step(family: Family, data: Dataset) -> Step:
    card = registry.card(family.id)
    count = 1 if family.depths is None else len(family.depths or (card.depths if card else ())) or 1
    macs = (card.macs_g if card and card.macs_g else 1.0) * _share(data, card)
    seconds = EXPORT_S.get(family.id.framework, 15.0) + count * (MEASURE_S + PROBE_S)
    weights, download = _weights(family)
    return Step(str(family.id), count, weights, download, seconds + len(data) * macs / GMACS_PER_S)


def _share(data: Dataset, card: ModelCard | None) -> float:
    """Your texts' length as a share of the longest text, at which a card counts MACs; 1 for images."""
    if data.kind == "image" or card is None or not card.size:
        return 1.0
    words = float(np.median([len(str(text).split()) for text in data.inputs]))
    return min(1.0, (TOKENS_PER_WORD * words + 2) / card.size)


def _weights(family: Family) -> tuple[str, float]:
    """Where the weights would come from, and the MB to download."""
    model = family.id
    if model.weights == "none":
        return "random weights", 0.0
    if registry.is_local(model.name) or registry.is_local(model.weights):
        return "local weights", 0.0
    if packaged(model.name) is not None:
        return "weights from an installed package", 0.0
    card, weights = registry.card(model), registry.weights_card(model)
    file = weights.file if weights else None
    if file and mirrored(file) is not None:
        return f"{file} from the mirror", 0.0
    size = weights.bytes / 1e6 if weights and weights.bytes else 4e-6 * (card.params or 0) if card else 0.0
    return f"to download unless cached: {file or model.name}", size
