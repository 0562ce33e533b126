"""The object a user holds: a card, an engine and its preprocess. Methods delegate; the work is elsewhere."""

from __future__ import annotations

import dataclasses
import os
import sys
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from zoo import registry
from zoo.calibration import Calibration, fit_calibration, probabilities
from zoo.cards import ModelCard, ModelId, Preprocess, Recipe, TextPreprocess
from zoo.data import Dataset, Kind, Seen, batches, find_parts, open_data, open_inputs, refuse_seen, seen
from zoo.data.sources import Data, OnError
from zoo.engine import Array, Engine, LoadRequest
from zoo.errors import HeadMissingError, InputError
from zoo.graph import OnnxModel
from zoo.graph.calibrating import held_out
from zoo.graph.precision import Precision
from zoo.graph.variants import write_calibration
from zoo.train import CHECKPOINT_SECONDS, FeatureCache, History, RateSearch
from zoo.train import check_head as _check_head
from zoo.train import evaluate as _evaluate
from zoo.train import export as _export
from zoo.train import find_lr as _find_lr
from zoo.train import fit as _fit_engine
from zoo.train import load as _load
from zoo.train import save as _save
from zoo.train.kept import kept, read_kept
from zoo.train.logs import LogFormat
from zoo.train.ranks import ranks_of
from zoo.train.store import recipe_and_history

DEFAULT_RECIPE = Recipe()
# Whose modules an adapter wraps, for those we ship; a plug-in is asked where its own package is imported.
ROOTS = {"torch": "torch", "hf": "transformers", "tf": "keras"}


