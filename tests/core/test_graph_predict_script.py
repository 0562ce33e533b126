"""predict.py, run as a stranger runs it, gives the probabilities of OnnxModel.predict."""

from __future__ import annotations

import ast
import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from zoo import data
from zoo.cards import ImagePreprocess
from zoo.engine import Array
from zoo.errors import ModelFileError
from zoo.graph import OnnxModel, export_engine, write_predict_script
from zoo.testing.toy import TEXT, ToyEngine

BASE = ImagePreprocess(8, 8, "shortest", (11, 11), mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
VARIANTS = {
    "shortest": BASE,
    "caffe": dataclasses.replace(
        BASE, scale=1.0, mean=(103.9, 116.8, 123.7), std=(60.0, 60.0, 60.0), channels="BGR"
    ),
    "exact bicubic": dataclasses.replace(BASE, resize="exact", resize_to=(9, 13), interpolation="bicubic"),
    "no antialias, floor": dataclasses.replace(BASE, antialias=False, crop_rounding="floor"),
    "cropped first": dataclasses.replace(BASE, resize="cropped", resize_to=(8, 8), antialias=False),
    "nearest": dataclasses.replace(BASE, antialias=False, interpolation="nearest"),
    "smaller than the crop": dataclasses.replace(BASE, resize_to=(5, 5)),
}
EXIF_ROTATED = 6


def photographs(folder: Path) -> list[Path]:
    """One of each kind that a folder of photographs holds: rotated by EXIF, grey, 16-bit, palette, alpha, CMYK."""
    rng = np.random.default_rng(0)
    colour = Image.fromarray(rng.integers(0, 256, (40, 31, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = EXIF_ROTATED
    colour.save(folder / "rotated.jpg", exif=exif)
    colour.convert("L").save(folder / "grey.png")
    colour.convert("P").save(folder / "palette.png")
    colour.convert("CMYK").save(folder / "cmyk.jpg")
    alpha = np.dstack([np.asarray(colour), rng.integers(0, 256, (40, 31, 1), dtype=np.uint8)])
    Image.fromarray(alpha).save(folder / "alpha.png")
    Image.fromarray(rng.integers(0, 2**16, (30, 40), dtype=np.uint16)).save(folder / "deep.png")
    return sorted(folder.glob("*.*g"))


def run_script(folder: Path, arguments: list[str], labels: tuple[str, ...]) -> Array:
    """Run predict.py isolated from the environment; its probabilities as float64 [N, C], columns as `labels`."""
    command = [sys.executable, "-I", str(folder / "predict.py"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=folder, check=False)
    assert done.returncode == 0, done.stderr
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    names = list(dict.fromkeys(name for name, _, _ in rows))
    assert names == arguments
    table = {(name, label): float(chance) for name, label, chance in rows}
    return np.array([[table[name, label] for label in labels] for name in names])


@pytest.mark.parametrize("name", VARIANTS)
def test_images_give_the_same_probabilities(name: str, tmp_path: Path) -> None:
    engine = ToyEngine()
    engine.preprocess, engine.labels = VARIANTS[name], ("red", "green", "blue")
    model = export_engine(engine, tmp_path / "model.onnx", model_id="toy:it", versions={})
    write_predict_script(tmp_path)
    (tmp_path / "photos").mkdir()
    paths = photographs(tmp_path / "photos")
    assert len(paths) == 6
    right = model.predict(paths)
    assert np.ptp(right, axis=0).max() > 0.01
    found = run_script(tmp_path, [str(p) for p in paths], model.labels or ())
    np.testing.assert_allclose(found, right, atol=2e-6)


def test_texts_give_the_same_probabilities(tmp_path: Path) -> None:
    texts = ["my parcel never came", "refund", "please " * 40, "Großer Ärger", ""]
    engine = ToyEngine("text")
    engine.preprocess = dataclasses.replace(TEXT, tokenizer=data.train_tokenizer(texts, vocab_size=90))
    model = export_engine(engine, tmp_path / "tickets.onnx", model_id="toy:it", versions={})
    write_predict_script(tmp_path, model="tickets.onnx")
    right = model.predict(texts)
    assert np.ptp(right, axis=0).max() > 1e-3
    np.testing.assert_allclose(run_script(tmp_path, texts, model.labels or ()), right, atol=2e-6)


def test_a_text_without_any_token_gives_the_same_probabilities(tmp_path: Path) -> None:
    bare = json.loads(data.train_tokenizer(["a parcel"], vocab_size=40)) | {
        "post_processor": None
    }  # like GPT-2
    engine = ToyEngine("text")
    engine.preprocess = dataclasses.replace(TEXT, tokenizer=json.dumps(bare), pad_id=7)
    model = export_engine(engine, tmp_path / "model.onnx", model_id="toy:it", versions={})
    write_predict_script(tmp_path)
    right = model.predict(["", "parcel"])
    found = run_script(tmp_path, ["", "parcel"], model.labels or ())
    np.testing.assert_allclose(found, right, atol=2e-6)


@pytest.mark.parametrize(("kind", "own"), [("image", "PIL"), ("text", "tokenizers")])
def test_the_script_is_short_and_needs_nothing_of_ours(kind: str, own: str, tmp_path: Path) -> None:
    engine = ToyEngine(kind)  # type: ignore[arg-type]
    export_engine(engine, tmp_path / "model.onnx", model_id="toy:it", versions={})
    path = write_predict_script(tmp_path)
    assert path == tmp_path / "predict.py" and path.read_text().count("\n") <= 40
    tree = ast.parse(path.read_text())
    found = {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    found |= {alias.name for n in ast.walk(tree) if isinstance(n, ast.Import) for alias in n.names}
    assert found == {"json", "sys", "pathlib", "numpy", "onnxruntime", own}
    # Without arguments it says how it is used.
    done = subprocess.run(
        [sys.executable, str(path)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1 and "python predict.py" in done.stderr


def test_a_script_for_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"there is no file .*model\.onnx"):
        write_predict_script(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_opened_again_the_file_predicts_the_same(tmp_path: Path) -> None:
    model = export_engine(ToyEngine(), tmp_path / "model.onnx", model_id="toy:it", versions={})
    image = np.random.default_rng(0).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    assert np.array_equal(OnnxModel(model.path).predict(image), model.predict(image))
