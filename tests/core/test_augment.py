"""Augmented pixels depend on (seed, epoch, index) alone; what is drawn stays within what the policy says."""

from __future__ import annotations

import dataclasses
import hashlib
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from zoo.cards import ImagePreprocess, TextPreprocess
from zoo.data import augment as augment_module
from zoo.data import augmentation, batches, prepare
from zoo.data.augment import POLICIES, Augmentation, Policy, mean_colour, sheet, trivial_augment
from zoo.data.images import load_rgb, pixels
from zoo.errors import InputError

SMALL = ImagePreprocess(24, 24, resize_to=(28, 28), mean=(0.5, 0.4, 0.3), std=(0.2, 0.2, 0.2))
WIDE = dataclasses.replace(SMALL, height=16, width=32)
NAMES = ("light", "strong")


def photographs(count: int = 12) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    sizes = [(40, 60), (70, 33), (24, 24)]
    return [rng.integers(0, 256, (*sizes[i % 3], 3)).astype(np.uint8) for i in range(count)]


def epoch_of(
    name: str,
    *,
    seed: int = 3,
    epoch: int = 0,
    order: Sequence[int] = tuple(range(12)),
    batch_size: int = 5,
    threads: int = 0,
) -> np.ndarray:
    """Images float32 [12, 3, H, W], put back in the data's own order."""
    changed = augmentation(name, SMALL, seed=seed, epoch=epoch)  # type: ignore[arg-type]
    out = np.empty((12, 3, 24, 24), np.float32)
    stream = batches(
        photographs(), SMALL, batch_size=batch_size, order=order, augmentation=changed, threads=threads
    )
    for index, batch in stream:
        out[index] = batch["images"]
    return out


# --- a function of (seed, epoch, index) alone
@pytest.mark.parametrize("name", NAMES)
def test_threads_order_and_batch_size_change_nothing(name: str) -> None:
    expected = epoch_of(name)
    for options in (
        {"threads": 1},
        {"threads": 4},
        {"order": range(11, -1, -1), "threads": 4},
        {"batch_size": 12},
        {"batch_size": 1},
    ):
        assert np.array_equal(epoch_of(name, **options), expected), options  # type: ignore[arg-type]


@pytest.mark.parametrize("name", NAMES)
def test_a_resumed_epoch_goes_on_with_the_same_pixels(name: str) -> None:
    changed = augmentation(name, SMALL, seed=3, epoch=2)  # type: ignore[arg-type]
    rest = batches(photographs(), SMALL, batch_size=4, order=range(8, 12), augmentation=changed)
    assert np.array_equal(next(iter(rest))[1]["images"], epoch_of(name, epoch=2)[8:])


@pytest.mark.parametrize("name", NAMES)
def test_another_seed_epoch_or_index_gives_other_pixels(name: str) -> None:
    first = epoch_of(name)
    for other in (epoch_of(name, epoch=1), epoch_of(name, seed=4)):
        assert all(not np.array_equal(a, b) for a, b in zip(first, other, strict=True))
    changed = augmentation(name, SMALL, seed=3)  # type: ignore[arg-type]
    (_, same), *_ = batches([photographs(1)[0]] * 12, SMALL, batch_size=12, augmentation=changed)
    assert len({image.tobytes() for image in same["images"]}) == 12


def test_another_process_gives_the_same_pixels() -> None:
    code = (
        "import sys; sys.path.insert(0, 'tests/core'); import hashlib, test_augment as t; "
        "print(hashlib.sha256(t.epoch_of('strong', threads=2).tobytes()).hexdigest())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == hashlib.sha256(epoch_of("strong").tobytes()).hexdigest()


def test_the_global_generators_are_left_alone() -> None:
    np.random.seed(1)
    expected = np.random.get_state()[1].copy()  # type: ignore[union-attr,index]
    epoch_of("strong")
    assert np.array_equal(np.random.get_state()[1], expected)  # type: ignore[index]


# --- what comes out
def test_none_is_the_preprocess_bit_for_bit() -> None:
    assert augmentation("none", SMALL, seed=3) is None
    assert np.array_equal(epoch_of("none"), prepare(photographs(), SMALL)["images"])


@pytest.mark.parametrize("channels", ["RGB", "BGR"])
def test_the_networks_size_scale_and_channels_are_kept(channels: str) -> None:
    preprocess = dataclasses.replace(WIDE, channels=channels)
    flat = np.empty((50, 50, 3), np.uint8)
    flat[:] = (10, 120, 240)
    changed = augmentation("light", preprocess, seed=0)
    (_, batch), *_ = batches([flat], preprocess, batch_size=1, augmentation=changed)
    assert batch["images"].shape == (1, 3, 16, 32)
    expected = prepare([flat], preprocess)["images"][0, :, 8, 16]
    assert (batch["images"][0] == expected[:, None, None]).all()


@pytest.mark.parametrize("name", NAMES)
def test_values_stay_in_the_range_of_pixels(name: str) -> None:
    images = np.concatenate([epoch_of(name, epoch=epoch) for epoch in range(20)])
    scale = 0.2 * np.ones((3, 1, 1)), np.reshape((0.5, 0.4, 0.3), (3, 1, 1))
    levels = (images * scale[0] + scale[1]) * 255
    assert levels.min() > -0.01 and levels.max() < 255.01
    assert np.abs(levels - levels.round()).max() < 0.01


def ramp(height: int, width: int) -> np.ndarray:
    """Red tells the column, green the row: where a pixel came from can be read from its colour."""
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0], image[..., 1] = np.arange(width)[None, :], np.arange(height)[:, None]
    return image


