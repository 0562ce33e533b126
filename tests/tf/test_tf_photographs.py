"""Head-only training on real photographs, held against scikit-learn on Keras's own features."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

import zoo
from zoo.data import open_data, prepare


@pytest.mark.shared
@pytest.mark.parametrize(("width", "file"), [(0.25, "2_5"), (0.75, "7_5")])
def test_head_only_training_does_as_well_as_logistic_regression(
    shared: Path, monkeypatch: pytest.MonkeyPatch, width: float, file: str
) -> None:
    """Within 3 of the 153 validation photographs, on features that our code had no part in."""
    monkeypatch.setenv("ZOO_MIRROR", str(shared / "weights" / "keras"))
    photographs = shared / "data" / "hymenoptera"
    train = open_data(photographs / "train", on_error="skip")
    held = open_data(photographs / "val", classes=train.classes)
    model = zoo.get(f"tf:mobilenet_v1_{width}_224", num_classes=2)
    model.freeze()
    model.fit(train, recipe=zoo.Recipe(optimizer="adamw", lr=1e-3, epochs=30), progress=False)
    right = round(model.evaluate(held)["accuracy"] * len(held))

    path = shared / "weights" / "keras" / f"mobilenet_{file}_224_tf_no_top.h5"
    native = keras.applications.MobileNet(
        (224, 224, 3), alpha=width, include_top=False, weights=path, pooling="avg"
    )

    def features(inputs: object) -> np.ndarray:
        images = prepare(inputs, model.preprocess)["images"].transpose(0, 2, 3, 1)  # type: ignore[arg-type]
        return np.asarray(native.predict(images, verbose=0))

    reference = LogisticRegression(max_iter=2000).fit(features(train.inputs), train.targets)
    theirs = int((reference.predict(features(held.inputs)) == held.targets).sum())
    assert len(held) == 153 and abs(right - theirs) <= 3, (right, theirs)
