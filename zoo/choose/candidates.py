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


def expand(
    names: Sequence[str] | None, kind: str, *, offline: bool = False
) -> tuple[list[Family], list[tuple[str, ZooError]]]:
    """Families in the order given, and the names that led nowhere with their errors.

    names: ids, globs over the catalogue (`torch:resnet*`, `torch:timm/resnet*`: a source is named outright;
    `torch:timm/resnet50@*`: all its weights), ids with `,depth=all`, saved runs, a folder of checkpoints
    (`hf:FOLDER`: every model folder in it) or of saved runs, or a file with one of these a line (# comments).
    None: `zoo.choose.starters.defaults` of the kind; offline: those whose weights are here.
    Raises InputError: no candidates, a file that is no list of them; UnknownModelError where every name leads nowhere.
    """
    lines = (
        [line for name in names for line in _lines(name)] if names is not None else _defaults(kind, offline)
    )
    if not lines:
        raise InputError(_no_candidates(kind, names, offline=offline))
    found: dict[tuple[ModelId, bool], list[int] | None] = {}
    lost: list[tuple[str, ZooError]] = []
    for line in lines:
        try:
            for inside in _unfolded(line):
                for text in _globbed(inside, kind):
                    _add(found, text)
        except (UnknownModelError, WeightsError) as error:  # a saved run that is damaged is a row
            lost.append((line, error))
    if lost and not found:
        raise lost[0][1]
    families = [Family(model, tuple(cuts or ()) if cut else None) for (model, cut), cuts in found.items()]
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
