"""What `zoo tune` and `zoo curve` ask of a framework's worker process: one training run, features, facts.

The network is loaded once a worker and put back before each run: a run is a function of its arguments alone,
so that a resumed experiment finds what an uninterrupted one would. JSON in and out.
"""

from __future__ import annotations

import dataclasses
import functools
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np

from zoo import backbone
from zoo.cards import ModelId, Recipe, TextPreprocess
from zoo.choose import distance, spool
from zoo.choose.candidates import is_run
from zoo.data import Dataset, split, train_tokenizer
from zoo.engine import Array
from zoo.errors import DivergedError, InputError
from zoo.files import atomic_file
from zoo.graph import export_engine
from zoo.recipe import recipe_from_dict
from zoo.train import History, fit_head, save, softmax
from zoo.train.features import FeatureCache, backbone_graph, backbone_key, can_be_cached, features_of
from zoo.train.training import SMALL_VOCABULARY

CACHE = "features"
VALIDATION_FRACTION = 0.2
"""Of the training part, by the run's seed: it promotes. The weights of the last epoch are kept, where the rate is 0."""


@dataclasses.dataclass(frozen=True)
class Bench:
    """A network with a fresh head, the state it is put back to, and the data.

    taught: its tokenizer was made here, from the training part, for want of one.
    """

    model: backbone.Backbone
    train: Dataset
    judged: Dataset
    initial: dict[str, Array]
    folder: Path
    taught: bool

    def fresh(self, last: int, seed: int) -> backbone.Backbone:
        """As loaded, with a head drawn from `seed` and the last so many blocks free."""
        self.model.engine.load_state(self.initial)
        self.model.replace_head(len(self.train.classes), labels=self.train.classes, seed=seed)
        self.model.engine.set_trainable(self.model.blocks[len(self.model.blocks) - last :])
        return self.model

    @functools.cached_property
    def frozen(self) -> tuple[Array, Array, float]:
        """Features float32 [N, D] of the training and the judged part, and the seconds of the pass over the first.

        From the run's own cache, so that the seconds are those of a pass, not of a look-up.
        """
        engine, versions = self.fresh(0, 0).engine, self.model.versions()
        key = backbone_key(engine, engine.preprocess, versions)
        cache = FeatureCache(self.folder / CACHE)
        graph = functools.cache(
            lambda: backbone_graph(engine, key, model_id=str(self.model.id), versions=versions)
        )
        graph()
        started = time.perf_counter()
        train = features_of(graph, engine.feature_dim, key, self.train, cache)
        seconds = time.perf_counter() - started
        return train, features_of(graph, engine.feature_dim, key, self.judged, cache), seconds


@functools.lru_cache(maxsize=1)
def bench(model: str, folder: str) -> Bench:
    """Load a model, and the data that `spool` wrote into `folder`."""
    train, judged = (spool.read(Path(folder) / f"{name}.json") for name in ("train", "judged"))
    if is_run(name := ModelId.parse(model).name):
        loaded = backbone.load(name)
        loaded.replace_head(len(train.classes), labels=train.classes)
    else:
        loaded = backbone.get(model, num_classes=len(train.classes))
    if loaded.kind != train.kind:
        raise InputError(f"{model} reads {loaded.kind}s, and {train.source} holds {train.kind}s")
    preprocess, taught = loaded.preprocess, False
    if isinstance(preprocess, TextPreprocess) and preprocess.tokenizer is None:
        taught = True
        texts = [str(text) for text in train.inputs]
        size = min(preprocess.vocab_size, SMALL_VOCABULARY)
        loaded.preprocess = dataclasses.replace(preprocess, tokenizer=train_tokenizer(texts, vocab_size=size))
    return Bench(loaded, train, judged, loaded.state(), Path(folder), taught)


def describe(model: str, folder: str) -> dict[str, Any]:
    """What a model is. Raises InputError where it does not read this kind of data."""
    found = bench(model, folder)
    head = {"head.weight", "head.bias"}
    return {
        "id": str(found.model.id),
        "blocks": list(found.model.blocks),
        "params": sum(v.size for k, v in found.initial.items() if k not in head),
        "versions": found.model.versions(),
    }


def measure_distance(model: str, folder: str, seed: int) -> dict[str, Any] | None:
    """`zoo.choose.distance.measure` of the training part, or None where nothing was learned before it."""
    found = bench(model, folder)
    if found.taught or found.model.id.weights == "none":
        return None
    found.fresh(len(found.model.blocks), seed)
    try:
        result = distance.measure(found.model, found.train, seed=seed)
    finally:
        found.model.engine.load_state(found.initial)
    return None if result is None else dataclasses.asdict(result)


def features(model: str, folder: str) -> dict[str, Any]:
    """Where the features of both parts lie, as .npy, for the main process; and the seconds of the pass.

    A pass is made, whatever an interrupted run left: a look-up's seconds would be none of a pass.
    """
    shutil.rmtree(Path(folder) / CACHE, ignore_errors=True)
    train, judged, seconds = bench(model, folder).frozen
    files = {}
    for name, array in (("train", train), ("judged", judged)):
        files[name] = str(Path(folder) / f"features-{name}.npy")
        np.save(files[name], np.asarray(array))
    return {**files, "seconds": seconds}


