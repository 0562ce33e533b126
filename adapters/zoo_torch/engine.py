"""TorchEngine: any nn.Module that has an Anatomy, behind the zoo's engine contract."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from zoo.cards import ImagePreprocess, Preprocess, Recipe
from zoo.engine import HEAD, HEAD_BIAS, HEAD_WEIGHT, Array, Batch, Engine, micro_batches
from zoo.errors import HeadMissingError, InputError, WeightsCorruptError
from zoo_torch import training
from zoo_torch.anatomy import Anatomy, Owners, Tensors, call, check_blocks, modes, seeded, through_head
from zoo_torch.export import Graph, export
from zoo_torch.layout import arrange, image_tensor, layout_of
from zoo_torch.ranks import Forward, Group, Spread, spread, synchronised

NO_HEAD = "this checkpoint holds no classification head: replace_head(num_classes) makes one"


class TorchEngine(Engine):
    """A module in float32 on one device; between calls it is left in the mode it was found in.

    native_classes: columns of a native head that is not linear on the features.
    architecture: what `Adapter.rebuild` reads, less the head.  no_head: what HeadMissingError says.
    """

    def __init__(
        self,
        module: nn.Module,
        anatomy: Anatomy,
        *,
        preprocess: Preprocess,
        native_classes: int | None = None,
        labels: tuple[str, ...] | None = None,
        architecture: Mapping[str, Any] | None = None,
        device: str | None = None,
        no_head: str = NO_HEAD,
    ) -> None:
        self.device = torch_device(device)
        self.layout = layout_of(module, self.device)
        self.module = arrange(module.to(self.device), self.layout).eval()
        self.preprocess, self.labels = preprocess, labels
        self.blocks, self.depths = tuple(anatomy.blocks), anatomy.depths
        self.inputs = ("images",) if isinstance(preprocess, ImagePreprocess) else preprocess.inputs
        self._anatomy, self._architecture, self._no_head = anatomy, architecture, no_head
        self._native_classes = native_classes if anatomy.native_head else None
        self._head_path, self._own_head = anatomy.head, None
        check_blocks(module, anatomy)
        self.feature_dim = anatomy.feature_dim
        # What the module's author froze stays frozen when everything is "trainable" again.
        self._natural = {name: p.requires_grad for name, p in module.named_parameters()}
        self._trainable = frozenset(self.blocks)
        self._optimizer: torch.optim.Optimizer | None = None
        self._recipe, self._step, self._modes = Recipe(), 0, dict[str, bool]()
        self._group: Group | None = None
        self._forward: Forward = self._logits

    _own_head: nn.Linear | None

    # --- inference
    @property
    def num_classes(self) -> int | None:
        head = self._linear()
        return self._native_classes if head is None else int(head.out_features)

    def features(self, batch: Batch) -> Array:
        with torch.no_grad(), modes(self.module, lambda _: False):
            return to_array(self._features(self._tensors(batch)))

    def logits(self, batch: Batch) -> Array:
        if self.num_classes is None:
            raise HeadMissingError(self._no_head)
        with torch.no_grad(), modes(self.module, lambda _: False):
            return to_array(self._logits(self._tensors(batch)))

    def outputs(self, batch: Batch) -> tuple[Array, Array | None]:
        if self._head_path is None and self._own_head is None:
            return super().outputs(batch)
        with torch.no_grad(), modes(self.module, lambda _: False):
            tensors = self._tensors(batch)
            if self._head_path is not None:
                features, logits = through_head(self.module, self._head_path, tensors)
            else:
                features = self._features(tensors)
                logits = cast(nn.Linear, self._own_head)(features)
            return to_array(features), to_array(logits)

    def _features(self, tensors: Tensors) -> Tensor:
        if self._head_path is not None:
            return through_head(self.module, self._head_path, tensors)[0]
        assert self._anatomy.features is not None
        return self._anatomy.features(self.module, tensors)

    def _logits(self, tensors: Tensors) -> Tensor:
        if self._head_path is not None:
            return through_head(self.module, self._head_path, tensors)[1]
        if self._own_head is not None:
            logits: Tensor = self._own_head(self._features(tensors))
            return logits
        output: Tensor = call(self.module, tensors)
        return output

    def _tensors(self, batch: Batch) -> dict[str, Tensor]:
        if absent := [name for name in self.inputs if name not in batch]:
            raise InputError(
                f"the batch lacks {', '.join(absent)}: this model takes {', '.join(self.inputs)}"
            )
        if self.inputs == ("images",):
            return {"images": image_tensor(batch["images"], self.layout).to(self.device)}
        return {name: self._tensor(batch[name]) for name in self.inputs}

    def _tensor(self, array: Array) -> Tensor:
        return torch.from_numpy(np.require(array, requirements=["C", "W"])).to(self.device)

    # --- the head
    def _linear(self) -> Any:
        """The Linear on the features, or None."""
        if self._head_path is None:
            return self._own_head
        head = self.module.get_submodule(self._head_path)
        return head if isinstance(head, nn.Linear) else None

    def head(self) -> tuple[Array, Array] | None:
        linear = self._linear()
        if linear is None:
            return None
        weight = to_array(linear.weight).copy()
        bias = np.zeros(len(weight), np.float32) if linear.bias is None else to_array(linear.bias).copy()
        return weight, bias

    def set_head(self, weight: Array, bias: Array) -> None:
        if weight.shape[1:] != (self.feature_dim,) or bias.shape != weight.shape[:1]:
            raise InputError(
                f"a head of weight {weight.shape} and bias {bias.shape} does not fit features of "
                f"{self.feature_dim}: weight must be [C, {self.feature_dim}], bias [C]"
            )
        linear = torch.nn.utils.skip_init(nn.Linear, self.feature_dim, len(weight), device=self.device)
        with torch.no_grad():
            linear.weight.copy_(self._tensor(weight))
            linear.bias.copy_(self._tensor(bias))
        self._place(linear)
        self._optimizer = None

    def _place(self, linear: nn.Linear) -> None:
        if self._head_path is not None:
            self.module.set_submodule(self._head_path, linear)
        elif self._anatomy.put_head is not None:
            self._head_path = self._anatomy.put_head(self.module, linear)
        else:
            self._own_head = linear
        self._native_classes = None

    # --- training
    def set_trainable(self, blocks: Collection[str]) -> None:
        if unknown := [name for name in blocks if name not in self.blocks]:
            raise InputError(f"no block {', '.join(unknown)}: there are {', '.join(self.blocks)}")
        self._trainable = frozenset(blocks)
        owners = self._owners()
        for name, parameter in self.module.named_parameters():
            owner = owners.of(name)
            if owner != HEAD:
                parameter.requires_grad_(owner in self._trainable and self._natural.get(name, True))
        self._optimizer = None

    @property
    def trainable(self) -> tuple[str, ...]:
        return tuple(name for name in self.blocks if name in self._trainable)

    def start_training(self, recipe: Recipe) -> None:
        if self.num_classes is None:
            raise HeadMissingError(self._no_head)
        groups: dict[str, list[nn.Parameter]] = {name: [] for name in (*self.trainable, HEAD)}
        owner = self.block_of()
        for key, parameter in self._parameters().items():
            parameter.requires_grad_(parameter.requires_grad or owner[key] == HEAD)
            if parameter.requires_grad and owner[key] in groups:
                groups[owner[key]].append(parameter)
        self._optimizer = training.make_optimizer(recipe, groups)
        self._recipe, self._step, self._modes = recipe, 0, self._training_modes()
        self._forward = self._logits

    def train_step(
        self, batch: Batch, targets: Array, *, lr: Mapping[str, float], weights: Array | None = None
    ) -> Tensor:
        optimizer = self._running()
        training.set_rates(optimizer, lr)
        optimizer.zero_grad(set_to_none=True)
        if self._group is not None and self._forward == self._logits:
            self._spread(batch)
        with (
            modes(self.module, self._modes.__getitem__),
            training.lone_values_by_running_statistics(self.module),
        ):
            loss = self._backward(batch, targets, weights)
        if self._recipe.clip_norm is not None:
            every = [p for group in optimizer.param_groups for p in group["params"]]
            nn.utils.clip_grad_norm_(every, self._recipe.clip_norm)
        optimizer.step()
        self._step += 1
        return loss

    def _backward(self, batch: Batch, targets: Array, weights: Array | None) -> Tensor:
        """The step's loss; its gradient is added to the parameters'. Micro batches go one after the other."""
        parts = list(self._parts(batch, targets, weights))
        losses = []
        for index, part in enumerate(parts):
            with synchronised(self._forward, last=index == len(parts) - 1):
                losses.append(self._backward_of(index, *part))
        loss = losses[0] if len(losses) == 1 else torch.stack(losses).sum()
        return loss if self._group is None else self._group.mean(loss)

    def _parts(
        self, batch: Batch, targets: Array, weights: Array | None
    ) -> Iterable[tuple[Batch, Array, Array | None]]:
        size = self._recipe.micro_batch_size
        if self._group is not None:  # gradients and loss are averaged over the processes
            own = np.float64(len(targets) if weights is None else weights.sum())
            mean = float(self._group.add_up(own)) / self._group.world
            return micro_batches(batch, targets, weights, size, total=mean)
        if weights is None and (size is None or size >= len(targets)):
            return [(batch, targets, None)]
        return micro_batches(batch, targets, weights, size)

    def _backward_of(self, index: int, batch: Batch, targets: Array, shares: Array | None) -> Tensor:
        rank = 0 if self._group is None else self._group.rank
        seed = training.step_seed(self._recipe.seed, self._step, index, rank)
        given = None if shares is None else self._tensor(shares.astype(np.float32))
        tensors, wanted = self._tensors(batch), self._tensor(targets)
        with seeded(seed, self.device), training.explained(self._recipe.precision, self.device):
            with training.computing_in(self._recipe.precision, self.device):
                logits = self._forward(tensors)
            loss = training.cross_entropy(logits.float(), wanted, given)
            loss.backward()
        return loss.detach()

    def numerics(self) -> dict[str, str]:
        processes = 1 if self._group is None else self._group.world
        return {**training.numerics(self.device), "layout": self.layout, "processes": str(processes)}

    # --- several processes
    def join(self, rank: int, world: int) -> None:
        self._group = Group(rank, world, self.device)

    def add_up(self, array: Array) -> Array:
        return array if self._group is None else self._group.add_up(array)

    def _spread(self, batch: Batch) -> None:
        one = {name: array[:1] for name, array in batch.items()}
        with modes(self.module, lambda _: False):
            self._forward = spread(Spread((self.module, self._own_head), self._logits), self._tensors(one))

    def _training_modes(self) -> dict[str, bool]:
        """For each submodule whether it runs in training mode during a step."""
        owners, training_now = self._owners(), {HEAD, *self._trainable}
        return {name: owners.mode_of(name) in training_now for name, _ in self.module.named_modules()}

    def _running(self) -> torch.optim.Optimizer:
        if self._optimizer is None:
            raise InputError(
                "call start_training(recipe) first, and again after a change of head or freezing"
            )
        return self._optimizer

    def training_state(self) -> dict[str, Array]:
        names = {id(p): key for key, p in self._parameters().items()}
        return {training.STEP: np.array(self._step), **training.slots(self._running(), names)}

    def load_training_state(self, state: Mapping[str, Array]) -> None:
        rest = {key: value for key, value in state.items() if key != training.STEP}
        optimizer = self._running()
        trained = {id(p) for group in optimizer.param_groups for p in group["params"]}
        parameters = {key: p for key, p in self._parameters().items() if id(p) in trained}
        training.load_slots(optimizer, parameters, rest)
        self._step = int(state[training.STEP])

    # --- state
    def state(self) -> dict[str, Array]:
        return {key: to_array(value).copy() for key, value in self._named_state().items()}

    def load_state(self, state: Mapping[str, Array]) -> None:
        own = self._named_state()
        check_keys({k: tuple(v.shape) for k, v in own.items()}, {k: tuple(v.shape) for k, v in state.items()})
        with torch.no_grad():
            for key, value in own.items():
                value.copy_(torch.from_numpy(np.array(state[key])))

    def block_of(self) -> dict[str, str]:
        owners = self._owners()
        found = {self._rename(key): owners.of(key) or "" for key in self.module.state_dict()}
        own = (HEAD_WEIGHT, HEAD_BIAS) if self._own_head is not None else ()
        return {**found, **dict.fromkeys(own, HEAD)}

    def architecture(self) -> dict[str, Any] | None:
        if self._architecture is None:
            return None
        kind = None if self.num_classes is None else "native" if self._native_classes else "linear"
        return {**self._architecture, "classes": self.num_classes, "head": kind}

    def _owners(self) -> Owners:
        return Owners(self._anatomy, self._head_path)

    def _named_state(self) -> dict[str, Tensor]:
        return self._with_head({self._rename(k): v for k, v in self.module.state_dict().items()})

    def _parameters(self) -> dict[str, nn.Parameter]:
        found = {self._rename(k): p for k, p in self.module.named_parameters()}
        if self._own_head is not None:
            found |= {f"{HEAD}.{k}": p for k, p in self._own_head.named_parameters()}
        return found

    def _with_head(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        if self._own_head is not None:
            state |= {f"{HEAD}.{k}": v for k, v in self._own_head.state_dict().items()}
        return state

    def _rename(self, key: str) -> str:
        """A native key as the contract calls it: the linear head's are head.weight and head.bias."""
        path = self._head_path
        return HEAD + key[len(path) :] if path is not None and key.startswith(f"{path}.") else key

    # --- export
    def export_onnx(self, path: Path, *, opset: int, depths: Sequence[int] = ()) -> str:
        if unknown := [d for d in depths if d not in self.depths]:
            raise InputError(f"cannot cut at depth {unknown[0]}: there are {list(self.depths) or 'none'}")
        graph = Graph(self.module, self._outputs(depths), self.inputs)
        names = [f"features_{d}" for d in depths] if depths else ["features"]
        if not depths and self._native_classes is not None:
            names.append("logits")
        with torch.no_grad(), modes(self.module, lambda _: False):
            return export(
                graph, path, names=names, preprocess=self.preprocess, opset=opset, device=self.device
            )

    def _outputs(self, depths: Sequence[int]) -> Any:
        cut = self._anatomy.cut
        if depths and cut is not None:
            return lambda tensors: tuple(cut(self.module, tensors, depths))
        if self._native_classes is not None:
            return lambda tensors: (self._features(tensors), self._logits(tensors))
        return lambda tensors: (self._features(tensors),)


