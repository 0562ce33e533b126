"""keras.applications for the catalogue: parameters and multiply-accumulates counted on Keras's own networks, built
without memory for their weights; files, addresses and digests taken from Keras when it is about to download.

Accuracies are those that upstream publishes, each with its link; where it publishes none there is none.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

FRAMEWORK, SOURCE = "tf", "keras_applications"
IMAGE = "image-classification"

# Where figures are published, each for the weights that Keras loads.
KERAS_IO = "https://keras.io/api/applications/"
V1_DOC = "https://www.tensorflow.org/versions/r2.9/api_docs/python/tf/keras/applications/mobilenet"
V2_DOC = "https://www.tensorflow.org/versions/r2.9/api_docs/python/tf/keras/applications/mobilenet_v2"
V3_DOC = "https://github.com/keras-team/keras/blob/master/keras/src/applications/mobilenet_v3.py"
# fmt: off
PUBLISHED = {
    KERAS_IO: {
        "xception": 79.0, "vgg16": 71.3, "vgg19": 71.3, "resnet50": 74.9, "resnet50_v2": 76.0,
        "resnet101": 76.4, "resnet101_v2": 77.2, "resnet152": 76.6, "resnet152_v2": 78.0,
        "inception_v3": 77.9, "inception_resnet_v2": 80.3, "mobilenet_v1": 70.4, "mobilenet_v2": 71.3,
        "densenet121": 75.0, "densenet169": 76.2, "densenet201": 77.3, "nasnet_mobile": 74.4,
        "nasnet_large": 82.5, "efficientnet_b0": 77.1, "efficientnet_b1": 79.1, "efficientnet_b2": 80.1,
        "efficientnet_b3": 81.6, "efficientnet_b4": 82.9, "efficientnet_b5": 83.6, "efficientnet_b6": 84.0,
        "efficientnet_b7": 84.3, "efficientnet_v2_b0": 78.7, "efficientnet_v2_b1": 79.8,
        "efficientnet_v2_b2": 80.5, "efficientnet_v2_b3": 82.0, "efficientnet_v2_s": 83.9,
        "efficientnet_v2_m": 85.3, "efficientnet_v2_l": 85.7,
    },
    V1_DOC: {
        "mobilenet_v1_0.75_224": 68.4, "mobilenet_v1_0.5_224": 63.7, "mobilenet_v1_0.25_224": 50.6,
        "mobilenet_v1_1.0_192": 69.1, "mobilenet_v1_1.0_160": 67.2, "mobilenet_v1_1.0_128": 64.4,
    },
    V2_DOC: {
        "mobilenet_v2_1.4_224": 75.0, "mobilenet_v2_1.3_224": 74.4, "mobilenet_v2_1.0_192": 70.7,
        "mobilenet_v2_1.0_160": 68.8, "mobilenet_v2_1.0_128": 65.3, "mobilenet_v2_1.0_96": 60.3,
        "mobilenet_v2_0.75_224": 69.8, "mobilenet_v2_0.75_192": 68.7, "mobilenet_v2_0.75_160": 66.4,
        "mobilenet_v2_0.75_128": 63.2, "mobilenet_v2_0.75_96": 58.8, "mobilenet_v2_0.5_224": 65.4,
        "mobilenet_v2_0.5_192": 63.9, "mobilenet_v2_0.5_160": 61.0, "mobilenet_v2_0.5_128": 57.7,
        "mobilenet_v2_0.5_96": 51.2, "mobilenet_v2_0.35_224": 60.3, "mobilenet_v2_0.35_192": 58.2,
        "mobilenet_v2_0.35_160": 55.7, "mobilenet_v2_0.35_128": 50.8, "mobilenet_v2_0.35_96": 45.5,
    },
    V3_DOC: {
        "mobilenet_v3_large": 75.6, "mobilenet_v3_large_0.75_224": 73.3,
        "mobilenet_v3_large_minimalistic_1.0_224": 72.3, "mobilenet_v3_small": 68.1,
        "mobilenet_v3_small_0.75_224": 65.4, "mobilenet_v3_small_minimalistic_1.0_224": 61.9,
    },
}
# fmt: on

# Name begins with -> (family, paper, what is different from the same name elsewhere).
COUNT = "Parameters count BatchNorm's statistics too, as Keras does."
SAME = "'same' padding of strided convolutions is asymmetric (TensorFlow's); BatchNorm eps 1e-3."
BELOW = "Pads strided convolutions below and right; BatchNorm eps 1e-3."
INSIDE = "Takes pixels of 0-255 and scales them itself."
FAMILIES = (
    ("vgg", "vgg", "1409.1556", "Caffe's weights: BGR pixels of 0-255 less the mean; no BatchNorm; its fully "
     "connected layers take 224 pixels alone."),
    (r"resnet\d+_v2", "resnet_v2", "1603.05027", "Pre-activation; a stage's stride is in its last unit; "
     f"pixels in [-1, 1]. {COUNT}"),
    ("resnet", "resnet", "1512.03385", "v1: the stride is in the first 1x1 convolution of a unit (torchvision's "
     "v1.5: in the 3x3); convolutions have biases; Caffe's weights: BGR pixels of 0-255 less the mean; "
     f"BatchNorm eps 1.001e-5. {COUNT}"),
    ("densenet", "densenet", "1608.06993", f"torch's normalisation; BatchNorm eps 1.001e-5. {COUNT}"),
    ("inception_v3", "inception_v3", "1512.00567", "No auxiliary head; BatchNorm without scale, eps 1e-3; "
     f"pixels in [-1, 1]. {COUNT}"),
    ("inception_resnet_v2", "inception_resnet_v2", "1602.07261", "BatchNorm without scale, eps 1e-3; pixels "
     f"in [-1, 1]. {COUNT}"),
    ("xception", "xception", "1610.02357", f"{SAME} {COUNT}"),
    ("nasnet", "nasnet", "1707.07012", f"No auxiliary head; BatchNorm eps 1e-3, pixels in [-1, 1]. {COUNT}"),
    ("efficientnet_v2", "efficientnet_v2", "2104.00298", f"{INSIDE} {SAME} {COUNT}"),
    ("efficientnet", "efficientnet", "1905.11946", f"{INSIDE} {SAME} {COUNT}"),
    ("convnext", "convnext", "2201.03545", "Takes pixels of 0-255 and normalises them itself; GELU by erf; "
     "base, large and xlarge were trained on ImageNet-21k first."),
    ("mobilenet_v1", "mobilenet_v1", "1704.04861", f"{BELOW} Pixels in [-1, 1]. {COUNT}"),
    ("mobilenet_v2", "mobilenet_v2", "1801.04381", f"{BELOW} Pixels in [-1, 1]. {COUNT}"),
    ("mobilenet_v3", "mobilenet_v3", "1905.02244", f"{INSIDE} {BELOW} {COUNT}"),
)  # fmt: skip


def cards() -> Iterator[dict[str, Any]]:
    """One card for each row of `zoo_tf.applications`."""
    import keras

    from zoo_tf.applications import APPLICATIONS, WHOLE

    long_names = {short: name for name, short in WHOLE.items()}
    for name, app in APPLICATIONS.items():
        yield _card(name, app, long_names)
        keras.utils.clear_session()  # it keeps all that was built


def _card(name: str, app: Any, long_names: dict[str, str]) -> dict[str, Any]:
    from zoo_tf import images

    family, paper, note = next((f, p, n) for begin, f, p, n in FAMILIES if re.match(begin, name))
    model, whole = built(app, top=True)
    _, plain = built(app, top=False)
    return {
        "framework": FRAMEWORK,
        "name": name,
        "task": IMAGE,
        "family": family,
        "source": "keras.applications",
        "params": model.count_params(),
        "macs_g": round(macs(model) / 1e9, 4),
        "size": app.size,
        "paper": f"https://arxiv.org/abs/{paper}",
        "aliases": _aliases(name, long_names),
        "depths": sorted(images.network(name, app, model, size=app.size).taps),
        "weights": [
            {**_weights("imagenet", whole, name), "preprocess": images.preprocess(app, app.size)},
            {**_weights("imagenet_no_top", plain, None), "preprocess": images.preprocess(app, app.size)},
        ],
        "note": note,
    }


def _aliases(name: str, long_names: dict[str, str]) -> list[str]:
    """Keras's own spelling without underscores, and the long names of the plain ones."""
    found = [long_names[name]] if name in long_names else []
    if name == "mobilenet_v1":
        found.append("mobilenet")
    if re.fullmatch(r"resnet\d+_v2", name):
        found.append(name.replace("_", ""))
    return found


