"""From texts to token ids, by Hugging Face `tokenizers` alone; and a small WordPiece for models without one."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
from tokenizers import (
    Encoding,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from zoo.cards import TextPreprocess
from zoo.data.dataset import Input
from zoo.engine import Array, Batch
from zoo.errors import DataError, InputError

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
SMALLEST_VOCABULARY = 16


@functools.lru_cache(maxsize=8)
def _tokenizer(text: str, max_length: int) -> Tokenizer:
    """The tokenizer set to cut at `max_length`, special tokens kept; padding is done here, not by it."""
    try:
        tokenizer = Tokenizer.from_str(text)
        tokenizer.no_padding()
        tokenizer.enable_truncation(max_length)
    except Exception as error:  # the Rust side raises nothing narrower
        raise DataError(
            f"the model's tokenizer cannot be used with at most {max_length} tokens: {error}. "
            "Give the text of a tokenizer.json as Hugging Face `tokenizers` writes it."
        ) from error
    return tokenizer


def _encode(texts: Sequence[Input], preprocess: TextPreprocess) -> list[Encoding]:
    if preprocess.tokenizer is None:
        raise DataError(
            "this text model has no tokenizer yet: `fit` trains one on its texts. To go without training, "
            "set one: dataclasses.replace(model.preprocess, tokenizer=TEXT OF A tokenizer.json)."
        )
    for i, text in enumerate(texts):
        if not isinstance(text, str):
            raise DataError(f"input {i} is a {type(text).__name__}, and this model takes texts: give strings")
    tokenizer = _tokenizer(preprocess.tokenizer, preprocess.max_length)
    # A lone surrogate (half an emoji, cut by somebody's export) has no UTF-8 form and no token.
    clean = [str(text).encode("utf-8", "replace").decode("utf-8") for text in texts]
    encoded: list[Encoding] = tokenizer.encode_batch_fast(clean)
    return encoded


def prepare_texts(texts: Sequence[Input], preprocess: TextPreprocess) -> Batch:
    """The arrays named by `preprocess.inputs`, int64 [N, L], L the longest text of the batch.

    A text without any token (GPT-2 on "") is one padding token that counts: a network cannot read nothing.
    Raises DataError without a tokenizer or for inputs that are no strings, InputError for unknown arrays.
    """
    encoded = _encode(texts, preprocess)
    length = max((len(e.ids) for e in encoded), default=0) or min(1, len(encoded))
    shape = (len(encoded), length)
    arrays = {
        "input_ids": np.full(shape, preprocess.pad_id, dtype=np.int64),
        "attention_mask": np.zeros(shape, dtype=np.int64),
        "token_type_ids": np.zeros(shape, dtype=np.int64),
    }
    for i, e in enumerate(encoded):
        n = len(e.ids)
        arrays["input_ids"][i, :n] = e.ids
        arrays["token_type_ids"][i, :n] = e.type_ids
        arrays["attention_mask"][i, : max(n, 1)] = 1
    if unknown := [name for name in preprocess.inputs if name not in arrays]:
        raise InputError(f"a text preprocess with unknown inputs {unknown}: there are {', '.join(arrays)}")
    return {name: arrays[name] for name in preprocess.inputs}


def token_lengths(texts: Sequence[Input], preprocess: TextPreprocess) -> Array:
    """int64 [N]: tokens of each text as the network gets it, special tokens counted, cut at max_length."""
    return np.array([max(len(e.ids), 1) for e in _encode(texts, preprocess)], dtype=np.int64)


# --- a tokenizer of one's own
def train_tokenizer(texts: Iterable[str], *, vocab_size: int) -> str:
    """tokenizer.json text of a lowercased WordPiece with at most `vocab_size` entries, trained on `texts`.

    BERT's special tokens ([PAD] is 0) and [CLS] text [SEP]. The same texts give the same file in every
    process: no randomness is in it. Raises InputError for a vocabulary under 16, DataError
    where the texts hold no word.
    """
    if vocab_size < SMALLEST_VOCABULARY:
        raise InputError(f"vocab_size {vocab_size}: a tokenizer needs at least {SMALLEST_VOCABULARY} entries")
    texts = list(texts)
    vocabulary = _train_vocabulary(texts, vocab_size)
    tokenizer = _wordpiece(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(name, SPECIAL_TOKENS.index(name)) for name in ("[CLS]", "[SEP]")],
    )
    tokenizer.decoder = decoders.WordPiece()
    text: str = tokenizer.to_str()
    return text


def _wordpiece(model: models.WordPiece) -> Tokenizer:
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer


def _train_vocabulary(texts: Sequence[str], vocab_size: int) -> dict[str, int]:
    """Token -> id. Every single character is fixed beforehand, in a fixed order: left to itself the trainer
    numbers them in the order of a randomly seeded hash map and breaks ties between merges by those numbers,
    so that two runs on the same texts give two vocabularies.
    """
    normalizer = normalizers.BertNormalizer(lowercase=True)
    counts = Counter(c for text in texts for c in normalizer.normalize_str(text) if not c.isspace())
    if not counts:
        raise DataError("no tokenizer can be trained: the texts hold no word. Give texts that are not empty.")
    room = (vocab_size - len(SPECIAL_TOKENS)) // 4  # each character counts twice; half is left for words
    alphabet = sorted(sorted(counts, key=lambda c: (-counts[c], c))[:room])
    fixed = [*SPECIAL_TOKENS, *(f"##{c}" for c in alphabet)]
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size,
        special_tokens=fixed,
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        show_progress=False,
    )
    # A scratch tokenizer: the fixed characters must not become "special" in the one that is kept.
    scratch = _wordpiece(models.WordPiece(unk_token="[UNK]"))
    scratch.train_from_iterator(texts, trainer)
    vocabulary: dict[str, int] = scratch.get_vocab()
    return vocabulary
