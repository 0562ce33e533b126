"""The one training loop, for every framework: order, schedule, early stopping, best weights, checkpoints.

What it trains is a `Learner`. Order is a function of (seed, epoch) and dropout of (seed, step), so a run
that was killed and resumed from its last checkpoint gives the same bits as one that was not.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
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
from zoo.train.average import Average
from zoo.train.checkpoint import Checkpoint
from zoo.train.history import History, Row
from zoo.train.learner import Learner
from zoo.train.logs import LogFormat, RunLog
from zoo.train.metrics import cross_entropy
from zoo.train.progress import TrainingBar
from zoo.train.schedule import Phase, class_weights, phase, rate, steps_per_epoch

LOOK_EVERY = 20
"""Steps between two looks at the losses: each look may wait for the device."""
CHECKPOINT_SECONDS = 120.0
"""Between two checkpoints within an epoch: what a kill may cost. Writing one takes about a second per 300 MB."""


@dataclass(frozen=True)
class Plan:
    """Targets int64 [N] (and [M] for validation), where the run is kept, and what identifies it.

    trainable: blocks that train beside the head; it has no default, as one would freeze a network unasked.
    trainable, preprocess: what a checkpoint must carry to be resumed elsewhere.
    """

    targets: Array
    num_classes: int
    trainable: tuple[str, ...]
    validation_targets: Array | None = None
    run_dir: Path | None = None
    identity: Mapping[str, str] = field(default_factory=dict)
    preprocess: Mapping[str, Any] = field(default_factory=dict)
    progress: bool = False
    checkpoint_seconds: float = CHECKPOINT_SECONDS
    log: tuple[LogFormat, ...] = ()


def run(learner: Learner, recipe: Recipe, plan: Plan, resumed: Checkpoint | None = None) -> History:
    """Train to the end of the recipe or to early stopping; the best epoch's weights are put back last.

    Raises DivergedError (with the last good weights put back), StorageError, InputError, DataError.
    """
    if recipe.patience is not None and plan.validation_targets is None:
        raise InputError("patience stops on the validation loss: give validation data, or patience=None")
    if not len(plan.targets):
        raise DataError("cannot train on no examples at all: give a data set that holds some")
    loop = Loop(learner, recipe, plan)
    try:
        loop.begin(resumed)
        with TrainingBar(recipe.epochs * loop.steps_in_epoch, shown=plan.progress) as bar:
            while not loop.ended and loop.stopped is None:
                loop.epoch(bar)
        return loop.finish()
    except KeyboardInterrupt as interrupt:
        raise KeyboardInterrupt(loop.interrupted()) from interrupt
    finally:
        learner.release(plan.trainable)
        if loop.log is not None:
            loop.log.close()


def soft_targets(num_classes: int, smoothing: float) -> Array:
    """float32 [C, C]: row c is the target of class c, 1 - s + s / C on itself and s / C elsewhere."""
    table = np.full((num_classes, num_classes), smoothing / num_classes)
    np.fill_diagonal(table, 1 - smoothing + smoothing / num_classes)
    return table.astype(np.float32)


class Loop:
    """The state of one run between steps; `run` drives it, and so does the benchmark of training."""

    def __init__(self, learner: Learner, recipe: Recipe, plan: Plan) -> None:
        self.learner, self.recipe, self.plan = learner, recipe, plan
        self.steps_in_epoch = steps_per_epoch(len(plan.targets), recipe.batch_size)
        self.table = soft_targets(plan.num_classes, recipe.label_smoothing)
        self.weights = class_weights(recipe, plan.targets, plan.num_classes)
        self.losses: list[float] = []
        self.rows: list[Row] = []
        self.position = 0  # steps of the epoch that is not finished
        self.best_epoch: int | None = None
        self.best: Mapping[str, Array] | None = None
        self.average: Average | None = None
        self.log: RunLog | None = None
        self._seconds = 0.0  # spent on this epoch before the run was resumed
        self._kept: tuple[int, int] | None = None  # epochs and steps that the newest checkpoint holds

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

    # --- the beginning
    def begin(self, resumed: Checkpoint | None) -> None:
        """Start fresh, or exactly where the checkpoint was written."""
        if resumed is None:
            self._enter(self._phase_of(0))
        else:
            self._restore(resumed)
        if self.average is None and self.recipe.ema is not None:
            self.average = Average(self.recipe.ema, self.learner.state())
        # Buffers may be infinite by design (attention masks); only what was finite has to stay so.
        self._good = (self.learner.state(), len(self.losses))
        self.finite = {name for name, value in self._good[0].items() if _finite(value)}
        self._last_written = time.monotonic()
        if self.plan.run_dir is not None:
            checkpoints.sweep(self.plan.run_dir)
            history.rewrite(self.plan.run_dir, self.rows)
            if self.plan.log:
                done = {"step": len(self.losses), "epoch": len(self.rows)}
                self.log = RunLog(self.plan.run_dir, self.plan.log, **done)

    def _phase_of(self, epoch: int) -> Phase:
        return phase(self.recipe, min(epoch, self.recipe.epochs - 1), self.plan.trainable)

    def _enter(self, wanted: Phase) -> None:
        self._phase = wanted
        self.learner.start(wanted.recipe(self.recipe), wanted.blocks)

    def _restore(self, resumed: Checkpoint) -> None:
        self.losses, self.rows = list(resumed.losses), list(resumed.epochs)
        self.position, self._seconds = resumed.position, resumed.seconds
        self._kept = (len(self.rows), self.position)
        # The optimizer is that of the last step's epoch, which may have ended just there.
        last = max(0, len(self.rows) - (self.position == 0))
        self._enter(self._phase_of(last))
        self.learner.load_state(resumed.state)
        before = phase(resumed.recipe, min(last, resumed.recipe.epochs - 1), self.plan.trainable)
        if (before, resumed.recipe.optimizer) == (self._phase, self.recipe.optimizer):
            self.learner.load_training_state(resumed.training_state)
        self.best_epoch = resumed.best_epoch
        self.best = resumed.best if resumed.best is not None else resumed.state
        if resumed.average is not None and self.recipe.ema is not None:
            self.average = Average(self.recipe.ema, resumed.average, resumed.average_updates)
        _warn_of_other_numerics(resumed.numerics, self.learner.numerics())

    # --- an epoch
    def epoch(self, bar: TrainingBar) -> None:
        """Steps, validation, history, checkpoint."""
        self._started = time.perf_counter() - self._seconds
        if (wanted := self._phase_of(len(self.rows))) != self._phase:
            self._enter(wanted)
        self._steps(bar)
        state = self._checked_state()
        with self._averaged(state) as judged:
            row = self._row()
        self.rows.append(row)
        self.position, self._seconds = 0, 0.0
        self._keep_best(row, judged)
        self._good = (state, len(self.losses))
        if self.log is not None:
            self.log.epoch(row)
        if self.plan.run_dir is not None:
            self._write(self.plan.run_dir, is_best=self.best is state)
            history.append(self.plan.run_dir, row)
        bar.epoch(row)

    def _steps(self, bar: TrainingBar) -> None:
        epoch, pending, targets = len(self.rows), list[SupportsFloat](), self.plan.targets
        order = epoch_order(len(targets), seed=self.recipe.seed, epoch=epoch)
        rest = order[self.position * self.recipe.batch_size :]
        for index, batch in self.learner.batches(rest, self.recipe.batch_size, epoch):
            weights = None if self.weights is None else self.weights[targets[index]]
            lr = self._rate(epoch * self.steps_in_epoch + self.position)
            pending.append(self.learner.step(batch, self.table[targets[index]], lr, weights))
            self.position += 1
            if self.average is not None:
                self.average.update(self.learner.state())
            if len(pending) == LOOK_EVERY:
                self._look(pending, bar)
            self._write_when_due(pending, bar)
        self._look(pending, bar)

    def _rate(self, step: int) -> float:
        return rate(self.recipe, step, self.steps_in_epoch)

    def _look(self, pending: list[SupportsFloat], bar: TrainingBar) -> None:
        """Fetch the losses that have gathered. Raises DivergedError at the first that is no number."""
        for loss in map(float, pending):
            if not math.isfinite(loss):
                raise self._diverged(f"the loss became {loss}", len(self.losses))
            self.losses.append(loss)
            if self.log is not None:
                self.log.step(len(self.losses), loss, self._rate(len(self.losses) - 1))
        if pending:
            bar.steps(len(self.losses), self.losses[-1])
        pending.clear()

    def _checked_state(self) -> dict[str, Array]:
        """The last step may break the weights without a loss that shows it."""
        state = self.learner.state()
        if broken := sorted(name for name in self.finite if not _finite(state[name])):
            raise self._diverged(f"{broken[0]} became NaN or infinite", len(self.losses) - 1)
        return state

    @contextmanager
    def _averaged(self, state: Mapping[str, Array]) -> Iterator[Mapping[str, Array]]:
        """The moving average is in the network inside, if there is one; gives what is there."""
        if self.average is None:
            yield state
            return
        mean = self.average.state()
        self.learner.load_state(mean)
        try:
            yield mean
        finally:
            self.learner.load_state(state)

    def _row(self) -> Row:
        losses = self.losses[-self.steps_in_epoch :]
        validation_loss, accuracy = self._validate()
        return {
            "epoch": len(self.rows) + 1,
            "loss": math.fsum(losses) / len(losses),
            "validation_loss": validation_loss,
            "validation_accuracy": accuracy,
            "lr": self._rate((len(self.rows) + 1) * self.steps_in_epoch - 1),
            "seconds": round(time.perf_counter() - self._started, 3),
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

    # --- checkpoints
    def _write_when_due(self, pending: list[SupportsFloat], bar: TrainingBar) -> None:
        """Within an epoch; at its end one is written in any case."""
        if self.plan.run_dir is None or self.position == self.steps_in_epoch:
            return
        if time.monotonic() - self._last_written >= self.plan.checkpoint_seconds:
            self._look(pending, bar)
            self._good = (self._checked_state(), len(self.losses))
            self._write(self.plan.run_dir, is_best=False)

    def _write(self, run_dir: Path, *, is_best: bool) -> None:
        if (
            self.log is not None
        ):  # first: a resumed run cuts off what is too much, and cannot make up for gaps
            self.log.flush()
        checkpoint = Checkpoint(
            step=len(self.losses),
            position=self.position,
            seconds=time.perf_counter() - self._started if self.position else 0.0,
            recipe=self.recipe,
            identity=self.plan.identity,
            trainable=self.plan.trainable,
            preprocess=self.plan.preprocess,
            numerics=self.learner.numerics(),
            losses=tuple(self.losses),
            epochs=tuple(self.rows),
            best_epoch=self.best_epoch,
            average_updates=0 if self.average is None else self.average.updates,
            state=self._good[0],
            training_state=self.learner.training_state(),
            average=None if self.average is None else self.average.values,
            best=None if is_best else self.best,
        )
        checkpoints.write(run_dir, checkpoint)
        self._kept, self._last_written = (len(self.rows), self.position), time.monotonic()

    # --- the end
    def finish(self) -> History:
        """The best epoch's weights go back in; without one, or with keep="last", the last ones or their average."""
        if self.recipe.keep == "best" and self.best_epoch is not None and self.best is not None:
            self.learner.load_state(self.best)
        elif self.average is not None:
            self.learner.load_state(self.average.state())
        return History(tuple(self.losses), tuple(self.rows), self.best_epoch, self.stopped, self.recipe.keep)

    def _diverged(self, what: str, step: int) -> DivergedError:
        state, at = self._good
        self.learner.load_state(state)
        back = "the weights from before training"
        if at:
            back = f"the weights of step {at}"
        if at and at == len(self.rows) * self.steps_in_epoch:
            back = f"the weights of epoch {len(self.rows)}"
        kept = f"; its checkpoint in {self.plan.run_dir} is kept" if self.plan.run_dir and at else ""
        return DivergedError(
            f"{what} at step {step + 1} (epoch {len(self.rows) + 1}), where the learning rate was "
            f"{self._rate(step):.3g}; {back} were put back{kept}. Lower lr, warm up, or set clip_norm."
        )

    def interrupted(self) -> str:
        """What an interrupted run says."""
        done = f"training was stopped in epoch {len(self.rows) + 1} of {self.recipe.epochs}"
        if self.plan.run_dir is None:
            return f"{done}; it was kept nowhere, because no run folder was given"
        if self._kept is None:
            return f"{done}, before the first checkpoint in {self.plan.run_dir}"
        epochs, steps = self._kept
        more = f" and {steps} steps of the next" if steps else ""
        return (
            f"{done}; {self.plan.run_dir} holds {epochs} finished epochs{more}: the same command with "
            "--resume (resume=True) goes on from there"
        )


def _warn_of_other_numerics(old: Mapping[str, str], new: Mapping[str, str]) -> None:
    """Threads, devices and versions change rounding: the run goes on, and is not the one that was never killed."""
    other = [f"{name}: {old.get(name, 'unknown')} -> {new.get(name, 'unknown')}"
             for name in sorted(old.keys() | new.keys()) if old.get(name) != new.get(name)]  # fmt: skip
    if other:
        warnings.warn(
            f"resumed under other conditions ({'; '.join(other)}): the result will not be bit-identical to that "
            "of a run without the interruption",
            stacklevel=2,
        )


def _finite(value: Array) -> bool:
    return not np.issubdtype(value.dtype, np.floating) or bool(np.isfinite(value).all())
