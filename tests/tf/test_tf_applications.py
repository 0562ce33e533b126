"""keras.applications, family by family: the head split off, blocks and stages, pixels, and Keras's weight files.

Networks are as small as Keras makes them: at their least size, or with few and narrow blocks. What the graph alone
tells is read from networks without memory for their weights.
"""

from __future__ import annotations

import csv
import functools
import hashlib
import warnings
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tf_models
from keras.src.applications.efficientnet import EfficientNet
from PIL import Image

from zoo.cards import ImagePreprocess, WeightsCard
from zoo.data import prepare
from zoo.data.images import pixels
from zoo.errors import InputError, WeightsCorruptError
from zoo.testing.helpers import changed, error, run_graph
from zoo_tf import images
from zoo_tf.adapter import ADAPTER
from zoo_tf.applications import APPLICATIONS
from zoo_tf.engine import KerasEngine
from zoo_tf.network import Network, layer_names, seeded
from zoo_tf.start import keras
from zoo_tf.weight_files import load_into, official

V3 = "mobilenet_v3_small_minimalistic_1.0_224"


@functools.cache
def graph(name: str, *, top: bool = True) -> Network:
    """Without memory for its weights."""
    app = APPLICATIONS[name]
    with keras.StatelessScope():
        model = images.build(app, size=app.smallest, classes=7 if top else None)
        return images.network(name, app, model, size=app.smallest)


# --- blocks and stages
@pytest.mark.parametrize(
    ("name", "units", "depths", "dim", "plain_dim"),
    [
        ("vgg16", 7, 6, 4096, 512),
        ("resnet50", 16, 4, 2048, 2048),
        ("resnet50_v2", 16, 4, 2048, None),
        ("densenet121", 58, 4, 1024, None),
        ("inception_v3", 11, 3, 2048, None),
        ("inception_resnet_v2", 40, 3, 1536, None),
        ("xception", 13, 3, 2048, None),
        ("nasnet_mobile", 16, 3, 1056, None),
        ("efficientnet_b0", 16, 7, 1280, None),
        ("efficientnet_v2_b0", 21, 6, 1280, None),
        ("convnext_tiny", 18, 4, 768, 768),
        ("mobilenet_v1_0.25_128", 13, 5, 256, None),
        ("mobilenet_v2_0.35_96", 17, 5, 1280, None),
        (V3, 11, 4, 1024, 576),
    ],
)
def test_blocks_stages_and_features_are_the_papers(
    name: str, units: int, depths: int, dim: int, plain_dim: int | None
) -> None:
    """plain_dim: of the weights without the top, tried where something hangs on it."""
    network = graph(name)
    assert network.feature_dim == dim
    around = ("stem", "last_conv", "last_norm", "dense", "downsampling", "transition", "mixed_6a", "mixed_7a")
    assert len([block for block in network.blocks if not block.startswith(around)]) == units
    owned = [layer for layers in network.blocks.values() for layer in layers]
    assert sorted(owned) == sorted(layer_names(network.backbone))
    for block, layers in network.blocks.items():
        assert any(network.backbone.get_layer(layer).weights for layer in layers), f"{block} has no weights"
    assert tuple(network.taps) == tuple(range(1, depths + 1))
    assert "stem" in network.blocks or name == "vgg16"
    if plain_dim is not None:
        plain = graph(name, top=False)
        assert plain.feature_dim == plain_dim and len(plain.taps) == depths - (name == "vgg16")


def test_a_cell_owns_what_it_alone_needs() -> None:
    """NASNet's cells take two inputs: what adjusts the older one belongs to the cell that takes it."""
    network = graph("nasnet_mobile")
    owner = {layer: block for block, layers in network.blocks.items() for layer in layers}
    assert owner["adjust_conv_1_0"] == owner["normal_conv_1_0"] == "cell_0"
    assert owner["adjust_conv_projection_1"] == "cell_1"
    mixed = graph("inception_v3").blocks["mixed_0"]
    assert sum("conv2d" in layer for layer in mixed) == 7  # Szegedy et al. 2015, figure 5