@pytest.mark.parametrize("preprocess", [SMALL, WIDE], ids=["square", "wide"])
def test_crops_have_the_area_and_shape_that_the_policy_says(preprocess: ImagePreprocess) -> None:
    policy, photo = Policy(flip=0), Image.fromarray(ramp(200, 250))
    areas, ratios = [], []
    near = dataclasses.replace(preprocess, interpolation="nearest")
    for index in range(400):
        made = np.asarray(Augmentation(policy, 0).apply(photo, index, near)).astype(float)
        wide, high = np.ptp(made[..., 0]), np.ptp(made[..., 1])
        areas.append(wide * high / (200 * 250))
        ratios.append(wide / high / (preprocess.width / preprocess.height))
    assert 0.05 < min(areas) < 0.15 and 0.7 < max(areas) <= 1
    assert 0.70 < min(ratios) < 0.8 and 1.2 < max(ratios) < 1.42


def test_half_of_them_are_mirrored() -> None:
    photo = Image.fromarray(ramp(100, 100))
    policy = Policy(crop_scale=(1.0, 1.0), crop_ratio=(1.0, 1.0))
    made = [np.asarray(Augmentation(policy, 0).apply(photo, i, SMALL)).astype(int) for i in range(200)]
    mirrored = sum(image[0, 0, 0] > image[0, -1, 0] for image in made)
    assert 70 < mirrored < 130


@pytest.mark.parametrize("shape", [(24, 24), (8, 64), (64, 8)])
@pytest.mark.parametrize("size", [(1, 1), (1, 200), (200, 1), (3, 2)])
def test_tiny_and_thin_photographs(size: tuple[int, int], shape: tuple[int, int]) -> None:
    flat, preprocess = np.full((*size, 3), 200, np.uint8), ImagePreprocess(*shape)
    for seed in range(8):
        changed = augmentation("light", preprocess, seed=seed)
        (_, batch), *_ = batches([flat], preprocess, batch_size=1, augmentation=changed)
        np.testing.assert_allclose(batch["images"], 200 / 255, atol=1e-6)
        assert batch["images"].shape == (1, 3, *shape)


def test_large_jpegs_are_decoded_at_a_fraction_and_look_the_same(tmp_path: Path) -> None:
    coarse = Image.fromarray(np.random.default_rng(0).integers(0, 256, (6, 8, 3)).astype(np.uint8))
    path, preprocess = tmp_path / "large.jpg", ImagePreprocess(64, 64)
    coarse.resize((2400, 1800), Image.Resampling.BICUBIC).save(path, quality=95)
    changed = augmentation("light", preprocess, seed=0)
    assert changed is not None
    small = changed.load(path, preprocess)
    assert small.size == (600, 450), "a quarter; an eighth would not do for the smallest crop"
    assert changed.load(np.asarray(small), preprocess).size == small.size
    whole = load_rgb(path)
    assert whole.size == (2400, 1800), "never without augmentation: predictions promise the exact pixels"
    for index in range(20):
        made, exact = (np.asarray(changed.apply(photo, index, preprocess)) for photo in (small, whole))
        assert np.abs(made.astype(int) - exact).mean() < 1


