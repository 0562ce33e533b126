"""What the choice rests on: out-of-fold predictions of a linear probe, and intervals on them.

Probe: multinomial logistic regression on standardised features (Kornblith, Shlens & Le 2019 rank
transferability so). Its strength C is chosen inside each fold on a part held out of that fold's training
examples, so that no example ever judges a model it helped to choose.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from zoo.cards import Cost
from zoo.choose.rows import Row
from zoo.data import folds
from zoo.engine import Array
from zoo.errors import TrainingError
from zoo.train import paired_interval as paired_interval
from zoo.train import wilson_interval

# A probe's matrices are small: a second BLAS thread gains nothing, and on a busy machine spins for minutes.
Splits: TypeAlias = Sequence[tuple[Array, Array]]
"""(indices to fit on, indices to judge on), the judged ones of all splits apart."""
Function = TypeVar("Function", bound=Callable[..., Any])


def one_thread(function: Function) -> Function:
    """Run a function with one BLAS thread."""
    wrapped: Function = threadpool_limits.wrap(limits=1)(function)
    return wrapped


QUARTERS = 4
"""Parts of which one is held out to choose the probe's strength."""
STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0)


@dataclass(frozen=True)
class Evidence:
    """Predictions of the judged examples, in their order, each by a probe that did not see it.

    correct: bool [N].  probabilities: float32 [N, C], rows sum to 1; empty [0, 0] where only `correct` is known,
    which is enough for the accuracy and for nothing else.
    """

    correct: Array
    probabilities: Array = field(default_factory=lambda: np.empty((0, 0), np.float32))

    @classmethod
    def of(cls, probabilities: Array, targets: Array) -> Evidence:
        """From probabilities [N, C] and targets int64 [N]; the answer is the first of the most probable classes."""
        return cls(probabilities.argmax(axis=1) == targets, probabilities.astype(np.float32))

    @property
    def arrays(self) -> dict[str, Array]:
        """Its fields by name, to be kept; `Evidence(**arrays)` is it again."""
        return {"correct": self.correct, "probabilities": self.probabilities}

    @property
    def accuracy(self) -> float:
        """Share of examples predicted right."""
        return float(self.correct.mean())

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval (1927)."""
        return wilson_interval(int(self.correct.sum()), len(self.correct))

    def row(self, name: str, status: str, reason: str, cost: Cost | None) -> Row:
        """A candidate's row with this accuracy and interval."""
        return Row(name, status, reason, self.accuracy, *self.interval, cost)


DEAD = 1e-6
"""A feature whose deviation is below this share of the largest one's says nothing: MiniLM has three, of 1e-31."""


class _Scaler(StandardScaler):  # type: ignore[misc]
    """Standardises, and gives 0 for dead features. Scaled up they would be rounding errors, with weights of 1e30
    in the head: no other precision, and no other runtime, gives the same errors again.
    """

    scale_: Array

    def fit(self, X: Array, y: Any = None, sample_weight: Any = None) -> _Scaler:
        super().fit(X, y, sample_weight)
        self.scale_ = np.where(self.scale_ < DEAD * self.scale_.max(), np.inf, self.scale_)
        return self


def logistic(strength: float) -> Pipeline:
    """The probe: standardise, then logistic regression."""
    return make_pipeline(_Scaler(), LogisticRegression(C=strength, max_iter=400, tol=1e-3))


def choose_strength(features: Array, targets: Array, *, seed: int) -> float:
    """The C with the lowest log loss on a stratified quarter held out."""
    from sklearn.metrics import log_loss

    fitted, held = folds(targets, QUARTERS, seed=seed)[0]
    classes = np.unique(targets)
    losses = []
    for strength in STRENGTHS:
        probe = logistic(strength).fit(features[fitted], targets[fitted])
        losses.append(log_loss(targets[held], aligned(probe, features[held], classes), labels=classes))
    return STRENGTHS[int(np.argmin(losses))]


def aligned(probe: Pipeline, features: Array, classes: Array) -> Array:
    """Probabilities float64 [N, C] with a column for every class, also one the probe never saw."""
    found = probe.predict_proba(features)
    out = np.full((len(features), len(classes)), 1e-12)
    out[:, np.searchsorted(classes, probe.classes_)] = found
    scaled: Array = out / out.sum(axis=1, keepdims=True)
    return scaled


@one_thread
def cross_validate(features: Array, targets: Array, splits: Splits, *, seed: int) -> Evidence:
    """Predictions of probes on the held part of each split; features [N, D], targets int64 [N].

    There are as many classes as the largest target says.  Raises TrainingError where features are not finite.
    """
    features = finite(features).astype(np.float32)
    classes = np.arange(int(targets.max()) + 1)

    def predict(fitted: Array, held: Array) -> Array:
        strength = choose_strength(features[fitted], targets[fitted], seed=seed)
        probe = logistic(strength).fit(features[fitted], targets[fitted])
        return aligned(probe, features[held], classes)

    return over_splits(targets, splits, predict)


def finite(features: Array) -> Array:
    """The features as they are. Raises TrainingError where one is NaN or infinite: no probe can learn on them."""
    if not np.isfinite(features).all():
        rows = int((~np.isfinite(features)).any(axis=1).sum())
        raise TrainingError(
            f"features of {rows} of {len(features)} examples are NaN or infinite: the network overflows on this "
            "data. Leave it out, or try it in another precision."
        )
    return features


def over_splits(targets: Array, splits: Splits, predict: Callable[[Array, Array], Array]) -> Evidence:
    """`predict(fitted, held)`, probabilities [n, C], for every held example, in the order of the examples."""
    found = [(held, predict(fitted, held)) for fitted, held in splits]
    places = np.concatenate([held for held, _ in found])
    order = np.argsort(places)
    probabilities = np.concatenate([values for _, values in found])[order]
    return Evidence.of(probabilities, targets[places[order]])


@one_thread
def fit_linear_head(features: Array, targets: Array, num_classes: int, *, seed: int) -> tuple[Array, Array]:
    """The probe on all training examples as one Linear: weight float32 [C, D], bias float32 [C].

    The standardisation is folded in. Two classes become two symmetric rows, so softmax gives the same
    probabilities as the probe.
    """
    probe = logistic(choose_strength(features, targets, seed=seed)).fit(features, targets)
    scaler, model = probe[0], probe[1]
    weight, bias = model.coef_.astype(np.float64), model.intercept_.astype(np.float64)
    if len(model.classes_) == 2:
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    weight = weight / scaler.scale_
    bias = bias - weight @ scaler.mean_
    full_weight = np.zeros((num_classes, weight.shape[1]))
    full_bias = np.full(num_classes, -30.0)  # a class without a training example is never predicted
    full_weight[model.classes_], full_bias[model.classes_] = weight, bias
    return full_weight.astype(np.float32), full_bias.astype(np.float32)
