"""The catalogues that ship, and the small data types: every card parses, ids are unique, licences are said."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pytest

from zoo.cards import (
    Budget,
    ImagePreprocess,
    ModelCard,
    ModelId,
    Recipe,
    TextPreprocess,
    fingerprint,
    preprocess_from_dict,
    preprocess_to_dict,
    read_cards,
)
from zoo.errors import InputError

ADAPTERS = Path(__file__).resolve().parents[2] / "adapters"
CATALOGUES = sorted(ADAPTERS.glob("*/cards/*.json"))


def cards(path: Path) -> list[ModelCard]:
    return read_cards(path.read_text(encoding="utf-8"))


def test_every_framework_has_catalogues() -> None:
    assert {path.parents[1].name for path in CATALOGUES} == {"zoo_hf", "zoo_tf", "zoo_torch"}


@pytest.mark.parametrize("path", CATALOGUES, ids=lambda p: f"{p.parents[1].name}/{p.stem}")
class TestCatalogue:
    def test_every_card_parses_and_says_what_it_is(self, path: Path) -> None:
        found = cards(path)
        assert found, "an empty catalogue"
        for card in found:
            assert card.framework == path.parents[1].name.removeprefix("zoo_")
            assert card.task in ("image-classification", "text-classification"), card.id
            assert card.family and card.source, card.id
            assert card.params is None or card.params > 1000, card.id
            assert list(card.depths) == sorted(set(card.depths)), card.id
            assert str(ModelId.parse(card.id)) == card.id, "an id that does not read back"

    def test_names_and_aliases_are_unique(self, path: Path) -> None:
        names = Counter(name for card in cards(path) for name in {card.name, *card.aliases})
        assert not [name for name, n in names.items() if n > 1]

    def test_a_hash_in_a_file_name_is_on_the_card(self, path: Path) -> None:
        """torchvision and Keras write the first digits of the SHA-256 into some of their names."""
        for card in cards(path):
            for weights in card.weights:
                named = re.search(r"-([0-9a-f]{8,64})\.\w+$", weights.file or "")
                if named:
                    assert (weights.sha256 or "").startswith(named[1]), f"{card.id}@{weights.tag}"

    def test_licences_and_tags(self, path: Path) -> None:
        """A licence is said, if only as 'unknown'; a metric has its value and where that was published."""
        for card in cards(path):
            assert len({weights.tag for weights in card.weights}) == len(card.weights), card.id
            for weights in card.weights:
                assert weights.licence, card.id
                assert (weights.metric is None) == (weights.value is None), card.id
                assert weights.url is None or weights.url.startswith("https://"), card.id
                assert weights.sha256 is None or re.fullmatch("[0-9a-f]{6,64}", weights.sha256), card.id


def test_what_all_cards_of_a_file_have_may_stand_once() -> None:
    own = {"name": "one", "family": "f"}
    shared = {"framework": "toy", "task": "image-classification"}
    plain, headed = json.dumps([{**shared, **own}]), json.dumps({"all": shared, "cards": [own]})
    assert read_cards(plain) == read_cards(headed) == [ModelCard.from_dict({**shared, **own})]
    with pytest.raises(TypeError, match="colour"):
        read_cards(json.dumps({"all": {**shared, "colour": 1}, "cards": [own]}))


@pytest.mark.parametrize(
    "text",
    ["torch:resnet50", "tf:bert@none", "hf:a/b@tag,depth=4", "torch:x,depth=2,size=160", "hf:./folder"],
)
def test_ids_read_back(text: str) -> None:
    assert str(ModelId.parse(text)) == text


def test_an_id_that_cannot_be_read_says_how() -> None:
    with pytest.raises(InputError, match=r"cannot read 'deep=4'.*framework:name\[@weights\]\[,depth=4\]"):
        ModelId.parse("torch:resnet50,deep=4")


@pytest.mark.parametrize("one", [ImagePreprocess(8, 8, mean=(0.1, 0.2, 0.3)), TextPreprocess(tokenizer="{}")])
def test_preprocess_survives_json(one: ImagePreprocess | TextPreprocess) -> None:
    assert preprocess_from_dict(json.loads(json.dumps(preprocess_to_dict(one)))) == one


def test_a_preprocess_of_another_shape() -> None:
    with pytest.raises(InputError, match="its kind is 'audio'"):
        preprocess_from_dict({"kind": "audio"})
    with pytest.raises(InputError, match="not a preprocess description"):
        preprocess_from_dict({"kind": "image", "colour": 1})


def test_at_size_scales_the_resize() -> None:
    assert ImagePreprocess(224, 224).at_size(112).resize_to == (128, 128)


def test_recipes_that_cannot_be_trained_list_every_problem() -> None:
    with pytest.raises(InputError, match=r"lr -1.*epochs 0.*patience 0"):
        Recipe(lr=-1, epochs=0, patience=0)


def test_budgets() -> None:
    with pytest.raises(InputError, match="latency_ms=0: a limit must be above 0"):
        Budget(latency_ms=0)
    with pytest.raises(InputError, match="latency_percentile=99: 50 or 90"):
        Budget(latency_percentile=99)


def test_fingerprints_follow_content() -> None:
    assert fingerprint(Recipe()) == fingerprint(Recipe()) != fingerprint(Recipe(lr=0.5))
