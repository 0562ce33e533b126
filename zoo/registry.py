"""Entry points -> adapters -> names. The only place where an adapter, and so a framework, gets imported.

A name is resolved within its framework: first a local folder or file of that name, then a catalogue name
or alias. A name that several frameworks have, without a framework, is an error that lists the ids.
"""

from __future__ import annotations

import difflib
import fnmatch
import functools
import importlib.util
import json
from importlib import metadata
from pathlib import Path

from zoo.cards import ModelCard, ModelId
from zoo.engine import Adapter
from zoo.errors import (
    AmbiguousModelError,
    FrameworkBrokenError,
    FrameworkMissingError,
    InputError,
    UnknownModelError,
    ZooError,
)

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
    """The catalogue of one framework, read from the adapter package's `cards.json` without importing it."""
    module = entry_points()[framework].module.partition(".")[0]
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        return ()
    path = Path(spec.origin).parent / "cards.json"
    if not path.is_file():
        return ()
    return tuple(ModelCard.from_dict(card) for card in json.loads(path.read_text(encoding="utf-8")))


def list_models(
    pattern: str = "*", *, framework: str | None = None, task: str | None = None
) -> list[ModelCard]:
    """Cards whose name or id matches a shell pattern, sorted by id; imports no framework."""
    if framework is not None and framework not in entry_points():
        adapter(framework)  # raises with near names
    chosen = [framework] if framework else frameworks()
    found = [
        card
        for name in chosen
        for card in cards(name)
        if (task is None or card.task == task)
        and any(fnmatch.fnmatch(text, pattern) for text in (card.name, card.id, *card.aliases))
    ]
    return sorted(found, key=lambda card: card.id)


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
    return ModelId(chosen, _canonical(chosen, found.name), found.weights, found.depth, found.size)


def card(model: ModelId) -> ModelCard | None:
    """The catalogue's card, or None for a local folder."""
    return next((c for c in cards(model.framework) if c.name == model.name), None)


def _only_framework(model: ModelId) -> str:
    have = [f for f in frameworks() if any(model.name in (c.name, *c.aliases) for c in cards(f))]
    if len(have) == 1:
        return have[0]
    if have:
        ids = [f"{f}:{model.name}" for f in have]
        raise AmbiguousModelError(f"several frameworks have {model.name!r}: say which: {', '.join(ids)}", ids)
    if is_local(model.name):
        ids = [f"{f}:{model.name}" for f in frameworks()]
        raise AmbiguousModelError(f"{model.name} is a folder: say who reads it: {', '.join(ids)}", ids)
    raise _unknown(model.name, [c for f in frameworks() for c in cards(f)], "")


def _canonical(framework: str, name: str) -> str:
    if is_local(name):
        return name
    known = cards(framework)
    for c in known:
        if name == c.name or name in c.aliases:
            return c.name
    if not known or "/" in name:  # an adapter without a catalogue, or a hub id: the adapter knows
        return name
    raise _unknown(name, known, framework)


def _unknown(name: str, known: tuple[ModelCard, ...] | list[ModelCard], framework: str) -> UnknownModelError:
    names = sorted({text for c in known for text in (c.name, *c.aliases)})
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    where = f" in {framework}" if framework else ""
    guess = f" Did you mean {', '.join(near)}?" if near else ""
    option = f" --framework {framework}" if framework else ""
    return UnknownModelError(f"no model {name!r}{where}.{guess} `zoo list{option}` shows all.", near)


def is_local(name: str) -> bool:
    """Whether the name is meant as a path: it exists, or begins like one."""
    return name.startswith(("/", "./", "../", "~")) or ("/" in name and Path(name).exists())
