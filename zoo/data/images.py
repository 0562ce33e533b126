"""From photographs to float32 NCHW: the ONE implementation of ImagePreprocess, for training, export and predict.

Pixels equal torchvision's Resize + CenterCrop on PIL images bit for bit, and transformers' Pillow image
processors with crop_rounding="floor". transformers' MobileNetV1 folder is
    ImagePreprocess(224, 224, resize="shortest", resize_to=(256, 256), interpolation="bilinear", antialias=True,
                    scale=1 / 255, mean=(0.5,) * 3, std=(0.5,) * 3, crop_rounding="floor")
its torchvision-backed processor resizes tensors, not PIL images, and so differs by at most 2 of 255 levels.

Colour is what `convert("RGB")` makes of it, as in the frameworks' own loaders: alpha is dropped, not blended;
CMYK is converted without a colour profile. Two things differ from it on purpose: EXIF rotation is applied, and
16-bit grey is scaled to 8 bits, where `convert` clips everything above 255 to white.
"""

from __future__ import annotations

import functools
import math
import re
import struct
import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import IO, TypeAlias

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from zoo.cards import ImagePreprocess
from zoo.data.dataset import EncodedImage, Input
from zoo.engine import Array, Batch
from zoo.errors import BadFilesError, DataError, InputError

Cut: TypeAlias = Callable[[Image.Image, int], Image.Image]
"""From an upright RGB photograph, and its place among those that are prepared, to what the network sees of it."""
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF")
"""Still formats only: naming them also keeps Pillow's other readers (some run programs) away from the files."""
MAX_PIXELS = 89_478_485
"""Largest image that is decoded: a quarter of a GiB as RGB, Pillow's own threshold of a decompression bomb."""
MAX_ELONGATION = 200
"""Longest side over shortest: beyond it, scaling the shorter side up to the network's size is a bomb too."""
ORIENTATION = 0x0112
TAIL_BYTES = 64
# What Pillow's readers raise on broken bytes; struct and zlib escape from inside some of them.
DECODE_ERRORS = (
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    IndexError,
    OverflowError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)
_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
    "box": Image.Resampling.BOX,
}


# --- is it an image that can be used?
def file_problem(path: Path) -> str | None:
    """Why this file is no usable photograph, or None. Reads header and last bytes (0.05 ms), not the pixels.

    A file that does not end as its format does is decoded, to tell a truncated one from one with bytes appended.
    """
    try:
        with path.open("rb") as file:
            return _stream_problem(file)
    except OSError as error:  # FileNotFoundError, PermissionError, a folder
        return f"cannot be opened: {error.strerror}"


def encoded_problem(item: EncodedImage) -> str | None:
    """The same of a photograph's bytes."""
    try:
        with item.open() as file:
            return _stream_problem(file)
    except OSError as error:  # the row holds a path, and nothing is there
        return f"cannot be opened: {error.strerror}"


def _stream_problem(file: IO[bytes]) -> str | None:
    head = file.read(32)
    if not head:
        return "is empty (0 bytes)"
    file.seek(0)
    try:
        with Image.open(file, formats=FORMATS) as image:
            problem = _header_problem(image)
            if problem is None and not _ends_well(file, head, image.format):
                file.seek(0)
                image.load()
            return problem
    except DECODE_ERRORS as error:
        return _reason(error, head)


def _header_problem(image: Image.Image) -> str | None:
    """Refuse by size and number of pictures, before any pixel is decoded."""
    # A JPEG with a preview or depth map behind it (MPO) is one photograph all the same.
    if image.format != "MPO" and getattr(image, "n_frames", 1) > 1:
        return f"holds {getattr(image, 'n_frames', 1)} pictures (pages or frames): save the one you mean"
    return _size_problem(*image.size) or _mode_problem(image)


def _mode_problem(image: Image.Image) -> str | None:
    """Pixels without an agreed range, or that Pillow cannot turn into RGB."""
    if image.mode == "F" or (image.mode == "I" and image.format != "PNG"):
        return "has 32-bit pixels, whose range is not known: convert it to 8 or 16 bits"
    return "has Lab colours: convert it to RGB" if image.mode == "LAB" else None


