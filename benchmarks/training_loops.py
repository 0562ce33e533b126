"""The loops that `benchmarks/training.py` compares, each called in a worker process of its own.

The plain ones are what the frameworks' own tutorials have people write. Frameworks are imported inside the
functions, because one process must not hold two.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

LR, MOMENTUM, BATCH = 1e-3, 0.9, 32
_held: dict[str, Any] = {}


# --- ours
def start_zoo(model: str, folder: str) -> str:
    """Load the model and put a head for two classes on it; nothing is frozen."""
    import zoo

    backbone = zoo.get(model, num_classes=2)
    _held.update(backbone=backbone, folder=folder)
    zoo_epoch()
    return str(backbone.id)


def zoo_epoch() -> float:
    """Seconds of the second of two epochs: the first one traces and warms up."""
    import zoo

    recipe = zoo.Recipe(optimizer="sgd", lr=LR, momentum=MOMENTUM, epochs=2, batch_size=BATCH)
    history = _held["backbone"].fit(_held["folder"], recipe=recipe, progress=False)
    return float(history.epochs[-1]["seconds"])


# --- the plain PyTorch loop
def start_torch(name: str, folder: str, size: int) -> str:
    """torchvision's own model, ImageFolder, transforms and DataLoader with two worker processes."""
    import torch
    import torchvision
    from torchvision.transforms import v2

    transforms = v2.Compose(
        [
            v2.PILToTensor(),
            v2.Resize(size, antialias=True),
            v2.CenterCrop(size),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        ]
    )
    model = torchvision.models.get_model(name, weights=None, num_classes=2)
    _held.update(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=LR, momentum=MOMENTUM),
        loader=torch.utils.data.DataLoader(
            torchvision.datasets.ImageFolder(folder, transforms),
            batch_size=BATCH,
            shuffle=True,
            num_workers=2,
            persistent_workers=True,
        ),
    )
    torch_epoch()
    return f"torchvision {name}"


def torch_epoch() -> float:
    """Seconds of one epoch; the loss is summed on the device and fetched once."""
    import torch

    model, optimizer = _held["model"], _held["optimizer"]
    started = time.perf_counter()
    model.train()
    total = torch.zeros(())
    for images, targets in _held["loader"]:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(images), targets)
        loss.backward()
        optimizer.step()
        total += loss.detach()
    float(total)
    return time.perf_counter() - started


# --- Keras fit
def start_keras(name: str, folder: str, size: int) -> str:
    """keras.applications' own model, image_dataset_from_directory and compile."""
    import keras
    import tensorflow as tf

    data = keras.utils.image_dataset_from_directory(
        Path(folder), image_size=(size, size), batch_size=BATCH, shuffle=True, seed=0, verbose=False
    )
    data = data.map(lambda images, targets: (images / 127.5 - 1.0, targets), num_parallel_calls=2)
    model = getattr(keras.applications, name)(
        weights=None, input_shape=(size, size, 3), classes=2, classifier_activation=None
    )
    model.compile(
        optimizer=keras.optimizers.SGD(LR, momentum=MOMENTUM),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    _held.update(model=model, data=data.prefetch(tf.data.AUTOTUNE))
    keras_epoch()
    return f"keras.applications {name}"


def keras_epoch() -> float:
    """Seconds of one epoch of `Model.fit`."""
    started = time.perf_counter()
    _held["model"].fit(_held["data"], epochs=1, verbose=0)
    return time.perf_counter() - started
