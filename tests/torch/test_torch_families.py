"""torchvision's families, each in its smallest member: the native numbers, depths, sizes, training, ONNX."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
import torchvision
from torch import Tensor
from torch_models import small
from torchvision.models.vision_transformer import interpolate_embeddings

from zoo.cards import ImagePreprocess, Recipe
from zoo.engine import LoadRequest
from zoo.errors import InputError, WeightsCorruptError
from zoo.graph import cut_depth, export_engine
from zoo_torch import vision
from zoo_torch.adapter import ADAPTER
from zoo_torch.anatomy import Owners
from zoo_torch.cutting import pooled, shorten, staged
from zoo_torch.engine import TorchEngine
from zoo_torch.families import FAMILIES, family_of
from zoo_torch.layout import arrange, image_tensor

# The smallest member of each family, and an input of few pixels that it takes.
SMALLEST = {
    "convnext_tiny": 32,
    "densenet121": 32,
    "efficientnet_b0": 32,
    "googlenet": 32,
    "mnasnet0_5": 32,
    "mobilenet_v2": 32,
    "mobilenet_v3_small": 32,
    "regnet_y_400mf": 32,
    "resnet18": 32,
    "shufflenet_v2_x0_5": 32,
    "squeezenet1_1": 64,
    "swin_t": 32,
    "swin_v2_t": 32,
}
RECIPE = Recipe(optimizer="sgd", lr=0.01)


def load(name: str, weights: object = "none", **options: Any) -> TorchEngine:
    return ADAPTER.load(LoadRequest(name, weights=str(weights), **options))


def images(size: int, n: int = 2) -> dict[str, Any]:
    return {"images": np.random.default_rng(n).standard_normal((n, 3, size, size), dtype=np.float32)}


def native(engine: TorchEngine, name: str, size: int, **options: Any) -> Tensor:
    """torchvision's own logits with the engine's weights, in its layout in memory, which decides the last bits."""
    module = torchvision.models.get_model(name, weights=None, **options)
    module.load_state_dict(engine.module.state_dict())
    with torch.no_grad():
        logits: Tensor = arrange(module, engine.layout).eval()(
            image_tensor(images(size)["images"], engine.layout)
        )
    return logits


def step(engine: TorchEngine, size: int, n: int = 2) -> float:
    engine.start_training(RECIPE)
    targets = np.eye(engine.num_classes or 0, dtype=np.float32)[:n]
    return float(
        engine.train_step(images(size, n), targets, lr=dict.fromkeys((*engine.trainable, "head"), 0.01))
    )


# --- every family
def test_every_classifier_of_torchvision_has_a_family() -> None:
    names = torchvision.models.list_models(module=torchvision.models)
    assert [name for name in names if family_of(name) is None] == [] and len(names) >= 80


@pytest.mark.parametrize(("name", "size"), SMALLEST.items())
def test_one_pass_gives_what_each_cut_network_gives(name: str, size: int) -> None:
    """The native logits; features at every stage; what follows a stage is gone; a frozen step moves the head."""
    engine, batch = load(name, size=size), images(size)
    assert engine.labels is None and engine.num_classes == 1000
    options = {"transform_input": True, "aux_logits": False, "init_weights": False}
    want = native(engine, name, size, **(options if name == "googlenet" else {})).numpy()
    assert np.array_equal(engine.logits(batch), want)
    with torch.no_grad():
        tensors = {"images": image_tensor(batch["images"], engine.layout)}
        every = engine._anatomy.cut(engine.module, tensors, engine.depths)  # type: ignore[misc]
    assert np.array_equal(every[-1].numpy(), engine.features(batch))
    depth = engine.depths[len(engine.depths) // 2 - 1]
    cut = load(name, size=size, depth=depth, num_classes=3)
    assert np.array_equal(cut.features(batch), every[depth - 1].numpy())
    assert cut.depths == engine.depths[:depth] and cut.feature_dim == every[depth - 1].shape[1]
    assert cut.feature_dim > size, "the mean was not over the positions"
    before, whole = cut.state(), engine.state()
    assert all(np.array_equal(before[key], whole[key]) for key in before if not key.startswith("head"))
    assert sum(v.size for v in before.values()) < 0.7 * sum(v.size for v in whole.values())
    assert set(cut.block_of().values()) == {*cut.blocks, "head"}
    cut.set_trainable(())
    step(cut, size)
    assert {key for key, value in cut.state().items() if not np.array_equal(value, before[key])} == {
        "head.weight",
        "head.bias",
    }


@pytest.mark.parametrize("name", ["googlenet", "mobilenet_v3_small", "shufflenet_v2_x0_5"])
def test_a_cut_network_exports_and_comes_back(name: str, tmp_path: Path) -> None:
    engine = load(name, size=32, depth=2, num_classes=3)
    batch, path = images(32), tmp_path / "model.onnx"
    engine.export_onnx(path, opset=18, depths=engine.depths)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    got = dict(zip([o.name for o in session.get_outputs()], session.run(None, batch), strict=True))
    assert list(got) == ["features_1", "features_2"]
    features = engine.features(batch)
    assert np.abs(got["features_2"] - features).max() <= 1e-4 * np.abs(features).max()
    again = ADAPTER.rebuild(engine.architecture() or {}, engine.preprocess)
    again.load_state(engine.state())
    assert np.array_equal(again.logits(batch), engine.logits(batch)) and again.blocks == engine.blocks


@pytest.mark.parametrize("name", ["squeezenet1_1", "resnet18", "densenet121"])
def test_one_file_of_every_depth_has_each_ones_width(name: str, tmp_path: Path) -> None:
    """What `,depth=all` is made of: stages have fewer features than the whole, and every cut is a file of its own."""
    engine = load(name, size=32, num_classes=3)
    batch = images(32)
    whole = export_engine(
        engine, tmp_path / "all.onnx", model_id=f"torch:{name}@none", versions={}, depths=engine.depths
    )
    with torch.inference_mode():
        tensors = {key: torch.from_numpy(value) for key, value in batch.items()}
        every = engine._anatomy.cut(engine.module, tensors, engine.depths)  # type: ignore[misc]
    widths = [int(values.shape[1]) for values in every]
    assert len(set(widths)) > 1
    for depth, native in zip(engine.depths, every, strict=True):
        cut = cut_depth(whole, depth, tmp_path / f"{depth}.onnx")
        assert cut.feature_dim == native.shape[1]
        session = onnxruntime.InferenceSession(str(cut.path), providers=["CPUExecutionProvider"])
        (features,) = session.run(["features"], batch)
        assert np.abs(features - native.numpy()).max() <= 1e-4 * float(native.abs().max())


def test_blocks_are_stem_units_and_tail() -> None:
    """What stands between two units goes with the later one; every key is in one block."""
    assert load("squeezenet1_1").blocks[:2] == ("stem", "fire2")
    module, family = small("densenet")
    blocks = family.read(module).blocks
    assert list(blocks) == ["stem", *(f"features.denseblock{i}" for i in range(1, 5)), "tail"]
    assert blocks["features.denseblock2"] == ("features.transition1", "features.denseblock2")
    with torch.device("meta"):
        for name in ("vgg11_bn", "alexnet", "maxvit_t", "vit_b_32", "inception_v3"):
            module, anatomy = vision.build(name, 7)
            owners = Owners(anatomy, anatomy.head)
            assert {owners.of(key) for key in module.state_dict()} == {*anatomy.blocks, "head"}
    with torch.device("meta"):
        blocks = vision.build("vgg11_bn", 7)[1].blocks
    assert blocks["conv1"] == ("features.0", "features.1") and blocks["tail"] == (
        "classifier.0",
        "classifier.3",
    )
    assert "stem" not in blocks and len(blocks) == 9


# --- what each family has of its own
def test_inceptions_auxiliary_classifier_is_left_out(tmp_path: Path) -> None:
    """Official files hold it; ours has no such parameters, and training gives logits, not a tuple of them."""
    theirs = torchvision.models.inception_v3(weights=None, init_weights=False, transform_input=True).eval()
    with torch.no_grad():
        want = theirs(torch.from_numpy(images(80)["images"])).numpy()
    torch.save(theirs.state_dict(), tmp_path / "inception.pth")
    engine = load("inception_v3", tmp_path / "inception.pth", size=80)
    assert np.array_equal(engine.logits(images(80)), want) and engine.labels is not None
    assert not [key for key in engine.state() if key.startswith("AuxLogits")]
    assert load("inception_v3", tmp_path / "inception.pth").preprocess.height == 299  # type: ignore[union-attr]
    assert step(engine, 80) > 0
    with pytest.raises(InputError, match="at least 75 pixels"):
        load("inception_v3", size=74)


def test_vgg_keeps_its_first_linears_and_pools_any_size(tmp_path: Path) -> None:
    """Features are the last Linear's input; a map of 3x3 becomes 7x7 in ONNX too, which torch cannot export."""
    module, family = small("vgg")
    engine, batch = TorchEngine(module, family.read(module), preprocess=ImagePreprocess(12, 12)), images(12)
    assert engine.feature_dim == 16 and engine.blocks == ("conv1", "conv2", "tail")
    assert engine.depths == (1, 2, 3)
    with torch.no_grad():
        maps = module.avgpool(module.features(torch.from_numpy(batch["images"])))
        own = module.classifier[:6](torch.flatten(maps, 1)).numpy()
    assert np.allclose(engine.features(batch), own, atol=1e-6)
    assert engine.export_onnx(tmp_path / "vgg.onnx", opset=18) == "torchscript"
    session = onnxruntime.InferenceSession(str(tmp_path / "vgg.onnx"), providers=["CPUExecutionProvider"])
    assert np.abs(session.run(None, batch)[0] - own).max() <= 1e-4 * np.abs(own).max()
    assert "forward" not in vars(module.avgpool), "the export left its pooling behind"