def run(
    model: str,
    folder: str,
    last: int,
    recipe: dict[str, Any],
    judge: bool = False,
    only: list[int] | None = None,
    save_to: str | None = None,
) -> dict[str, Any]:
    """Train the last so many blocks (0: the head, on cached features) by a recipe, whose seed also splits.

    only: the examples of the training part to use; None: all.  judge: say which judged examples came out
    right, as "0" and "1".  save_to: a folder for what `zoo.load` reads.  A diverged run says so under "failed".
    """
    found, plan = bench(model, folder), recipe_from_dict(recipe)
    chosen = np.arange(len(found.train)) if only is None else np.array(only)
    fitted, held = (chosen[part] for part in carve(found.train.subset(chosen), plan.seed))
    network = found.fresh(last, plan.seed)
    head_alone = last == 0 and can_be_cached(network.engine)
    if head_alone:
        _ = found.frozen  # before the clock starts: the pass has a clock of its own
    started = time.perf_counter()
    try:
        history = (_head if head_alone else _network)(found, plan, fitted, held)
    except DivergedError as error:
        return {"failed": str(error), "seconds": time.perf_counter() - started}
    seconds = time.perf_counter() - started
    if save_to is not None:
        extra = {"recipe": dataclasses.asdict(plan), "history": dataclasses.asdict(history)}
        save(network.engine, Path(save_to), model_id=str(network.id), extra=extra)
    correct = _correct(found, head_alone) if judge else None
    return {**_summary(history), "seconds": seconds, "correct": correct}


def fold(
    model: str,
    folder: str,
    last: int,
    recipe: dict[str, Any],
    fitted: list[int],
    held: list[int],
    probabilities: str | None = None,
    save_to: str | None = None,
    export_to: str | None = None,
) -> dict[str, Any]:
    """Train the last so many blocks on the examples `fitted` of the training part, and say what it makes of `held`.

    probabilities: a .npy file for float32 [len(held), C].  save_to: a folder for what `zoo.load` reads.  export_to: an
    ONNX file. A diverged run says so under "failed".
    """
    found, plan = bench(model, folder), recipe_from_dict(recipe)
    network = found.fresh(last, plan.seed)
    started = time.perf_counter()
    try:
        history = network.fit(found.train.subset(fitted), None, plan, cached=False, progress=False)
    except DivergedError as error:
        return {"failed": str(error), "seconds": time.perf_counter() - started}
    seconds = time.perf_counter() - started
    if probabilities is not None:
        with atomic_file(Path(probabilities)) as path:
            np.save(path, network.predict([found.train.inputs[i] for i in held]))
    if save_to is not None:
        extra = {"recipe": dataclasses.asdict(plan), "history": dataclasses.asdict(history)}
        save(network.engine, Path(save_to), model_id=str(network.id), extra=extra)
    if export_to is not None:
        versions = network.versions()
        export_engine(
            network.engine, export_to, model_id=str(network.id), versions=versions
        )  # cached for nobody
    return {"seconds": seconds}


def carve(data: Dataset, seed: int) -> tuple[Array, Array]:
    """Positions (to fit on, to validate on), stratified, by seed."""
    numbers: Any = list(range(len(data)))  # in place of the inputs: where each example went
    rest, part = split(dataclasses.replace(data, inputs=numbers), VALIDATION_FRACTION, seed=seed)
    return np.array(rest.inputs), np.array(part.inputs)


def _summary(history: History) -> dict[str, Any]:
    last = history.epochs[-1]
    return {
        "validation_accuracy": last["validation_accuracy"],
        "validation_loss": last["validation_loss"],
        "epochs": len(history.epochs),
    }


def _head(found: Bench, recipe: Recipe, fitted: Array, held: Array) -> History:
    """On cached features; the same training as through the frozen network, at the price of one pass."""
    rows, targets = found.frozen[0], found.train.targets
    weight, bias, history = fit_head(
        rows[fitted], targets[fitted], recipe, num_classes=len(found.train.classes),
        validation=(rows[held], targets[held]),
    )  # fmt: skip
    found.model.engine.set_head(weight, bias)
    found.model.engine.labels = found.train.classes
    return history


def _network(found: Bench, recipe: Recipe, fitted: Array, held: Array) -> History:
    train, validation = found.train.subset(fitted), found.train.subset(held)
    return found.model.fit(train, validation, recipe, cached=False, progress=False)


def _correct(found: Bench, head_alone: bool) -> str:
    if head_alone:
        head = found.model.engine.head()
        assert head is not None
        predicted = softmax(found.frozen[1] @ head[0].T + head[1]).argmax(axis=1)
    else:
        predicted = found.model.predict(found.judged.inputs).argmax(axis=1)
    return "".join("1" if right else "0" for right in predicted == found.judged.targets)
