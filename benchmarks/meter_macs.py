"""MACs counted on our exports beside the figures that others publish, model by model.

torchvision: `_ops` of each classifier's weights (GFLOPs, where one multiply-add counts once), at each input size that
it has weights for. Keras: what the papers say, with the table. Random weights: MACs do not depend on them.
Results are kept in `runs/meter_macs.jsonl` as they come; a second call goes on where the first stopped.

    nice -n 19 python benchmarks/meter_macs.py [torchvision] [keras] [--only NAME ...] [--fresh] [--record]
"""

from __future__ import annotations

import argparse
import gc
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common import machine_line, record, table

KEPT = Path(__file__).resolve().parent.parent / "runs" / "meter_macs.jsonl"
WITHIN = 0.01
# One protobuf message ends at 2 GiB, so no file of ours holds these: their exporter's raw graph is counted.
TOO_LARGE = ("regnet_y_128gf", "vit_h_14")


@dataclass(frozen=True)
class Published:
    """A figure in print. digit: one unit of its last digit: it may be half of that off by rounding alone."""

    source: str
    name: str
    size: int
    macs_g: float
    digit: float
    where: str

    @property
    def key(self) -> str:
        """What its result is kept by."""
        return f"{self.source}:{self.name},size={self.size}"


HOWARD_1, SANDLER = "Howard et al. 2017, Table 8", "Sandler et al. 2018, Table 4"
SMALL = "Howard et al. 2019, Table 3, the printing with 2.5M parameters (another has 66 and 2.9M)"
HOWARD_3, HE = "Howard et al. 2019, Table 3", "He et al. 2016, Table 1"
TAN, LIU, ZOPH = "Tan and Le 2019, Table 2", "Liu et al. 2022, Table 1", "Zoph et al. 2018, Table 2"
KERAS = [
    Published("tf", "mobilenet_v1", 224, 0.569, 0.001, HOWARD_1),
    Published("tf", "mobilenet_v2", 224, 0.300, 0.001, SANDLER),
    Published("tf", "mobilenet_v3_large", 224, 0.219, 0.001, HOWARD_3),
    Published("tf", "mobilenet_v3_small", 224, 0.056, 0.001, SMALL),
    Published("tf", "resnet50", 224, 3.8, 0.1, HE),
    Published("tf", "resnet101", 224, 7.6, 0.1, HE),
    Published("tf", "resnet152", 224, 11.3, 0.1, HE),
    Published("tf", "vgg19", 224, 19.6, 0.1, "He et al. 2016, section 3.3"),
    Published("tf", "efficientnet_b0", 224, 0.39, 0.01, TAN),
    Published("tf", "convnext_tiny", 224, 4.5, 0.1, LIU),
    Published("tf", "inception_v3", 299, 5.72, 0.01, ZOPH),
    Published("tf", "xception", 299, 8.38, 0.01, ZOPH),
    Published("tf", "nasnet_mobile", 224, 0.564, 0.001, "Zoph et al. 2018, Table 3"),
]


def torchvision_figures() -> list[Published]:
    """Every classifier at every input size that it has weights for; the two too large for one file last."""
    import torchvision
    from torchvision.models import get_model_weights, list_models

    found: dict[tuple[str, int], Published] = {}
    for name in list_models(module=torchvision.models):
        for weights in get_model_weights(name):
            size, figure = weights.transforms.keywords["crop_size"], weights.meta["_ops"]
            where = f"torchvision {torchvision.__version__}, {weights.name}"
            found.setdefault((name, size), Published("torch", name, size, figure, 0.001, where))
    return sorted(found.values(), key=lambda p: (p.name in TOO_LARGE, p.size > 300 and p.macs_g > 20))


# --- ours
def count(published: Published) -> dict[str, Any]:
    """MACs and parameters of our export of that network with random weights."""
    import zoo
    from zoo.cost import count_macs, graph_facts
    from zoo.graph import export_engine

    started, head = time.perf_counter(), 0
    model = zoo.get(f"{published.source}:{published.name}@none", size=published.size)
    with tempfile.TemporaryDirectory(prefix="zoo-macs-") as folder:
        path = Path(folder) / "model.onnx"
        if published.name in TOO_LARGE:  # as far as the features: the head is one product more
            model.engine.export_onnx(path, opset=18, depths=())
            head = (model.num_classes or 0) * (model.feature_dim or 0)
        else:
            export_engine(model.engine, path, model_id=str(model.id), versions=model.versions(), parity=False)
        macs, params = count_macs(path) + head, graph_facts(path).params + head
    return {"macs": macs, "params": params, "seconds": round(time.perf_counter() - started, 1)}


