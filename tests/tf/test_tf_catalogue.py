"""tf's catalogue against the Keras and KerasHub that are installed: names, and a few figures counted again."""

from __future__ import annotations

import catalogue_age
import keras
import keras_hub
import pytest

from zoo import registry
from zoo.cards import ModelCard
from zoo_tf.applications import APPLICATIONS

pytestmark = pytest.mark.tf


@pytest.fixture(scope="module")
def applications() -> dict[str, ModelCard]:
    return catalogue_age.fresh("tf", "keras_applications")


@pytest.fixture(scope="module")
def presets() -> dict[str, ModelCard]:
    return catalogue_age.fresh("tf", "kerashub")


def test_every_network_of_keras_applications_is_listed(applications: dict[str, ModelCard]) -> None:
    catalogue_age.same("tf", "keras_applications", set(applications), set(APPLICATIONS))
    known = {name for name in dir(keras.applications) if name[0].isupper()}
    catalogue_age.same(
        "tf", "keras_applications", {app.make.__name__ for app in APPLICATIONS.values()}, known
    )
    assert all(card.weights[0].tag == "imagenet" for card in applications.values())


@pytest.mark.parametrize("name", ["mobilenet_v1_0.25_128", "mobilenet_v3_small"])
def test_keras_parameters(applications: dict[str, ModelCard], name: str) -> None:
    app = APPLICATIONS[name]
    with keras.StatelessScope():  # shapes alone
        model = app.make(weights=None, input_shape=(app.size, app.size, 3), **app.options)
    assert applications[name].params == model.count_params()


def test_every_preset_of_a_classifier_is_listed(presets: dict[str, ModelCard]) -> None:
    kinds = [name for name in dir(keras_hub.models) if name.endswith(("ImageClassifier", "TextClassifier"))]
    known = {f"kerashub/{preset}" for name in kinds for preset in getattr(keras_hub.models, name).presets}
    listed = {name for name in presets if name.startswith("kerashub/")}
    aliases = {f"kerashub/{alias}" for card in presets.values() for alias in card.aliases}
    catalogue_age.same("tf", "kerashub", listed, known - (aliases - listed), new=0.05)


def test_kerashubs_parameters_are_the_presets_own(presets: dict[str, ModelCard]) -> None:
    stated = {
        f"kerashub/{name}": preset["metadata"]["params"]
        for kind in (keras_hub.models.ImageClassifier, keras_hub.models.TextClassifier)
        for name, preset in kind.presets.items()
    }
    for name in ("kerashub/resnet_50_imagenet", "kerashub/bert_tiny_en_uncased"):
        assert presets[name].params == stated[name]


def test_no_alias_is_two_models() -> None:
    cards = registry.cards("tf")
    names = {card.name for card in cards}
    aliases = [alias for card in cards for alias in card.aliases]
    assert not names & set(aliases), "an alias that is a name is never reached"
    assert len(aliases) == len(set(aliases))
