"""The truth table: every candidate trained with every setting on random splits, in the background, for hours.

    python benchmarks/select_truth.py [--task hymenoptera|sst2] [--prepare] [--costs] [--status]

{head, all layers} x {SGD, AdamW} x 3 rates x 3 seeds x 20 splits, at the length of `zoo tune`'s finals, and all layers
once more at that of its first rung, which the selector's own halving asks for. Two cores can't do all of it in a day,
so heads are trained in full; all layers breadth first, a block of splits at a time with one seed, the other seeds
after all splits; int8 candidates as heads only; of the same weights in two frameworks one is fine-tuned.

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
from functools import partial
from pathlib import Path
from typing import Any

from select_prepare import features, measure_costs, prepare
from select_space import SEEDS, SHARED, SPLITS, TASKS, WEIGHTS, Candidate, Network, Task
from select_train import BATCH, Whole, head_run, key
from threadpoolctl import threadpool_limits

from zoo.choose import journal
from zoo.choose.arms import Arm
from zoo.cli.training import THREAD_SETTINGS

Run = tuple[Arm, int, int, int]
"""Setting, epochs, seed, split."""


def question(task: Task, label: str) -> dict[str, Any]:
    """What a journal answers: other data or settings get another folder."""
    return {
        "command": "select_truth", "candidate": label, "data": task.data.fingerprint(), "epochs": task.epochs,
        "batch_size": BATCH, "labels": task.labels, "test": task.test,
    }  # fmt: skip


def head_runs(task: Task, split: int) -> list[Run]:
    """All runs of a candidate's head."""
    return [(arm, task.epochs, seed, split) for seed in SEEDS for arm in task.arms("head")]


def whole_runs(task: Task, split: int, seeds: tuple[int, ...]) -> list[Run]:
    """Runs of a network's layers; with the first seed also those of the first rung's length."""
    arms = task.arms("all")
    full = [(arm, task.epochs, seed, split) for seed in seeds for arm in arms]
    return full + ([(arm, task.short, SEEDS[0], split) for arm in arms] if SEEDS[0] in seeds else [])


def rounds() -> list[tuple[int, tuple[int, ...]]]:
    """(split, seeds) in the order in which they are worth most: one seed of every split, then the others."""
    return [(split, seeds) for seeds in (SEEDS[:1], SEEDS[1:]) for split in range(SPLITS)]


def heads(task: Task, split: int) -> None:
    """Train what is missing of all candidates' heads, in this process, on one thread."""
    for candidate in task.candidates:
        folder = heads_folder(task, candidate)
        done, wanted = read(folder), head_runs(task, split)
        if all(key(*run) in done for run in wanted):
            continue
        rows, targets = features(task, candidate)[0], task.data.targets
        classes = len(task.data.classes)
        with journal.opened(folder, question(task, candidate.label), resume=True) as kept:
            for arm, epochs, seed, number in wanted:
                recipe = arm.recipe(epochs=epochs, batch_size=BATCH, seed=seed)
                train = partial(head_run, rows, targets, task.split(number), recipe, classes)
                kept.once(key(arm, epochs, seed, number), train)
    print(f"{time.strftime('%H:%M')} heads of {task.name}, split {split}", flush=True)


def heads_folder(task: Task, candidate: Candidate) -> Path:
    """Its journal's."""
    return task.folder / "heads" / candidate.folder


def whole_folder(task: Task, network: Network) -> Path:
    """Its journal's."""
    return task.folder / "all" / network.folder


def read(folder: Path) -> dict[str, dict[str, Any]]:
    """Results by key, also while they are being written: a last line that is not whole is left out."""
    path = folder / journal.FILE
    if not path.is_file():
        return {}
    whole = path.read_bytes().rpartition(b"\n")[0].splitlines()
    lines = [json.loads(line) for line in whole[1:]]
    return {line["key"]: line["result"] for line in lines}


def whole_networks(task: Task, split: int, seeds: tuple[int, ...]) -> None:
    """A worker process for each network of which runs are missing."""
    for network in task.networks:
        if network.fine_tuned_as:
            continue
        done = read(whole_folder(task, network))
        if all(key(*run) in done for run in whole_runs(task, split, seeds)):
            continue
        command = [sys.executable, __file__, "--task", task.name, "--worker", network.label,
                   "--split", str(split), "--seeds", *map(str, seeds)]  # fmt: skip
        started = time.perf_counter()
        ended = subprocess.run(command, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        spent = f"{time.perf_counter() - started:.0f} s"
        print(f"{time.strftime('%H:%M')} {network.label}, split {split}, seeds {seeds}: {spent}", flush=True)
        if ended.returncode:  # its turn comes again when the command is given again
            print(ended.stderr.decode(errors="replace")[-1500:], flush=True)


def work(task: Task, label: str, split: int, seeds: tuple[int, ...]) -> None:
    """In a worker: train what is missing of one network."""
    network = task.network(label)
    with journal.opened(whole_folder(task, network), question(task, label), resume=True) as kept:
        whole = Whole.load(network, task)
        for arm, epochs, seed, number in whole_runs(task, split, seeds):
            recipe = arm.recipe(epochs=epochs, batch_size=BATCH, seed=seed)
            kept.once(key(arm, epochs, seed, number), partial(whole.run, task.split(number), recipe))


def status(task: Task) -> str:
    """How much is there, and the CPU hours that are left by what runs have taken so far."""
    lines = []
    have = sum(len(read(heads_folder(task, c))) for c in task.candidates)
    lines.append(f"{task.name}: heads {have} of {SPLITS * len(head_runs(task, 0)) * len(task.candidates)}")
    left = 0.0
    for network in (n for n in task.networks if not n.fine_tuned_as):
        done = read(whole_folder(task, network))
        wanted = [run for split, seeds in rounds() for run in whole_runs(task, split, seeds)]
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
    parser.add_argument("--status", action="store_true", help="only say how far it is")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--split", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--seeds", type=int, nargs="+", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if not SHARED.is_dir():
        print(f"no real weights and data here: {SHARED} is missing", file=sys.stderr)
        return 1
    os.environ |= {"ZOO_MIRROR": str(WEIGHTS / "keras"), "TF_CPP_MIN_LOG_LEVEL": "3", "ZOO_DATA_THREADS": "0"}
    os.environ |= dict.fromkeys(THREAD_SETTINGS, "1")
    tasks = [TASKS[given.task]] if given.task else list(TASKS.values())
    if given.worker:
        work(tasks[0], given.worker, given.split, tuple(given.seeds))
        return 0
    if given.status:
        print("\n".join(status(task) for task in tasks))
        return 0
    for task in tasks:
        prepare(task)
        if given.costs:
            measure_costs(task)
    if given.prepare or given.costs:
        return 0
    with threadpool_limits(1):
        for task, split in itertools.product(tasks, range(SPLITS)):
            heads(task, split)
    for (split, seeds), task in itertools.product([] if given.heads else rounds(), tasks):
        whole_networks(task, split, seeds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
