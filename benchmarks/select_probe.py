"""Which probe for what: ridge with leave-one-out against cross-validated logistic regression, on real features.

Four image networks on the 397 photographs of hymenoptera, six depths of MiniLM on 1,000 sentences of sst2. Accuracy
of both probes, how often they give the same answer, whom each would drop at the ladder, their rank correlation, and
seconds (one BLAS thread, the median of three; features are there already). Then what it flatters to choose the
ridge's strength on the examples that it is judged on: against choosing it again for each example without it.

    python benchmarks/select_probe.py [--record]

Real weights and data are in ../shared; without that folder there is nothing to measure.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from common import machine_line, record, table
from scipy.stats import kendalltau
from select_features import IMAGES, TEXTS, features
from select_space import pooled

from zoo.choose.evidence import Evidence, cross_validate, one_thread
from zoo.choose.ladder import MARGIN, climb
from zoo.choose.logme import logme
from zoo.choose.ridge import coefficients, leave_out, ridge_evidence
from zoo.choose.spectrum import decompose
from zoo.data import Dataset, folds
from zoo.data.dataset import input_digests

ROUNDS, FOLDS, SENTENCES = 3, 5, 1000
SMALL, DRAWS = 100, 10


def timed(run: Callable[[], Any]) -> tuple[Any, float]:
    """Its result, and the median seconds of three runs."""
    seconds = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        result = run()
        seconds.append(time.perf_counter() - started)
    return result, statistics.median(seconds)


def groups_of(data: Dataset) -> np.ndarray:
    """int [N], equal for equal inputs."""
    numbers: np.ndarray = np.unique(input_digests(data.inputs), axis=0, return_inverse=True)[1].reshape(-1)
    return numbers


def agreement(named: dict[str, str], data: Dataset) -> tuple[list[tuple[object, ...]], str]:
    """A row a network, and what to say of all."""
    found, splits, groups = features(named, data), folds(data.targets, FOLDS, seed=0), groups_of(data)
    ridge: dict[str, Evidence] = {}
    logistic: dict[str, Evidence] = {}
    evidence_of: dict[str, float] = {}
    rows: list[tuple[object, ...]] = []
    spent = np.zeros(3)
    for name, x in found.items():
        ridge[name], quick = timed(lambda x=x: ridge_evidence(x, data.targets, splits, groups))
        logistic[name], slow = timed(lambda x=x: cross_validate(x, data.targets, splits, seed=0))
        evidence_of[name], extra = timed(lambda x=x: one_thread(logme)(decompose(x), data.targets))
        spent += (quick, slow, extra)
        same = (ridge[name].correct == logistic[name].correct).mean()
        rows.append(
            (f"{name} on {data.source}", x.shape[1], f"{ridge[name].accuracy:.3f}", f"{logistic[name].accuracy:.3f}",
             f"{same:.3f}", f"{evidence_of[name]:.3f}", f"{quick:.3f}", f"{slow:.3f}")
        )  # fmt: skip
        print(rows[-1], flush=True)
    scores = [[found[name].accuracy for name in ridge] for found in (ridge, logistic)]
    taus = [float(kendalltau(a, scores[1]).statistic) for a in (scores[0], list(evidence_of.values()))]
    left = [", ".join(climb(found).leave) or "nobody" for found in (ridge, logistic)]
    return rows, (
        f"On {data.source} ({len(data)} examples, {len(np.unique(groups))} different) Kendall's tau with the logistic "
        f"probe's accuracy is {taus[0]:.2f} for the ridge and {taus[1]:.2f} for LogME. At a margin of "
        f"{100 * MARGIN:.0f} points the ridge drops {left[0]}, the logistic probe {left[1]}. Seconds in all: ridge "
        f"{spent[0]:.2f}, logistic {spent[1]:.2f} ({spent[1] / spent[0]:.0f} times), LogME {spent[2]:.2f}."
    )


@one_thread
def nested(x: np.ndarray, targets: np.ndarray) -> tuple[float, float]:
    """Accuracy with the strength chosen once, and chosen again without each example; brute force."""
    once = leave_out(decompose(x), targets).scores.argmax(axis=1) == targets
    right = 0
    for index in range(len(targets)):
        rest = np.arange(len(targets)) != index
        spectrum = decompose(x[rest])
        weight, bias = coefficients(spectrum, targets[rest], leave_out(spectrum, targets[rest]).strength)
        right += int((weight @ x[index] + bias).argmax() == targets[index])
    return float(once.mean()), right / len(targets)


def flattery(named: dict[str, str], data: Dataset) -> list[tuple[object, ...]]:
    """A row a network: both accuracies over DRAWS samples of SMALL examples, and the difference in points."""
    rows: list[tuple[object, ...]] = []
    for name, x in features(named, data).items():
        pairs = []
        for seed in range(DRAWS):
            chosen = np.random.default_rng(seed).permutation(len(data))[:SMALL]
            pairs.append(nested(x[chosen].astype(np.float64), data.targets[chosen]))
        once, again = np.array(pairs).T
        gaps = 100 * (once - again)
        error = gaps.std(ddof=1) / DRAWS**0.5
        rows.append(
            (f"{name} on {data.source}", f"{once.mean():.3f}", f"{again.mean():.3f}", f"{gaps.mean():+.2f}",
             f"{error:.2f}")
        )  # fmt: skip
        print(rows[-1], flush=True)
    return rows


def main() -> None:
    """Print both tables; with --record into RESULTS.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--record", action="store_true")
    arguments = parser.parse_args()
    texts = pooled("sst2")
    texts = texts.subset(np.sort(np.random.default_rng(0).permutation(len(texts))[:SENTENCES]))
    sets = ((IMAGES, pooled("hymenoptera")), (TEXTS, texts))
    agreed = [agreement(named, data) for named, data in sets]
    flattered = [row for named, data in sets for row in flattery(named, data)]
    first = table(
        ("network", "columns", "ridge", "logistic", "right or wrong alike", "LogME", "ridge s", "logistic s"),
        [row for rows, _ in agreed for row in rows],
    )
    second = table(("network", "strength chosen once", "chosen again", "points", "standard error"), flattered)
    text = (
        f"## The cheap probe\n\n`python benchmarks/select_probe.py --record`: seconds with one BLAS thread, the median "
        f"of {ROUNDS}. {machine_line('numpy', 'scikit-learn')}\n\n{first}\n\n"
        + "\n\n".join(said for _, said in agreed)
        + f"\n\nChoosing the ridge's strength on the examples that it is judged on, {DRAWS} draws of {SMALL} examples "
        f"each: leave-one-out with one strength for all, against a strength chosen anew without each example.\n\n"
        f"{second}\n"
    )
    print(text)
    if arguments.record:
        record("select probe", text)


if __name__ == "__main__":
    main()