class Backbone:
    """A pretrained network and its head.

    id: architecture and weights.  card: what the catalogue knows, None for local folders and own modules.
    engine: the framework's side; `engine.module` (or `module`) is the native nn.Module or keras.Model.
    calibration: what `predict` applies, or None.  trained_on: a sketch of the last `fit`'s examples, or None.
    """

    def __init__(self, engine: Engine, model_id: ModelId, card: ModelCard | None = None) -> None:
        self.engine, self.id, self.card = engine, model_id, card
        self.calibration: Calibration | None = None
        self.trained_on: Seen | None = None

    def __repr__(self) -> str:
        return f"Backbone({self.id}, {self.feature_dim} features, {self.num_classes or 'no'} classes)"

    # --- what it is
    @property
    def preprocess(self) -> Preprocess:
        """From photographs or strings to the network's arrays; it belongs to the weights."""
        return self.engine.preprocess

    @preprocess.setter
    def preprocess(self, value: Preprocess) -> None:
        self.engine.preprocess = value

    @property
    def labels(self) -> tuple[str, ...] | None:
        """Class names in the order of the probabilities, or None where nobody named them."""
        return self.engine.labels

    @property
    def module(self) -> Any:
        """The native nn.Module or keras.Model."""
        return self.engine.module

    @property
    def num_classes(self) -> int | None:
        """Columns of `predict`, or None without a head."""
        return self.engine.num_classes

    @property
    def feature_dim(self) -> int:
        """Columns of `features`."""
        return self.engine.feature_dim

    @property
    def blocks(self) -> tuple[str, ...]:
        """Stem, then the repeating units, in the order that `freeze` and `unfreeze` count."""
        return self.engine.blocks

    @property
    def kind(self) -> Kind:
        """What it reads."""
        return "text" if isinstance(self.preprocess, TextPreprocess) else "image"

    # --- what trains
    def freeze(self, upto: int | None = None) -> None:
        """Freeze all blocks, or the first `upto`: weights, statistics and dropout. The head always trains."""
        frozen = self.blocks[: self._count(upto)]
        self.engine.set_trainable([b for b in self.engine.trainable if b not in frozen])

    def unfreeze(self, last: int | None = None) -> None:
        """Let all blocks train again, or the last `last`: exactly as they did before they were frozen."""
        free = self.blocks[len(self.blocks) - self._count(last) :]
        self.engine.set_trainable([b for b in self.blocks if b in free or b in self.engine.trainable])

    def _count(self, blocks: int | None) -> int:
        number = len(self.blocks) if blocks is None else blocks
        if not 0 <= number <= len(self.blocks):
            raise InputError(f"{number} blocks: {self.id} has {len(self.blocks)} ({', '.join(self.blocks)})")
        return number

    def replace_head(self, num_classes: int, *, labels: Sequence[str] | None = None, seed: int = 0) -> None:
        """A fresh Linear head on `features`, drawn from `seed`, the same in every framework."""
        if num_classes < 2:
            raise InputError(f"num_classes={num_classes}: a head needs 2 classes or more")
        if labels is not None and len(labels) != num_classes:
            raise InputError(f"{len(labels)} labels for {num_classes} classes: give one for each")
        self.engine.reset_head(num_classes, seed=seed)
        self.calibration = None
        self.engine.labels = None if labels is None else tuple(labels)

    def fit(
        self,
        train: Data,
        validation: Data | None = None,
        recipe: Recipe = DEFAULT_RECIPE,
        *,
        run_dir: str | Path | None = None,
        resume: bool = False,
        override: bool = False,
        checkpoint_seconds: float = CHECKPOINT_SECONDS,
        cached: bool = True,
        on_error: OnError = "fail",
        progress: bool = True,
        log: Sequence[LogFormat] = (),
    ) -> History:
        """Fine-tune on a path, a Dataset or (inputs, labels); the best epoch's weights stay.

        Data that comes in parts is used as given: the train part trains, the validation part validates
        (unless validation is given), the test part is not touched.
        A head that is missing or of another number of classes is replaced first (seed: recipe.seed); the
        labels become the data's classes. run_dir: gets checkpoints, at the end of each epoch and every
        `checkpoint_seconds` (resume goes on from them; override: with another recipe), in the end what
        `zoo.load` reads, and with `log` files of losses. cached: with every block frozen, train the head on
        features computed once. on_error: "skip" leaves out unreadable files, which the Dataset names.
        """
        data, held = self._open(train, validation, on_error)
        if self.num_classes != len(data.classes):
            self.replace_head(len(data.classes), seed=recipe.seed)
        self.engine.labels = data.classes
        self.calibration, self.trained_on = None, seen(data)
        folder = None if run_dir is None else Path(run_dir)
        history = _fit_engine(
            self.engine, data, held, recipe,
            run_dir=folder, resume=resume, override=override, checkpoint_seconds=checkpoint_seconds,
            cache=FeatureCache() if cached else None, model_id=str(self.id), versions=self.versions(),
            progress=progress, log=log,
        )  # fmt: skip
        if folder is not None and self.engine.architecture() is not None and ranks_of(os.environ).first:
            self._save(folder, recipe_and_history(recipe, history))
        return history

    def find_lr(
        self,
        train: Data,
        recipe: Recipe = DEFAULT_RECIPE,
        *,
        steps: int = 100,
        lowest: float = 1e-7,
        highest: float = 10.0,
        cached: bool = True,
        on_error: OnError = "fail",
    ) -> RateSearch:
        """Train for `steps` steps at rates rising from `lowest` to `highest`, and put the weights back.

        Over what is trainable now, with the recipe's optimizer, batch size and seed. A head that is missing or
        of another number of classes is replaced, as `fit` does, and stays. Raises TrainingError where the loss
        falls at no rate, InputError, DataError.
        """
        data, _ = self._open(train, None, on_error)
        if self.num_classes != len(data.classes):
            self.replace_head(len(data.classes), seed=recipe.seed)
        return _find_lr(
            self.engine,
            data,
            recipe,
            steps=steps,
            lowest=lowest,
            highest=highest,
            cache=FeatureCache() if cached else None,
            model_id=str(self.id),
            versions=self.versions(),
        )

    def _open(
        self, train: Data, validation: Data | None, on_error: OnError
    ) -> tuple[Dataset, Dataset | None]:
        """The training data's classes hold for the validation data; a head's own order holds for both."""
        parts = find_parts(train)
        data = open_data(parts.to_train(), kind=self.kind, on_error=on_error)
        if self.labels is not None and set(self.labels) == set(data.classes):
            data = open_data(data, classes=self.labels)
        held = parts.validation if validation is None else find_parts(validation).to_judge("validation")
        if held is None:
            return data, None
        return data, open_data(held, kind=self.kind, classes=data.classes, on_error=on_error)

    # --- what it says
    def predict(self, inputs: object, *, batch_size: int = 32) -> Array:
        """Probabilities float32 [N, C] of a path, list of paths, PIL images, HWC uint8 arrays or strings.

        Calibrated where the model was (`calibrate`).
        """
        if self.num_classes is None:
            raise HeadMissingError(
                f"{self.id} has no classification head: its checkpoint holds the backbone alone. Put one on "
                "with replace_head(num_classes) and train it with fit()."
            )
        logits = self._over(inputs, self.num_classes, self.engine.logits, batch_size)
        return probabilities(logits, self.calibration)

    def features(self, inputs: object, *, batch_size: int = 32) -> Array:
        """float32 [N, feature_dim] of the same kinds of inputs."""
        return self._over(inputs, self.feature_dim, self.engine.features, batch_size)

    def _over(self, inputs: object, columns: int, compute: Any, batch_size: int) -> Array:
        items = open_inputs(inputs, kind=self.kind)
        parts = [compute(batch) for _, batch in batches(items, self.preprocess, batch_size=batch_size)]
        return np.concatenate(parts) if parts else np.empty((0, columns), np.float32)

    def evaluate(self, data: Data, *, batch_size: int = 32) -> dict[str, Any]:
        """accuracy with its Wilson 95 % interval, macro_f1, log_loss and n on labelled data.

        Of data that comes in parts, on the test part, or on the validation part where there is none.
        """
        opened = open_data(find_parts(data).to_judge(), kind=self.kind, classes=self.labels)
        _check_head(self.engine, len(opened.classes))
        probabilities = self.predict(opened.inputs, batch_size=batch_size)
        return _evaluate(probabilities, opened.targets, opened.classes)

    def calibrate(self, data: Data, *, accuracy: float | None = None) -> Calibration:
        """Fit a temperature and a reject threshold on held-out data; `predict`, save and export apply them.

        data: what the model was not trained on (of data in parts, the validation part). accuracy: the
        threshold then answers as much as possible with at least this share right; None: all is answered.
        `fit` and `replace_head` drop a calibration. Raises DataError (trained on, too few, other classes),
        InputError (an accuracy that no threshold reaches), HeadMissingError.
        """
        held = held_out(data, self.kind, self.labels, self.num_classes)
        if warning := refuse_seen(self.trained_on, held, "calibrate on"):
            warnings.warn(warning, stacklevel=2)
        assert self.num_classes is not None
        logits = self._over(held.inputs, self.num_classes, self.engine.logits, 32)
        self.calibration = fit_calibration(logits, held.targets, accuracy=accuracy)
        return self.calibration

    # --- what is kept
    def state(self) -> dict[str, Array]:
        """Every weight and buffer by a stable name, copies."""
        return self.engine.state()

    def save(self, path: str | Path) -> None:
        """A folder of safetensors and JSON that `zoo.load` reads, bit-identically and without running code."""
        self._save(Path(path), {})

    def _save(self, folder: Path, extra: Mapping[str, Any]) -> None:
        extra = {**extra, **kept(self.calibration, self.trained_on)}
        _save(self.engine, folder, model_id=str(self.id), extra=extra)

    def export(
        self,
        path: str | Path,
        *,
        precision: Precision = "fp32",
        calibrate: Data | None = None,
        keep: Sequence[str] = (),
        uint8_input: bool = False,
    ) -> OnnxModel:
        """One ONNX file (in a folder: model.onnx); parity with this model is checked, or it raises.

        precision and the rest: as in `OnnxModel.quantize`, of the float32 file, which is not kept then.
        """
        target = Path(path) / "model.onnx" if Path(path).is_dir() else Path(path)
        if precision != "fp32" or uint8_input:
            with tempfile.TemporaryDirectory(prefix="zoo-export-") as folder:
                floats = self.export(Path(folder) / "fp32.onnx")
                return floats.quantize(
                    precision, target, calibrate=calibrate, keep=keep, uint8_input=uint8_input
                )
        model = _export(self.engine, target, model_id=str(self.id), versions=self.versions())
        if self.calibration is None:
            return model
        write_calibration(target, self.calibration, target)
        return OnnxModel(target)

    def versions(self) -> dict[str, str]:
        """Versions of the framework's packages."""
        return registry.adapter(self.id.framework).versions()


