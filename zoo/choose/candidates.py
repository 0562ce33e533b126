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
from zoo.choose.starters import defaults
from zoo.errors import InputError, UnknownModelError, WeightsError, ZooError
from zoo.model_folder import CONFIG
from zoo.train import read_meta

ALL = ",depth=all"
MARKS = ("*", "?", "[")
LISTS = (".txt", ".list")
"""A name that ends so is meant as a file of candidates."""


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
    names: Sequence[str] | None, kind: str, spread: Spread = PLAIN, *, offline: bool = False
) -> tuple[list[Family], list[tuple[str, ZooError]]]:
    """Families in the order given, and the names that led nowhere with their errors.

    names: ids, globs over the catalogue (`torch:resnet*`, `torch:timm/resnet*`: a source is named outright;
    `torch:timm/resnet50@*`: all its weights), ids with `,depth=all`, saved runs, a folder of checkpoints
    (`hf:FOLDER`: every model folder in it) or of saved runs, or a file with one of these a line (# comments).
    None: `zoo.choose.starters.defaults` of the kind; offline: those whose weights are here.  spread: for those that
    name no precision or size of their own.
    Raises InputError: no candidates, a file that is no list of them; UnknownModelError where every name leads nowhere.
    """
    lines = (
        [line for name in names for line in _lines(name)] if names is not None else _defaults(kind, offline)
    )
    if not lines:
        raise InputError(_no_candidates(kind, names, offline=offline))
    found: _Found = {}
    lost: list[tuple[str, ZooError]] = []
    for line in lines:
        try:
            for inside in _unfolded(line):
                for text in _globbed(inside, kind):
                    _add(found, text, spread)
        except (UnknownModelError, WeightsError) as error:  # a saved run that is damaged is a row
            lost.append((line, error))
    if lost and not found:
        raise lost[0][1]
    families = [
        Family(model, tuple(asked.depths or ()) if cut else None, tuple(asked.variants))
        for (model, cut), asked in found.items()
    ]
    return families, lost


def _defaults(kind: str, offline: bool) -> list[str]:
    cards = defaults(kind, offline=offline)
    return [card.id + (ALL if card.depths and kind == "text" else "") for card in cards]


def _no_candidates(kind: str, names: Sequence[str] | None, *, offline: bool) -> str:
    if names is not None:
        return f"no candidates in {', '.join(names) or 'the empty list'}: name some, see `zoo list`"
    if offline:
        return (
            f"no weights for {kind} data are on this machine, and offline nothing is fetched. Put official files into "
            "a folder and set ZOO_MIRROR to it, or name local folders with --candidate"
        )
    return f"no candidates for {kind} data: name some with --candidate, see `zoo list`"


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


# --- files and folders of candidates
def _lines(name: str) -> list[str]:
    path = Path(name)
    if ":" in name or not path.is_file():
        if path.suffix in LISTS and not path.exists():
            raise InputError(f"no file of candidates {name}: give one that exists, an id on each line")
        return [name]
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"cannot read candidates from {path}: {error}. Give a text file, an id on each line"
        ) from error
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    return [line for line in lines if line]


def _unfolded(text: str) -> list[str]:
    """The models in a folder of them, each as an id with the same framework and options; else the text itself.

    Raises UnknownModelError for a folder that holds none.
    """
    head, comma, options = text.partition(",")
    framework, colon, name = head.partition(":") if ":" in head else ("", "", head)
    folder = Path(name).expanduser()
    if not name or not folder.is_dir() or _is_model(folder) or _listed(head):
        return [text]
    inside = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    runs = [str(path) for path in inside if is_run(str(path))]
    models = [path for path in inside if _is_model(path) and str(path) not in runs]
    found = [] if options else runs  # a run is taken as it was saved
    found = found + [f"{framework}{colon}{path}{comma}{options}" for path in models]
    if not found:
        raise UnknownModelError(
            f"{folder} is no model and holds none: a model's folder has a {CONFIG}, a saved run's a zoo.json"
        )
    return found


def _listed(name: str) -> bool:
    """Whether a catalogue has it: a folder that happens to be called resnet50 is not what `torch:resnet50` means."""
    found = ModelId.parse(name)
    names = [found.framework] if found.framework else registry.frameworks()
    return not registry.is_local(found.name) and any(
        found.name in (card.name, *card.aliases)
        for framework in names
        if framework in registry.frameworks()
        for card in registry.cards(framework)
    )


def _is_model(folder: Path) -> bool:
    return (folder / CONFIG).is_file() or is_run(str(folder)) or any(folder.glob("*.safetensors"))


# --- globs
def _globbed(text: str, kind: str) -> list[str]:
    pattern, comma, options = text.partition(",")
    framework, colon, name = pattern.rpartition(":")
    if is_run(text) or registry.is_local(name) or not any(mark in text for mark in MARKS):
        return [text]
    name, at, tag = name.partition("@")
    task = TEXT_TASK if kind == "text" else IMAGE_TASK
    cards = [c for c in list_models(task=task) if not colon or fnmatch.fnmatchcase(c.framework, framework)]
    met = [card for card in cards if _meets(card.name, name)]
    met = met or [card for card in cards if any(_meets(alias, name) for alias in card.aliases)]
    found = [card.id + chosen + comma + options for card in met for chosen in _tags(card, at, tag)]
    if not found:
        raise _nothing_met(text, framework if colon else "", name, task, met)
    return found


def _meets(name: str, pattern: str) -> bool:
    """Names are written in either case: mobilenet_v2, MobileNetV2."""
    return fnmatch.fnmatchcase(name.lower(), pattern.lower())


def _nothing_met(
    text: str, framework: str, name: str, task: str, met: Sequence[ModelCard]
) -> UnknownModelError:
    """Why a glob meets nothing: its framework, its task, its tag, or its name, with near ones."""
    if met:
        tags = ", ".join(dict.fromkeys(weights.tag for card in met for weights in card.weights))
        return UnknownModelError(f"no weights match {text!r}: {met[0].id} has {tags or 'none published'}")
    known = registry.frameworks()
    if framework and not any(mark in framework for mark in MARKS) and framework not in known:
        near = registry.near(framework, known, cutoff=0.3)
        return UnknownModelError(
            f"no framework {framework!r} for {text!r}: there are {', '.join(known)}", near
        )
    asked = [f for f in known if not framework or fnmatch.fnmatchcase(f, framework)]
    cards = [card for f in asked for card in registry.cards(f)]
    other = next((card for card in cards if card.task != task and _meets(card.name, name)), None)
    near = registry.near(name.strip("*?"), {n for c in cards if c.task == task for n in (c.name, *c.aliases)})
    guess = f" Did you mean {', '.join(near)}?" if near else ""
    guess = f" It matches models for {other.task}, such as {other.id}." if other else guess
    return UnknownModelError(
        f"no {task} model matches {text!r}.{guess} `zoo list` shows what there is; quote a pattern: 'resnet*'",
        near,
    )


def _tags(card: ModelCard, at: str, tag: str) -> list[str]:
    """What follows a card's id: each of its weights' tags that a glob meets; else what was written."""
    if any(mark in tag for mark in MARKS):
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
