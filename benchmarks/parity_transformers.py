"""The parity sweep over transformers: every family of text and of image classifiers, at a tiny configuration.

Nobody publishes tiny checkpoints of all of them, so a config is shrunk here by what its fields are called, and
written into a folder as save_pretrained would: the network is then random, and loaded as any folder is.

EXCLUDED names what is not tried, each with its reason: it reads something else than a text or an image of one
size, or asks for a third-party package that transformers does not bring. The adapter refuses these in words.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FRAMEWORK = "hf"
# item -> what cannot work, and why it lies upstream.
CODE = "https://github.com/huggingface/transformers/blob/main/src/transformers/models/"
UPSTREAM: dict[str, str] = {
    "text/longformer": (
        "chunks of attention are counted in Python, so a trace holds for one length; withdrawn from export by "
        "its makers: https://github.com/huggingface/optimum/issues/776"
    ),
    "text/funnel": (
        "relative positions of pooled texts are counted in Python, so a trace holds for one length: "
        "https://github.com/huggingface/optimum/pull/1231"
    ),
    "text/reformer": (
        "its layers run inside an autograd.Function of its own, which no exporter follows: "
        "https://github.com/pytorch/pytorch/issues/61813"
    ),
}
# item -> why it is no plain text or image classifier that can be tried here: left out of items().
EXCLUDED: dict[str, str] = {
    "text/layoutlmv2": f"reads boxes of a page, and asks for detectron2, a third-party package: {CODE}layoutlmv2",
    "image/dinat": f"asks for natten, a third-party package compiled for each torch: {CODE}dinat",
    "text/canine": f"reads code points by Python code; no tokenizer.json can say it: {CODE}canine",
    "text/perceiver": f"reads bytes by Python code; no tokenizer.json can say it: {CODE}perceiver",
    "image/perceiver": f"queries decode the pixels; no Linear on features: {CODE}perceiver",
    "image/imagegpt": f"takes each pixel as one of 512 colours, not photographs: {CODE}imagegpt",
    "image/shieldgemma2": f"a language model with images that answers in words: {CODE}shieldgemma2",
    "image/siglip2": f"takes lists of patches of any shape, not images of one size: {CODE}siglip2",
    "image/timm_wrapper": "a shell around timm, which the source timm covers in full",
}
TEXT, IMAGE = "text", "image"
LABELS, LAYERS, WIDTH, HEADS, SIZE = 3, 2, 32, 4, 64

# What a field is called says what it holds; the first that matches.
SMALL: dict[str, Any] = {
    "hidden_size": WIDTH,
    "d_model": WIDTH,
    "n_embd": WIDTH,
    "emb_dim": WIDTH,
    "embedding_size": WIDTH,
    "dim": WIDTH,
    "num_hidden_layers": LAYERS,
    "num_layers": LAYERS,
    "n_layer": LAYERS,
    "n_layers": LAYERS,
    "encoder_layers": LAYERS,
    "decoder_layers": LAYERS,
    "num_decoder_layers": LAYERS,
    "num_attention_heads": HEADS,
    "num_heads": HEADS,
    "n_head": HEADS,
    "n_heads": HEADS,
    "encoder_attention_heads": HEADS,
    "decoder_attention_heads": HEADS,
    "num_key_value_heads": HEADS,
    "head_dim": WIDTH // HEADS,
    "d_kv": WIDTH // HEADS,
    "intermediate_size": 48,
    "ffn_dim": 48,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "d_ff": 48,
    "n_inner": 48,
    "d_inner": 48,
    "moe_intermediate_size": 48,
    "vocab_size": 120,
    "max_position_embeddings": 64,
    "n_positions": 64,
    "seq_length": 64,
    "num_experts": 4,
    "num_local_experts": 4,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
}
# What some families need beside: sizes that hang together, or that None stands for.
LATENT = {
    "head_dim": 4,
    "qk_rope_head_dim": 4,
    "qk_nope_head_dim": 4,
    "v_head_dim": 8,
    "n_group": 1,
    "topk_group": 1,
}
# At the usual 0.02 a deep network's outputs are float32's rounding: parity would prove nothing.
LOUD = {"initializer_range": 0.1}
EXTRA: dict[str, dict[str, Any]] = {
    "text/axk1": LATENT,
    "text/cohere_compass_text": {
        "rope_parameters": {
            "full_attention": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 1, 1]}
        }
    },
    "text/deepseek_v2": {**LATENT, "num_experts_per_tok": 2},
    "text/deepseek_v3": LATENT,
    "text/mistral4": LATENT,
    "text/esm": {"vocab_size": 33, "pad_token_id": 1, "mask_token_id": 32},
    "text/gptj": {"rotary_dim": 8},
    "text/hunyuan_v1_dense": {"head_dim": 8},
    "text/hunyuan_v1_moe": {"head_dim": 8},
    "text/ministral": {"head_dim": 8},
    "text/nemotron": {"num_key_value_heads": HEADS},
    "text/layoutlmv3": {"coordinate_size": 5, "shape_size": 6},
    "text/lilt": {"hidden_size": 48},
    "text/xmod": {"default_language": "en_XX"},
    "text/t5": {"decoder_start_token_id": 0},
    "text/zamba": {"num_hidden_layers": 4, "layers_block_type": ["linear_attention", "hybrid"] * 2},
    "text/zamba2": {"layers_block_type": ["linear_attention", "hybrid"], "n_mamba_heads": 8},
    "text/reformer": {
        "axial_pos_embds_dim": (16, 16),
        "axial_pos_shape": (8, 8),
        "attn_layers": ["local", "local"],
        "local_attn_chunk_length": 8,
        "num_attention_heads": HEADS,
        "attention_head_size": 8,
    },
    "image/beit": {"use_mean_pooling": True},
    "image/efficientnet": {"width_coefficient": 1.0, "depth_coefficient": 1.0, "hidden_dim": 1280, **LOUD},
    "image/swin": {"window_size": 2},
    "image/donut-swin": {"window_size": 2},
    "image/mobilenet_v1": {"initializer_range": 0.4},
    "image/mobilenet_v2": {"initializer_range": 0.2},
    "image/mobilevitv2": LOUD,
    "image/pp_lcnet": LOUD,
    "image/swiftformer": LOUD,
    "image/hgnet_v2": {**LOUD, "stage_num_blocks": [1, 1, 1, 1], "stage_numb_of_layers": [1, 1, 1, 1]},
    "image/hiera": {"depths": [1, 1, 1, 1], "embed_dim": 16, "image_size": [64, 64]},
    "image/levit": {
        **LOUD,
        "hidden_sizes": [16, 32, 48],
        "num_attention_heads": [1, 2, 3],
        "depths": [2, 2, 2],
        "down_ops": [["Subsample", 16, 1, 4, 2, 2], ["Subsample", 16, 2, 4, 2, 2]],
    },
    "image/regnet": {"hidden_sizes": [16, 32, 32, 48], "groups_width": 8},
    "image/textnet": {"image_size": [64, 64]},
    "image/mobilevit": {
        **LOUD,
        "hidden_sizes": [32, 48, 64],
        "neck_hidden_sizes": [8, 16, 16, 24, 32, 40, 64],
    },
    "image/dinov2": {"patch_size": 16},
    "text/opt": {"word_embed_proj_dim": WIDTH},
    "text/mobilebert": {"intra_bottleneck_size": WIDTH, "true_hidden_size": WIDTH},
    "text/longformer": {"attention_window": [4, 4]},
    "text/gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "text/bigbird_pegasus": {"attention_type": "original_full"},
    "text/big_bird": {"attention_type": "original_full"},
}


def items(every: bool) -> list[str]:
    """Each model type of the two mappings, in their order, without those in EXCLUDED."""
    import transformers

    texts = transformers.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING
    images = transformers.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING
    found = [f"{TEXT}/{config.model_type}" for config in texts]
    found += [f"{IMAGE}/{config.model_type}" for config in images]
    return [item for item in dict.fromkeys(found) if item not in EXCLUDED]


def prepare(item: str, folder: Path) -> tuple[str, dict[str, Any]]:
    """Write a tiny folder; random weights."""
    import transformers

    task, _, kind = item.partition("/")
    mapping = (
        transformers.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING
        if task == TEXT
        else transformers.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING
    )
    config = shrunk(transformers.CONFIG_MAPPING[kind], EXTRA.get(item, {}))
    config.num_labels = LABELS
    classes = mapping[type(config)]
    first = classes[0] if isinstance(classes, tuple) else classes
    config.architectures = [first.__name__]
    made = folder / kind
    config.save_pretrained(made)
    if task == IMAGE:
        (made / "preprocessor_config.json").write_text(json.dumps(PROCESSOR))
    return f"hf:{made}", {"weights": "none"}


PROCESSOR = {
    "do_resize": True,
    "do_center_crop": True,
    "crop_size": {"height": SIZE, "width": SIZE},
    "size": {"height": SIZE, "width": SIZE},
    "resample": 3,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
}


def shrunk(kind: Any, extra: Mapping[str, Any]) -> Any:
    """A config of the class `kind` with every size that it states made small."""
    from transformers import PreTrainedConfig

    whole = kind()
    values: dict[str, Any] = {}
    for key, value in whole.to_dict().items():
        part = getattr(whole, key, None)
        if isinstance(part, PreTrainedConfig):
            values[key] = shrunk(type(part), {}).to_dict()
        elif key == "depths" and isinstance(value, list):
            values[key] = [1] * len(value)
        elif key == "image_size" and isinstance(value, int):
            values[key] = SIZE
        elif key in SMALL and isinstance(value, int) and not isinstance(value, bool):
            values[key] = SMALL[key]
        elif key.endswith("_token_id") and isinstance(value, int) and value >= SMALL["vocab_size"]:
            values[key] = 2
    return kind(**{**values, **extra})