def _size_problem(width: int, height: int) -> str | None:
    if width * height > MAX_PIXELS:
        return (
            f"has {width:,} x {height:,} pixels, more than the {MAX_PIXELS // 10**6} million that are decoded: "
            "shrink it"
        )
    if min(width, height) < 1 or max(width, height) > MAX_ELONGATION * min(width, height):
        return f"has {width:,} x {height:,} pixels: too narrow for a photograph"
    return None


def _ends_well(file: IO[bytes], head: bytes, form: str | None) -> bool:
    """Whether the last bytes are those that a complete file of this format has; False: not known."""
    size = file.seek(0, 2)
    file.seek(max(0, size - TAIL_BYTES))
    tail = file.read(TAIL_BYTES)
    if form in ("JPEG", "MPO"):
        return tail.rstrip(b"\0\r\n ").endswith(b"\xff\xd9")
    if form == "PNG":
        return tail.endswith(b"IEND\xaeB`\x82")
    if form == "WEBP":
        return int.from_bytes(head[4:8], "little") + 8 <= size
    return False


def _reason(error: BaseException, head: bytes) -> str:
    """What to tell the user about a file, of these first bytes, that Pillow could not decode."""
    if isinstance(error, Image.DecompressionBombError):
        pixels = re.search(r"\d+", str(error))
        count = f"{int(pixels.group()):,}" if pixels else "too many"
        return f"has {count} pixels, more than the {MAX_PIXELS // 10**6} million that are decoded: shrink it"
    if isinstance(error, UnidentifiedImageError):
        return _foreign(head)
    if "truncated" in str(error).lower():
        return "is truncated: its end is missing"
    return f"cannot be decoded: {str(error) or type(error).__name__}"


def _foreign(head: bytes) -> str:
    """A file that none of the accepted readers knows: say what it is where its first bytes tell."""
    if head.startswith(b"GIF8"):
        return (
            "is a GIF, which is often an animation or a placeholder ('image not found'): "
            "if it is a photograph, convert it to PNG"
        )
    if head[4:8] == b"ftyp":
        return f"is a {head[8:12].decode('latin-1').upper()} file (HEIC, AVIF or video): convert it to JPEG"
    if not head:
        return "is empty (0 bytes)"
    return "is no JPEG, PNG, WebP, BMP or TIFF image"


# --- pixels
def load_rgb(item: Input, *, least: int | None = None) -> Image.Image:
    """An RGB image, upright, of any kind of image in `Input`. Raises BadFilesError, DataError.

    least: a JPEG may be decoded at 1/2, 1/4 or 1/8 of its size, which is faster, while its shorter side keeps
    so many pixels; the pixels differ slightly from those of decoding and resizing. None: never.
    """
    if isinstance(item, np.ndarray):
        return _to_rgb(_from_array(item))
    if isinstance(item, Image.Image):
        if problem := _size_problem(*item.size) or _mode_problem(item):
            raise DataError(f"an image {problem}")
        return _to_rgb(item)
    name = str(item)
    try:
        with item.open() if isinstance(item, EncodedImage) else Path(item).open("rb") as file:
            return _decode(file, name, least)
    except OSError as error:
        raise _bad_file(name, f"cannot be opened: {error.strerror}") from error


def _decode(file: IO[bytes], name: str, least: int | None) -> Image.Image:
    try:
        with Image.open(file, formats=FORMATS) as image:
            if problem := _header_problem(image):
                raise _bad_file(name, problem)
            if least is not None and image.format in ("JPEG", "MPO"):
                image.draft(None, (least, least))
            return _to_rgb(image)
    except BadFilesError:
        raise
    except DECODE_ERRORS as error:
        file.seek(0)
        raise _bad_file(name, _reason(error, file.read(32))) from error


def _bad_file(name: str, reason: str) -> BadFilesError:
    return BadFilesError(f"{name} {reason}", [(name, reason)])


