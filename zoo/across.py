"""The same architecture in every framework and source: `zoo info --across resnet50`.

Sources spell one name in many ways (resnet50, timm/resnet50, kerashub/resnet_50_imagenet,
microsoft/resnet-50, vit_b_16, vit_base_patch16_224) and give one name to different networks (ResNet v1 in
Keras, v1.5 elsewhere). So a name is read into a Key: the architecture's own words and figures, without what names
the weights, and apart from it the words of a variant. Equal keys are shown together, figures beside each other;
near ones (another version, one word more, about as many parameters) are relatives, and said to be no more.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from zoo import registry
from zoo.cards import ModelCard
from zoo.errors import UnknownModelError

# Words of a name that tell what the weights were trained on, or how, and nothing of the network.
OF_WEIGHTS = re.compile(
    r"imagenet|imagenet1k|imagenet21k|in1k|in21k|in22k|1k|21k|22k|en|ft|sw|agc|ssld|fix|ra[0-9]?|e[0-9]{4}|r[0-9]{3}"
)
VERSION = re.compile(r"v[0-9](\.[0-9])?")
# Words of a variant: an implementation's own (tf_, tv_, legacy_), a changed stem (vd).
VARIANT = frozenset({"tf", "tv", "legacy", "vd", "distilled", "rw"})
LETTERS = {"t": "tiny", "s": "small", "b": "base", "l": "large", "h": "huge", "g": "giant"}
# Parameters of a relative lie within this of the model asked for: the head's classes and the normalisation
# move them by a few percent, another depth or width by more.
LIKE_PARAMS = 0.15


@dataclass(frozen=True)
class Key:
    """base: the architecture, letters and digits; variant: its version and other words, sorted."""

    base: str
    variant: tuple[str, ...] = ()


@dataclass(frozen=True)
class Across:
    """same: one architecture as each framework and source has it, first where it is asked for by its name.

    relatives: other networks of nearly that name and size, the likest parameters first.
    """

    name: str
    same: tuple[ModelCard, ...]
    relatives: tuple[ModelCard, ...]


def across(name: str) -> Across:
    """Everything the catalogues hold under a name, whoever's spelling it is in.

    name: any spelling, or a framework:name. Raises UnknownModelError with near names.
    """
    wanted = name.partition(":")[2] or name
    cards = [card for framework in registry.frameworks() for card in registry.cards(framework)]
    asked = [card for card in cards if name in (card.name, card.id, *card.aliases)]
    asked = asked or [card for card in cards if wanted in (card.name, *card.aliases)]
    keys = {key(wanted)}.union(*(keys_of(card) for card in asked))
    same = [card for card in cards if keys & keys_of(card)]
    if asked:
        same = [card for card in same if card.task == asked[0].task]
    if not same:
        found = registry.near(wanted, {text for c in cards for text in (c.name, *c.aliases)})
        guess = f" Did you mean {', '.join(found)}?" if found else ""
        raise UnknownModelError(
            f"no catalogue has {name!r} under any spelling.{guess} `zoo list` shows all.", found
        )
    first = {card.id for card in asked}
    same.sort(key=lambda card: (card.id not in first, "/" in card.name, card.id))
    return Across(name, tuple(same), tuple(_relatives(same, cards)))


def _relatives(same: list[ModelCard], cards: Iterable[ModelCard]) -> list[ModelCard]:
    """Cards of nearly the same key: all but the version or a word, and about as many parameters."""
    known = {card.id for card in same}
    keys = keys_of(same[0])
    params = next((card.params for card in same if card.params), None)
    families = {_root(card.family) for card in same}
    found: list[tuple[float, str, ModelCard]] = []
    for card in cards:
        if card.id in known or card.task != same[0].task or not params or not card.params:
            continue
        off = abs(card.params / params - 1)
        family = _root(card.family) in families
        if off <= LIKE_PARAMS and any(_near(k, keys, family) for k in keys_of(card)):
            found.append((off, card.id, card))
    return [card for _, _, card in sorted(found)]


def _near(other: Key, keys: Iterable[Key], family: bool) -> bool:
    """Whether a key is one of these but for the variant, or, in a family, one with a word more (50d, 50_gn)."""
    return any(
        other.base == k.base
        or (
            family
            and other.variant == k.variant
            and other.base.startswith(k.base)
            and not other.base[len(k.base)].isdigit()
        )
        for k in keys
    )


def _root(family: str) -> str:
    """The family's letters alone: resnet for resnet_v2, mobilenet for MobileNetV3."""
    return re.sub(r"v[0-9].*|[^a-z]", "", family.lower())


# --- keys
def keys_of(card: ModelCard) -> set[Key]:
    """The keys of a card's name and aliases; the card's own input size in a name is not part of them."""
    return {key(text, card.size) for text in (card.name, *card.aliases)}


def key(name: str, size: int | None = None) -> Key:
    """Read a name of any source. size: its input; as the name's last number it is left out."""
    text = name.lower().rpartition("/")[2]
    text = re.sub(r"\.(?=[a-z]).*", "", text)  # timm's tag: resnet50.a1_in1k
    words = [word for word in re.split(r"[_\-]", _expanded(text)) if word and not OF_WEIGHTS.fullmatch(word)]
    if len(words) > 1 and words[-1] in _sizes(size):
        words.pop()
    if words and words[0].startswith("mobile"):
        words = [wide for word in words if (wide := _width_words(word))]
    variant = [word for word in words if VERSION.fullmatch(word) or word in VARIANT]
    return Key("".join(word for word in words if word not in variant), tuple(sorted(variant)))


def _sizes(size: int | None) -> set[str]:
    """What an input size is written as; a name asked for comes without its card, so the common ones go."""
    return {str(size)} if size else {"224", "384"}


def _width_words(word: str) -> str:
    """A width multiplier as hundredths, and nothing for 1: 0.25 and 025 are 025, 1.0 and 100 go."""
    if re.fullmatch(r"[0-9]\.[0-9]+", word):
        word = f"{round(float(word) * 100):03d}"
    return "" if word == "100" else word


def _expanded(text: str) -> str:
    """The short names of torchvision (vit_b_16, swin_t, regnet_y_1_6gf) and joined versions, written out."""
    text = re.sub(r"^vit_([blh])_(\d+)$", lambda m: f"vit_{LETTERS[m[1]]}_patch{m[2]}", text)
    text = re.sub(r"^swin_([tsbl])$", lambda m: f"swin_{LETTERS[m[1]]}_patch4_window7", text)
    text = re.sub(r"^swin_v2_([tsbl])$", lambda m: f"swin_v2_{LETTERS[m[1]]}_window8", text)
    text = re.sub(r"^maxvit_([tsbl])$", lambda m: f"maxvit_{LETTERS[m[1]]}", text)
    text = re.sub(r"^regnet_?([xy])_([0-9_]+)(mf|gf)$", _regnet, text)
    text = re.sub(r"^(mnasnet)(\d)_(\d+)$", lambda m: f"mobile_{m[1]}_{m[2]}.{m[3]}", text)
    text = re.sub(r"^mnasnet_", "mobile_mnasnet_", text)
    if text.startswith("swin"):
        text = text.replace("_patch4", "").replace("-patch4", "")
    return re.sub(r"([a-z]{3,})(v[0-9])(?=[_\-]|$)", r"\1_\2", text)


def _regnet(match: re.Match[str]) -> str:
    """regnet_y_400mf is timm's regnety_004: hundreds of megaflops in three digits."""
    flops = float(match[2].replace("_", "."))
    return f"regnet{match[1]}_{round(flops / 100 if match[3] == 'mf' else flops * 10):03d}"
