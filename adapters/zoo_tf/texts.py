"""KerasHub text encoders: by name, or from a Hugging Face (or KerasHub) folder, pooled to one vector.

KerasHub's BERT computes GELU by tanh whatever the checkpoint was trained with; the checkpoint's own
activation is put in, so the same folder gives the same numbers here and in transformers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import huggingface_hub
import keras_hub
import safetensors
from keras import ops
from tokenizers import BertWordPieceTokenizer

from zoo import model_folder
from zoo.cards import Preprocess, TextPreprocess, WeightsCard
from zoo.engine import LoadRequest
from zoo.errors import InputError, WeightsCorruptError
from zoo.packaged import packaged
from zoo.weights import mirrored, unavailable
from zoo_tf import folders
from zoo_tf.engine import KerasEngine
from zoo_tf.network import Network, build_network
from zoo_tf.start import captured_stderr, keras
from zoo_tf.weight_files import judge

INPUTS = ("input_ids", "attention_mask", "token_type_ids")
NATIVE = ("token_ids", "padding_mask", "segment_ids")
LONGEST = 512
MASK_SUM = 1e-9  # least sum of a mask: an empty text is 0 / this, not 0 / 0

ACTIVATIONS = {
    "gelu": lambda x: keras.activations.gelu(x, approximate=False),
    "gelu_tanh": lambda x: keras.activations.gelu(x, approximate=True),
    "relu": keras.activations.relu,
}
HF_ACTIVATIONS = {"gelu": "gelu", "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "relu": "relu"}


@dataclass(frozen=True)
class Family:
    """A KerasHub class, and the layers whose outputs are depth 0 and depths 1, 2, ..."""

    kind: Any
    embeddings: str = "embeddings_dropout"
    layer: str = "transformer_layer_{}"


FAMILIES = {"bert": Family(keras_hub.models.BertBackbone)}


@dataclass(frozen=True)
class Encoder:
    """What makes an encoder: family, KerasHub's arguments, activation, layer norm's epsilon, pooling."""

    family: str
    config: Mapping[str, Any]
    activation: str = "gelu"
    eps: float = 1e-12
    pooling: str = "mean"


def _bert(layers: int, heads: int, width: int) -> Encoder:
    config = {
        "vocabulary_size": 30522,
        "num_layers": layers,
        "num_heads": heads,
        "hidden_dim": width,
        "intermediate_dim": 4 * width,
        "dropout": 0.1,
        "max_sequence_length": LONGEST,
        "num_segments": 2,
    }
    return Encoder("bert", config)


# Devlin et al. 2018, BERT base; Wang et al. 2020, MiniLM with 6 layers of 384.
NAMES = {"bert": _bert(12, 12, 768), "all-minilm-l6-v2": _bert(6, 12, 384)}


# --- ways in
def random_encoder(request: LoadRequest, *, device: str) -> KerasEngine:
    """The published configuration with random weights, and no tokenizer."""
    encoder = _cut(NAMES[request.name], request)
    return _engine(encoder, _make(encoder), _preprocess(encoder), device)


def load_official(request: LoadRequest, cards: Sequence[WeightsCard], *, device: str) -> KerasEngine:
    """Installed package, then mirror, then KerasHub's or the Hub's own loader. WeightsUnavailableError."""
    card = cards[0]
    file = card.file or request.name
    if folder := packaged(request.name) or mirrored(file):
        return load_folder(folder, request, device=device)
    try:
        with captured_stderr():
            if card.url and "huggingface.co" in card.url:
                repository = card.url.partition("huggingface.co/")[2]
                place = huggingface_hub.snapshot_download(
                    repository, allow_patterns=list(model_folder.WANTED)
                )
                return load_folder(Path(place), request, device=device)
            return _from_preset(file, request, device)
    except (InputError, WeightsCorruptError):
        raise
    except Exception as error:  # each hub's client raises its own kinds
        raise unavailable(file, card.url, error) from error


def load_folder(folder: Path, request: LoadRequest, *, device: str) -> KerasEngine:
    """A folder of transformers' (config.json, model.safetensors) or KerasHub's, or one weight file.

    Raises InputError, UnsafeWeightsError, WeightsCorruptError.
    """
    if request.size is not None:
        raise InputError(f"{request.name} reads text: it has no size in pixels")
    if not folder.is_dir():
        return _load_file(folder, request, device)
    config = folders.read_config(folder, families=tuple(FAMILIES))
    if "registered_name" in config:
        return _from_preset(str(folder), request, device)
    encoder = _cut(_encoder_of(folder, config), request)
    backbone = _make(encoder) if request.weights == "none" else _pretrained(folder, encoder)
    return _engine(encoder, backbone, _preprocess(encoder, folder, config), device)


def _pretrained(folder: Path, encoder: Encoder) -> Any:
    """KerasHub's own conversion of transformers' safetensors."""
    model_folder.check_weights(folder)
    try:
        return FAMILIES[encoder.family].kind.from_preset(str(folder), **encoder.config)
    except (safetensors.SafetensorError, KeyError, ValueError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise WeightsCorruptError(
            f"cannot read the weights in {folder}: {reason}. Get them again."
        ) from error


def rebuild(architecture: Mapping[str, Any], preprocess: Preprocess) -> Network:
    """The network that an encoder's `asdict` describes."""
    names = Encoder.__dataclass_fields__
    encoder = Encoder(**{key: value for key, value in architecture.items() if key in names})
    return _network(encoder, _make(encoder), preprocess)