def test_nameless_layers_are_counted_within_the_network() -> None:
    first = graph("inception_v3")
    graph.cache_clear()  # Keras's own counters have moved on
    assert set(layer_names(first.backbone).values()) == set(
        layer_names(graph("inception_v3").backbone).values()
    )


@pytest.fixture(scope="module")
def small_v3() -> tuple[keras.Model, KerasEngine]:
    app = APPLICATIONS[V3]
    with seeded(0):
        model = tf_models.enlivened(images.build(app, size=32, classes=7))
    model.get_layer("logits").kernel.assign(np.random.default_rng(1).normal(0, 0.2, (1, 1, 1024, 7)))
    engine = KerasEngine(images.network(V3, app, model, size=32))
    head = images.split_head(model)[1]
    assert head is not None
    engine.set_head(*head)
    return model, engine


def photographs(size: int = 32) -> np.ndarray:
    return np.random.default_rng(0).uniform(0, 255, (3, 3, size, size)).astype(np.float32)


def test_a_convolution_as_head_leaves_1024_features(small_v3: tuple[keras.Model, KerasEngine]) -> None:
    model, engine = small_v3
    batch = photographs()
    native = np.log(model(batch.transpose(0, 2, 3, 1), training=False).numpy())
    logits = engine.logits({"images": batch}).astype(np.float64)
    scores = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    np.testing.assert_allclose(scores, native, atol=1e-3 * native.std())
    assert engine.feature_dim == 1024 and engine.blocks[-1] == "dense"


def test_a_stage_is_the_average_of_its_map_and_the_rest_is_gone(
    small_v3: tuple[keras.Model, KerasEngine],
) -> None:
    model, whole = small_v3
    app, batch = APPLICATIONS[V3], photographs()
    for depth, layer in enumerate(("expanded_conv_project_bn", "expanded_conv_2_add"), 1):
        cut = KerasEngine(images.network(V3, app, model, size=32, depth=depth))
        inner = keras.Model(model.inputs, model.get_layer(layer).output)
        want = inner(batch.transpose(0, 2, 3, 1), training=False).numpy().mean((1, 2))
        assert error(cut.features({"images": batch}), want) < 1e-5
        assert cut.depths == tuple(range(1, depth + 1)) and cut.num_classes is None
        assert set(cut.state()) < set(whole.state()) and cut.blocks == whole.blocks[: len(cut.blocks)]
    with pytest.raises(InputError, match="depths 1 to 4, its stages, not 5"):
        images.network(V3, app, model, size=32, depth=5)


def test_all_stages_are_cut_from_one_graph(small_v3: tuple[keras.Model, KerasEngine], tmp_path: Path) -> None:
    model, _ = small_v3
    engine = KerasEngine(images.network(V3, APPLICATIONS[V3], model, size=32, depth=2))
    engine.export_onnx(tmp_path / "two.onnx", opset=18, depths=engine.depths)
    found = run_graph(tmp_path / "two.onnx", {"images": photographs()})
    want = engine.features({"images": photographs()})
    assert sorted(found) == ["features_1", "features_2"] and error(found["features_2"], want) < 1e-4
    assert found["features_1"].shape == (3, 16)


def test_a_cut_and_a_plain_network_are_made_again() -> None:
    for options in ({"depth": 2}, {"depth": 4}):  # 4 is the whole
        engine = tf_models.load(V3, weights="none", size=32, num_classes=3, **options)
        architecture = engine.architecture()
        assert architecture is not None
        again = ADAPTER.rebuild(architecture, engine.preprocess)
        again.load_state(engine.state())
        batch = {"images": photographs()}
        assert (again.logits(batch) == engine.logits(batch)).all() and again.blocks == engine.blocks


