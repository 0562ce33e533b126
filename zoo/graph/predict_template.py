"""Classify with the ONNX file beside this script: python predict.py cat.jpg, or python predict.py "some text".

Needs onnxruntime, numpy, and Pillow (photographs) or tokenizers (texts). How inputs are prepared and what the
classes are called is in the file's metadata. Written by Backbone Zoo; yours to change.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

MODEL = Path(__file__).with_name("model.onnx")


def image_batch(path: str, p: dict[str, Any]) -> dict[str, Any]:
    from PIL import Image, ImageOps

    image: Image.Image = ImageOps.exif_transpose(Image.open(path))
    if image.mode.startswith("I;16"):  # 16-bit grey: the high byte
        image = Image.fromarray((np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8))
    image, (height, width) = image.convert("RGB"), p["resize_to"]
    if p["resize"] == "shortest":
        short = min(image.size)
        width, height = (int(p["resize_to"][0] * side / short) for side in image.size)
    if p["antialias"] or p["interpolation"] == "nearest":
        image = image.resize((width, height), Image.Resampling[p["interpolation"].upper()])
    else:  # Pillow's resize always smooths; its affine transform takes the four neighbours
        matrix = (image.width / width, 0, 0, 0, image.height / height, 0)
        image = image.transform((width, height), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)
    half = ((width - p["width"]) / 2, (height - p["height"]) / 2)
    left, top = (round(h) if p["crop_rounding"] == "round" and h > 0 else int(h) for h in half)
    pixels = np.asarray(image.crop((left, top, left + p["width"], top + p["height"])), np.float32)
    pixels = pixels if p["channels"] == "RGB" else pixels[..., ::-1]
    normal = (pixels * p["scale"] - np.array(p["mean"])) / np.array(p["std"])
    return {"images": np.ascontiguousarray(normal.transpose(2, 0, 1)[None], np.float32)}


def text_batch(text: str, p: dict[str, Any]) -> dict[str, Any]:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(p["tokenizer"])
    tokenizer.no_padding()
    tokenizer.enable_truncation(p["max_length"])
    code = tokenizer.encode(text)
    ids, types = code.ids or [p["pad_id"]], code.type_ids or [0]  # GPT-2 makes no token of ""
    named = {"input_ids": ids, "attention_mask": [1] * len(ids), "token_type_ids": types}
    return {name: np.array([named[name]], np.int64) for name in p["inputs"]}


def main(arguments: list[str]) -> None:
    session = onnxruntime.InferenceSession(MODEL, providers=["CPUExecutionProvider"])
    metadata = session.get_modelmeta().custom_metadata_map
    preprocess, labels = json.loads(metadata["zoo.preprocess"]), json.loads(metadata.get("zoo.labels", "[]"))
    prepare = image_batch if preprocess["kind"] == "image" else text_batch
    for argument in arguments:
        logits = session.run(["logits"], prepare(argument, preprocess))[0][0].astype(np.float64)
        chances = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
        for i in np.argsort(-chances, kind="stable")[:5]:
            print(f"{argument}\t{labels[i] if labels else i}\t{chances[i]:.6f}")  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1:] or sys.exit(__doc__))
