"""Selections to make reports of: as large and as awkward as a test asks, from the real rule, seeded."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from zoo.cards import Budget, Cost
from zoo.choose.details import mistakes, ranking
from zoo.choose.evidence import Evidence
from zoo.choose.limits import excesses
from zoo.choose.rows import Row
from zoo.choose.rule import judge
from zoo.choose.selection import Selection

TOLERANCE = 0.02
WITHIN = Budget(latency_ms=8.0, size_mb=60.0)


@dataclass(frozen=True)
class Sample:
    """A selection, and what the rule was given."""

    selection: Selection
    evidence: dict[str, Evidence]
    costs: dict[str, Cost]


def sample(
    count: int,
    *,
    classes: Sequence[str] = ("ants", "bees", "wasps"),
    examples: int = 400,
    inputs: Sequence[str | Path] = (),
    seed: int = 0,
    budget: Budget = WITHIN,
) -> Sample:
    """`count` candidates, costlier ones better on the whole; several share a quality or a latency."""
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, len(classes), examples)
    texts = inputs or [f"example number {i}" for i in range(examples)]
    evidence, costs, found = {}, {}, {}
    for i in range(count):
        name = f"{('torch', 'tf', 'hf')[i % 3]}:network-{i:02d}@some_weights,depth={i % 7 + 1}"
        strength = 1.2 + 2.2 * i / max(count, 1) + rng.normal(0, 0.25)
        logits = rng.normal(0, 1, (examples, len(classes)))
        logits[np.arange(examples), targets] += strength
        probabilities = (np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)).astype(np.float32)
        evidence[name] = Evidence(probabilities.argmax(axis=1) == targets)
        costs[name] = _cost(name, i, count, rng)
        found[name] = mistakes(probabilities, targets, texts)
    return Sample(_selection(evidence, costs, found, classes, budget), evidence, costs)


def _cost(name: str, i: int, count: int, rng: np.random.Generator) -> Cost:
    scale = float(np.exp(3.2 * i / max(count, 1) + rng.normal(0, 0.35)))
    # Latencies in bunches closer than their noise, and sizes that go their own way: then the rule's last steps count.
    p50 = float(2 ** (round(2 * np.log2(0.7 * scale)) / 2) * (1 + rng.uniform(-0.04, 0.04)))
    noise, size = rng.uniform(0.02, 0.3), scale * np.exp(rng.normal(0, 0.4))
    return Cost(
        name,
        threads=2,
        params=int(2.1e6 * scale),
        macs=int(9e7 * scale),
        file_bytes=int(8.6e6 * size),
        load_ms=20 * scale,
        latency_p50_ms=p50,
        latency_p50_low_ms=p50 * (1 - noise) if i % 4 else None,
        latency_p50_high_ms=p50 * (1 + noise) if i % 4 else None,
        latency_p90_ms=p50 * 1.2,
        latency_p90_high_ms=p50 * 1.3,
        throughput_per_s=900 / scale,
        peak_memory_mb=40 + 22 * scale if i % 9 else None,
        spread=float(noise),
        precision="float32",
        inputs={"images": "float32[1,3,224,224]"},
        machine={"cpu": "a test's", "cores": "2"},
    )


def _selection(
    evidence: dict[str, Evidence],
    costs: dict[str, Cost],
    details: dict[str, dict[str, object]],
    classes: Sequence[str],
    budget: Budget,
) -> Selection:
    fitting = {name: found for name, found in evidence.items() if not excesses(costs[name], budget)}
    verdict = judge(fitting, costs, tolerance=TOLERANCE)
    rows = []
    for place, name in enumerate(verdict.order):
        status = "chosen" if place == 0 else "tied" if name in verdict.tied else "within"
        reason = verdict.reasons.get(name, "the cheapest of the best")
        rows.append(_row(evidence, costs, details, name, status, reason))
    for name in evidence:
        if name not in fitting:
            reason = ", ".join(map(str, excesses(costs[name], budget)))
            rows.append(_row(evidence, costs, details, name, "over budget", reason))
    rows.append(Row("majority class", "baseline", "no backbone", 0.4, 0.35, 0.45, stage=""))
    rows.append(Row("torch:broken", "failed", "worker 'torch' exited with code 3", stage="measured cost"))
    rule = ranking(evidence, costs, functools.partial(judge, tolerance=TOLERANCE))
    settings = {"tolerance": TOLERANCE, "folds": 5, "seed": 0, "source": "a sample", "classes": list(classes)}
    why = f"Ship {verdict.order[0]}: a sample."
    return Selection(
        verdict.order[0],
        why,
        budget,
        tuple(rows),
        {**settings, "ranking": rule},
        costs[verdict.order[0]],
        seconds={"export": 31.4, "measure": 64.0, "probe": 4.4, "ship": 9.9},
    )


def _row(
    evidence: dict[str, Evidence],
    costs: dict[str, Cost],
    details: dict[str, dict[str, object]],
    name: str,
    status: str,
    reason: str,
) -> Row:
    found = evidence[name]
    stage = {"chosen": "shipped", "over budget": "measured cost"}.get(status, "probe")
    return Row(name, status, reason, found.accuracy, *found.interval, costs[name], stage, details[name])


def photograph(path: Path, seed: int, size: tuple[int, int] = (320, 240)) -> Path:
    """A smooth coloured picture."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(30, 230, (4, 5, 3)).astype(np.uint8))
    path.parent.mkdir(parents=True, exist_ok=True)
    small.resize(size, Image.Resampling.BICUBIC).save(path)
    return path
