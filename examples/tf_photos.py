"""TensorFlow: the features of a Keras network in scikit-learn, and the classifier back in one ONNX file.

    python examples/tf_photos.py photos/train photos/val runs/tf [tf:mobilenet_v2]

Without a network give `tf:mobilenet_v2@none` (random weights) or set ZOO_MIRROR to a folder with the official file.
"""

import sys
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression

import zoo
from zoo.data import open_data


def main(train: str, validation: str, out: str, name: str = "tf:mobilenet_v2") -> None:
    data = open_data(train)
    held = open_data(validation, classes=data.classes)
    model = zoo.get(name, num_classes=len(data.classes))
    backbone = model.export(Path(out) / "backbone.onnx")

    probe = LogisticRegression(max_iter=1000).fit(backbone.features(data.inputs), data.targets)
    weight, bias = probe.coef_, probe.intercept_
    if len(data.classes) == 2:  # scikit-learn keeps one row for two classes
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2

    path = Path(out) / "model.onnx"
    shipped = backbone.with_head(
        weight.astype(np.float32), bias.astype(np.float32), labels=data.classes, path=path
    )
    right = shipped.predict(held.inputs).argmax(axis=1) == held.targets
    print(f"{shipped.path}: {right.mean():.3f} of {len(held)} right")


if __name__ == "__main__":
    main(*sys.argv[1:])
