"""The meter on trial: against a bare loop, its order beside a CPU hog, its bounds, its memory, its speed.

    python benchmarks/meter_timing.py [--parts bare order bounds memory speed] [--runs 20] [--record]

bare    p50 beside a bare ONNX Runtime loop (default options, the same threads) in a fresh process, interleaved with the
        meter: loop, meter, meter, loop ...; the figure is the median of the pairs' ratios.
order   eight graphs 12 % apart, in random order on the command line, with a process beside them that burns a core
        for 0.2 to 3 s, then stops for as long, at random.
bounds  observed coverage of the upper bounds on i.i.d. draws whose quantile is known, 10,000 trials.
memory  peak memory beside the operating system's: ru_maxrss of the same process, asked by its waiting parent, less
        its resident size, seen from outside, when ONNX Runtime was imported; and what bare loops take.
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
from zoo.process import Worker

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
# starts it, hands it its own pipes, and leaves the mark in a file.
WAIT = """#!{python} -S
import os, sys
child = os.posix_spawn({python!r}, [{python!r}, *sys.argv[1:]], os.environ)
print(child, file=open(sys.argv[0] + ".pid", "w"))
most = os.wait4(child, 0)[2].ru_maxrss * (1 if sys.platform == "darwin" else 1024)
print(most, file=open(sys.argv[0] + ".most", "w"))
"""


def bare(path: Path, threads: int, seconds: float, python: str = sys.executable) -> tuple[list[float], float]:
    """Milliseconds of its runs, and its resident bytes after the imports."""
    command = [python, "-c", BARE, str(path), str(threads), str(seconds)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as loop:
        assert loop.stdout is not None and loop.stdin is not None
        before = float(psutil.Process(int(loop.stdout.readline())).memory_info().rss)
        loop.stdin.write("\n")
        loop.stdin.flush()
        return json.loads(loop.stdout.readline()), before


def waiting(folder: Path) -> str:
    """A program that runs Python and leaves its process id and ru_maxrss beside itself."""
    path = folder / "wait"
    path.write_text(WAIT.format(python=sys.executable), encoding="utf-8")
    path.chmod(0o755)
    return str(path)


def most(python: str, before: float) -> float:
    """MB at the most, by the waiting process, over what was resident before."""
    return (int(Path(f"{python}.most").read_text()) - before) / 1e6


def bare_memory(path: Path, python: str) -> float:
    """MB that a bare loop takes over its imports."""
    return most(python, bare(path, usable_cores(), 0.2, python)[1])


def meter_memory(path: Path, python: str) -> tuple[float, float]:
    """MB of the meter's own process: as it says itself, and by the system, looked at from outside."""
    with Worker("meter", python=python) as worker:
        worker.call("zoo.cost.worker:start")
        child = int(Path(f"{python}.pid").read_text())
        before = float(psutil.Process(child).memory_info().rss)
        load = {"path": str(path), "threads": usable_cores(), "batch_size": 1, "sequence_length": 128}
        worker.call("zoo.cost.worker:load", {**load, "provider": "CPUExecutionProvider"})
        worker.call("zoo.cost.worker:warm_up", {"seconds": 0.2})
        worker.call("zoo.cost.worker:run_round", {"seconds": 0.2, "at_least": 12, "at_most": 1000})
        said = float(worker.call("zoo.cost.worker:peak_memory_mb"))  # type: ignore[arg-type]
    return said, most(python, before)


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
        for pair in range(max(3, runs // 2)):
            for who in ("loop", "meter") if pair % 2 == 0 else ("meter", "loop"):
                if who == "loop":
                    theirs.append(statistics.median(bare(path, usable_cores(), 1.0)[0]))
                else:
                    cost = measured({name: path})[name]
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
    rows, python = [], waiting(folder)
    for name, path in meter_graphs.of_many_sizes(folder).items():
        pairs = [meter_memory(path, python) for _ in range(5)]
        loops = [bare_memory(path, python) for _ in range(5)]
        ratios = [ours / theirs for ours, theirs in pairs]
        ours = [pair[0] for pair in pairs]
        fits = all(abs(ratio - 1) <= 0.05 for ratio in ratios)
        rows.append(
            [name, f"{min(ours):.1f}-{max(ours):.1f}", f"{min(ratios):.3f}-{max(ratios):.3f}",
             "yes" if fits else "NO", f"{min(loops):.1f}-{max(loops):.1f}"]
        )  # fmt: skip
        print(rows[-1], flush=True)
    header = ("graph", "meter MB", "of the system's", "all within 5 %", "a bare loop's MB")
    return (
        "Peak memory as the meter's process says it, against ru_maxrss of that process, less its resident size after "
        "the imports, both from outside; five processes each. Beside it five bare loops of the same runs: where the "
        "allocator finds room depends on what a program did before:\n\n" + table(header, rows)
    )


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
        "--runs", type=int, default=20, help="of `order`; `bare` takes half as many pairs, 3 at least"
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
    if not given.record:
        print("(not recorded; figures of record are taken on a quiet machine with --record)")
        return 0
    for part, text in zip(given.parts, found, strict=True):
        title = f"## The meter on trial, {part}: `python benchmarks/meter_timing.py --parts {part}`"
        record(f"meter timing {part}", "\n\n".join([title, machine_line("onnxruntime", "numpy"), text]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
