"""Published text checkpoints that have a short name: each its hub id and its config.json on the hub, in full.

With weights "none" the network is made from these, without any file: transformers' class defaults are other
models at times (`XLNetConfig()` is the large one, `RobertaConfig()` has 512 positions).
"""

from __future__ import annotations

from zoo_torch.texts import BERT_BASE, Published

# Radford et al. 2019, the smallest model.
GPT2 = Published(
    "openai-community/gpt2",
    {
        "model_type": "gpt2",
        "vocab_size": 50257,
        "n_positions": 1024,
        "n_embd": 768,
        "n_layer": 12,
        "n_head": 12,
        "activation_function": "gelu_new",
        "resid_pdrop": 0.1,
        "embd_pdrop": 0.1,
        "attn_pdrop": 0.1,
        "layer_norm_epsilon": 1e-5,
        "initializer_range": 0.02,
        "bos_token_id": 50256,
        "eos_token_id": 50256,
    },
)
# Wang et al. 2020 as sentence-transformers trained it.
MINILM = Published(
    "sentence-transformers/all-MiniLM-L6-v2",
    {
        **BERT_BASE.config,
        "hidden_size": 384,
        "num_hidden_layers": 6,
        "intermediate_size": 1536,
    },
)
# Liu et al. 2019, the base model. Positions are counted from the pad token's id on: 512 of 514 can be used.
ROBERTA = Published(
    "FacebookAI/roberta-base",
    {
        **BERT_BASE.config,
        "model_type": "roberta",
        "vocab_size": 50265,
        "max_position_embeddings": 514,
        "type_vocab_size": 1,
        "layer_norm_eps": 1e-5,
        "bos_token_id": 0,
        "pad_token_id": 1,
        "eos_token_id": 2,
    },
)
# Yang et al. 2019, the cased base model.
XLNET = Published(
    "xlnet/xlnet-base-cased",
    {
        "model_type": "xlnet",
        "vocab_size": 32000,
        "d_model": 768,
        "n_layer": 12,
        "n_head": 12,
        "d_inner": 3072,
        "ff_activation": "gelu",
        "untie_r": True,
        "attn_type": "bi",
        "bi_data": False,
        "clamp_len": -1,
        "same_length": False,
        "mem_len": None,
        "reuse_len": None,
        "dropout": 0.1,
        "initializer_range": 0.02,
        "layer_norm_eps": 1e-12,
        "summary_type": "last",
        "summary_use_proj": True,
        "summary_activation": "tanh",
        "summary_last_dropout": 0.1,
        "start_n_top": 5,
        "end_n_top": 5,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 5,
    },
)
PUBLISHED = {
    "bert": BERT_BASE,
    "gpt2": GPT2,
    "roberta": ROBERTA,
    "xlnet": XLNET,
    "all-minilm-l6-v2": MINILM,
}
