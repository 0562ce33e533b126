"""timm's cards: all architectures and tags, from timm's registry and from networks built on torch's meta device.

Parameters and multiply-accumulates are counted on networks without values, a second or so each: they are kept
in runs/catalogue_timm.jsonl, so that a broken-off run goes on, and go stale with timm's version. Top-1 is what
timm's own results table states (RESULTS, put there or downloaded); where it cannot be had, what the data file
already states stays.
"""

from __future__ import annotations

import csv
import io
import json
import re
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from zoo.cards import read_cards

FRAMEWORK, SOURCE = "torch", "timm"
ROOT = Path(__file__).resolve().parent.parent
CARDS = ROOT / "adapters" / "zoo_torch" / "cards"
FACTS, RESULTS = ROOT / "runs" / "catalogue_timm.jsonl", ROOT / "runs" / "timm-results-imagenet.csv"
TABLE = "https://raw.githubusercontent.com/huggingface/pytorch-image-models/main/results/results-imagenet.csv"
SHOWN = "https://github.com/huggingface/pytorch-image-models/blob/main/results/results-imagenet.csv"
HUB = "https://huggingface.co/"
# First words of a name that stand before the architecture's own.
BEFORE = ("test", "tf", "legacy", "gluon", "nf", "dm", "eca", "ese", "ssl", "swsl", "tiny", "cs3se", "adv")
SPELT = {
    "mobilenetv1": "mobilenet_v1",
    "mobilenetv2": "mobilenet_v2",
    "mobilenetv3": "mobilenet_v3",
    "mobilenetv4": "mobilenet_v4",
    "efficientnetv2": "efficientnet_v2",
    "inception_v3": "inception_v3",
    "swinv2": "swin_v2",
    "convnextv2": "convnext_v2",
    "regnetx": "regnet",
    "regnety": "regnet",
    "regnetz": "regnet",
    "regnetv": "regnet",
    "wide": "wide_resnet",
    "deit3": "deit",
    "beitv2": "beit",
    "eva02": "eva",
}


def cards() -> Iterator[dict[str, Any]]:
    """A card of each architecture that the adapter reads; what it cannot read is printed with the reason."""
    import timm

    known = facts()
    others = _other_names()
    published = top1()
    for arch in timm.list_models():
        found = known[arch]
        if "bad" in found:
            print(f"left out: {arch}: {found['bad']}")
            continue
        yield card(arch, found, published, alias=arch not in others)


def card(
    arch: str, found: Mapping[str, Any], published: Mapping[str, Mapping[int, float]], *, alias: bool
) -> dict[str, Any]:
    """One architecture's card."""
    import timm

    from zoo_torch import timm_models

    config = timm.get_pretrained_cfg(arch)
    weights = [weights_card(arch, tag, config, published) for tag in timm_models.tags(arch)]
    return {
        "framework": FRAMEWORK,
        "name": f"timm/{arch}",
        "task": "image-classification",
        "family": family(arch),
        "source": SOURCE,
        "params": found["params"],
        "macs_g": round(found["macs"] / 1e9, 3) or None,
        "size": max(config.input_size[1:]),
        "paper": paper(config.paper_ids),
        "aliases": [arch] if alias else [],
        "depths": found["depths"],
        "weights": weights,
        "note": found["note"],
    }


def weights_card(
    arch: str, tag: str, default: Any, published: Mapping[str, Mapping[int, float]]
) -> dict[str, Any]:
    """One tag: the hub's file, or the file that timm names by URL."""
    import timm

    from zoo_torch import timm_models
    from zoo_torch.timm_files import digits

    config = timm.get_pretrained_cfg(f"{arch}.{tag}")
    hub = config.hf_hub_id
    file = f"{hub}/model.safetensors" if hub else config.url.rpartition("/")[2]
    size = max(config.input_size[1:])
    values: dict[str, Any] = {
        "tag": tag,
        "file": file,
        "url": f"{HUB}{hub}" if hub else config.url,
        "sha256": None if hub else digits(file),
        "licence": config.license or "unknown",
        "size": None if size == max(default.input_size[1:]) else size,
        "preprocess": timm_models.preprocess_of(config.to_dict(), None),
    }
    if figures := published.get(f"{arch}.{tag}"):
        at = size if size in figures else max(figures)
        value = figures[at]
        name = "ImageNet-1K" if at == size else f"ImageNet-1K at {at} px"
        values |= {"metric": "acc@1", "value": value, "dataset": name, "source": SHOWN}
    return values