def counted(wanted: list[Published], kept: Path) -> Iterator[tuple[Published, dict[str, Any]]]:
    """Each with its result: kept from an earlier call, or made now and kept."""
    kept.parent.mkdir(parents=True, exist_ok=True)
    lines = kept.read_text(encoding="utf-8").splitlines() if kept.is_file() else []
    known = {line["key"]: line for line in map(json.loads, lines) if "macs" in line}
    for published in wanted:
        if published.key not in known:
            try:
                found = {"key": published.key, **count(published)}
            except Exception as error:
                found = {"key": published.key, "error": f"{type(error).__name__}: {str(error)[:300]}"}
            gc.collect()
            with kept.open("a", encoding="utf-8") as file:
                file.write(json.dumps(found) + "\n")
            print(json.dumps(found), file=sys.stderr, flush=True)
            known[published.key] = found
        yield published, known[published.key]


# --- the tables
SOURCES: dict[str, Callable[[], list[Published]]] = {
    "torchvision": torchvision_figures,
    "keras": lambda: KERAS,
}
ROUNDED = "the published figure has too few digits to tell: ours rounds to it"
REASONS: dict[str, str] = {
    "tf:resnet50,size=224": (
        "the paper prints 3.8, as if cut and not rounded (our reading); its ResNet-101 and -152 agree, from the same "
        "code"
    ),
    "tf:mobilenet_v3_large,size=224": (
        "the authors' table beside their weights (tensorflow/models, slim/nets/mobilenet) and torchvision both state "
        "0.217 for the same network, as counted here; what the paper's figure adds it does not say"
    ),
}


@dataclass(frozen=True)
class Row:
    """One model's line. share: how far off, of the published figure; None: it could not be counted."""

    cells: list[str]
    share: float | None
    rounds_to_it: bool = False

    @property
    def reason(self) -> str:
        """Why it differs by more than the limit."""
        if self.share is None:
            return "not counted"
        return ROUNDED if self.rounds_to_it else REASONS.get(self.cells[0], "no reason found")


def row(published: Published, found: dict[str, Any]) -> Row:
    """A result beside what is published."""
    first = [published.key, f"{published.macs_g:g}"]
    if "macs" not in found:
        return Row([*first, "", "", "", found["error"]], None)
    ours = found["macs"] / 1e9
    share = ours / published.macs_g - 1
    cells = [*first, f"{ours:.4g}", f"{100 * share:+.2f} %", f"{found['params'] / 1e6:.2f}", published.where]
    return Row(cells, share, abs(ours - published.macs_g) <= published.digit / 2 + 1e-12)


def summary(source: str, only: list[str], kept: Path) -> str:
    """The table of one source, and what differs by more than the limit."""
    wanted = [p for p in SOURCES[source]() if not only or p.name in only]
    rows = [row(*result) for result in counted(wanted, kept)]
    far = [row for row in rows if row.share is None or abs(row.share) > WITHIN]
    exact = sum(row.rounds_to_it for row in rows)
    header = ["model", "published G", "counted G", "difference", "params M", "where published"]
    parts = [
        f"### {source}",
        f"{len(rows) - len(far)} of {len(rows)} within 1 % of the published figure; {exact} round to it exactly.",
        table(header, [row.cells for row in rows]),
    ]
    parts += [f"- {row.cells[0]}, {row.cells[3] or 'blank'}: {row.reason}." for row in far]
    return "\n\n".join(parts)


def main() -> None:
    """Count what is not kept yet, each source in a process of its own (two frameworks!); print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("sources", nargs="*", help=f"of {', '.join(SOURCES)}; default: all")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME")
    parser.add_argument("--kept", type=Path, default=KEPT, help="where results are kept")
    parser.add_argument("--fresh", action="store_true", help="count all anew")
    parser.add_argument("--record", action="store_true", help="write the section into RESULTS.md")
    given = parser.parse_args()
    sources = given.sources or list(SOURCES)
    if given.fresh:
        given.kept.unlink(missing_ok=True)
    if len(sources) > 1:
        for source in sources:
            again = [sys.executable, __file__, source, "--kept", str(given.kept)]
            subprocess.run([*again, *(["--only", *given.only] if given.only else [])], check=True)
    texts = [summary(source, given.only, given.kept) for source in sources]
    packages = ("torchvision", "keras", "onnx")
    text = "## MACs from the graph\n\n`python benchmarks/meter_macs.py`, random weights, batch 1.\n\n"
    text += "\n\n".join(texts) + f"\n\n{machine_line(*packages)}"
    print(text)
    if given.record:
        record("meter-macs", text)


if __name__ == "__main__":
    main()
