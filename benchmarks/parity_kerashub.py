"""KerasHub in the parity sweep: every family with a classifier, at a tiny configuration in a preset folder.

The folder is written by KerasHub's own saver and read through the zoo as any other. Values are as after training:
KerasHub's fresh ones are so small that a network's outputs hardly differ from input to input.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

FRAMEWORK = "tf"
UPSTREAM: dict[str, str] = {}

_TEXT = {"vocabulary_size": 60, "num_layers": 2, "hidden_dim": 16, "intermediate_dim": 32}
_HEADS = {**_TEXT, "num_heads": 2, "max_sequence_length": 24}
_PATCHES = {"image_shape": (32, 32, 3), "patch_size": 8, "num_layers": 2, "num_heads": 2, "hidden_dim": 16}
TINY: dict[str, dict[str, Any]] = {
    "Albert": {**_HEADS, "embedding_dim": 8},
    "Bert": _HEADS,
    "DebertaV3": {**_HEADS, "bucket_size": 8},
    "DistilBert": _HEADS,
    "ESM": {**_TEXT, "num_heads": 2, "max_sequence_length": 24},
    "FNet": {**_TEXT, "max_sequence_length": 24},
    "Roberta": _HEADS,
    "RoformerV2": {**_TEXT, "num_heads": 2, "head_size": 8},
    "XLMRoberta": _HEADS,
    "CSPNet": {
        "stem_filters": 8,
        "stem_kernel_size": 3,
        "stem_strides": 1,
        "stackwise_depth": [1, 2],
        "stackwise_strides": [2, 2],
        "stackwise_num_filters": [16, 32],
        "block_type": "dark_block",
        "stage_type": "csp",
        "bottle_ratio": (0.5, 1.0),
        "block_ratio": (1.0, 0.5),
        "expand_ratio": (2.0, 1.0),
    },
    "DeiT": {**_PATCHES, "intermediate_dim": 32},
    "DenseNet": {"stackwise_num_repeats": [1, 2, 1], "compression_ratio": 0.5, "growth_rate": 4},
    "EfficientNet": {
        "stackwise_width_coefficients": [1.0] * 3,
        "stackwise_depth_coefficients": [1.0] * 3,
        "stackwise_kernel_sizes": [3, 3, 5],
        "stackwise_num_repeats": [1, 1, 2],
        "stackwise_input_filters": [16, 16, 24],
        "stackwise_output_filters": [16, 24, 32],
        "stackwise_expansion_ratios": [1, 4, 4],
        "stackwise_squeeze_and_excite_ratios": [0.25, 0.25, 0.25],
        "stackwise_strides": [1, 2, 2],
        "stackwise_block_types": ["v1", "v1", "v1"],
        "min_depth": 8,
    },
    "HGNetV2": {
        "depths": [1, 2],
        "embedding_size": 8,
        "hidden_sizes": [16, 32],
        "stem_channels": [3, 8, 8],
        "hidden_act": "relu",
        "use_learnable_affine_block": False,
        "stackwise_stage_filters": [(8, 8, 16, 1, 1, 3), (16, 8, 32, 2, 1, 3)],
        "apply_downsample": [False, True],
        "use_lightweight_conv_block": [False, True],
    },
    "MiT": {
        "layerwise_depths": [1, 1],
        "image_shape": (32, 32, 3),
        "hidden_dims": [8, 16],
        "num_layers": 2,
        "layerwise_num_heads": [1, 2],
        "layerwise_sr_ratios": [4, 1],
        "max_drop_path_rate": 0.1,
        "layerwise_patch_sizes": [7, 3],
        "layerwise_strides": [4, 2],
    },
    "MobileNet": {
        "stackwise_expansion": [[16, 24], [24, 48]],
        "stackwise_num_blocks": [2, 2],
        "stackwise_num_filters": [[8, 8], [16, 16]],
        "stackwise_kernel_size": [[3, 3], [5, 5]],
        "stackwise_num_strides": [[2, 1], [2, 1]],
        "stackwise_se_ratio": [[None, None], [0.25, 0.25]],
        "stackwise_activation": [["relu", "relu"], ["hard_swish", "hard_swish"]],
        "stackwise_padding": [[1, 1], [2, 2]],
        "output_num_filters": 32,
        "input_num_filters": 8,
        "depthwise_filters": 8,
        "depthwise_stride": 2,
        "depthwise_residual": False,
        "squeeze_and_excite": 0.5,
        "last_layer_filter": 32,
    },
    "MobileNetV5": {
        "stackwise_block_types": [["er"], ["uir", "uir"], ["mqa", "mqa"]],
        "stackwise_num_blocks": [1, 2, 2],
        "stackwise_num_filters": [[8], [16, 16], [16, 16]],
        "stackwise_strides": [[2], [2, 1], [1, 1]],
        "stackwise_act_layers": [["relu"], ["relu", "relu"], ["relu", "relu"]],
        "stackwise_exp_ratios": [[4.0], [4.0, 4.0], [1.0, 1.0]],
        "stackwise_se_ratios": [[0.0], [0.0, 0.0], [0.0, 0.0]],
        "stackwise_dw_kernel_sizes": [[0], [5, 5], [3, 3]],
        "stackwise_dw_start_kernel_sizes": [[0], [3, 0], [0, 0]],
        "stackwise_dw_end_kernel_sizes": [[0], [0, 0], [0, 0]],
        "stackwise_exp_kernel_sizes": [[3], [0, 0], [0, 0]],
        "stackwise_pw_kernel_sizes": [[1], [0, 0], [0, 0]],
        "stackwise_num_heads": [[0], [0, 0], [2, 2]],
        "stackwise_key_dims": [[0], [0, 0], [8, 8]],
        "stackwise_value_dims": [[0], [0, 0], [8, 8]],
        "stackwise_kv_strides": [[0], [0, 0], [1, 1]],
        "stackwise_use_cpe": [[False], [False, False], [False, False]],
        "stem_size": 8,
        "num_features": 32,
        "msfa_output_resolution": 4,
        "image_shape": (64, 64, 3),
    },
    "ResNet": {
        "input_conv_filters": [64],
        "input_conv_kernel_sizes": [7],
        "stackwise_num_filters": [64, 16],
        "stackwise_num_blocks": [1, 2],
        "stackwise_num_strides": [1, 2],
        "block_type": "bottleneck_block",
        "use_pre_activation": False,
    },
    "SwinTransformer": {
        "image_shape": (32, 32, 3),
        "embed_dim": 8,
        "depths": [1, 2],
        "num_heads": [1, 2],
        "window_size": 4,
    },
    "VGG": {"stackwise_num_repeats": [1, 1, 2], "stackwise_num_filters": [4, 8, 8]},
    "ViT": {**_PATCHES, "mlp_dim": 32},
    "Xception": {
        "stackwise_conv_filters": [[8, 8], [16, 16], [16, 16]],
        "stackwise_pooling": [True, True, False],
    },
}
TASK: dict[str, dict[str, Any]] = {"HGNetV2": {"head_filters": 16}, "VGG": {"pooling_hidden_dim": 16}}
SIZE = 32
# VGG's head is a 7 x 7 convolution on a map 32 times smaller; Xception's convolutions leave nothing of 32 pixels.
SIZES = {"VGG": 224, "MobileNetV5": 64, "Xception": 71, "HGNetV2": 64}


def items(every: bool) -> list[str]:
    """KerasHub's families with an ImageClassifier or TextClassifier; a new one, without a configuration, fails."""
    from zoo_tf.hub_families import families

    return sorted(families())


