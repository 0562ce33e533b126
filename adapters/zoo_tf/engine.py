"""One engine for every Keras network: numpy in and out, images NCHW at the border and NHWC inside."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, SupportsFloat

import numpy as np

from zoo.cards import Recipe
from zoo.engine import HEAD, HEAD_BIAS, HEAD_WEIGHT, Array, Batch, Engine
from zoo.errors import HeadMissingError, InputError, TrainingError, WeightsCorruptError
from zoo_tf.export import export_onnx
from zoo_tf.network import IMAGES, Network, variable_keys
from zoo_tf.precision import numerics
from zoo_tf.start import keras, tf
from zoo_tf.training import Trainer


class KerasEngine(Engine):
    """A Network with at most one Dense on its features."""

    def __init__(self, network: Network, *, device: str = "/CPU:0") -> None:
        self.network = network
        self.inputs, self.blocks = network.inputs, tuple(network.blocks)
        self.depths = tuple(sorted(network.taps))
        self.feature_dim, self.preprocess = network.feature_dim, network.preprocess
        self._device = device
        self._head: keras.layers.Dense | None = None
        self._trainer: Trainer | None = None
        self._keys = variable_keys(network.backbone)
        self._flags = _trainable_flags(network.backbone)
        self._trainable = self.blocks
        self._infer = tf.function(self._features, input_signature=[network.signature()])
        self.module = network.backbone

    @property
    def num_classes(self) -> int | None:
        """Rows of the head."""
        return None if self._head is None else int(self._head.units)

    # --- inference
    def features(self, batch: Batch) -> Array:
        """float32 [N, D]."""
        with tf.device(self._device):
            return np.array(self._infer(self._native(batch)).numpy())

    def logits(self, batch: Batch) -> Array:
        """float32 [N, C]."""
        if self._head is None:
            raise HeadMissingError(
                "this checkpoint holds no classification head: replace_head(num_classes) puts one on"
            )
        with tf.device(self._device):
            return np.array(self._head(self._infer(self._native(batch))).numpy())

    def outputs(self, batch: Batch) -> tuple[Array, Array | None]:
        """In one pass."""
        with tf.device(self._device):
            features = self._infer(self._native(batch))
            logits = None if self._head is None else np.array(self._head(features).numpy())
            return np.array(features.numpy()), logits

    def _features(self, tensors: Any) -> Any:
        found = self.network.backbone(tensors, training=False)
        return found[0] if isinstance(found, list | tuple) else found

    def _native(self, batch: Batch) -> list[Array]:
        """Keras's layout. A channels-last view of an NCHW batch costs no copy."""
        if self.inputs == IMAGES:
            return [np.ascontiguousarray(batch["images"].transpose(0, 2, 3, 1), dtype=np.float32)]
        ids = batch["input_ids"]
        # Texts of one segment: a batch may leave the segment ids out.
        return [np.asarray(batch.get(name, np.zeros_like(ids)), np.int32) for name in self.inputs]

    # --- the head
    def head(self) -> tuple[Array, Array] | None:
        """Copies of weight [C, D] and bias [C]."""
        if self._head is None:
            return None
        return np.array(self._head.kernel.numpy().T), np.array(self._head.bias.numpy())

    def set_head(self, weight: Array, bias: Array) -> None:
        """Put one Dense on the features."""
        classes = len(bias)
        if weight.shape != (classes, self.feature_dim):
            raise InputError(
                f"a head for {self.feature_dim} features and {classes} classes has a weight of shape "
                f"({classes}, {self.feature_dim}), not {weight.shape}"
            )
        if classes != self.num_classes:
            self._put_head(classes)
        assert self._head is not None
        self._head.kernel.assign(np.asarray(weight, np.float32).T)
        self._head.bias.assign(np.asarray(bias, np.float32))

    def _put_head(self, classes: int) -> None:
        backbone, self._trainer = self.network.backbone, None
        with tf.device(self._device):
            # Zeros: an initializer that draws would take its seed from Python's global generator.
            self._head = keras.layers.Dense(classes, kernel_initializer="zeros", name="zoo_head")
            self.module = keras.Model(backbone.inputs, self._head(backbone.outputs[0]))

    # --- training
    def set_trainable(self, blocks: Collection[str]) -> None:
        """Train these and the head. The native model's `trainable` flags say the same."""
        if unknown := sorted(set(blocks) - set(self.blocks)):
            raise InputError(f"no blocks {', '.join(unknown)}: there are {', '.join(self.blocks)}")
        self._trainable = tuple(block for block in self.blocks if block in blocks)
        self._trainer = None
        block_of = self.network.block_of_layer()
        for top, layer, flag in self._flags:  # outer layers first: setting one sets what is in it
            layer.trainable = flag and block_of[top] in self._trainable

    @property
    def trainable(self) -> tuple[str, ...]:
        """The blocks that train."""
        return self._trainable

    def start_training(self, recipe: Recipe) -> None:
        """A fresh optimizer over what is trainable now."""
        if self._head is None:
            raise HeadMissingError("there is no head to train: replace_head(num_classes) puts one on")
        with tf.device(self._device):
            self._trainer = Trainer(self.network, self._head, recipe, self._trainable)

    def train_step(
        self, batch: Batch, targets: Array, *, lr: Mapping[str, float], weights: Array | None = None
    ) -> SupportsFloat:
        """One step; the loss is a tensor that `float` reads."""
        with tf.device(self._device):
            loss: SupportsFloat = self._running().step(self._native(batch), targets, weights, lr)
        return loss

    def numerics(self) -> dict[str, str]:
        """NHWC is the only layout there is."""
        return {"device": self._device, **numerics()}

    def training_state(self) -> dict[str, Array]:
        """Slots and step counter."""
        return self._running().state()

    def load_training_state(self, state: Mapping[str, Array]) -> None:
        """Take back `training_state`."""
        self._running().load_state(state)

    def _running(self) -> Trainer:
        if self._trainer is None:
            raise TrainingError(
                "no training is under way (freezing or a new head ends one): call start_training(recipe)"
            )
        return self._trainer

    # --- state
    def state(self) -> dict[str, Array]:
        """Copies by lasting names; dropout's generators are left out, they are set from the step."""
        found = {key: np.array(variable.numpy()) for key, (_, variable) in self._keys.items()}
        if (head := self.head()) is not None:
            found[HEAD_WEIGHT], found[HEAD_BIAS] = head
        return found

    def load_state(self, state: Mapping[str, Array]) -> None:
        """All or nothing: keys and shapes are checked first."""
        shapes = {key: tuple(variable.shape) for key, (_, variable) in self._keys.items()}
        if self._head is not None:
            shapes[HEAD_WEIGHT] = (int(self._head.units), self.feature_dim)
            shapes[HEAD_BIAS] = (int(self._head.units),)
        if problems := _differences(shapes, state):
            raise WeightsCorruptError(
                f"these weights belong to another network: {'; '.join(problems[:8])}"
                + (f"; and {len(problems) - 8} more" if len(problems) > 8 else "")
            )
        for key, (_, variable) in self._keys.items():
            variable.assign(state[key])
        self._settle_constants()
        if self._head is not None:
            self.set_head(state[HEAD_WEIGHT], state[HEAD_BIAS])

    def _settle_constants(self) -> None:
        """Keras's Normalization (EfficientNet has one) computes with constants made from its variables, and
        what was traced holds the old ones."""
        for layer in self.network.backbone.layers:
            if not isinstance(layer, keras.layers.Normalization) or layer.input_mean is not None:
                continue
            before = np.array(layer.mean), np.array(layer.variance)
            layer.finalize_state()
            if not all(map(np.array_equal, before, (np.array(layer.mean), np.array(layer.variance)))):
                self._infer = tf.function(self._features, input_signature=[self.network.signature()])
                self._trainer = None

    def block_of(self) -> dict[str, str]:
        """Key -> block."""
        blocks = self.network.block_of_layer()
        found = {key: blocks[layer] for key, (layer, _) in self._keys.items()}
        return found if self._head is None else {**found, HEAD_WEIGHT: HEAD, HEAD_BIAS: HEAD}

    def architecture(self) -> dict[str, Any] | None:
        """The network's, and the size of the head."""
        if self.network.architecture is None:
            return None
        return {**self.network.architecture, "num_classes": self.num_classes}

    # --- export
    def export_onnx(self, path: Path, *, opset: int, depths: Sequence[int] = ()) -> str:
        """Write the backbone's graph; the core puts the head on."""
        if unknown := sorted(set(depths) - set(self.depths)):
            raise InputError(f"this network cannot be cut at {unknown}: its depths are {list(self.depths)}")
        return export_onnx(self.network, path, opset=opset, depths=depths)


def _trainable_flags(backbone: keras.Model) -> list[tuple[str, keras.Layer, bool]]:
    """(top layer's name, layer, its own flag) for all layers, outer ones first: what unfreezing gives back."""
    return [
        (top.name, layer, layer.trainable)
        for top in backbone.layers
        if not isinstance(top, keras.layers.InputLayer)
        for layer in top._flatten_layers()
    ]


def _differences(shapes: Mapping[str, tuple[int, ...]], state: Mapping[str, Array]) -> list[str]:
    found = [f"missing {key}" for key in shapes if key not in state]
    found += [f"extra {key}" for key in state if key not in shapes]
    return found + [
        f"misshapen {key}: {tuple(state[key].shape)} instead of {shape}"
        for key, shape in shapes.items()
        if key in state and tuple(state[key].shape) != shape
    ]
