"""Entry points -> adapters -> names. The only place where an adapter, and so a framework, gets imported.

A name is resolved within its framework: first a local folder or file of that name, then a catalogue name,
then an alias (of the first source that has it), then "X.tag" where X is one of these, as timm writes its
weights. A name that several frameworks have, without a framework, is an error that lists the ids.
"""

from __future__ import annotations

import difflib
import functools
import importlib.util
import re
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.cards import ModelCard, ModelId, WeightsCard, read_cards
from zoo.errors import (
    AmbiguousModelError,
    FrameworkBrokenError,
    FrameworkMissingError,
    InputError,
    UnknownModelError,
    ZooError,
)

if TYPE_CHECKING:  # engine.py imports numpy, which listing the catalogue need not wait for
    from zoo.engine import Adapter

OF_FILES = "a precision is an exported file's: leave it out; see `zoo export --precision` and `zoo select`"
GROUP = "zoo.adapters"


@functools.cache
def entry_points() -> dict[str, metadata.EntryPoint]:
    """Framework name -> entry point. Two adapters of one name are an error, never last-wins."""
    found: dict[str, metadata.EntryPoint] = {}
    for point in metadata.entry_points(group=GROUP):
        other = found.setdefault(point.name, point)
        if other.value != point.value:
            raise InputError(
                f"two adapters call themselves {point.name!r}: {other.value} and {point.value}. "
                "Uninstall one of the two packages, or rename its entry point."
            )
    return found


def frameworks() -> list[str]:
    """Names of the frameworks that an adapter is installed for (the framework itself may be missing)."""
    return sorted(entry_points())


def adapter(framework: str) -> Adapter:
    """Import a framework's adapter. Raises UnknownModelError, FrameworkMissingError, FrameworkBrokenError."""
    points = entry_points()
    if framework not in points:
        near = difflib.get_close_matches(framework, points, n=3, cutoff=0.3)
        raise UnknownModelError(
            f"no framework {framework!r}: there are {', '.join(sorted(points)) or 'none'}. "
            "`zoo doctor` shows what is installed.",
            near,
        )
    return _load(framework)


@functools.cache
def _load(framework: str) -> Adapter:
    point = entry_points()[framework]
    try:
        loaded = point.load()
    except ModuleNotFoundError as error:
        # Only the framework itself, or a package the extra installs, missing at top level means "install it".
        if error.name and importlib.util.find_spec(error.name.partition(".")[0]) is None:
            raise FrameworkMissingError(
                f"the framework {framework!r} is not installed here (no module {error.name!r}): "
                f"pip install 'backbone-zoo[{framework}]'"
            ) from error
        raise _broken(framework, error) from error
    except ZooError:
        raise
    except Exception as error:
        raise _broken(framework, error) from error
    from zoo.engine import Adapter

    if not isinstance(loaded, Adapter):
        raise FrameworkBrokenError(f"entry point {point.value} is no zoo.engine.Adapter but a {type(loaded)}")
    return loaded


def _broken(framework: str, error: BaseException) -> FrameworkBrokenError:
    hint = ""
    if "torchvision::nms" in str(error):
        hint = (
            " torch and torchvision are not a matching pair: pip install --force-reinstall torch torchvision."
        )
    return FrameworkBrokenError(
        f"the framework {framework!r} is installed but its import fails: {type(error).__name__}: {error}."
        f"{hint} `zoo doctor` shows versions and causes."
    )


# --- cards
@functools.cache
def cards(framework: str) -> tuple[ModelCard, ...]:
    """The catalogue of one framework, read from its package's `cards.json` or `cards/*.json` without importing it."""
    module = entry_points()[framework].module.partition(".")[0]
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        return ()
    folder = Path(spec.origin).parent
    files = [path for path in (folder / "cards.json",) if path.is_file()] + sorted(
        folder.glob("cards/*.json")
    )
    return tuple(card for path in files for card in read_cards(path.read_text(encoding="utf-8")))


@functools.cache
def _index(framework: str) -> dict[str, ModelCard]:
    """Every name and alias of a framework's catalogue -> its card; a name goes before anyone's alias."""
    known = cards(framework)
    found = {card.name: card for card in known}
    for card in known:
        for alias in card.aliases:
            found.setdefault(alias, card)
    return found


def forget() -> None:
    """Look again at what is installed and what the catalogues say."""
    for cached in (entry_points, _load, cards, _index, _is_source):
        cached.cache_clear()


