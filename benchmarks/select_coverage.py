"""Do the 95 % intervals hold the truth? Resampled thousands of times from sentences of sst2 that nothing was fitted on.

Fixed: probes on two depths of MiniLM are fitted on 500 sentences; the other 9,113 are the pool, and their accuracy on
all of it is the truth. Samples of several sizes are drawn from the pool with replacement, so that it is the
population itself: how often does each interval, of one probe and of the pair, hold the pool's figure?

Whole: what a selection does. 500 sentences are drawn without replacement, the ridge probe is fitted on them and judged
by leaving each out; the truth is what that very probe reaches on the rest of the pool. This interval leaves out
that another 500 would have given another probe, which is known to make cross-validation's intervals too short
(Bengio & Grandvalet 2004; Bates, Hastie & Tibshirani 2024): by how much is measured here.

    python benchmarks/select_coverage.py [--resamplings 2000] [--draws 1000] [--record]

Real data is in ../shared; without that folder there is nothing to measure.
"""

from __future__ import annotations

import argparse

import numpy as np
from common import machine_line, record, table
from select_features import features
from select_space import pooled

from zoo.choose.evidence import Evidence, fit_linear_head, one_thread
from zoo.choose.objectives import ACCURACY, NAMED, MeanCost
from zoo.choose.ridge import coefficients, leave_out
from zoo.choose.spectrum import Spectrum, decompose
from zoo.probability import softmax

PAIR = {f"depth {depth}": f"hf:all-minilm-l6-v2,depth={depth}" for depth in (2, 4)}
FITTED, SIZES, WANTED = 500, (100, 250, 500, 1000), 0.94
OBJECTIVES = [*NAMED.values(), MeanCost(np.array([[0.0, 5.0], [1.0, 0.0]]))]


def fixed(found: list[Evidence], targets: np.ndarray, resamplings: int) -> list[tuple[object, ...]]:
    """A row an objective and size: the shares that hold the pool's figure, of one and of the pair."""
    rows: list[tuple[object, ...]] = []
    for objective in OBJECTIVES:
        truth = objective.value(found[1], targets)
        gap = objective.gap(found[1], found[0], targets).value
        for size in SIZES:
            rng = np.random.default_rng(size)
            alone = paired = 0
            for _ in range(resamplings):
                places = rng.integers(0, len(targets), size)
                first, second = (Evidence(e.correct[places], e.probabilities[places]) for e in found)
                low, high = objective.interval(second, targets[places])
                both = objective.gap(second, first, targets[places])
                alone += low <= truth <= high
                paired += both.low <= gap <= both.high
            shares = alone / resamplings, paired / resamplings
            held = "yes" if min(shares) >= WANTED else "NO"
            rows.append(
                (
                    objective.name,
                    size,
                    f"{truth:.3f}",
                    f"{shares[0]:.4f}",
                    f"{gap:+.4f}",
                    f"{shares[1]:.4f}",
                    held,
                )
            )
            print(rows[-1], flush=True)
    return rows


@one_thread
def whole(found: list[np.ndarray], targets: np.ndarray, draws: int) -> tuple[float, float, float, float]:
    """Shares that hold the truth, of one and of the pair; mean of estimate less truth, of one and of the pair."""
    rng = np.random.default_rng(0)
    held, off = np.zeros(2), np.zeros(2)
    for turn in range(draws):
        places = rng.permutation(len(targets))
        drawn, rest = places[:FITTED], places[FITTED:]
        judged, truths = [], []
        for x in found:
            spectrum: Spectrum = decompose(x[drawn])
            left = leave_out(spectrum, targets[drawn])
            weight, bias = coefficients(spectrum, targets[drawn], left.strength)
            judged.append(Evidence(left.scores.argmax(axis=1) == targets[drawn]))
            truths.append(float(((x[rest] @ weight.T + bias).argmax(axis=1) == targets[rest]).mean()))
        low, high = ACCURACY.interval(judged[1])
        gap, true_gap = ACCURACY.gap(judged[1], judged[0]), truths[1] - truths[0]
        held += (low <= truths[1] <= high, gap.low <= true_gap <= gap.high)
        off += (judged[1].accuracy - truths[1], gap.value - true_gap)
        if turn % 200 == 199:
            print(f"{turn + 1} of {draws}: {held / (turn + 1)}", flush=True)
    return (*(held / draws), *(off / draws))


def probes(found: list[np.ndarray], targets: np.ndarray) -> tuple[list[Evidence], np.ndarray]:
    """Predictions of the pool by probes on FITTED sentences, and the pool's targets."""
    places = np.random.default_rng(0).permutation(len(targets))
    fitted, pool = places[:FITTED], places[FITTED:]
    judged = []
    for x in found:
        weight, bias = fit_linear_head(x[fitted], targets[fitted], 2, seed=0)
        judged.append(Evidence.of(softmax(x[pool] @ weight.T + bias), targets[pool]))
    return judged, targets[pool]


def in_words(found: tuple[float, float, float, float], draws: int) -> str:
    """What `whole` found."""
    alone, paired, off, off_pair = found
    return (
        f"\nThe whole procedure, drawn {draws} times: {FITTED} sentences, the ridge probe judged by leaving each out, "
        f"against what that probe reaches on the rest of the pool. Wilson's interval holds it in {alone:.4f}, the "
        f"paired one in {paired:.4f} of the draws; the estimate is {100 * off:+.2f} points off on the mean, "
        f"that of the gap {100 * off_pair:+.2f}.\n"
    )


def main() -> None:
    """Print the tables; with --record into RESULTS.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--resamplings", type=int, default=2000)
    parser.add_argument("--draws", type=int, default=1000, help="Of the whole procedure; 0: leave it out.")
    parser.add_argument("--record", action="store_true")
    arguments = parser.parse_args()
    data = pooled("sst2")
    found = list(features(PAIR, data).values())
    judged, targets = probes(found, data.targets)
    rows = fixed(judged, targets, arguments.resamplings)
    header = ("objective", "examples", "truth", "holds it", "true gap", "paired holds it", "at least 0.94")
    text = (
        f"## Do the intervals hold the truth?\n\n`python benchmarks/select_coverage.py --record`: "
        f"{arguments.resamplings} resamplings of a pool of {len(targets)} sentences of sst2 that the probes "
        f"(MiniLM, depth 4 and, in pairs, depth 2) were not fitted on. The same samples for every objective, so that "
        f"lines of one size go up and down together; a share has a standard error of "
        f"{(0.95 * 0.05 / arguments.resamplings) ** 0.5:.4f}. {machine_line('numpy', 'scikit-learn')}"
        f"\n\n{table(header, rows)}\n"
    )
    if arguments.draws:
        text += in_words(whole(found, data.targets, arguments.draws), arguments.draws)
    print(text)
    if arguments.record:
        record("select coverage", text)


if __name__ == "__main__":
    main()