def get(
    name: str,
    framework: str | None = None,
    *,
    weights: str | Path | None = "default",
    num_classes: int | None = None,
    depth: int | None = None,
    seed: int = 0,
    device: str | None = None,
    size: int | None = None,
    partial: bool = False,
) -> Backbone:
    """Load a model by name or id (`framework:name[@weights][,depth=4][,size=160]`, in float32).

    weights: "default" (the framework's own official ones), None or "none" (random, from seed), a tag, or a
    path. num_classes: None keeps the checkpoint's own head. device: the framework's name for it, None: CPU.
    partial: take weights that lack some of the network's keys; those stay random, and a warning names them.
    Raises UnknownModelError, AmbiguousModelError, FrameworkMissingError, FrameworkBrokenError, WeightsError,
    InputError (also where the id and an argument say different things).
    """
    found = registry.resolve(name, framework)
    if found.precision is not None:
        raise InputError(f"{name!r}: {registry.OF_FILES}")
    tag = "none" if weights is None else str(weights)
    model = dataclasses.replace(
        found,
        weights=_one(name, "weights", found.weights, tag, "default"),
        depth=_one(name, "depth", found.depth, depth, None),
        size=_one(name, "size", found.size, size, None),
    )
    request = LoadRequest(
        model.name, model.weights, num_classes, model.depth, model.size, seed, device, partial
    )
    engine = registry.adapter(model.framework).load(request)
    return Backbone(engine, model, registry.card(model))


