"""Inputs to compare two implementations of one network on, made without any data set.

White noise alone would not do: its pixels average out, so every image looks alike to a network and an error
hides. These images have gradients, waves and blocks; the texts are random ids with padding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from zoo.cards import ImagePreprocess, Preprocess, TextPreprocess
from zoo.engine import Array, Batch

BATCH_SIZES = (1, 3)
TEXT_LENGTHS = (6, 11)
GRID = 8


def parity_batches(preprocess: Preprocess, inputs: Sequence[str], *, seed: int = 0) -> list[Batch]:
    """Two batches, of 1 and of 3; texts of two lengths, the second with padding."""
    rng = np.random.default_rng(seed)
    if isinstance(preprocess, ImagePreprocess):
        return [image_batch(_pictures(rng, size, preprocess), preprocess) for size in BATCH_SIZES]
    lengths = [min(length, preprocess.max_length) for length in TEXT_LENGTHS]
    return [
        text_batch(_texts(rng, size, length, preprocess), inputs, preprocess)
        for size, length in zip(BATCH_SIZES, lengths, strict=True)
    ]


def _pictures(rng: np.random.Generator, count: int, preprocess: ImagePreprocess) -> Array:
    """uint8 [count, H, W, 3]: a gradient, waves, a block and some noise, different in each channel."""
    y = np.linspace(0, 1, preprocess.height)[:, None, None]
    x = np.linspace(0, 1, preprocess.width)[None, :, None]
    pictures = []
    for _ in range(count):
        slope, across, phase = rng.uniform(-1, 1, 3), rng.uniform(-1, 1, 3), rng.uniform(0, 6, 3)
        waves = np.sin(rng.uniform(3, 40, 3) * x + rng.uniform(3, 40, 3) * y + phase)
        noise = rng.uniform(-1, 1, (preprocess.height, preprocess.width, 3))
        top, left = rng.uniform(0, 0.6, 2)
        block = ((y > top) & (y < top + 0.4) & (x > left) & (x < left + 0.4)) * rng.uniform(-1, 1, 3)
        mixed = slope * y + across * x + 0.5 * waves + block + 0.2 * noise
        pictures.append(np.clip(127 + 100 * mixed, 0, 255).astype(np.uint8))
    return np.stack(pictures)


def _texts(rng: np.random.Generator, count: int, length: int, preprocess: TextPreprocess) -> list[list[int]]:
    """`count` lists of ordinary token ids; the first is `length` long, the others shorter."""
    allowed = ordinary_ids(preprocess)
    sizes = [length, *rng.integers(max(1, length // 3), max(2, length), count - 1)]
    return [rng.choice(allowed, int(size)).tolist() for size in sizes]


def ordinary_ids(preprocess: TextPreprocess) -> Array:
    """Ids of the vocabulary that are no special tokens; all but padding where there is no tokenizer yet."""
    size, special = preprocess.vocab_size, {preprocess.pad_id}
    if preprocess.tokenizer is not None:
        tokenizer = Tokenizer.from_str(preprocess.tokenizer)
        size = min(size, tokenizer.get_vocab_size())
        special |= {i for i, token in tokenizer.get_added_tokens_decoder().items() if token.special}
    return np.array([i for i in range(size) if i not in special] or [0])


def image_batch(pixels: Array, preprocess: ImagePreprocess) -> dict[str, Array]:
    """From uint8 [N, H, W, 3] at the network's own size to {"images": float32 [N, 3, H, W]}, normalised."""
    ordered = pixels if preprocess.channels == "RGB" else pixels[..., ::-1]
    scaled = ordered.astype(np.float32) * np.float32(preprocess.scale)
    mean, std = np.array(preprocess.mean, np.float32), np.array(preprocess.std, np.float32)
    values = (scaled - mean) / std
    return {"images": np.ascontiguousarray(values.transpose(0, 3, 1, 2), dtype=np.float32)}


def text_batch(
    texts: Sequence[Sequence[int]], inputs: Sequence[str], preprocess: TextPreprocess
) -> dict[str, Array]:
    """From lists of ids to int64 arrays [N, L], padded on the right, named and ordered as `inputs`."""
    length = max(len(text) for text in texts)
    made = {name: np.zeros((len(texts), length), np.int64) for name in inputs}
    made["input_ids"][:] = preprocess.pad_id
    for row, text in enumerate(texts):
        made["input_ids"][row, : len(text)] = text
        if "attention_mask" in made:
            made["attention_mask"][row, : len(text)] = 1
    return made


def golden_input(preprocess: Preprocess, *, seed: int = 1) -> dict[str, Any]:
    """A small JSON-able input of two rows: 8 x 8 pixels each (base64), or two short texts as ids."""
    rng = np.random.default_rng(seed)
    if isinstance(preprocess, ImagePreprocess):
        pixels = rng.integers(0, 256, (2, GRID, GRID, 3), dtype=np.uint8)
        return {"kind": "image", "pixels": pixels.tobytes().hex()}
    length = min(9, preprocess.max_length)
    return {"kind": "text", "ids": _texts(rng, 2, length, preprocess)}


def golden_batch(stored: dict[str, Any], preprocess: Preprocess, inputs: Sequence[str]) -> dict[str, Array]:
    """The batch of a stored input; a grid's pixels are repeated until they fill the network's H x W.

    Raises ValueError or KeyError where it was not written by `golden_input`.
    """
    if isinstance(preprocess, TextPreprocess):
        return text_batch(stored["ids"], inputs, preprocess)
    grid = np.frombuffer(bytes.fromhex(stored["pixels"]), np.uint8).reshape(2, GRID, GRID, 3)
    rows = np.arange(preprocess.height) * GRID // preprocess.height
    columns = np.arange(preprocess.width) * GRID // preprocess.width
    return image_batch(grid[:, rows][:, :, columns], preprocess)
