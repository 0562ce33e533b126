"""What may be imported when: `import zoo` is light, and adapters/ is a source root, never a package."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("torch", "torchvision", "tensorflow", "keras", "transformers", "timm", "sklearn", "pandas", "plotly")
HEAVY += ("onnx", "onnxruntime", "tokenizers", "huggingface_hub", "PIL", "zoo_torch", "zoo_tf", "zoo_hf")


def loaded_after(code: str) -> set[str]:
    """Top-level modules that a fresh interpreter holds after running `code`."""
    report = "import sys, json; print(json.dumps(sorted({m.partition('.')[0] for m in sys.modules})))"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{report}"], capture_output=True, text=True, check=True
    )
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_import_zoo_loads_nothing_heavy() -> None:
    assert not loaded_after("import zoo") & set(HEAVY)


def test_listing_models_loads_no_framework() -> None:
    assert not loaded_after("import zoo; zoo.list_models('*')") & set(HEAVY)


@pytest.mark.parametrize(
    "module", ["data", "train", "graph", "cost", "report", "choose", "backbone", "cli", "testing.toy"]
)
def test_no_part_of_the_core_loads_a_framework(module: str) -> None:
    frameworks = {
        "torch",
        "torchvision",
        "tensorflow",
        "keras",
        "transformers",
        "timm",
        "zoo_torch",
        "zoo_tf",
    }
    assert not loaded_after(f"import zoo.{module}") & frameworks


def test_the_toy_needs_no_pytest() -> None:
    assert "pytest" not in loaded_after("from zoo.testing import ToyEngine")


def test_adapters_is_no_package() -> None:
    """A top-level package `adapters` would overwrite the files of AdapterHub's, without a word from pip."""
    assert not (ROOT / "adapters" / "__init__.py").exists()
    assert "adapters" not in loaded_after("import zoo.registry as r; r.frameworks()")


def test_no_module_is_called_like_the_library_it_wraps() -> None:
    wrapped = {*HEAVY, "numpy", "safetensors", "datasets", "ray", "psutil", "typer", "rich"}
    own = {path.stem for folder in ("zoo", "adapters") for path in (ROOT / folder).rglob("*.py")}
    assert not own & wrapped - {"zoo_torch", "zoo_tf", "zoo_hf"}