def _one(name: str, option: str, in_id: Any, argument: Any, unset: Any) -> Any:
    """The id's value or the argument's, whichever is set. Raises InputError where both are and differ."""
    if unset not in (in_id, argument) and in_id != argument:
        raise InputError(
            f"the id {name!r} says {option}={in_id}, the argument {option}={argument}: say it once"
        )
    return in_id if argument == unset else argument


def wrap(
    module: object,
    *,
    preprocess: Preprocess,
    head: str,
    blocks: Mapping[str, Sequence[str]] | None = None,
) -> Backbone:
    """Somebody's own nn.Module or keras.Model.

    preprocess: what its weights were trained with.  head: the name of its last linear layer.
    blocks: name -> names of submodules, stem first; None: as its direct children come.
    Raises InputError where no adapter takes it.
    """
    for framework in _candidates(module):
        adapter = registry.adapter(framework)
        if adapter.owns(module):
            engine = adapter.wrap(module, preprocess=preprocess, head=head, blocks=blocks)
            return Backbone(engine, ModelId(framework, type(module).__name__, "wrapped"))
    raise InputError(
        f"no adapter wraps a {type(module).__module__}.{type(module).__qualname__}: give an nn.Module or a "
        f"keras.Model. Installed adapters: {', '.join(registry.frameworks())}"
    )


def _candidates(module: object) -> list[str]:
    """Adapters whose framework this object comes from, the most derived class's first; imports nothing."""
    roots = [cls.__module__.partition(".")[0] for cls in type(module).__mro__]
    order = {}
    for framework, point in registry.entry_points().items():
        root = ROOTS.get(framework, point.module.partition(".")[0])
        if root in roots:
            order[framework] = roots.index(root)
        elif framework not in ROOTS and root in sys.modules:
            order[framework] = len(roots)
    return sorted(order, key=lambda framework: (order[framework], framework))


def load(path: str | Path) -> Backbone:
    """Read what `Backbone.save` or `zoo train -o` wrote; bit-identical, runs no code.

    Raises ModelFileError, WeightsCorruptError (naming the file), FrameworkMissingError.
    """
    engine, meta = _load(Path(path))
    model = ModelId.parse(meta["id"])
    backbone = Backbone(engine, model, registry.card(model))
    backbone.calibration, backbone.trained_on = read_kept(meta["extra"], str(path))
    return backbone
