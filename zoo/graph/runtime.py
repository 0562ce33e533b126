"""Using an ONNX file: photographs or texts in, probabilities and features out, without any framework."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from zoo import cost, data
from zoo.calibration import Calibration, fit_calibration, probabilities
from zoo.cards import Cost, ImagePreprocess, Preprocess
from zoo.data.sources import Data
from zoo.engine import Array, Batch
from zoo.errors import HeadMissingError, InputError, ModelFileError
from zoo.graph import metadata, variants
from zoo.graph.calibrating import calibration_set, held_out
from zoo.graph.ports import Ports, find_ports
from zoo.graph.precision import Precision, Settings, write_variant
from zoo.graph.session import ORT_ERRORS, load_proto, open_session, run_session
from zoo.graph.surgery import FEATURES, depth_output


class OnnxModel:
    """An ONNX file opened for use; the ONNX Runtime session is made at the first run.

    path         the file
    id           what it was exported from, `framework:name[...]`; the file's name where it does not say
    preprocess   from the file, or as given for somebody else's file
    labels       class names in the order of the probabilities; class indices where the file has none; None
                 where it has no head
    num_classes, feature_dim   C and D; None where the file has no such output (or does not tell its size)
    inputs       names of the arrays in a batch
    depths       depths at which it has features, ascending; empty for an ordinary file
    calibration  what `predict` applies, or None
    provenance   framework, exporter, versions, digest of the weights, parity figures
    """

    def __init__(
        self, path: Path | str, *, preprocess: Preprocess | None = None, threads: int | None = None
    ) -> None:
        """Read the file. preprocess: for a file without our metadata. threads: None takes all available.

        Raises ModelFileError for what is no ONNX model, keeps weights outside its folder, lacks metadata
        when no preprocess is given, or has another preprocess than the one given.
        """
        if threads is not None and threads < 1:
            raise InputError(f"threads {threads}: must be 1 or more, or None for all that are available")
        self.path, self.threads = Path(path), threads
        model = load_proto(self.path)
        stored = metadata.read(model, self.path)
        self.preprocess = _preprocess(self.path, stored.preprocess, preprocess)
        self.ports: Ports = find_ports(model, self.preprocess, self.path, ours=stored.preprocess is not None)
        self.inputs = tuple(self.ports.inputs)
        self.depths, self.feature_dim = self.ports.depths, self.ports.feature_dim
        self.provenance: Mapping[str, Any] = stored.provenance
        self.calibration = stored.calibration
        self.id = str(stored.provenance.get("id") or self.path.stem)
        self.num_classes = self.ports.num_classes
        self.labels = _labels(self.path, stored.labels, self.num_classes)

    def __repr__(self) -> str:
        return f"OnnxModel({str(self.path)!r}, id={self.id!r})"

    @functools.cached_property
    def session(self) -> onnxruntime.InferenceSession:
        """The ONNX Runtime session. Raises ModelFileError where ONNX Runtime does not take the file."""
        try:
            return open_session(self.path, threads=self.threads)
        except ORT_ERRORS as error:
            raise ModelFileError(
                f"ONNX Runtime does not take {self.path}: {' '.join(str(error).split())[:300]}"
            ) from error

    def run(self, batch: Batch, outputs: Sequence[str]) -> list[Array]:
        """The named outputs for one batch. Raises ModelFileError where the file fails on it."""
        try:
            return self.ports.run(functools.partial(run_session, self.session, outputs), batch)
        except ORT_ERRORS as error:
            raise ModelFileError(
                f"{self.path} fails when it is run: {' '.join(str(error).split())[:300]}"
            ) from error

    def logits(self, batch: Batch) -> Array:
        """float32 [N, C] for a batch of arrays; the log of the probabilities where the file gives those.

        Raises HeadMissingError where the file has no head.
        """
        (values,) = self.run(batch, [self._logits_output()])
        return self.ports.as_logits(values)

    def predict(self, inputs: object, *, batch_size: int = 32) -> Array:
        """Probabilities float32 [N, C], rows sum to 1, in the order of `inputs`; calibrated where the file is.

        inputs: a path, a list of paths, PIL images, HWC uint8 arrays, or strings.
        Raises HeadMissingError where the file has no head, DataError or BadFilesError for the inputs.
        """
        return probabilities(self.logits_of(inputs, batch_size=batch_size), self.calibration)

    def logits_of(self, inputs: object, *, batch_size: int = 32) -> Array:
        """float32 [N, C] of the same kinds of inputs, as the graph gives them: never calibrated."""
        (values,) = self._over(inputs, [self._logits_output()], batch_size)
        return self.ports.as_logits(values)

    def features(self, inputs: object, *, batch_size: int = 32) -> Array:
        """float32 [N, D], in the order of `inputs`. Raises ModelFileError where the file gives none."""
        if self.feature_dim is None or self.depths:
            raise ModelFileError(
                f"{self.path} has no output {FEATURES!r}"
                + (
                    f"; it has depths {self.depths}: use features_by_depth or cut_depth"
                    if self.depths
                    else ""
                )
            )
        (values,) = self._over(inputs, [FEATURES], batch_size)
        return values

    def feature_chunks(
        self, inputs: Sequence[data.Input], *, size: int = 512, batch_size: int = 32
    ) -> Iterator[Array]:
        """`features` of opened inputs in order, [size, D] at a time: for what would not fit into memory.

        size: a multiple of batch_size. Decoding runs on across the pieces.
        """
        image = isinstance(self.preprocess, ImagePreprocess)
        order = None if image else _long_texts_first(inputs, size)
        piece: list[tuple[Array, Array]] = []
        for indices, batch in data.batches(inputs, self.preprocess, batch_size=batch_size, order=order):
            piece.append((indices, self.run(batch, [FEATURES])[0]))
            if sum(len(part) for part, _ in piece) == size:
                yield _joined(piece)
                piece = []
        if piece:
            yield _joined(piece)

    def features_by_depth(self, inputs: object, *, batch_size: int = 32) -> dict[int, Array]:
        """float32 [N, D] for each depth that the file holds, all from one pass."""
        if not self.depths:
            raise ModelFileError(f"{self.path} was not exported with depths")
        values = self._over(inputs, [depth_output(depth) for depth in self.depths], batch_size)
        return dict(zip(self.depths, values, strict=True))

    def with_head(
        self,
        weight: Array,
        bias: Array,
        *,
        labels: Sequence[str] | None = None,
        path: Path | str | None = None,
    ) -> OnnxModel:
        """This graph with logits = features @ weight.T + bias, as a new file.

        weight: [C, D]; bias: [C]; labels: C names. path: None writes into the cache, named by content.
        Raises InputError for shapes that do not fit, ModelFileError for a file without `features`.
        """
        target = Path(path) if path is not None else None
        written = variants.write_head(self.path, weight, bias, labels, target)
        return OnnxModel(written, threads=self.threads)

    def calibrate(
        self, data: Data, *, accuracy: float | None = None, path: Path | str | None = None
    ) -> Calibration:
        """Fit temperature and threshold on held-out data and write them into this file's metadata.

        data: what the network was not trained on; of data in parts, the validation part. A file does not
        know its training data: a run does, so calibrate that where it is at hand.
        accuracy: answer as much as possible with at least this share right. path: write another file instead.
        Raises DataError, InputError, HeadMissingError, ModelFileError (a file that is not ours), StorageError.
        """
        image = isinstance(self.preprocess, ImagePreprocess)
        held = held_out(data, "image" if image else "text", self.labels, self.num_classes)
        found = fit_calibration(self.logits_of(held.inputs), held.targets, accuracy=accuracy)
        variants.write_calibration(self.path, found, self.path if path is None else Path(path))
        if path is None:
            self.calibration = found
        return found

    def quantize(
        self,
        precision: Precision = "int8-dynamic",
        path: Path | str | None = None,
        *,
        calibrate: Data | None = None,
        keep: Sequence[str] = (),
        uint8_input: bool = False,
        reduce_range: bool = False,
    ) -> OnnxModel:
        """This graph in another precision, as a new file (None: beside this one, `name.int8-static.onnx`).

        precision: "fp16"; "int8-dynamic" for networks of matrix products (text); "int8-static" for convolutions,
        its ranges found on `calibrate`; "fp32" for uint8_input alone.  keep: layers that stay in float.
        uint8_input: the graph takes RGB pixels [N, H, W, 3].  reduce_range: 7-bit weights, for CPUs without VNNI.
        Raises what `zoo.graph.precision.write_variant` does, DataError for the calibration data.
        """
        settings = Settings(precision, tuple(keep), uint8_input, reduce_range)
        target = self.path.with_suffix(f".{precision}.onnx") if path is None else Path(path)
        image = isinstance(self.preprocess, ImagePreprocess)
        found = None if calibrate is None else calibration_set(calibrate, "image" if image else "text")
        write_variant(self.path, settings, target, found)
        return OnnxModel(target, threads=self.threads)

    def benchmark(self, *, batch_sizes: Sequence[int] = (1,), threads: int | None = None) -> list[Cost]:
        """One Cost per batch size, measured in a process of its own (`zoo.cost`)."""
        return cost.measure([(self.id, self.path)], batch_sizes=batch_sizes, threads=threads or self.threads)

    def _logits_output(self) -> str:
        if self.ports.logits is None:
            raise HeadMissingError(
                f"{self.path} ({self.id}) holds no classification head, so there is nothing to predict. Put "
                "one on the model with replace_head(num_classes) and train it, or use with_head(weight, bias)."
            )
        return self.ports.logits

    def _over(self, inputs: object, outputs: Sequence[str], batch_size: int) -> list[Array]:
        """The outputs for all inputs, in their order; decoding runs ahead of computing."""
        image = isinstance(self.preprocess, ImagePreprocess)
        items = data.open_inputs(inputs, kind="image" if image else "text")
        # Texts of like length together: padding to the longest of a mixed batch is wasted computing.
        order = None if image else np.argsort([-len(str(text)) for text in items], kind="stable")
        found: list[Array] = []
        for indices, batch in data.batches(items, self.preprocess, batch_size=batch_size, order=order):
            values = self.run(batch, outputs)
            found = found or [np.empty((len(items), *v.shape[1:]), np.float32) for v in values]
            for whole, part in zip(found, values, strict=True):
                whole[indices] = part
        return found or [np.empty((0, 0), np.float32) for _ in outputs]


def _long_texts_first(texts: Sequence[data.Input], size: int) -> Array:
    """An order in which texts of like length are neighbours, within each `size` of them."""
    lengths = np.array([-len(str(text)) for text in texts])
    return np.lexsort((lengths, np.arange(len(texts)) // size))


def _joined(piece: Sequence[tuple[Array, Array]]) -> Array:
    """(indices, values) of neighbours as one array in the order of the indices."""
    indices, values = (np.concatenate(parts) for parts in zip(*piece, strict=True))
    ordered: Array = values[np.argsort(indices)]
    return ordered


def cut_depth(model: OnnxModel, depth: int, path: Path | str) -> OnnxModel:
    """A new file with the first `depth` units of a model exported with depths; its output is `features`.

    Raises InputError for a depth that the file has not, ExportMismatchError where the part computes
    something else than the whole.
    """
    variants.write_cut(model.path, depth, Path(path))
    return OnnxModel(path, threads=model.threads)


def _preprocess(path: Path, stored: Preprocess | None, given: Preprocess | None) -> Preprocess:
    if stored is not None and given is not None and stored != given:
        raise ModelFileError(
            f"{path} says how its inputs are prepared, and another preprocess was given: leave it out"
        )
    if (found := stored or given) is None:
        raise ModelFileError(
            f"{path} does not say how its inputs are prepared: Backbone Zoo did not write it. Say so with "
            "--preprocess torch, tf, caffe, or a JSON file that describes it; in Python: OnnxModel(path, "
            "preprocess=...)."
        )
    return found


def _labels(path: Path, stored: tuple[str, ...] | None, num_classes: int | None) -> tuple[str, ...] | None:
    if stored is None:
        return None if num_classes is None else tuple(map(str, range(num_classes)))
    if num_classes is not None and len(stored) != num_classes:
        raise ModelFileError(
            f"{path} names {len(stored)} classes and computes {num_classes}: its metadata was changed"
        )
    return stored
