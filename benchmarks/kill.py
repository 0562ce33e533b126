"""Training killed (SIGKILL) at random moments and resumed, against the same training never killed: bit for bit.

Full fine-tuning with BatchNorm and dropout, each framework's own, with a moving average, weights by class and a
checkpoint after every step, so that many kills fall into the writing of one. Each round is a process that trains
and is killed after a random step (odd rounds: a random moment later; even rounds: as soon as a checkpoint is being
written), and a process that resumes. Compared: SHA-256 of every weight and buffer, the losses, the epochs' rows.

    python benchmarks/kill.py [--rounds 20] [--only torch|tf|hf] [--seed 0] [--threads N] [--record]
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from common import THREAD_SETTINGS, machine_line, record, table

import zoo
from zoo.cards import ImagePreprocess, Recipe

CASES = {
    "torch": "torch:mobilenet_v2@none,size=64",
    "tf": "a Keras model with BatchNorm and Dropout, wrapped",
    "hf": "hf:./mobilenet_v2, width 0.35, a folder of transformers' own saving",
}
PACKAGES = {"torch": ("torch", "torchvision"), "tf": ("tensorflow", "keras"), "hf": ("transformers",)}
TRAIN, HELD, BATCH = 40, 8, 8
RECIPE = Recipe(
    optimizer="adamw", lr=1e-3, weight_decay=0.01, epochs=2, batch_size=BATCH, schedule="cosine", warmup_epochs=0.5,
    label_smoothing=0.1, clip_norm=1.0, ema=0.9, class_weights="balanced", layer_decay=0.9,
)  # fmt: skip
STEPS = RECIPE.epochs * (TRAIN // BATCH)


def model(framework: str, scratch: Path) -> Any:
    """The network of a case, with random weights; hf's is saved into `scratch` by whoever comes first."""
    if framework == "torch":
        return zoo.get(CASES["torch"], num_classes=2)
    if framework == "hf":
        return zoo.get(f"hf:{saved_mobilenet(scratch / 'mobilenet_v2')}", num_classes=2)
    return wrapped_keras()


def saved_mobilenet(folder: Path) -> Path:
    """A folder as the hub holds them."""
    if not (folder / "config.json").exists():
        import torch
        import transformers

        config = transformers.MobileNetV2Config(
            image_size=64, depth_multiplier=0.35, classifier_dropout_prob=0.2, num_labels=2
        )
        torch.manual_seed(0)
        transformers.MobileNetV2ForImageClassification(config).save_pretrained(folder)
        transformers.MobileNetV2ImageProcessor(
            size={"shortest_edge": 64}, crop_size={"height": 64, "width": 64}
        ).save_pretrained(folder)
    return folder


def wrapped_keras() -> Any:
    """Small, so that tracing its step is a matter of seconds."""
    import keras

    layers = keras.layers
    inputs = outputs = keras.Input((64, 64, 3))
    for i, width in enumerate((16, 32, 64)):
        outputs = layers.Conv2D(width, 3, strides=2, padding="same", use_bias=False, name=f"conv{i}")(outputs)
        outputs = layers.ReLU(name=f"relu{i}")(layers.BatchNormalization(name=f"norm{i}")(outputs))
        outputs = layers.Dropout(0.2, seed=i, name=f"dropout{i}")(outputs)
    pooled = layers.GlobalAveragePooling2D(name="pool")(outputs)
    net = keras.Model(inputs, layers.Dense(2, name="head")(pooled))
    rng = np.random.default_rng(0)
    net.set_weights([rng.normal(0, 0.1, w.shape) if w.ndim > 1 else w for w in net.get_weights()])
    preprocess = ImagePreprocess(64, 64, resize="exact", resize_to=(64, 64))
    return zoo.wrap(net, preprocess=preprocess, head="head")


def work(framework: str, run_dir: Path) -> None:
    """Train, or go on; prints what the result is."""
    rng = np.random.default_rng(0)
    targets = np.arange(TRAIN + HELD) % 3 // 2
    photos = [rng.integers(0, 120 + 80 * int(t), (64, 64, 3), dtype=np.uint8) for t in targets]
    train, held = (photos[:TRAIN], list(targets[:TRAIN])), (photos[TRAIN:], list(targets[TRAIN:]))
    net = model(framework, run_dir.parent)
    net.unfreeze()
    started = bool(list((run_dir / "checkpoints").glob("step-*")))
    history = net.fit(
        train,
        held,
        RECIPE,
        run_dir=run_dir,
        resume=started,
        checkpoint_seconds=0,
        cached=False,
        progress=False,
    )
    digest = hashlib.sha256()
    for name, value in sorted(net.state().items()):
        digest.update(name.encode() + np.ascontiguousarray(value).tobytes())
    rows = [{k: v for k, v in row.items() if k != "seconds"} for row in history.epochs]
    print(json.dumps({"weights": digest.hexdigest(), "losses": history.losses, "epochs": rows}))


