"""What is tried where nobody names candidates: a few networks that span families and sizes, or all that is here.

The catalogue has thousands. These span four orders of size at most steps of three, and convolution networks of several
kinds beside transformers: which family suits a data set is what is asked. Newer than 2022 where licences are stated.
"""

from __future__ import annotations

from zoo import registry
from zoo.cards import IMAGE_TASK, TEXT_TASK, ModelCard
from zoo.catalogue import list_models
from zoo.choose.whereabouts import whereabouts

# In millions of parameters: what is trained anew is the head, so features count, not the head's size.
IMAGES = (
    "torch:squeezenet1_1",  # 1
    "torch:mobilenet_v3_small",  # 3
    "torch:timm/mobilenetv4_conv_small",  # 4
    "torch:efficientnet_b0",  # 5
    "torch:timm/vit_tiny_patch16_224",  # 6, a transformer
    "torch:timm/repvit_m1_0",  # 7
    "torch:resnet18",  # 12
    "torch:timm/vit_small_patch16_224",  # 22, a transformer
    "torch:resnet50",  # 26
    "torch:convnext_tiny",  # 29
    "tf:mobilenet_v1_0.25_224",  # 0.5
    "tf:mobilenet_v2",  # 4
    "tf:mobilenet_v1",  # 4
    "tf:efficientnet_v2_b0",  # 7
    "hf:microsoft/swin-tiny-patch4-window7-224",  # 28, a transformer
)
TEXTS = (
    "tf:kerashub/bert_tiny_en_uncased",  # 4
    "tf:all-minilm-l6-v2",  # 23
    "hf:all-minilm-l6-v2",  # 23
    "hf:bert",  # 109
    "hf:roberta",  # 125
)
STARTERS = frozenset((*IMAGES, *TEXTS))
OURS = frozenset(name.partition(":")[0] for name in STARTERS)


def defaults(kind: str, *, offline: bool = False) -> list[ModelCard]:
    """Cards, each with the weights to try: STARTERS as far as the catalogue here has them.

    Another framework (a plug-in's) brings all of its own models.  offline: every model of
    the catalogue whose weights are on this machine, the starters first.
    """
    task = TEXT_TASK if kind == "text" else IMAGE_TASK
    found: list[ModelCard] = []
    for framework in registry.frameworks():
        own = list_models(framework=framework, task=task)
        found += [card for card in own if card.id in STARTERS] if framework in OURS else own
        found += [card for card in own if card.id not in STARTERS] if offline else []
    if not offline:
        return found
    here = [card for card in dict.fromkeys(found) if whereabouts(registry.resolve(card.id)).here]
    return sorted(here, key=lambda card: card.id not in STARTERS)
