"""Texts become ids: cut, padded, masked; a trained tokenizer is small, deterministic and BERT-shaped."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from zoo.cards import TextPreprocess
from zoo.data import prepare, token_lengths, train_tokenizer
from zoo.errors import DataError, InputError

TEXTS = [
    "my parcel never came",
    "the invoice is wrong, please refund",
    "where is my parcel?",
    "refund me NOW",
] * 3
ALL = ("input_ids", "attention_mask", "token_type_ids")


@pytest.fixture(scope="module")
def preprocess() -> TextPreprocess:
    return TextPreprocess(tokenizer=train_tokenizer(TEXTS, vocab_size=120), max_length=6, inputs=ALL)


def test_ids_mask_and_types_are_int64_and_padded_on_the_right(preprocess: TextPreprocess) -> None:
    batch = prepare(["my parcel", "refund"], preprocess)
    assert tuple(batch) == ALL
    assert all(a.dtype == np.int64 and a.shape == (2, 4) for a in batch.values())
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 1, 0]]
    assert batch["input_ids"][1, 0] == 2 and batch["input_ids"][1, 2:].tolist() == [3, 0]


def test_a_long_text_is_cut_and_keeps_its_special_tokens(preprocess: TextPreprocess) -> None:
    batch = prepare(["my parcel never came " * 20], preprocess)
    assert batch["input_ids"].shape == (1, 6)
    assert batch["input_ids"][0, 0] == 2 and batch["input_ids"][0, -1] == 3


def test_only_the_named_inputs_in_their_order(preprocess: TextPreprocess) -> None:
    turned = dataclasses.replace(preprocess, inputs=("attention_mask", "input_ids"))
    assert tuple(prepare(["a"], turned)) == ("attention_mask", "input_ids")
    with pytest.raises(InputError, match=r"unknown inputs .*position_ids.*token_type_ids"):
        prepare(["a"], dataclasses.replace(preprocess, inputs=("input_ids", "position_ids")))


def test_empty_texts_and_no_texts(preprocess: TextPreprocess) -> None:
    assert prepare(["", "my"], preprocess)["input_ids"][0].tolist() == [2, 3, 0]
    assert prepare([], preprocess)["input_ids"].shape == (0, 0)


def test_a_text_without_tokens_is_one_padding_token_that_counts() -> None:
    bare = Tokenizer(models.WordLevel({"a": 0, "b": 1, "<end>": 9}, unk_token="<end>"))
    bare.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    preprocess = TextPreprocess(tokenizer=bare.to_str(), pad_id=9)
    for texts in (["", "a b"], [""]):
        batch = prepare(texts, preprocess)
        assert batch["input_ids"][0].tolist()[:1] == [9]
        assert batch["attention_mask"].sum(axis=1).tolist() == [1, 2][: len(texts)]
    assert token_lengths(["", "a b"], preprocess).tolist() == [1, 2]


def test_token_lengths_equal_the_mask(preprocess: TextPreprocess) -> None:
    texts = ["my", "", "my parcel never came again", "refund me"]
    lengths = token_lengths(texts, preprocess)
    assert lengths.dtype == np.int64
    assert lengths.tolist() == prepare(texts, preprocess)["attention_mask"].sum(axis=1).tolist()


def test_half_an_emoji_does_not_stop_the_batch(preprocess: TextPreprocess) -> None:
    assert prepare(["my parcel \ud83d"], preprocess)["input_ids"].shape[0] == 1


def test_without_a_tokenizer_the_error_says_where_one_comes_from() -> None:
    with pytest.raises(DataError, match=r"no tokenizer yet: `fit` trains one.*dataclasses\.replace"):
        prepare(["hello"], TextPreprocess())


def test_what_is_no_text_is_named(preprocess: TextPreprocess) -> None:
    with pytest.raises(DataError, match="input 1 is a int, and this model takes texts"):
        prepare(["a", 3], preprocess)  # type: ignore[list-item]


def test_a_broken_tokenizer_is_no_rust_traceback() -> None:
    with pytest.raises(DataError, match=r"tokenizer cannot be used.*tokenizer\.json"):
        prepare(["a"], TextPreprocess(tokenizer='{"version": "1.0"}'))


# --- training one
def test_trained_tokenizer_is_a_lowercased_bert() -> None:
    tokenizer = Tokenizer.from_str(train_tokenizer(TEXTS, vocab_size=120))
    assert [tokenizer.token_to_id(t) for t in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")] == [
        0,
        1,
        2,
        3,
        4,
    ]
    assert tokenizer.encode("MY PARCEL").tokens == ["[CLS]", "my", "parcel", "[SEP]"]
    assert tokenizer.encode("[MASK]").ids == [2, 4, 3]
    # '#' was in no text; were "##e" a special token, as the trainer had it, this would be one token.
    assert tokenizer.encode("##e").tokens == ["[CLS]", "[UNK]", "[UNK]", "e", "[SEP]"]
    pair = tokenizer.encode("my", "parcel")
    assert pair.type_ids == [0, 0, 0, 1, 1]
    assert tokenizer.decode(tokenizer.encode("my refund").ids) == "my refund"


@pytest.mark.parametrize("size", [16, 40, 120])
def test_vocabulary_never_exceeds_what_was_asked_for(size: int) -> None:
    texts = [*TEXTS, "żółć наука 中文字符 ελληνικά 日本語"]
    tokenizer = Tokenizer.from_str(train_tokenizer(texts, vocab_size=size))
    assert tokenizer.get_vocab_size() <= size
    assert max(tokenizer.get_vocab().values()) < size


def test_same_texts_same_tokenizer_in_every_process() -> None:
    code = (
        "import sys, json, hashlib; from zoo.data import train_tokenizer;"
        "t = train_tokenizer(json.load(sys.stdin), vocab_size=120); print(hashlib.sha256(t.encode()).hexdigest())"
    )
    runs = {
        subprocess.run(
            [sys.executable, "-c", code], input=json.dumps(TEXTS), capture_output=True, text=True, check=True
        ).stdout
        for _ in range(3)
    }
    assert len(runs) == 1


def test_nothing_to_train_on_is_an_error() -> None:
    with pytest.raises(DataError, match="the texts hold no word"):
        train_tokenizer(["", "  "], vocab_size=100)
    with pytest.raises(InputError, match="vocab_size 3"):
        train_tokenizer(["a"], vocab_size=3)