def start(framework: str, run_dir: Path, threads: int) -> subprocess.Popen[str]:
    """A process that trains."""
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"} | dict.fromkeys(THREAD_SETTINGS, str(threads))
    command = [sys.executable, __file__, "--worker", framework, "--run-dir", str(run_dir)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


def result(process: subprocess.Popen[str]) -> dict[str, Any]:
    """What a process that ended by itself found. Raises RuntimeError with its last words."""
    out, err = process.communicate(timeout=600)
    if process.returncode:
        raise RuntimeError(f"a training process failed:\n{err[-2000:]}")
    found: dict[str, Any] = json.loads(out.splitlines()[-1])
    return found


def killed(
    framework: str, run_dir: Path, threads: int, rng: random.Random, *, writing: bool
) -> tuple[int, bool]:
    """Train and kill. Returns the newest whole checkpoint's step and whether one was being written."""
    process, folder = start(framework, run_dir, threads), run_dir / "checkpoints"
    wanted, pause = rng.randrange(0, STEPS - 1), rng.uniform(0, 0.15)
    while process.poll() is None and newest(folder) < wanted:
        time.sleep(0.001)
    if writing:
        while process.poll() is None and not list(folder.glob(".step-*")):
            pass
    else:
        time.sleep(pause)
    process.kill()
    process.communicate()
    return newest(folder), bool(list(folder.glob(".step-*")))


def newest(folder: Path) -> int:
    """The step of the newest whole checkpoint, 0 without any."""
    return max((int(p.name.partition("-")[2]) for p in folder.glob("step-*")), default=0)


def measure(framework: str, rounds: int, threads: int, seed: int) -> dict[str, Any]:
    """Rounds of killing and resuming against one run that is left alone."""
    rng, same, steps, writing = random.Random(f"{seed} {framework}"), 0, list[int](), 0
    with tempfile.TemporaryDirectory() as scratch:
        want = result(start(framework, Path(scratch) / "whole", threads))
        for index in range(rounds):
            run_dir = Path(scratch) / f"run{index}"
            step, caught = killed(framework, run_dir, threads, rng, writing=index % 2 == 0)
            got = result(start(framework, run_dir, threads))
            equal = got == want
            same, writing = same + equal, writing + caught
            steps.append(step)
            print(
                f"{framework} {index + 1}: killed after step {step} of {STEPS}"
                f"{', while writing' if caught else ''}: {'the same bits' if equal else 'OTHER BITS'}",
                flush=True,
            )
    return {"same": same, "rounds": rounds, "writing": writing, "steps": steps}


def report(found: dict[str, dict[str, Any]], threads: int) -> str:
    """The section of RESULTS.md."""
    rows = [
        [
            CASES[name],
            f"{one['same']} of {one['rounds']}",
            one["writing"],
            f"{min(one['steps'])}-{max(one['steps'])}",
        ]
        for name, one in found.items()
    ]
    header = ["training", "bit-identical", "killed while writing", f"at steps, of {STEPS}"]
    settings = ", ".join(
        f"{k}={v}" for k, v in dataclasses.asdict(RECIPE).items() if v != getattr(Recipe(), k)
    )
    text = (
        "## Killed and resumed\n\n`python benchmarks/kill.py`: SIGKILL at random moments, then `resume=True`, against "
        f"the run that was never killed: weights, buffers, losses and epochs. Threads: {threads}. {settings}."
    )
    used = [package for framework in found for package in PACKAGES[framework]]
    return f"{text}\n\n{table(header, rows)}\n\n{machine_line(*used)}"


def main() -> int:
    """Exit 1 where a run that was killed ended with other bits."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--only", choices=list(CASES))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--worker", choices=list(CASES), help=argparse.SUPPRESS)
    parser.add_argument("--run-dir", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--record", action="store_true", help="write the section into RESULTS.md")
    given = parser.parse_args()
    if given.worker:
        warnings.simplefilter("ignore")
        work(given.worker, given.run_dir)
        return 0
    names = [given.only] if given.only else list(CASES)
    found = {name: measure(name, given.rounds, given.threads, given.seed) for name in names}
    text = report(found, given.threads)
    print(text)
    if given.record:
        record("kill", text)
    return int(any(one["same"] < one["rounds"] for one in found.values()))


if __name__ == "__main__":
    sys.exit(main())
