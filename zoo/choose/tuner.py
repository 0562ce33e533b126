"""`zoo.tune`: what to freeze and which optimizer, asked of the user's own data as an experiment.

Successive halving finds a learning rate for each (part, optimizer), promoted by a validation part carved out
of the training part. The best of each part, and of each optimizer in the leading part, then train anew with
other seeds, all with the same ones, and are judged on examples that promoted nothing.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from zoo import registry
from zoo.choose import journal as journals
from zoo.choose import plots
from zoo.choose.arms import OPTIMIZERS, PARTS, Arm, make_arms, trained_blocks
from zoo.choose.distance import Distance
from zoo.choose.experiment import Bench, Materials, check_kind, kept, open_materials, workshop
from zoo.choose.finals import choose_finalists, pick, rank, score, verdicts
from zoo.choose.halving import Rung, Score, promote, rungs
from zoo.choose.journal import Journal
from zoo.choose.parts import DataOptions
from zoo.choose.tuning import ArmRow, Tuning
from zoo.data.sources import OnError
from zoo.engine import Array
from zoo.errors import InputError, TrainingError
from zoo.files import atomic_file

Say = Callable[[str], None]
BEST, RECIPE = "best", "recipe.json"
LAST_RUNG_SEEDS = (0, 10_000, 10_001)
"""Added to the run's own. Several, as one seed on a fifth of the labels can make a setting that learns nothing look
best (it did on sst2); far from the finals' seeds, which are the next ones, and may become more on a resume."""


def tune(
    name: str,
    data: Any,
    *,
    test: Any = None,
    parts: Sequence[str] = PARTS,
    optimizers: Sequence[str] = OPTIMIZERS,
    learning_rates: Sequence[float] | None = None,
    epochs: int = 9,
    batch_size: int = 32,
    seeds: int = 5,
    tolerance: float = 0.01,
    limit: int | None = None,
    seed: int = 0,
    threads: int | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    text: str | None = None,
    label: str | None = None,
    on_error: OnError = "fail",
    progress: Say | None = None,
) -> Tuning:
    """Train the head, the last third of the blocks or all layers? By SGD, Adam or AdamW? Measured, with intervals.

    name: an id.  test: judges the verdicts; without it the data's validation part, else its test part, else a
    fifth held out.  learning_rates: for every setting; None: `zoo.choose.arms.RATES`.  epochs: of a full run.
    seeds: runs of each finalist.  tolerance: the largest gap that can be a tie.  limit: train on so many examples.
    out: gets journal, tune.json, plots, and the pick's run in `best` (see `zoo.load`); resume goes on in it.
    Raises InputError, DataError, FrameworkError, WeightsError, TrainingError (nothing trained), StorageError.
    """
    _check(epochs=epochs, seeds=seeds, tolerance=tolerance)
    arms = make_arms(parts, optimizers, learning_rates)
    model, options = str(registry.resolve(name)), DataOptions(text, label, on_error)
    found = open_materials(data, test, options=options, limit=limit, seed=seed)
    check_kind(model, found.train)
    asked = {"command": "tune", "model": model, **found.facts(), "settings": [arm.key for arm in arms]}
    asked |= {"epochs": epochs, "batch_size": batch_size, "seed": seed}
    rest = {"seeds": seeds, "tolerance": tolerance, "threads": threads, "limit": limit}
    return _experiment(found, arms, asked, rest, None if out is None else Path(out), resume, progress)


def _experiment(
    found: Materials,
    arms: list[Arm],
    question: dict[str, Any],
    rest: dict[str, Any],
    folder: Path | None,
    resume: bool,
    progress: Say | None,
) -> Tuning:
    with (
        journals.opened(folder, question, resume=resume) as journal,
        workshop(folder, found) as work,
        Bench(question["model"], work, rest["threads"]) as bench,
    ):
        run = _Run(found, arms, question | rest, journal, bench, folder, progress or (lambda text: None))
        try:
            return run.go()
        except KeyboardInterrupt as interrupt:
            raise KeyboardInterrupt(kept(journal, folder)) from interrupt


def _check(*, epochs: int, seeds: int, tolerance: float) -> None:
    if epochs < 1:
        raise InputError(f"epochs {epochs}: must be 1 or more")
    if seeds < 2:
        raise InputError(f"seeds {seeds}: one run says nothing of how runs differ; give 2 or more")
    if not tolerance >= 0:
        raise InputError(f"tolerance {tolerance}: 0 or more")


