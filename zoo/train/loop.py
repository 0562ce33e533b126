"""The one training loop, for every framework: order, schedule, early stopping, best weights, checkpoints.

What it trains is a `Learner`. Order is a function of (seed, epoch) and dropout of (seed, step), so a run
that was killed and resumed from its last epoch gives the same bits as one that was not.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, SupportsFloat

import numpy as np

from zoo.cards import Recipe
from zoo.data import epoch_order
from zoo.engine import Array
from zoo.errors import DataError, DivergedError, InputError
from zoo.train import checkpoint as checkpoints
from zoo.train import history
from zoo.train.checkpoint import Checkpoint
from zoo.train.history import History, Row
from zoo.train.learner import Learner
from zoo.train.metrics import cross_entropy
from zoo.train.progress import TrainingBar
from zoo.train.schedule import rate, steps_per_epoch

LOOK_EVERY = 20
"""Steps between two looks at the losses: each look may wait for the device."""


@dataclass(frozen=True)
class Plan:
    """Targets int64 [N] (and [M] for validation), where the run is kept, and what identifies it.

    trainable, preprocess: what a checkpoint must carry to be resumed elsewhere.
    """

    targets: Array
    num_classes: int
    validation_targets: Array | None = None
    run_dir: Path | None = None
    identity: Mapping[str, str] = field(default_factory=dict)
    trainable: tuple[str, ...] = ()
    preprocess: Mapping[str, Any] = field(default_factory=dict)
    progress: bool = False


def run(learner: Learner, recipe: Recipe, plan: Plan, resumed: Checkpoint | None = None) -> History:
    """Train to the end of the recipe or to early stopping; the best epoch's weights are put back last.

    Raises DivergedError (with the last good weights put back), StorageError, InputError, DataError.
    """
    if recipe.patience is not None and plan.validation_targets is None:
        raise InputError("patience stops on the validation loss: give validation data, or patience=None")
    if not len(plan.targets):
        raise DataError("cannot train on no examples at all: give a data set that holds some")
    loop = Loop(learner, recipe, plan)
    loop.begin(resumed)
    with TrainingBar(recipe.epochs * loop.steps_in_epoch, shown=plan.progress) as bar:
        try:
            while not loop.ended and loop.stopped is None:
                loop.epoch(bar)
        except KeyboardInterrupt as interrupt:
            raise KeyboardInterrupt(loop.interrupted()) from interrupt
    return loop.finish()


def soft_targets(num_classes: int, smoothing: float) -> Array:
    """float32 [C, C]: row c is the target of class c, 1 - s + s / C on itself and s / C elsewhere."""
    table = np.full((num_classes, num_classes), smoothing / num_classes)
    np.fill_diagonal(table, 1 - smoothing + smoothing / num_classes)
    return table.astype(np.float32)


class Loop:
    """The state of one run between epochs; `run` drives it, and so does the benchmark of training."""

    def __init__(self, learner: Learner, recipe: Recipe, plan: Plan) -> None:
        self.learner, self.recipe, self.plan = learner, recipe, plan
        self.steps_in_epoch = steps_per_epoch(len(plan.targets), recipe.batch_size)
        self.table = soft_targets(plan.num_classes, recipe.label_smoothing)
        self.losses: list[float] = []
        self.rows: list[Row] = []
        self.best_epoch: int | None = None
        self.best: Mapping[str, Array] | None = None

    # --- where the run stands
    @property
    def ended(self) -> bool:
        return len(self.rows) >= self.recipe.epochs

    @property
    def stopped(self) -> str | None:
        """Why the run ends before its last epoch; a function of the history, so that a resumed run agrees."""
        if self.ended or self.recipe.patience is None or self.best_epoch is None:
            return None
        if (waited := len(self.rows) - self.best_epoch) < self.recipe.patience:
            return None
        return f"no better validation loss for {waited} epochs"

    def begin(self, resumed: Checkpoint | None) -> None:
        """Start fresh, or exactly where the checkpoint was written."""
        self.learner.start(self.recipe)
        if resumed is not None:
            self.learner.load_state(resumed.state)
            self.learner.load_training_state(resumed.training_state)
            self.losses, self.rows = list(resumed.losses), list(resumed.epochs)
            self.best_epoch = resumed.best_epoch
            self.best = resumed.best if resumed.best is not None else resumed.state
        self.good = self.learner.state()
        # Buffers may be infinite by design (attention masks); only what was finite has to stay so.
        self.finite = {name for name, value in self.good.items() if _finite(value)}
        if self.plan.run_dir is not None:
            checkpoints.sweep(self.plan.run_dir)
            history.rewrite(self.plan.run_dir, self.rows)

    # --- an epoch
    def epoch(self, bar: TrainingBar) -> None:
        """Steps, validation, history, checkpoint."""
        started = time.perf_counter()
        self._steps(bar)
        state = self._checked_state()
        row = self._row(time.perf_counter() - started)
        self.rows.append(row)
        self._keep_best(row, state)
        self.good = state
        self._write(row)
        bar.epoch(row)

    def _steps(self, bar: TrainingBar) -> None:
        epoch, pending = len(self.rows), list[SupportsFloat]()
        order = epoch_order(len(self.plan.targets), seed=self.recipe.seed, epoch=epoch)
        for i, (index, batch) in enumerate(self.learner.batches(order, self.recipe.batch_size)):
            lr = self._rate(epoch * self.steps_in_epoch + i)
            pending.append(self.learner.step(batch, self.table[self.plan.targets[index]], lr))
            if len(pending) == LOOK_EVERY:
                self._look(pending, bar)
        self._look(pending, bar)

    def _rate(self, step: int) -> float:
        return rate(self.recipe, step, self.steps_in_epoch)

    def _look(self, pending: list[SupportsFloat], bar: TrainingBar) -> None:
        """Fetch the losses that have gathered. Raises DivergedError at the first that is no number."""
        for loss in map(float, pending):
            if not math.isfinite(loss):
                raise self._diverged(f"the loss became {loss}", len(self.losses))
            self.losses.append(loss)
        if pending:
            bar.steps(len(self.losses), self.losses[-1])
        pending.clear()

    def _checked_state(self) -> dict[str, Array]:
        """The last step of an epoch may break the weights without a loss that shows it."""
        state = self.learner.state()
        if broken := sorted(name for name in self.finite if not _finite(state[name])):
            raise self._diverged(f"{broken[0]} became NaN or infinite", len(self.losses) - 1)
        return state

    def _row(self, seconds: float) -> Row:
        losses = self.losses[-self.steps_in_epoch :]
        validation_loss, accuracy = self._validate()
        return {
            "epoch": len(self.rows) + 1,
            "loss": math.fsum(losses) / len(losses),
            "validation_loss": validation_loss,
            "validation_accuracy": accuracy,
            "lr": self._rate(len(self.losses) - 1),
            "seconds": round(seconds, 3),
        }

    def _validate(self) -> tuple[float | None, float | None]:
        logits, targets = self.learner.validation_logits(), self.plan.validation_targets
        if logits is None or targets is None:
            return None, None
        loss = cross_entropy(logits, targets)
        if not math.isfinite(loss):
            raise self._diverged(f"the validation loss became {loss}", len(self.losses) - 1)
        return loss, float((logits.argmax(axis=1) == targets).mean())

    def _keep_best(self, row: Row, state: Mapping[str, Array]) -> None:
        if row["validation_loss"] is None:
            return
        if self.best_epoch is None or row["validation_loss"] < self._best_loss():
            self.best_epoch, self.best = row["epoch"], state

    def _best_loss(self) -> float:
        assert self.best_epoch is not None
        return float(self.rows[self.best_epoch - 1]["validation_loss"])

    def _write(self, row: Row) -> None:
        if (run_dir := self.plan.run_dir) is None:
            return
        is_best = self.best_epoch == row["epoch"]
        checkpoint = Checkpoint(
            epoch=row["epoch"],
            step=len(self.losses),
            recipe=self.recipe,
            identity=self.plan.identity,
            trainable=self.plan.trainable,
            preprocess=self.plan.preprocess,
            losses=tuple(self.losses),
            epochs=tuple(self.rows),
            best_epoch=self.best_epoch,
            state=self.good,
            training_state=self.learner.training_state(),
            best=None if is_best else self.best,
        )
        checkpoints.write(run_dir, checkpoint)
        history.append(run_dir, row)

    # --- the end
    def finish(self) -> History:
        """The best epoch's weights go back in."""
        if self.best is not None and self.best_epoch not in (None, len(self.rows)):
            self.learner.load_state(self.best)
        return History(tuple(self.losses), tuple(self.rows), self.best_epoch, self.stopped)

    def _diverged(self, what: str, step: int) -> DivergedError:
        self.learner.load_state(self.good)
        back = f"the weights of epoch {len(self.rows)}" if self.rows else "the weights from before training"
        kept = f"; its checkpoint in {self.plan.run_dir} is kept" if self.plan.run_dir and self.rows else ""
        return DivergedError(
            f"{what} at step {step + 1} (epoch {len(self.rows) + 1}), where the learning rate was "
            f"{self._rate(step):.3g}; {back} were put back{kept}. Lower lr, warm up, or set clip_norm."
        )

    def interrupted(self) -> str:
        """What an interrupted run says."""
        done = f"training was stopped in epoch {len(self.rows) + 1} of {self.recipe.epochs}"
        if self.plan.run_dir is None:
            return f"{done}; it was kept nowhere, because no run folder was given"
        if not self.rows:
            return f"{done}, before the first checkpoint in {self.plan.run_dir}"
        return (
            f"{done}; {self.plan.run_dir} holds {len(self.rows)} finished epochs: the same command with "
            "--resume (resume=True) goes on from there"
        )


def _finite(value: Array) -> bool:
    return not np.issubdtype(value.dtype, np.floating) or bool(np.isfinite(value).all())
