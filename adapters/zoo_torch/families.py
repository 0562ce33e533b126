"""torchvision's families of classifiers: where each has its units, its stages and its head, and which sizes it takes.

A family is data: the class of the paper's repeating unit and the path of the last Linear are enough for the
blocks (`divide`); a short function names the stages. A new family is one more entry in FAMILIES.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from zoo_torch.anatomy import Anatomy, Tensors
from zoo_torch.cutting import layered, staged

STEM, TAIL = "stem", "tail"


# --- stages: paths of the modules whose maps are the depths before the last
def _named(*paths: str) -> Callable[[Any], Sequence[str]]:
    return lambda module: paths


def _equal_widths(module: Any) -> list[str]:
    """Runs of inverted residuals with as many channels, a line each in the papers' tables."""
    units = [
        (f"features.{i}", part) for i, part in enumerate(module.features) if hasattr(part, "use_res_connect")
    ]
    widths = [part.out_channels for _, part in units] + [None]
    return [path for (path, _), now, later in zip(units, widths, widths[1:], strict=False) if now != later]


def _sequential_stages(container: str) -> Callable[[Any], Sequence[str]]:
    """The nn.Sequential children of a container that hold units."""

    def stages(module: Any) -> list[str]:
        children = module.get_submodule(container).named_children()
        return [f"{container}.{name}" for name, part in children if type(part) is nn.Sequential]

    return stages


def _poolings(module: Any) -> list[str]:
    return [f"features.{i}" for i, part in enumerate(module.features) if isinstance(part, nn.MaxPool2d)]


def _before_poolings(module: Any) -> list[str]:
    """SqueezeNet: the last fire module at each resolution but the last."""
    return [f"features.{int(path.rpartition('.')[2]) - 1}" for path in _poolings(module)[1:]]


@dataclass(frozen=True)
class Family:
    """How torchvision's builders whose names begin alike are read.

    units: class names of the paper's repeating units.  head: path of the last Linear.
    stages: module -> paths (see `cutting.staged`); channels_last: their maps are NHWC.
    layers: path of the list of layers, for networks that are cut there instead.
    unused: prefixes of checkpoint keys that only training reads (auxiliary classifiers): left out.
    options: of the builder.  smallest: pixels a side, where the stated `min_size` is no limit of the network.
    sized: the builder's argument for the input size, where weights are laid out for one.
    """

    units: tuple[str, ...]
    head: str = "fc"
    stages: Callable[[Any], Sequence[str]] | None = None
    channels_last: bool = False
    layers: str | None = None
    unused: tuple[str, ...] = ()
    options: tuple[tuple[str, Any], ...] = ()
    smallest: int | None = None
    sized: str | None = None

    def read(self, module: nn.Module) -> Anatomy:
        """The anatomy of a module of this family."""
        head: Any = module.get_submodule(self.head)
        units = {
            path: path for path, part in module.named_modules() if type(part).__name__ in self.units
        } or _convolutions(module)
        anatomy = Anatomy(head.in_features, divide(module, units, self.head), head=self.head)
        return self._with_depths(module, anatomy)

    def _with_depths(self, module: nn.Module, anatomy: Anatomy) -> Anatomy:
        if self.layers is not None:
            return layered(module, anatomy, self.layers)
        if self.stages is None:
            return anatomy
        return staged(anatomy, self.stages(module), channels_last=self.channels_last)


class _SqueezeNet(Family):
    """Iandola et al. 2016: its own head is a convolution before the pooling, so not linear on the features."""

    def read(self, module: Any) -> Anatomy:
        fires = [i for i, part in enumerate(module.features) if type(part).__name__ == "Fire"]
        units = {f"features.{i}": f"fire{n}" for n, i in enumerate(fires, 2)}
        anatomy = Anatomy(
            module.classifier[1].in_channels,
            divide(module, units, self.head),
            features=_squeezenet_features,
            native_head=self.head,
            put_head=_squeezenet_head,
        )
        return self._with_depths(module, anatomy)


def _squeezenet_features(module: Any, tensors: Tensors) -> Tensor:
    maps: Tensor = module.features(tensors["images"])
    return maps.mean(dim=(2, 3))


def _squeezenet_head(module: Any, linear: nn.Linear) -> str:
    module.classifier = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(1), linear)
    return "classifier.2"


