"""What torchrun starts twice in test_torch_ranks.py: a fit, and the same again from its first checkpoint.

    python two_processes.py FOLDER photos

writes FOLDER/<rank>.json. With a third argument process 1 fails in the middle of training.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np

import zoo
from zoo.engine import Array

EXAMPLES, BATCH = 11, 5
"""Batches of 5, 5 and 1 examples: shards of 3 and 2, and one that is empty."""
RECIPE = zoo.Recipe(
    optimizer="sgd", lr=0.02, momentum=0.9, weight_decay=0.01, clip_norm=1.0, label_smoothing=0.1,
    epochs=3, batch_size=BATCH, schedule="cosine", patience=3, seed=3,
)  # fmt: skip


def model() -> zoo.Backbone:
    found = zoo.get("torch:squeezenet1_1@none", num_classes=2, size=64)
    found.unfreeze()
    return found


def trained(
    photos: Path, run_dir: Path | None, *, resume: bool = False, backbone: zoo.Backbone | None = None
) -> dict[str, object]:
    backbone = backbone or model()
    history = backbone.fit(
        photos, photos, RECIPE, run_dir=run_dir, resume=resume, checkpoint_seconds=0, progress=False
    )
    held = [row["validation_loss"] for row in history.epochs]
    return {"losses": history.losses, "held": held, "weights": sums(backbone.state())}


def sums(state: Mapping[str, Array]) -> dict[str, float]:
    return {name: float(value.astype("float64").sum()) for name, value in state.items()}


def main() -> None:
    folder, photos, rank = Path(sys.argv[1]), Path(sys.argv[2]), os.environ["RANK"]
    if len(sys.argv) > 3 and rank == "1":
        engine = type(model().engine)
        engine.train_step = lambda *_, **__: sys.exit("this process fails")  # type: ignore[method-assign]
    backbone = model()
    first = trained(photos, folder / "run", backbone=backbone)
    if rank == "0":
        shutil.rmtree(max((folder / "run" / "checkpoints").glob("step-*")))
    backbone.engine.add_up(np.zeros(1))  # waits for the other
    (folder / f"{rank}.json").write_text(json.dumps([first, trained(photos, folder / "run", resume=True)]))


if __name__ == "__main__":
    main()
