"""The meter on trial: against a bare loop, its order beside a CPU hog, its bounds, its memory, its speed.

    python benchmarks/meter_timing.py [--parts bare order bounds memory speed] [--runs 20] [--record]

bare    p50 beside a bare ONNX Runtime loop (default options, the same threads) in a fresh process, interleaved with the
        meter: loop, meter, loop, meter ...; the figure is the median of the pairs' ratios.
order   eight graphs 12 % apart, in random order on the command line, with a process beside them that burns a core
        for 0.2 to 3 s, then stops for as long, at random.
bounds  observed coverage of the upper bounds on i.i.d. draws whose quantile is known, 10,000 trials.
memory  peak memory beside the operating system's: ru_maxrss of a bare process that loads and runs the same graph,
        asked by its waiting parent, less its resident size, seen from outside, when ONNX Runtime was imported.
speed   seconds for 20 small graphs with the default settings.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import meter_graphs
import numpy as np
import psutil
from common import machine_line, record, table

from zoo.cards import Cost
from zoo.cost import measure, usable_cores
from zoo.cost.percentiles import CONFIDENCE, needed, upper_bound

# The loop that anybody would write; it says when onnxruntime is there, and waits to be looked at.
BARE = """
import json, os, sys, time
import numpy, onnxruntime
print(os.getpid(), flush=True); sys.stdin.readline()
path, threads, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
options = onnxruntime.SessionOptions(); options.intra_op_num_threads = threads
session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
shape = [d if isinstance(d, int) else 1 for d in session.get_inputs()[0].shape]
feed = {"images": numpy.random.default_rng(0).standard_normal(shape).astype("float32")}
for _ in range(10): session.run(None, feed)
times, end = [], time.perf_counter() + seconds
while len(times) < 12 or time.perf_counter() < end:
    started = time.perf_counter(); session.run(None, feed); times.append((time.perf_counter() - started) * 1e3)