def test_vggs_file_without_a_classifier_ends_at_its_convolutions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layers = torchvision.models.vgg16(weights=None, init_weights=False).features
    state = {f"features.{key}": value for key, value in layers.state_dict().items()}
    state["classifier.0.bias"] = torch.full((4096,), torch.nan)  # as the official file has it
    path = tmp_path / "features.pth"
    torch.save(state, path)
    monkeypatch.setattr(vision, "official", lambda url: path)
    engine = load("vgg16", "IMAGENET1K_FEATURES", size=32)
    assert engine.feature_dim == 512 and engine.num_classes is None and engine.depths == (1, 2, 3, 4, 5)
    assert np.isfinite(engine.features(images(32))).all()
    assert not any(key.startswith("classifier") for key in engine.state())
    with pytest.raises(InputError, match="all that these weights hold"):
        load("vgg16", "IMAGENET1K_FEATURES", size=32, depth=6)


def test_vit_takes_whole_patches_and_interpolates_its_positions() -> None:
    """As torchvision's own interpolate_embeddings; the same random network at every size."""
    usual, smaller = load("vit_b_32", seed=2), load("vit_b_32", seed=2, size=96, depth=1)
    want = interpolate_embeddings(96, 32, dict(usual.module.state_dict()))  # type: ignore[arg-type]
    assert all(np.array_equal(value, want[key].numpy()) for key, value in smaller.state().items())
    assert smaller.blocks == (*usual.blocks[:2], "tail") and smaller.num_classes is None
    entry = torchvision.models.ViT_B_32_Weights.DEFAULT
    found = vision._size(
        LoadRequest("vit_b_32"), FAMILIES["vit"], entry, {vision.POSITIONS: torch.zeros(1, 10, 1)}
    )
    assert found == 96, "a file's own positions tell its size"
    with pytest.raises(InputError, match="multiples of 32 pixels"):
        load("vit_b_32", size=100)
    with pytest.raises(InputError, match="multiples of 224 pixels"):
        load("maxvit_t", size=256)
    with pytest.raises(InputError, match="at least 224 pixels"):
        load("maxvit_t", size=64)
    with pytest.raises(WeightsCorruptError, match="no square of patches"):
        vision.at_size({vision.POSITIONS: torch.zeros(1, 12, 8)}, usual.module, 96)


