"""Bad Hugging Face folders and requests on the command line: each in one line that says what to do instead."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import transformers
from errors_table import NO_NETWORK, fails
from hf_folders import add_tokenizer
from PIL import Image

pytestmark = pytest.mark.hf
Capture = pytest.CaptureFixture[str]
TRAIN = ["train", "hf:./theirs", "tickets.csv", "-o", "runs/mine"]
EXPORT = ["export", "hf:./theirs", "-o", "out/model.onnx"]
PHOTOS = ["train", "hf:./vit", "photos", "--weights", "none", "-o", "runs/mine"]
SMALL: dict[str, Any] = {
    "vocab_size": 90,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "num_labels": 3,
}


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The current folder: tickets.csv, and theirs, a whole BERT classifier of three classes. No network."""
    rows = [f"my parcel {i},late\nplease pay {i},refund" for i in range(8)]
    (tmp_path / "tickets.csv").write_text("\n".join(["message,topic", *rows]) + "\n")
    config = transformers.BertConfig(**SMALL)
    transformers.BertForSequenceClassification(config).save_pretrained(add_tokenizer(tmp_path / "theirs"))
    monkeypatch.chdir(tmp_path)
    for name, value in NO_NETWORK.items():
        monkeypatch.setenv(name, value)
    yield
    assert not Path("out/model.onnx").exists() and not Path("runs/mine").exists(), "it went on"


def vit() -> None:
    """vit, a transformer for 32 pixels without weights, and photos, two classes of grey."""
    sizes = {key: value for key, value in SMALL.items() if key != "vocab_size"}
    config = transformers.ViTConfig(**sizes, image_size=32, patch_size=16)
    config.architectures = ["ViTForImageClassification"]
    config.save_pretrained("vit")
    size = {"height": 32, "width": 32}
    stated = {"image_processor_type": "ViTImageProcessor", "size": size, "resample": 2}
    stated |= {"do_resize": True, "do_rescale": True, "do_normalize": True}
    stated |= {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    Path("vit/preprocessor_config.json").write_text(json.dumps(stated))
    for name, grey in (("dark", 40), ("light", 200)):
        Path("photos", name).mkdir(parents=True)
        for i in range(6):
            pixels = np.full((32, 32, 3), grey + i, np.uint8)
            Image.fromarray(pixels).save(Path("photos", name, f"{i}.png"))


def state(**values: object) -> None:
    """Change theirs/config.json."""
    path = Path("theirs/config.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_no_tokenizer(capsys: Capture) -> None:
    Path("theirs/tokenizer.json").unlink()
    says = ["theirs holds weights but no tokenizer", "Put its tokenizer.json there", "--weights none"]
    fails(capsys, "Text folder without a tokenizer", TRAIN, code=2, says=says)


def test_no_weights(capsys: Capture) -> None:
    Path("theirs/model.safetensors").unlink()
    says = ["holds no model.safetensors", "--weights none"]
    fails(capsys, "Hugging Face folder without weights", TRAIN, code=2, says=says)


def test_multi_label_head(capsys: Capture) -> None:
    state(problem_type="multi_label_classification")
    says = ["predicts several labels at once", "single-label", "num_classes=N"]
    fails(capsys, "Head that gives several labels at once (Hugging Face)", EXPORT, code=2, says=says)


def test_regression_head(capsys: Capture) -> None:
    state(problem_type="regression")
    says = ["predicts a number (regression)", "num_classes=N"]
    fails(capsys, "Head that gives a number, regression (Hugging Face)", EXPORT, code=2, says=says)


def test_a_weight_lacking(capsys: Capture) -> None:
    path = Path("theirs/model.safetensors")
    tensors = safetensors.torch.load_file(path)
    del tensors["bert.encoder.layer.1.output.dense.weight"]
    safetensors.torch.save_file(tensors, path, metadata={"format": "pt"})
    says = ["1 missing (bert.encoder.layer.1.output.dense.weight)", "--partial"]
    fails(capsys, "Weights that lack some keys (Hugging Face)", TRAIN, code=5, says=says)


def test_weights_of_another_network(capsys: Capture) -> None:
    state(intermediate_size=48)
    says = ["belong to another network than its config.json", "6 of another shape (bert.encoder"]
    fails(capsys, "Weights of another network (Hugging Face)", TRAIN, code=5, says=says)


def test_depth_that_there_is_not(capsys: Capture) -> None:
    says = ["has depths 0 to 2, not 7"]
    fails(capsys, "Depth that the network has not (text)", [*TRAIN, "--depth", "7"], code=2, says=says)


def test_size_of_a_text_network(capsys: Capture) -> None:
    case = "Size in pixels for a network that reads texts"
    fails(capsys, case, [*TRAIN, "--size", "64"], code=2, says=["size= is for images"])


def test_size_and_depth_of_images(capsys: Capture) -> None:
    vit()
    case, says = (
        "Input smaller than the network takes (Hugging Face)",
        ["takes no 8 x 8 pixels", "smallest is"],
    )
    fails(capsys, case, [*PHOTOS, "--size", "8"], code=2, says=says)
    case, says = (
        "Depth that the network has not (Hugging Face)",
        ["depth 7 is not there: this network has depths 1 to 2"],
    )
    fails(capsys, case, [*PHOTOS, "--depth", "7"], code=2, says=says)


def test_no_preprocessing(capsys: Capture) -> None:
    vit()
    Path("vit/preprocessor_config.json").unlink()
    says = ["holds no preprocessor_config.json", "does not guess"]
    fails(capsys, "Image folder that does not say how to prepare images", PHOTOS, code=2, says=says)
