"""BERT by its paper (Devlin et al. 2018) in numpy: what a transformers folder must compute, whoever loads it."""

from __future__ import annotations

from math import erf

import numpy as np
import tf_models

from zoo.engine import Batch

Array = np.ndarray


def reference(
    tensors: dict[str, Array], batch: Batch, *, gelu: str = "erf", pooling: str = "mean"
) -> list[Array]:
    """[N, D] float64, pooled after the embeddings and after each layer."""
    t = {key: value.astype(np.float64) for key, value in tensors.items()}
    mask, length = batch["attention_mask"], batch["input_ids"].shape[1]
    x = t["embeddings.word_embeddings.weight"][batch["input_ids"]]
    x = x + t["embeddings.position_embeddings.weight"][:length]
    x = norm(
        t, x + t["embeddings.token_type_embeddings.weight"][batch["token_type_ids"]], "embeddings.LayerNorm"
    )
    out = [pooled(x, mask, pooling)]
    for i in range(tf_models.LAYERS):
        at = f"encoder.layer.{i}"
        attended = linear(t, attention(t, x, mask, at), f"{at}.attention.output.dense")
        x = norm(t, attended + x, f"{at}.attention.output.LayerNorm")
        inner = activate(linear(t, x, f"{at}.intermediate.dense"), gelu)
        x = norm(t, linear(t, inner, f"{at}.output.dense") + x, f"{at}.output.LayerNorm")
        out.append(pooled(x, mask, pooling))
    return out


def norm(t: dict[str, Array], x: Array, at: str) -> Array:
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-12)
    return x * t[f"{at}.weight"] + t[f"{at}.bias"]


def linear(t: dict[str, Array], x: Array, at: str) -> Array:
    return x @ t[f"{at}.weight"].T + t[f"{at}.bias"]


def attention(t: dict[str, Array], x: Array, mask: Array, at: str) -> Array:
    """[N, L, D]: every token's mixture of the tokens that the mask keeps, before the output layer."""
    shape = (*x.shape[:2], tf_models.HEADS, -1)
    q, k, v = (
        linear(t, x, f"{at}.attention.self.{name}").reshape(shape).transpose(0, 2, 1, 3)
        for name in ("query", "key", "value")
    )
    scores = q @ k.transpose(0, 1, 3, 2) / np.sqrt(q.shape[-1]) + (1 - mask[:, None, None, :]) * -1e30
    shares = np.exp(scores - scores.max(-1, keepdims=True))
    return (shares / shares.sum(-1, keepdims=True) @ v).transpose(0, 2, 1, 3).reshape(x.shape)


def activate(x: Array, gelu: str) -> Array:
    if gelu == "erf":
        return x * 0.5 * (1 + np.vectorize(erf)(x / np.sqrt(2)))
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def pooled(x: Array, mask: Array, pooling: str) -> Array:
    if pooling == "cls":
        return x[:, 0]
    if pooling == "max":
        return np.where(mask[..., None] == 1, x, -np.inf).max(1)
    return (x * mask[..., None]).sum(1) / mask.sum(1, keepdims=True)
