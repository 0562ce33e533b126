"""Making a text network from a config: its backbone alone, or a sequence classifier with the head of its own.

Which of the two is the checkpoint's to say: config.json names the class that was saved (`architectures`).
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch
import transformers
from torch import Tensor, nn

from zoo.engine import Array
from zoo.errors import InputError
from zoo_torch import folders, text_anatomy
from zoo_torch.anatomy import Anatomy, Tensors, seeded
from zoo_torch.engine import to_array
from zoo_torch.text_anatomy import accepted, last_linear, last_token, layers_of, with_depths

Reading: TypeAlias = Literal["backbone", "classifier"]
CLASSIFIERS = transformers.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING
# Their decoder's input is made by the classifier, not by the network under it.
SHIFTED = ("t5", "mt5", "umt5", "t5gemma", "t5gemma2")
SEVERAL, NUMBER = "multi_label_classification", "regression"


@dataclass(frozen=True)
class TextNetwork:
    """A module, how it is read, and where its own head was taken off: (weight [C, D], bias [C])."""

    module: Any
    anatomy: Anatomy
    head: tuple[Array, Array] | None = None

    @property
    def has_head(self) -> bool:
        """Whether there is a head of its own, in the module or beside it."""
        return self.anatomy.head is not None or self.head is not None


def reading_of(config: Any) -> Reading:
    """ "classifier" where a sequence classifier was saved."""
    saved = any("ForSequenceClassification" in name for name in config.architectures or ())
    return "classifier" if saved and type(config) in CLASSIFIERS else "backbone"


def check_task(config: Any, where: object) -> None:
    """Raise InputError for heads that answer another question than 'which one of these classes'."""
    kind = config.problem_type or (NUMBER if config.num_labels == 1 else None)
    if reading_of(config) == "classifier" and kind in (SEVERAL, NUMBER):
        what = "several labels at once" if kind == SEVERAL else "a number (regression)"
        raise InputError(
            f"the head of {where} predicts {what}; the zoo has single-label classification only. "
            "Its backbone can be used: `zoo train` and num_classes=N put a fresh head on it."
        )


# --- making
def random(config: Any, reading: Reading, seed: int) -> Any:
    """A module in float32 with random weights."""
    kind, options = class_of(config, reading)
    with seeded(seed, torch.device("cpu")), folders.quiet():
        return _part(kind(config, **options).float(), config, reading)


def pretrained(
    config: Any, reading: Reading, folder: Path, *, seed: int, partial: bool, new_head: bool
) -> Any:
    """A module in float32 with the folder's weights. new_head: the checkpoint's own may be missing."""
    kind, options = class_of(config, reading)
    optional = text_anatomy.SCORES if new_head and reading == "classifier" else ()
    made = folders.pretrained(kind, folder, config, options, seed=seed, partial=partial, optional=optional)
    return _part(made, config, reading)


def class_of(config: Any, reading: Reading) -> tuple[Any, dict[str, Any]]:
    """The class of transformers and its arguments: no pooler, where it has one to leave out."""
    mapping = CLASSIFIERS if reading == "classifier" else transformers.MODEL_MAPPING
    if reading == "backbone" and config.is_encoder_decoder and type(config) in _ENCODERS:
        mapping = _ENCODERS
    try:
        kind = mapping[type(config)]
    except KeyError as error:
        raise InputError(f"transformers has no backbone for a {config.model_type}") from error
    kind = kind[0] if isinstance(kind, tuple) else kind
    for part in (config, config.get_text_config()):  # a mixture's other ways choose experts by what comes in:
        part._experts_implementation = "batched_mm"  # no exporter can follow them
    pooler = "add_pooling_layer" in kind.__init__.__code__.co_varnames
    return kind, {"add_pooling_layer": False} if pooler else {}


_ENCODERS = transformers.MODEL_FOR_TEXT_ENCODING_MAPPING


def _part(module: Any, config: Any, reading: Reading) -> Any:
    """Of an encoder with a decoder and no head: the encoder."""
    encoder = reading == "backbone" and config.is_encoder_decoder and hasattr(module, "decoder")
    return module.get_encoder() if encoder else module


# --- reading
def read(module: Any, reading: Reading, pooling: str, *, depth: int | None = None) -> TextNetwork:
    """How a module is read, cut to `depth` first; a network that was cut has no head of its own.

    Raises InputError for a depth that there is not.
    """
    layers = layers_of(module)
    if depth is not None and layers.depth is None:
        raise InputError(f"the zoo cannot cut a {module.config.model_type} in depth")
    if depth is not None and layers.depth is not None and not layers.least <= depth <= layers.depth:
        raise InputError(
            f"this {module.config.model_type} has depths {layers.least} to {layers.depth}, not {depth}"
        )
    cut = depth is not None and depth != layers.depth
    if depth is not None and cut:
        text_anatomy.truncate(module, depth)
    if module.config.model_type == "reformer":
        text_anatomy.fill_up_in_training(module)
    if reading == "backbone":
        return TextNetwork(module, text_anatomy.backbone(module, pooling))
    return _classifier(module, keep=not cut)


def _classifier(module: Any, *, keep: bool) -> TextNetwork:
    """Its features are the input of its last Linear. keep: whether its own head stays.

    Where that Linear does not run on one vector a text, it is taken off, and becomes the engine's.
    """
    path = last_linear(module)
    late = getattr(module.config, "classifier_pooling", None) == "late"  # the Linear, then the mean
    if not _picks(module):
        _take_last_token(module)
        if keep and not late:
            return TextNetwork(module, text_anatomy.classifier(module))
    linear: nn.Linear = module.get_submodule(path)
    weight = to_array(linear.weight).copy()
    bias = torch.zeros(len(weight)) if linear.bias is None else linear.bias
    module.set_submodule(path, nn.Identity())
    features = functools.partial(_picked, path.partition(".")[0]) if _picks(module) else _logits
    layers = layers_of(module)
    anatomy = Anatomy(
        int(linear.in_features), text_anatomy.blocks_of(module, layers, path), features=features
    )
    anatomy = with_depths(anatomy, layers, features)
    return TextNetwork(module, anatomy, (weight, to_array(bias).copy()) if keep else None)


def _logits(module: Any, tensors: Tensors) -> Tensor:
    """What a classifier whose last Linear is taken off gives: that Linear's input, [N, D]."""
    found: Tensor = module(**tensors).logits
    return found


