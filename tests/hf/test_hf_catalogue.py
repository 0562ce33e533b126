"""hf's catalogue against the transformers that is installed: its published names, figures counted again."""

from __future__ import annotations

import catalogue_age
import pytest
import torch
import transformers

from zoo import registry
from zoo.cards import ImagePreprocess, ModelCard
from zoo.engine import LoadRequest
from zoo.errors import WeightsUnavailableError
from zoo_hf.adapter import ADAPTER
from zoo_hf.published import PUBLISHED, STATED

pytestmark = pytest.mark.hf


@pytest.fixture(scope="module")
def cards() -> dict[str, ModelCard]:
    return catalogue_age.fresh("hf", "transformers")


def test_the_published_networks_are_listed(cards: dict[str, ModelCard]) -> None:
    assert set(PUBLISHED) | set(STATED) == set(cards), catalogue_age.renew("transformers")
    for name, published in PUBLISHED.items():
        assert cards[name].weights[0].file == published.repo
        layers = transformers.CONFIG_MAPPING[published.config["model_type"]].from_dict(dict(published.config))
        assert cards[name].depths == tuple(range(layers.num_hidden_layers + 1))


@pytest.mark.parametrize("name", ["bert", "gpt2"])
def test_parameters_are_the_networks_own(cards: dict[str, ModelCard], name: str) -> None:
    config = transformers.CONFIG_MAPPING[PUBLISHED[name].config["model_type"]].from_dict(
        dict(PUBLISHED[name].config)
    )
    with torch.device("meta"):
        module = transformers.AutoModel.from_config(config)
    assert cards[name].params == sum(p.numel() for p in module.parameters())


def test_no_alias_is_two_models() -> None:
    known = registry.cards("hf")
    names = {card.name for card in known}
    aliases = [alias for card in known for alias in card.aliases]
    assert not names & set(aliases), "an alias that is a name is never reached"
    assert len(aliases) == len(set(aliases))


@pytest.mark.parametrize("name", sorted(STATED))
def test_what_is_listed_by_hub_id_loads_at_random_without_the_hub(
    cards: dict[str, ModelCard], name: str
) -> None:
    """Parameters, depths and input are the card's; an official folder would say no other."""
    engine = ADAPTER.load(LoadRequest(name, weights="none"))
    card = cards[name]
    assert sum(p.numel() for p in engine.module.parameters()) == card.params
    assert engine.depths == card.depths
    if isinstance(engine.preprocess, ImagePreprocess):
        assert engine.preprocess.height == card.size == 224
    with pytest.raises(WeightsUnavailableError, match="Random weights need its configuration from there"):
        ADAPTER.load(LoadRequest(f"{name}-x", weights="none"))
