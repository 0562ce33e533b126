"""Checkpoints that were saved as sequence classifiers keep their own head, whatever way their class finds it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
import transformers
from hf_folders import add_tokenizer

from zoo.engine import Array, LoadRequest
from zoo.errors import HeadMissingError, InputError, WeightsCorruptError
from zoo_hf.adapter import ADAPTER
from zoo_torch.engine import TorchEngine

NAMES = {"id2label": {0: "bad", 1: "fair", 2: "good"}, "label2id": {"bad": 0, "fair": 1, "good": 2}}
SMALL: dict[str, Any] = {
    "vocab_size": 90,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    **NAMES,
}
CONFIGS = {
    "bert": transformers.BertConfig(**SMALL),  # a Linear on the pooler
    "roberta": transformers.RobertaConfig(**SMALL),  # two Linears on the first token
    "distilbert": transformers.DistilBertConfig(
        vocab_size=90, dim=16, n_layers=2, n_heads=2, hidden_dim=32, **NAMES
    ),
    "eurobert": transformers.EuroBertConfig(  # a Linear on each token, then the mean
        **SMALL, num_key_value_heads=2, pad_token_id=0, bos_token_id=1, eos_token_id=2
    ),
    "gpt2": transformers.GPT2Config(  # a Linear on the last token, found by the padding's id
        vocab_size=90, n_embd=16, n_layer=2, n_head=2, n_positions=40, pad_token_id=0, eos_token_id=2, **NAMES
    ),
    "xlnet": transformers.XLNetConfig(  # the last position, so padded on the left
        vocab_size=90, d_model=16, n_layer=2, n_head=2, d_inner=32, pad_token_id=0, **NAMES
    ),
    "bart": transformers.BartConfig(  # the decoder's state at the text's end
        vocab_size=90,
        d_model=16,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        max_position_embeddings=40,
        pad_token_id=0,
        eos_token_id=2,
        **NAMES,
    ),
}


def saved(name: str, folder: Path) -> Any:
    """The native classifier, saved into the folder; larger weights, so that logits differ between texts."""
    module = transformers.AutoModelForSequenceClassification.from_config(CONFIGS[name]).eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(3.0 if parameter.ndim > 1 else 1.0)
    module.save_pretrained(add_tokenizer(folder))
    return module


def load(folder: Path, **options: Any) -> TorchEngine:
    return ADAPTER.load(LoadRequest(str(folder), **options))


def texts(engine: TorchEngine) -> dict[str, Array]:
    """Three texts of random ids that end in id 2, padded to the right."""
    rng = np.random.default_rng(0)
    mask = (np.arange(9) < np.array([9, 4, 6])[:, None]).astype(np.int64)
    ids = rng.integers(3, 90, mask.shape) * mask
    ids[np.arange(3), mask.sum(axis=1) - 1] = 2
    ids = np.where(mask == 1, ids, engine.preprocess.pad_id)
    batch = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
    return {name: batch[name] for name in engine.inputs}


def alone(module: Any, batch: dict[str, Array]) -> Array:
    """transformers' own logits of each text by itself, without padding."""
    rows = []
    for i, mask in enumerate(batch["attention_mask"]):
        given = {name: torch.from_numpy(array[i, mask == 1][None]) for name, array in batch.items()}
        with torch.no_grad():
            rows.append(module(**given).logits[0].numpy())
    return np.stack(rows)


@pytest.mark.parametrize("name", CONFIGS)
def test_logits_are_the_checkpoints(name: str, tmp_path: Path) -> None:
    """Native logits in a padded batch; linear in the features; the same after saving and rebuilding."""
    native = saved(name, tmp_path)
    engine = load(tmp_path)
    batch = texts(engine)
    want, logits, features = alone(native, batch), engine.logits(batch), engine.features(batch)
    assert np.ptp(want, axis=0).max() > 1e-3
    assert np.abs(logits - want).max() < 1e-4 * np.abs(want).max()
    assert engine.labels == ("bad", "fair", "good") and engine.num_classes == 3
    head = engine.head()
    assert head is not None and np.abs(features @ head[0].T + head[1] - logits).max() < 1e-4
    stored = json.loads(json.dumps(engine.architecture()))
    again = ADAPTER.rebuild(stored, engine.preprocess)
    again.load_state(engine.state())
    assert np.array_equal(again.logits(batch), logits)
    assert load(tmp_path, num_classes=5).logits(batch).shape == (3, 5)


