"""How far is the user's data from what a backbone was trained on? The training data is not at hand; its traces are.

Three figures, by what the network holds. Each is 0 for data like the network's own and 1 for the user's own
data with its structure destroyed (or, of the last, for a network that never was trained), so that the scale
needs no table of other data sets. None is a distance between data sets in the mathematical sense.

1. Batch norm keeps mean and variance of what each channel saw in pretraining. The user's batches, sent through
   the same way (normalised by their own statistics), have others: how far the two Gaussians of a channel are
   apart, the mean over channels and layers (Li et al. 2017, AdaBN, who take the symmetric Kullback-Leibler
   divergence; here the squared Hellinger distance, since one channel that falls silent makes that one
   infinite), against that of the same photographs with their pixels shuffled. Says how the inputs look,
   nothing of the labels.
2. A tokenizer was made from the pretraining texts: what it knows is one piece, what it does not falls apart
   (fertility: Rust et al. 2021). Pieces a word beyond the first, against the same words with their letters
   shuffled; a word it cannot write at all counts as its letters. Says how words are spelt, nothing of what is said.
3. Neither: the error of a linear probe on the features, against that on the same network with random
   weights (0: no error is left; 1: pretraining helped nothing). Says how far the features carry over to these
   labels, so a hard task looks distant.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from zoo import backbone
from zoo.cards import Recipe, TextPreprocess
from zoo.data import Dataset, folds, prepare
from zoo.engine import HEAD, Array, Batch, Engine
from zoo.errors import ZooError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

BATCH, BATCHES, TEXTS, PROBED = 32, 4, 2000, 400
LINE = 0.5
"""The rule of thumb's 'similar' ends here: half way to destroyed. Arbitrary, and said to be."""
EPS = 1e-3
"""Added to variances, as batch norm itself does (Keras's value): channels that never fire have none."""


@dataclass(frozen=True)
class Distance:
    """value: 0 near, 1 as far as destroyed data. measure: how. raw, reference: the two whose ratio it is."""

    value: float
    measure: str
    raw: float
    reference: float
    examples: int

    @property
    def similar(self) -> bool:
        """What the rule of thumb would call the data."""
        return self.value < LINE


def measure(model: backbone.Backbone, data: Dataset, *, seed: int) -> Distance | None:
    """The figure for this model and data (its training part), or None where there is no way to one.

    The engine may be left changed: the caller puts its state back.
    """
    rng = np.random.default_rng(seed)
    if isinstance(model.preprocess, TextPreprocess):
        return _of_words(model, data, rng)
    return _of_batch_norm(model, data, rng) or _of_probe(model, data, rng)


# --- 1: batch norm
def pairs(engine: Engine) -> list[tuple[str, str]]:
    """Keys of (mean, variance) in the engine's state that look like a batch norm's running statistics."""
    keys = set(engine.state())
    found = []
    for key in sorted(keys):
        if key.endswith("mean"):
            stem = key.removesuffix("mean")
            found += [(key, stem + end) for end in ("var", "variance") if stem + end in keys]
    return found


def _of_batch_norm(model: backbone.Backbone, data: Dataset, rng: np.random.Generator) -> Distance | None:
    engine = model.engine
    keys = pairs(engine)
    chosen = rng.permutation(len(data))[: BATCH * BATCHES]
    size = min(BATCH, len(chosen))
    parts = [chosen[i : i + size] for i in range(0, len(chosen) - size + 1, size)]
    batches = [prepare([data.inputs[i] for i in part], model.preprocess) for part in parts]
    keys = _moving(engine, keys, batches[0])
    if not keys:
        return None
    pretrained = engine.state()
    own = divergence(pretrained, statistics(engine, keys, batches), keys)
    shuffled = [_shuffled(batch, rng) for batch in batches]
    far = divergence(pretrained, statistics(engine, keys, shuffled), keys)
    engine.load_state(pretrained)
    return Distance(own / far, "batch norm statistics", own, far, size * len(parts))


def _moving(engine: Engine, keys: list[tuple[str, str]], batch: Batch) -> list[tuple[str, str]]:
    """Those that a training step moves: statistics, not weights that happen to be called so."""
    if not keys:
        return []
    before = engine.state()
    _step(engine, batch)
    after = engine.state()
    engine.load_state(before)
    return [pair for pair in keys if any(not np.array_equal(before[k], after[k]) for k in pair)]


