"""The catalogue asked: filters, sorting, licences, names with a tag, the same network across frameworks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import many_models
import pytest

from zoo import catalogue, registry
from zoo.across import Key, across, key
from zoo.cards import ModelCard
from zoo.catalogue import Wanted, entries, list_models, ordered, unknown
from zoo.errors import AmbiguousModelError, InputError, UnknownModelError


@pytest.fixture(autouse=True)
def few(tmp_path: Path) -> Iterator[None]:
    with many_models.installed(tmp_path / "site", many_models.FEW):
        yield


def ids(wanted: Wanted, by: str = "id", *, reverse: bool = False) -> list[str]:
    return [entry.id for entry in ordered(entries(wanted), by, reverse=reverse)]


# --- filters
def test_every_set_of_weights_is_an_entry_the_default_first() -> None:
    assert ids(Wanted("timm/*", "pan")) == [
        "pan:timm/gridnet101@none",
        "pan:timm/gridnet50@a1_in1k",
        "pan:timm/gridnet50@bit_in21k",
        "pan:timm/gridnet50d@ra2_in1k",
    ]


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("gridnet50", {"gridnet50", "timm/gridnet50"}),
        ("pan:gridnet50", {"gridnet50", "timm/gridnet50"}),
        ("timm/gridnet50", {"timm/gridnet50"}),
        ("GridNet50?", {"timm/gridnet50d"}),
        ("gridnet1*,tiny*", {"timm/gridnet101", "tinygrid"}),
        ("gridnet*@a1*", {"timm/gridnet50"}),
        ("@V1", {"gridnet50", "tinygrid"}),
    ],
)
def test_patterns_meet_names_ids_last_parts_and_tags(pattern: str, names: set[str]) -> None:
    assert {entry.card.name for entry in entries(Wanted(pattern, "pan"))} == names


def test_limits_leave_out_what_nobody_states() -> None:
    small = Wanted("*", "pan", limits={"size": (None, 50)})
    assert ids(small) == ["pan:tinygrid@V1"]
    assert unknown(small) == {"size": 4}, "V1, bit_in21k, ra2_in1k and the one without weights"
    assert ids(Wanted("*", "pan", limits={"top1": (80.5, None)})) == [
        "pan:gridnet50@V2", "pan:timm/gridnet50d@ra2_in1k",
    ]  # fmt: skip
    assert ids(Wanted("*", "pan", limits={"params": (2, 25.56), "macs": (4.095, None)})) == [
        "pan:timm/gridnet50@a1_in1k"
    ], "MACs are the card's input's: at another one they are unknown"
    assert ids(Wanted("*", "pan", limits={"input": (288, None)})) == ["pan:timm/gridnet50@bit_in21k"]


def test_top1_is_imagenets_alone() -> None:
    assert [e.top1 for e in entries(Wanted("birdnet"))] == [None]
    (entry,) = entries(Wanted("wordnet"))
    assert entry.top1 is None and entry.weights is not None and entry.weights.value == 91.3
    assert ids(Wanted("*", "qed", dataset="sst-2")) == ["qed:wordnet"]


def test_unknown_licences_are_permissive_to_nobody() -> None:
    found = {e.weights.licence for e in entries(Wanted(licence="permissive")) if e.weights}
    assert found >= {"apache-2.0", "mit", "bsd-3-clause"}
    assert not found & {"unknown", "cc-by-nc-4.0", "other", ""}
    assert ids(Wanted("*", "pan", licence="MIT,bsd*")) == ["pan:gridnet50@V1", "pan:tinygrid@V1"]
    assert "pan:gridnet50@V2" in ids(Wanted("*", "pan", licence="permissive,unknown"))
    assert "cc-by-sa-4.0" not in catalogue.PERMISSIVE and "gpl-3.0" not in catalogue.PERMISSIVE


def test_family_source_and_task() -> None:
    assert ids(Wanted("*", "qed", family="gridnet_v2")) == ["qed:gridnet50_v2@imagenet"]
    assert ids(Wanted("*", "qed", source="QED_hub")) == ["qed:qedhub/grid_net_50_imagenet"]
    assert ids(Wanted("*", "qed", task="text")) == ["qed:wordnet"]
    with pytest.raises(InputError, match="no task 'sound': image or text"):
        entries(Wanted(task="sound"))


# --- order
def test_sorted_by_figures_the_unknown_last_either_way() -> None:
    best = ids(Wanted("*", "pan"), "top1")
    assert best[:2] == ["pan:gridnet50@V2", "pan:timm/gridnet50d@ra2_in1k"]
    assert set(best[-2:]) == {"pan:timm/gridnet101@none", "pan:timm/gridnet50@bit_in21k"}
    worst = ids(Wanted("*", "pan"), "top1", reverse=True)
    assert worst[0] == "pan:tinygrid@V1" and set(worst[-2:]) == set(best[-2:])
    assert ids(Wanted("*", "pan"), "params")[0] == "pan:tinygrid@V1"
    assert ids(Wanted("*", "pan"), "params", reverse=True)[0] == "pan:timm/gridnet101@none"
    with pytest.raises(InputError, match="cannot sort by 'beauty': id, name, "):
        ordered([], "beauty")


@pytest.mark.parametrize("by", catalogue.SORTS)
def test_everything_can_be_sorted_by(by: str) -> None:
    found = entries(Wanted())
    assert sorted(e.id for e in ordered(found, by)) == sorted(e.id for e in found)


# --- the public function
def test_list_models_gives_cards_with_the_weights_that_fit() -> None:
    (one,) = list_models("gridnet50", framework="pan", min_top1=80.5, max_params=26e6)
    assert one.name == "gridnet50" and [w.tag for w in one.weights] == ["V2"]
    names = [c.name for c in list_models(framework="pan", sort="params", limit=2)]
    assert names == ["tinygrid", "gridnet50"]
    assert [c.name for c in list_models(framework="pan", max_size_mb=50)] == ["tinygrid"]
    assert [c.name for c in list_models(framework="pan", max_macs_g=1)] == ["tinygrid"]
    assert list_models("timm/gridnet101", framework="pan")[0].weights == ()
    with pytest.raises(UnknownModelError, match="no framework 'pann'"):
        list_models(framework="pann")


def test_facts_are_flat_and_complete() -> None:
    default, other = (catalogue.facts(e) for e in entries(Wanted("timm/gridnet50", "pan")))
    assert default["id"] == "pan:timm/gridnet50@a1_in1k" and default["default"] is True
    assert other["default"] is False and other["size"] == 288 and other["top1"] is None
    assert default["figure_source"] == "https://example.org" and default["source"] == "timm"
    assert default["params"] == 25_557_032 and default["top1"] == 80.2


def test_a_card_with_a_wrong_field_is_no_card() -> None:
    good = {"framework": "f", "name": "n", "task": "image-classification", "family": "g"}
    assert ModelCard.from_dict({**good, "depths": [1]}) == ModelCard("f", "n", good["task"], "g", depths=(1,))
    for bad in ({**good, "colour": 1}, {**good, "weights": [{"tga": "a"}]}, {"framework": "f", "name": "n"}):
        with pytest.raises(TypeError, match=r"colour|tga|task"):
            ModelCard.from_dict(bad)


# --- names
@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("pan:timm/gridnet50.a1_in1k", "pan:timm/gridnet50@a1_in1k"),
        ("timm/gridnet50.a1_in1k,depth=2", "pan:timm/gridnet50@a1_in1k,depth=2"),
        ("pan:gridnet50d.ra2_in1k", "pan:timm/gridnet50d@ra2_in1k"),
        ("pan:gridnet50.a1_in1k", "pan:timm/gridnet50@a1_in1k"),
        ("pan:gridnet50.V1", "pan:gridnet50@V1"),
        ("gridnet50.a1_in1k", "pan:timm/gridnet50@a1_in1k"),
        ("pan:timm/gridnet50.a1_in1k@none", "pan:timm/gridnet50@none"),
        ("pan:timm/gridnet50.no_such", "pan:timm/gridnet50@no_such"),
        ("qed:some/hub.id_in1k", "qed:some/hub.id_in1k"),
    ],
)
def test_a_tag_after_a_dot_is_timms_spelling(name: str, found: str) -> None:
    assert str(registry.resolve(name)) == found


def test_two_tags_are_one_too_many() -> None:
    with pytest.raises(InputError, match="names two sets of weights, a1_in1k and V2: leave one out"):
        registry.resolve("pan:timm/gridnet50.a1_in1k@V2")


def test_default_is_the_first_of_a_cards_weights() -> None:
    first = registry.weights_card(registry.resolve("pan:timm/gridnet50"))
    assert first is not None and first.tag == "a1_in1k"
    other = registry.weights_card(registry.resolve("pan:gridnet50@V1"))
    assert other is not None and other.licence == "mit"
    for name in ("pan:gridnet50@none", "pan:gridnet50@nothing", "pan:timm/gridnet101"):
        assert registry.weights_card(registry.resolve(name)) is None


def test_an_unknown_name_of_a_named_source_gets_near_names() -> None:
    with pytest.raises(
        UnknownModelError, match=r"no model 'timm/gridnet5O' in pan\. Did you mean timm/gridnet50"
    ):
        registry.resolve("pan:timm/gridnet5O")
    with pytest.raises(UnknownModelError, match="Did you mean qedhub/grid_net_50_imagenet"):
        registry.resolve("qed:qedhub/grid_net_50_imagenett")
    assert registry.resolve("qed:org/grid-net-51").name == "org/grid-net-51", "a hub id the adapter may know"


def test_another_spelling_comes_before_a_likeness() -> None:
    assert registry.near("GRID-NET-50", ["grid_net_5", "gridnet50"]) == ["gridnet50"]
    assert registry.near("Grid-Net_50", ["gridnet5", "gridnet50", "grid_net_5"])[0] == "gridnet50"


def test_a_name_of_two_frameworks_stays_ambiguous() -> None:
    with pytest.raises(AmbiguousModelError, match="say which: pan:gridnet50, qed:gridnet50"):
        registry.resolve("gridnet50")


# --- across
def test_one_network_under_every_spelling() -> None:
    found = across("gridnet50")
    assert [card.id for card in found.same] == [
        "pan:gridnet50",
        "qed:gridnet50",
        "pan:timm/gridnet50",
        "qed:org/grid-net-50",
        "qed:qedhub/grid_net_50_imagenet",
    ]
    assert [card.id for card in found.relatives] == ["pan:timm/gridnet50d", "qed:gridnet50_v2"]
    for name in ("qed:org/grid-net-50", "Grid-Net-50", "timm/gridnet50"):
        assert {card.id for card in across(name).same} == {card.id for card in found.same}
    assert across("qed:gridnet50").same[0].id == "qed:gridnet50", "the first is what was asked for"
    with pytest.raises(UnknownModelError, match=r"no catalogue has 'gridnet5' under any spelling.*gridnet50"):
        across("gridnet5")


ALIKE = """
resnet50 timm/resnet50 kerashub/resnet_50_imagenet microsoft/resnet-50 timm/resnet50.a1_in1k
mobilenet_v2 timm/mobilenetv2_100 google/mobilenet_v2_1.0_224
mobilenet_v1_0.25_224 timm/mobilenetv1_025
mobilenet_v3_small timm/mobilenetv3_small_100 kerashub/mobilenet_v3_small_100_imagenet
vit_b_16 timm/vit_base_patch16_224 google/vit-base-patch16-224 kerashub/vit_base_patch16_224_imagenet
swin_t timm/swin_tiny_patch4_window7_224 microsoft/swin-tiny-patch4-window7-224
regnet_y_1_6gf timm/regnety_016
regnet_y_400mf facebook/regnet-y-004
efficientnet_b0 google/efficientnet-b0 kerashub/efficientnet_b0_ra4_e3600_r224_imagenet
efficientnet_v2_s timm/efficientnetv2_s
mnasnet0_5 timm/mnasnet_050
densenet121 kerashub/densenet_121_imagenet
bert-base-uncased kerashub/bert_base_en_uncased google-bert/bert-base-uncased
all-minilm-l6-v2 kerashub/all_minilm_l6_v2_en sentence-transformers/all-MiniLM-L6-v2
"""
APART = """
resnet50 resnet50_v2 resnet101 resnet50d kerashub/resnet_vd_50_imagenet timm/wide_resnet50_2 timm/resnext50_32x4d
mobilenet_v1 mobilenet_v2 mobilenet_v3_small mobilenet_v3_large mobilenet_v1_0.25_224
efficientnet_b0 tf_efficientnet_b0 efficientnet_b1
vit_b_16 vit_b_32 vit_l_16 deit_base_patch16_224
vgg16 vgg16_bn vgg19
"""


@pytest.mark.parametrize("names", ALIKE.strip().splitlines())
def test_keys_read_every_source_spelling(names: str) -> None:
    assert len({key(name) for name in names.split()}) == 1


@pytest.mark.parametrize("names", APART.strip().splitlines())
def test_keys_keep_other_networks_apart(names: str) -> None:
    assert len({key(name) for name in names.split()}) == len(names.split())


def test_a_version_is_a_variant_and_the_input_size_is_none() -> None:
    assert key("kerashub/resnet_v2_50_imagenet") == key("timm/resnetv2_50") == Key("resnet50", ("v2",))
    assert key("timm/vit_base_patch16_384", 384) == key("vit_b_16")
    assert key("timm/regnety_320", 224) == Key("regnety320"), "a number that is no size stays"
