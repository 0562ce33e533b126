"""timm in the parity sweep: one small architecture of each family (timm's module), or every architecture.

The smallest of a family is the one with the fewest parameters; the input is the smallest that it takes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zoo.cards import read_cards

FRAMEWORK = "torch"
CARDS = Path(__file__).resolve().parent.parent / "adapters" / "zoo_torch" / "cards" / "timm.json"
# Below this many pixels the maps of a network with 32 to 1 are a single position.
LEAST = 64

# At He's gain HaloNet's attention is all but an argmax: float32 is then as far off its float64 as its outputs spread.
ATTENTION, CALM = (".q.weight", ".kv.weight"), 0.3

UPSTREAM: dict[str, str] = {}


def items(every: bool) -> list[str]:
    """Architectures of timm: all that the catalogue holds, or the smallest of each of timm's modules."""
    import timm

    cards = read_cards(CARDS.read_text(encoding="utf-8"))
    params = {card.name: card.params or float("inf") for card in cards}
    names = sorted(params, key=lambda name: (params[name], name))
    if every:
        return names
    smallest: dict[str, str] = {}
    for name in names:
        smallest.setdefault(module_of(timm.model_entrypoint(name.removeprefix("timm/"))), name)
    return sorted(smallest.values())


def module_of(entry: Any) -> str:
    """The file of timm's that an architecture is written in."""
    return str(entry.__module__.rpartition(".")[2])


def prepare(item: str, folder: Path) -> tuple[str, dict[str, Any]]:
    """Weights that make outputs depend on the input, at the smallest size, from 64 pixels up.

    timm's own random ones often do not: the last norm of each residual branch begins at 0.
    """
    import safetensors.torch

    from zoo.engine import LoadRequest
    from zoo_torch import timm_files, timm_models

    found = timm_models.source(timm_models.architecture(item), "none")
    sizes = [size for size in timm_models.SMALLEST_TRIES if size >= LEAST]
    size = next((size for size in sizes if timm_models.takes(found, size)), None)
    options = timm_models._options(found.config, size)
    module = timm_files.fill(found, options, LoadRequest(item, weights="none"), None)
    path = folder / "weights.safetensors"
    state = module.state_dict()
    if not found.outputs:  # as published: without the head that is only there to be taken off
        heads = tuple(f"{name}." for name in timm_models.read(found.arch, found.config, size)[1].paths)
        state = {key: value for key, value in state.items() if not key.startswith(heads)}
    safetensors.torch.save_file(lively(state), path)
    return f"torch:{item}", {"weights": str(path), **({"size": size} if size else {})}


def lively(state: Mapping[str, Any]) -> dict[str, Any]:
    """Seeded values under which signals neither die nor explode: He et al. 2015 for matrices, norms near 1."""
    import torch

    generator = torch.Generator().manual_seed(0)
    found = {}
    for key, value in state.items():
        value = value.clone().contiguous()
        if value.is_floating_point():
            noise = torch.randn(value.shape, generator=generator)
            if key.endswith(".weight"):
                value = noise * (2 / value[0].numel()) ** 0.5 if value.ndim > 1 else 1 + 0.1 * noise
                value = CALM * value if key.endswith(ATTENTION) else value
            elif key.endswith((".bias", ".running_mean")):
                value = 0.1 * noise
            elif value.abs().max() < 1e-2:  # layer scale, zero gains
                value = 0.1 + 0.01 * noise
        found[key] = value
    return found