RESIDUAL = Family(("BasicBlock", "Bottleneck"), stages=_named("layer1", "layer2", "layer3"))
PYRAMID = functools.partial(Family, stages=_named("features.1", "features.3", "features.5"))
# Trained with pixels in -1..1: torchvision's builders turn its usual normalisation into that one inside the
# network when they load official weights; here always, so that one architecture has one meaning. Without
# init_weights: torchvision's default to come, and its present one (deviation 0.01) fades random signals to 1e-12.
GOOGLE = (("aux_logits", False), ("transform_input", True), ("init_weights", False))

FAMILIES: dict[str, Family] = {
    "alexnet": Family((), "classifier.6", _poolings),
    "convnext": PYRAMID(("CNBlock",), "classifier.2"),
    "densenet": Family(
        ("_DenseBlock",),
        "classifier",
        _named("features.denseblock1", "features.denseblock2", "features.denseblock3"),
    ),
    "efficientnet": Family(("MBConv", "FusedMBConv"), "classifier.1", _sequential_stages("features")),
    "googlenet": Family(
        ("Inception",), stages=_named("inception3b", "inception4e"), unused=("aux1", "aux2"), options=GOOGLE
    ),
    "inception": Family(
        ("InceptionA", "InceptionB", "InceptionC", "InceptionD", "InceptionE"),
        stages=_named("Mixed_5d", "Mixed_6e"),
        unused=("AuxLogits",),
        options=GOOGLE,
    ),
    "maxvit": Family(
        ("MaxVitLayer",), "classifier.5", _named("blocks.0", "blocks.1", "blocks.2"), sized="input_size"
    ),
    "mnasnet": Family(("_InvertedResidual",), "classifier.1", _sequential_stages("layers")),
    "mobilenet_v2": Family(("InvertedResidual",), "classifier.1", _equal_widths),
    "mobilenet_v3": Family(("InvertedResidual",), "classifier.3", _equal_widths),
    "regnet": Family(("ResBottleneckBlock",), stages=_named(*(f"trunk_output.block{i}" for i in (1, 2, 3)))),
    "resnet": RESIDUAL,
    "resnext": RESIDUAL,
    "shufflenet": Family(("InvertedResidual",), stages=_named("stage2", "stage3", "stage4")),
    "squeezenet": _SqueezeNet((), "classifier", _before_poolings),
    # Their attention is in windows, padded where they do not fit, so any size from one patch at the last stage.
    "swin": PYRAMID(
        ("SwinTransformerBlock", "SwinTransformerBlockV2"), "head", channels_last=True, smallest=32
    ),
    "vgg": Family((), "classifier.6", _poolings),
    "vit": Family(("EncoderBlock",), "heads.head", layers="encoder.layers", sized="image_size"),
    "wide_resnet": RESIDUAL,
}


def family_of(name: str) -> Family | None:
    """The family of a torchvision builder, by the longest beginning of its name."""
    found = [beginning for beginning in FAMILIES if name.startswith(beginning)]
    return FAMILIES[max(found, key=len)] if found else None


# --- blocks
def divide(module: nn.Module, units: Mapping[str, str], head: str) -> dict[str, tuple[str, ...]]:
    """Blocks: a stem, the units (path -> block name), and a tail where something learnt follows the last unit.

    Several paths may make one unit. What stands between two units goes with the later one; loose parameters
    of containers go with the stem.
    """
    stem: list[str] = []
    waiting = stem
    blocks: dict[str, tuple[str, ...]] = {}

    def walk(path: str, part: nn.Module) -> None:
        nonlocal waiting
        stem.extend(_join(path, name) for name, _ in part.named_parameters(recurse=False))
        for name, child in part.named_children():
            inner = _join(path, name)
            if inner == head:
                continue
            if inner in units:
                block = units[inner]
                blocks[block] = (*blocks.get(block, ()), *(waiting if blocks else ()), inner)
                waiting = []
            elif any(other.startswith(f"{inner}.") for other in (*units, head)):
                walk(inner, child)
            elif child.state_dict():
                waiting.append(inner)

    walk("", module)
    found = {STEM: tuple(stem)} if stem else {}
    return found | blocks | ({TAIL: tuple(waiting)} if blocks and waiting else {})


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _convolutions(module: Any) -> dict[str, str]:
    """VGG and AlexNet, plain rows: a unit is a convolution with its norm, the first Linears are the tail."""
    units: dict[str, str] = {}
    count = 0
    for i, part in enumerate(module.features):
        count += isinstance(part, nn.Conv2d)
        if isinstance(part, nn.Conv2d | nn.BatchNorm2d):
            units[f"features.{i}"] = f"conv{count}"
    return units
