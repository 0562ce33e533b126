"""How long the selector thinks: synthetic candidates through the ladder and the rule, nothing measured or loaded.

Each candidate has out-of-fold predictions on 528 examples of 6 classes that err together (as networks do) and a
cost. In `ties` all predict alike, so that cost alone orders them: the rule's worst case. In `spread` they do not.

    python benchmarks/select_logic.py [--record]
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from common import machine_line, record, table

from zoo.cards import Cost
from zoo.choose.evidence import Evidence
from zoo.choose.ladder import climb
from zoo.choose.objectives import ACCURACY, Objective, objective_named
from zoo.choose.rule import judge

EXAMPLES, CLASSES = 528, 6
LIMITS = {1_000: 2.0, 100_000: 60.0}


def synthetic(count: int, spread: float, *, probabilities: bool) -> tuple[dict[str, Evidence], np.ndarray]:
    """So many candidates, accuracies from 0.9 down by `spread`, and the targets."""
    rng = np.random.default_rng(0)
    targets = rng.integers(0, CLASSES, EXAMPLES)
    hard = rng.random(EXAMPLES)
    found = {}
    for number, accuracy in enumerate(0.9 - spread * rng.random(count)):
        mixed = np.where(rng.random(EXAMPLES) < 0.9, hard, rng.random(EXAMPLES)) if spread else hard
        correct = mixed < accuracy
        if probabilities:
            answers = np.where(correct, targets, (targets + 1) % CLASSES)
            sure = np.full((EXAMPLES, CLASSES), 0.2 / (CLASSES - 1), np.float32)
            sure[np.arange(EXAMPLES), answers] = 0.8
            found[f"toy:model-{number}"] = Evidence.of(sure, targets)
        else:
            found[f"toy:model-{number}"] = Evidence(correct)
    return found, targets


def costs_of(names: list[str]) -> dict[str, Cost]:
    """Latencies so near one another that intervals overlap by the hundred."""
    rng = np.random.default_rng(1)
    found = {}
    for name in names:
        middle = float(rng.lognormal(1.0, 0.7))
        half = middle * float(rng.uniform(0.005, 0.05))
        found[name] = Cost(
            name, latency_p50_ms=middle, latency_p50_low_ms=middle - half, latency_p50_high_ms=middle + half,
            file_bytes=int(rng.integers(1, 500)) * 1_000_000,
        )  # fmt: skip
    return found


def seconds(count: int, spread: float, objective: Objective) -> tuple[float, float, float, int, int]:
    """Of the ladder, of the rule, and of the processor for both; how many left, how many tied."""
    evidence, targets = synthetic(count, spread, probabilities=objective is not ACCURACY)
    costs = costs_of(list(evidence))
    spent, started = time.process_time(), time.perf_counter()
    climbed = climb(evidence, objective=objective, targets=targets)
    between = time.perf_counter()
    verdict = judge(evidence, costs, tolerance=0.01, objective=objective, targets=targets)
    ended, spent = time.perf_counter(), time.process_time() - spent
    return between - started, ended - between, spent, len(climbed.leave), len(verdict.tied)


def main() -> None:
    """Print the table; with --record into RESULTS.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--record", action="store_true")
    arguments = parser.parse_args()
    rows = []
    plan = [
        (1_000, 0.5, "accuracy"), (1_000, 0.0, "accuracy"), (1_000, 0.5, "macro-f1"), (1_000, 0.5, "log-loss"),
        (100_000, 0.5, "accuracy"), (100_000, 0.0, "accuracy"),
    ]  # fmt: skip
    for count, spread, name in plan:
        ladder, rule, spent, left, tied = seconds(count, spread, objective_named(name))
        within = "yes" if ladder + rule <= LIMITS[count] else "NO"
        kind = "spread" if spread else "ties"
        rows.append(
            (f"{count:,} {kind}, {name}", f"{ladder:.2f}", f"{rule:.2f}", f"{spent:.2f}", f"{left:,}", f"{tied:,}",
             f"{LIMITS[count]:g}", within)
        )  # fmt: skip
        print(rows[-1], flush=True)
    header = (
        "candidates",
        "ladder s",
        "rule s",
        "CPU s of both",
        "left at the probe",
        "tied",
        "allowed s",
        "within",
    )
    text = (
        f"## The selector's logic alone\n\n`python benchmarks/select_logic.py --record`: predictions on {EXAMPLES} "
        f"examples of {CLASSES} classes. {machine_line('numpy')}\n\n{table(header, rows)}\n"
    )
    print(text)
    if arguments.record:
        record("select logic", text)


if __name__ == "__main__":
    main()
