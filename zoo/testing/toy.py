"""A complete adapter in numpy: the reference reading of the contract, and a fast double for core tests.

`ToyEngine` is a network of linear -> batch norm -> relu [-> dropout] blocks with gradients written by
hand, for 8 x 8 images or for texts as bags of tokens. Stored in float32, computed in float64. It shows
what a real engine must get right (statistics, dropout, freezing, a rate per block, resume) in little space.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import json
import os
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from zoo import registry
from zoo.cards import (
    IMAGE_TASK,
    TEXT_TASK,
    ImagePreprocess,
    ModelCard,
    Preprocess,
    Recipe,
    TextPreprocess,
    WeightsCard,
)
from zoo.engine import (
    HEAD_BIAS,
    HEAD_WEIGHT,
    Adapter,
    Array,
    Batch,
    Engine,
    LoadRequest,
    micro_batches,
    step_entropy,
)
from zoo.errors import HeadMissingError, InputError, UnknownModelError, WeightsCorruptError
from zoo.recipe import Precision
from zoo.testing.toy_graph import write_graph
from zoo.train.optim import Optimizer

EPS, MOMENTUM, DROPOUT = 1e-5, 0.1, 0.2
PIXELS, VOCABULARY, WIDTH, DEPTH = 8, 200, 16, 2
IMAGE = ImagePreprocess(
    PIXELS, PIXELS, "exact", (PIXELS, PIXELS), mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25)
)
TEXT = TextPreprocess(max_length=16, vocab_size=VOCABULARY)
LABELS = ("red", "green", "blue")
Kind = Literal["image", "text"]


@dataclass(frozen=True)
class _Tape:
    """What one block's forward pass leaves for its backward pass."""

    block: str
    x: Array
    normal: Array
    inverse: Array
    gate: Array
    mean: Array
    variance: Array
    training: bool


