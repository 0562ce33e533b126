"""What leaves before anything is loaded: by its licence, its download, and the parameters and MACs of its card.

Here a limit can only rule out what certainly breaks it. A card counts the network as published, with its head; what
is chosen has another head, so a figure counts less what a head may take. Where nobody states a figure nothing is
ruled out by it: the graph tells later. A licence is the other way round: permission must be stated.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from zoo import registry
from zoo.cards import IMAGE_TASK, Budget, ModelCard, ModelId
from zoo.catalogue import Entry, check_licence, licence_matcher
from zoo.choose.candidates import Family, is_run
from zoo.choose.limits import check_budget, describe
from zoo.choose.rows import Row
from zoo.choose.whereabouts import Whereabouts, whereabouts
from zoo.errors import InputError, NothingFitsError, ZooError
from zoo.train import read_meta

STAGE = "catalogue"
HEAD_PARAMS_M, HEAD_PARAMS_SHARE = 4.2, 0.2
"""A published head has at most 4,096 features for 1,000 classes, or with ImageNet-21k's a fifth of a large network."""
HEAD_MACS_SHARE = 0.3
"""SqueezeNet's head is a convolution over the whole map: a quarter of its MACs."""
README_LINES = 40


@dataclass(frozen=True)
class Sifted:
    """kept: families whose candidates go on, in order.  rows: those that left, each with its reason."""

    kept: tuple[Family, ...]
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class _Reason:
    """limit: what binds, in a word.  status: of the row."""

    limit: str
    status: str
    text: str


def sift(families: Sequence[Family], budget: Budget, *, offline: bool = False) -> Sifted:
    """Families that may be within the budget, by what is known without loading them; offline: nothing is fetched.

    Downloads are granted from the smallest on, as long as all together stay within budget.download_mb.
    Raises InputError for a licence that there is not, NothingFitsError where none is left.
    """
    if budget.licence is not None:
        check_licence(budget.licence)
    lost: dict[int, _Reason] = {}
    for number, family in enumerate(families):
        reason = _licence(family, budget) or _figures(family, budget)
        if reason is not None:
            lost[number] = reason
    left = {number: family for number, family in enumerate(families) if number not in lost}
    lost |= _downloads(left, budget, offline=offline)
    rows = [
        Row(name, reason.status, reason.text, stage=STAGE)
        for number, reason in sorted(lost.items())
        for name in members(families[number])
    ]
    if families and len(lost) == len(families):
        raise _none(list(lost.values()), rows, budget, offline=offline)
    return Sifted(tuple(f for number, f in enumerate(families) if number not in lost), tuple(rows))


def depths_of(family: Family) -> tuple[int | None, ...]:
    """Of a family's candidates, None for the uncut network; empty where they are known only once it is loaded."""
    if family.depths is None:
        return (None,)
    card = registry.card(family.id)
    return family.depths or (card.depths if card is not None else ())


def members(family: Family) -> list[str]:
    """The ids of a family's candidates as float32, as far as they are known without loading it."""
    return [str(family.member(depth)) for depth in depths_of(family)] or [f"{family.id},depth=all"]


# --- licence
def _licence(family: Family, budget: Budget) -> _Reason | None:
    if budget.licence is None:
        return None
    licence, whose = licence_of(family.id)
    if licence is None or licence_matcher(budget.licence)(licence):
        return None
    if licence == "unknown":
        text = f"no licence is stated for {whose}, and what is not stated is not {_word(budget.licence)}"
    else:
        text = f"the licence of {whose} is {licence}, not {_word(budget.licence)}"
    return _Reason("licence", "left out", text)


def _word(licence: str) -> str:
    words = [word.strip() for word in licence.split(",")]
    return words[0] if len(words) == 1 else f"one of {', '.join(words)}"


def licence_of(model: ModelId) -> tuple[str | None, str]:
    """(the licence as it is stated, "unknown" where it is not, None where there are no weights to license; of what).

    Of a saved run it is the licence of the weights that it began with; of a folder what its README.md states.
    """
    if is_run(model.name):
        try:
            began = registry.resolve(str(read_meta(Path(model.name))["id"]))
        except (ZooError, KeyError):
            return "unknown", "this run"
        return ("unknown", "this run") if is_run(began.name) else licence_of(began)
    if model.weights == "none":
        return None, "random weights"
    if registry.is_local(model.name):
        return _of_readme(Path(model.name).expanduser()), "this folder (its README.md)"
    if registry.is_local(model.weights):
        return "unknown", "this file"
    weights = registry.weights_card(model)
    return (weights.licence if weights is not None else "unknown"), "these weights"


