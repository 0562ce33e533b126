"""Writing predict.py: the shortest program that uses the file, for whoever will not install Backbone Zoo.

`predict_image.py` and `predict_text.py` beside this file are what is written: programs that run as they are.
"""

from __future__ import annotations

from pathlib import Path

from zoo.cards import ImagePreprocess
from zoo.errors import ModelFileError
from zoo.files import atomic_file
from zoo.graph import metadata
from zoo.graph.pixels import takes_pixels
from zoo.graph.session import load_proto

HERE = Path(__file__).parent
# Pillow's resize always smooths. Where the preprocess does not, its affine transform takes the four neighbours.
SMOOTH = """        image = image.convert("RGB").resize(size, Image.Resampling[p["interpolation"].upper()])
"""
SHARP = """        view = (Image.Transform.AFFINE, (image.width / size[0], 0, 0, 0, image.height / size[1], 0))
        floats = [band.convert("F") for band in image.convert("RGB").split()]
        bands = [np.asarray(band.transform(size, *view, Image.Resampling.BILINEAR)) for band in floats]
        image = Image.fromarray(np.rint(np.dstack(bands)).astype(np.uint8))
"""
FLOATS = """        normal = (pixels * p["scale"] - np.array(p["mean"])) / np.array(p["std"])
        batch = np.ascontiguousarray(normal.transpose(2, 0, 1)[None], np.float32)
"""
PIXELS = """        batch = pixels[None].astype(np.uint8)  # the graph normalises
"""
SHORTEST = """        if p["resize"] == "shortest":
            size = [int(p["resize_to"][0] * side / min(image.size)) for side in image.size]
"""
CROPPED = """        wide = min(image.width, image.height * size[0] // size[1])  # the largest centred part
        high = min(image.height, image.width * size[1] // size[0])
        start = ((image.width - wide) // 2, (image.height - high) // 2)
        image = image.crop((*start, start[0] + wide, start[1] + high))
"""


def write_predict_script(folder: Path | str, *, model: str = "model.onnx") -> Path:
    """Write folder/predict.py, which classifies with `model` (a file name) beside it.

    The script needs only onnxruntime, numpy, and Pillow or tokenizers: it is about 20 statements, so that it
    can be read. Raises ModelFileError where `model` is not there or not ours, StorageError.
    """
    file = Path(folder) / model
    proto = load_proto(file)
    preprocess = metadata.read(proto, file).preprocess
    if preprocess is None:
        raise ModelFileError(f"{file} does not say how its inputs are prepared: no script can use it")
    kind = "image" if isinstance(preprocess, ImagePreprocess) else "text"
    text = (HERE / f"predict_{kind}.py").read_text(encoding="utf-8")
    if isinstance(preprocess, ImagePreprocess) and not preprocess.antialias:
        text = text if preprocess.interpolation == "nearest" else text.replace(SMOOTH, SHARP)
    if isinstance(preprocess, ImagePreprocess) and preprocess.resize == "cropped":
        text = text.replace(SHORTEST, CROPPED)
    if any(takes_pixels(value) for value in proto.graph.input):
        text = text.replace(FLOATS, PIXELS)
    path = Path(folder) / "predict.py"
    with atomic_file(path) as temporary:
        temporary.write_text(text.replace('"model.onnx"', _quoted(model)), encoding="utf-8")
    return path


def _quoted(name: str) -> str:
    """The name in double quotes, as the script has it."""
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'
