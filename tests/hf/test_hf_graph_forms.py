"""Networks whose own code no graph holds export all the same, and the file computes what transformers does."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
import transformers
from hf_folders import add_tokenizer

from zoo.engine import Array, LoadRequest
from zoo_hf.adapter import ADAPTER
from zoo_torch import text_anatomy

pytestmark = pytest.mark.hf
SMALL: dict[str, Any] = {
    "vocab_size": 90,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "pad_token_id": 0,
    "initializer_range": 0.2,
    "num_labels": 3,
}
CONFIGS = {
    "scan": transformers.JambaConfig(
        **SMALL, mamba_d_state=4, mamba_dt_rank=4, num_experts=2, attn_layer_offset=1, attn_layer_period=2
    ),
    "scan of heads": transformers.Zamba2Config(
        **{**SMALL, "num_hidden_layers": 4},
        layers_block_type=["linear_attention", "hybrid"] * 2,
        mamba_d_state=4,
        n_mamba_heads=4,
        mamba_headdim=8,
        mamba_ngroups=2,
        num_mem_blocks=1,
    ),
    "delta rule": transformers.Qwen3NextConfig(
        **SMALL,
        head_dim=8,
        linear_key_head_dim=4,
        linear_value_head_dim=4,
        linear_num_key_heads=2,
        linear_num_value_heads=4,
        num_experts=2,
        num_experts_per_tok=1,
        moe_intermediate_size=8,
        shared_expert_intermediate_size=8,
        layer_types=["linear_attention", "full_attention"],
    ),
    "complex": transformers.DeepseekV2Config(
        **SMALL,
        head_dim=4,
        qk_rope_head_dim=4,
        qk_nope_head_dim=4,
        v_head_dim=8,
        kv_lora_rank=8,
        q_lora_rank=8,
        n_group=1,
        topk_group=1,
        n_routed_experts=2,
        num_experts_per_tok=1,
        moe_intermediate_size=8,
    ),
    "repeat_interleave": transformers.HeliumConfig(**SMALL, head_dim=8),
}


def ids(length: int) -> dict[str, Array]:
    """Two texts, the second padded by two."""
    mask = np.ones((2, length), np.int64)
    mask[1, length - 2 :] = 0
    found = np.random.default_rng(length).integers(3, 90, (2, length)) * mask
    return {"input_ids": found, "attention_mask": mask}


@pytest.mark.parametrize("name", CONFIGS)
def test_the_file_computes_what_transformers_does(name: str, tmp_path: Path) -> None:
    """At lengths that the trace did not see; and transformers' own functions are back afterwards."""
    torch.manual_seed(0)
    native = transformers.AutoModelForSequenceClassification.from_config(CONFIGS[name]).eval()
    native.save_pretrained(add_tokenizer(tmp_path))
    home = sys.modules[type(native).__module__]
    before = dict(vars(home))
    engine = ADAPTER.load(LoadRequest(str(tmp_path)))
    path = tmp_path / "m.onnx"
    assert engine.export_onnx(path, opset=18) == "torchscript"
    assert dict(vars(home)) == before
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    head = engine.head()
    assert head is not None
    for length in (3, 70):
        batch = ids(length)
        with torch.no_grad():
            want = native(
                **{k: torch.from_numpy(v) for k, v in batch.items()}, use_cache=False
            ).logits.numpy()
        features = session.run(None, batch)[0]
        assert np.abs(features @ head[0].T + head[1] - want).max() < 1e-4 * np.abs(want).max()


def test_attention_that_layers_share_trains_with_the_first_of_them() -> None:
    """Zamba2's two hybrid layers have one attention: it is in the block of the earlier, once."""
    module = transformers.AutoModelForSequenceClassification.from_config(CONFIGS["scan of heads"])
    blocks = text_anatomy.blocks_of(module, text_anatomy.layers_of(module), None)
    shared = [
        (name, path) for name, paths in blocks.items() for path in paths if "shared_transformer" in path
    ]
    assert shared == [("layers.1", "model.layers.3.shared_transformer")], (
        "inside layers.1 and named again there"
    )
    assert "model.layers.3.mamba_decoder" in blocks["layers.3"] and "model.layers.3" not in blocks["layers.3"]


@pytest.mark.parametrize("kind", [transformers.ReformerModel, transformers.ReformerForSequenceClassification])
def test_a_reformer_trains_on_texts_of_any_length(kind: Any, tmp_path: Path) -> None:
    """In training it takes one length only: what is filled up to that changes nothing else."""
    torch.manual_seed(0)
    config = transformers.ReformerConfig(
        vocab_size=90,
        hidden_size=16,
        feed_forward_size=24,
        axial_pos_embds_dim=(8, 8),
        axial_pos_shape=(4, 8),
        max_position_embeddings=32,
        attn_layers=["local"],
        local_attn_chunk_length=8,
        num_attention_heads=2,
        attention_head_size=8,
        is_decoder=False,
        hidden_dropout_prob=0.0,
        local_attention_probs_dropout_prob=0.0,
        num_labels=3,
    )
    kind(config).save_pretrained(add_tokenizer(tmp_path))
    engine = ADAPTER.load(LoadRequest(str(tmp_path)))
    batch = {name: torch.from_numpy(array) for name, array in ids(11).items()}
    compute = engine._anatomy.features or (lambda module, given: module(**given).logits)
    # Its first chunk looks at the last one, so in inference too the length after filling up matters.
    filled = {name: torch.nn.functional.pad(tensor, (0, 32 - 11)) for name, tensor in batch.items()}
    with torch.no_grad():
        found = [compute(engine.module.train(), batch), compute(engine.module.eval(), filled)]
    assert found[0].shape == found[1].shape == (2, 3 if engine._anatomy.head else engine.feature_dim)
    assert torch.allclose(found[0], found[1], atol=1e-5)
