"""How good the selector's choice is: regret against the oracle, the seconds it takes, what cheap scores are worth.

    python benchmarks/select_regret.py [--task hymenoptera|sst2] [--record]

Reads what `benchmarks/select_truth.py` has brought together so far, as many whole splits as there are. (This file is
not called select.py: in a folder of scripts that name would hide Python's own `select` from every one of them.)
Regret: test accuracy of the oracle's choice (of every candidate that fits, trained with every setting, the best on the
validation part) less that of a strategy's, in points; below 0 the oracle was unlucky.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from common import machine_line, record, table
from scipy.stats import kendalltau, t
from select_margin import margin_of, steps
from select_space import SEEDS, SPLITS, TASKS, Task
from select_strategies import (
    Case,
    Pick,
    by_score,
    largest,
    oracle,
    ours,
    ours_tuned,
    published,
    random_search,
)
from select_table import MODES, NAMES, Table, probes
from threadpoolctl import threadpool_limits

from zoo.cards import Budget
from zoo.choose.arms import HEAD_EPOCHS
from zoo.choose.limits import describe
from zoo.engine import Array

SHARES = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
"""Of the oracle's seconds, at which random search is looked at."""
FEW = (1, 2, 3)
"""Networks that halving may train."""


@dataclass(frozen=True)
class Line:
    """A strategy's regret, and its CPU seconds; [splits, budgets] each."""

    name: str
    regret: Array
    cpu: Array


@dataclass(frozen=True)
class Oracle:
    """Its CPU seconds [splits, budgets]: of the seeds that there are, and with all of them."""

    cpu: Array
    full: Array


def budgets(table: Table) -> list[Budget]:
    """Five that bind: latencies and sizes at quantiles of the candidates', and one of both."""
    costs = list(table.costs.values())
    p50 = [cost.latency_p50_ms or math.inf for cost in costs]
    size = [cost.size_mb or math.inf for cost in costs]

    def at(values: Sequence[float], share: float) -> float:
        return float(f"{np.quantile(values, share):.2g}")

    return [
        Budget(latency_ms=at(p50, 0.25)),
        Budget(latency_ms=at(p50, 0.6)),
        Budget(size_mb=at(size, 0.25)),
        Budget(size_mb=at(size, 0.6)),
        Budget(latency_ms=at(p50, 0.8), size_mb=at(size, 0.8)),
    ]


def interval(values: Array, task: Task) -> tuple[float, float, float]:
    """Mean and 95 % interval over splits that share examples: values [S]; (Nadeau & Bengio 2003, corrected t).

    Their n2 / n1 is here that of the pool: what a split tests on by what it does not.
    """
    mean, count = float(values.mean()), len(values)
    if count < 2:
        return mean, -math.inf, math.inf
    tested = len(task.split(0).test) / len(task.data)
    error = math.sqrt(float(values.var(ddof=1)) * (1 / count + tested / (1 - tested)))
    half = float(t.ppf(0.975, count - 1)) * error
    return mean, mean - half, mean + half


def strategies(*, short: bool) -> dict[str, Callable[[Case], Pick]]:
    """By the name of their row."""
    found: dict[str, Callable[[Case], Pick]] = {"zoo select: probes and its rule": ours}
    if short:
        for most in FEW:
            name = f"zoo select: and halving of {most} network{'s' if most > 1 else ''}"
            found[name] = partial(ours_tuned, most=most)
    found |= {f"{name} alone": partial(by_score, name=name) for name in NAMES}
    for name, way in (("largest that fits", largest), ("published metric first", published)):
        found[f"{name}, probe's head"] = partial(way, tuned=False)
        found[f"{name}, every setting"] = partial(way, tuned=True)
    return found


def lines(cases: Sequence[Sequence[Case]], *, tuned: bool) -> tuple[list[Line], Oracle]:
    """Every strategy's, and the oracle's seconds. cases: by split, then budget.

    tuned: also those that fine-tune, whose evidence is on the validation part, where the probes' has to be too.
    """
    best = [[oracle(case) for case in row] for row in cases]
    seconds, full = (np.array([[getattr(p, part) for p in row] for row in best]) for part in ("cpu", "full"))
    truth = np.array([[pick.test for pick in row] for row in best])
    short = tuned and all(row[0].table.has_short(row[0].split) for row in cases)
    found = []
    for name, way in strategies(short=short).items():
        picks = [[way(case) for case in row] for row in cases]
        test, cpu = (np.array([[getattr(p, part) for p in row] for row in picks]) for part in ("test", "cpu"))
        found.append(Line(name, truth - test, cpu))
    draws = np.array(
        [
            [
                random_search(case, [share * pick.cpu for share in SHARES])
                for case, pick in zip(*rows, strict=True)
            ]
            for rows in zip(cases, best, strict=True)
        ]
    )
    for place, share in enumerate(SHARES):
        name = f"random search, {100 * share:.0f} % of the oracle's time"
        found.append(Line(name, truth - draws[:, :, place], share * seconds))
    return found, Oracle(seconds, full)


def regret_table(found: Sequence[Line], spent: Oracle, given: Sequence[Budget], task: Task) -> str:
    """A row a strategy. Shares are of the seconds of all budgets together."""
    rows = []
    for line in found:
        mean, low, high = interval(line.regret.mean(axis=1), task)
        between = "" if math.isinf(low) else f"{points(low)} to {points(high)}"
        each = [points(value) for value in line.regret.mean(axis=0)]
        shares = [f"{100 * line.cpu.sum() / whole.sum():.1f} %" for whole in (spent.cpu, spent.full)]
        rows.append([line.name, points(mean, 2), between, *each, f"{line.cpu.mean():.1f}", *shares])
    header = ["strategy", "regret, points", "95 %", *map(describe, given), "CPU s", "of the oracle's",
              f"with {len(SEEDS)} seeds"]  # fmt: skip
    return table(header, rows)