def test_a_layered_network_at_every_depth(tmp_path: Path) -> None:
    """The first k layers and the norm: what the network computes with num_layers=k; fused attention exports."""
    module, family = small("vit")
    anatomy = family.read(module)
    engine = TorchEngine(module, anatomy, preprocess=ImagePreprocess(32, 32))
    batch, path = images(32), tmp_path / "vit.onnx"
    assert engine.export_onnx(path, opset=18, depths=(1, 2, 3)) == "torchscript"
    got = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, batch)
    for depth in (3, 2, 1):
        shorter = torchvision.models.VisionTransformer(32, 8, depth, 2, 16, 32, num_classes=4).eval()
        shorter.load_state_dict({k: v for k, v in module.state_dict().items() if k in shorter.state_dict()})
        want = TorchEngine(shorter, family.read(shorter), preprocess=ImagePreprocess(32, 32)).features(batch)
        assert np.allclose(got[depth - 1], want, atol=1e-5)
        cut = shorten(module, anatomy, depth, {"images": torch.zeros(1, 3, 32, 32)})
        assert cut.depths == tuple(range(1, depth + 1))
        assert np.allclose(TorchEngine(module, cut, preprocess=ImagePreprocess(32, 32)).features(batch), want)


def test_maxvits_head_gets_a_bias() -> None:
    """Its own has none: saved and rebuilt it is one architecture."""
    with torch.device("meta"):
        module, _ = vision.build("maxvit_t", 5)
    assert module.classifier[5].bias is None
    engine = load("maxvit_t")
    assert engine.state()["head.bias"].shape == (1000,)
    assert (
        ADAPTER.rebuild(engine.architecture() or {}, engine.preprocess).state().keys()
        == engine.state().keys()
    )


