"""torch's catalogue against the torchvision and timm that are installed: names, tags, a few figures counted again."""

from __future__ import annotations

import catalogue_age
import catalogue_timm
import pytest
import timm
import torch
import torchvision

from zoo import registry
from zoo.cards import ModelCard

pytestmark = pytest.mark.torch


@pytest.fixture(scope="module")
def vision() -> dict[str, ModelCard]:
    return catalogue_age.fresh("torch", "torchvision")


@pytest.fixture(scope="module")
def arches() -> dict[str, ModelCard]:
    return catalogue_age.fresh("torch", "timm")


def test_torchvisions_classifiers_and_weights_are_listed(vision: dict[str, ModelCard]) -> None:
    known = set(torchvision.models.list_models(module=torchvision.models))
    catalogue_age.same("torch", "torchvision", set(vision), known)
    for name, card in vision.items():
        tags = torchvision.models.get_model_weights(name)
        listed = {weights.tag for weights in card.weights}
        catalogue_age.same("torch", "torchvision", listed, {entry.name for entry in tags})
        assert card.weights[0].tag == tags.DEFAULT.name, name
        assert card.weights[0].url == tags.DEFAULT.url, name


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "shufflenet_v2_x0_5"])
def test_torchvisions_parameters(vision: dict[str, ModelCard], name: str) -> None:
    with torch.device("meta"):
        module = torchvision.models.get_model(name)
    assert vision[name].params == sum(p.numel() for p in module.parameters())


def test_timms_architectures_are_listed(arches: dict[str, ModelCard]) -> None:
    known = {f"timm/{name}" for name in timm.list_models()}
    catalogue_age.same("torch", "timm", set(arches), known, new=0.02)
    if not catalogue_age.stale("torch", "timm"):
        for name in sorted(known - set(arches))[:2]:
            found = catalogue_timm.count(name.removeprefix("timm/"))
            assert "bad" in found, f"{name} can be read, and is not listed"


def test_timms_tags_are_listed_the_default_first(arches: dict[str, ModelCard]) -> None:
    known: dict[str, set[str]] = {}
    for name in timm.list_models(pretrained=True):
        arch, _, tag = name.partition(".")
        known.setdefault(f"timm/{arch}", set()).add(tag)
    for name, tags in known.items():
        listed = {weights.tag for weights in arches[name].weights} if name in arches else tags
        catalogue_age.same("torch", "timm", listed - {"default"}, tags - {""})
    for arch in ("resnet50", "vit_base_patch16_224", "mobilenetv3_small_100"):
        assert arches[f"timm/{arch}"].weights[0].tag == timm.get_pretrained_cfg(arch).tag


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv3_small_050", "regnety_004"])
def test_timms_parameters(arches: dict[str, ModelCard], name: str) -> None:
    with torch.device("meta"):
        module = timm.create_model(name)
    assert arches[f"timm/{name}"].params == sum(p.numel() for p in module.parameters())


def test_no_alias_is_two_models() -> None:
    cards = registry.cards("torch")
    names = {card.name for card in cards}
    aliases = [alias for card in cards for alias in card.aliases]
    assert not names & set(aliases), "an alias that is a name is never reached"
    assert len(aliases) == len(set(aliases))


def test_timms_own_spelling_names_one_set_of_weights(arches: dict[str, ModelCard]) -> None:
    for text in ("timm/resnet50.a1_in1k", "resnet50.a1_in1k", "torch:timm/resnet50.a1_in1k"):
        assert str(registry.resolve(text, "torch")) == "torch:timm/resnet50@a1_in1k"
    assert str(registry.resolve("torch:resnet50")) == "torch:resnet50", "torchvision goes before timm"
