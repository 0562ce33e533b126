"""Which models are tried: ids and globs expanded into single candidates, gathered by the graph they share.

`hf:bert,depth=all` stands for every depth of a network. All depths of one network (a family here) come
from one exported graph and one pass over the data.
"""

from __future__ import annotations

import dataclasses
import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from zoo import registry
from zoo.cards import IMAGE_TASK, TEXT_TASK, ModelCard, ModelId
from zoo.catalogue import list_models
from zoo.errors import InputError, UnknownModelError, ZooError
from zoo.train import read_meta

ALL = ",depth=all"
# The catalogue has thousands: these few, small to middling and of different families, span the trade-off.
STARTERS = frozenset(
    f"{framework}:{name}"
    for framework, names in {
        "torch": ("resnet18", "resnet50", "squeezenet1_1", "mobilenet_v3_small", "efficientnet_b0"),
        "tf": ("mobilenet_v1_0.25_224", "mobilenet_v1", "mobilenet_v2", "all-minilm-l6-v2"),
        "hf": ("bert", "all-minilm-l6-v2"),
    }.items()
    for name in names
)


@dataclass(frozen=True)
class Family:
    """One network with one set of weights. depths: the cuts asked for, [] for all, None for it uncut."""

    id: ModelId
    depths: tuple[int, ...] | None

    @property
    def source(self) -> str:
        """What the worker is asked to load: a saved run's folder, or an id."""
        return self.id.name if is_run(self.id.name) else str(self.id)

    def member(self, depth: int | None) -> ModelId:
        """The candidate at a depth."""
        return dataclasses.replace(self.id, depth=depth)


def expand(names: Sequence[str] | None, kind: str) -> tuple[list[Family], list[tuple[str, ZooError]]]:
    """Families in the order given, and the names that led nowhere with their errors.

    names: ids, globs over the catalogue (`torch:resnet*`, `torch:timm/resnet*`: a source is named outright;
    `torch:timm/resnet50@*`: all its weights), ids with `,depth=all`, saved runs, or a file with one of these a
    line (# comments). None: `defaults` of the kind.
    """
    lines = [line for name in (names if names is not None else defaults(kind)) for line in _lines(name)]
    if not lines:
        raise InputError(f"no candidates for {kind} data: name some with --candidate, see `zoo list`")
    found: dict[tuple[ModelId, bool], list[int] | None] = {}
    lost: list[tuple[str, ZooError]] = []
    for line in lines:
        try:
            for text in _globbed(line, kind):
                _add(found, text)
        except UnknownModelError as error:
            lost.append((line, error))
    if lost and not found:
        raise lost[0][1]
    families = [Family(model, tuple(cuts or ()) if cut else None) for (model, cut), cuts in found.items()]
    return families, lost


def defaults(kind: str) -> list[str]:
    """What is tried where nobody names candidates: STARTERS as far as the catalogue here has them.

    An adapter without one of them among its cards (a plug-in) brings all of its own models.
    """
    task = TEXT_TASK if kind == "text" else IMAGE_TASK
    found: list[str] = []
    for framework in registry.frameworks():
        own = list_models(framework=framework, task=task)
        chosen = [card for card in own if card.id in STARTERS] or own
        found += [card.id + (ALL if card.depths and kind == "text" else "") for card in chosen]
    return found


def is_run(name: str) -> bool:
    """Whether this is the folder of a saved run."""
    return (Path(name) / "zoo.json").is_file()


def names_files(model: str) -> bool:
    """Whether a candidate's weights are files or a folder of this machine, which others do not have."""
    if is_run(model):
        return True
    found = ModelId.parse(model)
    return any(Path(part).exists() for part in (found.name, found.weights))


def run_id(folder: str) -> ModelId:
    """A saved run as a candidate: the framework it needs and its folder, without importing anything."""
    return ModelId(registry.resolve(str(read_meta(Path(folder))["id"])).framework, folder)


def _lines(name: str) -> list[str]:
    path = Path(name)
    if ":" in name or not path.is_file():
        return [name]
    lines = (line.partition("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line]


def _globbed(text: str, kind: str) -> list[str]:
    if is_run(text) or not any(mark in text for mark in "*?["):
        return [text]
    pattern, comma, options = text.partition(",")
    framework, colon, name = pattern.rpartition(":")
    name, at, tag = name.partition("@")
    task = TEXT_TASK if kind == "text" else IMAGE_TASK
    found = [
        card.id + chosen + comma + options
        for card in list_models(task=task)
        if fnmatch.fnmatch(card.name, name) and (not colon or fnmatch.fnmatch(card.framework, framework))
        for chosen in _tags(card, at, tag)
    ]
    if not found:
        raise UnknownModelError(f"no {task} model matches {text!r}: `zoo list` shows what there is")
    return found


def _tags(card: ModelCard, at: str, tag: str) -> list[str]:
    """What follows a card's id: each of its weights' tags that a glob meets; else what was written."""
    if any(mark in tag for mark in "*?["):
        return [at + weights.tag for weights in card.weights if fnmatch.fnmatch(weights.tag, tag)]
    return [at + tag]


def _add(found: dict[tuple[ModelId, bool], list[int] | None], text: str) -> None:
    """Note one id under (its network, whether it is to be cut); None stands for every depth."""
    if is_run(text):
        found[run_id(text), False] = None
        return
    every = text.endswith(ALL)
    model = registry.resolve(text.removesuffix(ALL))
    cut = every or model.depth is not None
    key = (dataclasses.replace(model, depth=None), cut)
    if not cut or every:
        found[key] = None
    elif (cuts := found.setdefault(key, [])) is not None and model.depth not in cuts:
        cuts.append(int(model.depth or 0))