class ToyEngine(Engine):
    """stem, block1 .. block<depth>, each linear [F, W] -> batch norm -> relu, the blocks then dropout."""

    def __init__(
        self,
        kind: Kind = "image",
        *,
        depth: int = DEPTH,
        width: int = WIDTH,
        num_classes: int | None = 3,
        seed: int = 0,
    ) -> None:
        self.kind: Kind = kind
        self.preprocess = IMAGE if kind == "image" else TEXT
        self.inputs = ("images",) if kind == "image" else TEXT.inputs
        self.blocks = ("stem", *(f"block{i}" for i in range(1, depth + 1)))
        self.depths = tuple(range(1, depth + 1))
        self.feature_dim, self.module = width, self
        self._values = _draw(self.blocks, 3 * PIXELS**2 if kind == "image" else VOCABULARY, width, seed)
        self._trainable, self._micro_batch = self.blocks, 0
        if num_classes is not None:
            self.reset_head(num_classes, seed=seed)

    @property
    def num_classes(self) -> int | None:
        """Rows of the head."""
        return len(self._values[HEAD_BIAS]) if HEAD_BIAS in self._values else None

    # --- inference
    def features(self, batch: Batch) -> Array:
        """float32 [N, W]."""
        return self._forward(batch, training=())[0].astype(np.float32)

    def logits(self, batch: Batch) -> Array:
        """float32 [N, C]."""
        if (head := self.head()) is None:
            raise HeadMissingError("this toy has no head: replace_head(num_classes) puts one on")
        return (self._forward(batch, training=())[0] @ head[0].T + head[1]).astype(np.float32)

    def _forward(
        self, batch: Batch, *, training: Collection[str], step: int = 0, precision: Precision = "fp32"
    ) -> tuple[Array, list[_Tape]]:
        x, tapes = self._rows(batch), []
        for block in self.blocks:
            x, tape = self._block_forward(block, x, training=block in training, step=step)
            tapes.append(tape)
            x = x if precision == "fp32" else _bfloat16(x)
        return x, tapes

    def _rows(self, batch: Batch) -> Array:
        """float64 [N, F]: flattened pixels, or the share of each token in the text (its embeddings' mean)."""
        if self.kind == "image":
            return batch["images"].reshape(len(batch["images"]), -1).astype(np.float64)
        ids, mask = batch["input_ids"], batch["attention_mask"]
        counts = np.zeros((len(ids), VOCABULARY))
        np.add.at(counts, (np.arange(len(ids))[:, None], ids), mask)
        shares: Array = counts / np.maximum(counts.sum(1, keepdims=True), 1)
        return shares

    def _block_forward(self, block: str, x: Array, *, training: bool, step: int) -> tuple[Array, _Tape]:
        z = x @ self._values[f"{block}.weight"].astype(np.float64)
        mean, variance = self._statistics(block, z, training=training)
        inverse = 1 / np.sqrt(variance + EPS)
        normal = (z - mean) * inverse
        y = normal * self._values[f"{block}.gamma"] + self._values[f"{block}.beta"]
        gate = (y > 0) * self._dropout(block, y.shape, training=training, step=step)
        return y * gate, _Tape(block, x, normal, inverse, gate, mean, variance, training)

    def _statistics(self, block: str, z: Array, *, training: bool) -> tuple[Array, Array]:
        if training:
            return z.mean(0), z.var(0)
        return self._values[f"{block}.mean"], self._values[f"{block}.variance"]

    def _dropout(self, block: str, shape: tuple[int, ...], *, training: bool, step: int) -> Array:
        """Mask, scaled; a function of (seed, step, block) alone, so that a resumed run draws it again."""
        if not training or block == "stem":
            return np.ones(shape)
        entropy = step_entropy(self._optimizer.recipe.seed, step, self._micro_batch)
        rng = np.random.default_rng([*entropy, self.blocks.index(block)])
        return (rng.random(shape) >= DROPOUT) / (1 - DROPOUT)

    # --- the head
    def head(self) -> tuple[Array, Array] | None:
        """Copies of weight [C, W] and bias [C]."""
        if self.num_classes is None:
            return None
        return self._values[HEAD_WEIGHT].copy(), self._values[HEAD_BIAS].copy()

    def set_head(self, weight: Array, bias: Array) -> None:
        """Put a head on; its labels are the caller's to set."""
        self._values[HEAD_WEIGHT] = np.array(weight, np.float32)
        self._values[HEAD_BIAS] = np.array(bias, np.float32)

    # --- training
    def set_trainable(self, blocks: Collection[str]) -> None:
        """Train these and the head."""
        if unknown := set(blocks) - set(self.blocks):
            raise InputError(f"no blocks {sorted(unknown)}: there are {', '.join(self.blocks)}")
        self._trainable = tuple(block for block in self.blocks if block in blocks)

    @property
    def trainable(self) -> tuple[str, ...]:
        """The blocks that train."""
        return self._trainable

    def start_training(self, recipe: Recipe) -> None:
        """Forget optimizer slots and steps."""
        self._optimizer = Optimizer(recipe)

    def train_step(
        self, batch: Batch, targets: Array, *, lr: Mapping[str, float], weights: Array | None = None
    ) -> float:
        """One step on the weighted mean of the samples' cross-entropies: sum(w * loss) / sum(w)."""
        loss, gradients = 0.0, dict[str, Array]()
        parts = micro_batches(batch, targets, weights, self._optimizer.recipe.micro_batch_size)
        for self._micro_batch, (part, wanted, shares) in enumerate(parts):
            own_loss, own, tapes = self.gradients(part, wanted, shares=shares)
            loss += own_loss
            gradients = {key: gradients.get(key, 0.0) + own[key] for key in own}
            for tape in tapes:
                self._move_statistics(tape)
        by_key = {key: lr[key.partition(".")[0]] for key in gradients}
        self._optimizer.update(self._values, gradients, by_key)
        return loss

    def gradients(
        self, batch: Batch, targets: Array, *, shares: Array
    ) -> tuple[float, dict[str, Array], list[_Tape]]:
        """Sum of share * loss and its gradient by every trainable value, float64; changes nothing."""
        if (head := self.head()) is None:
            raise HeadMissingError("this toy has no head to train: replace_head(num_classes) puts one on")
        recipe, step = self._optimizer.recipe, self._optimizer.steps
        features, tapes = self._forward(
            batch, training=self._trainable, step=step, precision=recipe.precision
        )
        loss, slope = cross_entropy(features @ head[0].T + head[1], targets, shares)
        found = {HEAD_WEIGHT: slope.T @ features, HEAD_BIAS: slope.sum(0)}
        back = slope @ head[0].astype(np.float64)
        for tape in reversed(tapes):
            back, own = self._block_backward(tape, back)
            found |= own if tape.block in self._trainable else {}
        return loss, found, tapes

    def _block_backward(self, tape: _Tape, back: Array) -> tuple[Array, dict[str, Array]]:
        """Gradient by the block's input, and by its values. Batch norm: Ioffe & Szegedy 2015, section 3."""
        back = back * tape.gate
        own = {f"{tape.block}.gamma": (back * tape.normal).sum(0), f"{tape.block}.beta": back.sum(0)}
        back = back * self._values[f"{tape.block}.gamma"]
        if tape.training:
            back = back - back.mean(0) - tape.normal * (back * tape.normal).mean(0)
        back = back * tape.inverse
        own[f"{tape.block}.weight"] = tape.x.T @ back
        return back @ self._values[f"{tape.block}.weight"].astype(np.float64).T, own

    def _move_statistics(self, tape: _Tape) -> None:
        if not tape.training:
            return
        for name, seen in (("mean", tape.mean), ("variance", tape.variance)):
            old = self._values[f"{tape.block}.{name}"]
            self._values[f"{tape.block}.{name}"] = ((1 - MOMENTUM) * old + MOMENTUM * seen).astype(np.float32)

    def training_state(self) -> dict[str, Array]:
        """Copies of step counter and slots."""
        return self._optimizer.state()

    def load_training_state(self, state: Mapping[str, Array]) -> None:
        """Go on from `training_state`."""
        self._optimizer.load_state(state)

    # --- state
    def state(self) -> dict[str, Array]:
        """Copies."""
        return {key: value.copy() for key, value in self._values.items()}

    def load_state(self, state: Mapping[str, Array]) -> None:
        """All or nothing: keys and shapes are checked first."""
        problems = [f"missing {k}" for k in self._values if k not in state]
        problems += [f"extra {k}" for k in state if k not in self._values]
        both = self._values.keys() & state.keys()
        problems += [f"misshapen {k}" for k in sorted(both) if self._values[k].shape != state[k].shape]
        if problems:
            raise WeightsCorruptError(f"these weights belong to another network: {', '.join(problems)}")
        self._values = {key: np.array(state[key], np.float32) for key in self._values}

    def block_of(self) -> dict[str, str]:
        """A key is "<block>.<name>"."""
        return {key: key.partition(".")[0] for key in self._values}

    def architecture(self) -> dict[str, Any]:
        """The arguments of `__init__`."""
        sizes = {"depth": len(self.blocks) - 1, "width": self.feature_dim, "num_classes": self.num_classes}
        return {"kind": self.kind, **sizes}

    # --- export
    def export_onnx(self, path: Path, *, opset: int, depths: Sequence[int] = ()) -> str:
        """Linear and batch norm folded into one Gemm a block."""
        write_graph(path, self.kind, [self.folded(b) for b in self.blocks], opset=opset, depths=depths)
        return "toy"

    def folded(self, block: str) -> tuple[Array, Array]:
        """float32 weight [F, W] and bias [W] of linear and batch norm in one, in inference mode."""
        value = {
            k.partition(".")[2]: v.astype(np.float64)
            for k, v in self._values.items()
            if k.startswith(f"{block}.")
        }
        scale = value["gamma"] / np.sqrt(value["variance"] + EPS)
        bias = value["beta"] - value["mean"] * scale
        return (value["weight"] * scale).astype(np.float32), bias.astype(np.float32)


