"""Which models are tried: ids and globs expanded into single candidates, gathered by the graph they share.

`hf:bert,depth=all` stands for every depth of a network. All depths of one network (a family here) come
from one exported graph and one pass over the data.
"""

from __future__ import annotations

import dataclasses
import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from zoo import registry
from zoo.cards import IMAGE_TASK, PRECISIONS, TEXT_TASK, ModelCard, ModelId, Precision
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
    """One network with one set of weights. depths: the cuts asked for, [] for all, None for it uncut.

    variants: (depth, precision) of each that was asked for; a depth of None is any of the cuts, or the uncut one.
    """

    id: ModelId
    depths: tuple[int, ...] | None
    variants: tuple[tuple[int | None, Precision], ...] = ((None, "fp32"),)

    @property
    def source(self) -> str:
        """What the worker is asked to load: a saved run's folder, or an id."""
        return self.id.name if is_run(self.id.name) else str(self.id)

    def member(self, depth: int | None, precision: Precision = "fp32") -> ModelId:
        """The candidate at a depth, in a precision."""
        held = None if precision == "fp32" else precision
        return dataclasses.replace(self.id, depth=depth, precision=held)

    def precisions(self, depth: int | None) -> tuple[Precision, ...]:
        """Those asked for at a depth, in the order of PRECISIONS."""
        asked = {precision for cut, precision in self.variants if cut in (None, depth)}
        return tuple(precision for precision in PRECISIONS if precision in asked)


@dataclass(frozen=True)
class Spread:
    """In what every candidate is tried that does not say it itself.

    precisions: of the exported file.  sizes: pixels a side of images; empty: each model's own.
    """

    precisions: tuple[Precision, ...] = ("fp32",)
    sizes: tuple[int, ...] = ()


PLAIN = Spread()


@dataclass
class _Asked:
    """Of one network: the cuts, None for every one (or it uncut), and what `Family.variants` will be."""

    depths: list[int] | None
    variants: list[tuple[int | None, Precision]] = field(default_factory=list)


_Found = dict[tuple[ModelId, bool], _Asked]


def make_spread(precisions: Sequence[str], sizes: Sequence[int], kind: str) -> Spread:
    """Checked. Raises InputError: no such precision, sizes of texts."""
    chosen = tuple(p for p in PRECISIONS if p in precisions)
    if unknown := [p for p in precisions if p not in PRECISIONS]:
        raise InputError(f"precision {unknown[0]!r}: {', '.join(PRECISIONS)}")
    if not chosen:
        raise InputError(f"no precision: give one or more of {', '.join(PRECISIONS)}")
    if sizes and kind != "image":
        raise InputError(f"sizes {', '.join(map(str, sizes))}: of images, and the data holds {kind}s")
    if wrong := [size for size in sizes if size < 1]:
        raise InputError(f"size {wrong[0]}: pixels a side, 1 or more")
    return Spread(chosen, tuple(dict.fromkeys(sizes)))


def expand(
    names: Sequence[str] | None, kind: str, spread: Spread = PLAIN
) -> tuple[list[Family], list[tuple[str, ZooError]]]:
    """Families in the order given, and the names that led nowhere with their errors.

    names: ids, globs over the catalogue (`torch:resnet*`, `torch:timm/resnet*`: a source is named outright;
    `torch:timm/resnet50@*`: all its weights), ids with `,depth=all`, saved runs, or a file with one of these a
    line (# comments). None: `defaults` of the kind.  spread: for those that name no precision or size of their own.
    """
    lines = [line for name in (names if names is not None else defaults(kind)) for line in _lines(name)]
    if not lines:
        raise InputError(f"no candidates for {kind} data: name some with --candidate, see `zoo list`")
    found: _Found = {}
    lost: list[tuple[str, ZooError]] = []
    for line in lines:
        try:
            for text in _globbed(line, kind):
                _add(found, text, spread)
        except UnknownModelError as error:
            lost.append((line, error))
    if lost and not found:
        raise lost[0][1]
    families = [
        Family(model, tuple(asked.depths or ()) if cut else None, tuple(asked.variants))
        for (model, cut), asked in found.items()
    ]
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


def _add(found: _Found, text: str, spread: Spread) -> None:
    """Note what one id asks for under (its network, whether it is to be cut)."""
    if is_run(text):
        _note(found, run_id(text), False, None, spread.precisions)
        return
    every = f"{ALL}," in f"{text},"
    model = registry.resolve(text.replace(ALL, "", 1) if every else text)
    precisions = spread.precisions if "precision=" not in text else (model.precision or "fp32",)
    cut = every or model.depth is not None
    for size in _sizes(model, spread):
        network = dataclasses.replace(model, depth=None, size=size, precision=None)
        _note(found, network, cut, None if every else model.depth, precisions)


def _sizes(model: ModelId, spread: Spread) -> list[int | None]:
    """Its own, or each of the spread's; the size that the card says is no size of its own."""
    if model.size is not None or not spread.sizes:
        return [model.size]
    card = registry.card(model)
    usual = card.size if card else None
    return list(dict.fromkeys(None if size == usual else size for size in spread.sizes))


def _note(
    found: _Found, network: ModelId, cut: bool, depth: int | None, precisions: Sequence[Precision]
) -> None:
    """depth: None for every one, or for the network uncut."""
    asked = found.setdefault((network, cut), _Asked([]))
    if depth is None:
        asked.depths = None
    elif asked.depths is not None and depth not in asked.depths:
        asked.depths.append(depth)
    asked.variants += [(depth, p) for p in precisions if (depth, p) not in asked.variants]