def test_old_names_in_official_files() -> None:
    """DenseNet's and ViT's files were written before their layers got today's names."""
    module, family = small("densenet")
    pattern = r"(denselayer\d+\.(?:norm|conv))([12]\.)"
    old = {re.sub(pattern, r"\1.\2", key): value for key, value in module.state_dict().items()}
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    assert vision._own_part(old, family).keys() == module.state_dict().keys()
    now = vision._own_part(
        {"encoder.layers.encoder_layer_0.mlp.linear_2.bias": torch.zeros(1)}, FAMILIES["vit"]
    )
    assert list(now) == ["encoder.layers.encoder_layer_0.mlp.3.bias"]


def test_one_image_on_a_map_of_one_pixel_trains() -> None:
    """The last batch of an epoch may be one image: no variance there, so the running statistics stand in."""
    engine = load("mobilenet_v2", size=32, num_classes=2)
    before = engine.state()
    assert np.isfinite(step(engine, 32, n=1))
    after, lone = engine.state(), "features.18.1"
    assert np.array_equal(after[f"{lone}.running_mean"], before[f"{lone}.running_mean"])
    assert not np.array_equal(after[f"{lone}.weight"], before[f"{lone}.weight"])
    assert not np.array_equal(after["features.0.1.running_mean"], before["features.0.1.running_mean"])
    assert not any(part._forward_pre_hooks for part in engine.module.modules())


# --- cutting itself
def test_what_a_stage_hands_on_is_averaged_over_its_positions() -> None:
    maps = torch.arange(24.0).reshape(1, 2, 3, 4)
    assert torch.equal(pooled(maps, False), maps.mean(dim=(2, 3)))
    assert torch.equal(pooled((maps.permute(0, 2, 3, 1), None), True), maps.mean(dim=(2, 3)))
    assert torch.equal(pooled(maps[0], False), maps[0].mean(dim=1))


def test_a_cut_keeps_weights_that_are_read_without_a_call() -> None:
    """nn.MultiheadAttention reads its out_proj's weights and never calls it."""
    module, _ = small("vit")
    stage = "encoder.layers.encoder_layer_1"
    cut = shorten(
        module, staged(FAMILIES["vit"].read(module), [stage]), 1, {"images": torch.zeros(1, 3, 32, 32)}
    )
    keys = module.state_dict()
    assert f"{stage}.self_attention.out_proj.weight" in keys and cut.feature_dim == 16
    assert not [k for k in keys if k.startswith(("encoder.layers.encoder_layer_2", "encoder.ln", "heads"))]
    assert TorchEngine(module, cut, preprocess=ImagePreprocess(32, 32)).features(images(32)).shape == (2, 16)


# --- incomplete files
def test_an_incomplete_file_is_refused_and_partial_goes_on(tmp_path: Path) -> None:
    whole = vision.build("squeezenet1_1", 1000, seed=5)[0].state_dict()
    lost = [key for key in whole if key.startswith("features.12")]
    torch.save({k: v for k, v in whole.items() if k not in lost}, tmp_path / "part.pth")
    said = r"incomplete: 6 of 52 keys are missing: features\.12\.squeeze\.weight, .*--partial"
    with pytest.raises(WeightsCorruptError, match=said):
        load("squeezenet1_1", tmp_path / "part.pth")
    with pytest.warns(
        UserWarning, match=r"lack 6 of 52 keys, which stay random: features\.12\.squeeze\.weight"
    ):
        engine = load("squeezenet1_1", tmp_path / "part.pth", partial=True, seed=7)
    drawn, state = load("squeezenet1_1", seed=7).state(), engine.state()
    for key in whole:
        assert np.array_equal(state[key], drawn[key] if key in lost else whole[key].numpy()), key
    torch.save(
        {**{f"theirs.{i}": torch.zeros(1) for i in range(60)}, "features.0.bias": whole["features.0.bias"]},
        tmp_path / "foreign.pth",
    )
    with pytest.raises(WeightsCorruptError, match="another network"):
        load("squeezenet1_1", tmp_path / "foreign.pth", partial=True)
    torch.save({"features.0.weight": torch.zeros(1, 3, 3, 3)}, tmp_path / "shape.pth")
    with pytest.raises(WeightsCorruptError, match=r"of another shape: features\.0\.weight"):
        load("squeezenet1_1", tmp_path / "shape.pth", partial=True)
