"""Photographs of every awkward kind become the right pixels: made on the fly with Pillow, checked by colour."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from zoo.cards import ImagePreprocess
from zoo.data import prepare
from zoo.data.images import MAX_PIXELS, file_problem, load_rgb, pixels, resized_size
from zoo.errors import BadFilesError, DataError, InputError

SMALL = ImagePreprocess(8, 8, resize_to=(8, 8))


def gradient(width: int = 40, height: int = 30) -> Image.Image:
    """A photograph with a direction: red grows to the right, green downwards."""
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([x, y, np.full_like(x, 90)], axis=2).astype(np.uint8))


def saved(image: Image.Image, path: Path, **options: object) -> Path:
    image.save(path, **options)  # type: ignore[arg-type]
    return path


def white_bomb(path: Path, side: int) -> Path:
    """A real 1-bit PNG of side x side pixels, some 100 kB."""
    packer = zlib.compressobj(1)
    row = b"\0" + b"\xff" * ((side + 7) // 8)
    data = b"".join(packer.compress(row * 100) for _ in range(side // 100)) + packer.flush()
    with path.open("wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
        for name, body in ((b"IHDR", header), (b"IDAT", data), (b"IEND", b"")):
            file.write(
                struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
            )
    return path


# --- colour
@pytest.mark.parametrize("name", ["a.png", "a.webp", "a.bmp", "a.tif"])
def test_lossless_formats_keep_every_pixel(tmp_path: Path, name: str) -> None:
    options = {"lossless": True} if name.endswith("webp") else {}
    path = saved(gradient(), tmp_path / name, **options)
    assert file_problem(path) is None
    assert np.array_equal(np.asarray(load_rgb(path)), np.asarray(gradient()))


def test_grey_becomes_three_equal_channels(tmp_path: Path) -> None:
    grey = gradient().convert("L")
    found = np.asarray(load_rgb(saved(grey, tmp_path / "grey.jpg", quality=100))).astype(int)
    assert np.array_equal(found[..., 0], found[..., 1]) and np.array_equal(found[..., 0], found[..., 2])
    assert np.abs(found[..., 0] - np.asarray(grey)).max() <= 4


def test_palette_gives_colours_not_indices(tmp_path: Path) -> None:
    image = Image.new("P", (10, 10), 7)
    image.putpalette([0, 0, 0] * 7 + [200, 30, 60] + [0, 0, 0] * 248)
    path = saved(image, tmp_path / "palette.png", transparency=7)
    assert np.asarray(load_rgb(path))[5, 5].tolist() == [200, 30, 60]


def test_alpha_is_dropped_as_the_frameworks_do(tmp_path: Path) -> None:
    path = saved(Image.new("RGBA", (9, 9), (10, 20, 30, 0)), tmp_path / "clear.png")
    assert np.asarray(load_rgb(path))[0, 0].tolist() == [10, 20, 30]
    grey = saved(Image.new("LA", (9, 9), (77, 10)), tmp_path / "la.png")
    assert np.asarray(load_rgb(grey))[0, 0].tolist() == [77, 77, 77]


@pytest.mark.parametrize("name", ["deep.png", "deep.tif"])
def test_sixteen_bit_grey_is_scaled_not_clipped(tmp_path: Path, name: str) -> None:
    values = np.linspace(0, 65535, 400).astype(np.uint16).reshape(20, 20)
    found = np.asarray(load_rgb(saved(Image.fromarray(values), tmp_path / name)))
    assert np.array_equal(found[..., 1], (values >> 8).astype(np.uint8))


def test_one_bit_image_is_black_and_white(tmp_path: Path) -> None:
    found = np.asarray(load_rgb(saved(Image.new("1", (12, 12), 1), tmp_path / "bit.png")))
    assert found.shape == (12, 12, 3) and (found == 255).all()


def test_cmyk_jpeg_keeps_its_hue(tmp_path: Path) -> None:
    red = Image.new("RGB", (32, 32), (200, 20, 30)).convert("CMYK")
    found = np.asarray(load_rgb(saved(red, tmp_path / "print.jpg", quality=95)))[16, 16].astype(int)
    assert np.abs(found - [200, 20, 30]).max() <= 6


@pytest.mark.parametrize("orientation", [1, 2, 3, 4, 5, 6, 7, 8])
def test_every_exif_rotation_is_applied(tmp_path: Path, orientation: int) -> None:
    # What a viewer shows is `upright`; the camera stored it turned and said so.
    turn = Image.Transpose
    undo = {
        1: None, 2: turn.FLIP_LEFT_RIGHT, 3: turn.ROTATE_180, 4: turn.FLIP_TOP_BOTTOM,
        5: turn.TRANSPOSE, 6: turn.ROTATE_90, 7: turn.TRANSVERSE, 8: turn.ROTATE_270,
    }[orientation]  # fmt: skip
    upright = gradient()
    stored = upright if undo is None else upright.transpose(undo)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(stored, tmp_path / "phone.png", exif=exif)
    assert np.array_equal(np.asarray(load_rgb(path)), np.asarray(upright))
    with Image.open(path) as opened:
        assert np.array_equal(np.asarray(load_rgb(opened)), np.asarray(upright))
        assert opened.size == stored.size, "the caller's own image was turned"


@pytest.mark.parametrize("mode", ["F", "I", "LAB"])
def test_pixels_without_a_known_range_are_refused(tmp_path: Path, mode: str) -> None:
    image = Image.new(mode, (8, 8))
    path = saved(image, tmp_path / "raw.tif")
    reason = file_problem(path)
    assert reason and "convert it to" in reason
    with pytest.raises(BadFilesError, match=r"raw\.tif has .*convert it to"):
        load_rgb(path)
    with pytest.raises(DataError, match="convert it to"):
        load_rgb(image)


# --- files that are no photographs
def bad_file(folder: Path, kind: str) -> Path:
    """One nasty file of each kind."""
    path = folder / f"{kind}.jpg"
    whole = saved(gradient(300, 200), folder / "whole.jpg").read_bytes()
    if kind == "zero":
        path.write_bytes(b"")
    elif kind == "truncated":
        path.write_bytes(whole[: len(whole) * 2 // 3])
    elif kind == "no header":
        path.write_bytes(whole[:200])
    elif kind == "gif":
        gradient().save(path, format="GIF")
    elif kind == "heic":
        path.write_bytes(b"\0\0\0\x18ftypheic" + bytes(40))
    elif kind == "page":
        path.write_text("<!DOCTYPE html><title>404</title>")
    elif kind == "bomb":
        white_bomb(path, 30_000)
    elif kind == "large":
        white_bomb(path, 10_000)
    elif kind == "sliver":
        Image.new("RGB", (2000, 1)).save(path)
    elif kind == "pages":
        gradient().save(path, format="TIFF", save_all=True, append_images=[gradient()])
    elif kind == "moving":
        gradient().save(path, format="WEBP", save_all=True, append_images=[gradient().rotate(90)])
    return path


BAD = {
    "zero": "is empty (0 bytes)",
    "truncated": "is truncated",
    "no header": "",
    "gif": "is a GIF",
    "heic": "is a HEIC file",
    "page": "is no JPEG, PNG, WebP, BMP or TIFF image",
    "bomb": "has 900,000,000 pixels, more than",
    "large": "has 10,000 x 10,000 pixels, more than",
    "sliver": "too narrow",
    "pages": "holds 2 pictures",
    "moving": "holds 2 pictures",
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_file_is_found_by_the_check_and_by_the_decoder(tmp_path: Path, kind: str) -> None:
    path = bad_file(tmp_path, kind)
    reason = file_problem(path)
    assert reason is not None and BAD[kind] in reason
    with pytest.raises(BadFilesError) as caught:
        load_rgb(path)
    assert [name for name, _ in caught.value.files] == [str(path)]
    assert BAD[kind] in str(caught.value) and path.name in str(caught.value)


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.bmp", "a.tif"])
@pytest.mark.parametrize("left", [0.4, 0.9])
def test_truncation_is_found_at_opening_in_every_format(tmp_path: Path, name: str, left: float) -> None:
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 255, (60, 70, 3), dtype=np.uint8))
    whole = saved(noise, tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: int(len(whole) * left)])
    assert file_problem(tmp_path / name) is not None


@pytest.mark.parametrize("tail", [b"\0" * 500, b"\r\n", b"MotionPhoto" + bytes(range(256)) * 40])
def test_bytes_behind_a_whole_jpeg_are_no_truncation(tmp_path: Path, tail: bytes) -> None:
    path = saved(gradient(), tmp_path / "motion.jpg")
    path.write_bytes(path.read_bytes() + tail)
    assert file_problem(path) is None
    assert load_rgb(path).size == (40, 30)


def test_a_jpeg_with_a_preview_behind_it_is_one_photograph(tmp_path: Path) -> None:
    path = tmp_path / "stereo.jpg"
    gradient().save(path, format="MPO", save_all=True, append_images=[gradient().rotate(90)])
    assert file_problem(path) is None


def test_the_check_decodes_no_pixels_of_a_whole_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(gradient(), tmp_path / "a.jpg")
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda self: pytest.fail("decoded"))
    assert file_problem(path) is None


def test_missing_file_says_so(tmp_path: Path) -> None:
    assert "cannot be opened: No such file" in str(file_problem(tmp_path / "gone.jpg"))
    with pytest.raises(BadFilesError, match=r"gone\.jpg cannot be opened: No such file"):
        load_rgb(tmp_path / "gone.jpg")


# --- arrays and PIL images
@pytest.mark.parametrize("shape", [(30, 40), (30, 40, 1), (30, 40, 3), (30, 40, 4)])
def test_uint8_arrays_are_images(shape: tuple[int, ...]) -> None:
    values = np.random.default_rng(1).integers(0, 255, shape, dtype=np.uint8)
    found = np.asarray(load_rgb(values))
    expected = values.reshape(30, 40, -1)
    assert np.array_equal(found, expected[..., :3] if expected.shape[2] >= 3 else expected.repeat(3, axis=2))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.zeros((8, 8, 3), np.float32), "float32.*uint8, 0 to 255.*255"),
        (np.zeros((3, 8, 9), np.uint8), r"shape \(3, 8, 9\).*channels come first"),
        (np.zeros((8, 8, 2), np.uint8), r"shape \(8, 8, 2\)"),
        (np.zeros((1, 500, 3), np.uint8), "too narrow"),
    ],
)
def test_other_arrays_are_refused_with_the_cure(values: np.ndarray, words: str) -> None:
    with pytest.raises(DataError, match=words):
        prepare([values], SMALL)


def test_image_over_the_limit_is_refused_before_it_is_resized() -> None:
    side = int(MAX_PIXELS**0.5) + 1
    with pytest.raises(DataError, match="more than the 89 million"):
        load_rgb(Image.new("1", (side, side)))


# --- resize, crop, normalise
def test_batch_is_float32_nchw_channels_last_in_memory_and_normalised_per_channel() -> None:
    preprocess = ImagePreprocess(8, 8, resize_to=(8, 8), mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 0.2))
    flat = np.broadcast_to(np.array([51, 102, 204], np.uint8), (8, 8, 3))
    images = prepare([flat, flat], preprocess)["images"]
    assert images.shape == (2, 3, 8, 8) and images.dtype == np.float32
    assert images.transpose(0, 2, 3, 1).flags["C_CONTIGUOUS"], "TensorFlow and torch would have to copy"
    np.testing.assert_allclose(images[1, :, 4, 4], [0.2, 0.8, 2.5], atol=1e-6)


def test_bgr_mean_and_std_are_in_the_order_of_the_channels() -> None:
    caffe = ImagePreprocess(8, 8, resize_to=(8, 8), scale=1.0, mean=(1.0, 2.0, 3.0), channels="BGR")
    flat = np.broadcast_to(np.array([10, 20, 30], np.uint8), (8, 8, 3))
    np.testing.assert_allclose(prepare([flat], caffe)["images"][0, :, 0, 0], [29, 18, 7], atol=1e-5)


def test_resize_sizes() -> None:
    shortest = ImagePreprocess(224, 224)
    assert resized_size(500, 375, shortest) == (341, 256)
    assert resized_size(375, 500, shortest) == (256, 341)
    assert resized_size(500, 375, ImagePreprocess(224, 224, resize="exact", resize_to=(100, 90))) == (90, 100)


def test_the_largest_centred_part_is_cropped_before_the_resize() -> None:
    columns = np.tile(np.arange(11, dtype=np.uint8)[None, :, None], (6, 1, 3))
    made = pixels(columns, ImagePreprocess(3, 3, resize="cropped", resize_to=(3, 3), antialias=False))
    np.testing.assert_array_equal(made[0, :, 0], np.rint([2.5, 4.5, 6.5]))  # of columns 2 to 7, two by two


def test_crop_rounding_differs_where_the_margin_is_odd() -> None:
    columns = np.tile(np.arange(11, dtype=np.uint8)[None, :, None], (8, 1, 3))
    wide = {"resize_to": (8, 11), "resize": "exact"}
    assert pixels(columns, ImagePreprocess(8, 8, **wide))[0, 0, 0] == 2  # type: ignore[arg-type]
    assert pixels(columns, ImagePreprocess(8, 8, crop_rounding="floor", **wide))[0, 0, 0] == 1  # type: ignore[arg-type]


def test_photo_smaller_than_the_crop_is_padded_with_black() -> None:
    preprocess = ImagePreprocess(9, 9, resize_to=(6, 6))
    found = pixels(np.full((6, 6, 3), 200, np.uint8), preprocess)
    assert found.shape == (9, 9, 3)
    assert (found[1:7, 1:7] == 200).all() and found.sum() == 200 * 6 * 6 * 3


def test_bilinear_without_antialias_samples_four_neighbours() -> None:
    stripes = np.zeros((32, 32, 3), np.uint8)
    stripes[:, ::4] = 255
    to = ImagePreprocess(8, 8, resize="exact", resize_to=(8, 8))
    assert len(np.unique(pixels(stripes, to)[4, 1:-1])) == 1, (
        "with antialias every output mixes a whole period"
    )
    plain = ImagePreprocess(8, 8, resize="exact", resize_to=(8, 8), antialias=False)
    # Output i lies at 4 i + 1.5: halfway between columns 1 and 2 of each period, which are black.
    assert pixels(stripes, plain).max() == 0
    shifted = np.roll(stripes, 1, axis=1)
    assert (pixels(shifted, plain) == 128).all(), "half of a white and half of a black column"


def test_other_filters_without_antialias_are_refused() -> None:
    odd = ImagePreprocess(8, 8, resize_to=(8, 8), interpolation="lanczos", antialias=False)
    with pytest.raises(InputError, match=r"lanczos.*without antialias"):
        pixels(np.zeros((30, 30, 3), np.uint8), odd)


def test_a_batch_names_every_file_it_cannot_decode(tmp_path: Path) -> None:
    good = saved(gradient(), tmp_path / "good.png")
    bad = [bad_file(tmp_path, kind) for kind in ("zero", "page")]
    with pytest.raises(BadFilesError) as caught:
        prepare([bad[0], good, bad[1]], SMALL)
    assert [name for name, _ in caught.value.files] == [str(p) for p in bad]


def test_empty_batch() -> None:
    assert prepare([], SMALL)["images"].shape == (0, 3, 8, 8)
