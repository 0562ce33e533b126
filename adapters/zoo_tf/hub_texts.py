"""What KerasHub's text models need beside their graph: tokenizer, length, and transformers' classifier heads."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zoo import model_folder
from zoo.cards import TextPreprocess
from zoo.errors import InputError
from zoo_tf import folders, hub_tokenizers
from zoo_tf.hub_models import OURS, Plan

LONGEST = 512
# KerasHub's classifier layers and transformers' names of them: BERT's pooler is the backbone's own there.
_HEADS: Mapping[str, Mapping[str, str]] = {
    "BertTextClassifier": {"output_dense": "classifier"},
    "AlbertTextClassifier": {"output_dense": "classifier"},
    "DistilBertTextClassifier": {"pooled_dense": "pre_classifier", "output_dense": "classifier"},
    "RobertaTextClassifier": {"pooled_dense": "classifier.dense", "output_dense": "classifier.out_proj"},
    "XLMRobertaTextClassifier": {"pooled_dense": "classifier.dense", "output_dense": "classifier.out_proj"},
}


def task_options(folder: Path, config: Mapping[str, Any]) -> dict[str, Any] | None:
    """Arguments of KerasHub's classifier where the folder is a ForSequenceClassification; None: no head.

    Raises InputError for regression and several labels at once, and for ESM.
    """
    if config.get("model_type") == "esm":
        raise InputError(
            f"{folder} is an ESM, which KerasHub computes otherwise than it was trained: its attention masks queries "
            f"instead of keys, so that padding changes the answers, and token_dropout is left out. Use hf:{folder}"
        )
    if "ForSequenceClassification" not in " ".join(map(str, config.get("architectures") or [])):
        return None
    classes = len(config.get("id2label") or ()) or 2
    problem = config.get("problem_type")
    if problem in ("regression", "multi_label_classification") or classes < 2:
        raise InputError(
            f"{folder} was trained for {problem or 'regression'}: the zoo's heads choose one of several classes"
        )
    return {"num_classes": classes}


def convert_head(task: Any, reader: Any) -> None:
    """transformers' head into KerasHub's classifier, whose layers are the same ones by other names."""
    for layer, name in _HEADS[type(task).__name__].items():
        dense = getattr(task, layer)
        reader.port_weight(dense.kernel, f"{name}.weight", lambda tensor, _: tensor.T)
        reader.port_weight(dense.bias, f"{name}.bias")


def fold_segment(backbone: Any, reader: Any) -> None:
    """RoBERTa's embedding of its only segment, which KerasHub's converter forgets: part of each position's."""
    key = "roberta.embeddings.token_type_embeddings.weight"
    positions = backbone.embeddings.position_embedding.position_embeddings
    positions.assign(positions.numpy() + reader.get_tensor(key)[0])


def arguments(config: Mapping[str, Any]) -> dict[str, Any]:
    """What KerasHub's converters leave at a default though the checkpoint says it."""
    found = {}
    if config.get("model_type") == "bert":
        found["num_segments"] = config.get("type_vocab_size", 2)
    if config.get("model_type") in ("bert", "xlm-roberta", "albert"):
        found["dropout"] = config.get("hidden_dropout_prob", 0.1)
    return found


# --- preprocessing
def folder_preprocess(folder: Path, config: Mapping[str, Any], plan: Plan) -> TextPreprocess:
    """Of a transformers folder."""
    longest, stated = _longest(plan), model_folder.stated_length(folder)
    pad = config.get("pad_token_id")
    return TextPreprocess(
        tokenizer=folders.tokenizer_text(folder),
        max_length=min(longest, stated or longest),
        pad_id=int(pad or 0),
        vocab_size=int(plan.backbone["vocabulary_size"]),
        inputs=inputs(plan),
    )


def preset_preprocess(folder: Path, plan: Plan, _backbone: Any) -> TextPreprocess:
    """Of a KerasHub preset folder; its tokenizer's assets become a tokenizer.json."""
    text, pad = hub_tokenizers.read(folder)
    stated = (model_folder.read_json(folder / "preprocessor.json").get("config") or {}).get("sequence_length")
    return TextPreprocess(
        tokenizer=text,
        max_length=min(_longest(plan), int(stated or LONGEST)),
        pad_id=pad,
        vocab_size=int(plan.backbone["vocabulary_size"]),
        inputs=inputs(plan),
    )


def inputs(plan: Plan) -> tuple[str, ...]:
    """Our names of the arrays that the network takes, in our order."""
    unmasked = plan.family in ("FNet", "RoformerV2", "ESM")
    have = {"token_ids"}
    if not unmasked or (plan.task is None and plan.pooling != "cls"):
        have.add("padding_mask")
    if "num_segments" in plan.backbone or plan.family in ("Albert", "Bert", "FNet", "RoformerV2"):
        have.add("segment_ids")
    return tuple(ours for native, ours in OURS.items() if native in have)


def _longest(plan: Plan) -> int:
    return min(LONGEST, int(plan.backbone.get("max_sequence_length") or LONGEST))
