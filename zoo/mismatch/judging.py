"""The model as its own judge: what it says of the same examples under each hypothesis, and how sure that is.

Two tests, both paired and one-sided: McNemar's on what is right (exact: the discordant pairs are binomial with
1/2), and a normal one on the losses, which sees more in few examples. Bonferroni-corrected for both tests and all
hypotheses. A correction must also gain a share of accuracy, or of loss, that is worth the name.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from zoo.cards import ImagePreprocess, Preprocess
from zoo.data import Input, batches
from zoo.data.images import pixels
from zoo.engine import Array
from zoo.errors import ModelFileError
from zoo.graph import OnnxModel
from zoo.mismatch.hypotheses import LEAST_GAIN, LEAST_RELIEF, Kind
from zoo.train import paired_interval
from zoo.train.metrics import log_softmax

BATCH_SIZE = 16
ALPHA = 0.01
"""Chance of any false alarm in one search."""
FEWEST_FOR_NORMAL = 30
SCREENED = 48
"""Examples on which a hypothesis must do at least as well as what is given, before all are spent on it."""


@dataclass(frozen=True, eq=False)
class Outcome:
    """What the model says of examples. logits float32 [N, C]; wanted int64 [N], the output that is right."""

    logits: Array
    wanted: Array

    @classmethod
    def of(cls, logits: Array, targets: Array, shift: int) -> Outcome:
        """targets int64 [N]; the output for class c is number c + shift, around the end."""
        return cls(logits, (targets + shift) % logits.shape[1])

    def first(self, count: int) -> Outcome:
        """On the first examples."""
        return Outcome(self.logits[:count], self.wanted[:count])

    @functools.cached_property
    def right(self) -> Array:
        """bool [N]."""
        found: Array = self.logits.argmax(axis=1) == self.wanted
        return found

    @functools.cached_property
    def losses(self) -> Array:
        """-log of the right class's probability, float64 [N], at the temperature (Guo et al. 2017) that makes their
        mean lowest: a network that is only surer or less sure of the same answers loses and gains nothing.
        """
        rows, logits = np.arange(len(self.wanted)), self.logits.astype(np.float64)
        logits = logits - logits.max(axis=1, keepdims=True)
        low, high = -12.0, 7.0  # log of 1 / temperature; the mean loss is convex in 1 / temperature
        for _ in range(30):
            middle = (low + high) / 2
            shares = np.exp(log_softmax(math.exp(middle) * logits))
            slope = ((shares * logits).sum(axis=1) - logits[rows, self.wanted]).mean()
            low, high = (middle, high) if slope < 0 else (low, middle)
        found: Array = -log_softmax(math.exp(low) * logits)[rows, self.wanted]
        return found

    @property
    def accuracy(self) -> float:
        """Share predicted right."""
        return float(self.right.mean())

    @property
    def log_loss(self) -> float:
        """Mean of the losses."""
        return float(self.losses.mean())


@dataclass(frozen=True)
class Comparison:
    """A correction against what is given, on the same examples.

    gain: in accuracy; low, high: its paired 95 % interval (Agresti & Min 2005).  gained, lost: examples right
    only with it, right only without it.  relief: fall of the mean loss.  p: of so many gained by chance, or of
    such a relief, whichever is smaller (times 2: there were two chances).
    """

    gain: float
    low: float
    high: float
    gained: int
    lost: int
    relief: float
    p: float

    @classmethod
    def of(cls, given: Outcome, corrected: Outcome) -> Comparison:
        """Count and test."""
        gained = int((corrected.right & ~given.right).sum())
        lost = int((given.right & ~corrected.right).sum())
        fall = given.losses - corrected.losses
        p = min(1.0, 2 * min(mcnemar(gained, lost), _one_sided(fall)))
        interval = paired_interval(corrected.right, given.right)
        return cls(corrected.accuracy - given.accuracy, *interval, gained, lost, float(fall.mean()), p)

    def alarms(self, kind: Kind, tests: int) -> bool:
        """Whether it is no chance among so many tests, and worth the name: more right and none the worse for it."""
        enough = self.gain >= LEAST_GAIN[kind] or (self.gain >= 0 and self.relief >= LEAST_RELIEF[kind])
        return self.p * tests < ALPHA and enough and self.relief > 0


def mcnemar(gained: int, lost: int) -> float:
    """P(at least `gained` of gained + lost fair coins): one-sided, exact (McNemar 1947)."""
    total = gained + lost
    ways = term = math.comb(total, gained)
    for k in range(gained, total):
        term = term * (total - k) // (k + 1)
        ways += term
    return float(ways / 2**total)


def _one_sided(falls: Array) -> float:
    """P of so large a mean fall where there is none (normal approximation); 1 for too few to say."""
    if len(falls) < FEWEST_FOR_NORMAL or not falls.std():
        return 1.0
    z = falls.mean() / (falls.std(ddof=1) / math.sqrt(len(falls)))
    return 0.5 * math.erfc(z / math.sqrt(2))


def fewest_gained(tests: int) -> int:
    """How many examples a correction must gain, losing none, to count among so many tests."""
    return math.ceil(math.log2(2 * tests / ALPHA))


class Judge:
    """Runs the model on the examples under any preprocess; each is run once.

    The photographs are decoded once at the size that is given; at another size they are decoded again.
    """

    def __init__(
        self, model: OnnxModel, resizable: OnnxModel | None, inputs: Sequence[Input], targets: Array
    ) -> None:
        """resizable: the same network with its input size set free, where another size is to be tried."""
        self.model, self.resizable, self.targets = model, resizable, targets
        self.given = model.preprocess
        self.inputs = list(inputs)
        self._decoded: list[Input] = self.inputs
        if isinstance(self.given, ImagePreprocess):
            self._decoded = [pixels(item, self.given) for item in inputs]
        self._logits: dict[tuple[Preprocess, int], Array] = {}

    def outcome(self, preprocess: Preprocess, shift: int, *, examples: int | None = None) -> Outcome:
        """On the first `examples`, or all. Raises ModelFileError where the graph does not take that size."""
        count = len(self.inputs) if examples is None else min(examples, len(self.inputs))
        key = (preprocess, count)
        if key not in self._logits:
            self._logits[key] = self._run(preprocess, count)
        return Outcome.of(self._logits[key], self.targets[:count], shift)

    def images(self, preprocess: ImagePreprocess) -> Array:
        """float32 [n, 3, H, W]: what the network is given for the first examples."""
        items = self.inputs[:BATCH_SIZE]
        return next(batches(items, preprocess, batch_size=BATCH_SIZE))[1]["images"]

    def _run(self, preprocess: Preprocess, count: int) -> Array:
        model, items = self.model, self._decoded
        if isinstance(preprocess, ImagePreprocess) and isinstance(self.given, ImagePreprocess):
            if _geometry(preprocess) == _geometry(self.given):
                size = (preprocess.height, preprocess.width)
                preprocess = dataclasses.replace(preprocess, resize="exact", resize_to=size)
            else:
                if self.resizable is None:
                    raise ModelFileError("the graph takes no other size")
                model, items = self.resizable, self.inputs
        found = [model.logits(b) for _, b in batches(items[:count], preprocess, batch_size=BATCH_SIZE)]
        return np.concatenate(found)


def _geometry(preprocess: ImagePreprocess) -> ImagePreprocess:
    """What of it decides which pixels are seen."""
    return dataclasses.replace(
        preprocess, scale=1.0, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), channels="RGB"
    )
