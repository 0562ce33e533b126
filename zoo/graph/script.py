"""Writing predict.py: the shortest program that uses the file, for whoever will not install Backbone Zoo."""

from __future__ import annotations

from pathlib import Path

from zoo.files import atomic_file

TEMPLATE = Path(__file__).with_name("predict_template.py")


def write_predict_script(folder: Path | str, *, model: str = "model.onnx") -> Path:
    """Write folder/predict.py, which classifies with `model` (a file name) beside it.

    The script needs only onnxruntime, numpy, and Pillow or tokenizers. Raises StorageError.
    """
    text = TEMPLATE.read_text(encoding="utf-8")
    path = Path(folder) / "predict.py"
    with atomic_file(path) as temporary:
        temporary.write_text(text.replace('"model.onnx"', _quoted(model)), encoding="utf-8")
    return path


def _quoted(name: str) -> str:
    """The name in double quotes, as the template has it."""
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'
