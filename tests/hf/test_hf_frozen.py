"""Cached features give the head of the frozen network: transformers' BERT, with dropout and padded texts."""

from __future__ import annotations

from pathlib import Path

import frozen_training
import pytest
import transformers
from hf_folders import add_tokenizer

import zoo


@pytest.mark.parametrize("optimizer", list(frozen_training.RECIPES))
def test_cached_is_uncached(optimizer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = transformers.BertConfig(
        vocab_size=90, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        hidden_dropout_prob=0.3, attention_probs_dropout_prob=0.3,
    )  # fmt: skip
    transformers.set_seed(0)
    transformers.BertModel(config).save_pretrained(tmp_path / "bert")
    add_tokenizer(tmp_path / "bert")

    def make() -> zoo.Backbone:
        return zoo.get(f"hf:{tmp_path / 'bert'}", num_classes=2)

    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    data, held, recipe = (
        frozen_training.texts(26),
        frozen_training.texts(8),
        frozen_training.RECIPES[optimizer],
    )
    print(
        f"bert {optimizer}: {frozen_training.check_the_same(make, data, held, recipe, tmp_path / 'cache'):.1e}"
    )
