"""Features of real networks on real data, for the selector's benchmarks: exported and computed once, then cached."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np
from select_space import SQUEEZENET, SQUEEZENET_1_1, WEIGHTS

from zoo.choose.artefacts import Features, export_families
from zoo.choose.candidates import expand
from zoo.data import Dataset

IMAGES = {
    "MobileNet 0.25 (Keras)": "tf:mobilenet_v1_0.25_224",
    "MobileNet 0.75 (Keras)": "tf:mobilenet_v1_0.75_224",
    "SqueezeNet 1.0": SQUEEZENET,
    "SqueezeNet 1.1": SQUEEZENET_1_1,
}
TEXTS = {f"MiniLM, {depth} layers": f"hf:all-minilm-l6-v2,depth={depth}" for depth in range(1, 7)}


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
