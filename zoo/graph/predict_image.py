"""Classify photographs with the ONNX file beside this script: python predict.py cat.jpg [more.jpg ...]

Needs onnxruntime, numpy and Pillow. How photographs are prepared and what the classes are called is in the
file's metadata. Written by Backbone Zoo; yours to change.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from PIL import Image, ImageOps


def prepare(path: str, p: dict[str, Any]) -> Any:
    image: Image.Image = ImageOps.exif_transpose(Image.open(path))
    if image.mode.startswith("I;16"):  # 16-bit grey: the high byte
        image = Image.fromarray((np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8))
    image, (height, width) = image.convert("RGB"), p["resize_to"]
    if p["resize"] == "shortest":
        width, height = (int(p["resize_to"][0] * side / min(image.size)) for side in image.size)
    if p["antialias"] or p["interpolation"] == "nearest":
        image = image.resize((width, height), Image.Resampling[p["interpolation"].upper()])
    else:  # Pillow's resize always smooths; its affine transform takes the four neighbours, rounded here
        view = (Image.Transform.AFFINE, (image.width / width, 0, 0, 0, image.height / height, 0))
        floats = [band.convert("F") for band in image.split()]
        bands = [band.transform((width, height), *view, Image.Resampling.BILINEAR) for band in floats]
        image = Image.fromarray(np.rint(np.dstack([np.asarray(b) for b in bands])).astype(np.uint8))
    margins = ((width - p["width"]) / 2, (height - p["height"]) / 2)
    left, top = (round(m) if p["crop_rounding"] == "round" and m > 0 else int(m) for m in margins)
    pixels = np.asarray(image.crop((left, top, left + p["width"], top + p["height"])), np.float32)
    pixels = pixels if p["channels"] == "RGB" else pixels[..., ::-1]
    normal = (pixels * p["scale"] - np.array(p["mean"])) / np.array(p["std"])
    return np.ascontiguousarray(normal.transpose(2, 0, 1)[None], np.float32)


def main(paths: list[str]) -> None:
    session = onnxruntime.InferenceSession(Path(__file__).with_name("model.onnx"))
    stored = session.get_modelmeta().custom_metadata_map
    preprocess, labels = json.loads(stored["zoo.preprocess"]), json.loads(stored.get("zoo.labels", "[]"))
    for path in paths:
        logits = session.run(["logits"], {"images": prepare(path, preprocess)})[0][0].astype(np.float64)
        powers = np.exp(logits - logits.max())
        for i in np.argsort(-powers, kind="stable")[:5]:
            print(f"{path}\t{labels[i] if labels else i}\t{powers[i] / powers.sum():.6f}")  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1:] or sys.exit(__doc__))
