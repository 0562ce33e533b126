"""Fine-tuning an engine on a data set: which path, what identifies the run, where it goes on.

Where every block is frozen and the head is linear, the backbone's features never change: they are computed
once and the head is trained on them in numpy, which gives the same head at a fraction of the time.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from zoo.cards import (
    Preprocess,
    Recipe,
    TextPreprocess,
    fingerprint,
    preprocess_from_dict,
    preprocess_to_dict,
)
from zoo.data import Dataset, augmentation, train_tokenizer
from zoo.data.dataset import listing
from zoo.engine import HEAD_BIAS, HEAD_WEIGHT, Array, Engine, draw_head
from zoo.errors import DataError, HeadMissingError, InputError
from zoo.train import checkpoint as checkpoints
from zoo.train.checkpoint import Checkpoint
from zoo.train.features import FeatureCache, backbone_graph, backbone_key, can_be_cached, features_of
from zoo.train.history import History
from zoo.train.learner import HeadLearner, Learner, NetworkLearner, preprocessed
from zoo.train.lock import only_run_in
from zoo.train.logs import LogFormat, check_log
from zoo.train.loop import CHECKPOINT_SECONDS, Plan, run
from zoo.train.ranks import RankLearner, Ranks, check_agreement, join, ranks_of

ALONE = Ranks()
SMALL_VOCABULARY = 8000
"""Entries of a tokenizer that is trained here: more would hardly be seen in a data set of labelled texts."""


def fit(
    engine: Engine,
    train: Dataset,
    validation: Dataset | None,
    recipe: Recipe,
    *,
    run_dir: Path | None = None,
    resume: bool = False,
    override: bool = False,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    cache: FeatureCache | None = None,
    model_id: str = "",
    versions: Mapping[str, str] | None = None,
    progress: bool = True,
    log: Sequence[LogFormat] = (),
) -> History:
    """Train what is trainable; afterwards the engine holds the best epoch's weights (or the last one's).

    validation: with the classes of `train`.  run_dir: gets checkpoints/, history.jsonl, `log`.  resume: go on
    from the newest whole checkpoint there, its freeze state included; without any, start.  override: with
    another recipe from there on.  checkpoint_seconds: between checkpoints within an epoch (0: each step).
    cache: train a linear head on a frozen backbone's cached features (model_id and versions name its graph);
    None: always through the engine.  Raises HeadMissingError, InputError, DataError, DivergedError,
    TrainingError, StorageError.
    """
    check_head(engine, len(train.classes))
    check_examples(train, recipe)
    check_log(log, run_dir)
    augmentation(recipe.augment, engine.preprocess, seed=recipe.seed)  # refuses what a text model cannot have
    ranks = ranks_of(os.environ)
    join(engine, ranks)
    kept_in = run_dir if ranks.first else None  # one process writes
    with only_run_in(kept_in):
        resumed = _resumed(run_dir, resume=resume)
        return _fit(
            engine, train, validation, recipe, resumed,
            settings=Settings(
                kept_in, override, checkpoint_seconds, progress and ranks.first, tuple(log) if ranks.first else ()
            ),
            cached=None if cache is None else Cached(cache, model_id, versions or {}),
        )  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Settings:
    """Of a run, beside its recipe: as `fit` takes them."""

    run_dir: Path | None
    override: bool
    checkpoint_seconds: float
    progress: bool
    log: tuple[LogFormat, ...]


@dataclasses.dataclass(frozen=True)
class Cached:
    """Where features are kept, and what names the graph that computes them."""

    features: FeatureCache
    model_id: str
    versions: Mapping[str, str]


def _fit(
    engine: Engine,
    train: Dataset,
    validation: Dataset | None,
    recipe: Recipe,
    resumed: Checkpoint | None,
    *,
    settings: Settings,
    cached: Cached | None,
) -> History:
    preprocess = with_tokenizer(engine.preprocess, train, resumed)
    trainable = engine.trainable if resumed is None else resumed.trainable
    key = None
    if cached is not None and on_features(engine, trainable, recipe):
        key = backbone_key(engine, preprocess, cached.versions)
    identity = _identity(engine, preprocess, key, train, validation)
    if resumed is not None:
        checkpoints.check_resumable(resumed, recipe, identity, override=settings.override)
    ranks = ranks_of(os.environ)
    check_agreement(engine, ranks, recipe, identity, resumed and resumed.step)
    engine.preprocess = preprocess
    engine.set_trainable(trainable)
    plan = Plan(
        train.targets,
        len(train.classes),
        engine.trainable,
        validation_targets=None if validation is None else validation.targets,
        run_dir=settings.run_dir,
        identity=identity,
        preprocess=preprocess_to_dict(preprocess),
        progress=settings.progress,
        checkpoint_seconds=settings.checkpoint_seconds,
        log=settings.log,
    )
    if key is None or cached is None:
        return run(network_learner(engine, train, validation, recipe, ranks), recipe, plan, resumed)
    graph = functools.cache(
        lambda: backbone_graph(engine, key, model_id=cached.model_id, versions=cached.versions)
    )
    features = [
        None if data is None else features_of(graph, engine.feature_dim, key, data, cached.features)
        for data in (train, validation)
    ]
    return _fit_head_of(engine, features, recipe, plan, resumed)


def on_features(engine: Engine, trainable: Sequence[str], recipe: Recipe) -> bool:
    """Whether this training can run on features that one pass gives: nothing in the backbone's way changes."""
    return not trainable and recipe.augment == "none" and can_be_cached(engine)


