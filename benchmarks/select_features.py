"""Features of real networks on real data, for the selector's benchmarks: exported and computed once, then cached."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from zoo.choose.artefacts import Features, export_families
from zoo.choose.candidates import expand
from zoo.data import Dataset, open_data

SHARED = Path(__file__).resolve().parent.parent.parent / "shared"
WEIGHTS, DATA = SHARED / "weights", SHARED / "data"
IMAGES = {
    "MobileNet 0.25 (Keras)": "tf:mobilenet_v1_0.25_224",
    "MobileNet 0.75 (Keras)": "tf:mobilenet_v1_0.75_224",
    "SqueezeNet 1.0": f"torch:squeezenet1_0@{WEIGHTS}/torch/squeezenet1_0-converted-from-deepcompression.pth",
    "SqueezeNet 1.1": f"torch:squeezenet1_1@{WEIGHTS}/torch/squeezenet1_1-converted-from-caffe-fp16.pth",
}
TEXTS = {f"MiniLM, {depth} layers": f"hf:all-minilm-l6-v2,depth={depth}" for depth in range(1, 7)}


def pooled(folder: str, parts: Sequence[str]) -> Dataset:
    """All parts of a data set in ../shared as one."""
    opened = [open_data(DATA / folder / parts[0], on_error="skip")]
    opened += [open_data(DATA / folder / p, classes=opened[0].classes, on_error="skip") for p in parts[1:]]
    inputs = [item for part in opened for item in part.inputs]
    targets = np.concatenate([part.targets for part in opened])
    return Dataset(opened[0].kind, inputs, targets, opened[0].classes, folder)


def hymenoptera() -> Dataset:
    """397 photographs of ants and bees."""
    return pooled("hymenoptera", ["train", "val"])


def sst2() -> Dataset:
    """9,613 sentences of film reviews."""
    return pooled("sst2", ["train.tsv", "dev.tsv", "test.tsv"])


def features(named: dict[str, str], data: Dataset) -> dict[str, np.ndarray]:
    """float32 [N, D] by name. Raises whatever keeps a network from being loaded."""
    os.environ.setdefault("ZOO_MIRROR", str(WEIGHTS / "keras"))
    families, lost = expand(list(named.values()), data.kind)
    with tempfile.TemporaryDirectory(prefix="zoo-select-") as work:
        artefacts, failed = export_families(families, Path(work), len(data.classes), say=print)
        for _, error in (*lost, *failed):
            raise error
        source = Features(data.inputs, source=data.source)
        by_id = {artefact.id: source.of(artefact) for artefact in artefacts}
    return {name: by_id[text] for name, text in named.items()}
