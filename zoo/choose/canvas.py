"""What a plot is drawn on: SVG as text, or PNG by Pillow, which the core has anyway. Pixels from the top left."""

from __future__ import annotations

import io
import itertools
from collections.abc import Sequence
from html import escape
from typing import Literal, Protocol, TypeAlias

from PIL import Image, ImageDraw, ImageFont

Anchor: TypeAlias = Literal["start", "middle", "end"]
Points: TypeAlias = Sequence[tuple[float, float]]
INK = "#333"
SCALE, SMOOTH = 2, 2
"""A PNG has SCALE pixels for each of the plot's; it is drawn SMOOTH times as large as that and reduced."""
DASH = (5.0, 4.0)


class Canvas(Protocol):
    """The few shapes that plots are made of. y of a text is its baseline."""

    def line(self, points: Points, colour: str, *, dashed: bool = False) -> None:
        """Through points."""

    def circle(
        self, x: float, y: float, radius: float, colour: str, *, hint: str = "", open_: bool = False
    ) -> None:
        """Filled, or a ring. hint: what is shown when somebody points at it, where that can be."""

    def text(
        self, x: float, y: float, text: str, *, anchor: Anchor = "start", size: int = 12, turned: bool = False
    ) -> None:
        """One line; turned: upwards."""


class Svg:
    """Text of its own: no script, no font, no address."""

    def __init__(self, width: int, height: int) -> None:
        self._size = f'width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
        self._parts = [f'<rect width="{width}" height="{height}" fill="white"/>']

    def line(self, points: Points, colour: str, *, dashed: bool = False) -> None:
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
        dash = f' stroke-dasharray="{DASH[0]:g} {DASH[1]:g}"' if dashed else ""
        self._parts.append(f'<path d="M{path}" fill="none" stroke="{colour}"{dash}/>')

    def circle(
        self, x: float, y: float, radius: float, colour: str, *, hint: str = "", open_: bool = False
    ) -> None:
        fill = f'fill="none" stroke="{colour}"' if open_ else f'fill="{colour}"'
        end = f"><title>{escape(hint)}</title></circle>" if hint else "/>"
        self._parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}" {fill}{end}')

    def text(
        self, x: float, y: float, text: str, *, anchor: Anchor = "start", size: int = 12, turned: bool = False
    ) -> None:
        turn = f' transform="rotate(-90 {x:.1f} {y:.1f})"' if turned else ""
        where = "" if anchor == "start" else f' text-anchor="{anchor}"'
        large = "" if size == 12 else f' font-size="{size}"'
        self._parts.append(f'<text x="{x:.1f}" y="{y:.1f}"{where}{large}{turn}>{escape(text)}</text>')

    def result(self) -> str:
        """The file's text."""
        style = f'font-family="sans-serif" font-size="12" fill="{INK}"'
        return f'<svg xmlns="http://www.w3.org/2000/svg" {self._size} {style}>{"".join(self._parts)}</svg>\n'


class Png:
    """Drawn large and reduced, for Pillow's lines and circles have hard edges."""

    def __init__(self, width: int, height: int) -> None:
        self._k = SCALE * SMOOTH
        self._image = Image.new("RGB", (width * self._k, height * self._k), "white")
        self._draw = ImageDraw.Draw(self._image)

    def line(self, points: Points, colour: str, *, dashed: bool = False) -> None:
        for one in _dashes(points) if dashed else [points]:
            self._draw.line([(x * self._k, y * self._k) for x, y in one], fill=colour, width=self._k)

    def circle(
        self, x: float, y: float, radius: float, colour: str, *, hint: str = "", open_: bool = False
    ) -> None:
        box = [(v + side * radius) * self._k for side in (-1, 1) for v in (x, y)]
        self._draw.ellipse(box, fill=None if open_ else colour, outline=colour, width=self._k)

    def text(
        self, x: float, y: float, text: str, *, anchor: Anchor = "start", size: int = 12, turned: bool = False
    ) -> None:
        font = ImageFont.load_default(size * self._k)
        place = {"start": "ls", "middle": "ms", "end": "rs"}[anchor]
        if not turned:
            self._draw.text((x * self._k, y * self._k), text, fill=INK, font=font, anchor=place)
            return
        left, top, right, bottom = (
            round(v) for v in self._draw.textbbox((0, 0), text, font=font, anchor=place)
        )
        label = Image.new("L", (right - left, bottom - top))
        ImageDraw.Draw(label).text((-left, -top), text, fill=255, font=font, anchor=place)
        at = (round(x * self._k) + top, round(y * self._k) - right)
        self._image.paste(INK, at, label.rotate(90, expand=True))

    def result(self) -> bytes:
        """The file's content."""
        size = (self._image.width // SMOOTH, self._image.height // SMOOTH)
        file = io.BytesIO()
        self._image.resize(size, Image.Resampling.LANCZOS).save(file, "PNG", optimize=True)
        return file.getvalue()


def _dashes(points: Points) -> list[Points]:
    """The pieces of a dashed line, the pattern going on round corners."""
    found: list[Points] = []
    left, drawn = DASH[0], True
    for (x, y), (to_x, to_y) in itertools.pairwise(points):
        length = ((to_x - x) ** 2 + (to_y - y) ** 2) ** 0.5
        done = 0.0
        while done < length:
            step = min(left, length - done)
            ends = [(x + (to_x - x) * d / length, y + (to_y - y) * d / length) for d in (done, done + step)]
            found += [ends] if drawn else []
            done, left = done + step, left - step
            if left <= 0:
                drawn = not drawn
                left = DASH[0] if drawn else DASH[1]
    return found