def _of_readme(folder: Path) -> str:
    """The `license:` of a model card's front matter (https://huggingface.co/docs/hub/model-cards), or "unknown"."""
    try:
        lines = (folder / "README.md").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return "unknown"
    for line in lines[1:README_LINES] if lines[:1] == ["---"] else ():
        if line.strip() == "---":
            break
        if found := re.fullmatch(r"license:\s*['\"]?([\w.+-]+)['\"]?\s*", line):
            return found[1]
    return "unknown"


# --- figures of the card
def _figures(family: Family, budget: Budget) -> _Reason | None:
    """By parameters and MACs, where a card states them and the candidate is the whole network."""
    card = registry.card(family.id)
    if card is None or family.depths is not None or family.id.depth is not None:
        return None
    if budget.params_m is not None and card.params:
        params = card.params / 1e6
        if params - max(HEAD_PARAMS_M, HEAD_PARAMS_SHARE * params) > budget.params_m:
            text = f"params {params:.3g} M by its card > {budget.params_m:.3g} M"
            return _Reason("params", "over budget", text)
    macs = _macs_g(family.id, card)
    if budget.macs_g is not None and macs and (1 - HEAD_MACS_SHARE) * macs > budget.macs_g:
        return _Reason("MACs", "over budget", f"MACs {macs:.3g} G by its card > {budget.macs_g:.3g} G")
    return None


def _macs_g(model: ModelId, card: ModelCard) -> float | None:
    """Of a photograph at the size that the candidate takes; a text's length is not known yet."""
    entry = Entry(card, registry.weights_card(model))
    if card.task != IMAGE_TASK or model.size not in (None, entry.input):
        return None
    return entry.macs_g


# --- downloads
def _downloads(families: dict[int, Family], budget: Budget, *, offline: bool) -> dict[int, _Reason]:
    """Of those that need one, the ones that do not get it."""
    if budget.download_mb is None and not offline:
        return {}
    places = {number: whereabouts(family.id) for number, family in families.items()}
    far = {number: place for number, place in places.items() if not place.here}
    if offline:
        text = "its weights are not on this machine, and offline nothing is fetched"
        return {n: _Reason("offline", "unreachable", f"{text} ({place.file})") for n, place in far.items()}
    limit, lost, granted = budget.download_mb or 0.0, {}, dict[str, float]()
    for number, place in sorted(far.items(), key=lambda pair: (pair[1].download_mb or 0.0, pair[0])):
        if place.download_mb is None:
            text = f"how much it would download ({place.file}) is not known, and {limit:g} MB are allowed"
            lost[number] = _Reason("download", "over budget", text)
        elif place.file in granted or sum(granted.values()) + place.download_mb <= limit:
            granted[place.file] = place.download_mb
        else:
            lost[number] = _Reason("download", "over budget", _too_much(place, limit, sum(granted.values())))
    return lost


def _too_much(place: Whereabouts, limit: float, granted: float) -> str:
    about = "about " if place.estimated else ""
    text = f"download {about}{place.download_mb or 0:.0f} MB > {limit:g} MB"
    return (
        text
        if granted == 0 or (place.download_mb or 0) > limit
        else (
            f"download {about}{place.download_mb or 0:.0f} MB, and smaller ones take {granted:.0f} of the {limit:g} MB"
        )
    )


# --- nothing is left
def _none(
    reasons: Sequence[_Reason], rows: Sequence[Row], budget: Budget, *, offline: bool
) -> NothingFitsError:
    counts = Counter(reason.limit for reason in reasons)
    binding, _ = counts.most_common(1)[0]
    asked = describe(budget) + (", offline" if offline else "")
    told = ", ".join(f"{limit} rules out {count}" for limit, count in counts.most_common())
    cure = {
        "licence": "Name the licences that you accept (`zoo list` shows each), or candidates whose licence is stated",
        "offline": "`zoo list` shows what there is; put official files into a folder and set ZOO_MIRROR to it",
        "download": "Raise max_download, or name smaller candidates",
    }.get(binding, "Raise that limit, or name smaller candidates")
    return NothingFitsError(
        f"none of {len(rows)} candidate(s) is left before anything is loaded ({asked}): {told}. For one, "
        f"{rows[0].id}: {rows[0].reason}. {cure}.",
        limit=binding,
        nearest=rows[0].id,
    )


def check_limits(budget: Budget, *, offline: bool) -> None:
    """Raise InputError for what no model can meet, or where two of what was asked for contradict each other."""
    check_budget(budget)
    if offline and budget.download_mb is not None:
        raise InputError("offline downloads nothing: leave max_download out, or leave offline out")
