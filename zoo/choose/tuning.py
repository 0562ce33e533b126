"""The outcome of `zoo.tune`: rows, verdicts in words, the distance and what the rule of thumb makes of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from zoo.choose.arms import OPTIMIZER_WORDS, WORDS, Arm
from zoo.choose.distance import LINE, Distance
from zoo.choose.paired import Verdict
from zoo.files import atomic_file

TUNING_COLUMNS = ("setting", "blocks", "accuracy", "by seed", "seconds a run", "why")
FILE = "tune.json"


@dataclass(frozen=True)
class ArmRow:
    """A finalist. accuracies: on the judged part, one a seed.  seconds: the mean of its runs, the pass for
    cached features included.  left_out: why it takes no part in the verdicts, or None.
    """

    arm: Arm
    blocks: int
    accuracies: tuple[float, ...]
    seconds: float
    left_out: str | None = None

    @property
    def accuracy(self) -> float:
        """Mean over the seeds."""
        return sum(self.accuracies) / len(self.accuracies)

    def cells(self, why: str) -> tuple[str, ...]:
        """Texts in the order of TUNING_COLUMNS."""
        if self.left_out is not None or not self.accuracies:
            return self.arm.key, str(self.blocks), "", "", "", f"left out: {self.left_out}"
        spread = f"{min(self.accuracies):.3f}-{max(self.accuracies):.3f}"
        return self.arm.key, str(self.blocks), f"{self.accuracy:.3f}", spread, f"{self.seconds:.1f}", why


@dataclass(frozen=True)
class Tuning:
    """best: the setting to train with.  rows: the finalists.  halving: every run before them, as it was journalled.
    verdicts: in the order asked.  folder: where the run is kept, or None.
    """

    model: str
    best: Arm
    rows: tuple[ArmRow, ...]
    verdicts: tuple[Verdict, ...]
    distance: Distance | None
    halving: tuple[dict[str, Any], ...]
    data: dict[str, Any]
    settings: dict[str, Any]
    notes: tuple[str, ...] = ()
    folder: Path | None = None

    def row(self, arm: Arm) -> ArmRow:
        """A finalist's row."""
        return next(row for row in self.rows if row.arm == arm)

    def table(self) -> list[tuple[str, ...]]:
        """Cells of every finalist, in the order of TUNING_COLUMNS."""
        return [row.cells("the pick" if row.arm == self.best else "") for row in self.rows]

    def summary(self) -> str:
        """Pick, verdicts, distance and notes, a paragraph each."""
        row = self.row(self.best)
        first = (
            f"Train {WORDS[self.best.part]} with {OPTIMIZER_WORDS[self.best.optimizer]}, learning rate "
            f"{self.best.lr:g}: accuracy {row.accuracy:.3f} on {self.data['judged_on']} (mean of "
            f"{len(row.accuracies)} seeds)."
        )
        said = [f"{v.question}? {v.sentence()}" for v in self.verdicts]
        return "\n".join([first, *said, self.rule_of_thumb(), *self.notes])

    def rule_of_thumb(self) -> str:
        """The distance, what 'similar data: the last layer; different data: all layers' says, and whether it held."""
        if self.distance is None:
            return (
                "Distance to the pretraining data: no figure, for want of pretraining (random weights, a tokenizer "
                "made here) or of examples to probe on."
            )
        found = self.distance
        claim = (
            "similar data, so the head alone is enough" if found.similar else "different data, so all layers"
        )
        held = predicted(found, self.verdicts)
        end = {True: "as measured", False: "which is not what was measured", None: "which stays open"}[held]
        return (
            f"Distance to the pretraining data: {found.value:.2f} by {found.measure} (0: like its own; 1: like "
            f"yours destroyed; {found.examples} examples). The rule of thumb, with its line at {LINE}, says: "
            f"{claim}; {end}."
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON, the form of tune.json."""
        return {
            "model": self.model,
            "best": asdict(self.best),
            "finalists": [{**asdict(row), "accuracy": _mean(row.accuracies)} for row in self.rows],
            "verdicts": [{**asdict(v), "sentence": v.sentence()} for v in self.verdicts],
            "distance": None
            if self.distance is None
            else {
                **asdict(self.distance),
                "line": LINE,
                "similar": self.distance.similar,
                "rule_held": predicted(self.distance, self.verdicts),
            },
            "halving": list(self.halving),
            "data": self.data,
            "settings": self.settings,
            "notes": list(self.notes),
        }

    def write(self, folder: Path) -> None:
        """tune.json. Raises StorageError."""
        with atomic_file(folder / FILE) as path:
            path.write_text(json.dumps(self.to_dict(), indent=1), encoding="utf-8")


def predicted(distance: Distance, verdicts: Sequence[Verdict]) -> bool | None:
    """Whether the rule of thumb foretold the verdict on head and all layers; None where that is open.

    Similar data foretells that all layers do not beat the head (a tie included), other data that they do.
    """
    found = next((v for v in verdicts if (v.first, v.second) == (WORDS["all"], WORDS["head"])), None)
    if found is None or found.kind == "undecided":
        return None
    return distance.similar == (found.kind != "better")


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