def _from_array(pixels: Array) -> Image.Image:
    if pixels.dtype != np.uint8:
        raise DataError(
            f"an image array of {pixels.dtype}: pixels must be uint8, 0 to 255. "
            "Give (array * 255).round().astype('uint8') where they run from 0 to 1."
        )
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    if not (pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] in (3, 4))):
        raise DataError(
            f"an image array of shape {pixels.shape}: it must be [height, width], [height, width, 3] or "
            "[height, width, 4]. Transpose one whose channels come first."
        )
    if problem := _size_problem(pixels.shape[1], pixels.shape[0]):
        raise DataError(f"an image {problem}")
    return Image.fromarray(np.ascontiguousarray(pixels))


def _to_rgb(image: Image.Image) -> Image.Image:
    """Upright RGB; never the caller's own image changed."""
    if image.getexif().get(ORIENTATION, 1) != 1:
        image = ImageOps.exif_transpose(image)
    if image.mode == "RGB":
        image.load()
        return image
    if image.mode.startswith("I"):  # 32-bit pixels were refused, but for PNG's, which hold 16 bits
        # The high byte, which is what Pillow itself takes of 16-bit colour.
        image = Image.fromarray((np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8))
    elif image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # the same pixels as straight to RGB, without Pillow's warning
    return image.convert("RGB")


# --- resize, crop, normalise
def resized_size(width: int, height: int, preprocess: ImagePreprocess) -> tuple[int, int]:
    """(width, height) after the resize; the longer side is truncated, as torchvision and transformers do."""
    if preprocess.resize != "shortest":
        return preprocess.resize_to[1], preprocess.resize_to[0]
    short = preprocess.resize_to[0]
    if width <= height:
        return short, int(short * height / width)
    return int(short * width / height), short


def _resize(image: Image.Image, preprocess: ImagePreprocess) -> Image.Image:
    if preprocess.resize == "cropped":
        image = _largest_part(image, *preprocess.resize_to)
    return scaled(image, resized_size(*image.size, preprocess), preprocess)


def scaled(image: Image.Image, size: tuple[int, int], preprocess: ImagePreprocess) -> Image.Image:
    """To (width, height), by the interpolation of `preprocess`."""
    if size == image.size:
        return image
    name = preprocess.interpolation
    if preprocess.antialias or name == "nearest":
        return image.resize(size, _FILTERS[name])
    if name != "bilinear":
        raise InputError(
            f"interpolation {name!r} without antialias is not offered (each framework's differs): use bilinear"
        )
    return _four_neighbours(image, size)


