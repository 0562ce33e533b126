"""KerasHub's families of classifiers as data: which layers are the repeating units, and how outputs are pooled.

Everything else about a family is found in its own classes: the inputs in the backbone's, the way from its output
to the features in its ImageClassifier's or TextClassifier's graph.
"""

from __future__ import annotations

import functools
import inspect
import re
from dataclasses import dataclass
from typing import Any

import keras_hub

REGISTERED = "keras_hub>"


@dataclass(frozen=True)
class Family:
    """One backbone class of KerasHub's with a classifier.

    kind: its name without "Backbone".  task: the classifier's class name.

    unit: pattern of the names of the layers that repeat. With a group, the number in it is a stage's, whose end
    is the last of its layers (convolution nets; features of a cut are the average of that map). Without one,
    each layer, and each call of a shared layer, is a unit: a transformer's, whose cuts go on to the final norm
    and pooling. "": the stages are where the map's height falls.

    start: pattern of the last layer before the first unit of a transformer: depth 0.
    tokens: how a backbone without a head is pooled: "mean" (masked, for text), or "first" token.
    """

    kind: str
    task: str
    unit: str = ""
    start: str = ""
    tokens: str = "mean"

    @property
    def backbone(self) -> Any:
        """KerasHub's backbone class."""
        return getattr(keras_hub.models, f"{self.kind}Backbone")

    @property
    def classifier(self) -> Any:
        """KerasHub's classifier class."""
        return getattr(keras_hub.models, self.task)

    @property
    def reads_text(self) -> bool:
        """Text, or images."""
        return issubclass(self.classifier, keras_hub.models.TextClassifier)

    @property
    def layered(self) -> bool:
        """Whether the units are a transformer's layers, not a convolution net's stages."""
        return bool(self.unit) and re.compile(self.unit).groups == 0


_LAYER = r"transformer_layer_\d+"
_TEXTS = (
    Family("Albert", "AlbertTextClassifier", r"group_\d+_inner_layer_\d+", "embedding_projection"),
    Family("Bert", "BertTextClassifier", _LAYER, "embeddings_dropout"),
    Family(
        "DebertaV3",
        "DebertaV3TextClassifier",
        r"disentangled_attention_encoder_layer_\d+",
        "embeddings_dropout|rel_embedding",
    ),
    Family("DistilBert", "DistilBertTextClassifier", _LAYER, "embeddings_dropout"),
    Family("ESM", "ESMProteinClassifier", _LAYER, "token_embedding|embeddings_add|emb_layer_norm"),
    Family("FNet", "FNetTextClassifier", r"f_net_layer_\d+", "embeddings_dropout"),
    Family("Roberta", "RobertaTextClassifier", _LAYER, "embeddings_dropout"),
    Family("RoformerV2", "RoformerV2TextClassifier", _LAYER, "embeddings_dropout"),
    Family("XLMRoberta", "XLMRobertaTextClassifier", _LAYER, "embeddings_dropout"),
)
_IMAGES = (
    Family("CSPNet", "CSPNetImageClassifier", r"stage_(\d+)_.*"),
    Family("DeiT", "DeiTImageClassifier", r"transformer_block_\d+", "deit_patching_and_embedding", "first"),
    Family("DenseNet", "DenseNetImageClassifier", r"stack(\d+)_.*"),
    Family("EfficientNet", "EfficientNetImageClassifier", r"block(\d+)[a-z]_.*"),
    Family("HGNetV2", "HGNetV2ImageClassifier", r"(?:.*_)?encoder_stage_(\d+)"),
    Family("MiT", "MiTImageClassifier", r"(?:patch_and_embed|hierarchical_encoder|output_level)_(\d+).*"),
    Family("MobileNet", "MobileNetImageClassifier", r"block_(\d+)_\d+"),
    Family("MobileNetV5", "MobileNetV5ImageClassifier"),  # its layers have no names
    Family("ResNet", "ResNetImageClassifier", r"stack(\d+)_.*"),
    Family("SwinTransformer", "SwinTransformerImageClassifier", r"stage_(\d+)"),
    Family("VGG", "VGGImageClassifier", r"block(\d+)_.*"),
    Family("ViT", "ViTImageClassifier", r"transformer_block_\d+", "vit_patching_and_embedding", "first"),
    Family("Xception", "XceptionImageClassifier", r"block(\d+)_.*"),
)


@functools.cache
def families() -> dict[str, Family]:
    """By kind; a classifier that KerasHub has and the table has not is there too, without units."""
    found = {family.kind: family for family in (*_TEXTS, *_IMAGES)}
    for base in (keras_hub.models.ImageClassifier, keras_hub.models.TextClassifier):
        for name in sorted(dir(keras_hub.models)):
            task = getattr(keras_hub.models, name)
            if inspect.isclass(task) and issubclass(task, base) and task.backbone_cls is not None:
                kind = task.backbone_cls.__name__.removesuffix("Backbone")
                found.setdefault(kind, Family(kind, name))
    return found


def family_of(backbone_class: type) -> Family | None:
    """The family of a backbone class, or None where KerasHub has no classifier on it."""
    return families().get(backbone_class.__name__.removesuffix("Backbone"))
