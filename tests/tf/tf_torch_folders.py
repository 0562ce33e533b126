"""The torch side of test_tf_hub_two_frameworks.py, run in a process of its own: two frameworks in one abort.

`python tf_torch_folders.py FOLDER NAME...` writes a small random checkpoint for each name, as transformers and timm
write theirs, and beside it reference.npz: a batch, torch's logits, and timm's features. Values are as after training:
fresh ones give nearly the same outputs for all inputs, which would agree whatever is wrong.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

SIDE, CLASSES, IMAGES = 32, 3, 3
_SHARED = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "num_labels": CLASSES,
}
_TEXT = {"vocab_size": 60, "max_position_embeddings": 40, **_SHARED}
_PATCHES = {"image_size": SIDE, "patch_size": 8, **_SHARED}
# Name of transformers' classes -> the configuration's arguments.
TEXTS: dict[str, dict[str, Any]] = {
    "Bert": _TEXT,
    "Albert": {"embedding_size": 16, **_TEXT},
    "Roberta": {"pad_token_id": 1, **_TEXT},
    "XLMRoberta": {"pad_token_id": 1, **_TEXT},
    "DistilBert": {
        "vocab_size": 60,
        "max_position_embeddings": 40,
        "dim": 32,
        "n_layers": 2,
        "n_heads": 4,
        "hidden_dim": 48,
        "num_labels": CLASSES,
    },
    "Esm": {"pad_token_id": 1, "mask_token_id": 32, "position_embedding_type": "rotary", **_TEXT},
}
PICTURES: dict[str, dict[str, Any]] = {
    "ViT": {"hidden_act": "gelu", **_PATCHES},
    "DeiT": _PATCHES,
    "Swin": {
        "image_size": SIDE,
        "patch_size": 4,
        "embed_dim": 16,
        "depths": [2, 1],
        "num_heads": [2, 4],
        "window_size": 4,
        "num_labels": CLASSES,
    },
}


def write(folder: Path, name: str) -> None:
    """One checkpoint and its reference. `name` is a key above, or one of timm's architectures."""
    folder.mkdir()
    if name in TEXTS or name in PICTURES:
        _transformers(folder, name)
    else:
        _timm(folder, *name.split("/"))


def _transformers(folder: Path, name: str) -> None:
    import torch
    import transformers

    reads_text = name in TEXTS
    config = getattr(transformers, f"{name}Config")(**(TEXTS if reads_text else PICTURES)[name])
    kind = "ForSequenceClassification" if reads_text else "ForImageClassification"
    model = getattr(transformers, name + kind)(config)
    _enliven(model)
    model.eval().save_pretrained(folder)
    batch = _texts(config.pad_token_id or 0) if reads_text else {"images": _pixels(SIDE)}
    named = {k: torch.tensor(v) for k, v in batch.items() if k != "token_type_ids" or name == "Bert"}
    if not reads_text:
        named = {"pixel_values": named["images"]}
        half = [0.5] * 3
        stated = {"size": {"height": SIDE, "width": SIDE}, "image_mean": half, "image_std": half}
        (folder / "preprocessor_config.json").write_text(json.dumps(stated))
    with torch.no_grad():
        logits = model(**named).logits.numpy()
    np.savez(folder / "reference.npz", logits=logits, **batch)


def _texts(pad: int) -> dict[str, np.ndarray]:
    """Three texts of different lengths, the shorter ones padded."""
    mask = np.ones((IMAGES, 9), np.int64)
    mask[1, 6:] = mask[2, 3:] = 0
    ids = np.random.default_rng(0).integers(4, 60, mask.shape)
    return {
        "input_ids": np.where(mask == 1, ids, pad),
        "attention_mask": mask,
        "token_type_ids": np.zeros_like(mask),
    }


def _pixels(side: int) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(IMAGES, 3, side, side)).astype(np.float32)


def _timm(folder: Path, name: str, headless: str = "") -> None:
    """`name/headless` is the network without a classifier."""
    import timm
    import torch
    from safetensors.torch import save_file

    side = 224 if name.startswith("vgg") else 64
    model = timm.create_model(name, num_classes=0 if headless else CLASSES)
    batch = torch.tensor(_pixels(side))
    _enliven(model)
    _settle(model, batch)
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, str(folder / "model.safetensors"))
    stated = {"input_size": [3, side, side], "classifier": model.default_cfg["classifier"]}
    config = {
        "architecture": name,
        "num_classes": 0 if headless else CLASSES,
        "num_features": getattr(model, "head_hidden_size", model.num_features),
        "pretrained_cfg": {**stated, "mean": [0.5] * 3, "std": [0.5] * 3},
    }
    (folder / "config.json").write_text(json.dumps(config))
    with torch.no_grad():
        maps = model.forward_features(batch)
        features = maps.mean((2, 3)) if headless else model.forward_head(maps, pre_logits=True)
        found = {"features": features.flatten(1).numpy(), "logits": model(batch).numpy()}
    np.savez(folder / "reference.npz", images=batch.numpy(), **found)


def _enliven(model: Any) -> None:
    """Kernels of gain 2 a unit, scales about 1, biases that are not 0."""
    import torch

    seeded = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, value in model.named_parameters():
            noise = torch.randn(value.shape, generator=seeded)
            if value.ndim > 1:
                fan = value.shape[1:].numel()
                value.copy_(noise * (0.3 if "emb" in name else (2 / fan) ** 0.5))
            else:
                value.copy_(1 + 0.2 * noise if name.endswith("weight") else 0.1 * noise)


def _settle(model: Any, batch: Any) -> None:
    """BatchNorm's statistics are the batch's own: the values neither die out nor explode on their way."""
    import torch

    for module in model.eval().modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.momentum = 1.0
            module.train()
    with torch.no_grad():
        model(batch)
    model.eval()


if __name__ == "__main__":
    for each in sys.argv[2:]:
        write(Path(sys.argv[1]) / each.replace("/", "-"), each)