def points(share: float, digits: int = 1) -> str:
    """A difference of accuracies in points; what rounds to 0 has no sign."""
    value = round(100 * share, digits)
    return f"{value:+.{digits}f}" if value else f"{0:.{digits}f}"


def truths(found: Table) -> tuple[list[str], Array]:
    """Labels of the float32 candidates, and accuracy [splits, candidates] on test of each one's best setting."""
    chosen = [c for c in found.task.candidates if c.precision == "fp32"]
    case = partial(Case, found, budget=Budget(), probes={})
    rows = [
        [case(split=s).best([*found.heads(c, s), *found.whole(c, s)]).test for c in chosen]
        for s in found.splits
    ]
    return [c.label for c in chosen], np.array(rows)


def tau_table(found: Table, mode: str) -> str:
    """Kendall's tau-b of each score with the fine-tuned truth, in a split and of the means over splits."""
    labels, truth = truths(found)
    known = [probes(found.task, split, mode) for split in found.splits]
    scores = {
        name: np.array([[probed[label].scores[name] for label in labels] for probed in known])
        for name in NAMES
    }
    places = [np.argsort(np.argsort(values, axis=1), axis=1) for values in scores.values()]
    scores["mean of their ranks"] = np.mean(places, axis=0)
    whole = {"MACs": [found.costs[label].macs or 0 for label in labels]}
    whole["published top-1"] = [found.task.network(label).published or 0.0 for label in labels]
    scores |= {name: np.tile(values, (len(truth), 1)) for name, values in whole.items()}
    rows = []
    for name, values in scores.items():
        one = [kendalltau(a, b).statistic for a, b in zip(values, truth, strict=True)]
        both = kendalltau(values.mean(axis=0), truth.mean(axis=0)).statistic
        rows.append([name, f"{np.mean(one):.2f}", f"{min(one):.2f} to {max(one):.2f}", f"{both:.2f}"])
    return table(["score", "tau in a split, mean", "range", "tau of the means"], rows)


def report(task: Task, *, only_heads: bool = False, most: int = SPLITS) -> str:
    """The section of one task, of the first `most` splits that are whole."""
    found = Table(task, only_heads=only_heads)
    found.splits = found.splits[:most]
    if not found.splits:
        return f"### {task.name}\n\nNo split is whole yet: python benchmarks/select_truth.py --status."
    given = budgets(found)
    texts = [f"### {task.name}", _said(found)]
    for mode in MODES:
        cases = [
            [Case(found, split, budget, probes(task, split, mode)) for budget in given]
            for split in found.splits
        ]
        margin = margin_of(cases)
        results, spent = lines(cases, tuned=mode == MODES[0])
        by_budget = ", ".join(f"{value:.0f}" for value in spent.cpu.mean(axis=0))
        texts += [
            f"Judged by {mode}; the oracle takes {spent.cpu.mean():.0f} s of CPU a budget ({by_budget}), with "
            f"{len(SEEDS)} seeds {spent.full.mean():.0f} s.",
            regret_table(results, spent, given, task),
            margin.text,
        ]
    if not only_heads:
        texts.append(steps(found))
    texts += ["Kendall's tau with the accuracy of a network's best setting, float32 candidates:",
              tau_table(found, MODES[1])]  # fmt: skip
    return "\n\n".join(texts)


def _said(found: Table) -> str:
    task, split = found.task, found.task.split(0)
    seeds = [len(found.seeds(number)) for number in found.splits]
    parts = [
        "Reduced"
        if len(found.splits) < SPLITS or min(seeds) < len(SEEDS) or found.only_heads
        else "Complete",
        f"{len(found.splits)} of {SPLITS} splits of {len(task.data)} examples ({len(split.train)} train, "
        f"{len(split.validation)} validate, {len(split.test)} test)",
        f"{len(task.candidates)} candidates, {min(seeds)} to {max(seeds)} of {len(SEEDS)} seeds",
        "heads alone are trained"
        if found.only_heads
        else f"{task.epochs} epochs of all layers, "
        f"{HEAD_EPOCHS * task.epochs} of a head; int8 as heads only; of the same weights in two frameworks one is "
        "fine-tuned",
    ]
    return f"{'; '.join(parts)}."


def main() -> int:
    """Print the figures that the table allows for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--task", choices=TASKS)
    parser.add_argument(
        "--heads", action="store_true", help="an oracle that trains heads alone: all splits, soon"
    )
    parser.add_argument("--splits", type=int, default=SPLITS, help="look at so many at the most")
    parser.add_argument("--record", action="store_true", help="write the section into RESULTS.md")
    given = parser.parse_args()
    names = [given.task] if given.task else list(TASKS)
    with threadpool_limits(1):
        parts = [report(TASKS[name], only_heads=given.heads, most=given.splits) for name in names]
    source = "`python benchmarks/select_regret.py`, from the runs of `python benchmarks/select_truth.py`."
    machine = machine_line("onnxruntime", "torch", "tensorflow")
    text = "\n\n".join(["## The selector's choice", source, *parts, machine])
    print(text)
    if given.record:
        record("select_regret", text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