# --- pixels
@pytest.fixture(scope="module")
def some_photographs(shared_or_none: Path | None, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    if shared_or_none is not None:
        folder = shared_or_none / "data" / "imagenet_sample"
        with (folder / "labels.csv").open() as file:
            rows = list(csv.DictReader(file))[:8]
        name = next(key for key in rows[0] if key != "class_index")
        return [next(folder.rglob(Path(row[name]).name)) for row in rows]
    path = tmp_path_factory.mktemp("photographs") / "noise.png"
    noise = np.random.default_rng(0).integers(0, 255, (300, 400, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    return [path]


@pytest.fixture(scope="module")
def shared_or_none() -> Path | None:
    folder = Path(__file__).resolve().parents[2].parent / "shared"
    return folder if (folder / "data" / "imagenet_sample" / "labels.csv").is_file() else None


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("mobilenet_v2", keras.applications.mobilenet_v2),  # mode 'tf'
        ("densenet121", keras.applications.densenet),  # 'torch'
        ("vgg16", keras.applications.vgg16),  # 'caffe': BGR
        ("efficientnet_b0", keras.applications.efficientnet),  # scaled inside
        ("convnext_tiny", keras.applications.convnext),  # normalised inside
    ],
)
def test_each_preprocessing_is_keras_own(name: str, module: Any, some_photographs: list[Path]) -> None:
    """Keras's `preprocess_input` on the same resized pixels; its own resizing is the user's choice."""
    ours = images.preprocess(APPLICATIONS[name], 96)
    raw = np.stack([pixels(path, ours) for path in some_photographs]).astype(np.float32)
    want = np.asarray(module.preprocess_input(raw.copy())).transpose(0, 3, 1, 2)
    found = prepare(some_photographs, ours)["images"]
    deviation = np.array(ours.std).reshape(3, 1, 1) / (ours.scale * 255)  # to units of a pixel in [0, 1]
    assert np.abs((found - want) * deviation).mean() <= 1e-6


def test_every_mode_is_the_one_of_its_module() -> None:
    """What `preprocess_input` does to one colour tells the mode."""
    colour = np.array([[[[10.0, 100.0, 200.0]]]], np.float32)
    for name, app in APPLICATIONS.items():
        if name.startswith(("efficientnet", "convnext", "mobilenet_v3")):
            assert app.mode == "none"
            continue
        module = __import__(app.make.__module__, fromlist=["preprocess_input"])
        ours = images.preprocess(app, app.size)
        assert isinstance(ours, ImagePreprocess)
        ordered = colour if ours.channels == "RGB" else colour[..., ::-1]
        found = (ordered * ours.scale - ours.mean) / ours.std
        np.testing.assert_allclose(found, module.preprocess_input(colour.copy()), atol=1e-4, err_msg=name)


# --- sizes
@pytest.mark.parametrize(("name", "least"), [("inception_v3", 75), ("xception", 71), ("nasnet_mobile", 32)])
def test_sizes_below_the_networks_least_are_refused(name: str, least: int) -> None:
    with pytest.raises(
        InputError, match=f"size={least - 1}: this network takes {least} pixels a side or more"
    ):
        tf_models.load(name, weights="none", size=least - 1)


def test_vggs_dense_layers_go_with_one_size(tmp_path: Path) -> None:
    path = tmp_path / "vgg.h5"
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [b"predictions"]
        group = file.create_group("predictions")
        group.attrs["weight_names"] = [b"kernel", b"bias"]
        group["kernel"], group["bias"] = np.zeros((4096, 9)), np.zeros(9)
    with pytest.raises(InputError, match=r"takes 224 pixels a side alone.*@imagenet_no_top"):
        tf_models.load("vgg16", weights=str(path), size=96)


# --- EfficientNet's scaling
def tiny_efficientnet(classes: int | None) -> keras.Model:
    top = {"include_top": False} if classes is None else {"classes": classes}
    return EfficientNet(0.1, 0.1, 32, input_shape=(32, 32, 3), weights=None, name="tiny", **top)


def test_efficientnets_published_weights_are_scaled_as_keras_scales_them(tmp_path: Path) -> None:
    """Their variance is a standard deviation; only Keras's own loading puts the missing factor behind it."""
    native, path = tiny_efficientnet(5), tmp_path / "published.h5"
    mean, std = (np.array(images.MODES["torch"][key], np.float32) for key in ("mean", "std"))
    native.get_layer(index=2).adapt_mean.assign(mean)
    native.get_layer(index=2).adapt_variance.assign(std)
    native.save(str(path))
    app = images.Application(
        tiny_efficientnet, 32, "none", APPLICATIONS["efficientnet_b0"].ends, (), scaled_twice=True
    )
    colour = np.full((1, 32, 32, 3), 200.0, np.float32)
    for official_file in (True, False):
        model, _ = load_into(path, tiny_efficientnet, classes=5)
        images.settle_scaling(app, model, official=official_file)
        layer = next(found for found in model.layers if isinstance(found, keras.layers.Normalization))
        scaled = keras.Model(model.inputs, layer.output)(colour).numpy()[0, 0, 0]
        np.testing.assert_allclose(scaled, (200 / 255 - mean) / std, rtol=1e-5)
    engine, fresh = (
        KerasEngine(images.network("tiny", app, m, size=32)) for m in (model, tiny_efficientnet(5))
    )
    batch = {"images": photographs()}
    before = fresh.features(batch)  # traced with the old constants
    fresh.load_state(engine.state())
    np.testing.assert_array_equal(fresh.features(batch), engine.features(batch))
    assert error(before, engine.features(batch)) > 0.01
    own = tiny_efficientnet(5)  # somebody's, trained without those weights: left alone
    images.settle_scaling(app, own, official=False)
    assert (own.get_layer(index=2).adapt_variance.numpy() == 1).all()


# --- incomplete files
def save_without(path: Path, layer: str) -> keras.Model:
    """`narrow_model`'s weights less one layer's."""
    native = tf_models.narrow_model(5)
    native.save_weights(str(path)) if path.name.endswith(".weights.h5") else native.save(str(path))
    with h5py.File(path, "a") as file:
        if path.name.endswith(".weights.h5"):
            order = [found for found in native.layers if type(found).__name__ == "Conv2D"]
            number = order.index(native.get_layer(layer))
            del file["layers"][f"conv2d_{number}" if number else "conv2d"]
        else:
            group = file["model_weights"]
            group.attrs["layer_names"] = [
                n for n in group.attrs["layer_names"] if n != layer.encode() and n != layer
            ]
            del group[layer]
    return native


@pytest.mark.parametrize("name", ["a.weights.h5", "a.h5"])
def test_a_file_that_lacks_a_layer_is_listed_and_partial_goes_on(name: str, tmp_path: Path) -> None:
    native, lacking = save_without(tmp_path / name, "block_3_expand"), "block_3_expand/kernel"
    with pytest.raises(WeightsCorruptError, match=f"lacks 1 of .*: {lacking}.*--partial"):
        load_into(tmp_path / name, tf_models.narrow_model, classes=5)
    with pytest.warns(UserWarning, match=f"stay random: {lacking}"):
        model, top = load_into(
            tmp_path / name, functools.partial(tf_models.narrow_model, seed=3), classes=5, partial=True
        )
    values = {v.path: (v.numpy(), w.numpy()) for v, w in zip(model.weights, native.weights, strict=True)}
    different = [path for path, (ours, theirs) in values.items() if (ours != theirs).any()]
    assert top and different == [lacking]


def test_partial_does_not_excuse_another_network(tmp_path: Path) -> None:
    path = tmp_path / "other.h5"
    keras.applications.MobileNet(weights=None, input_shape=(32, 32, 3), alpha=0.25, classes=5).save(str(path))
    with warnings.catch_warnings(), pytest.raises(WeightsCorruptError, match="another network: its layer"):
        warnings.simplefilter("error")
        load_into(path, tf_models.narrow_model, classes=5, partial=True)


def test_a_mirrored_file_is_held_against_keras_md5(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.h5").write_bytes(b"zoo")
    monkeypatch.setenv("ZOO_MIRROR", str(tmp_path))
    digest = hashlib.md5(b"zoo", usedforsecurity=False).hexdigest()
    assert official([WeightsCard("imagenet", "a.h5", md5=digest)]) == (tmp_path / "a.h5", False)
    with pytest.raises(WeightsCorruptError, match=r"not the official a\.h5: its MD5"):
        official([WeightsCard("imagenet", "a.h5", md5="0" * 32)])


def test_seeds_make_the_same_random_network() -> None:
    first, again = (tf_models.load(V3, weights="none", size=32, seed=1).state() for _ in range(2))
    assert not changed(first, again)
