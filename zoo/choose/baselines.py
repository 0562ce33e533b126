"""'Do I need a backbone?': the majority class, and a bag of words or colours with logistic regression."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from zoo.cards import ImagePreprocess
from zoo.choose.evidence import Evidence, aligned, cross_validate, over_splits
from zoo.choose.parts import Judged
from zoo.data import batches
from zoo.engine import Array

BINS = 8


def majority(judged: Judged, *, seed: int) -> Evidence:
    """Always the most frequent class of the part that is fitted on; as probabilities, the classes' shares in it."""
    classes = int(judged.targets.max()) + 1

    def predict(fitted: Array, held: Array) -> Array:
        shares = np.bincount(judged.targets[fitted], minlength=classes) / len(fitted)
        return np.tile(shares, (len(held), 1))

    return over_splits(judged.targets, judged.splits, predict)


def bag_of_words(judged: Judged, *, seed: int) -> Evidence:
    """TF-IDF over words and word pairs, logistic regression with C = 10."""
    texts = np.array([str(text) for text in judged.inputs], dtype=object)
    classes = np.arange(int(judged.targets.max()) + 1)

    def predict(fitted: Array, held: Array) -> Array:
        vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
        model = make_pipeline(vectorizer, LogisticRegression(C=10.0, max_iter=400))
        return aligned(model.fit(texts[fitted], judged.targets[fitted]), texts[held], classes)

    return over_splits(judged.targets, judged.splits, predict)


def colour_histogram(judged: Judged, *, seed: int) -> Evidence:
    """Joint RGB histogram (8 x 8 x 8 bins, square-rooted) of a 64-pixel thumbnail, then the probe."""
    evidence: Evidence = cross_validate(_histograms(judged.inputs), judged.targets, judged.splits, seed=seed)
    return evidence


def _histograms(inputs: Sequence[Any]) -> Array:
    thumbnail = ImagePreprocess(64, 64, resize="exact", resize_to=(64, 64))
    rows: list[Array] = []
    for _, batch in batches(inputs, thumbnail, batch_size=64):
        for image in batch["images"]:
            bins = np.minimum((image * BINS).astype(np.int64), BINS - 1).reshape(3, -1)
            index = (bins[0] * BINS + bins[1]) * BINS + bins[2]
            rows.append(np.sqrt(np.bincount(index, minlength=BINS**3) / index.size))
    return np.asarray(rows, dtype=np.float32)


def for_kind(kind: str) -> dict[str, Callable[..., Evidence]]:
    """The baselines of a kind of data, by the name of their row."""
    bag = bag_of_words if kind == "text" else colour_histogram
    name = "TF-IDF + logistic regression" if kind == "text" else "colour histogram + logistic regression"
    return {"majority class": majority, name: bag}