def family(arch: str) -> str:
    """The paper's family, out of the name: resnet50d and resnet18 are resnet, tf_efficientnet_b0 efficientnet."""
    words = arch.split("_")
    while len(words) > 1 and words[0] in BEFORE:
        words.pop(0)
    if "_".join(words[:2]) in SPELT:
        return SPELT["_".join(words[:2])]
    word = words[0]
    if word in SPELT or re.search(r"v\d$", word):
        return SPELT.get(word, word)
    return re.sub(r"\d+[a-z]{0,4}$", "", word) or word


def paper(ids: Any) -> str:
    """A link, where timm names an arXiv number."""
    first = ids if isinstance(ids, str) else next(iter(ids or ()), "")
    found = re.search(r"\d{4}\.\d{4,5}", first)
    return f"https://arxiv.org/abs/{found.group()}" if found else ""


def _other_names() -> set[str]:
    """Names that torch's other sources have first."""
    found: set[str] = set()
    for path in CARDS.glob("*.json"):
        if path.stem != SOURCE:
            for card in read_cards(path.read_text(encoding="utf-8")):
                found |= {card.name, *card.aliases}
    return found


# --- published figures
def top1() -> dict[str, dict[int, float]]:
    """arch.tag -> {pixels a side at which it was measured: ImageNet-1K top-1 in percent}."""
    text = RESULTS.read_text(encoding="utf-8") if RESULTS.is_file() else _downloaded()
    if text is None:
        print("the results table cannot be had: the figures of the data file stay")
        return _stated()
    rows = csv.DictReader(io.StringIO(text))
    found: dict[str, dict[int, float]] = {}
    for row in rows:
        found.setdefault(row["model"], {})[int(row["img_size"])] = float(row["top1"])
    return found


def _downloaded() -> str | None:
    try:
        with urllib.request.urlopen(TABLE, timeout=20) as answer:
            return str(answer.read().decode("utf-8"))
    except (urllib.error.URLError, TimeoutError, OSError):
        return None


def _stated() -> dict[str, dict[int, float]]:
    path = CARDS / f"{SOURCE}.json"
    found = {}
    for card in read_cards(path.read_text(encoding="utf-8")) if path.is_file() else ():
        for weights in card.weights:
            if weights.value is not None:
                at = re.search(r"at (\d+) px", weights.dataset or "")
                size = int(at.group(1)) if at else weights.size or card.size
                found[f"{card.name.removeprefix('timm/')}.{weights.tag}"] = {size: weights.value}
    return found


# --- counted
def facts() -> dict[str, dict[str, Any]]:
    """What is counted of each architecture, from the cache or now."""
    import timm
    import torch

    torch.set_num_threads(1)
    have: dict[str, dict[str, Any]] = {}
    if FACTS.is_file():
        entries = map(json.loads, FACTS.read_text(encoding="utf-8").splitlines())
        have = {entry["name"]: entry for entry in entries if entry["timm"] == timm.__version__}
    FACTS.parent.mkdir(parents=True, exist_ok=True)
    with FACTS.open("a", encoding="utf-8") as file:
        for arch in timm.list_models():
            if arch not in have:
                have[arch] = {"name": arch, "timm": timm.__version__, **count(arch)}
                file.write(json.dumps(have[arch]) + "\n")
                file.flush()
    return have


