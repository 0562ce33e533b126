"""The tokenizer.json that is made of KerasHub's tokenizers gives the ids that they give."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras_hub
import pytest
from tokenizers import BertWordPieceTokenizer, ByteLevelBPETokenizer, Tokenizer

from zoo.errors import InputError
from zoo_tf import hub_tokenizers

pytestmark = pytest.mark.tf
TICKETS = Path(__file__).resolve().parents[2] / "examples" / "tickets.csv"
SIZE = 400
# What tickets hardly have: accents, capitals, other scripts, signs, runs of spaces.
ODD = [
    "Déjà-vu: ÄÖÜ straße?",
    "注文 12 が届かない!",
    "it's  two   spaces, don't",
    "a_b@c.d/e #1 $5.00 (50%)",
    "🙂 ok",
]


def texts() -> list[str]:
    with TICKETS.open(encoding="utf-8", newline="") as file:
        return [*(row["text"] for row in csv.DictReader(file)), *ODD * 5]


def bert(folder: Path, lowercase: bool = True) -> Any:
    trained = BertWordPieceTokenizer(lowercase=lowercase)
    trained.train_from_iterator(texts(), vocab_size=SIZE, show_progress=False)
    words = sorted(trained.get_vocab(), key=trained.get_vocab().__getitem__)
    return keras_hub.tokenizers.BertTokenizer(vocabulary=words, lowercase=lowercase)


def distilbert(folder: Path) -> Any:
    cased = bert(folder, lowercase=False)
    return keras_hub.tokenizers.DistilBertTokenizer(vocabulary=cased.get_vocabulary(), lowercase=False)


def roberta(folder: Path) -> Any:
    trained = ByteLevelBPETokenizer()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    trained.train_from_iterator(texts(), vocab_size=SIZE, special_tokens=special, show_progress=False)
    vocabulary, merges = trained.save_model(str(folder))
    return keras_hub.tokenizers.RobertaTokenizer(vocabulary=vocabulary, merges=merges)


def proto(kind: str = "unigram", **options: Any) -> bytes:
    sentencepiece = pytest.importorskip("sentencepiece")
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts()),
        model_writer=model,
        vocab_size=SIZE,
        model_type=kind,
        minloglevel=2,
        **options,
    )
    return model.getvalue()


def xlm_roberta(folder: Path) -> Any:
    """Its ids are the model's, shifted: fairseq put its own special words before them."""
    return keras_hub.tokenizers.XLMRobertaTokenizer(proto=proto())


def albert(folder: Path) -> Any:
    words = {
        "pad_piece": "<pad>",
        "bos_piece": "[CLS]",
        "eos_piece": "[SEP]",
        "user_defined_symbols": "[MASK]",
    }
    return keras_hub.tokenizers.AlbertTokenizer(proto=proto(pad_id=0, unk_id=1, bos_id=2, eos_id=3, **words))


def saved(native: Any, folder: Path) -> Path:
    """A preset folder; KerasHub reads a tokenizer only beside a backbone's configuration."""
    sizes = {"vocabulary_size": SIZE, "num_layers": 1, "num_heads": 1, "hidden_dim": 8, "intermediate_dim": 8}
    kind = type(native).__name__.removesuffix("Tokenizer")
    if kind == "Albert":
        sizes["embedding_dim"] = 8
    getattr(keras_hub.models, f"{kind}Backbone")(**sizes).save_to_preset(str(folder))
    native.save_to_preset(str(folder))
    return folder


@pytest.mark.parametrize("make", [bert, distilbert, roberta, xlm_roberta, albert])
def test_the_same_ids(make: Callable[[Path], Any], tmp_path: Path) -> None:
    """50 tickets and the odd ones; start and end are around them, and the padding is KerasHub's."""
    native = make(tmp_path)
    text, pad = hub_tokenizers.read(saved(native, tmp_path / "preset"))
    assert text is not None and pad == native.pad_token_id
    made = Tokenizer.from_str(text)
    samples = [*texts()[::13][:50], *ODD]
    assert len(samples) == 50 + len(ODD)
    for sample in samples:
        wanted = [native.start_token_id, *(int(i) for i in native(sample)), native.end_token_id]
        assert made.encode(sample).ids == wanted, (sample, made.encode(sample).tokens)


def test_sentencepiece_that_is_no_unigram_model_is_refused(tmp_path: Path) -> None:
    native = keras_hub.tokenizers.XLMRobertaTokenizer(proto=proto("bpe"))
    with pytest.raises(InputError, match=r"no unigram model.*hf:"):
        hub_tokenizers.read(saved(native, tmp_path / "preset"))
