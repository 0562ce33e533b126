"""What the selector is held against: candidates of two data sets, their random splits, and where results are kept.

A network is weights in a framework at a size and a depth: one thing to fine-tune. A candidate is a network in a
precision: one file to ship. Real weights and data are in ../shared; results go into runs/select, never the repository.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from zoo.choose.arms import Arm, make_arms
from zoo.choose.subsets import limited
from zoo.data import Dataset, open_data, split
from zoo.engine import Array

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"
WEIGHTS, DATA = SHARED / "weights", SHARED / "data"
RUNS = ROOT / "runs" / "select"
SPLITS = 20
SEEDS = (0, 1, 2)
FIFTH, QUARTER = 0.2, 0.25


@dataclass(frozen=True)
class Network:
    """id: as `zoo.get` takes it.  published: its publisher's top-1 on ImageNet in percent, at the size it was trained
    at, or None.  fine_tuned_as: the label of the same weights in another framework, whose fine-tuning stands for its
    own; "": it is fine-tuned itself.  taught_as: the id by which it is fine-tuned, of the same weights in torch.
    """

    label: str
    id: str
    published: float | None = None
    fine_tuned_as: str = ""
    taught_as: str = ""

    @property
    def folder(self) -> str:
        """Its label as a file name."""
        return re.sub(r"[^a-z0-9.]+", "-", self.label.lower()).strip("-")

    @property
    def framework(self) -> str:
        """Of its id."""
        return self.id.partition(":")[0]


@dataclass(frozen=True)
class Candidate:
    """What can ship."""

    network: Network
    precision: str

    @property
    def label(self) -> str:
        """The network's, and the precision where it is not float32."""
        return self.network.label + ("" if self.precision == "fp32" else f", {self.precision}")

    @property
    def folder(self) -> str:
        """Its label as a file name."""
        return self.network.folder + ("" if self.precision == "fp32" else f"-{self.precision}")


@dataclass(frozen=True)
class Split:
    """int64 positions in the pooled data, apart from each other."""

    train: Array
    validation: Array
    test: Array


@dataclass(frozen=True)
class Task:
    """A data set and what is tried on it. epochs: of a full run and of halving's first rung, as `zoo tune` would.

    labels: of the pool so many are used for training and validation; None: all.  test: so many judge; None: a fifth.
    """

    name: str
    epochs: int
    short: int
    networks: tuple[Network, ...]
    precisions: tuple[str, ...]
    labels: int | None = None
    test: int | None = None

    @property
    def folder(self) -> Path:
        """Where its results are."""
        return RUNS / self.name

    @property
    def candidates(self) -> list[Candidate]:
        """Networks x precisions."""
        return [Candidate(network, precision) for network in self.networks for precision in self.precisions]

    def network(self, label: str) -> Network:
        """By its label."""
        return next(network for network in self.networks if network.label == label)

    @functools.cached_property
    def data(self) -> Dataset:
        """All parts of the data set, pooled."""
        return pooled(self.name)

    def split(self, number: int) -> Split:
        """A fifth (or `test`) to test on; of the rest (or `labels` of it) a quarter to validate on; stratified."""
        data = self.data
        places: Any = list(range(len(data)))  # in place of the inputs: where each example went
        share = FIFTH if self.test is None else self.test / len(data)
        rest, test = split(dataclasses.replace(data, inputs=places), share, seed=number)
        rest = rest.subset(limited(rest.targets, self.labels, seed=number))
        train, validation = split(rest, QUARTER, seed=number)
        return Split(*(np.array(part.inputs, np.int64) for part in (train, validation, test)))

    def arms(self, part: str) -> list[Arm]:
        """SGD and AdamW, each at three rates: those of `zoo tune`."""
        return make_arms([part], ["sgd", "adamw"], None)


def pooled(name: str) -> Dataset:
    """All parts of a data set in ../shared as one."""
    if name == "sst2":
        parts = [open_data(DATA / "sst2" / f"{part}.tsv") for part in ("train", "dev", "test")]
    else:
        parts = [open_data(DATA / name / part, on_error="skip") for part in ("train", "val")]
    assert all(part.classes == parts[0].classes for part in parts)
    inputs = [item for part in parts for item in part.inputs]
    targets = np.concatenate([part.targets for part in parts])
    return Dataset(parts[0].kind, inputs, targets, parts[0].classes, name)


def _sized(label: str, model: str, sizes: Sequence[int], published: float, twin: str = "") -> list[Network]:
    return [
        Network(f"{label} {size}", f"{model},size={size}", published, twin and f"{twin} {size}")
        for size in sizes
    ]


def _twins(networks: Sequence[Network], model: str) -> list[Network]:
    return [dataclasses.replace(n, taught_as=f"{model},{n.id.partition(',')[2]}") for n in networks]


KERAS = WEIGHTS / "keras" / "mobilenet_2_5_224_tf_no_top.h5"
TWIN = RUNS / "weights" / "mobilenet_v1_0.25_224"  # of Keras's file, by select_twin.py
SQUEEZENET_1_1 = f"torch:squeezenet1_1@{WEIGHTS}/torch/squeezenet1_1-converted-from-caffe-fp16.pth"
SQUEEZENET = f"torch:squeezenet1_0@{WEIGHTS}/torch/squeezenet1_0-converted-from-deepcompression.pth"
# Top-1: Howard et al. 2017, table 6 (MobileNet); torchvision's cards (SqueezeNet).
IMAGES = (
    *_twins(_sized("MobileNet 0.25 tf", "tf:mobilenet_v1_0.25_224", (224, 160, 128), 50.6), f"hf:{TWIN}"),
    *_sized("MobileNet 0.75 hf", f"hf:{WEIGHTS}/hf/mobilenet_v1_0.75_224", (224, 160, 128), 68.4),
    *_sized("MobileNet 0.75 tf", "tf:mobilenet_v1_0.75_224", (224, 160, 128), 68.4, "MobileNet 0.75 hf"),
    *_sized("SqueezeNet 1.0", SQUEEZENET, (224, 160), 58.1),
    Network("SqueezeNet 1.0 depth 2 224", f"{SQUEEZENET},depth=2,size=224"),
    *_sized("SqueezeNet 1.1", SQUEEZENET_1_1, (224, 160), 58.2),
)
DEPTHS = range(1, 7)
TEXTS = (
    *(Network(f"MiniLM hf depth {k}", f"hf:all-minilm-l6-v2,depth={k}") for k in DEPTHS),
    *(
        Network(f"MiniLM tf depth {k}", f"tf:all-minilm-l6-v2,depth={k}", None, f"MiniLM hf depth {k}")
        for k in DEPTHS
    ),
)
TASKS = {
    "hymenoptera": Task("hymenoptera", 6, 2, IMAGES, ("fp32", "int8-static")),
    "sst2": Task("sst2", 3, 1, TEXTS, ("fp32", "int8-dynamic"), labels=400, test=600),
}
