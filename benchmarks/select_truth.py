"""The truth table: every candidate trained with every setting on random splits, in the background, for hours.

    python benchmarks/select_truth.py [--task hymenoptera|sst2] [--prepare] [--costs] [--pace] [--status]
    python benchmarks/select_truth.py --device cuda --workers 14    # all layers alone, many at a time

{head, all layers} x {SGD, AdamW} x 3 rates x 3 seeds x 20 splits, at the length of `zoo tune`'s finals, and all layers
once more at that of its first rung, which the selector's own halving asks for. All layers breadth first, one seed of
every split before the others; int8 candidates as heads only; of the same weights in two frameworks one is fine-tuned.

Two cores need days for all layers; with a GPU it is minutes. What such a run would have taken here is then its epochs x
what an epoch takes here (--pace), so that all seconds are those of one machine.

Every run is a line of a journal in runs/select, on the disk when it is done: kill it at will, the same command goes on.
Wall and CPU seconds are kept: under other load only the latter mean something.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from select_prepare import features, measure_costs, prepare
from select_space import KERAS, SEEDS, SHARED, SPLITS, TASKS, TWIN, WEIGHTS, Candidate, Network, Task
from select_train import BATCH, Whole, head_run, key
from select_twin import write_twin
from threadpoolctl import threadpool_limits

from zoo.choose import journal
from zoo.choose.arms import Arm
from zoo.executor.task import THREAD_SETTINGS
from zoo.files import atomic_file

Run = tuple[Arm, int, int, int]
"""Setting, epochs, seed, split."""
PACE = "pace.json"
BLOCK = 5
"""Splits of one worker process."""


def question(task: Task, label: str) -> dict[str, Any]:
    """What a journal answers: other data or settings get another folder."""
    return {
        "command": "select_truth", "candidate": label, "data": task.data.fingerprint(), "epochs": task.epochs,
        "batch_size": BATCH, "labels": task.labels, "test": task.test,
    }  # fmt: skip


def head_runs(task: Task, split: int, seeds: Sequence[int] = SEEDS) -> list[Run]:
    """Runs of a candidate's head."""
    return [(arm, task.epochs, seed, split) for seed in seeds for arm in task.arms("head")]


def whole_runs(task: Task, split: int, seeds: tuple[int, ...]) -> list[Run]:
    """Runs of a network's layers; with the first seed also those of the first rung's length."""
    arms = task.arms("all")
    full = [(arm, task.epochs, seed, split) for seed in seeds for arm in arms]
    return full + ([(arm, task.short, SEEDS[0], split) for arm in arms] if SEEDS[0] in seeds else [])


def rounds() -> list[tuple[list[int], tuple[int, ...]]]:
    """(block of splits, seeds) in the order in which they are worth most: one seed of every split, then the others."""
    blocks = [list(range(start, start + BLOCK)) for start in range(0, SPLITS, BLOCK)]
    return [(block, seeds) for seeds in (SEEDS[:1], SEEDS[1:]) for block in blocks]


def heads(task: Task, block: Sequence[int], seeds: tuple[int, ...]) -> None:
    """Train what is missing of all candidates' heads, in this process, on one thread."""
    for candidate in task.candidates:
        folder = heads_folder(task, candidate)
        done, wanted = read(folder), [run for split in block for run in head_runs(task, split, seeds)]
        if all(key(*run) in done for run in wanted):
            continue
        rows, targets = features(task, candidate)[0], task.data.targets
        classes = len(task.data.classes)
        with journal.opened(folder, question(task, candidate.label), resume=True) as kept:
            for arm, epochs, seed, number in wanted:
                recipe = arm.recipe(epochs=epochs, batch_size=BATCH, seed=seed)
                train = partial(head_run, rows, targets, task.split(number), recipe, classes)
                kept.once(key(arm, epochs, seed, number), train)
    print(f"{time.strftime('%H:%M')} heads of {task.name}, splits {block}, seeds {seeds}", flush=True)


def heads_folder(task: Task, candidate: Candidate) -> Path:
    """Its journal's."""
    return task.folder / "heads" / candidate.folder


def whole_folder(task: Task, network: Network) -> Path:
    """That of its journals, one for each block of splits."""
    return task.folder / "all" / network.folder


def read(folder: Path) -> dict[str, dict[str, Any]]:
    """Results by key from all journals in it, also while they are being written: a last line that is not whole is left
    out.
    """
    found = {}
    for path in sorted(folder.rglob(journal.FILE)):
        whole = path.read_bytes().rpartition(b"\n")[0].splitlines()
        found |= {line["key"]: line["result"] for line in map(json.loads, whole[1:])}
    return found


def whole_networks(tasks: Sequence[Task], device: str, workers: int) -> None:
    """A worker process for each network and block of splits of which runs are missing, `workers` at a time."""
    with ThreadPoolExecutor(workers) as pool:
        for (block, seeds), task in itertools.product(rounds(), tasks):
            for network in (n for n in task.networks if not n.fine_tuned_as):
                done = read(whole_folder(task, network))
                if not all(key(*run) in done for s in block for run in whole_runs(task, s, seeds)):
                    pool.submit(_one_worker, task, network, block, seeds, device)