def count(arch: str) -> dict[str, Any]:
    """params, macs, depths and the note of one architecture with its published head; or "bad": why not."""
    import timm
    import torch

    from zoo.errors import ZooError
    from zoo_torch import timm_anatomy, timm_models

    config = timm.get_pretrained_cfg(arch).to_dict()
    classes = int(config.get("num_classes") or 0)
    try:
        module: Any = timm_models.on_paper(arch, config, classes=classes or 2).requires_grad_(False)
        anatomy, heads = timm_anatomy.read(module)
        images = torch.empty(1, *config["input_size"], device="meta")
        with (
            torch.no_grad(),
            _macs_counter() as counter,
            _Shapes(module, anatomy, heads) as shapes,
        ):
            module(images)
    except (*timm_models.SIZE_ERRORS, ZooError, AttributeError, NotImplementedError) as error:
        return {"bad": f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"}
    if problem := shapes.problem():
        return {"bad": problem}
    own = sum(p.numel() for p in module.parameters())
    if not classes:
        own -= sum(p.numel() for path in heads.paths for p in module.get_submodule(path).parameters())
    return {
        "params": own,
        "macs": counter.macs - (0 if classes else 2 * heads.width),
        "depths": list(anatomy.depths),
        "maps": shapes.maps,
        "widths": timm_anatomy.widths(module, anatomy.stages),
        "note": note(module, heads, config),
    }


def _macs_counter() -> Any:
    """A context that counts multiply-accumulates of convolutions and matrix products, by torch's own formulas.

    torch's FlopCounterMode gives the same sums, by module, in three times the time.
    """
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils.flop_counter import flop_registry

    class Counter(TorchDispatchMode):
        macs = 0

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            found = func(*args, **(kwargs or {}))
            if (formula := flop_registry.get(func._overloadpacket)) is not None:
                self.macs += formula(*args, **(kwargs or {}), out_val=found) // 2
            return found

    return Counter()


class _Shapes:
    """Inside, what goes into the heads and comes out of the stages is noted."""

    def __init__(self, module: Any, anatomy: Any, heads: Any) -> None:
        self.module, self.anatomy, self.heads = module, anatomy, heads
        self.inputs: list[list[int]] = []
        self.maps: list[list[int]] = []

    def __enter__(self) -> _Shapes:
        paths = self.heads.paths
        self._handles = [
            self.module.get_submodule(path).register_forward_pre_hook(
                lambda _, args: self.inputs.append(list(args[0].shape))
            )
            for path in paths
        ]
        self._handles += [
            self.module.get_submodule(path).register_forward_hook(
                lambda _, __, output: self.maps.append(list(getattr(output, "shape", ())))
            )
            for path in self.anatomy.stages
        ]
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()

    def problem(self) -> str | None:
        """Why features could not be read: each head must have seen [1, D] (or [1, D, 1, 1])."""
        if len(self.inputs) != len(self.heads.paths):
            return f"{len(self.inputs)} of {len(self.heads.paths)} heads run"
        odd = [shape for shape in self.inputs if len(shape) != 2 and shape[2:] != [1, 1]]
        return f"its head takes {odd[0]}, not one vector an image" if odd else None


def note(module: Any, heads: Any, config: Mapping[str, Any]) -> str:
    """How this network differs from others of its name: what its own parts say."""
    from torch import nn

    said = []
    kinds = {type(part).__name__ for part in module.modules()}
    norms = {(part.eps, part.momentum) for part in module.modules() if isinstance(part, nn.BatchNorm2d)}
    if len(norms) == 1 and norms != {(1e-5, 0.1)}:
        eps, momentum = next(iter(norms))
        said.append(f"BatchNorm eps {eps:g}, momentum {momentum:g}")
    if any("Same" in kind for kind in kinds):
        said.append("TensorFlow's asymmetric 'same' padding")
    if type(module).__name__ == "ResNet" and "Bottleneck" in kinds:
        said.append("ResNet v1.5: the stride is in the 3x3 convolution")
    gelu = {"erf" for part in module.modules() if isinstance(part, nn.GELU) and part.approximate == "none"}
    gelu |= {"tanh"} if "GELUTanh" in kinds else set()
    if len(gelu) == 1:
        said.append(f"GELU by {'tanh' if 'tanh' in gelu else 'erf (exact)'}")
    if len(heads.paths) > 1:
        said.append(f"features are the inputs of its {len(heads.paths)} heads side by side")
    if heads.auxiliary:
        said.append("its own head adds a maximum over the tokens, so is not linear on the features")
    if not config.get("num_classes"):
        said.append("its weights hold no classification head")
    if config.get("crop_mode") == "border":
        said.append("timm pads photographs to a square, here they are stretched")
    if config["input_size"][1] != config["input_size"][2]:
        said.append("timm keeps the photograph's proportions, here it is stretched to the input's")
    text = "; ".join(said)
    return text[:1].upper() + text[1:] + "." if text else ""
