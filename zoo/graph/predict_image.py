"""Classify photographs with the ONNX file beside this script: python predict.py cat.jpg [more.jpg ...]"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps


def main(paths: list[str]) -> None:
    session = onnxruntime.InferenceSession(Path(__file__).with_name("model.onnx"))
    stored = session.get_modelmeta().custom_metadata_map
    p, labels = json.loads(stored["zoo.preprocess"]), json.loads(stored.get("zoo.labels", "[]"))
    c = json.loads(stored.get("zoo.calibration", '{"temperature": 1, "threshold": 0}'))
    for path in paths:
        image: Image.Image = ImageOps.exif_transpose(Image.open(path))
        if image.mode.startswith("I;16"):  # 16-bit grey: the high byte
            image = Image.fromarray((np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8))
        size = p["resize_to"][::-1]  # width, height
        if p["resize"] == "shortest":
            size = [int(p["resize_to"][0] * side / min(image.size)) for side in image.size]
        image = image.convert("RGB").resize(size, Image.Resampling[p["interpolation"].upper()])
        margins = ((size[0] - p["width"]) / 2, (size[1] - p["height"]) / 2)
        left, top = (int(m // 1) if p["crop_rounding"] == "floor" else round(max(m, int(m))) for m in margins)
        pixels = np.asarray(image.crop((left, top, left + p["width"], top + p["height"])), np.float32)
        pixels = pixels if p["channels"] == "RGB" else pixels[..., ::-1]
        normal = (pixels * p["scale"] - np.array(p["mean"])) / np.array(p["std"])
        batch = np.ascontiguousarray(normal.transpose(2, 0, 1)[None], np.float32)
        logits = session.run(["logits"], {"images": batch})[0][0].astype(np.float64) / c["temperature"]
        powers = np.exp(logits - logits.max())
        if powers.max() / powers.sum() < c["threshold"]:
            print(f"{path}\tunsure\t{c['threshold']:.6f}")
        for i in np.argsort(-powers, kind="stable")[:5]:
            print(f"{path}\t{labels[i] if labels else i}\t{powers[i] / powers.sum():.6f}")


if __name__ == "__main__":
    main(sys.argv[1:] or sys.exit(__doc__))