def to_array(tensor: Tensor) -> Array:
    """A tensor as numpy, sharing memory where it can."""
    array: Array = tensor.detach().cpu().numpy()
    return array


def torch_device(name: str | None) -> torch.device:
    """The device of that name; "cuda" is the one that torchrun meant for this process.

    Raises InputError where torch has none such here.
    """
    try:
        device = torch.device(name or "cpu")
        if device.type == "cuda" and device.index is None:
            device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise InputError(
            f"torch cannot use the device {name!r} here: {error}. Leave the device out to compute on the CPU."
        ) from error
    return device


def check_keys(own: Mapping[str, tuple[int, ...]], given: Mapping[str, tuple[int, ...]]) -> None:
    """Raise WeightsCorruptError that lists missing, extra and misshapen keys."""
    problems = {
        "missing": [key for key in own if key not in given],
        "not of this network": [key for key in given if key not in own],
        "of another shape": [
            f"{key} {given[key]} instead of {own[key]}"
            for key in own
            if key in given and given[key] != own[key]
        ],
    }
    if any(problems.values()):
        text = "; ".join(
            f"{len(keys)} {what}: {', '.join(keys[:6])}{', ...' if len(keys) > 6 else ''}"
            for what, keys in problems.items()
            if keys
        )
        raise WeightsCorruptError(f"these weights belong to another network: {text}. Nothing was loaded.")
