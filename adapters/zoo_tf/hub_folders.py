"""Which KerasHub model a folder holds, and its making: KerasHub's own presets, transformers' and timm's folders.

Nothing in a folder is run: JSON, safetensors and HDF5 are read, names of classes are looked up in the table of
families, and Keras's Lambda layers are refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo import model_folder
from zoo.cards import ImagePreprocess, Preprocess, TextPreprocess
from zoo.engine import LoadRequest
from zoo.errors import InputError, UnsafeWeightsError, WeightsCorruptError
from zoo_tf import folders, hub_checkpoints, hub_images, hub_texts
from zoo_tf.engine import KerasEngine
from zoo_tf.hub_families import REGISTERED, Family, families
from zoo_tf.hub_models import Plan, make, network, plan_of
from zoo_tf.start import captured_stderr
from zoo_tf.weight_files import judge

CONFIG, TASK = "config.json", "task.json"
WEIGHTS, TASK_WEIGHTS = "model.weights.h5", "task.weights.h5"
# Beside model_folder.WANTED, what KerasHub's presets consist of.
WANTED = (
    *model_folder.WANTED,
    WEIGHTS,
    TASK,
    TASK_WEIGHTS,
    "preprocessor.json",
    "image_converter.json",
    "metadata.json",
    "assets/tokenizer/*",
)


@dataclass(frozen=True)
class Found:
    """A model as a folder has it.  model: KerasHub's task or backbone.  labels: of its own head."""

    plan: Plan
    model: Any
    preprocess: Preprocess
    labels: tuple[str, ...] | None = None


def load(folder: Path, request: LoadRequest, *, device: str) -> KerasEngine:
    """An engine from a folder of any of the three layouts.

    Raises InputError, UnsafeWeightsError, WeightsCorruptError.
    """
    found = read(folder, request)
    made, head = network(found.plan, found.model, found.preprocess)
    engine = KerasEngine(made, device=device)
    if head is not None:
        engine.set_head(*head)
        engine.labels = found.labels if found.labels and len(found.labels) == len(head[1]) else None
    return engine


def read(folder: Path, request: LoadRequest) -> Found:
    """What the folder holds. Raises as `load`."""
    config = model_folder.read_config(folder)
    if "registered_name" in config:
        return _preset(folder, config, request)
    if "model_type" in config or "architecture" in config:
        return _converted(folder, config, request)
    raise InputError(
        f"{folder / CONFIG} says of no model what it is: KerasHub reads its own presets (registered_name), "
        "transformers' folders (model_type) and timm's (architecture)"
    )