@pytest.mark.parametrize("aspect", [(64, 64), (32, 96), (96, 32)])
def test_the_smallest_crop_of_a_reduced_jpeg_has_the_networks_resolution(aspect: tuple[int, int]) -> None:
    preprocess = ImagePreprocess(*aspect)
    changed = Augmentation(Policy(), 0)
    least = changed.least_side(preprocess)
    boxes = [
        augment_module._crop_box(
            np.random.default_rng(i), (least, least), changed.policy, aspect[1] / aspect[0]
        )
        for i in range(3000)
    ]
    assert min(right - left for left, _, right, _ in boxes) >= aspect[1] - 1
    assert min(bottom - top for _, top, _, bottom in boxes) >= aspect[0] - 1


def test_the_photograph_itself_is_not_changed() -> None:
    photo = Image.fromarray(photographs(3)[2])  # already of the network's size
    before = photo.tobytes()
    for index in range(100):
        Augmentation(dataclasses.replace(POLICIES["strong"], erase=1.0), 0).apply(photo, index, SMALL)
    assert photo.tobytes() == before


# --- the operations
@pytest.mark.parametrize("operation", range(1, len(augment_module._OPERATIONS)))
def test_every_operation_does_something_and_keeps_size_and_mode(operation: int) -> None:
    photo = Image.fromarray(photographs(1)[0] // 2 + 40)
    for sign in (-1, 1):
        made = augment_module._OPERATIONS[operation](photo, 1.0, sign)
        assert (made.size, made.mode) == (photo.size, "RGB")
        assert made.tobytes() != photo.tobytes()


def test_operations_that_do_nothing_at_strength_0() -> None:
    photo = Image.fromarray(photographs(1)[0])
    for operation in range(11):
        assert augment_module._OPERATIONS[operation](photo, 0.0, 1).tobytes() == photo.tobytes(), operation


def test_every_operation_is_drawn_at_every_strength() -> None:
    photo, rng = Image.fromarray(photographs(1)[0]), np.random.default_rng(0)
    drawn = {trivial_augment(photo, rng).tobytes() for _ in range(4000)}
    for number, operation in enumerate(augment_module._OPERATIONS):
        made = {operation(photo, step / 30, sign).tobytes() for step in range(31) for sign in (-1, 1)}
        assert len(made & drawn) > 0.85 * len(made), number


def test_what_is_erased_is_0_for_the_network() -> None:
    policy = Policy(crop_scale=(1.0, 1.0), crop_ratio=(1.0, 1.0), flip=0, erase=1.0)
    white = np.full((48, 48, 3), 255, np.uint8)
    stream = batches([white] * 50, SMALL, batch_size=50, augmentation=Augmentation(policy, 0))
    images = next(iter(stream))[1]["images"]
    erased = images.max(axis=1) < 0.5
    shares = erased.mean(axis=(1, 2))
    assert ((shares > 0.01) & (shares < 0.36)).all()
    assert np.abs(images.transpose(0, 2, 3, 1)[erased]).max() <= 0.5 / 255 / 0.2 + 1e-5


def test_the_mean_colour_of_caffes_preprocess() -> None:
    caffe = ImagePreprocess(8, 8, scale=1.0, mean=(103.9, 116.8, 123.7), channels="BGR")
    assert mean_colour(caffe) == (124, 117, 104)
    assert mean_colour(ImagePreprocess(8, 8)) == (0, 0, 0)


# --- refused
def test_texts_and_unknown_names_are_refused() -> None:
    with pytest.raises(InputError, match="reads texts"):
        augmentation("light", TextPreprocess(), seed=0)
    with pytest.raises(InputError, match="reads texts"):
        batches(["a"], TextPreprocess(), batch_size=1, augmentation=Augmentation(Policy(), 0))
    with pytest.raises(InputError, match="none, light or strong"):
        augmentation("heavy", SMALL, seed=0)  # type: ignore[arg-type]
    assert augmentation("none", TextPreprocess(), seed=0) is None


# --- the sheet
def test_the_sheet_shows_what_training_sees() -> None:
    photo = photographs(2)
    picture = np.asarray(sheet(photo, SMALL, "strong", seed=3, epochs=2, gap=4))
    assert picture.shape == (2 * 28 - 4, 3 * 28 - 4, 3)
    assert np.array_equal(picture[28:, :24], pixels(photo[1], SMALL))
    changed = augmentation("strong", SMALL, seed=3, epoch=1)
    assert changed is not None
    seen = changed.apply(Image.fromarray(photo[1]), 1, SMALL)
    assert np.array_equal(picture[28:, 56:80], np.asarray(seen))
