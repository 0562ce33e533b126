"""Our one implementation of preprocessing against each source's own transform, on real photographs.

For one model of each family of preprocessing that a source has: the mean difference a pixel before normalisation,
in levels of 255, over all photographs, and the worst photograph's. Promised: at most 1. Where real weights are at
hand, also on how many photographs the network's first answer stays the same when it is fed by the source instead
of by us. Keras has no transform that resizes: its `preprocess_input` is compared on the pixels that we resized.

    python benchmarks/preprocessing.py [--photographs ../shared/data/imagenet_sample] [--record] [--check]

Each framework runs in a process of its own; a family is a case of the functions below.
"""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from common import machine_line, record, table
from PIL import Image

from zoo.cards import ImagePreprocess
from zoo.data import prepare
from zoo.data.images import pixels

SHARED = Path(__file__).resolve().parent.parent.parent / "shared"
BOUND = 1.0  # of 255 levels a pixel, on the mean
PARTS = ("torch", "tf", "hf")


@dataclass(frozen=True)
class Case:
    """A family of preprocessing: the model that stands for it, ours, and theirs (RGB image -> float32 [3, H, W])."""

    model: str
    family: str
    ours: ImagePreprocess
    theirs: Callable[[Image.Image], Any]
    against: str
    top1: Callable[[Any], Any] | None = None
    """float32 [1, 3, H, W] -> logits, of a network with real weights."""


# --- the cases of each framework
TORCHVISION = {
    "bilinear 256, centre 224": ("resnet18", "IMAGENET1K_V1"),
    "bilinear 232, centre 224": ("resnet50", "IMAGENET1K_V2"),
    "bilinear, 299 pixels": ("inception_v3", "IMAGENET1K_V1"),
    "bilinear, nothing cropped off": ("efficientnet_v2_s", "IMAGENET1K_V1"),
    "bicubic, cropped": ("swin_t", "IMAGENET1K_V1"),
    "bicubic, nothing cropped off": ("efficientnet_b7", "IMAGENET1K_V1"),
    "bicubic, pixels in -1..1": ("efficientnet_v2_l", "IMAGENET1K_V1"),
    "bicubic, 384 pixels": ("vit_b_16", "IMAGENET1K_SWAG_E2E_V1"),
    "0-255 less the mean": ("vgg16", "IMAGENET1K_FEATURES"),
    "bilinear 256, centre 224 (real weights)": ("squeezenet1_1", "IMAGENET1K_V1"),
}
TIMM = {
    "shorter side, bicubic": "resnet50.a1_in1k",
    "shorter side, bilinear": "resnet18.tv_in1k",
    "no margin, CLIP's mean": "vit_base_patch16_clip_224.openai",
    "stretched": "eva_large_patch14_336.in22k_ft_in1k",
    "stretched, with a margin": "dm_nfnet_f0.dm_in1k",
    "192 pixels": "tf_efficientnetv2_b0.in1k",
    "mean and deviation of a half": "vit_tiny_patch16_224.augreg_in21k_ft_in1k",
}


def torch_cases(work: Path) -> Iterator[Case]:
    """torchvision's and timm's own evaluation transforms."""
    import timm
    import torch
    from torchvision.models import get_model_weights

    import zoo
    from zoo_torch import timm_models, vision

    weights = SHARED / "weights/torch/squeezenet1_1-converted-from-caffe-fp16.pth"
    for family, (name, tag) in TORCHVISION.items():
        entry = get_model_weights(name)[tag]
        top1 = None
        if "real weights" in family:
            if not weights.is_file():
                continue
            network = zoo.get("torch:squeezenet1_1", weights=str(weights)).module.eval()
            top1 = _torch_logits(torch, network)
        theirs = entry.transforms()
        case = Case(
            f"torch:{name}@{tag}", family, vision.preprocess_of(entry, None), theirs, "torchvision", top1
        )
        yield case
    for family, name in TIMM.items():
        config = timm.get_pretrained_cfg(name).to_dict()
        stated = timm.data.resolve_data_config(pretrained_cfg=config)
        theirs = timm.data.create_transform(**stated, is_training=False)
        arch, _, tag = name.partition(".")
        yield Case(
            f"torch:timm/{arch}@{tag}", family, timm_models.preprocess_of(config, None), theirs, "timm"
        )


def _torch_logits(
    torch: Any, network: Any, *, of: Callable[[Any], Any] = lambda out: out
) -> Callable[[Any], Any]:
    def logits(batch: Any) -> Any:
        with torch.no_grad():
            return of(network(torch.from_numpy(batch))).numpy()

    return logits