def _picks(module: Any) -> bool:
    """Whether the class looks for the text's last token among the ids, by the id of padding or of its end.

    The zoo goes by the mask instead: a padding id may be unknown, or occur in a text.
    """
    config = module.config
    decoder = text_anatomy.is_decoder(config.get_text_config()) or hasattr(module, "score")
    return bool(config.is_encoder_decoder or (decoder and not hasattr(module, "sequence_summary")))


def _picked(head: str, module: Any, tensors: Tensors) -> Tensor:
    """The last token through what is left of the head, [N, D]."""
    inner = getattr(module, module.base_model_prefix)
    given = {name: tensors[name] for name in accepted(inner) if name in tensors}
    mask = tensors["attention_mask"]
    if module.config.model_type in SHIFTED:
        shift = getattr(module, "_shift_right", None) or module.prepare_decoder_input_ids_from_labels
        given["decoder_input_ids"] = shift(tensors["input_ids"])
    if module.config.model_type.startswith(
        "t5gemma"
    ):  # they look at the place where the text's end stands now
        mask = torch.cat([torch.ones_like(mask[:, :1]), mask[:, :-1]], dim=1)
    rest = module.get_submodule(head)
    found: Tensor = rest(last_token(inner(**given).last_hidden_state, mask))
    return found


def _take_last_token(module: Any) -> None:
    """Let a summary of the last position (Yang et al. 2019) take the last token instead.

    XLNet is padded on the left by its own tokenizer; positions are relative, so with padding on the right
    its tokens see the same, and only the summary would look at the padding.
    """
    if getattr(getattr(module, "sequence_summary", None), "summary_type", "") != "last":
        return
    masks: list[Tensor] = []

    def remember(_: nn.Module, __: Any, named: Mapping[str, Any]) -> None:
        masks[:] = [named["attention_mask"]]

    def pick(_: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor]:
        return (last_token(args[0], masks.pop())[:, None],)

    module.register_forward_pre_hook(remember, with_kwargs=True)
    module.sequence_summary.register_forward_pre_hook(pick)
