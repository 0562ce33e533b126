"""keras.applications as a table: for each network its size, its pixels, its blocks and stages in its paper's terms.

A block is told by the layers that end it: what such a layer needs, and no earlier block has, belongs to it.
Names alone would not do: InceptionV3's branches are nameless, NASNet's cells take two inputs. Names are those of
`network.layer_names`, which no process-wide counter moves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from zoo_tf.start import keras

Ends = tuple[tuple[str, str], ...]
K = keras.applications


@dataclass(frozen=True)
class Application:
    """One entry of keras.applications. size: pixels a side.  mode: of its `preprocess_input`, or "none" where
    the network scales by itself.

    ends: (pattern of layer names, block): each layer that fits ends that block.  rest: the block of what has
    weights after the last of them.
    stages: patterns; the map of depth d comes from the last layer that fits the d-th one, with "<" in front
    from what that layer takes.  bare: options of the network without its top.
    smallest: pixels a side that Keras takes.  flat: its Dense layers sit on a flattened map, so that the
    weights with the top go with one size only.  scaled_twice: see `images.settle_scaling`.
    """

    make: Callable[..., keras.Model]
    size: int
    mode: str
    ends: Ends
    stages: tuple[str, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    bare: Mapping[str, Any] = field(default_factory=dict)
    rest: str = "last_conv"
    smallest: int = 32
    flat: bool = False
    scaled_twice: bool = False


def _vgg(make: Callable[..., keras.Model]) -> Application:
    """Simonyan & Zisserman 2014, table 1: five groups of convolutions, two fully connected layers."""
    ends = ((r"block(\d)_pool", r"block_\1"), (r"(fc\d)", r"\1"))
    return Application(make, 224, "caffe", ends, tuple(f"block{i}_pool" for i in range(1, 6)), flat=True)


def _resnet(make: Callable[..., keras.Model], mode: str) -> Application:
    """He et al. 2015, table 1, and 2016: a stem, then residual units in four stages."""
    ends = (("pool1_pool", "stem"), (r"(conv[2-5]_block\d+)_out", r"\1"))
    stages = tuple(rf"conv{i}_block\d+_out" for i in (2, 3, 4))
    return Application(make, 224, mode, ends, stages, rest="last_norm")


def _densenet(make: Callable[..., keras.Model]) -> Application:
    """Huang et al. 2016, table 1: a stem, then dense layers in four blocks with transitions between."""
    ends = (
        ("pool1", "stem"),
        (r"conv(\d)_block(\d+)_concat", r"conv\1_block\2"),
        (r"pool([234])_pool", r"transition_\1"),
    )
    stages = tuple(rf"conv{i}_block\d+_concat" for i in (2, 3, 4))
    return Application(make, 224, "torch", ends, stages, rest="last_norm")


def _nasnet(make: Callable[..., keras.Model], size: int, cells: int) -> Application:
    """Zoph et al. 2017, figure 2: a stem, two reduction cells, three stacks of `cells` normal cells."""
    ends = (("stem_bn1", "stem"), (r"(?:normal|reduction)_concat_(.*)", r"cell_\1"))
    stages = (f"normal_concat_{cells - 1}", f"normal_concat_{2 * cells}")
    return Application(make, size, "tf", ends, stages)


def _efficientnet(
    make: Callable[..., keras.Model], size: int, stages: int, *, scaled_twice: bool = False
) -> Application:
    """Tan & Le 2019 and 2021, their tables 1 and 4: a stem, inverted residuals in stages, a convolution."""
    ends = (
        ("stem_activation", "stem"),
        (r"block(\d[a-z]+)_(?:project_bn|project_activation|add)", r"block_\1"),
    )
    maps = tuple(rf"block{i}[a-z]+_(?:project_bn|project_activation|add)" for i in range(1, stages))
    return Application(make, size, "none", ends, maps, scaled_twice=scaled_twice)


def _convnext(make: Callable[..., keras.Model]) -> Application:
    """Liu et al. 2022, table 9: a patch stem, four stages of blocks, a downsampling layer before each but the
    first. Their sums are bare operations, not layers: a stage's map is what the downsampling layer takes."""
    ends = (
        (r"convnext_[a-z]+_stem", "stem"),
        (r".*_stage_(\d)_block_(\d+)_(?:identity|stochastic_depth)", r"stage_\1_block_\2"),
        (r".*_downsampling_block_(\d)", r"downsampling_\1"),
    )
    stages = tuple(rf"<.*_downsampling_block_{i}" for i in range(3))
    return Application(make, 224, "none", ends, stages, bare={"pooling": "avg"}, rest="last_norm")


def _inception_v3() -> Application:
    """Szegedy et al. 2015, table 1: a stem, then eleven mixed modules on three grids."""
    ends = (("max_pooling2d_1", "stem"), (r"mixed(\d+)", r"mixed_\1"))
    return Application(K.InceptionV3, 299, "tf", ends, ("mixed2", "mixed7"), smallest=75)


def _inception_resnet_v2() -> Application:
    """Szegedy et al. 2016, figure 15: modules A, B and C, reductions between, a convolution."""
    ends = (
        ("mixed_5b", "stem"),
        (r"(block(?:35|17|8)_\d+)_(?:conv|ac)", r"\1"),
        (r"(mixed_[67]a)", r"\1"),
    )
    stages = ("block35_10_ac", "block17_20_ac")
    return Application(K.InceptionResNetV2, 299, "tf", ends, stages, smallest=75)


