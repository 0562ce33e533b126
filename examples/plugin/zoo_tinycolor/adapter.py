"""The whole adapter: a soft colour histogram in numpy, trainable, exported to ONNX.

    features[n, c * 8 + k] = mean over pixels of exp(-SHARPNESS * (pixel - centre[c, k])^2)

says how much of shade k the colour channel c of picture n has. The 24 centres are its weights; a Linear head
on the 24 features classifies. It has no batch norm and no dropout, which is what makes it so short: an
engine with those has to keep them still in frozen blocks.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from zoo.cards import ImagePreprocess, Preprocess, Recipe
from zoo.engine import HEAD, HEAD_BIAS, HEAD_WEIGHT, Adapter, Array, Batch, Engine, LoadRequest
from zoo.errors import HeadMissingError, InputError, UnknownModelError, WeightsCorruptError
from zoo.train.optim import Optimizer

BLOCK, CENTRES = "histogram", "histogram.centres"
SHADES, SIZE, SHARPNESS = 8, 16, np.float32(30.0)


class HistogramEngine(Engine):
    """One block, "histogram", with one weight: its centres, float32 [3, 8]."""

    inputs = ("images",)
    blocks = (BLOCK,)
    feature_dim = 3 * SHADES

    def __init__(self, preprocess: Preprocess | None = None) -> None:
        """Pixels come in as 0 to 1: the core resizes and normalises as the preprocess says."""
        self.preprocess = preprocess or ImagePreprocess(SIZE, SIZE, "exact", (SIZE, SIZE))
        self.module = self
        self._values = {CENTRES: np.tile(np.linspace(0, 1, SHADES, dtype=np.float32), (3, 1))}
        self._trainable: tuple[str, ...] = self.blocks

    @property
    def num_classes(self) -> int | None:
        """None until a head is put on."""
        return len(self._values[HEAD_BIAS]) if HEAD_BIAS in self._values else None

    # --- inference
    def _distances(self, batch: Batch) -> Array:
        """Pixel less centre: [N, 3, pixels, 8]."""
        images = batch["images"]
        distances: Array = images.reshape(len(images), 3, -1, 1) - self._values[CENTRES][:, None, :]
        return distances

    def features(self, batch: Batch) -> Array:
        """float32 [N, 24]."""
        shares = np.exp(-SHARPNESS * self._distances(batch) ** 2).mean(2)
        features: Array = shares.reshape(len(shares), -1).astype(np.float32)
        return features

    def logits(self, batch: Batch) -> Array:
        """float32 [N, C]."""
        return self._linear(self.features(batch))

    def _linear(self, features: Array) -> Array:
        if self.num_classes is None:
            raise HeadMissingError(
                "a histogram has no head of its own: replace_head(num_classes) puts one on"
            )
        logits: Array = features @ self._values[HEAD_WEIGHT].T + self._values[HEAD_BIAS]
        return logits

    # --- the head
    def head(self) -> tuple[Array, Array] | None:
        """Copies."""
        if self.num_classes is None:
            return None
        return self._values[HEAD_WEIGHT].copy(), self._values[HEAD_BIAS].copy()

    def set_head(self, weight: Array, bias: Array) -> None:
        """`reset_head` of the base class draws the values and calls this."""
        self._values[HEAD_WEIGHT] = np.array(weight, np.float32)
        self._values[HEAD_BIAS] = np.array(bias, np.float32)

    # --- training
    def set_trainable(self, blocks: Collection[str]) -> None:
        """The head always trains."""
        if not set(blocks) <= {BLOCK}:
            raise InputError(f"no blocks {sorted(set(blocks) - {BLOCK})}: there is only {BLOCK!r}")
        self._trainable = tuple(set(blocks))

    @property
    def trainable(self) -> tuple[str, ...]:
        """Either the one block or none."""
        return self._trainable

    def start_training(self, recipe: Recipe) -> None:
        """`zoo.train.optim` has torch's formulas in numpy, gradient clipping included."""
        if recipe.precision != "fp32":
            raise InputError("bf16: numpy has no bfloat16; precision='fp32' trains this model")
        self._optimizer = Optimizer(recipe)

    def train_step(
        self, batch: Batch, targets: Array, *, lr: Mapping[str, float], weights: Array | None = None
    ) -> float:
        """Cross-entropy averaged over the samples' weights; the loss is the one before the step."""
        features = self.features(batch)
        loss, slope = _cross_entropy(self._linear(features), targets, weights)
        gradients = {HEAD_WEIGHT: slope.T @ features, HEAD_BIAS: slope.sum(0)}
        rates = {HEAD_WEIGHT: lr[HEAD], HEAD_BIAS: lr[HEAD]}
        if self._trainable:
            back = (slope @ self._values[HEAD_WEIGHT]).reshape(-1, 3, 1, SHADES)
            distances = self._distances(batch)
            bumps = 2 * SHARPNESS * distances * np.exp(-SHARPNESS * distances**2)
            gradients[CENTRES] = (back * bumps.mean(2, keepdims=True)).sum((0, 2))
            rates[CENTRES] = lr[BLOCK]
        self._optimizer.update(self._values, gradients, rates)
        return loss

    def training_state(self) -> dict[str, Array]:
        """Slots and step counter: with `state()` a killed run goes on bit-identically."""
        return self._optimizer.state()

    def load_training_state(self, state: Mapping[str, Array]) -> None:
        """After `start_training`."""
        self._optimizer.load_state(state)

    # --- state
    def state(self) -> dict[str, Array]:
        """Copies: whoever holds them sees no later step."""
        return {name: value.copy() for name, value in self._values.items()}

    def load_state(self, state: Mapping[str, Array]) -> None:
        """All or nothing, and the error names every key that is wrong."""
        shapes = {name: value.shape for name, value in self._values.items()}
        given = {name: value.shape for name, value in state.items()}
        wrong = [name for name in {**shapes, **given} if shapes.get(name) != given.get(name)]
        if wrong:
            raise WeightsCorruptError(f"missing, extra or misshapen: {', '.join(wrong)}")
        self._values = {name: np.array(value, np.float32) for name, value in state.items()}

    def block_of(self) -> dict[str, str]:
        """A key begins with its block's name."""
        return {name: name.partition(".")[0] for name in self._values}

    def architecture(self) -> dict[str, Any]:
        """There is only one network: nothing to say."""
        return {}

    # --- export
    def export_onnx(self, path: Path, *, opset: int, depths: Sequence[int] = ()) -> str:
        """The formula above as a graph. The core adds the head, checks parity, writes the metadata."""
        constants = {
            "shape": np.array([0, 3, -1, 1], np.int64),
            "centres": self._values[CENTRES][:, None, :],
            "sharpness": -SHARPNESS,
            "pixels": np.array([2], np.int64),
        }
        nodes = [
            helper.make_node("Reshape", ["images", "shape"], ["columns"]),
            helper.make_node("Sub", ["columns", "centres"], ["distances"]),
            helper.make_node("Mul", ["distances", "distances"], ["squares"]),
            helper.make_node("Mul", ["squares", "sharpness"], ["exponents"]),
            helper.make_node("Exp", ["exponents"], ["bumps"]),
            helper.make_node("ReduceMean", ["bumps", "pixels"], ["shares"], keepdims=0),
            helper.make_node("Flatten", ["shares"], ["features"]),
        ]
        graph = helper.make_graph(
            nodes,
            "histogram",
            [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 3, SIZE, SIZE])],
            [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", self.feature_dim])],
            [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
        )
        opsets = [helper.make_opsetid("", opset)]
        onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), path)
        return "tinycolor"