def prepare(item: str, folder: Path) -> tuple[str, dict[str, Any]]:
    """A preset folder of the tiny classifier."""
    return f"tf:{write(item, folder / 'preset')}", {}


def write(family: str, folder: Path, *, classes: int = 3, head: bool = True, seed: int = 0) -> Path:
    """A preset folder by KerasHub's own saver: weights, head or none, image converter; no tokenizer."""
    from zoo_tf.hub_families import families
    from zoo_tf.network import seeded

    entry = families()[family]
    with seeded(seed):
        model = backbone = entry.backbone(**TINY[family])
        if head:
            options = TASK.get(family, {})
            model = entry.classifier(backbone=backbone, preprocessor=None, num_classes=classes, **options)
    enliven(model, seed)
    model.save_to_preset(str(folder))
    if not entry.reads_text:
        side = SIZES.get(family, SIZE)
        converter = entry.classifier.preprocessor_cls.image_converter_cls
        made = converter(image_size=(side, side), scale=[1 / 127.5] * 3, offset=[-1.0] * 3)
        made.save_to_preset(str(folder))
    return folder


def enliven(model: Any, seed: int) -> None:
    """Weights of unit gain, biases and statistics that are not 0 and 1."""
    rng = np.random.default_rng(seed)
    for variable in model.trainable_variables:
        shape = tuple(variable.shape)
        if len(shape) > 1:
            fan = int(np.prod(shape[:-1])) if "embedding" not in variable.path else 4
            variable.assign(rng.normal(0, 1.2 / np.sqrt(fan), shape))
        elif variable.name in ("gamma", "scale"):
            variable.assign(rng.uniform(0.7, 1.3, shape))
        else:
            variable.assign(rng.normal(0.5, 0.2, shape))  # above 0 on the whole: no ReLU dies altogether
    for variable in model.non_trainable_variables:
        if variable.name in ("moving_mean", "moving_variance"):
            variable.assign(rng.uniform(0.3, 0.7, variable.shape))
