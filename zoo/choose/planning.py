"""`zoo select --plan`: what would be downloaded, what it takes on the disk, about how long; nothing is done.

Seconds are rough. What this machine's record knows is taken from it: how fast it computes, which candidates were
measured, which graphs are exported; the rest are rates of a 2-core machine from benchmarks/RESULTS.md. How long a
download takes is not guessed.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from zoo import registry
from zoo.cards import Budget, ModelCard, Precision
from zoo.choose.candidates import Family, expand, make_spread
from zoo.choose.catalogue_limits import check_limits, depths_of, sift
from zoo.choose.limits import check_within
from zoo.choose.pace import Pace, bare
from zoo.choose.parts import DataOptions
from zoo.choose.requests import known
from zoo.choose.whereabouts import FLOAT32_BYTES, whereabouts
from zoo.data import Dataset, find_parts
from zoo.data.sources import OnError
from zoo.files import cache_dir

EXPORT_S = {"torch": 10.0, "hf": 10.0, "tf": 20.0}
OTHER_EXPORT_S, CACHED_S = 15.0, 0.2
MEASURE_S, PROBE_S, SHIP_S, TOKENS_PER_WORD = 1.5, 0.5, 5.0, 1.4
VARIANT_S = {"fp32": 0.0, "fp16": 1.0, "int8-dynamic": 1.0, "int8-static": 8.0}
"""To write one; int8-static runs the network over the examples that its ranges are found on."""
SMALLER = {"fp32": 1.0, "fp16": 0.5, "int8-dynamic": 0.27, "int8-static": 0.27}
"""A file's size as a share of float32's."""
BATCHED = 0.5
"""A pass over the data runs batches, which take about half as long an example as batch 1 does."""
STAGES = ("export", "variants", "measure", "probe", "fine-tune", "ship")
SHOWN = 8


@dataclass(frozen=True)
class Step:
    """One network of the plan: how many candidates it gives, where its weights are, what it costs to try them.

    download_mb: None where nobody states the size.  disk_mb: beside the download, of its graphs.
    seconds: by stage, to expect.
    """

    name: str
    candidates: int
    weights: str
    download_mb: float | None
    disk_mb: float
    seconds: Mapping[str, float]
    exported: bool = False


@dataclass(frozen=True)
class Plan:
    """What `zoo.select` with the same arguments would do.

    lost: names that lead nowhere, with the reason.  left_out: ids that leave before anything is loaded, likewise.
    free_mb: on the disk of the cache.  notes: what the estimates rest on.  within_s: as `zoo.select` takes it.
    """

    steps: tuple[Step, ...]
    examples: int
    lost: tuple[tuple[str, str], ...] = ()
    left_out: tuple[tuple[str, str], ...] = ()
    free_mb: float = 0.0
    notes: tuple[str, ...] = field(default_factory=tuple)
    within_s: float | None = None

    @property
    def download_mb(self) -> float:
        """As far as it is known."""
        return sum(step.download_mb or 0.0 for step in self.steps)

    @property
    def disk_mb(self) -> float:
        """The downloads, the graphs in the cache while they are new, and one copy that ships."""
        largest = max((step.disk_mb / max(1, step.candidates) for step in self.steps), default=0.0)
        return self.download_mb + sum(step.disk_mb for step in self.steps) + largest

    @property
    def seconds(self) -> dict[str, float]:
        """To expect, by stage. Fine-tuning may take what the others leave of `within_s`."""
        found = {stage: sum(step.seconds.get(stage, 0.0) for step in self.steps) for stage in STAGES}
        found["ship"] = SHIP_S if self.steps else 0.0
        if self.steps and self.within_s is not None:
            found["fine-tune"] = max(0.0, self.within_s - sum(found.values()))
        return found

    def to_dict(self) -> dict[str, Any]:
        """JSON."""
        totals = {"download_mb": self.download_mb, "disk_mb": self.disk_mb, "seconds": self.seconds}
        return {**asdict(self), **totals}

    def lines(self) -> list[str]:
        """The plan for a person, a line each."""
        found = [_line(step) for step in self.steps]
        found += [f"{name}: {reason}" for name, reason in self.lost]
        reasons = Counter(reason for _, reason in self.left_out)
        found += [f"left out: {name}: {reason}" for name, reason in self.left_out[:SHOWN]]
        if len(self.left_out) > SHOWN:
            found.append(
                f"left out: {len(self.left_out) - SHOWN} more, for {len(reasons)} reasons (--json has all)"
            )
        stages = ", ".join(f"{stage} {value:.0f} s" for stage, value in self.seconds.items() if value)
        unknown = sum(step.download_mb is None for step in self.steps)
        more = f" and {unknown} of unknown size" if unknown else ""
        total = sum(self.seconds.values())
        found.append(
            f"In all: {sum(s.candidates for s in self.steps)} candidates on {self.examples} examples, up to "
            f"{self.download_mb:.0f} MB{more} to download, up to {self.disk_mb:.0f} MB of disk ({self.free_mb:.0f} MB "
            f"are free), about {total:.0f} s without the download ({stages})."
        )
        return [*found, *self.notes]


def _line(step: Step) -> str:
    size = "" if not step.download_mb else f" (about {step.download_mb:.0f} MB)"
    size = " (of unknown size)" if step.download_mb is None else size
    graph = ", its graph is in the cache" if step.exported else ""
    total = sum(step.seconds.values())
    return f"{step.name}: {step.candidates} candidate(s), {step.weights}{size}{graph}, about {total:.0f} s"


def plan(
    data: Any,
    *,
    candidates: Sequence[str] | None = None,
    budget: Budget = Budget(),  # noqa: B008 - frozen
    precisions: Sequence[str] = ("fp32",),
    sizes: Sequence[int] = (),
    within_s: float | None = None,
    offline: bool = False,
    text: str | None = None,
    label: str | None = None,
    on_error: OnError = "fail",
) -> Plan:
    """Read the data and the catalogue, load nothing, download nothing. Raises what `zoo.select` raises before that."""
    check_limits(budget, offline=offline)
    check_within(within_s)
    dataset = DataOptions(text, label, on_error).open(find_parts(data).to_train())
    spread = make_spread(precisions, sizes, dataset.kind)
    families, lost = expand(candidates, dataset.kind, spread, offline=offline)
    sifted = sift(families, budget, offline=offline)
    pace = Pace.here()
    steps = tuple(_step(family, dataset, pace) for family in sifted.kept)
    return Plan(
        steps=steps,
        examples=len(dataset),
        lost=tuple((name, str(error)) for name, error in lost),
        left_out=tuple((row.id, row.reason) for row in sifted.rows),
        free_mb=_free_mb(),
        notes=(_basis(pace),),
        within_s=within_s,
    )


def _basis(pace: Pace) -> str:
    if not pace.known:
        return "Nothing was measured on this machine yet: seconds are those of another one with 2 cores, and rough."
    return (
        f"Seconds are rough; how fast this machine computes is known from its record ({len(pace.p50_ms)} models), how "
        "long exports take is not."
    )


def _free_mb() -> float:
    folder = cache_dir().absolute()
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free / 1e6


def _step(family: Family, data: Dataset, pace: Pace) -> Step:
    card = registry.card(family.id)
    depths = depths_of(family) or (None,)
    tried = [(depth, precision) for depth in depths for precision in family.precisions(depth)]
    place = whereabouts(family.id)
    exported = known(family.id.framework, _export_arguments(family, len(data.classes)))
    new = [(d, p) for d, p in tried if not (exported and bare(str(family.member(d, p))) in pace.p50_ms)]
    variants = [precision for _, precision in tried if precision != "fp32"]
    # All depths in float32 come from one pass over the data; every other file has one of its own.
    passes = len(variants) + any(precision == "fp32" for _, precision in tried)
    seconds = {
        "export": CACHED_S if exported else EXPORT_S.get(family.id.framework, OTHER_EXPORT_S),
        "variants": sum(VARIANT_S[precision] for precision in variants),
        "measure": len(new) * MEASURE_S,
        "probe": len(tried) * PROBE_S
        + passes * len(data) * BATCHED * _example_ms(family, card, data, pace) / 1e3,
    }
    return Step(
        name=str(family.id),
        candidates=len(tried),
        weights=place.said,
        download_mb=place.download_mb,
        disk_mb=_graphs_mb(family, card, tried, exported=exported),
        seconds=seconds,
        exported=exported,
    )


def _graphs_mb(
    family: Family, card: ModelCard | None, tried: Sequence[tuple[int | None, Precision]], *, exported: bool
) -> float:
    """Beside what the cache holds: the network's graph, and a file of each cut and of each precision."""
    whole = FLOAT32_BYTES * (card.params if card and card.params else 0) / 1e6
    files = sum(SMALLER[p] for depth, p in tried if p != "fp32" or family.depths is not None)
    return whole * (files + (not exported))


def _export_arguments(family: Family, classes: int) -> dict[str, Any]:
    """What `zoo.choose.artefacts.export_families` asks for, by which the answer is kept."""
    depths = None if family.depths is None else list(family.depths)
    return {"model": family.source, "depths": depths, "num_classes": classes}


def _example_ms(family: Family, card: ModelCard | None, data: Dataset, pace: Pace) -> float:
    """One example through the network at batch 1: as measured, or by its MACs."""
    measured = pace.p50_ms.get(bare(str(family.id)))
    if measured is not None and data.kind == "image":
        return measured
    return pace.expected_ms((card.macs_g if card and card.macs_g else 1.0) * _share(data, card))


def _share(data: Dataset, card: ModelCard | None) -> float:
    """Your texts' length as a share of the longest text, at which a card counts MACs; 1 for images."""
    if data.kind == "image" or card is None or not card.size:
        return 1.0
    words = float(np.median([len(str(text).split()) for text in data.inputs]))
    return min(1.0, (TOKENS_PER_WORD * words + 2) / card.size)