def _largest_part(image: Image.Image, height: int, width: int) -> Image.Image:
    """The largest centred part of an aspect ratio; whole pixels, rounded down as Keras does."""
    wide = max(1, min(image.width, image.height * width // height))
    high = max(1, min(image.height, image.width * height // width))
    left, top = (image.width - wide) // 2, (image.height - high) // 2
    return image.crop((left, top, left + wide, top + high))


def _four_neighbours(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Bilinear without antialias. Pillow's resize always widens the filter when shrinking, and its affine
    transform cuts off fractions where the frameworks round: half a level darker on average.
    """
    x, x_next, x_part = _neighbours(image.width, size[0])
    y, y_next, y_part = _neighbours(image.height, size[1])
    pixels = np.asarray(image)
    left, right = (pixels[:, at].astype(np.float32) for at in (x, x_next))
    wide = left + (right - left) * x_part[None, :, None]
    mixed = wide[y] + (wide[y_next] - wide[y]) * y_part[:, None, None]
    return Image.fromarray(np.rint(mixed).astype(np.uint8))


def _neighbours(length: int, to: int) -> tuple[Array, Array, Array]:
    """For each of `to` output pixels: the pixel before its centre, the one after, and the latter's share."""
    centre = np.clip((np.arange(to) + 0.5) * length / to - 0.5, 0, length - 1)
    before = np.floor(centre).astype(np.int64)
    return before, np.minimum(before + 1, length - 1), (centre - before).astype(np.float32)


def _offset(length: int, crop: int, preprocess: ImagePreprocess) -> int:
    """Where the centre crop begins; negative where the image is smaller and gets padded with black.

    An odd pixel of padding comes before the image with "floor" (transformers), after it with "round" (torchvision).
    """
    half = (length - crop) / 2
    if preprocess.crop_rounding == "floor":
        return math.floor(half)
    return round(half) if half > 0 else int(half)


def centred(image: Image.Image, preprocess: ImagePreprocess) -> Image.Image:
    """Resized and cropped as `preprocess` says."""
    image = _resize(image, preprocess)
    left = _offset(image.width, preprocess.width, preprocess)
    top = _offset(image.height, preprocess.height, preprocess)
    box = (left, top, left + preprocess.width, top + preprocess.height)
    return image if box == (0, 0, *image.size) else image.crop(box)


def pixels(item: Input, preprocess: ImagePreprocess) -> Array:
    """uint8 [height, width, 3], RGB: resized and cropped, not yet normalised."""
    return np.asarray(centred(load_rgb(item), preprocess))


@functools.lru_cache(maxsize=64)
def _affine(preprocess: ImagePreprocess) -> tuple[Array, Array]:
    """factor and shift float32 [width * 3], a row of pixels: (pixel * scale - mean) / std == pixel * factor + shift."""
    mean, std = (
        np.tile(np.array(v, np.float64), preprocess.width) for v in (preprocess.mean, preprocess.std)
    )
    return (preprocess.scale / std).astype(np.float32), (-mean / std).astype(np.float32)


def prepare_images(inputs: Sequence[Input], preprocess: ImagePreprocess) -> Batch:
    """{"images": float32 [N, 3, height, width]}, a view of [N, height, width, 3] in memory.

    That is how photographs are decoded, TensorFlow computes, and torch's channels_last is laid out: none of them
    then copies, and the copy to contiguous NCHW (ONNX Runtime) is far cheaper than the one back would be.
    Mean and std are per channel in the order of `preprocess.channels`. Raises BadFilesError naming every
    file of the batch that cannot be decoded, DataError for arrays that are no images.
    """
    images = room(len(inputs), preprocess)
    refuse(fill(images, inputs, preprocess))
    return {"images": images}


def room(count: int, preprocess: ImagePreprocess) -> Array:
    """float32 [count, 3, height, width], to be filled: a view of [count, height, width, 3] in memory."""
    return np.empty((count, preprocess.height, preprocess.width, 3), dtype=np.float32).transpose(0, 3, 1, 2)


def fill(
    images: Array,
    inputs: Iterable[Input],
    preprocess: ImagePreprocess,
    cut: Cut | None = None,
    *,
    least: int | None = None,
) -> list[tuple[str, str]]:
    """Write each input into its row of `images` (of `room`); (file, reason) of those that cannot be decoded.

    cut: from the i-th upright photograph to RGB of the network's height and width; None: `centred`.
    least: of `load_rgb`.
    """
    factor, shift = _affine(preprocess)
    bad: list[tuple[str, str]] = []
    for i, item in enumerate(inputs):
        try:
            photo = load_rgb(item, least=least)
        except BadFilesError as error:
            bad += error.files
            continue
        made = np.asarray(centred(photo, preprocess) if cut is None else cut(photo, i))
        made = made if preprocess.channels == "RGB" else made[..., ::-1]
        # Converted first, then in place: multiplying bytes by floats takes numpy a third longer.
        row = images[i].transpose(1, 2, 0).reshape(preprocess.height, -1, copy=False)
        row[...] = made.reshape(row.shape)
        row *= factor
        row += shift
    return bad


def refuse(bad: Sequence[tuple[str, str]]) -> None:
    """Raise BadFilesError that lists them, if there are any."""
    if bad:
        lines = "\n".join(f"  {name}: {reason}" for name, reason in bad)
        raise BadFilesError(f"{len(bad)} of the images cannot be used:\n{lines}\nMend or remove them.", bad)