PROCESSORS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "ViTImageProcessor": ("stretched, pixels in -1..1", "ViTConfig", {}),
    "BeitImageProcessor": ("bicubic, exact", "BeitConfig", {"do_center_crop": False}),
    "DeiTImageProcessor": ("stretched, then cropped", "DeiTConfig", {}),
    "CLIPImageProcessor": ("shorter side, cropped", "CLIPConfig", {}),
    "ConvNextImageProcessor": ("by crop_pct below 384", "ConvNextConfig", {"size": {"shortest_edge": 224}}),
    "LevitImageProcessor": ("shorter side x 256 / 224", "LevitConfig", {}),
    "PoolFormerImageProcessor": ("by crop_pct", "PoolFormerConfig", {}),
    "MobileViTImageProcessor": ("BGR, not normalised, padded", "MobileViTConfig", {}),
    "EfficientNetImageProcessor": ("divided by the deviation twice", "EfficientNetConfig", {}),
    "SegformerImageProcessor": ("stretched to 512", "SegformerConfig", {}),
    "MobileNetV2ImageProcessor": ("crop rounded down", "MobileNetV2Config", {}),
    "SiglipImageProcessor": ("bicubic, exact, of a half", "SiglipConfig", {}),
}


def hf_cases(work: Path) -> Iterator[Case]:
    """transformers' processors, the ones on Pillow, each as its class's defaults stand."""
    import torch
    import transformers

    from zoo_hf import processors

    for name, (family, config, stated) in PROCESSORS.items():
        folder = work / name
        folder.mkdir()
        (folder / "preprocessor_config.json").write_text(json.dumps({"image_processor_type": name, **stated}))
        ours = processors.read(folder, getattr(transformers, config)())
        theirs = _processed(getattr(transformers, f"{name}Pil")(**stated))
        yield Case(f"hf:<folder> with {name}", family, ours, theirs, "transformers")
    folder = SHARED / "weights/hf/mobilenet_v1_0.75_224"
    if folder.is_dir():
        network = transformers.AutoModelForImageClassification.from_pretrained(folder).eval()
        ours = processors.read(folder, network.config)
        processor = transformers.AutoImageProcessor.from_pretrained(folder, backend="pil")
        top1 = _torch_logits(torch, network, of=lambda out: out.logits)
        yield Case(
            "hf:mobilenet_v1_0.75_224 (folder)", "crop rounded down (real weights)", ours, _processed(processor),
            "transformers", top1,
        )  # fmt: skip


def _processed(processor: Any) -> Callable[[Image.Image], Any]:
    return lambda image: processor(images=image, return_tensors="np")["pixel_values"][0]


APPLICATIONS = {
    "mobilenet_v2": "pixels in -1..1",
    "densenet121": "ImageNet's mean and deviation",
    "vgg16": "BGR less the mean",
    "efficientnet_b0": "scaled inside the network",
    "convnext_tiny": "normalised inside the network",
}
CONVERTERS: dict[str, tuple[str, dict[str, Any]]] = {
    "bilinear, cropped, ImageNet's mean": ("ResNet", {"imagenet": True}),
    "bilinear, antialiased": ("ViT", {"antialias": True}),
    "bicubic, antialiased": ("EfficientNet", {"interpolation": "bicubic", "antialias": True}),
    "bilinear, squashed": ("MobileNet", {"crop_to_aspect_ratio": False}),
    "nearest": ("DenseNet", {"interpolation": "nearest"}),
}
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def tf_cases(work: Path) -> Iterator[Case]:
    """Keras's preprocess_input on our pixels, and KerasHub's converters on the photographs."""
    from zoo_tf import images
    from zoo_tf.applications import APPLICATIONS as KNOWN

    for name, family in APPLICATIONS.items():
        app = KNOWN[name]
        ours = images.preprocess(app, app.size)
        yield Case(
            f"tf:{name}", family, ours, _keras(app.make.__module__, ours), "preprocess_input, our pixels"
        )
    yield from _hub_cases(work)
    path = SHARED / "weights/keras/mobilenet_7_5_224_tf.h5"
    if path.is_file():
        import keras

        network = keras.applications.MobileNet((224, 224, 3), alpha=0.75, weights=str(path))
        app = KNOWN["mobilenet_v1_0.75_224"]
        ours = images.preprocess(app, app.size)
        yield Case(
            "tf:mobilenet_v1_0.75_224", "pixels in -1..1 (real weights)", ours, _keras(app.make.__module__, ours),
            "preprocess_input, our pixels", lambda x: np.asarray(network(x.transpose(0, 2, 3, 1), training=False)),
        )  # fmt: skip


def _keras(module: str, ours: ImagePreprocess) -> Callable[[Image.Image], Any]:
    own = importlib.import_module(module).preprocess_input

    def theirs(image: Image.Image) -> Any:
        rgb = pixels(image, ours).astype(np.float32)[None]
        return np.asarray(own(rgb.copy()))[0].transpose(2, 0, 1)

    return theirs


