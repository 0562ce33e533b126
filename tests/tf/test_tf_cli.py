"""The command line over TensorFlow: weights that cannot be had or trusted, and from training to the ONNX file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from errors_table import NO_NETWORK, fails, here, photographs, pickled_payload

Capture = pytest.CaptureFixture[str]
TRAIN = ["train", "tf:mobilenet_v2", "photos", "--epochs", "1", "-o", "runs/mine"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder: photos of two classes. No network, and no weights downloaded before."""
    photographs(tmp_path / "photos", count=4)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    for name, value in NO_NETWORK.items():
        monkeypatch.setenv(name, value)
    yield tmp_path
    assert not (tmp_path / "pwned").exists(), "a pickle was run"


def test_weights_unreachable(capsys: Capture) -> None:
    says = [
        "cannot reach the weights mobilenet_v2_weights_tf_dim_ordering_tf_kernels",
        "ZOO_MIRROR is not set",
    ]
    case = "Weights that cannot be reached (Keras)"
    fails(capsys, case, TRAIN, code=5, says=says, theirs=r"URL fetch failure .*?(?=; ZOO)")


@pytest.mark.parametrize("suffix", [".weights.h5", ".keras", ".h5"])
def test_pickle_posing_as_weights(capsys: Capture, suffix: str) -> None:
    pickled_payload(Path(f"evil{suffix}"))
    arguments = [*TRAIN, "--weights", f"evil{suffix}"]
    fails(capsys, f"Pickle posing as weights ({suffix})", arguments, code=5, says=[f"evil{suffix}"])
    assert not Path("runs").exists()


def test_weights_truncated(capsys: Capture) -> None:
    import h5py

    with h5py.File("whole.weights.h5", "w") as file:
        file["layer/kernel"] = [0.0] * 5000
    Path("cut.weights.h5").write_bytes(Path("whole.weights.h5").read_bytes()[:-9000])
    arguments = [*TRAIN, "--weights", "cut.weights.h5"]
    says = ["cut.weights.h5", "truncated"]
    fails(capsys, "Truncated weights (Keras)", arguments, code=5, says=says, theirs=r"Unable to .*")


def test_weights_of_another_network(capsys: Capture) -> None:
    import h5py

    with h5py.File("other.weights.h5", "w") as file:
        file["layer/kernel"] = [0.0] * 5
    arguments = [*TRAIN, "--weights", "other.weights.h5"]
    says = ["other.weights.h5 does not fit this network"]
    fails(capsys, "Weights of another network (Keras)", arguments, code=5, says=says, theirs=r"A total of .*")


def test_input_smaller_than_the_network_takes(capsys: Capture) -> None:
    arguments = ["train", "tf:inception_v3", "photos", "--size", "64", "--weights", "none", "-o", "runs/mine"]
    says = ["size=64", "75 pixels a side or more"]
    fails(capsys, "Input smaller than the network takes (Keras)", arguments, code=2, says=says)


def test_depth_that_the_network_has_not(capsys: Capture) -> None:
    name = "tf:mobilenet_v1_0.25_128"
    arguments = ["train", name, "photos", "--depth", "9", "--weights", "none", "-o", "runs/mine"]
    says = [f"{name} has depths 1 to 5, its stages, not 9"]
    fails(capsys, "Depth that the network has not (Keras)", arguments, code=2, says=says)


def test_device_that_is_not_there(capsys: Capture) -> None:
    import tensorflow as tf

    if tf.config.list_physical_devices("GPU"):
        pytest.skip("there is one here")
    arguments = [
        "train",
        "tf:mobilenet_v1_0.25_128",
        "photos",
        "--weights",
        "none",
        "--device",
        "cuda",
        "-o",
        "runs/mine",
    ]
    says = ["device 'cuda': TensorFlow has cpu here", "Leave the device out to compute on the CPU"]
    fails(capsys, "Device that is not there (Keras)", arguments, code=2, says=says)
    assert not Path("runs").exists()


def test_weights_that_lack_a_layer(capsys: Capture) -> None:
    import h5py
    import keras

    shape = (128, 128, 3)
    native = keras.applications.MobileNet(shape, alpha=0.25, weights=None, include_top=False)
    native.save_weights("some.weights.h5")
    with h5py.File("some.weights.h5", "a") as file:
        del file["layers"]["conv2d_3"]
    arguments = ["train", "tf:mobilenet_v1_0.25_128", "photos", "--weights", "some.weights.h5"]
    says = ["some.weights.h5 lacks 1 of this network's weights: conv_pw_3/kernel", "--partial"]
    fails(capsys, "Weights that lack a layer (Keras)", [*arguments, "-o", "runs/mine"], code=5, says=says)


def test_from_training_to_onnx(capsys: Capture) -> None:
    said = here(capsys, *TRAIN, "--weights", "none", "--size", "96", "--validation", "photos", "--lr", "1e-2")
    assert said.code == 0, said.err
    native = json.loads(here(capsys, "evaluate", "runs/mine", "photos", "--json").out)
    assert here(capsys, "export", "runs/mine", "-o", "out/model.onnx").code == 0
    exported = json.loads(here(capsys, "evaluate", "out/model.onnx", "photos", "--json").out)
    assert exported["log_loss"] == pytest.approx(native["log_loss"], abs=1e-4)
    assert here(capsys, "verify", "out/model.onnx").code == 0
