"""From an engine to the ONNX file that ships: exported, put into the project's form, checked, described."""

from __future__ import annotations

import dataclasses
import errno
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx
import onnxruntime

from zoo.cards import ModelId
from zoo.engine import Engine
from zoo.errors import ExportError, ModelFileError
from zoo.files import storage_error
from zoo.graph import metadata, surgery
from zoo.graph.metadata import Metadata
from zoo.graph.parity import check_engine
from zoo.graph.runtime import OnnxModel
from zoo.graph.sealing import accepted, check_size, seal
from zoo.graph.session import external_files, load_proto
from zoo.graph.sharing import share

OPSET = 18
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES)


def export_engine(
    engine: Engine,
    path: Path | str,
    *,
    model_id: str,
    versions: Mapping[str, str],
    depths: Sequence[int] = (),
    parity: bool = True,
) -> OnnxModel:
    """Write `engine` as one ONNX file and give it opened.

    The graph takes `engine.inputs`, any batch size (and length), and gives `logits` float32 [N, C] where
    there is a head, and `features` float32 [N, D]; with `depths` instead `features_<d>` for each and no head.
    Raises ExportError (no exporter made a valid file), ExportMismatchError (it computes something else than
    the engine: the figures are in the message), StorageError. Nothing is left at `path` then.
    """
    # The deepest cut is the one that the engine's own features can be compared with.
    cuts = tuple(sorted({*depths, engine.depths[-1]})) if depths and engine.depths else tuple(depths)
    model, exporter = _raw(engine, cuts)
    outputs = [surgery.depth_output(depth) for depth in cuts] or _outputs(engine)
    surgery.tidy(model, engine.inputs, outputs)
    share(model)
    surgery.add_features_shape(model, engine.feature_dim)
    if not cuts and (head := engine.head()) is not None:
        surgery.set_head(model, *head)
    session = accepted(model)
    deepest = surgery.depth_output(cuts[-1]) if cuts else surgery.FEATURES
    figures = check_engine(engine, session, deepest) if parity else None
    if set(cuts) - set(depths):
        surgery.keep_outputs(model, [surgery.depth_output(depth) for depth in depths])
        session = accepted(model)
    provenance = {
        "id": model_id,
        "framework": ModelId.parse(model_id).framework,
        "exporter": exporter,
        "versions": {**versions, "onnx": onnx.__version__, "onnxruntime": onnxruntime.__version__},
        "opset": _opset(model),
        "parity": figures,
    }
    labels = engine.labels if not cuts and engine.num_classes is not None else None
    seal(model, Metadata(engine.preprocess, labels, provenance), session, Path(path))
    return OnnxModel(path)


def put_head(engine: Engine, source: Path, path: Path) -> None:
    """Write `engine` as `path` from `source`, a graph of the same backbone: only its linear head and labels differ.

    The bytes are those of `export_engine`. Raises ExportMismatchError, ModelFileError, StorageError.
    """
    head = engine.head()
    if head is None:
        raise ExportError("only a linear head can be put on a graph")
    model = load_proto(source)
    stored = metadata.read(model, source)
    surgery.set_head(model, *head)
    session = accepted(model)
    figures = check_engine(engine, session, surgery.FEATURES)
    described = metadata.with_provenance(stored, {"parity": figures})
    seal(model, dataclasses.replace(described, labels=engine.labels), session, path)


def _outputs(engine: Engine) -> list[str]:
    """What the raw graph must give: a head that is not linear comes with it."""
    own_logits = engine.num_classes is not None and engine.head() is None
    return [surgery.LOGITS, surgery.FEATURES] if own_logits else [surgery.FEATURES]


def _raw(engine: Engine, depths: Sequence[int]) -> tuple[onnx.ModelProto, str]:
    """The graph as the engine writes it, and the exporter's name."""
    try:
        with tempfile.TemporaryDirectory(prefix="zoo-export-") as folder:
            path = Path(folder) / "raw.onnx"
            exporter = engine.export_onnx(path, opset=OPSET, depths=depths)
            return _loaded(path, exporter), exporter
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise storage_error(Path(tempfile.gettempdir()), error) from error


def _loaded(path: Path, exporter: str) -> onnx.ModelProto:
    if not path.is_file():
        raise ExportError(f"the exporter {exporter} ended without an error and wrote no file")
    check_size(path.stat().st_size)
    try:
        model = load_proto(path)
    except ModelFileError as error:
        raise ExportError(f"the exporter {exporter} wrote no valid file: {error}") from error
    check_size(path.stat().st_size + sum(file.stat().st_size for file in external_files(model, path)))
    onnx.load_external_data_for_model(model, str(path.parent))
    return model


def _opset(model: onnx.ModelProto) -> int:
    return max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=0)
