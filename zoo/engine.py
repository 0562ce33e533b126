"""What an adapter implements: one Engine per framework, and an Adapter that makes engines.

numpy at the border: engines take and return numpy arrays, images always NCHW float32 already normalised.
So data, metrics, the training loop, saving, parity and the tests are written once, in the core.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, SupportsFloat, TypeAlias

import numpy as np
import numpy.typing as npt

from zoo.cards import Preprocess, Recipe
from zoo.errors import InputError

Array: TypeAlias = npt.NDArray[Any]
Batch: TypeAlias = Mapping[str, Array]
"""Named arrays with a common first axis N: {"images": float32 [N, 3, H, W]}, or {"input_ids",
"attention_mask"[, "token_type_ids"]}: int64 [N, L] (the mask is 1 on tokens, 0 on padding)."""

HEAD = "head"
HEAD_WEIGHT, HEAD_BIAS = "head.weight", "head.bias"


@dataclass(frozen=True)
class LoadRequest:
    """What `zoo.get` asks an adapter for.

    weights: "default" (the framework's official ones), "none" (random, from `seed`), a tag, or a path.
    num_classes: None keeps the checkpoint's own head; a number puts a fresh Linear head, drawn from `seed`.
    depth: keep the first `depth` repeating units; None: all.  size: input pixels a side; None: the default.
    device: "cpu", "cuda", ... or None for the framework's CPU default.
    partial: take weights that lack some of the network's keys; those stay random, drawn from `seed`, and a
    warning names them. Keys of another shape, or of another network altogether, are refused all the same.
    """

    name: str
    weights: str = "default"
    num_classes: int | None = None
    depth: int | None = None
    size: int | None = None
    seed: int = 0
    device: str | None = None
    partial: bool = False


def draw_head(feature_dim: int, num_classes: int, seed: int) -> tuple[Array, Array]:
    """Initial head, the same in every framework: weight float32 [C, D], bias float32 [C].

    Uniform in +-1/sqrt(D), torch.nn.Linear's own default (He et al. 2015 with a = sqrt 5), from a
    generator of its own; the global generators are untouched.
    """
    rng = np.random.default_rng([seed, feature_dim, num_classes])
    bound = 1.0 / np.sqrt(feature_dim)
    weight = rng.uniform(-bound, bound, (num_classes, feature_dim)).astype(np.float32)
    return weight, rng.uniform(-bound, bound, num_classes).astype(np.float32)


def micro_batches(
    batch: Batch, targets: Array, weights: Array | None, size: int | None, *, total: float | None = None
) -> Iterator[tuple[Batch, Array, Array]]:
    """A step's samples in parts of at most `size` (None: all at once), each with its samples' shares.

    shares float64 [n]: weight / sum of the whole step's weights (or `total`), so that the sums of share * loss over the
    parts add up to the weighted mean, and their gradients to its gradient.
    """
    given = np.ones(len(targets)) if weights is None else weights.astype(np.float64)
    shares = given / (given.sum() if total is None else total)
    for start in range(0, len(targets), size or len(targets)):
        part = slice(start, start + (size or len(targets)))
        yield {name: array[part] for name, array in batch.items()}, targets[part], shares[part]


def step_entropy(seed: int, step: int, micro_batch: int = 0, rank: int = 0) -> list[int]:
    """What a step's random numbers (dropout) are drawn from.

    The first micro batch's of the first process are those of a step in one piece.
    """
    return [seed, step, micro_batch, rank] if micro_batch or rank else [seed, step]


class Engine(ABC):
    """A backbone with its head, in one framework.

    Attributes (set by the implementation's `__init__`):
      inputs       names of the arrays in a Batch, in the order the ONNX graph takes them
      feature_dim  D
      blocks       stem first, then the paper's repeating units; every backbone parameter (and buffer that
                   training changes) is in exactly one of them; the head is in none
      depths       depths at which `export_onnx(depths=...)` can cut, ascending, the last the full depth;
                   empty where the network cannot be cut
      preprocess   what the weights were trained with
      labels       class names of the checkpoint's own head, or None
      module       the native nn.Module or keras.Model
    """

    inputs: tuple[str, ...]
    feature_dim: int
    blocks: tuple[str, ...]
    depths: tuple[int, ...] = ()
    preprocess: Preprocess
    labels: tuple[str, ...] | None = None
    module: Any

    @property
    @abstractmethod
    def num_classes(self) -> int | None:
        """Columns of `logits`, or None where there is no head."""

    # --- inference
    @abstractmethod
    def features(self, batch: Batch) -> Array:
        """float32 [N, feature_dim], in inference mode; changes nothing in the model."""

    @abstractmethod
    def logits(self, batch: Batch) -> Array:
        """float32 [N, num_classes], before any softmax, in inference mode; changes nothing in the model.

        Raises HeadMissingError where there is no head.
        """

    def outputs(self, batch: Batch) -> tuple[Array, Array | None]:
        """(features, logits or None without a head), both as the methods of these names give them.

        For one batch seen from both ends, as the check of an export does: an engine that gets both in one pass
        should say so here.
        """
        return self.features(batch), None if self.num_classes is None else self.logits(batch)

    # --- the head
    @abstractmethod
    def head(self) -> tuple[Array, Array] | None:
        """Copies of (weight float32 [C, D], bias float32 [C]) with logits == features @ weight.T + bias.

        None where there is no head, or where the checkpoint's own head is not linear on `features`
        (then `num_classes` is set, and `export_onnx` writes its logits itself).
        """

    @abstractmethod
    def set_head(self, weight: Array, bias: Array) -> None:
        """Put one Linear on `features`: weight [C, D], bias [C]; replaces any head."""

    def reset_head(self, num_classes: int, *, seed: int) -> None:
        """A fresh head for `num_classes`, drawn in the core so that it is the same in every framework."""
        self.set_head(*draw_head(self.feature_dim, num_classes, seed))
        self.labels = None

    # --- training
    @abstractmethod
    def set_trainable(self, blocks: Collection[str]) -> None:
        """Train these blocks and the head; every other block is frozen whole.

        Frozen: weights, BatchNorm statistics and dropout all in inference mode, bit-identical afterwards.
        """

    @property
    @abstractmethod
    def trainable(self) -> tuple[str, ...]:
        """The blocks that train, in the order of `blocks`. A new engine trains all of them."""

    @abstractmethod
    def start_training(self, recipe: Recipe) -> None:
        """Make the optimizer over what is trainable now. torch.optim's formulas in every framework.

        recipe.precision "bf16": steps compute in bfloat16, with weights, gradients, optimizer and loss in
        float32; inference and export stay float32. Raises InputError where the engine has no such steps.
        """

    @abstractmethod
    def train_step(
        self, batch: Batch, targets: Array, *, lr: Mapping[str, float], weights: Array | None = None
    ) -> SupportsFloat:
        """One step on the mean cross-entropy; returns the loss before the step.

        targets: float32 [N, C], rows sum to 1 (soft targets carry label smoothing).  weights: float32 [N]
        or None; with them the mean is sum(w * loss) / sum(w).  lr: a rate for each trainable block and for
        "head".  Randomness (dropout) is a function of (recipe.seed, step number) alone, so a resumed run
        repeats it.  `float(loss)` may wait for the device.

        recipe.micro_batch_size: the batch goes through in parts of that size, one after the other, and the
        one step is on the gradient of the whole batch's loss (clipped as a whole); its loss is returned.
        Only batch norm and dropout see the parts.
        """

    @abstractmethod
    def training_state(self) -> dict[str, Array]:
        """Optimizer slots and the step counter, copies: with `state()` enough to go on bit-identically."""

    @abstractmethod
    def load_training_state(self, state: Mapping[str, Array]) -> None:
        """Take back what `training_state` gave; `start_training` with the same recipe comes first."""

    def numerics(self) -> dict[str, str]:
        """What the bits of training depend on beside the recipe: threads, device, layout, versions.

        Kept in checkpoints: a run that is resumed with others goes on, with a warning that names them.
        """
        return {}

    # --- several processes
    def join(self, rank: int, world: int) -> None:
        """Train from now on as process `rank` of `world` that all call the same methods; waits for all of them.

        Each calls `train_step` on its own part of the batch (weight 0 throughout where it has none). The loss
        and its gradient are those of all parts together, sum(w * loss) / sum(w) over all processes. Buffers
        that training moves are those of each process's part. Raises InputError where the engine cannot.
        """
        raise InputError(
            f"{world} processes were started to train one model, which {type(self).__name__} cannot: "
            "start one, without torchrun (RANK and WORLD_SIZE in the environment ask for several)"
        )

    def add_up(self, array: Array) -> Array:
        """The sum of the processes' arrays, of one shape, in each of them."""
        return array

    # --- state
    @abstractmethod
    def state(self) -> dict[str, Array]:
        """Every weight and buffer, copies, by stable names; a linear head is "head.weight", "head.bias"."""

    @abstractmethod
    def load_state(self, state: Mapping[str, Array]) -> None:
        """Take back what `state` gave.

        Raises WeightsCorruptError listing missing, extra or misshapen keys.
        """

    @abstractmethod
    def block_of(self) -> dict[str, str]:
        """For each key of `state()`: the block it belongs to, or "head"."""

    @abstractmethod
    def architecture(self) -> dict[str, Any] | None:
        """JSON from which `Adapter.rebuild` makes the same network without weights; None if it cannot be."""

    # --- export
    @abstractmethod
    def export_onnx(self, path: Path, *, opset: int, depths: Sequence[int] = ()) -> str:
        """Write the backbone's graph in inference mode; returns the name of the exporter that ran.

        Inputs named as `inputs`: images float32 NCHW, or int64 ids [N, L]; batch (and length) dynamic.
        Output "features" float32 [N, D]. With `depths`, an output "features_<d>" for each instead.
        Only where a head exists that `head()` cannot give: also an output "logits". The core puts the
        linear head on the graph, checks parity and writes the metadata. Raises ExportError.
        """


class Adapter(ABC):
    """What an entry point of the group `zoo.adapters` leads to; one per framework.

    Its package may carry `cards.json`, or a folder `cards` of such files, beside its `__init__.py` (as
    `zoo.cards.read_cards` reads them): then listing imports nothing of it.
    """

    framework: str
    notes_reads: bool = False
    """Whether `load` tells `zoo.reads.note` of every file and folder that it reads or looks for in vain: then an
    export that is cached is taken without starting the framework, as long as none of them changed."""

    @abstractmethod
    def load(self, request: LoadRequest) -> Engine:
        """Make an engine. Raises UnknownModelError, WeightsError, InputError (depth or size it has not)."""

    @abstractmethod
    def rebuild(self, architecture: Mapping[str, Any], preprocess: Preprocess) -> Engine:
        """The same network from `Engine.architecture()`, its values to be set by `load_state`."""

    def owns(self, module: object) -> bool:
        """Whether `wrap` takes this object."""
        return False

    def wrap(
        self, module: Any, *, preprocess: Preprocess, head: str, blocks: Mapping[str, Sequence[str]] | None
    ) -> Engine:
        """Somebody's own module. head: the name of its last linear layer; blocks: name -> submodule names."""
        raise NotImplementedError(f"the {self.framework} adapter wraps no modules")

    def versions(self) -> dict[str, str]:
        """Versions of the framework's packages that shape the results, for provenance."""
        return {}
