"""KerasHub's tokenizers as the text of a tokenizer.json, which every framework of the zoo and its ONNX files read.

WordPiece, byte-level BPE and SentencePiece's unigram models can be written so; a test compares the ids with those
of KerasHub's own tokenizer. SentencePiece's other models are refused by name.

One difference is left: KerasHub's uncased WordPiece also folds compatibility characters, within each word (NFKC:
an ellipsis becomes three dots, a full-width letter a plain one). Of its folding only what happens in ordinary
words is done here: the sharp s and the final sigma.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras_hub
from tokenizers import (
    AddedToken,
    BertWordPieceTokenizer,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
)

from zoo.errors import InputError, WeightsCorruptError
from zoo_tf.start import captured_stderr

UNIGRAM = 1  # sentencepiece_model.proto, TrainerSpec.ModelType


def read(folder: Path) -> tuple[str | None, int]:
    """(tokenizer.json's text or None, id of the padding) of a KerasHub preset folder.

    Raises InputError for a kind that cannot be written, WeightsCorruptError for damaged assets.
    """
    if not (folder / "assets" / "tokenizer").is_dir():
        return None, 0
    try:
        with captured_stderr():
            found = keras_hub.tokenizers.Tokenizer.from_preset(str(folder))
    except (ValueError, KeyError, OSError, RuntimeError, TypeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise WeightsCorruptError(
            f"cannot read the tokenizer in {folder}: {reason}. Get it again."
        ) from error
    made = convert(found, folder)
    return made.to_str(), int(getattr(found, "pad_token_id", 0) or 0)


def convert(tokenizer: Any, folder: Path) -> Tokenizer:
    """A `tokenizers.Tokenizer` with the same ids as KerasHub's, start and end around each text."""
    kinds = keras_hub.tokenizers
    if isinstance(tokenizer, getattr(kinds, "ESMTokenizer", ())):
        made = _characters(tokenizer)
    elif isinstance(tokenizer, kinds.WordPieceTokenizer):
        made = _word_piece(tokenizer)
    elif isinstance(tokenizer, kinds.BytePairTokenizer):
        made = _byte_pair(tokenizer)
    elif isinstance(tokenizer, kinds.SentencePieceTokenizer):
        made = _sentence_piece(tokenizer, folder)
    else:
        raise InputError(
            f"{folder} has a {type(tokenizer).__name__}: WordPiece, byte-level BPE and SentencePiece can be read"
        )
    start, end = (str(tokenizer.start_token), str(tokenizer.end_token))
    ids = [(start, int(tokenizer.start_token_id)), (end, int(tokenizer.end_token_id))]
    made.post_processor = processors.TemplateProcessing(
        single=f"{start} $A {end}", pair=f"{start} $A {end} $B:1 {end}:1", special_tokens=ids
    )
    return made


def _word_piece(tokenizer: Any) -> Tokenizer:
    vocabulary = {word: index for index, word in enumerate(tokenizer.get_vocabulary())}
    made = BertWordPieceTokenizer(
        vocabulary,
        unk_token=tokenizer.oov_token,
        sep_token=tokenizer.sep_token,
        cls_token=tokenizer.cls_token,
        pad_token=tokenizer.pad_token,
        mask_token=tokenizer.mask_token,
        lowercase=tokenizer.lowercase,
        strip_accents=tokenizer.strip_accents,
        wordpieces_prefix=tokenizer.suffix_indicator,
    )._tokenizer
    if tokenizer.lowercase:  # KerasHub folds case, where BERT's own tokenizer takes lower case
        folded = [normalizers.Replace(letter, letter.casefold()) for letter in "ßẞς"]
        made.normalizer = normalizers.Sequence([*folded, made.normalizer])
    return made


def _characters(tokenizer: Any) -> Tokenizer:
    """ESM reads proteins: a letter is a token."""
    vocabulary = {word: index for index, word in enumerate(tokenizer.get_vocabulary())}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token=tokenizer.oov_token))
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split(Regex("."), "isolated")]
    )
    return made


def _byte_pair(tokenizer: Any) -> Tokenizer:
    # The first line of a merges.txt says its version; KerasHub keeps it among the merges, where it never applies.
    lines = [merge for merge in tokenizer.merges if not merge.startswith("#version:")]
    merges = [tuple(merge.split(" ")) for merge in lines]
    made = Tokenizer(models.BPE(dict(tokenizer.vocabulary), merges))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    names = ("start_token", "end_token", "pad_token", "mask_token")
    made.add_special_tokens(
        sorted({str(getattr(tokenizer, n)) for n in names if getattr(tokenizer, n, None)})
    )
    return made


# --- SentencePiece
def _sentence_piece(tokenizer: Any, folder: Path) -> Tokenizer:
    """The unigram model by its pieces' scores; ids are those of KerasHub's vocabulary, which may be shifted."""
    pieces, charsmap, kind = _model(bytes(tokenizer.proto))
    if kind != UNIGRAM:
        raise InputError(
            f"{folder} has a SentencePiece tokenizer that is no unigram model: the zoo cannot write it as "
            "tokenizer.json. Take the same checkpoint from transformers with hf:"
        )
    scores = dict(pieces)
    words = tokenizer.get_vocabulary()
    # A piece that the model itself never produces (fairseq's <pad>, <mask>) must never be the best.
    worst = min(scores.values()) - 100.0
    unknown = next(i for i, word in enumerate(words) if word == getattr(tokenizer, "unk_token", "<unk>"))
    made = Tokenizer(models.Unigram([(w, scores.get(w, worst)) for w in words], unk_id=unknown))
    rules: list[Any] = [normalizers.Precompiled(charsmap)] if charsmap else []
    made.normalizer = normalizers.Sequence(
        [*rules, normalizers.Strip(), normalizers.Replace(Regex(" {2,}"), " ")]
    )
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.decoder = decoders.Metaspace()
    names = ("start_token", "end_token", "pad_token", "mask_token")
    special = {str(getattr(tokenizer, n)) for n in names if getattr(tokenizer, n, None)} & set(words)
    made.add_special_tokens([AddedToken(word, normalized=False, special=True) for word in sorted(special)])
    return made


def _model(proto: bytes) -> tuple[list[tuple[str, float]], bytes, int]:
    """(pieces with scores, the normaliser's compiled rules, kind of model) of a SentencePiece ModelProto.

    Field numbers: google/sentencepiece, src/sentencepiece_model.proto.
    """
    pieces, charsmap, kind = [], b"", UNIGRAM
    for field, value in _fields(proto):
        if field == 1:
            parts = dict(_fields(value))
            pieces.append((parts[1].decode("utf-8"), struct.unpack("<f", parts.get(2, b"\0" * 4))[0]))
        elif field == 2:
            kind = dict(_fields(value)).get(3, UNIGRAM)
        elif field == 3:
            charsmap = dict(_fields(value)).get(2, b"")
    return pieces, charsmap, kind


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """(number, value) of a protobuf message: an int, or bytes (4 or 8 of them for fixed-width numbers)."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        field, wire = key >> 3, key & 7
        if wire == 0:
            value: Any
            value, at = _varint(data, at)
            yield field, value
            continue
        size = {1: 8, 5: 4}.get(wire)
        if size is None:
            size, at = _varint(data, at)
        yield field, data[at : at + size]
        at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """(value, where it ends)."""
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