def _xception() -> Application:
    """Chollet 2016, figure 5: entry, middle and exit flow; the sums are nameless, one ends each module."""
    sums = tuple((f"add_{i}", f"block_{i + 2}") for i in range(12))
    ends = (("block1_conv2_act", "stem"), *sums, ("block14_sepconv2_act", "block_14"))
    return Application(K.Xception, 299, "tf", ends, ("add_2", "add_10"), smallest=71)


def _mobilenet_v1(alpha: float, size: int) -> Application:
    """Howard et al. 2017, table 1: a convolution, then 13 depthwise-separable ones."""
    ends = (("conv1_relu", "stem"), (r"conv_pw_(\d+)_relu", r"block_\1"))
    stages = tuple(f"conv_pw_{i}_relu" for i in (1, 3, 5, 11))
    return Application(K.MobileNet, size, "tf", ends, stages, {"alpha": alpha})


def _mobilenet_v2(alpha: float, size: int) -> Application:
    """Sandler et al. 2018, table 2: a convolution, 17 inverted residuals (Keras counts from 0), a convolution."""
    ends = (
        ("Conv1_relu", "stem"),
        ("expanded_conv_project_BN", "block_0"),
        (r"block_(\d+)_(?:project_BN|add)", r"block_\1"),
    )
    stages = ("expanded_conv_project_BN", "block_2_add", "block_5_add", "block_12_add")
    return Application(K.MobileNetV2, size, "tf", ends, stages, {"alpha": alpha})


def _mobilenet_v3(
    make: Callable[..., keras.Model], stages: tuple[str, ...], alpha: float, minimalistic: bool
) -> Application:
    """Howard et al. 2019, tables 1 and 2: a convolution, inverted residuals, a convolution; then, after the
    global average, a layer of 1280 or 1024 units that the features come from."""
    ends = (
        ("conv_bn", "stem"),
        (r"expanded_conv_(?:project_bn|add)", "block_0"),
        (r"expanded_conv_(\d+)_(?:project_bn|add)", r"block_\1"),
        ("conv_1_bn", "last_conv"),
    )
    maps = tuple(rf"expanded_conv{i}_(?:project_bn|add)" for i in stages)
    options = {"alpha": alpha, "minimalistic": minimalistic}
    return Application(make, 224, "none", ends, maps, options, rest="dense")


def _applications() -> dict[str, Application]:
    found = {
        "vgg16": _vgg(K.VGG16),
        "vgg19": _vgg(K.VGG19),
        "inception_v3": _inception_v3(),
        "inception_resnet_v2": _inception_resnet_v2(),
        "xception": _xception(),
        "nasnet_mobile": _nasnet(K.NASNetMobile, 224, 4),
        "nasnet_large": _nasnet(K.NASNetLarge, 331, 6),
    }
    for depth in (50, 101, 152):
        found[f"resnet{depth}"] = _resnet(getattr(K, f"ResNet{depth}"), "caffe")
        found[f"resnet{depth}_v2"] = _resnet(getattr(K, f"ResNet{depth}V2"), "tf")
    for depth in (121, 169, 201):
        found[f"densenet{depth}"] = _densenet(getattr(K, f"DenseNet{depth}"))
    for i, size in enumerate((224, 240, 260, 300, 380, 456, 528, 600)):
        make = getattr(K, f"EfficientNetB{i}")
        found[f"efficientnet_b{i}"] = _efficientnet(make, size, 7, scaled_twice=True)
    second = {"B0": (224, 6), "B1": (240, 6), "B2": (260, 6), "B3": (300, 6), "S": (384, 6), "M": (480, 7)}
    for kind, (size, stages) in {**second, "L": (480, 7)}.items():
        make = getattr(K, f"EfficientNetV2{kind}")
        found[f"efficientnet_v2_{kind.lower()}"] = _efficientnet(make, size, stages)
    for kind in ("Tiny", "Small", "Base", "Large", "XLarge"):
        found[f"convnext_{kind.lower()}"] = _convnext(getattr(K, f"ConvNeXt{kind}"))
    return found | _mobilenets()


def _mobilenets() -> dict[str, Application]:
    """Of each width and size that Keras has weights for; the plain name is the full width at 224 pixels."""
    found = {}
    for alpha in (0.25, 0.5, 0.75, 1.0):
        for size in (128, 160, 192, 224):
            found[f"mobilenet_v1_{alpha}_{size}"] = _mobilenet_v1(alpha, size)
    for alpha in (0.35, 0.5, 0.75, 1.0, 1.3, 1.4):
        for size in (96, 128, 160, 192, 224) if alpha <= 1 else (224,):
            found[f"mobilenet_v2_{alpha}_{size}"] = _mobilenet_v2(alpha, size)
    maps = {"large": ("", "_2", "_5", "_11"), "small": ("", "_2", "_7")}
    for kind, stages in maps.items():
        make = getattr(K, f"MobileNetV3{kind.title()}")
        for suffix, alpha, minimalistic in (
            ("", 1.0, False),
            ("", 0.75, False),
            ("_minimalistic", 1.0, True),
        ):
            name = f"mobilenet_v3_{kind}{suffix}_{alpha}_224"
            found[name] = _mobilenet_v3(make, stages, alpha, minimalistic)
    return {WHOLE.get(name, name): app for name, app in found.items()}


WHOLE = {
    "mobilenet_v1_1.0_224": "mobilenet_v1",
    "mobilenet_v2_1.0_224": "mobilenet_v2",
    "mobilenet_v3_large_1.0_224": "mobilenet_v3_large",
    "mobilenet_v3_small_1.0_224": "mobilenet_v3_small",
}
"""Long name -> the plain one that stands for it."""

APPLICATIONS: dict[str, Application] = _applications()