# --- names
def resolve(name: str, framework: str | None = None) -> ModelId:
    """Read a name or id into a ModelId whose framework is set; `framework` fills in where `name` has none.

    Raises UnknownModelError with near names, AmbiguousModelError with the ids.
    """
    found = ModelId.parse(name)
    if found.framework and framework and found.framework != framework:
        raise InputError(f"{name!r} names the framework {found.framework!r}, framework= names {framework!r}")
    chosen = found.framework or framework
    if not chosen:
        chosen = _only_framework(found)
    elif chosen not in entry_points():
        adapter(chosen)  # raises with near names
    canonical, tag = _canonical(chosen, found.name)
    if tag and found.weights not in ("default", "none", tag):
        raise InputError(f"{name!r} names two sets of weights, {tag} and {found.weights}: leave one out")
    weights = tag if tag and found.weights == "default" else found.weights
    return ModelId(chosen, canonical, weights, found.depth, found.size, found.precision)


def card(model: ModelId) -> ModelCard | None:
    """The catalogue's card, or None for a local folder, or a hub id that the catalogue does not list."""
    found = _index(model.framework).get(model.name)
    return found if found and found.name == model.name else None


def weights_card(model: ModelId) -> WeightsCard | None:
    """The published weights that an id names; "default" is the card's first. None for random or own ones."""
    known = card(model)
    published = known.weights if known else ()
    if model.weights == "default":
        return published[0] if published else None
    return next((entry for entry in published if entry.tag == model.weights), None)


def _only_framework(model: ModelId) -> str:
    found = {f: hit for f in frameworks() if (hit := _lookup(f, model.name))}
    have = [f for f, (card, tag) in found.items() if _has(card, tag)] or list(found)
    if len(have) == 1:
        return have[0]
    if have:
        ids = [f"{f}:{model.name}" for f in have]
        raise AmbiguousModelError(f"several frameworks have {model.name!r}: say which: {', '.join(ids)}", ids)
    if is_local(model.name):
        ids = [f"{f}:{model.name}" for f in frameworks()]
        raise AmbiguousModelError(f"{model.name} is a folder: say who reads it: {', '.join(ids)}", ids)
    raise _unknown(model.name, [c for f in frameworks() for c in cards(f)], "")


def _lookup(framework: str, name: str) -> tuple[ModelCard, str] | None:
    """The card of a name, an alias or "X.tag", and that tag ("" for none). The longest X wins.

    Where the card X has no such tag, another source's card of that name that has it is meant: resnet50.a1_in1k
    is timm's, though resnet50 is torchvision's.
    """
    known = _index(framework)
    if name in known:
        return known[name], ""
    for dot in (i for i in range(len(name) - 2, 0, -1) if name[i] == "."):
        head, tag = name[:dot], name[dot + 1 :]
        if first := known.get(head):
            others = (c for c in cards(framework) if c.name.endswith("/" + head) and _has(c, tag))
            return (first if _has(first, tag) else next(others, first)), tag
    return None


def _has(card: ModelCard, tag: str) -> bool:
    return not tag or any(weights.tag == tag for weights in card.weights)


def _canonical(framework: str, name: str) -> tuple[str, str]:
    """(the catalogue's name, weights tag) of a name; what only the adapter can know is given back as it is."""
    if is_local(name):
        return name, ""
    if found := _lookup(framework, name):
        return found[0].name, found[1]
    known = cards(framework)
    prefix, slash, _ = name.partition("/")
    if not known or (slash and not _is_source(framework, prefix)):  # no catalogue, or a hub id
        return name, ""
    raise _unknown(name, known, framework)


@functools.cache
def _is_source(framework: str, prefix: str) -> bool:
    """Whether `prefix/...` names a source outright (timm, kerashub): its cards are listed, all of them."""
    return any(
        card.name.startswith(f"{prefix}/") and squeezed(card.source) == squeezed(prefix)
        for card in cards(framework)
    )


def _unknown(name: str, known: Iterable[ModelCard], framework: str) -> UnknownModelError:
    found = near(name, {text for c in known for text in (c.name, *c.aliases)})
    where = f" in {framework}" if framework else ""
    guess = f" Did you mean {', '.join(found)}?" if found else ""
    option = f" --framework {framework}" if framework else ""
    return UnknownModelError(f"no model {name!r}{where}.{guess} `zoo list{option}` shows all.", found)


def near(name: str, names: Iterable[str], *, cutoff: float = 0.5) -> list[str]:
    """Up to three of `names` that `name` may have been meant for, the likeliest first.

    Another spelling of the same letters and digits (ResNet-50 for resnet50) goes before a likeness.
    """
    wanted, known = squeezed(name), sorted(names)
    same = [text for text in known if squeezed(text) == wanted]
    alike = difflib.get_close_matches(name, known, n=3, cutoff=cutoff)
    return list(dict.fromkeys(same + alike))[:3]


def squeezed(text: str) -> str:
    """Letters and digits alone, small: how two spellings of a name are compared."""
    return re.sub(r"[^a-z0-9]", "", text.lower())


def is_local(name: str) -> bool:
    """Whether the name is meant as a path: it exists, or begins like one."""
    return name.startswith(("/", "./", "../", "~")) or ("/" in name and Path(name).exists())
