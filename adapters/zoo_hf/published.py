"""Published checkpoints that are listed: what their config.json on the hub says, so that random weights need no hub.

PUBLISHED: text encoders that have a short name, each with its hub id and its config in full, since transformers'
class defaults are other models at times (`XLNetConfig()` is the large one, `RobertaConfig()` has 512 positions).
STATED: checkpoints listed by their hub id, as the files that a folder of theirs would hold. Their networks are
their class's defaults; a test builds each.
"""

from __future__ import annotations

from typing import Any

from zoo_torch.texts import BERT_BASE, Published

# Radford et al. 2019, the smallest model.
GPT2 = Published(
    "openai-community/gpt2",
    {
        "model_type": "gpt2",
        "vocab_size": 50257,
        "n_positions": 1024,
        "n_embd": 768,
        "n_layer": 12,
        "n_head": 12,
        "activation_function": "gelu_new",
        "resid_pdrop": 0.1,
        "embd_pdrop": 0.1,
        "attn_pdrop": 0.1,
        "layer_norm_epsilon": 1e-5,
        "initializer_range": 0.02,
        "bos_token_id": 50256,
        "eos_token_id": 50256,
    },
)
# Wang et al. 2020 as sentence-transformers trained it.
MINILM = Published(
    "sentence-transformers/all-MiniLM-L6-v2",
    {
        **BERT_BASE.config,
        "hidden_size": 384,
        "num_hidden_layers": 6,
        "intermediate_size": 1536,
    },
)
# Liu et al. 2019, the base model. Positions are counted from the pad token's id on: 512 of 514 can be used.
ROBERTA = Published(
    "FacebookAI/roberta-base",
    {
        **BERT_BASE.config,
        "model_type": "roberta",
        "vocab_size": 50265,
        "max_position_embeddings": 514,
        "type_vocab_size": 1,
        "layer_norm_eps": 1e-5,
        "bos_token_id": 0,
        "pad_token_id": 1,
        "eos_token_id": 2,
    },
)
# Yang et al. 2019, the cased base model.
XLNET = Published(
    "xlnet/xlnet-base-cased",
    {
        "model_type": "xlnet",
        "vocab_size": 32000,
        "d_model": 768,
        "n_layer": 12,
        "n_head": 12,
        "d_inner": 3072,
        "ff_activation": "gelu",
        "untie_r": True,
        "attn_type": "bi",
        "bi_data": False,
        "clamp_len": -1,
        "same_length": False,
        "mem_len": None,
        "reuse_len": None,
        "dropout": 0.1,
        "initializer_range": 0.02,
        "layer_norm_eps": 1e-12,
        "summary_type": "last",
        "summary_use_proj": True,
        "summary_activation": "tanh",
        "summary_last_dropout": 0.1,
        "start_n_top": 5,
        "end_n_top": 5,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 5,
    },
)
PUBLISHED = {
    "bert": BERT_BASE,
    "gpt2": GPT2,
    "roberta": ROBERTA,
    "xlnet": XLNET,
    "all-minilm-l6-v2": MINILM,
}

_IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
_BICUBIC = 3  # PIL's number
# Liu et al. 2022: below 384 pixels the shorter side is resized to size / crop_pct, then cropped.
_CONVNEXT = {
    "image_processor_type": "ConvNextImageProcessor",
    "size": {"shortest_edge": 224},
    "crop_pct": 0.875,
}


def _photographs(model_type: str, **processor: Any) -> dict[str, dict[str, Any]]:
    """The files of a classifier of ImageNet-1k's classes: its config, its processor's settings."""
    return {
        "config.json": {"model_type": model_type, "num_labels": 1000},
        "preprocessor_config.json": processor,
    }


STATED: dict[str, dict[str, dict[str, Any]]] = {
    "distilbert/distilbert-base-uncased-finetuned-sst-2-english": {
        "config.json": {
            "model_type": "distilbert",
            "architectures": ["DistilBertForSequenceClassification"],
            "num_labels": 2,
        }
    },
    "google/vit-base-patch16-224": _photographs("vit", image_processor_type="ViTImageProcessor"),
    "microsoft/resnet-50": _photographs("resnet", **_CONVNEXT, **_IMAGENET, resample=_BICUBIC),
    "facebook/convnext-tiny-224": _photographs("convnext", **_CONVNEXT, **_IMAGENET, resample=_BICUBIC),
    "microsoft/swin-tiny-patch4-window7-224": _photographs(
        "swin", image_processor_type="ViTImageProcessor", **_IMAGENET, resample=_BICUBIC
    ),
}
