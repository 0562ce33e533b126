"""A bar on a terminal's stderr while training, and nothing at all where nobody looks."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from zoo.train.history import Row


class TrainingBar:
    """One bar over all steps of a run; off when `shown` is false or stderr is no terminal."""

    def __init__(self, total_steps: int, *, shown: bool) -> None:
        console = Console(stderr=True)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not (shown and console.is_terminal),
        )
        self._task = self._bar.add_task("training", total=total_steps)

    def __enter__(self) -> TrainingBar:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def steps(self, done: int, loss: float) -> None:
        """So many steps of the run are done; the last one's loss."""
        self._bar.update(self._task, completed=done, description=f"loss {loss:.4f}")

    def epoch(self, row: Row) -> None:
        """A line above the bar for a finished epoch."""
        text = f"epoch {row['epoch']}: loss {row['loss']:.4f}"
        if row["validation_loss"] is not None:
            text += (
                f", validation loss {row['validation_loss']:.4f}, accuracy {row['validation_accuracy']:.3f}"
            )
        if not self._bar.disable:
            self._bar.console.print(text)
