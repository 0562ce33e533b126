"""`zoo.curve`: more labels or a bigger model? Accuracy against the number of labels, measured and extrapolated.

Subsets are stratified, nested and the same for every model; several seeds draw them. By default the backbones
stay frozen and a linear probe learns on features that one pass gives, so that a curve costs little more than
that pass; whole networks are trained on request.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from zoo import registry
from zoo.choose import journal as journals
from zoo.choose import plots
from zoo.choose.arms import Arm
from zoo.choose.curving import Curve, analyse
from zoo.choose.evidence import choose_strength, logistic, one_thread
from zoo.choose.experiment import Bench, Materials, check_kind, kept, open_materials, workshop
from zoo.choose.journal import Journal
from zoo.choose.parts import DataOptions
from zoo.choose.subsets import nested_order
from zoo.data.sources import OnError
from zoo.engine import Array
from zoo.errors import DataError, InputError, TrainingError

Say = Callable[[str], None]
SIZES, SMALLEST = 6, 4
"""Each size is half the next; the smallest holds so many examples a class."""


def curve(
    names: str | Sequence[str],
    data: Any,
    *,
    test: Any = None,
    full: bool = False,
    lr: float = 3e-4,
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
) -> Curve:
    """Accuracy with a thirty-second to all of the labels for each model, and which lever pays for the first.

    names: ids; the first is the one you have.  test, limit, seed, out, resume: as for `zoo.tune`.
    full: train all layers, by AdamW at `lr` for `epochs`; else linear probes on frozen features.
    Raises InputError, DataError, FrameworkError, WeightsError, TrainingError, StorageError.
    """
    models = _models(names, seeds=seeds, epochs=epochs, lr=lr, tolerance=tolerance)
    options = DataOptions(text, label, on_error)
    found = open_materials(data, test, options=options, limit=limit, seed=seed)
    for model in models:
        check_kind(model, found.train)
    sizes = make_sizes(len(found.train), len(found.train.classes))
    asked = {"command": "curve", "models": models, **found.facts(), "sizes": sizes, "seed": seed}
    asked |= {"training": "all layers" if full else "frozen"}
    asked |= {"lr": lr, "epochs": epochs, "batch_size": batch_size} if full else {}
    rest = {"seeds": seeds, "tolerance": tolerance, "threads": threads, "limit": limit}
    return _experiment(found, asked, rest, None if out is None else Path(out), resume, progress)


def _experiment(
    found: Materials,
    question: dict[str, Any],
    rest: dict[str, Any],
    folder: Path | None,
    resume: bool,
    progress: Say | None,
) -> Curve:
    with (
        journals.opened(folder, question, resume=resume) as journal,
        workshop(folder, found) as work,
    ):
        settings, say = question | rest, progress or (lambda text: None)
        run = _Run(found, question["sizes"], settings, journal, work, folder, say)
        try:
            return run.go()
        except KeyboardInterrupt as interrupt:
            raise KeyboardInterrupt(kept(journal, folder)) from interrupt


def _models(names: str | Sequence[str], *, seeds: int, epochs: int, lr: float, tolerance: float) -> list[str]:
    listed = [names] if isinstance(names, str) else list(names)
    models = [str(registry.resolve(name)) for name in listed]
    if not models:
        raise InputError("no model: give the id of one or more")
    if len(set(models)) != len(models):
        raise InputError(f"a model is named twice: {', '.join(models)}")
    if seeds < 2:
        raise InputError(f"seeds {seeds}: one run says nothing of how runs differ; give 2 or more")
    if epochs < 1:
        raise InputError(f"epochs {epochs}: must be 1 or more")
    if not lr > 0:
        raise InputError(f"learning rate {lr:g}: must be above 0")
    if not tolerance >= 0:
        raise InputError(f"tolerance {tolerance}: 0 or more")
    return models


def make_sizes(examples: int, classes: int) -> list[int]:
    """Up to SIZES sizes, each half the next, ascending. Raises DataError where there are not three."""
    found = [examples // 2**k for k in range(SIZES)]
    kept = [size for size in found if size >= SMALLEST * classes]
    if len(kept) < 3:
        raise DataError(
            f"{examples} training examples of {classes} classes make {len(kept)} of the three sizes that a curve "
            f"needs: {SMALLEST * classes * 4} are the least"
        )
    return kept[::-1]


@dataclass
class _Run:
    """One experiment under way."""

    materials: Materials
    sizes: list[int]
    settings: dict[str, Any]
    journal: Journal
    work: Path
    folder: Path | None
    say: Say

    def go(self) -> Curve:
        """Each model in turn, then the fits."""
        facts, correct = [], []
        for model in self.settings["models"]:
            with Bench(model, self.work, self.settings["threads"]) as bench:
                self.say(f"load {model}")
                facts.append(self.journal.once(f"{model}/model", functools.partial(bench.ask, "describe")))
                frozen = self.settings["training"] == "frozen"
                correct.append(self._frozen(bench) if frozen else self._whole(bench, facts[-1]))
        named = [(fact["id"], fact["params"]) for fact in facts]
        tolerance, seed = self.settings["tolerance"], self.settings["seed"]
        lines, levers = analyse(named, self.sizes, np.array(correct), tolerance=tolerance, seed=seed)
        found = Curve(lines, levers, self._data(), self.settings, tuple(self._notes()), self.folder)
        if self.folder is not None:
            found.write(self.folder)
            plots.write(plots.curve(found), self.folder)
        return found

    def _runs(self, model: str, work: Callable[[Array, int], str]) -> Array:
        """bool [S, K, M]; work(examples, seed) gives "0" and "1" for each judged example."""
        table = []
        for number in range(self.settings["seeds"]):
            seed = self.settings["seed"] + 1 + number
            order = nested_order(self.materials.train.targets, seed=seed)
            for size in self.sizes:
                self.say(f"{model}: {size} labels, seed {number + 1} of {self.settings['seeds']}")
                key = f"{model}/{size}/{seed}"
                found = self.journal.once(key, functools.partial(work, np.sort(order[:size]), seed))
                table.append([mark == "1" for mark in found])
        return np.array(table).reshape(self.settings["seeds"], len(self.sizes), -1)

    def _frozen(self, bench: Bench) -> Array:
        files: dict[str, Array] = {}

        def features() -> Mapping[str, Array]:
            if not files:
                self.say(f"features of {bench.model}")
                found = bench.ask("features")
                files.update({name: np.load(found[name]) for name in ("train", "judged")})
            return files

        return self._runs(bench.model, lambda chosen, seed: self._probe(features(), chosen, seed))

    @one_thread
    def _probe(self, features: Mapping[str, Array], chosen: Array, seed: int) -> str:
        rows, targets = features["train"][chosen], self.materials.train.targets[chosen]
        probe = logistic(choose_strength(rows, targets, seed=seed)).fit(rows, targets)
        return marks(probe.predict(features["judged"]) == self.materials.judged.targets)

    def _whole(self, bench: Bench, facts: Mapping[str, Any]) -> Array:
        arm = Arm("all", "adamw", self.settings["lr"])

        def train(chosen: Array, seed: int) -> str:
            recipe = arm.recipe(
                epochs=self.settings["epochs"], batch_size=self.settings["batch_size"], seed=seed
            )
            arguments = {"last": len(facts["blocks"]), "recipe": dataclasses.asdict(recipe), "judge": True}
            result = bench.run({**arguments, "only": chosen.tolist()})
            if "failed" in result:
                raise TrainingError(f"{bench.model} with {len(chosen)} labels: {result['failed']}")
            return str(result["correct"])

        return self._runs(bench.model, train)

    def _data(self) -> dict[str, Any]:
        train = self.materials.train
        return {
            "source": train.source,
            "train": len(train),
            "judged": len(self.materials.judged),
            "judged_on": self.materials.judged_on,
            "classes": list(train.classes),
        }

    def _notes(self) -> list[str]:
        how = (
            "linear probes on frozen features"
            if self.settings["training"] == "frozen"
            else "all layers trained"
        )
        return [
            f"Accuracy on {self.materials.judged_on}, {how}, {self.settings['seeds']} seeds. Intervals: 95 %, seeds "
            "and examples resampled together. With all labels every seed has the same ones, so that how a chance "
            "draw of them would differ is not in the last interval."
        ]


def marks(right: Array) -> str:
    """ "0" and "1"."""
    return "".join("1" if one else "0" for one in right)
