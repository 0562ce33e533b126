"""PyTorch: train a head on a frozen ResNet, then its last blocks, and export what came out.

    python examples/torch_photos.py photos/train photos/val runs/torch [torch:resnet18]

photos/train holds a folder of photographs for each class. Without a network give `torch:resnet18@none`
(random weights) or set ZOO_MIRROR to a folder with the official file.
"""

import sys
from pathlib import Path

import zoo


def main(train: str, validation: str, out: str, name: str = "torch:resnet18") -> None:
    model = zoo.get(name)
    model.freeze()
    model.fit(train, validation, zoo.Recipe(optimizer="sgd", lr=1e-2, epochs=3))
    print("head only:", model.evaluate(validation)["accuracy"])

    model.unfreeze(last=2)
    recipe = zoo.Recipe(optimizer="sgd", lr=1e-3, epochs=2, batch_size=16, schedule="cosine")
    model.fit(train, validation, recipe)
    print("last two blocks too:", model.evaluate(validation)["accuracy"])

    onnx = model.export(Path(out) / "model.onnx")
    cost = onnx.benchmark()[0]
    print(f"{onnx.path}: p50 {cost.latency_p50_ms:.1f} ms, {cost.size_mb:.1f} MB")


if __name__ == "__main__":
    main(*sys.argv[1:])