@pytest.mark.parametrize("name", ["bert", "gpt2", "xlnet"])
def test_a_cut_network_is_transformers_own_without_a_head(name: str, tmp_path: Path) -> None:
    """Depth 1 is what num_hidden_layers=1 computes, up to the input of the last Linear, in one pass too."""
    saved(name, tmp_path)
    key = {"bert": "num_hidden_layers"}.get(name, "n_layer")
    shallow = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path, **{key: 1}).eval()
    whole, engine = load(tmp_path), load(tmp_path, depth=1)
    batch = texts(engine)
    assert engine.num_classes is None and engine.depths == (0, 1) and len(engine.blocks) == 2
    with pytest.raises(HeadMissingError, match=r"replace_head.*cut in depth"):
        engine.logits(batch)
    head = whole.head()
    assert head is not None
    by_hand = engine.features(batch) @ head[0].T + head[1]
    assert np.abs(by_hand - alone(shallow, batch)).max() < 1e-4
    with torch.no_grad():
        (cut,) = whole._outputs((1,))(whole._tensors(batch))
    assert np.abs(cut.numpy() - engine.features(batch)).max() < 1e-5
    assert len(engine.state()) < len(whole.state())
    again = ADAPTER.rebuild(json.loads(json.dumps(engine.architecture())), engine.preprocess)
    again.load_state(engine.state())
    assert np.array_equal(again.features(batch), engine.features(batch))


@pytest.mark.parametrize(
    ("stated", "what"),
    [
        ({"problem_type": "multi_label_classification"}, "several labels at once"),
        ({"problem_type": "regression"}, r"a number \(regression\)"),
        ({"id2label": {"0": "score"}, "label2id": {"score": 0}}, r"a number \(regression\)"),
    ],
)
def test_other_tasks_are_refused(stated: dict[str, Any], what: str, tmp_path: Path) -> None:
    saved("bert", tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, **stated}))
    with pytest.raises(InputError, match=rf"predicts {what}; the zoo has single-label.*num_classes=N"):
        load(tmp_path)


def test_a_missing_weight_is_listed_and_partial_goes_on(tmp_path: Path) -> None:
    saved("bert", tmp_path)
    path = tmp_path / "model.safetensors"
    state = safetensors.torch.load_file(path)
    gone = "bert.encoder.layer.1.output.dense.weight"
    rest = {k: v for k, v in state.items() if k != gone}
    safetensors.torch.save_file(rest, path, metadata={"format": "pt"})
    with pytest.raises(WeightsCorruptError, match=rf"1 missing \({gone}\).*--partial"):
        load(tmp_path)
    with pytest.warns(UserWarning, match=rf"stay random: {gone}"):
        engines = [load(tmp_path, partial=True, seed=seed) for seed in (1, 1, 2)]
    values = [engine.state()[gone] for engine in engines]
    assert np.array_equal(values[0], values[1]) and not np.array_equal(values[0], values[2])
    kept = "bert.encoder.layer.0.output.dense.weight"
    assert np.array_equal(engines[0].state()[kept], state[kept].numpy())
    # A head that is replaced may be missing; weights of another shape are refused, partial or not.
    headless = {k: v for k, v in state.items() if not k.startswith("classifier")}
    safetensors.torch.save_file(headless, path, metadata={"format": "pt"})
    assert load(tmp_path, num_classes=2).num_classes == 2
    wrong = {**state, gone: torch.zeros(16, 31)}
    safetensors.torch.save_file(wrong, path, metadata={"format": "pt"})
    with pytest.raises(WeightsCorruptError, match=r"1 of another shape \(bert"):
        load(tmp_path, partial=True)


def test_a_network_that_reads_bytes_is_refused(tmp_path: Path) -> None:
    transformers.CanineConfig(architectures=["CanineForSequenceClassification"]).save_pretrained(tmp_path)
    with pytest.raises(InputError, match=r"reads characters by their code points, which no tokenizer\.json"):
        load(tmp_path, weights="none")