def _cross_entropy(logits: Array, targets: Array, weights: Array | None) -> tuple[float, Array]:
    """Mean over the samples' weights, and its gradient by the logits [N, C]."""
    share = np.ones(len(logits), np.float32) if weights is None else weights
    share = (share / share.sum())[:, None]
    shifted = logits - logits.max(1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    return float(-(share * targets * log_p).sum()), share * (np.exp(log_p) - targets)


class HistogramAdapter(Adapter):
    """What the entry point leads to."""

    framework = "tinycolor"

    def load(self, request: LoadRequest) -> HistogramEngine:
        """Weights "default" and "none" are the same here: evenly spaced centres."""
        if request.name != "histogram8":
            raise UnknownModelError(f"no model {request.name!r}: there is only histogram8", ["histogram8"])
        if request.weights not in ("default", "none") or request.depth or request.size not in (None, SIZE):
            raise InputError(f"histogram8 has no weights, depths or sizes to choose from (size {SIZE})")
        engine = HistogramEngine()
        if request.num_classes is not None:
            engine.reset_head(request.num_classes, seed=request.seed)
        return engine

    def rebuild(self, architecture: Mapping[str, Any], preprocess: Preprocess) -> HistogramEngine:
        """For a saved run: `load_state` follows."""
        return HistogramEngine(preprocess)

    def versions(self) -> dict[str, str]:
        """Goes into the provenance of every export."""
        return {"numpy": np.__version__}


ADAPTER = HistogramAdapter()