# --- KerasHub's own presets
def _preset(folder: Path, config: Mapping[str, Any], request: LoadRequest) -> Found:
    family = _registered(folder, config)
    task = model_folder.read_json(folder / TASK)
    _refuse_code(folder)
    headed = task.get("registered_name") == f"{REGISTERED}{family.task}"
    kind, random = (family.classifier if headed else family.backbone), request.weights == "none"
    if not random and not list(folder.glob("model*.weights.*")):
        raise InputError(f"{folder} holds no {WEIGHTS}: give a folder with weights, or weights='none'")
    for name in () if random else (WEIGHTS, TASK_WEIGHTS):
        if (folder / name).is_file():
            judge(folder / name)
    options: dict[str, Any] = {"preprocessor": None} if headed else {}
    try:
        with captured_stderr():
            model = kind.from_preset(str(folder), load_weights=not random, dtype="float32", **options)
    except (ValueError, KeyError, OSError, RuntimeError, TypeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise WeightsCorruptError(
            f"cannot read the weights in {folder}: {reason}. Get them again."
        ) from error
    pooling = str((task.get("config") or {}).get("pooling_mode") or "mean")  # a TextEmbedder's
    return _found(folder, plan_of(model, pooling=pooling, **_asked(family, request)), model, request)


def _found(folder: Path, plan: Plan, model: Any, request: LoadRequest) -> Found:
    if plan.kind.reads_text:
        backbone = getattr(model, "backbone", None) or model
        return Found(plan, model, hub_texts.preset_preprocess(folder, plan, backbone))
    preprocess = hub_images.preset_preprocess(folder)
    plan, preprocess = _sized(plan, preprocess, model, request)
    return Found(plan, model, preprocess, hub_images.labels(folder, getattr(model, "num_classes", None)))


def _registered(folder: Path, config: Mapping[str, Any]) -> Family:
    name = str(config["registered_name"])
    kind = name.removeprefix(REGISTERED).removesuffix("Backbone")
    if name == f"{REGISTERED}{kind}Backbone" and kind in families():
        return families()[kind]
    raise InputError(
        f"{folder} holds {name!r}, of which KerasHub has no image or text classifier. There are: "
        f"{', '.join(sorted(families()))}"
    )


def _refuse_code(folder: Path) -> None:
    """Keras's own safe mode refuses these too; here before anything is built."""
    for path in sorted(folder.glob("*.json")):
        text = path.read_text(encoding="utf-8", errors="replace")
        if "__lambda__" in text or '"Lambda"' in text:
            raise UnsafeWeightsError(
                f"{path} holds a Lambda layer: code of its author's, which Keras would run. It was not loaded."
            )


# --- transformers' and timm's
def _converted(folder: Path, config: Mapping[str, Any], request: LoadRequest) -> Found:
    loader = hub_checkpoints.preset_loader(folder, config)
    family = families().get(loader.check_backbone_class().__name__.removesuffix("Backbone"))
    if family is None:
        raise InputError(
            f"{folder} is a {config.get('model_type')!r} folder: KerasHub has no classifier on it. Use hf:{folder}"
        )
    source = hub_texts if family.reads_text else hub_images
    options = source.task_options(folder, config)
    plan = _planned(folder, config, loader, family, options is not None, request)
    if options is not None:
        plan = Plan(**{**vars(plan), "task": {k: v for k, v in options.items() if k != "num_classes"}})
    model = make(plan, classes=(options or {}).get("num_classes", 1))
    if request.weights != "none":
        _fill(folder, config, loader, model, options is not None, request)
    if isinstance(preprocess := source.folder_preprocess(folder, config, plan), ImagePreprocess):
        plan, preprocess = _sized(plan, preprocess, model, request)
    return Found(plan, model, preprocess, folders.labels(config))


def _planned(
    folder: Path,
    config: Mapping[str, Any],
    loader: Any,
    family: Family,
    headed: bool,
    request: LoadRequest,
) -> Plan:
    try:
        arguments = loader.converter.convert_backbone_config(dict(config))
    except (ValueError, KeyError) as error:
        what = config.get("architecture") or config.get("model_type")
        raise InputError(
            f"KerasHub cannot read {folder} ({what!r}): {str(error).strip()} "
            f"Use {hub_checkpoints.elsewhere(folder, config)}"
        ) from error
    # timm's DenseNet pads both sides alike, KerasHub's by TensorFlow's "same".
    details: dict[str, Any] = {"symmetric": family.kind == "DenseNet"}
    if "model_type" in config:
        arguments |= hub_texts.arguments(config) if family.reads_text else {}
        details = folders.details(folder, config)
    pooling = folders.pooling(folder) if family.reads_text and not headed else "mean"
    return Plan(family.kind, arguments, pooling=pooling, **_asked(family, request), **details)


def _fill(
    folder: Path, config: Mapping[str, Any], loader: Any, model: Any, headed: bool, request: LoadRequest
) -> None:
    backbone, converter = getattr(model, "backbone", None) or model, loader.converter
    parts = [lambda reader: converter.convert_weights(backbone, reader, dict(config))]
    if config.get("model_type") == "roberta":
        parts.append(lambda reader: hub_texts.fold_segment(backbone, reader))
    if headed and not hasattr(converter, "convert_head"):
        parts.append(lambda reader: hub_texts.convert_head(model, reader))
    elif headed:
        parts.append(lambda reader: converter.convert_head(model, reader, dict(config)))
    hub_checkpoints.fill(folder, parts, partial=request.partial, needless="" if headed else "pooler.")


def _asked(family: Family, request: LoadRequest) -> dict[str, Any]:
    """Depth and size of the request. Raises InputError for a text's size."""
    if family.reads_text and request.size is not None:
        raise InputError(f"{request.name} reads text: it has no size in pixels")
    return {"depth": request.depth, "size": request.size}


def _sized(
    plan: Plan, preprocess: ImagePreprocess, model: Any, request: LoadRequest
) -> tuple[Plan, ImagePreprocess]:
    """Plan and preprocessing of one size: the one asked for, the network's own, or the transform's."""
    backbone = getattr(model, "backbone", None) or model
    size = request.size or backbone.inputs[0].shape[1] or preprocess.height
    whole = preprocess if size == preprocess.height else preprocess.at_size(size)
    return Plan(**{**vars(plan), "size": size}), whole


def is_text(found: Found) -> bool:
    """Whether the folder's model reads text."""
    return isinstance(found.preprocess, TextPreprocess)
