"""The hf adapter keeps the public contract: an encoder, a decoder and an image classifier from folders."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import pytest
import transformers

from zoo.engine import LoadRequest
from zoo.testing import Case, ModelContract
from zoo_hf.adapter import ADAPTER
from zoo_torch.engine import TorchEngine

CONFIGS = {
    "bert": transformers.BertConfig(
        vocab_size=90,
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=48,
        max_position_embeddings=40,
    ),
    "gpt2": transformers.GPT2Config(
        vocab_size=90, n_embd=24, n_layer=2, n_head=2, n_positions=40, bos_token_id=1, eos_token_id=2
    ),
    "roberta": transformers.RobertaConfig(
        vocab_size=90,
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=48,
        max_position_embeddings=40,
    ),
    "xlnet": transformers.XLNetConfig(
        vocab_size=90,
        d_model=24,
        n_layer=2,
        n_head=2,
        d_inner=48,
        pad_token_id=5,
        bos_token_id=1,
        eos_token_id=2,
    ),
    # Not MobileNet v1: thirteen random units at 32 pixels, each with a BatchNorm that has seen five images, are so
    # badly conditioned that transformers' own float32 is 2e-4 of the spread off its float64 after one step.
    "resnet": transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", num_labels=5
    ),
}
PROCESSOR = {
    "do_resize": True,
    "size": {"shortest_edge": 40},
    "resample": 2,
    "do_center_crop": True,
    "crop_size": {"height": 32, "width": 32},
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
}


@pytest.fixture(autouse=True, scope="module")
def _folders(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("hf")
    for name, config in CONFIGS.items():
        config.save_pretrained(folder / name)
    (folder / "resnet" / "preprocessor_config.json").write_text(json.dumps(PROCESSOR))
    FOLDERS["all"] = folder


FOLDERS: dict[str, Path] = {}


def make(name: str, depth: int | None = None) -> TorchEngine:
    return ADAPTER.load(LoadRequest(str(FOLDERS["all"] / name), weights="none", depth=depth))


def case(name: str) -> Case:
    at_depth = (
        functools.partial(make, name) if name in ("bert", "gpt2", "roberta", "xlnet", "resnet") else None
    )
    return Case(f"hf:{name}", functools.partial(make, name), at_depth=at_depth)


class TestHuggingFace(ModelContract):
    cases = tuple(case(name) for name in CONFIGS)