def fit_head(
    features: Array,
    targets: Array,
    recipe: Recipe,
    *,
    num_classes: int,
    weight: Array | None = None,
    bias: Array | None = None,
    validation: tuple[Array, Array] | None = None,
) -> tuple[Array, Array, History]:
    """Train a linear head on features float32 [N, D], targets int64 [N]; returns (weight, bias, history).

    weight [C, D] and bias [C] are where it starts (default: drawn from recipe.seed); they are not changed.
    validation: features and targets.  Raises DivergedError, InputError, DataError.
    """
    if weight is None or bias is None:
        weight, bias = draw_head(features.shape[1], num_classes, recipe.seed)
    held, held_targets = (None, None) if validation is None else validation
    learner = HeadLearner(features, weight, bias, validation=held)
    history = run(learner, recipe, Plan(targets, num_classes, (), held_targets))
    return learner.values[HEAD_WEIGHT], learner.values[HEAD_BIAS], history


def check_head(engine: Engine, num_classes: int) -> None:
    """Raises HeadMissingError or DataError where the engine's head does not fit so many classes."""
    if engine.num_classes is None:
        raise HeadMissingError(
            "the model has no classification head (its checkpoint holds the backbone alone): "
            f"replace_head(num_classes={num_classes}) puts one on"
        )
    if engine.num_classes != num_classes:
        raise DataError(
            f"the model's head has {engine.num_classes} classes and the data {num_classes}: "
            f"replace_head(num_classes={num_classes}) makes a fitting one"
        )


def check_examples(train: Dataset, recipe: Recipe) -> None:
    """Raises DataError where a class has no example; warns where a batch is more than there are."""
    counts = np.bincount(train.targets, minlength=len(train.classes))
    if absent := [name for name, n in zip(train.classes, counts, strict=True) if n == 0 and len(train)]:
        raise DataError(
            f"{listing(absent)} {'has' if len(absent) == 1 else 'have'} no example in the training part: what "
            "is not shown cannot be learnt. Add examples, or leave the class out of the data."
        )
    if recipe.batch_size > len(train) > 0:
        warnings.warn(
            f"batch_size {recipe.batch_size} is more than the {len(train)} training examples: each epoch is one "
            f"step on all of them. A smaller one, such as {max(1, len(train) // 4)}, takes more steps.",
            stacklevel=3,
        )


def _resumed(run_dir: Path | None, *, resume: bool) -> Checkpoint | None:
    if run_dir is None:
        if resume:
            raise InputError("resume needs the folder of the run that it goes on with: give run_dir")
        return None
    if resume:
        return checkpoints.latest(run_dir)
    if checkpoints.folders(run_dir):
        raise InputError(
            f"{run_dir} holds the checkpoints of another run, which would be lost: go on with it by --resume "
            "(resume=True), choose another folder, or delete this one"
        )
    return None


def with_tokenizer(preprocess: Preprocess, train: Dataset, resumed: Checkpoint | None) -> Preprocess:
    """A text model with random weights has no tokenizer: the resumed run's, or a small one of these texts."""
    if not isinstance(preprocess, TextPreprocess) or preprocess.tokenizer is not None:
        return preprocess
    if resumed is not None:
        return preprocess_from_dict(resumed.preprocess)
    size = min(preprocess.vocab_size, SMALL_VOCABULARY)
    tokenizer = train_tokenizer([str(text) for text in train.inputs], vocab_size=size)
    return dataclasses.replace(preprocess, tokenizer=tokenizer)


def _identity(
    engine: Engine, preprocess: Preprocess, key: str | None, train: Dataset, validation: Dataset | None
) -> dict[str, str]:
    """What must not change between a run and its resumption; the names stand in the error."""
    shapes = {name: (value.dtype.str, value.shape) for name, value in engine.state().items()}
    return {
        "model": fingerprint([engine.architecture(), shapes]),
        "preprocess": fingerprint(preprocess),
        "training data": train.fingerprint(),
        "validation data": "none" if validation is None else validation.fingerprint(),
        "set of classes": fingerprint(list(train.classes)),
        "path (cached features or not), or backbone weights": key or "network",
    }


def network_learner(
    engine: Engine, train: Dataset, validation: Dataset | None, recipe: Recipe, ranks: Ranks = ALONE
) -> Learner:
    decoded = preprocessed(train.inputs, engine.preprocess, augment=recipe.augment, seed=recipe.seed)
    held = None if validation is None else preprocessed(validation.inputs, engine.preprocess)
    size = 0 if validation is None else len(validation)
    if ranks.alone:
        return NetworkLearner(engine, decoded, held, validation_size=size)
    return RankLearner(engine, decoded, held, validation_size=size, ranks=ranks)


def _fit_head_of(
    engine: Engine, features: Sequence[Array | None], recipe: Recipe, plan: Plan, resumed: Checkpoint | None
) -> History:
    """Train the engine's head on features (training, validation) and put it back, however training ends."""
    head, labels = engine.head(), engine.labels
    assert head is not None and features[0] is not None
    learner = HeadLearner(features[0], *head, validation=features[1])
    try:
        return run(learner, recipe, plan, resumed)
    finally:
        engine.set_head(learner.values[HEAD_WEIGHT], learner.values[HEAD_BIAS])
        engine.labels = labels