def statistics(engine: Engine, keys: list[tuple[str, str]], batches: list[Batch]) -> dict[str, Array]:
    """Mean and variance of each channel over the batches, by key, float64; the engine keeps its weights.

    A step at learning rate 0 from statistics of 0 leaves m * (the batch's own), and from 1 it leaves (1 - m)
    more: so the momentum m need not be known, and every framework's batch norm can be asked.
    """
    state = engine.state()
    names = [key for pair in keys for key in pair]
    zeros = {**state, **{key: np.zeros_like(state[key]) for key in names}}
    ones = {**state, **{key: np.ones_like(state[key]) for key in names}}
    found: dict[str, list[Array]] = {key: [] for key in names}
    from_ones = _after(engine, ones, batches[0])
    for number, batch in enumerate(batches):
        from_zeros = _after(engine, zeros, batch)
        if number == 0:
            rates = {key: 1 - float(np.median(from_ones[key] - from_zeros[key])) for key in names}
        for key in names:
            found[key].append(from_zeros[key].astype(np.float64) / rates[key])
    engine.load_state(state)
    means = {mean: np.mean(found[mean], axis=0) for mean, _ in keys}
    return means | {var: np.mean(found[var], axis=0) + np.var(found[mean], axis=0) for mean, var in keys}


def _after(engine: Engine, state: Mapping[str, Array], batch: Batch) -> dict[str, Array]:
    engine.load_state(state)
    _step(engine, batch)
    return engine.state()


def _step(engine: Engine, batch: Batch) -> None:
    """One training step that moves statistics and no weight."""
    count = len(next(iter(batch.values())))
    targets = np.zeros((count, engine.num_classes or 2), np.float32)
    targets[:, 0] = 1
    engine.start_training(Recipe(optimizer="sgd", momentum=0.0, batch_size=count))
    float(engine.train_step(batch, targets, lr=dict.fromkeys((*engine.trainable, HEAD), 0.0)))


def divergence(first: Mapping[str, Array], second: Mapping[str, Array], keys: list[tuple[str, str]]) -> float:
    """Squared Hellinger distance of Gaussians, in [0, 1], the mean over channels, then over layers."""
    layers = []
    for mean, var in keys:
        v1, v2 = first[var].astype(np.float64) + EPS, second[var].astype(np.float64) + EPS
        apart = (first[mean].astype(np.float64) - second[mean]) ** 2
        shared = np.sqrt(2 * np.sqrt(v1 * v2) / (v1 + v2)) * np.exp(-apart / (4 * (v1 + v2)))
        layers.append(float(np.mean(1 - shared)))
    return float(np.mean(layers))


def _shuffled(batch: Batch, rng: np.random.Generator) -> Batch:
    """Each photograph's pixels in another order: its colours without its shapes."""
    images = batch["images"]
    flat = images.reshape(*images.shape[:2], -1)
    mixed = np.stack([photo[:, rng.permutation(flat.shape[2])] for photo in flat])
    return {**batch, "images": mixed.reshape(images.shape)}


# --- 2: word pieces
def _of_words(model: backbone.Backbone, data: Dataset, rng: np.random.Generator) -> Distance | None:
    preprocess = model.preprocess
    assert isinstance(preprocess, TextPreprocess)
    if preprocess.tokenizer is None:
        return None
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(preprocess.tokenizer)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    chosen = [str(data.inputs[i]) for i in rng.permutation(len(data))[:TEXTS]]
    own = extra_pieces(tokenizer, chosen)
    mixed = [" ".join("".join(rng.permutation(list(word))) for word in text.split()) for text in chosen]
    far = extra_pieces(tokenizer, mixed)
    return Distance(own / far, "word pieces", own, far, len(chosen)) if far > 0 else None


def extra_pieces(tokenizer: Tokenizer, texts: list[str]) -> float:
    """Pieces a word beyond the first one; an unknown piece counts as its letters."""
    unknown = {tokenizer.token_to_id(name) for name in ("[UNK]", "<unk>", "<|unk|>")} - {None}
    pieces = words = 0
    for encoded in tokenizer.encode_batch(texts, add_special_tokens=False):
        words += len({word for word in encoded.word_ids if word is not None})
        spans = zip(encoded.ids, encoded.offsets, strict=True)
        pieces += sum(max(1, end - start) if token in unknown else 1 for token, (start, end) in spans)
    return pieces / words - 1 if words else 0.0


# --- 3: a probe
def _of_probe(model: backbone.Backbone, data: Dataset, rng: np.random.Generator) -> Distance | None:
    try:
        random = backbone.get(str(dataclasses.replace(model.id, weights="none")))
    except ZooError:
        return None  # a network that its source builds only with weights
    part = data.subset(np.sort(rng.permutation(len(data))[:PROBED]))
    few = int(np.bincount(part.targets, minlength=len(part.classes)).min())
    if few < 4:
        return None  # the probe's strength is chosen on a quarter of what it learns from
    errors = [probe_error(network.features, part) for network in (model, random)]
    return Distance(errors[0] / max(errors[1], 1 / len(part)), "probe", errors[0], errors[1], len(part))


def probe_error(features: Callable[[object], Array], data: Dataset) -> float:
    """Cross-validated error of a linear probe."""
    from zoo.choose.evidence import cross_validate

    splits = folds(data.targets, 4, seed=0)
    return 1 - cross_validate(features(list(data.inputs)), data.targets, splits, seed=0).accuracy
