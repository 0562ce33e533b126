"""The classic faults between a network and its input, each as the correction that would mend it.

A hypothesis says: as given is wrong, THIS is right. It is a whole ImagePreprocess, or a shift of the labels.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from zoo.cards import ImagePreprocess, Preprocess
from zoo.data.presets import PRESETS

Kind: TypeAlias = Literal["values", "channels", "size", "labels"]

NO_MEAN, NO_STD = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
LEVELS = 255.0
COMMON_SIZES = (96, 128, 160, 192, 224, 256, 299, 384)
"""Input sizes that networks are commonly trained at, in pixels a side."""
SCALES = (1 / 255, 1 / 127.5)
"""Factors by which levels of 0 to 255 are commonly brought to 1 or 2."""
# A network is often a little better above the size that it was trained at (Touvron et al. 2019, "Fixing the
# train-test resolution discrepancy"): that alone is no fault, so another size must gain more than the rest.
LEAST_GAIN: dict[Kind, float] = {"values": 0.02, "channels": 0.02, "size": 0.05, "labels": 0.02}
"""Gain in accuracy that is worth the name of a fault."""
LEAST_RELIEF: dict[Kind, float] = {"values": 0.15, "channels": 0.15, "size": 0.3, "labels": 0.15}
"""The same of the log loss, in nats."""


@dataclass(frozen=True)
class Hypothesis:
    """fault: what would be wrong.  right: what would be right instead, in words.

    preprocess: the corrected one.  shift: the output for class c is really number c + shift.
    """

    kind: Kind
    fault: str
    right: str
    preprocess: Preprocess
    shift: int = 0


def hypotheses(given: Preprocess, *, sizes: Sequence[int], shift: int = 0) -> list[Hypothesis]:
    """All corrections of `given`, the commonest first, no two alike. shift: the labels' as found so far.

    sizes: further input sizes to try (the catalogue's); empty together with a size of None: none are tried.
    """
    found = [
        Hypothesis("labels", "labels shifted by one", _shift_words(step), given, shift + step)
        for step in (1, -1)
    ]
    if not isinstance(given, ImagePreprocess):
        return found
    images = [*_channels(given), *_values(given), *_sizes(given, sizes)]
    distinct: dict[ImagePreprocess, Hypothesis] = {}
    for hypothesis in images:
        if hypothesis.preprocess != given:
            distinct.setdefault(hypothesis.preprocess, hypothesis)  # type: ignore[arg-type]
    return [dataclasses.replace(h, shift=shift) for h in distinct.values()] + found


def _shift_words(step: int) -> str:
    place = "next" if step > 0 else "previous"
    return f"the {place} output belongs to each label"


# --- colour
def _channels(given: ImagePreprocess) -> Iterator[Hypothesis]:
    """The other order, with mean and std left in their places, and with them turned along."""
    other: Literal["RGB", "BGR"] = "BGR" if given.channels == "RGB" else "RGB"
    fault = f"{given.channels} for {other}"
    turned = dataclasses.replace(given, channels=other)
    yield Hypothesis("channels", fault, f"channels in the order {other}", turned)
    along = dataclasses.replace(turned, mean=given.mean[::-1], std=given.std[::-1])
    yield Hypothesis("channels", fault, f"channels in the order {other}, mean and std too", along)


# --- values
def _values(given: ImagePreprocess) -> Iterator[Hypothesis]:
    candidates = [
        (dataclasses.replace(given, scale=given.scale / LEVELS), f"pixels divided by {LEVELS:.0f}"),
        (dataclasses.replace(given, scale=given.scale * LEVELS), f"pixels not divided by {LEVELS:.0f}"),
        *((once, "the same normalisation once") for once in once_of(given)),
        (raw_pixels(given), "pixels from 0 to 255 as they are: the network normalises them itself"),
        (unit_pixels(given), "pixels from 0 to 1 without mean and std: the network normalises them itself"),
    ]
    for preprocess, right in candidates:
        yield Hypothesis("values", _value_fault(given, preprocess), right, preprocess)
    for name, preset in PRESETS.items():
        preprocess = dataclasses.replace(
            given,
            scale=preset.scale,
            mean=preset.mean,
            std=preset.std,
            channels=preset.channels if name == "caffe" else given.channels,
        )
        fault = _value_fault(given, preprocess)
        yield Hypothesis("values", fault, f"the normalisation of {name}", preprocess)


def raw_pixels(given: ImagePreprocess) -> ImagePreprocess:
    """Levels from 0 to 255 as they are."""
    return dataclasses.replace(given, scale=1.0, mean=NO_MEAN, std=NO_STD)


def unit_pixels(given: ImagePreprocess) -> ImagePreprocess:
    """Levels from 0 to 1, no mean and no std."""
    return dataclasses.replace(given, scale=1 / LEVELS, mean=NO_MEAN, std=NO_STD)


def normalises(preprocess: ImagePreprocess) -> bool:
    """Whether it subtracts a mean or divides by a std."""
    return preprocess.mean != NO_MEAN or preprocess.std != NO_STD


def once_of(given: ImagePreprocess) -> Iterator[ImagePreprocess]:
    """What was applied twice, if `given` is that: (y - m) / s on top of y = (x * scale - m) / s, or with `scale`
    applied twice as well.
    """
    if normalises(given):
        std = _three(math.sqrt(value) for value in given.std)
        mean = _three(m / (1 + s) for m, s in zip(given.mean, std, strict=True))
        yield dataclasses.replace(given, mean=mean, std=std)
    for scale in SCALES:  # y * scale - m on top of y = x * scale - m
        if math.isclose(given.scale, scale * scale, rel_tol=1e-3) and given.std == NO_STD:
            mean = _three(m / (1 + scale) for m in given.mean)
            yield dataclasses.replace(given, scale=scale, mean=mean)


def _three(values: Iterable[float]) -> tuple[float, float, float]:
    red, green, blue = values
    return red, green, blue


def _value_fault(given: ImagePreprocess, right: ImagePreprocess) -> str:
    """What to call the step from one to the other: by the factor between them, or by what the right one lacks."""
    ratio = (given.scale / given.std[0]) / (right.scale / right.std[0])
    once = any(right == one for one in once_of(given))
    if once or (normalises(given) and not normalises(right)):
        return "normalised twice"
    if ratio > LEVELS / 6:
        return "0-255 for 0-1"
    if ratio < 6 / LEVELS:
        return "0-1 for 0-255"
    return "another normalisation"


# --- size
def _sizes(given: ImagePreprocess, sizes: Sequence[int]) -> Iterator[Hypothesis]:
    if given.height != given.width:
        return
    for size in sizes:
        if size != given.height:
            yield Hypothesis("size", "wrong size", f"{size} x {size} pixels", given.at_size(size))