@dataclass
class _Run:
    """One experiment under way."""

    materials: Materials
    arms: list[Arm]
    settings: dict[str, Any]
    journal: Journal
    bench: Bench
    folder: Path | None
    say: Say

    def go(self) -> Tuning:
        """All stages in order."""
        facts = self.journal.once("model", lambda: self._told("load", lambda: self.bench.ask("describe")))
        self.blocks = len(facts["blocks"])
        self.arms = [arm for arm in self.arms if not self._same_as_all(arm)]
        distance = self.journal.once("distance", self._distance)
        self.pass_s = 0.0
        if any(arm.part == "head" for arm in self.arms):
            pass_over = self.journal.once("features", self._features)
            self.pass_s = pass_over["seconds"]
        scores, history = self._halve()
        finalists = choose_finalists(self.arms, scores)
        correct, rows = self._finals(finalists.arms)
        best = pick(rows, correct, self.settings["tolerance"])
        self._keep(best)
        found = Tuning(
            model=facts["id"],
            best=best,
            rows=tuple(rows),
            verdicts=tuple(verdicts(finalists, rows, correct, self.settings["tolerance"])),
            distance=None if distance is None else Distance(**distance),
            halving=tuple(history),
            data=self._data(),
            settings=self.settings | {"blocks": self.blocks, "versions": facts["versions"]},
            notes=tuple(self._notes(finalists.arms)),
            folder=self.folder,
        )
        if self.folder is not None:
            found.write(self.folder)
            plots.write(plots.tuning(found), self.folder)
        return found

    def _same_as_all(self, arm: Arm) -> bool:
        """The last third of a network of one block is all of it."""
        return arm.part == "last" and trained_blocks("last", self.blocks) == self.blocks

    def _told(self, what: str, work: Callable[[], Any]) -> Any:
        self.say(what)
        return work()

    def _distance(self) -> Any:
        self.say("distance to the pretraining data")
        return self.bench.ask("measure_distance", {"seed": self.settings["seed"]})

    def _features(self) -> Any:
        self.say("features, once, for the head alone")
        return self.bench.ask("features")

    # --- halving
    def _halve(self) -> tuple[dict[str, Score | None], list[dict[str, Any]]]:
        """Scores of the last rung, and every run."""
        left = {arm.key: arm for arm in self.arms}
        stratum = {arm.key: arm.stratum for arm in self.arms}
        plan = rungs(len(left), len(set(stratum.values())), self.settings["epochs"])
        history: list[dict[str, Any]] = []
        for number, rung in enumerate(plan):
            seeds = self._rung_seeds(last=number == len(plan) - 1)
            runs = [(arm, seed) for arm in left.values() for seed in seeds]
            results: dict[str, list[dict[str, Any]]] = {key: [] for key in left}
            for done, (arm, seed) in enumerate(runs):
                if any("failed" in result for result in results[arm.key]):
                    continue  # once is enough
                of = f"rung {number + 1} of {len(plan)} ({rung.epochs} epochs)"
                result = self._rung_run(number, rung, arm, seed, f"{of}, run {done + 1} of {len(runs)}")
                results[arm.key].append(result)
                history.append(
                    {"rung": number, "epochs": rung.epochs, "setting": arm.key, "seed": seed, **result}
                )
            scores = {key: score(*found) for key, found in results.items()}
            kept = promote(scores, stratum, rung.keep)
            left = {key: left[key] for key in kept}
        if not left:
            raise TrainingError("every setting diverged or crashed: " + history[-1].get("failed", ""))
        return {key: scores[key] for key in left}, history

    def _rung_seeds(self, *, last: bool) -> list[int]:
        """The run's own; on the last rung, which chooses the finalists, more of them, none of the finals'."""
        first: int = self.settings["seed"]
        return [first + step for step in LAST_RUNG_SEEDS] if last else [first]

    def _rung_run(self, number: int, rung: Rung, arm: Arm, seed: int, title: str) -> dict[str, Any]:
        result: dict[str, Any] = self.journal.once(
            f"rung {number}/{arm.key}/{seed}", lambda: self._train(title, arm, rung.epochs, seed)
        )
        return result

    def _train(
        self,
        title: str,
        arm: Arm,
        epochs: int,
        seed: int,
        *,
        judge: bool = False,
        save_to: Path | None = None,
    ) -> dict[str, Any]:
        self.say(f"{title}: {arm.key}")
        recipe = arm.recipe(epochs=epochs, batch_size=self.settings["batch_size"], seed=seed)
        return self.bench.run(
            {
                "last": trained_blocks(arm.part, self.blocks),
                "recipe": dataclasses.asdict(recipe),
                "judge": judge,
                "save_to": None if save_to is None else str(save_to),
            }
        )

    # --- the finals
    def _finals(self, finalists: Sequence[Arm]) -> tuple[dict[Arm, Array], list[ArmRow]]:
        """Correctness bool [S, M] of each finalist that never failed, and all rows."""
        correct: dict[Arm, Array] = {}
        rows = []
        for number, arm in enumerate(finalists):
            results = [self._final(arm, s, f"final {number + 1} of {len(finalists)}") for s in self._seeds()]
            rows.append(self._row(arm, results))
            if rows[-1].left_out is None:
                correct[arm] = np.array([[mark == "1" for mark in r["correct"]] for r in results])
        if not correct:
            raise TrainingError(f"every finalist diverged or crashed: {rows[-1].left_out}")
        return correct, rows

    def _seeds(self) -> list[int]:
        """Other ones than halving's, which chose the finalists."""
        first = self.settings["seed"] + 1
        return list(range(first, first + self.settings["seeds"]))

    def _final(self, arm: Arm, seed: int, title: str) -> dict[str, Any]:
        epochs = self.settings["epochs"]
        title = f"{title}, seed {seed - self.settings['seed']} of {self.settings['seeds']}"
        result: dict[str, Any] = self.journal.once(
            f"final/{arm.key}/{seed}", lambda: self._train(title, arm, epochs, seed, judge=True)
        )
        return result

    def _row(self, arm: Arm, results: list[dict[str, Any]]) -> ArmRow:
        blocks = trained_blocks(arm.part, self.blocks)
        if lost := next((r["failed"] for r in results if "failed" in r), None):
            return ArmRow(arm, blocks, (), 0.0, lost)
        shares = tuple(r["correct"].count("1") / len(r["correct"]) for r in results)
        seconds = float(np.mean([r["seconds"] for r in results]))
        return ArmRow(arm, blocks, shares, seconds + (self.pass_s if arm.part == "head" else 0.0))

    # --- the pick
    def _keep(self, best: Arm) -> None:
        """Train the pick once more, with the seed of its best validation, and save it with its recipe."""
        if self.folder is None:
            return
        runs = {seed: self._final(best, seed, "") for seed in self._seeds()}
        seed = max(runs, key=lambda s: rank(score(runs[s])))
        target = self.folder / BEST
        epochs = self.settings["epochs"]
        self.journal.once(
            f"best/{best.key}/{seed}", lambda: self._train("the pick", best, epochs, seed, save_to=target)
        )
        recipe = best.recipe(epochs=epochs, batch_size=self.settings["batch_size"], seed=seed)
        with atomic_file(self.folder / RECIPE) as path:
            trained = {"part": best.part, "last_blocks": trained_blocks(best.part, self.blocks)}
            path.write_text(json.dumps({**trained, "recipe": dataclasses.asdict(recipe)}, indent=1))

    def _data(self) -> dict[str, Any]:
        train = self.materials.train
        return {
            "source": train.source,
            "train": len(train),
            "judged": len(self.materials.judged),
            "judged_on": self.materials.judged_on,
            "classes": list(train.classes),
        }

    def _notes(self, finalists: Sequence[Arm]) -> list[str]:
        held = f"a fifth of the {len(self.materials.train)} training examples"
        notes = [
            f"Settings were promoted by accuracy on {held}, on the last rung the mean of {len(LAST_RUNG_SEEDS)} "
            f"seeds; each run's last weights count; accuracies and verdicts are on {self.materials.judged_on}. "
            "Intervals are of seeds and examples, 95 % each by itself.",
            f"The last third is {trained_blocks('last', self.blocks)} of {self.blocks} blocks. Seconds are of this "
            "machine; those of the head hold one pass for its features.",
        ]
        edges = [arm.key for arm in finalists if self._at_edge(arm)]
        if edges:
            notes.append(
                f"At the end of the learning rates tried, better ones may lie beyond: {', '.join(edges)}."
            )
        return notes

    def _at_edge(self, arm: Arm) -> bool:
        rates = [other.lr for other in self.arms if other.stratum == arm.stratum]
        return len(rates) > 1 and arm.lr in (min(rates), max(rates))