def _one_worker(
    task: Task, network: Network, block: Sequence[int], seeds: Sequence[int], device: str
) -> None:
    command = [sys.executable, __file__, "--task", task.name, "--worker", network.label, "--device", device,
               "--splits", *map(str, block), "--seeds", *map(str, seeds)]  # fmt: skip
    started = time.perf_counter()
    ended = subprocess.run(command, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    spent = f"{time.perf_counter() - started:.0f} s"
    print(f"{time.strftime('%H:%M:%S')} {network.label}, splits {block}, seeds {seeds}: {spent}", flush=True)
    if ended.returncode:  # its turn comes again when the command is given again
        print(ended.stderr.decode(errors="replace")[-1500:], flush=True)


def work(task: Task, label: str, block: Sequence[int], seeds: tuple[int, ...], device: str) -> None:
    """In a worker: train what is missing of one network."""
    network = task.network(label)
    folder = whole_folder(task, network)
    done = read(folder)
    with journal.opened(folder / f"from-{block[0]}", question(task, label), resume=True) as kept:
        whole = Whole.load(network, task, device)
        for run in (run for split in block for run in whole_runs(task, split, seeds)):
            arm, epochs, seed, number = run
            recipe = arm.recipe(epochs=epochs, batch_size=BATCH, seed=seed)
            if key(*run) not in done:
                kept.once(key(*run), partial(whole.run, task.split(number), recipe))


def pace(task: Task) -> dict[str, dict[str, float]]:
    """CPU seconds of an epoch of all layers on this machine, by network's label and optimizer, as kept."""
    path = task.folder / PACE
    return json.loads(path.read_text()) if path.is_file() else {}


def measure_pace(task: Task) -> None:
    """One run of the first rung's length for each network and optimizer; validation is in it, as in every run."""
    split = task.split(0)
    for network in (n for n in task.networks if not n.fine_tuned_as):
        found = pace(task)
        if network.label in found:
            continue
        whole = Whole.load(network, task, "cpu")
        mine = {}
        for arm in {arm.optimizer: arm for arm in task.arms("all")}.values():
            recipe = arm.recipe(epochs=task.short, batch_size=BATCH, seed=SEEDS[0])
            mine[arm.optimizer] = whole.run(split, recipe)["cpu"] / task.short
        print(f"{network.label}: {mine}", flush=True)
        with atomic_file(task.folder / PACE) as file:
            file.write_text(json.dumps(found | {network.label: mine}, indent=1))


def status(task: Task) -> str:
    """How much is there, and the CPU hours that are left by what runs have taken so far."""
    lines = []
    have = sum(len(read(heads_folder(task, c))) for c in task.candidates)
    lines.append(f"{task.name}: heads {have} of {SPLITS * len(head_runs(task, 0)) * len(task.candidates)}")
    left = 0.0
    for network in (n for n in task.networks if not n.fine_tuned_as):
        done = read(whole_folder(task, network))
        wanted = [r for block, seeds in rounds() for s in block for r in whole_runs(task, s, seeds)]
        per_epoch = [
            result["cpu"] / int(name.split("epochs ")[1].split("/")[0]) for name, result in done.items()
        ]
        each = sum(per_epoch) / len(per_epoch) if per_epoch else float("nan")
        missing = [run for run in wanted if key(*run) not in done]
        left += each * sum(run[1] for run in missing) / 3600
        lines.append(f"  {network.label}: {len(done)} of {len(wanted)} runs, {each:.1f} s of CPU an epoch")
    return "\n".join([*lines, f"  {left:.1f} h of CPU to go"])


def main() -> int:
    """Go on where the table stands."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--task", choices=TASKS)
    parser.add_argument(
        "--prepare", action="store_true", help="only export, convert and pass the data through"
    )
    parser.add_argument("--costs", action="store_true", help="only measure what the files cost")
    parser.add_argument("--heads", action="store_true", help="only what trains heads")
    parser.add_argument("--pace", action="store_true", help="only measure what an epoch takes here")
    parser.add_argument("--device", help="where all layers are trained; nothing else is done then")
    parser.add_argument("--workers", type=int, default=1, help="processes that train all layers")
    parser.add_argument("--status", action="store_true", help="only say how far it is")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--splits", type=int, nargs="+", help=argparse.SUPPRESS)
    parser.add_argument("--seeds", type=int, nargs="+", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if not SHARED.is_dir():
        print(f"no real weights and data here: {SHARED} is missing", file=sys.stderr)
        return 1
    os.environ |= {"ZOO_MIRROR": str(WEIGHTS / "keras"), "TF_CPP_MIN_LOG_LEVEL": "3", "ZOO_DATA_THREADS": "0"}
    os.environ |= dict.fromkeys(THREAD_SETTINGS, "1")
    tasks = [TASKS[given.task]] if given.task else list(TASKS.values())
    if given.worker:
        work(tasks[0], given.worker, given.splits, tuple(given.seeds), given.device or "cpu")
        return 0
    if given.status:
        print("\n".join(status(task) for task in tasks))
        return 0
    if not TWIN.is_dir():
        write_twin(KERAS, WEIGHTS / "hf" / "mobilenet_v1_0.75_224", TWIN, 0.25)
    if given.device is None:
        with threadpool_limits(1):
            on_this_machine(tasks, given)
    if not (given.prepare or given.costs or given.pace or given.heads):
        whole_networks(tasks, given.device or "cpu", given.workers)
    return 0


def on_this_machine(tasks: Sequence[Task], given: argparse.Namespace) -> None:
    """Everything but all layers: files, features, costs, pace and heads."""
    for task in tasks:
        if given.pace:
            measure_pace(task)
            continue
        prepare(task)
        if given.costs:
            measure_costs(task)
    if not (given.prepare or given.costs or given.pace):
        for (block, seeds), task in itertools.product(rounds(), tasks):
            heads(task, block, seeds)


if __name__ == "__main__":
    sys.exit(main())