print(json.dumps(times), flush=True)
"""


# A child's ru_maxrss begins with the resident size of what started it (exec keeps the old mark): so a small process
# starts it.
WAIT = """
import os, sys
child = os.posix_spawn(sys.executable, [sys.executable, *sys.argv[1:]], os.environ)
print(os.wait4(child, 0)[2].ru_maxrss * (1 if sys.platform == "darwin" else 1024))
"""


def bare(path: Path, threads: int, seconds: float) -> tuple[list[float], float]:
    """Milliseconds of its runs, and its memory in MB: ru_maxrss less its resident size after the imports."""
    command = [sys.executable, "-c", WAIT, "-c", BARE, str(path), str(threads), str(seconds)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as waiting:
        assert waiting.stdout is not None and waiting.stdin is not None
        before = psutil.Process(int(waiting.stdout.readline())).memory_info().rss
        waiting.stdin.write("\n")
        waiting.stdin.flush()
        times = json.loads(waiting.stdout.readline())
        most = int(waiting.stdout.readline())
    return times, (most - before) / 1e6


def measured(graphs: Mapping[str, Path], **options: object) -> dict[str, Cost]:
    costs = measure(list(graphs.items()), **options)  # type: ignore[arg-type]  # a benchmark's own options
    if bad := [f"{cost.id}: {cost.error}" for cost in costs if cost.error]:
        raise SystemExit("\n".join(bad))
    return {cost.id: cost for cost in costs}


def bare_part(folder: Path, runs: int) -> str:
    """Alternating, model by model, so that the machine is the same for both."""
    rows = []
    for name, path in meter_graphs.of_many_sizes(folder).items():
        ratios, ours, theirs, noisy = [], [], [], 0
        for _ in range(max(3, runs // 4)):
            times, _ = bare(path, usable_cores(), 1.0)
            cost = measured({name: path})[name]
            theirs.append(statistics.median(times))
            ours.append(cost.latency_p50_ms or float("nan"))
            ratios.append(ours[-1] / theirs[-1])
            noisy += cost.warning is not None
        middle = statistics.median(ratios)
        rows.append(
            [name, f"{statistics.median(ours):.3f}", f"{statistics.median(theirs):.3f}", f"{middle:.3f}",
             f"{min(ratios):.2f}-{max(ratios):.2f}", noisy, "yes" if abs(middle - 1) <= 0.03 else "NO"]
        )  # fmt: skip
        print(rows[-1], flush=True)
    header = ("graph", "meter p50 ms", "bare p50 ms", "ratio", "range", "noisy runs", "within 3 %")
    return "Against a bare loop in a fresh process, ONNX Runtime's default options:\n\n" + table(header, rows)


@contextlib.contextmanager
def hog() -> Iterator[None]:
    """A process that burns a core, started and stopped at random."""
    over = threading.Event()

    def play() -> None:
        rng = random.Random(0)
        while not over.is_set():
            burner = subprocess.Popen([sys.executable, "-c", "while True: pass"])
            over.wait(rng.uniform(0.2, 3))
            burner.kill()
            burner.wait()
            over.wait(rng.uniform(0.2, 3))

    player = threading.Thread(target=play)
    player.start()
    try:
        yield
    finally:
        over.set()
        player.join()


def order_part(folder: Path, runs: int) -> str:
    graphs = meter_graphs.in_order(folder)
    rng, right, false_ties, lowest = random.Random(0), 0, 0, []
    with hog():
        for run in range(runs):
            names = list(graphs)
            rng.shuffle(names)
            costs = measured({name: graphs[name] for name in names})
            p50 = [costs[name].latency_p50_ms or float("nan") for name in graphs]
            steps = [b / a for a, b in itertools.pairwise(p50)]
            right += all(step > 1 for step in steps)
            false_ties += sum(len(cost.ties) for cost in costs.values()) // 2
            lowest.append(min(steps))
            print(
                run,
                all(s > 1 for s in steps),
                [round(p, 3) for p in p50],
                costs["depth 16"].warning,
                flush=True,
            )
    return (
        f"Order of eight graphs 12 % apart (by layers) beside a hog: right in {right} of {runs} runs; the closest "
        f"neighbours came out {100 * (min(lowest) - 1):.1f} % apart in the worst run; {false_ties} pairs in all runs "
        "were called tied."
    )


LAWS: dict[str, tuple[Callable[[np.random.Generator, int], np.ndarray], Callable[[float], float]]] = {
    "exponential": (lambda r, n: r.exponential(1, n), lambda p: -np.log(1 - p)),
    "lognormal, sigma 1.5": (
        lambda r, n: r.lognormal(0, 1.5, n),
        lambda p: float(np.exp(1.5 * statistics.NormalDist().inv_cdf(p))),
    ),
    "Pareto, alpha 1.1": (lambda r, n: 1 + r.pareto(1.1, n), lambda p: (1 - p) ** (-1 / 1.1)),
    # 88 % at 1 to 1.1, 12 % a Pareto from 20 on: p90 lies in the second part.
    "mixture of two modes": (
        lambda r, n: np.where(r.random(n) < 0.88, r.uniform(1, 1.1, n), 20 * (1 + r.pareto(2, n))),
        lambda p: 1 + 0.1 * p / 0.88 if p < 0.88 else 20 * ((1 - p) / 0.12) ** -0.5,
    ),
}


def bounds_part(trials: int) -> str:
    rows = []
    allowed = CONFIDENCE - 3 * (CONFIDENCE * (1 - CONFIDENCE) / trials) ** 0.5
    for number, (name, (draw, quantile)) in enumerate(LAWS.items()):
        rng = np.random.default_rng(number)
        for percent in (50, 90, 99):
            for count in (needed(percent), 3 * needed(percent)):
                truth = quantile(percent / 100)
                covered = np.mean(
                    [(upper_bound(draw(rng, count), percent) or 0) >= truth for _ in range(trials)]
                )
                verdict = "yes" if covered >= allowed else "NO"
                rows.append([name, f"p{percent}", count, f"{covered:.4f}", verdict])
    header = ("law", "percentile", "runs", "coverage", f"at least {allowed:.4f}")
    return f"Coverage of the upper bounds, {CONFIDENCE:.0%} nominal, {trials} trials each:\n\n" + table(
        header, rows
    )


def memory_part(folder: Path) -> str:
    rows = []
    graphs = meter_graphs.of_many_sizes(folder)
    costs = measured(graphs, min_seconds=0.2)
    for name, path in graphs.items():
        theirs = statistics.median(bare(path, usable_cores(), 0.2)[1] for _ in range(3))
        ours = costs[name].peak_memory_mb or float("nan")
        ratio = ours / theirs
        rows.append(
            [name, f"{ours:.1f}", f"{theirs:.1f}", f"{ratio:.3f}", "yes" if abs(ratio - 1) <= 0.05 else "NO"]
        )
        print(rows[-1], flush=True)
    header = ("graph", "meter MB", "system MB", "ratio", "within 5 %")
    return "Peak memory against ru_maxrss of a bare process:\n\n" + table(header, rows)


def speed_part(folder: Path) -> str:
    graphs = meter_graphs.small(folder, 20)
    started = time.perf_counter()
    costs = measured(graphs)
    seconds = time.perf_counter() - started
    full = sum(cost.latency_p50_ms is not None and cost.latency_p90_ms is not None for cost in costs.values())
    again = sum(cost.warning is not None for cost in costs.values())
    return (
        f"20 small graphs at batch 1 with default settings: {seconds:.0f} s (120 allowed); {full} of 20 have p50 "
        f"and p90; {again} came with a warning of a noisy machine."
    )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parts = ("bare", "order", "bounds", "memory", "speed")
    parser.add_argument("--parts", nargs="+", choices=parts, default=parts)
    parser.add_argument(
        "--runs", type=int, default=20, help="of `order`; `bare` takes a quarter of it, 3 at least"
    )
    parser.add_argument("--trials", type=int, default=10_000, help="of `bounds`")
    parser.add_argument("--record", action="store_true", help="write the section into RESULTS.md")
    given = parser.parse_args()
    found = []
    with tempfile.TemporaryDirectory(prefix="zoo-meter-") as work:
        folder = Path(work)
        tasks = {
            "bare": lambda: bare_part(folder, given.runs),
            "order": lambda: order_part(folder, given.runs),
            "bounds": lambda: bounds_part(given.trials),
            "memory": lambda: memory_part(folder),
            "speed": lambda: speed_part(folder),
        }
        for part in given.parts:
            print(f"== {part}, load {os.getloadavg()[0]:.1f}", flush=True)
            found.append(tasks[part]())
            print(found[-1], flush=True)
    title = "## The meter on trial: python benchmarks/meter_timing.py"
    if given.record:
        record("meter timing", "\n\n".join([title, machine_line("onnxruntime", "numpy"), *found]))
    else:
        print("(not recorded; figures of record are taken on a quiet machine with --record)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
