"""Pictures inside a page, as data URIs: thumbnails of photographs, and a confusion matrix of many classes."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from zoo.data import Input
from zoo.data.images import load_rgb

SIDE, QUALITY = 160, 78
FAINT = 24
"""Opacity, of 255, of a cell that holds a single example: below it one cannot see that it is not empty."""


def thumbnail(item: Input) -> str:
    """A JPEG of at most SIDE pixels a side, as a data URI, without the file's metadata.

    Raises BadFilesError, DataError as `load_rgb`.
    """
    image = load_rgb(item, least=SIDE)
    image.thumbnail((SIDE, SIDE))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=QUALITY, optimize=True)
    return uri("image/jpeg", file.getvalue())


def matrix(shares: Sequence[Sequence[float]], colour: tuple[int, int, int]) -> str:
    """A PNG of one pixel a cell, as a data URI: `colour` at the opacity of the cell's share, 0 to 1.

    Opacity, not shade, so that it stands on a light page and on a dark one.
    """
    values = np.asarray(shares, dtype=np.float64)
    opacity = np.where(values > 0, FAINT + (255 - FAINT) * values, 0).round().astype(np.uint8)
    pixels = np.empty((*values.shape, 4), dtype=np.uint8)
    pixels[..., :3] = colour
    pixels[..., 3] = opacity
    file = io.BytesIO()
    Image.fromarray(pixels, "RGBA").save(file, "PNG", optimize=True)
    return uri("image/png", file.getvalue())


def uri(kind: str, content: bytes) -> str:
    """A data URI."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
