"""Text encoders by the zoo's own names: BERT and MiniLM in their published configuration, or with their weights.

Everything about KerasHub itself is in the `hub_*` modules.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from zoo.cards import TextPreprocess, WeightsCard
from zoo.engine import LoadRequest
from zoo.errors import InputError, WeightsCorruptError
from zoo.packaged import packaged
from zoo.weights import mirrored
from zoo_tf import hub_folders, hub_names, hub_texts
from zoo_tf.engine import KerasEngine
from zoo_tf.hub_models import Plan, make, network
from zoo_tf.weight_files import judge


def _bert(layers: int, heads: int, width: int) -> Plan:
    config: Mapping[str, Any] = {
        "vocabulary_size": 30522,
        "num_layers": layers,
        "num_heads": heads,
        "hidden_dim": width,
        "intermediate_dim": 4 * width,
        "dropout": 0.1,
        "max_sequence_length": 512,
        "num_segments": 2,
    }
    return Plan("Bert", config, activation="gelu", eps=1e-12)


# Devlin et al. 2018, BERT base; Wang et al. 2020, MiniLM with 6 layers of 384.
NAMES = {"bert": _bert(12, 12, 768), "all-minilm-l6-v2": _bert(6, 12, 384)}


def load(request: LoadRequest, cards: Sequence[WeightsCard], *, device: str) -> KerasEngine:
    """By name: random, from a path, or the official weights (`cards`): installed package, mirror, hub."""
    if request.weights == "none":
        return _random(request, device=device)
    if not cards:
        path = Path(request.weights).expanduser()
        return (
            hub_folders.load(path, request, device=device) if path.is_dir() else _file(path, request, device)
        )
    card = cards[0]
    if folder := packaged(request.name) or mirrored(card.file or request.name):
        return hub_folders.load(folder, request, device=device)
    return hub_names.load_card(card, request, device=device)


def _planned(request: LoadRequest) -> Plan:
    if request.size is not None:
        raise InputError(f"{request.name} reads text: it has no size in pixels")
    return Plan(**{**vars(NAMES[request.name]), "depth": request.depth})


def _random(request: LoadRequest, *, device: str) -> KerasEngine:
    """The published configuration with random weights, and no tokenizer."""
    plan = _planned(request)
    return KerasEngine(network(plan, make(plan), _preprocess(plan))[0], device=device)


def _file(path: Path, request: LoadRequest, device: str) -> KerasEngine:
    """One file that KerasHub's backbone wrote (save_weights)."""
    judge(path)
    plan = _planned(request)
    backbone = make(plan)
    try:
        backbone.load_weights(str(path))
    except (ValueError, KeyError, OSError, RuntimeError, TypeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise WeightsCorruptError(f"{path} does not fit tf:{request.name}: {reason}") from error
    return KerasEngine(network(plan, backbone, _preprocess(plan))[0], device=device)


def _preprocess(plan: Plan) -> TextPreprocess:
    vocabulary = int(plan.backbone["vocabulary_size"])
    return TextPreprocess(max_length=512, vocab_size=vocabulary, inputs=hub_texts.inputs(plan))