def _hub_cases(work: Path) -> Iterator[Case]:
    from zoo_tf import hub_images
    from zoo_tf.hub_families import families

    for family, (name, stated) in CONVERTERS.items():
        options = {key: value for key, value in stated.items() if key != "imagenet"}
        if stated.get("imagenet"):
            options["scale"] = [1 / 255 / s for s in IMAGENET_STD]
            options["offset"] = [-m / s for m, s in zip(IMAGENET_MEAN, IMAGENET_STD, strict=True)]
        else:
            options |= {"scale": 1 / 127.5, "offset": -1.0}
        native = families()[name].classifier.preprocessor_cls.image_converter_cls(
            image_size=(224, 224), **options
        )
        native.save_to_preset(str(work / name))
        ours = hub_images.preset_preprocess(work / name)
        yield Case(f"tf:<preset> of {name}", family, ours, _converted(native), "KerasHub")


def _converted(native: Any) -> Callable[[Image.Image], Any]:
    return lambda image: np.asarray(native(np.asarray(image, np.float32)[None]))[0].transpose(2, 0, 1)


# --- measured
def measure(case: Case, photographs: list[Image.Image]) -> dict[str, Any]:
    """Mean and worst of the photographs' mean differences, in levels of 255; and how often top-1 agrees."""
    to_levels = np.array(case.ours.std, np.float32)[:, None, None] / case.ours.scale
    apart, same = [], 0
    for image in photographs:
        found = prepare([image], case.ours)["images"][0]
        theirs = np.asarray(case.theirs(image), np.float32)
        if found.shape != theirs.shape:
            raise SystemExit(f"{case.model}: ours gives {found.shape}, {case.against} {theirs.shape}")
        apart.append(float(np.abs((found - theirs) * to_levels).mean()))
        if case.top1 is not None:
            same += int(case.top1(found[None]).argmax() == case.top1(theirs[None]).argmax())
    return {
        "model": case.model,
        "family": case.family,
        "against": case.against,
        "mean": float(np.mean(apart)),
        "worst": max(apart),
        "top1": None if case.top1 is None else f"{same} of {len(photographs)}",
        "agrees": case.top1 is None or same == len(photographs),
    }


def run_part(part: str, folder: Path) -> None:
    """Print a framework's rows as JSON, a line each."""
    photographs = [Image.open(path).convert("RGB") for path in sorted(folder.glob("*.JPEG"))]
    cases = {"torch": torch_cases, "tf": tf_cases, "hf": hf_cases}[part]
    with tempfile.TemporaryDirectory(prefix="zoo-preprocessing-") as work:
        for case in cases(Path(work)):
            print("ROW " + json.dumps(measure(case, photographs)), flush=True)


def rows_of(part: str, folder: Path) -> list[dict[str, Any]]:
    """A framework's rows, measured in a process of its own."""
    command = [sys.executable, __file__, "--part", part, "--photographs", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{part} failed:\n{done.stderr[-3000:]}")
    return [
        json.loads(line.removeprefix("ROW ")) for line in done.stdout.splitlines() if line.startswith("ROW ")
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--photographs", type=Path, default=SHARED / "data" / "imagenet_sample")
    parser.add_argument("--part", choices=PARTS, help="one framework, in this very process")
    parser.add_argument("--record", action="store_true", help="write the section of RESULTS.md")
    parser.add_argument("--check", action="store_true", help="exit 1 where a promise is missed")
    options = parser.parse_args()
    if not any(options.photographs.glob("*.JPEG")):
        parser.error(f"no .JPEG in {options.photographs}: name a folder of photographs with --photographs")
    if options.part:
        run_part(options.part, options.photographs)
        return 0
    found = [row for part in PARTS for row in rows_of(part, options.photographs)]
    missed = [row for row in found if row["mean"] > BOUND or not row["agrees"]]
    head = ["model", "family", "against", "mean difference, of 255", "worst photograph", "same top-1"]
    rows = [
        [r["model"], r["family"], r["against"], f"{r['mean']:.2g}", f"{r['worst']:.2g}", r["top1"] or ""]
        for r in found
    ]
    count = len(list(options.photographs.glob("*.JPEG")))
    text = (
        "## Preprocessing\n`python benchmarks/preprocessing.py --record`: mean difference a pixel between our one "
        f"implementation and the source's own, before normalisation, on {count} photographs. Promised: at most "
        f"{BOUND:g} of 255, and the same top-1 wherever real weights are at hand; "
        f"{len(missed)} of {len(found)} miss it.\n"
        f"{machine_line('torchvision', 'timm', 'transformers', 'keras', 'keras-hub', 'pillow')}\n\n{table(head, rows)}"
    )
    print(text)
    if options.record:
        record("preprocessing", text)
    return int(bool(missed) and options.check)


if __name__ == "__main__":
    sys.exit(main())
