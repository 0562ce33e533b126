"""Catalogues for tests: installed beside the real ones as packages of their own, found through entry points.

`few` are a dozen cards whose filtered lists can be told by eye; `thousands` have the size of the real ones.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from zoo import registry
from zoo.cards import IMAGE_TASK, TEXT_TASK


def weights(tag: str, top1: float | None = None, **more: Any) -> dict[str, Any]:
    figure = {"metric": "acc@1", "value": top1, "dataset": "ImageNet-1K", "source": "https://example.org"}
    return {"tag": tag, **(figure if top1 else {}), **more}


def card(framework: str, name: str, family: str, source: str, **more: Any) -> dict[str, Any]:
    return {
        "framework": framework, "name": name, "family": family, "source": source, "task": IMAGE_TASK, **more
    }  # fmt: skip


BIRDS = {"metric": "acc@1", "value": 91.0, "dataset": "iNaturalist", "source": "https://example.org"}
SST2 = {"metric": "accuracy", "value": 91.3, "dataset": "SST-2", "source": "https://example.org"}
FEW = [
    card("pan", "gridnet50", "gridnet", "pansource", params=25_557_032, macs_g=4.089, size=224, note="v1.5",
         weights=[weights("V2", 80.9, licence="unknown", bytes=102_000_000), weights("V1", 76.1, licence="mit")]),
    card("pan", "timm/gridnet50", "gridnet", "timm", params=25_557_032, macs_g=4.1, size=224,
         weights=[weights("a1_in1k", 80.2, licence="apache-2.0", bytes=102_500_000, dataset="ImageNet-1K at 288 px"),
                  weights("bit_in21k", None, licence="cc-by-nc-4.0", size=288, preprocess="bicubic 288")]),
    card("pan", "timm/gridnet50d", "gridnet", "timm", params=25_576_264, macs_g=4.35, size=224,
         aliases=["gridnet50d"], weights=[weights("ra2_in1k", 80.5, licence="apache-2.0")]),
    card("pan", "timm/gridnet101", "gridnet", "timm", params=44_549_160, macs_g=7.8, size=224),
    card("pan", "tinygrid", "tinygrid", "pansource", params=1_200_000, macs_g=0.3, size=96,
         weights=[weights("V1", 58.1, licence="bsd-3-clause", bytes=4_900_000)]),
    card("qed", "gridnet50", "gridnet", "qed.applications", params=25_636_712, macs_g=3.87, size=224,
         note="stride in the first 1x1", weights=[weights("imagenet", 74.9), weights("imagenet_no_top")]),
    card("qed", "gridnet50_v2", "gridnet_v2", "qed.applications", params=25_613_800, size=224,
         weights=[weights("imagenet", 76.0)]),
    card("qed", "qedhub/grid_net_50_imagenet", "gridnet", "qed_hub", params=23_561_152, size=224,
         aliases=["grid_net_50_imagenet"], weights=[weights("default", licence="apache-2.0")]),
    card("qed", "org/grid-net-50", "gridnet", "transformers", params=25_557_032, size=224,
         weights=[weights("main", licence="apache-2.0")]),
    card("qed", "birdnet", "birdnet", "transformers", size=224, weights=[weights("main", licence="mit", **BIRDS)]),
    # Near gridnet50's name and no relatives: another version's, far bigger, another figure.
    card("qed", "gridnet50d_v2", "gridnet", "qed.applications", params=25_600_000, size=224),
    card("qed", "gridnet50w", "gridnet", "qed.applications", params=66_000_000, size=224),
    card("qed", "gridnet502", "gridnet", "qed.applications", params=25_600_000, size=224),
    card("qed", "wordnet", "wordnet", "transformers", task=TEXT_TASK, params=110_000_000, size=512,
         weights=[weights("main", licence="apache-2.0", **SST2)]),
]  # fmt: skip


@contextmanager
def installed(folder: Path, cards: Sequence[dict[str, Any]]) -> Iterator[None]:
    """Packages with these cards, one a framework, importable and found while inside."""
    for framework in {entry["framework"] for entry in cards}:
        own = [entry for entry in cards if entry["framework"] == framework]
        write_package(folder, framework, own)
    sys.path.insert(0, str(folder))
    registry.forget()
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        registry.forget()


def write_package(folder: Path, framework: str, cards: Sequence[dict[str, Any]]) -> None:
    name = f"zoo_{framework}"
    (folder / name / "cards").mkdir(parents=True, exist_ok=True)
    (folder / name / "__init__.py").write_text("raise RuntimeError('listing must not import an adapter')")
    (folder / name / "cards" / "all.json").write_text(json.dumps(cards))
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir(exist_ok=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[zoo.adapters]\n{framework} = {name}:ADAPTER\n")


def thousands(framework: str, count: int, *, seed: int = 0) -> list[dict[str, Any]]:
    """Cards as full as the real ones, 1.6 sets of weights each."""
    rng = random.Random(seed)
    return [
        card(framework, f"timm/net{i}_base_patch16_224", f"net{i % 90}", "timm", params=rng.randint(10**6, 10**9),
             macs_g=round(rng.uniform(0.1, 60), 3), size=224, aliases=[f"net{i}_base_patch16_224"],
             paper="https://arxiv.org/abs/1512.03385", depths=[1, 2, 3, 4, 5], note="How it differs from others.",
             weights=[
                 weights(f"tag{j}_in1k", round(rng.uniform(60, 90), 3), licence="apache-2.0", sha256="0" * 64,
                         url=f"https://example.org/net{i}_{j}.safetensors", bytes=rng.randint(10**6, 10**9),
                         file=f"net{i}_{j}.safetensors", preprocess="bicubic 235, centre 224")
                 for j in range(1 + (i % 5 > 1))
             ])
        for i in range(count)
    ]  # fmt: skip