def _draw(blocks: Sequence[str], columns: int, width: int, seed: int) -> dict[str, Array]:
    """He-normal weights; statistics off their defaults, so that dropping them is seen."""
    rng = np.random.default_rng([seed, columns, width])
    values: dict[str, Array] = {}
    for block in blocks:
        values[f"{block}.weight"] = rng.normal(0, np.sqrt(2 / columns), (columns, width))
        values[f"{block}.gamma"], values[f"{block}.beta"] = (
            rng.uniform(0.5, 1.5, width),
            rng.normal(0, 0.1, width),
        )
        values[f"{block}.mean"], values[f"{block}.variance"] = (
            rng.normal(0, 0.1, width),
            rng.uniform(0.5, 1, width),
        )
        columns = width
    return {key: value.astype(np.float32) for key, value in values.items()}


def cross_entropy(logits: Array, targets: Array, shares: Array) -> tuple[float, Array]:
    """Sum of share * cross-entropy with soft targets [N, C], and its gradient by the logits [N, C]."""
    shifted = logits - logits.max(1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    slope = np.exp(log_p) * targets.sum(1, keepdims=True) - targets
    return float(-(shares * (targets * log_p).sum(1)).sum()), slope * shares[:, None]


def _bfloat16(values: Array) -> Array:
    """float64, cut off to what bfloat16 holds."""
    bits = values.astype(np.float32).view(np.uint32) & np.uint32(0xFFFF0000)
    return bits.view(np.float32).astype(np.float64)


def toy_cards() -> list[ModelCard]:
    """The toy's catalogue: `tiny` has a head of its own in its weights, `words` has none."""
    weights = (WeightsCard(licence="Apache-2.0", source="drawn from seed 0"),)
    common: dict[str, Any] = {"source": "zoo.testing", "depths": (1, 2), "weights": weights}
    image = ModelCard("toy", "tiny", IMAGE_TASK, "toy", size=PIXELS, aliases=("tiny8",), **common)
    return [image, ModelCard("toy", "words", TEXT_TASK, "toy", size=TEXT.max_length, **common)]


class ToyAdapter(Adapter):
    """Framework "toy": the models `tiny` (images) and `words` (texts)."""

    framework, notes_reads = "toy", True

    def load(self, request: LoadRequest) -> ToyEngine:
        """Weights "default" are the ones of seed 0."""
        card = next((c for c in toy_cards() if c.name == request.name), None)
        if card is None:
            raise UnknownModelError(f"no toy {request.name!r}: there are tiny and words", ["tiny", "words"])
        if request.weights not in ("default", "none"):
            raise InputError(f"no weights {request.weights!r} of toy:{request.name}: default or none")
        if request.depth not in (None, *card.depths) or request.size not in (None, card.size):
            raise InputError(f"toy:{card.name} has depths {card.depths} and size {card.size}")
        image, seed = card.task == IMAGE_TASK, 0 if request.weights == "default" else request.seed
        own = len(LABELS) if image else None
        engine = ToyEngine(
            "image" if image else "text", depth=request.depth or DEPTH, num_classes=own, seed=seed
        )
        engine.labels = LABELS if own else None
        if request.num_classes is not None:
            engine.reset_head(request.num_classes, seed=request.seed)
        return engine

    def rebuild(self, architecture: Mapping[str, Any], preprocess: Preprocess) -> ToyEngine:
        """From `ToyEngine.architecture()`."""
        data = dict(architecture)
        engine = ToyEngine(data.pop("kind"), **data)
        engine.preprocess = preprocess
        return engine

    def versions(self) -> dict[str, str]:
        """numpy's."""
        return {"numpy": np.__version__}


ADAPTER = ToyAdapter()


@contextlib.contextmanager
def installed(folder: Path) -> Iterator[Path]:
    """Install the toy into `folder` as a package of its own, found through a real entry point, while inside.

    Subprocesses find it too (PYTHONPATH). The registry's caches are cleared on the way in and out.
    """
    _write_package(folder)
    old = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(folder), *([old] if old else [])])
    sys.path.insert(0, str(folder))
    forget_adapters()
    try:
        yield folder
    finally:
        sys.path.remove(str(folder))
        sys.modules.pop("zoo_toy", None)
        os.environ.pop("PYTHONPATH") if old is None else os.environ.__setitem__("PYTHONPATH", old)
        forget_adapters()


def _write_package(folder: Path) -> None:
    files = {
        "zoo_toy/__init__.py": "from zoo.testing.toy import ADAPTER as ADAPTER\n",
        "zoo_toy/cards.json": json.dumps([dataclasses.asdict(card) for card in toy_cards()]),
        "zoo_toy-0.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: zoo-toy\nVersion: 0.0\n",
        "zoo_toy-0.0.dist-info/entry_points.txt": f"[{registry.GROUP}]\ntoy = zoo_toy:ADAPTER\n",
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")


def forget_adapters() -> None:
    """Let the registry look again at what is installed."""
    importlib.invalidate_caches()
    registry.forget()