def _weights(tag: str, asked: tuple[str, str, str | None], name: str | None) -> dict[str, Any]:
    """One file. The published accuracy belongs to the one with the top, whose model's name is given."""
    file, url, digest = asked
    found: dict[str, Any] = {"tag": tag, "file": file, "url": url}
    if digest:
        found["sha256" if len(digest) == 64 else "md5"] = digest
    elif file in TAKEN:
        found["sha256"] = TAKEN[file]
    for link, table in PUBLISHED.items():
        if name in table:
            found |= {"metric": "acc@1", "dataset": "ImageNet-1K", "value": table[name], "source": link}
    return found


# Keras gives no digest for MobileNet v1 and v2. This one was taken from the file.
TAKEN = {"mobilenet_2_5_224_tf_no_top.h5": "dbdb03ee2a22fd895301636cd328b234bb3a9952358f436d82f46b81e0d5b0bf"}


def built(app: Any, *, top: bool) -> tuple[Any, tuple[str, str, str | None]]:
    """Keras's network for its published weights, without memory for them, and the file that it asks for:
    name, address, digest."""
    from unittest import mock

    import keras
    from keras.src.initializers.random_initializers import VarianceScaling
    from keras.src.utils import file_utils

    asked: list[tuple[str, str, str | None]] = []

    def get_file(fname: str, origin: str, file_hash: str | None = None, **_: Any) -> str:
        asked.append((fname, origin, file_hash))
        return fname

    def zeros(_self: Any, shape: tuple[int, ...], dtype: Any = None) -> Any:
        return keras.ops.zeros(shape, dtype)

    with (
        mock.patch.object(file_utils, "get_file", get_file),
        mock.patch.object(keras.Model, "load_weights", lambda *_, **__: None),
        mock.patch.object(VarianceScaling, "__call__", zeros),
        keras.StatelessScope(),
    ):
        shape = (app.size, app.size, 3)
        model = app.make(weights="imagenet", include_top=top, input_shape=shape, **app.options)
    (question,) = asked
    return model, question


# --- multiply-accumulates
def macs(model: Any) -> int:
    """Of one input, convolutions and matrix products alone, from the shapes of the graph."""
    return sum(_layer_macs(layer) for layer in _leaves(model))


def _leaves(model: Any) -> Iterator[Any]:
    for layer in model.layers:
        yield from _leaves(layer) if hasattr(layer, "layers") else (layer,)


def _layer_macs(layer: Any) -> int:
    kind = type(layer).__name__
    if kind in ("Conv2D", "DepthwiseConv2D"):
        return math.prod(_output(layer)[1:3]) * math.prod(layer.kernel.shape)
    if kind == "SeparableConv2D":
        kernels = math.prod(layer.depthwise_kernel.shape) + math.prod(layer.pointwise_kernel.shape)
        return math.prod(_output(layer)[1:3]) * kernels
    if kind == "Dense":
        return math.prod(_output(layer)[1:-1]) * math.prod(layer.kernel.shape)
    if hasattr(layer, "kernel") or hasattr(layer, "pointwise_kernel"):
        raise AssertionError(f"{kind}: a layer with a kernel that is not counted")
    return 0


def _output(layer: Any) -> tuple[int, ...]:
    return tuple(layer.output.shape)