def _load_file(path: Path, request: LoadRequest, device: str) -> KerasEngine:
    judge(path)
    encoder = _cut(NAMES[request.name], request)
    backbone = _make(encoder)
    try:
        backbone.load_weights(str(path))
    except (ValueError, KeyError, OSError, RuntimeError, TypeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise WeightsCorruptError(f"{path} does not fit tf:{request.name}: {reason}") from error
    return _engine(encoder, backbone, _preprocess(encoder), device)


def _from_preset(handle: str, request: LoadRequest, device: str) -> KerasEngine:
    """KerasHub's own weights: GELU by tanh, as Google trained them; cut after loading, the file is whole."""
    backbone = keras_hub.models.BertBackbone.from_preset(handle)
    vocabulary = keras_hub.models.BertTokenizer.from_preset(handle).get_vocabulary()
    config = {key: backbone.get_config()[key] for key in NAMES["bert"].config}
    encoder = _cut(Encoder("bert", config, activation="gelu_tanh"), request)
    made = BertWordPieceTokenizer({word: index for index, word in enumerate(vocabulary)}, lowercase=True)
    preprocess = TextPreprocess(made.to_str(), _longest(encoder), 0, len(vocabulary), INPUTS)
    return _engine(encoder, backbone, preprocess, device)


# --- building
def _cut(encoder: Encoder, request: LoadRequest) -> Encoder:
    """At the depth that was asked for. Raises InputError."""
    full = encoder.config["num_layers"]
    if request.size is not None:
        raise InputError(f"{request.name} reads text: it has no size in pixels")
    if request.depth is None:
        return encoder
    if not 0 <= request.depth <= full:
        raise InputError(f"{request.name} has depths 0 to {full}, not {request.depth}")
    values = {**asdict(encoder), "config": {**encoder.config, "num_layers": request.depth}}
    return Encoder(**values)


def _make(encoder: Encoder) -> Any:
    return FAMILIES[encoder.family].kind(**encoder.config)


def _engine(encoder: Encoder, backbone: Any, preprocess: TextPreprocess, device: str) -> KerasEngine:
    return KerasEngine(_network(encoder, backbone, preprocess), device=device)


def _network(encoder: Encoder, backbone: Any, preprocess: Preprocess) -> Network:
    family = FAMILIES[encoder.family]
    _set_details(backbone, encoder)
    inputs = [backbone.input[name] for name in NATIVE]
    names = [family.embeddings, *(family.layer.format(i) for i in range(encoder.config["num_layers"]))]
    hidden = [backbone.get_layer(name).output for name in names]
    taps = {depth: pooled(h, inputs[1], encoder.pooling) for depth, h in enumerate(hidden)}
    pattern = re.compile(family.layer.format(r"(\d+)"))

    def rule(layer: str) -> str | None:
        match = pattern.fullmatch(layer)
        return f"layer_{match[1]}" if match else None

    return build_network(
        keras.Model(inputs, taps[len(hidden) - 1]),
        inputs=INPUTS,
        rule=rule,
        preprocess=preprocess,
        architecture={"kind": "keras_hub", **asdict(encoder)},
        taps=taps,
        first="embeddings",
    )


def _set_details(backbone: Any, encoder: Encoder) -> None:
    """What KerasHub's arguments cannot say: the exact activation, and layer norm's epsilon."""
    backbone.get_layer("embeddings_layer_norm").epsilon = encoder.eps
    for layer in backbone.transformer_layers:
        layer._feedforward_intermediate_dense.activation = ACTIVATIONS[encoder.activation]
        layer._self_attention_layer_norm.epsilon = encoder.eps
        layer._feedforward_layer_norm.epsilon = encoder.eps


def pooled(hidden: Any, mask: Any, mode: str) -> Any:
    """[N, L, D] and mask [N, L] -> [N, D]: mean or maximum over the tokens, or the first one."""
    if mode == "cls":
        return hidden[:, 0, :]
    weights = ops.expand_dims(ops.cast(mask, hidden.dtype), -1)
    if mode == "max":
        return ops.max(hidden * weights + (weights - 1.0) * 1e9, axis=1)
    return ops.sum(hidden * weights, axis=1) / ops.maximum(ops.sum(weights, axis=1), MASK_SUM)


# --- reading a transformers folder
def _encoder_of(folder: Path, config: Mapping[str, Any]) -> Encoder:
    activation = HF_ACTIVATIONS.get(str(config.get("hidden_act", "gelu")))
    position = config.get("position_embedding_type", "absolute")
    if activation is None or position != "absolute":
        raise InputError(
            f"{folder} has hidden_act={config.get('hidden_act')!r}, position_embedding_type={position!r}: "
            f"KerasHub's BERT has absolute positions and one of {', '.join(HF_ACTIVATIONS)}. Use hf:{folder}"
        )
    values = {
        "vocabulary_size": config["vocab_size"],
        "num_layers": config["num_hidden_layers"],
        "num_heads": config["num_attention_heads"],
        "hidden_dim": config["hidden_size"],
        "intermediate_dim": config["intermediate_size"],
        "dropout": config.get("hidden_dropout_prob", 0.1),
        "max_sequence_length": config["max_position_embeddings"],
        "num_segments": config.get("type_vocab_size", 2),
    }
    eps, pooling = float(config.get("layer_norm_eps", 1e-12)), folders.pooling(folder)
    return Encoder(str(config["model_type"]), values, activation, eps, pooling)


def _longest(encoder: Encoder) -> int:
    return min(LONGEST, int(encoder.config["max_sequence_length"]))


def _preprocess(
    encoder: Encoder, folder: Path | None = None, config: Mapping[str, Any] | None = None
) -> TextPreprocess:
    longest, vocabulary = _longest(encoder), int(encoder.config["vocabulary_size"])
    if folder is None:
        return TextPreprocess(max_length=longest, vocab_size=vocabulary, inputs=INPUTS)
    return TextPreprocess(
        tokenizer=folders.tokenizer_text(folder),
        max_length=min(longest, model_folder.stated_length(folder) or longest),
        pad_id=int((config or {}).get("pad_token_id") or 0),
        vocab_size=vocabulary,
        inputs=INPUTS,
    )
